//! The addresses of pages of the dashboard.

use model::{CommitId, Finding, FindingKind, ResultKey};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

/// Makes addresses of pages; none if the configuration has no `ci_url`.
pub(super) struct Addresses<'a> {
    base: Option<&'a str>,
}

impl<'a> Addresses<'a> {
    pub fn new(ci_url: Option<&'a str>) -> Self {
        // The address of the start page is accepted, too.
        let base = ci_url.map(|url| url.trim_end_matches('/'));
        Self { base: base.map(|url| url.strip_suffix("/ci").unwrap_or(url)) }
    }

    /// The page of a finding: the test at the failure, or the findings of the branch.
    pub fn finding(&self, finding: &Finding) -> Option<String> {
        let base = self.base?;
        match (&finding.branch, &finding.kind) {
            (Some(at), _) => {
                let (user, branch) = (encoded(at.user.as_str()), encoded(at.branch.as_str()));
                Some(format!("{base}/ci?user={user}&branch={branch}&findings#{}", finding.id))
            }
            (None, _) => Some(format!("{base}/ci?status")),
        }
    }

    /// The page with the log that shows a finding.
    pub fn log(&self, finding: &Finding, commit: &CommitId, test: &ResultKey) -> Option<String> {
        let base = self.base?;
        Some(match finding.kind {
            FindingKind::BuildBroke | FindingKind::BuildFixed => format!("{base}/c/{commit}/build"),
            FindingKind::Broke | FindingKind::Bisected => {
                format!("{base}/c/{commit}/{}/#failure", encoded(test.as_str()))
            }
            _ => format!("{base}/c/{commit}/{}/", encoded(test.as_str())),
        })
    }

    /// An artifact of a test.
    pub fn file(&self, commit: &CommitId, test: &ResultKey, name: &str) -> Option<String> {
        let base = self.base?;
        Some(format!("{base}/c/{commit}/{}/{}", encoded(test.as_str()), encoded(name)))
    }

    /// The page of a test at a commit.
    pub fn test(&self, commit: &CommitId, test: &ResultKey) -> Option<String> {
        Some(format!("{}/c/{commit}/{}/", self.base?, encoded(test.as_str())))
    }

    /// The page of the builds of a commit.
    pub fn build(&self, commit: &CommitId) -> Option<String> {
        Some(format!("{}/c/{commit}/build", self.base?))
    }

    /// The page of a commit.
    pub fn commit(&self, commit: &CommitId) -> Option<String> {
        Some(format!("{}/c/{commit}/", self.base?))
    }
}

/// The bytes of a part of an address that are encoded.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn encoded(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, ESCAPED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded() {
        let addresses = Addresses::new(Some("https://ci.example.org/dash/ci"));
        let commit: CommitId = "a".repeat(40).parse().unwrap();
        let test: ResultKey = "fs.a@x=%2F.b".parse().unwrap();
        let file = addresses.file(&commit, &test, "a b").unwrap();
        assert_eq!(file, format!("https://ci.example.org/dash/c/{commit}/fs.a%40x%3D%252F.b/a%20b"));
        assert_eq!(Addresses::new(None).commit(&commit), None);
    }
}
