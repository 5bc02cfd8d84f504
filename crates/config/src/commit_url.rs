//! `commit_url`: the address of a commit on the web pages of a git repository.

use model::CommitId;

use crate::fault::Fault;
use crate::node::{Node, Section};

/// The maximum length of a template, in bytes.
const LENGTH_MAX: usize = 1000;
/// The part of a template that stands for the id of a commit.
const PLACE: &str = "{commit}";

/// An HTTP address with `{commit}` in place of the id of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitUrl(String);

/// Not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "commit_url: {0:?} is not an address of commits; write for example \
     \"https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/commit/?id={{commit}}\""
)]
pub struct CommitUrlError(String);

impl crate::fault::SectionError for CommitUrlError {}

impl std::str::FromStr for CommitUrl {
    type Err = CommitUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || CommitUrlError(text.chars().take(LENGTH_MAX).collect());
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).ok_or_else(bad)?;
        let (host, path) = rest.split_once(['/', '?', '#']).ok_or_else(bad)?;
        let around = path.replace(PLACE, "");
        // An id is only a part of the path, the query or the fragment, never of the host.
        let is_host = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        let is_address = |c: char| c.is_ascii_graphic() && !"\"'<>\\^`{|}".contains(c);
        let good = !host.is_empty()
            && host.chars().all(is_host)
            && around.chars().all(is_address)
            && around.len() < path.len()
            && text.len() <= LENGTH_MAX;
        if good { Ok(Self(text.into())) } else { Err(bad()) }
    }
}

impl CommitUrl {
    /// The address of a commit.
    #[must_use]
    pub fn of(&self, commit: &CommitId) -> String {
        self.0.replace(PLACE, commit.as_str())
    }
}

/// The key `commit_url` of a table.
pub(crate) fn read(section: &Section<'_>) -> Result<Option<CommitUrl>, Fault> {
    let parse =
        |node: &Node| node.str("commit_url")?.parse().map_err(|error: CommitUrlError| node.fault(error));
    section.get("commit_url").map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_addresses_with_a_place_for_the_commit() {
        let commit: CommitId = "0123456789".repeat(4).parse().unwrap();
        let of = |text: &str| text.parse::<CommitUrl>().map(|url| url.of(&commit)).ok();
        let kernel = "https://git.kernel.org/linux.git/commit/?id={commit}";
        assert_eq!(of(kernel), Some(format!("https://git.kernel.org/linux.git/commit/?id={commit}")));
        assert!(of("http://127.0.0.1:8080/{commit}").is_some());
        assert!(of("http://[::1]:8080?h={commit}#{commit}").is_some());
        for bad in [
            "",
            "https://",
            "https://example.org/",
            "https://example.org/?id={id}",
            "https:///{commit}",
            "https://{commit}.example.org/",
            "https://{commit}.example.org/{commit}",
            "https://user:secret@example.org/{commit}",
            "javascript:alert(1)//{commit}",
            "data:text/html,{commit}",
            "//example.org/{commit}",
            "HTTPS://example.org/{commit}",
            " https://example.org/{commit}",
            "https://example.org/\"onclick=x/{commit}",
            "https://example.org/{{commit}}",
            "https://example.org/a b/{commit}",
            "https://example.org/\u{202e}{commit}",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
        assert_eq!(of(&format!("https://example.org/{commit}{}", "x".repeat(1000))), None);
    }
}
