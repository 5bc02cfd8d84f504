//! apt sources: both file formats, and the lines to install another suite from the same mirror. Pure. An entry that
//! cannot be parsed is skipped, because apt itself reports it.

use crate::stanza::{stanzas, words};

/// An entry of apt's sources: one or more suites of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AptSource {
    /// The URI of the repository.
    pub uri: String,
    /// The suites: `bookworm`, `bookworm-updates`.
    pub suites: Vec<String>,
    /// The components: `main`, `universe`...
    pub components: Vec<String>,
    /// The key file named by `Signed-By`. A key embedded in the entry is not kept.
    pub signed_by: Option<String>,
}

impl AptSource {
    /// Whether this is the archive of the distribution, as opposed to a third-party repository.
    pub(crate) fn is_archive(&self) -> bool {
        let foreign_key = self.signed_by.as_ref().is_some_and(|file| !file.contains("archive-keyring"));
        self.components.iter().any(|name| name == "main") && !self.uri.starts_with("cdrom:") && !foreign_key
    }

    /// The `deb` line for one suite with those of `components` that the entry has.
    fn line(&self, suite: &str, components: &[&str], with_key: bool) -> String {
        let key = match &self.signed_by {
            Some(file) if with_key => format!("[signed-by={file}] "),
            _ => String::new(),
        };
        let components: Vec<_> =
            self.components.iter().map(String::as_str).filter(|name| components.contains(name)).collect();
        format!("deb {key}{} {suite} {}", self.uri, components.join(" "))
    }
}

/// The origin of packages: the lines and settings of apt's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirror {
    /// Lines of a `sources.list`.
    pub lines: Vec<String>,
    /// Settings in the form that `apt-config dump` prints, without the semicolon: `Acquire::http::Proxy "..."`.
    pub settings: Vec<String>,
}

/// The components with the kernels and tools that tests need, in the names of Debian and Ubuntu.
pub const DEFAULT_COMPONENTS: [&str; 2] = ["main", "universe"];

/// The pockets of a release that are used together with it.
const POCKETS: [&str; 3] = ["", "-updates", "-security"];

/// The entries of a file in the one-line format (`*.list`).
pub(crate) fn parse_list(text: &str) -> Vec<AptSource> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<AptSource> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    let mut words = rest.split_whitespace().map(String::from);
    Some(AptSource {
        uri: words.next()?,
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by: signed_by.and_then(key_file),
    })
}

/// The entries of a file in the stanza format (`*.sources`).
pub(crate) fn parse_stanzas(text: &str) -> Vec<AptSource> {
    let text: String =
        text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    stanzas(&text).flat_map(parse_stanza).collect()
}

fn parse_stanza(stanza: &str) -> Vec<AptSource> {
    let disabled = words(stanza, "Enabled").first().is_some_and(|word| word.eq_ignore_ascii_case("no"));
    if disabled || !words(stanza, "Types").iter().any(|word| word == "deb") {
        return vec![];
    }
    let signed_by = words(stanza, "Signed-By").first().and_then(|word| key_file(word));
    let source = |uri| AptSource {
        uri,
        suites: words(stanza, "Suites"),
        components: words(stanza, "Components"),
        signed_by: signed_by.clone(),
    };
    words(stanza, "URIs").into_iter().map(source).collect()
}

fn key_file(word: &str) -> Option<String> {
    word.starts_with('/').then(|| word.into())
}

/// The parts of a suite: the release that must be complete, and an overlay that is not complete without it, as
/// `trixie-backports` on `trixie`.
fn parts(suite: &str) -> (&str, Option<&str>) {
    match suite.split_once('-') {
        Some((release, _)) => (release, Some(suite)),
        None if suite == "experimental" => ("sid", Some(suite)),
        None => (suite, None),
    }
}

/// Whether a suite is used alone. Debian's unstable suites have no pockets for updates.
fn has_pockets(suite: &str) -> bool {
    !["sid", "unstable"].contains(&suite)
}

/// The setting that prefers the packages of an overlay. Without it, apt installs from backports and experimental only
/// what no other suite has.
pub(crate) fn preference(suite: &str) -> Option<String> {
    parts(suite).1.map(|overlay| format!("APT::Default-Release \"{overlay}\""))
}

