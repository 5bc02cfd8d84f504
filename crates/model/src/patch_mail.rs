//! The mail of a patch, as the message of a commit names it.

/// The places of archives of mailing lists, in which an address ends with the id of the mail.
const ARCHIVES: [&str; 4] = [
    "https://lore.kernel.org/",
    "https://patch.msgid.link/",
    "https://msgid.link/",
    "https://lkml.kernel.org/",
];

/// The id of the mail with the patch, from the trailers of the message of a commit: `Message-ID:`, or a `Link:` to an archive of
/// a mailing list. The newest trailer counts.
#[must_use]
pub fn patch_message_id(message: &str) -> Option<String> {
    message.lines().rev().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        let id = match name.trim().to_ascii_lowercase().as_str() {
            "message-id" => value.trim_start_matches('<').trim_end_matches('>'),
            "link" => {
                let address = value.split_whitespace().next()?;
                ARCHIVES.iter().find(|archive| address.starts_with(**archive))?;
                address.trim_end_matches('/').rsplit('/').next()?
            }
            _ => return None,
        };
        is_message_id(id).then(|| id.to_owned())
    })
}

/// Whether a text is the id of a mail, without angle brackets, that can be a header as it is.
#[must_use]
pub fn is_message_id(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic() && !b"<>@()\\\"".contains(&b))
    };
    text.len() <= 250 && text.split_once('@').is_some_and(|(left, right)| is_part(left) && is_part(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mail_of_a_patch_is_in_its_trailers() {
        for (line, id) in [
            ("Link: https://lore.kernel.org/r/2026.1-kim@x.example", Some("2026.1-kim@x.example")),
            ("Link: https://lore.kernel.org/all/a@b/", Some("a@b")),
            ("Link: https://patch.msgid.link/a@b", Some("a@b")),
            ("Message-ID: <a@b>", Some("a@b")),
            ("Message-Id: a@b", Some("a@b")),
            ("Link: https://bugzilla.kernel.org/show_bug.cgi?id=1", None),
            ("Link: https://evil.example/a@b", None),
            ("Message-ID: <a@b\u{7f}>", None),
            ("Message-ID: <a@b> Bcc: c@d", None),
        ] {
            let message = format!("subject\n\nbody\n\n{line}\nSigned-off-by: Kim <kim@x.example>\n");
            assert_eq!(patch_message_id(&message).as_deref(), id, "{line}");
        }
    }
}
