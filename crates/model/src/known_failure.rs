//! A known failure, as the reason of a verdict contains it. One format is printed and parsed here, so that results need no
//! field of their own for it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The start of the reason of a known failure, whose verdict is Not run.
pub const KNOWN_FAILURE: &str = "known failure: ";
/// Between the entry and what failed.
const FAILED: &str = "; it failed: ";
const UNTIL: &str = "until ";

/// An entry of a file `known-issues.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownFailure {
    /// Why it fails, in one line.
    pub reason: String,
    /// The report of the failure: an http or https URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// The kernel version from which on the entry has no effect, or its last day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl fmt::Display for KnownFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        match (&self.link, &self.until) {
            (Some(link), Some(until)) => write!(f, " ({link}, {UNTIL}{until})"),
            (Some(link), None) => write!(f, " ({link})"),
            (None, Some(until)) => write!(f, " ({UNTIL}{until})"),
            (None, None) => Ok(()),
        }
    }
}

impl KnownFailure {
    /// The reason of the verdict of a test that failed because of `found`.
    #[must_use]
    pub fn verdict_reason(&self, found: &str) -> String {
        format!("{KNOWN_FAILURE}{self}{FAILED}{found}")
    }

    /// The reason of the entry and what failed, from the reason of the verdict, without the link.
    #[must_use]
    pub fn without_link(&self, reason: Option<&str>) -> String {
        let found = reason.and_then(Self::found_in).unwrap_or_default();
        let entry = Self { link: None, ..self.clone() };
        format!("{entry}{FAILED}{found}")
    }

    /// What failed, if the reason of a verdict is that of a known failure.
    #[must_use]
    pub fn found_in(reason: &str) -> Option<&str> {
        reason.strip_prefix(KNOWN_FAILURE)?.split_once(FAILED).map(|(_, found)| found)
    }

    /// The known failure in the reason of a verdict, if it is one.
    #[must_use]
    pub fn of_reason(reason: &str) -> Option<Self> {
        let (entry, _) = reason.strip_prefix(KNOWN_FAILURE)?.split_once(FAILED)?;
        let details = entry.strip_suffix(')').and_then(|entry| entry.rsplit_once(" ("));
        // The place of the link and of the end is between parentheses, which a reason can have as well.
        let found = details.and_then(|(reason, details)| {
            let (link, until) = match details.rsplit_once(&format!(", {UNTIL}")) {
                Some((link, until)) => (Some(link), Some(until)),
                None => match details.strip_prefix(UNTIL) {
                    Some(until) => (None, Some(until)),
                    None => (Some(details), None),
                },
            };
            link.is_none_or(is_web_address).then(|| Self {
                reason: reason.into(),
                link: link.map(Into::into),
                until: until.map(Into::into),
            })
        });
        Some(found.unwrap_or_else(|| Self { reason: entry.into(), link: None, until: None }))
    }
}

/// Whether a link can be followed in a browser, and does nothing else.
#[must_use]
pub fn is_web_address(link: &str) -> bool {
    let rest = link.strip_prefix("https://").or_else(|| link.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty())
        && !link.contains(|c: char| c.is_whitespace() || c.is_control() || "\"'<>`\\".contains(c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(reason: &str, link: Option<&str>, until: Option<&str>) -> KnownFailure {
        KnownFailure { reason: reason.into(), link: link.map(Into::into), until: until.map(Into::into) }
    }

    #[test]
    fn the_parts_of_a_reason() {
        let url = "https://bugs.example.org/7?a=(b)";
        for entry in [
            known("a bug", None, None),
            known("a bug (of 6.1)", Some(url), None),
            known("a bug", Some(url), Some("6.14")),
            known("a bug", None, Some("2027-01-31")),
            known("a bug (see below)", None, None),
        ] {
            let text = entry.verdict_reason("1 != 2; it failed: twice (https://x)");
            assert_eq!(KnownFailure::of_reason(&text), Some(entry), "{text}");
            assert_eq!(KnownFailure::found_in(&text), Some("1 != 2; it failed: twice (https://x)"));
        }
        for other in ["", "a bug", "known failure: x", "it is a known failure: x; it failed: y"] {
            assert_eq!(KnownFailure::of_reason(other), None, "{other}");
        }
    }

    #[test]
    fn only_addresses_of_the_web_are_links() {
        for hostile in [
            "javascript:alert(1)",
            "data:text/html,x",
            "//example.org/x",
            "https://",
            "file:///etc/passwd",
            "HTTPS://x",
            " https://x",
            "https://x\"onclick=y",
            "https://x y",
        ] {
            assert!(!is_web_address(hostile), "{hostile}");
            let text = format!("{KNOWN_FAILURE}a bug ({hostile}){FAILED}x");
            let found = KnownFailure::of_reason(&text).unwrap();
            assert_eq!((found.link, found.reason), (None, format!("a bug ({hostile})")));
        }
    }

    proptest! {
        #[test]
        fn no_reason_panics(text in any::<String>()) {
            let _ = KnownFailure::of_reason(&text);
            let _ = KnownFailure::of_reason(&format!("{KNOWN_FAILURE}{text}{FAILED}"));
        }
    }
}
