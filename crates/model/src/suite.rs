//! Test suites that are not part of ktest-ci (xfstests, blktests), at a commit.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::{CommitId, NameError, as_text, bad, name};

name! {
    /// A test suite: `xfstests`. It is part of the name of a variable and of a directory.
    SuiteName
}

impl FromStr for SuiteName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let kind = "a test suite";
        if text.is_empty() || text.len() > 32 {
            return Err(bad(kind, text, "it must have 1 to 32 bytes"));
        }
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !text.starts_with(|c: char| c.is_ascii_lowercase()) || !text.chars().all(plain) {
            return Err(bad(kind, text, "use a-z, 0-9 and _, with a letter first"));
        }
        Ok(Self(text.into()))
    }
}

/// A suite and the commit of its source, as text `NAME COMMIT`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SuiteVersion {
    /// The suite.
    pub name: SuiteName,
    /// The commit.
    pub commit: CommitId,
}

impl fmt::Display for SuiteVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.commit)
    }
}

impl FromStr for SuiteVersion {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (name, commit) =
            text.split_once(' ').ok_or_else(|| bad("a version of a suite", text, "write NAME COMMIT"))?;
        Ok(Self { name: name.parse()?, commit: commit.parse()? })
    }
}

/// A version of a suite, and a local repository that contains it, as text `NAME=COMMIT@REPO`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SuiteOrder {
    /// The version.
    pub version: SuiteVersion,
    /// The repository.
    pub repo: PathBuf,
}

impl fmt::Display for SuiteOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}@{}", self.version.name, self.version.commit, self.repo.display())
    }
}

impl FromStr for SuiteOrder {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let parts = || {
            let (name, rest) = text.split_once('=')?;
            let (commit, repo) = rest.split_once('@')?;
            (!repo.is_empty()).then_some((name, commit, repo))
        };
        let (name, commit, repo) =
            parts().ok_or_else(|| bad("a version of a suite", text, "write NAME=COMMIT@REPO"))?;
        let version = SuiteVersion { name: name.parse()?, commit: commit.parse()? };
        Ok(Self { version, repo: repo.into() })
    }
}

as_text!(SuiteVersion);
as_text!(SuiteOrder);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["xfstests", "blktests", "x", "my_tests2"] {
            assert!(good.parse::<SuiteName>().is_ok(), "{good}");
        }
        let long = "x".repeat(33);
        for hostile in ["", "-x", "../x", "a/b", "a.b", "A", "2x", "x y", "x\n", "x=y", "$x", "é", &long] {
            assert!(hostile.parse::<SuiteName>().is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn versions_and_orders() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        for text in [format!("xfstests={commit}@/srv/a b@c=d.git"), format!("x={commit}@-x")] {
            let order: SuiteOrder = text.parse().unwrap();
            assert_eq!(order.to_string(), text);
            let json = serde_json::to_string(&order).unwrap();
            assert_eq!(serde_json::from_str::<SuiteOrder>(&json).unwrap(), order);
            assert_eq!(order.version.to_string().parse(), Ok(order.version));
        }
        for bad in [
            "",
            "x",
            &format!("x={commit}"),
            &format!("x={commit}@"),
            "x=HEAD@/r",
            &format!("../x={commit}@/r"),
        ] {
            assert!(bad.parse::<SuiteOrder>().is_err(), "{bad:?}");
        }
        for bad in ["", "x", "x HEAD", &format!("../x {commit}"), &format!("x {commit} y")] {
            assert!(bad.parse::<SuiteVersion>().is_err(), "{bad:?}");
        }
    }
}