/// The `deb` lines to install `suite`: the host's own lines for it, or else the archives of the host's suite `own` with
/// `suite` in its place. Empty if the sources contain no archive of the distribution.
pub(crate) fn mirror_lines(
    sources: &[AptSource],
    own: &str,
    suite: &str,
    components: &[&str],
) -> Vec<String> {
    let lines_of = |from: &str, to: &str, pockets: &[&str]| {
        let mut lines = Vec::new();
        for source in sources.iter().filter(|source| source.is_archive()) {
            for found in &source.suites {
                let Some(pocket) = found.strip_prefix(from).filter(|pocket| pockets.contains(pocket)) else {
                    continue;
                };
                // The key of one suite may not have signed another one.
                lines.push(source.line(&format!("{to}{pocket}"), components, from == to));
            }
        }
        lines
    };
    let lines_for = |suite: &str, pockets: &[&str]| {
        let lines = lines_of(suite, suite, pockets);
        if lines.is_empty() { lines_of(own, suite, pockets) } else { lines }
    };
    let (release, overlay) = parts(suite);
    let pockets = if has_pockets(release) { &POCKETS[..] } else { &POCKETS[..1] };
    let mut lines = lines_for(release, pockets);
    lines.extend(overlay.into_iter().flat_map(|overlay| lines_for(overlay, &POCKETS[..1])));
    lines
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

    fn lines(sources: &[AptSource], own: &str, suite: &str) -> Vec<String> {
        mirror_lines(sources, own, suite, &DEFAULT_COMPONENTS)
    }

    #[test]
    fn own_suite_and_another() {
        let sources = parse_stanzas(STANZAS);
        insta::assert_snapshot!(lines(&sources, "bookworm", "bookworm").join("\n"), @r"
        deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian bookworm main
        deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian bookworm-updates main
        deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/security bookworm-security main
        ");
        insta::assert_snapshot!(lines(&sources, "bookworm", "trixie").join("\n"), @r"
        deb http://mirror.example/debian trixie main
        deb http://mirror.example/debian trixie-updates main
        deb http://mirror.example/security trixie-security main
        ");
        assert!(lines(&sources, "noble", "plucky").is_empty());
        let contrib = mirror_lines(&sources, "bookworm", "sid", &["main", "contrib"]);
        assert_eq!(contrib, ["deb http://mirror.example/debian sid main contrib"]);
    }

    #[test]
    fn overlays_have_the_lines_of_their_release() {
        let sources = parse_stanzas(STANZAS);
        insta::assert_snapshot!(lines(&sources, "bookworm", "bookworm-backports").join("\n"), @r"
        deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian bookworm main
        deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian bookworm-updates main
        deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/security bookworm-security main
        deb http://mirror.example/debian bookworm-backports main
        ");
        insta::assert_snapshot!(lines(&sources, "bookworm", "trixie-backports").join("\n"), @r"
        deb http://mirror.example/debian trixie main
        deb http://mirror.example/debian trixie-updates main
        deb http://mirror.example/security trixie-security main
        deb http://mirror.example/debian trixie-backports main
        ");
        insta::assert_snapshot!(lines(&sources, "bookworm", "experimental").join("\n"), @r"
        deb http://mirror.example/debian sid main
        deb http://mirror.example/debian experimental main
        ");
        let mut configured = sources;
        configured.extend(parse_list("deb http://bpo.example/debian bookworm-backports main"));
        let lines = lines(&configured, "bookworm", "bookworm-backports");
        assert_eq!(lines[3..], ["deb http://bpo.example/debian bookworm-backports main"]);
        assert_eq!(preference("trixie"), None);
        assert_eq!(preference("sid-x").as_deref(), Some("APT::Default-Release \"sid-x\""));
    }

    #[test]
    fn one_line_format() {
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
        insta::assert_snapshot!(lines(&parse_list(text), "noble", "noble").join("\n"), @r"
        deb [signed-by=/usr/share/keyrings/ubuntu-archive-keyring.gpg] http://u.example/ubuntu noble main universe
        deb http://u.example/ubuntu noble-security main universe
        ");
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}", words in proptest::collection::vec("(deb|Types|URIs|Suites|:|\\[|\\]| |\n|#|main){0,8}", 0..20)) {
            for text in [text, words.join("\n")] {
                let sources: Vec<_> = parse_list(&text).into_iter().chain(parse_stanzas(&text)).collect();
                let _ = lines(&sources, "", "x");
            }
        }
    }
}
