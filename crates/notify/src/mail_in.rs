//! Answers to mails: commands in lines that begin with `#ktest`.

use mail_parser::{HeaderValue, MessageParser};
use results::findings::MarkKind;

use crate::text::line;

/// The maximum size of a message, in bytes.
pub const SIZE_MAX: usize = 1 << 20;
/// The maximum number of commands in a message.
const COMMANDS_MAX: usize = 10;
/// The maximum length of the title of a commit, in characters.
const TITLE_MAX: usize = 300;
/// The maximum time for which nothing is sent, in days.
const DAYS_MAX: i64 = 365;
/// The sign of a command.
const SIGN: &str = "#ktest";

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The address of its author, in lower case.
    pub from: String,
    /// The id of the finding that it answers.
    pub finding: Option<String>,
    /// Its commands.
    pub commands: Vec<MarkKind>,
    /// The lines that are no command, with what is wrong.
    pub errors: Vec<String>,
}

/// Why a message has no commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is too large.
    #[error("the message is larger than 1 MiB")]
    Size,
    /// It is no message.
    #[error("this is no mail: it has no header From: with one address")]
    Form,
    /// It was sent by a program.
    #[error("the message was sent by a program (Auto-Submitted, Precedence)")]
    Automatic,
}

/// Reads an answer. `now` in Unix seconds.
pub fn read(message: &[u8], now: i64) -> Result<Received, ReadError> {
    if message.len() > SIZE_MAX {
        return Err(ReadError::Size);
    }
    let parsed = MessageParser::default().parse(message).ok_or(ReadError::Form)?;
    let header = |name: &str| match parsed.header(name) {
        Some(HeaderValue::Text(text)) => Some(text.trim().to_ascii_lowercase()),
        _ => None,
    };
    let is_automatic = header("Auto-Submitted").is_some_and(|text| text != "no")
        || header("Precedence").is_some_and(|text| ["bulk", "junk", "auto_reply"].contains(&text.as_str()));
    if is_automatic {
        return Err(ReadError::Automatic);
    }
    let authors: Vec<&str> =
        parsed.from().into_iter().flat_map(|from| from.iter()).filter_map(|from| from.address()).collect();
    let &[from] = authors.as_slice() else { return Err(ReadError::Form) };
    let from = line(from, 300).to_ascii_lowercase();
    let references = [parsed.in_reply_to(), parsed.references()].into_iter().flat_map(ids);
    let finding = references.filter_map(|id| finding_of(&id)).next();
    let (mut commands, mut errors) = (Vec::new(), Vec::new());
    // Only text: the text of HTML parts is derived by a converter.
    let texts = parsed.text_body.iter().filter_map(|part| parsed.part(*part));
    let texts =
        texts.filter(|part| part.is_text() && !part.is_text_html()).filter_map(|part| part.text_contents());
    for text in texts {
        for text in text.lines() {
            match command(text, now) {
                None => {}
                Some(_) if commands.len() + errors.len() >= COMMANDS_MAX => {}
                Some(Ok(command)) => commands.push(command),
                Some(Err(error)) => errors.push(error),
            }
        }
    }
    Ok(Received { from, finding, commands, errors })
}

fn ids(value: &HeaderValue<'_>) -> Vec<String> {
    match value {
        HeaderValue::Text(id) => vec![id.to_string()],
        // The newest reference is the last one.
        HeaderValue::TextList(ids) => ids.iter().rev().map(ToString::to_string).collect(),
        _ => Vec::new(),
    }
}

/// The id of the finding that a mail is about, from the id of the mail.
fn finding_of(id: &str) -> Option<String> {
    let (id, _) = id.trim_matches(['<', '>']).strip_prefix("ktest-")?.split_once('@')?;
    is_id(id).then(|| id.to_owned())
}

