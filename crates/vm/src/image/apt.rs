//! Where the host gets its packages from, read from apt's own files, so that an image comes from the same mirror.
//!
//! Pure: texts in, mirror lines out. No host name is written here.

/// One entry of apt's sources: one or more suites of one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The repository.
    pub uri: String,
    /// Suites, as written: `bookworm`, `bookworm-updates`.
    pub suites: Vec<String>,
    /// Components: `main`, `universe`...
    pub components: Vec<String>,
    /// The file of keys that signs it, where one is named.
    pub signed_by: Option<String>,
}

/// The entries of a file in the one-line style (`*.list`). What cannot be read is left out.
#[must_use]
pub fn parse_list(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    let mut words = rest.split_whitespace().map(String::from);
    Some(Source {
        uri: words.next()?,
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by: signed_by.and_then(key_file),
    })
}

/// The entries of a file of stanzas (`*.sources`). What cannot be read is left out.
#[must_use]
pub fn parse_stanzas(text: &str) -> Vec<Source> {
    let text: String =
        text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    text.split("\n\n").flat_map(parse_stanza).collect()
}

fn parse_stanza(stanza: &str) -> Vec<Source> {
    let field = |name: &str| {
        let mut lines = stanza.lines().skip_while(|line| {
            !line.split_once(':').is_some_and(|(field, _)| field.eq_ignore_ascii_case(name))
        });
        let first = lines.next().and_then(|line| line.split_once(':')).map_or("", |(_, value)| value);
        let more = lines.take_while(|line| line.starts_with([' ', '\t']));
        std::iter::once(first)
            .chain(more)
            .flat_map(str::split_whitespace)
            .map(String::from)
            .collect::<Vec<_>>()
    };
    let enabled = !field("Enabled").first().is_some_and(|word| word.eq_ignore_ascii_case("no"));
    if !enabled || !field("Types").iter().any(|word| word == "deb") {
        return vec![];
    }
    let signed_by = field("Signed-By").first().and_then(|word| key_file(word));
    let source = |uri| Source {
        uri,
        suites: field("Suites"),
        components: field("Components"),
        signed_by: signed_by.clone(),
    };
    field("URIs").into_iter().map(source).collect()
}

/// Keys may also be given in the text itself; those stay the host's.
fn key_file(word: &str) -> Option<String> {
    word.starts_with('/').then(|| word.into())
}

/// The suite that the host itself is, as far as its sources tell: the first one of its distribution's archive.
#[must_use]
pub fn own_suite(sources: &[Source]) -> Option<&str> {
    let suites = sources.iter().filter(|source| is_archive(source)).flat_map(|source| &source.suites);
    suites.map(String::as_str).find(|suite| !suite.contains(['-', '/']))
}

/// Whether it is the distribution's own archive rather than somebody's repository for it.
fn is_archive(source: &Source) -> bool {
    let foreign_key = source.signed_by.as_ref().is_some_and(|file| !file.contains("archive-keyring"));
    source.components.iter().any(|name| name == "main") && !source.uri.starts_with("cdrom:") && !foreign_key
}

/// What mmdebstrap is to install `suite` from: the host's lines for it; or, where the host is of another suite, the
/// same repositories with this suite in its place. Empty: the host's sources do not tell.
#[must_use]
pub fn mirror_lines(sources: &[Source], own: &str, suite: &str) -> Vec<String> {
    let archive: Vec<_> = sources.iter().filter(|source| is_archive(source)).collect();
    let lines_of = |from: &str| {
        let mut lines = Vec::new();
        for source in &archive {
            let components: Vec<_> = source
                .components
                .iter()
                .filter(|name| ["main", "universe"].contains(&name.as_str()))
                .collect();
            for found in &source.suites {
                let Some(tail @ ("" | "-updates" | "-security")) = found.strip_prefix(from) else { continue };
                let key = match &source.signed_by {
                    Some(file) if from == suite => format!("[signed-by={file}] "),
                    _ => String::new(),
                };
                let components = components.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
                lines.push(format!("deb {key}{} {suite}{tail} {components}", source.uri));
            }
        }
        lines
    };
    let lines = lines_of(suite);
    if lines.is_empty() { lines_of(own) } else { lines }
}

/// The settings of `apt-config dump` that say how a mirror is reached and how old its lists may be.
#[must_use]
pub fn access_options(dump: &str) -> Vec<String> {
    let wanted = ["Acquire::http::", "Acquire::https::", "Acquire::Check-", "Acquire::Retries"];
    let lines = dump.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
    lines.filter(|line| !line.ends_with(" \"\";")).map(|line| line.trim_end_matches(';').into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANZAS: &str = "\
# the archive
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm
 bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://node.example
Suites: bookworm
Components: main
Signed-By: /etc/apt/keyrings/node.gpg

Enabled: no
Types: deb
URIs: http://off.example
Suites: bookworm
Components: main
";

    #[test]
    fn own_suite_and_another() {
        let sources = parse_stanzas(STANZAS);
        assert_eq!(own_suite(&sources), Some("bookworm"));
        insta::assert_snapshot!(mirror_lines(&sources, "bookworm", "bookworm").join("\n"), @r"
        deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian bookworm main
        deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian bookworm-updates main
        deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/security bookworm-security main
        ");
        insta::assert_snapshot!(mirror_lines(&sources, "bookworm", "trixie").join("\n"), @r"
        deb http://mirror.example/debian trixie main
        deb http://mirror.example/debian trixie-updates main
        deb http://mirror.example/security trixie-security main
        ");
        assert!(mirror_lines(&sources, "noble", "plucky").is_empty());
    }

    #[test]
    fn one_line_style() {
        let text = "\
deb cdrom:[Debian]/ bookworm main
deb [ arch=amd64 signed-by=/usr/share/keyrings/ubuntu-archive-keyring.gpg ] http://u.example/ubuntu noble main universe multiverse # x
deb-src http://u.example/ubuntu noble main
deb http://u.example/ubuntu noble-security main universe
deb http://ppa.example noble/ppa main
rubbish
deb
deb [unclosed http://x y z
";
        let sources = parse_list(text);
        assert_eq!(own_suite(&sources), Some("noble"));
        insta::assert_snapshot!(mirror_lines(&sources, "noble", "noble").join("\n"), @r"
        deb [signed-by=/usr/share/keyrings/ubuntu-archive-keyring.gpg] http://u.example/ubuntu noble main universe
        deb http://u.example/ubuntu noble-security main universe
        ");
    }

    #[test]
    fn access() {
        let dump = "Acquire::http::Proxy \"http://p:3128\";\nAcquire::https::Proxy \"\";\nAPT::X \"y\";\nAcquire::Check-Date \"false\";\n";
        assert_eq!(
            access_options(dump),
            ["Acquire::http::Proxy \"http://p:3128\"", "Acquire::Check-Date \"false\""]
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}", lines in proptest::collection::vec("(deb|Types|URIs|Suites|:|\\[|\\]| |\n|#|main){0,8}", 0..20)) {
            for text in [text, lines.join("\n")] {
                let sources: Vec<_> = parse_list(&text).into_iter().chain(parse_stanzas(&text)).collect();
                let _ = mirror_lines(&sources, own_suite(&sources).unwrap_or(""), "x");
            }
        }
    }
}