fn is_id(text: &str) -> bool {
    (4..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
}

/// The command of a line; `None` if it is none. Quoted lines begin with `>`.
fn command(text: &str, now: i64) -> Option<Result<MarkKind, String>> {
    let rest = text.strip_prefix(SIGN)?;
    if !rest.starts_with([' ', '\t']) {
        return None;
    }
    let text = line(rest, TITLE_MAX);
    let (word, value) = match text.split_once(':') {
        Some((word, value)) => (word.trim(), value.trim()),
        None => text.split_once(' ').map_or((text.as_str(), ""), |(word, value)| (word, value.trim())),
    };
    let wrong = |what: &str| Some(Err(format!("{SIGN} {text}: {what}")));
    Some(Ok(match (word, value) {
        ("fix", "") => return wrong("write \"fix: \" and the subject of the commit"),
        ("fix", title) => MarkKind::Fix(title.to_owned()),
        ("dup", id) if is_id(id) => MarkKind::Dup(id.to_owned()),
        ("dup", _) => return wrong("write \"dup: \" and the id of a finding"),
        ("invalid", "") => MarkKind::Invalid,
        ("flaky", "") => MarkKind::Flaky,
        ("mute", days) => match days.strip_suffix('d').and_then(|days| days.parse::<i64>().ok()) {
            Some(days) if (1..=DAYS_MAX).contains(&days) => MarkKind::Mute(now.saturating_add(days * 86_400)),
            _ => return wrong("write \"mute 7d\", 1 to 365 days"),
        },
        _ => return wrong("use fix:, dup:, invalid, flaky or mute"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Result<Received, ReadError> {
        let text = format!(
            "From: Mira <Mira@Example.org>\r\nTo: ktest@ci.example.org\r\nSubject: Re: [ktest] x\r\n\
             In-Reply-To: <ktest-3f2a9c0011223344@ci.example.org>\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{body}"
        );
        read(text.as_bytes(), 1000)
    }

    #[test]
    fn commands_are_at_the_start_of_a_line() {
        let body = "Hi,\r\n\r\n#ktest fix: ext4: lock the punch\r\n#ktest mute 7d\r\n#ktest invalid\r\n#ktest flaky\r\n#ktest dup: 00aa\r\n\
                    > #ktest invalid\r\n #ktest invalid\r\nsee #ktest invalid\r\n#ktests invalid\r\n";
        let received = answer(body).unwrap();
        assert_eq!(
            (received.from.as_str(), received.finding.as_deref()),
            ("mira@example.org", Some("3f2a9c0011223344"))
        );
        let fix = MarkKind::Fix("ext4: lock the punch".into());
        let expected = [
            fix,
            MarkKind::Mute(1000 + 7 * 86_400),
            MarkKind::Invalid,
            MarkKind::Flaky,
            MarkKind::Dup("00aa".into()),
        ];
        assert_eq!(received.commands, expected);
        assert_eq!(received.errors, [""; 0]);
    }

    #[test]
    fn a_wrong_command_is_an_error() {
        for (text, error) in [
            ("#ktest fix:", "subject of the commit"),
            ("#ktest dup: ../x", "id of a finding"),
            ("#ktest mute 9999d", "365 days"),
            ("#ktest mute", "365 days"),
            ("#ktest rm -rf", "use fix:"),
            ("#ktest invalid please", "use fix:"),
        ] {
            let received = answer(text).unwrap();
            assert!(
                received.commands.is_empty() && received.errors[0].contains(error),
                "{text}: {received:?}"
            );
        }
    }

    #[test]
    fn only_the_text_of_a_person_counts() {
        let head = "From: a@b.c\r\nIn-Reply-To: <ktest-00aa@x>\r\n";
        let encoded = format!("{head}Content-Transfer-Encoding: base64\r\n\r\nI2t0ZXN0IGludmFsaWQK\r\n");
        assert_eq!(read(encoded.as_bytes(), 0).unwrap().commands, [MarkKind::Invalid]);
        let html = format!("{head}Content-Type: text/html\r\n\r\n<p>\r\n#ktest invalid\r\n</p>\r\n");
        assert_eq!(read(html.as_bytes(), 0).unwrap().commands, []);
        let automatic = format!("{head}Auto-Submitted: auto-replied\r\n\r\n#ktest invalid\r\n");
        assert_eq!(read(automatic.as_bytes(), 0), Err(ReadError::Automatic));
        assert_eq!(read(b"#ktest invalid", 0), Err(ReadError::Form));
        assert_eq!(read(b"From: a@b.c, d@e.f\r\n\r\n#ktest invalid\r\n", 0), Err(ReadError::Form));
        assert_eq!(read(&vec![b'x'; SIZE_MAX + 1], 0), Err(ReadError::Size));
        let references =
            "From: a@b.c\r\nReferences: <x@y> <ktest-00aa@x>\r\n <ktest-00bb@x>\r\n\r\n#ktest flaky\r\n";
        assert_eq!(read(references.as_bytes(), 0).unwrap().finding.as_deref(), Some("00bb"));
    }

    proptest::proptest! {
        #[test]
        fn no_message_panics(bytes: Vec<u8>, text in "(From: a@b\\.c\r\n|#ktest [a-z: ]{0,20}\r\n|\r\n|>|\\PC){0,40}") {
            let _ = read(&bytes, i64::MAX);
            let _ = read(text.as_bytes(), i64::MIN);
        }

        #[test]
        fn a_quoted_line_is_no_command(text in "\\PC{0,60}") {
            let received = answer(&format!("> #ktest {text}\r\n"));
            proptest::prop_assert!(received.is_ok_and(|received| received.commands.is_empty()));
        }
    }
}
