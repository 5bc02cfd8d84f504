//! Names that users give: users, branches, test groups and repositories. They become parts of git refs, file names and
//! URLs, so their characters are few; what is valid is decided here and nowhere else.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::{NameError, bad, name};

const RULE: &str =
    "it has 1 to 100 letters, digits and . _ + -, does not begin with . or -, and does not end in . or .lock";

/// Whether `text` can be one component of a git ref, of a file name and of a URL.
fn is_word(text: &str, extra: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(['.', '-'])
        && !text.ends_with('.')
        && !text.ends_with(".lock")
        && !text.contains("..")
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c) || extra.contains(c))
}

macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        name! { $(#[$doc])* $name }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                if text.len() <= 100 && is_word(text, "") {
                    Ok(Self(text.into()))
                } else {
                    Err(bad($kind, text, RULE))
                }
            }
        }
    };
}

word! {
    /// The owner of branches.
    UserName, "a user name"
}

word! {
    /// A test group of the configuration.
    GroupName, "a test group name"
}

word! {
    /// A repository of the configuration.
    RepoName, "a repository name"
}

impl RepoName {
    /// The kernel's repository, the default: `linux`.
    #[must_use]
    pub fn linux() -> Self {
        Self("linux".into())
    }
}

name! {
    /// A branch as the farm names it, unique for its user: `for-next`, `next/ext4`.
    BranchName
}

impl FromStr for BranchName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() <= 200 && text.split('/').all(|part| is_word(part, "@%#=,")) {
            Ok(Self(text.into()))
        } else {
            Err(bad(
                "a branch name",
                text,
                "it has 1 to 200 letters, digits and . _ + - / @ % # = , and no part of it begins with . or - or ends in . or .lock",
            ))
        }
    }
}

/// A branch of a user, written `user/branch`. The user holds no `/`, so that the first one separates them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BranchRef {
    /// The owner.
    pub user: UserName,
    /// The branch of that user.
    pub branch: BranchName,
}

impl BranchRef {
    /// The branch `branch` of `user`.
    #[must_use]
    pub fn new(user: &UserName, branch: &BranchName) -> Self {
        Self { user: user.clone(), branch: branch.clone() }
    }
}

impl fmt::Display for BranchRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.user, self.branch))
    }
}

impl FromStr for BranchRef {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let Some((user, branch)) = text.split_once('/') else {
            return Err(bad("a branch of a user", text, "it is written USER/BRANCH"));
        };
        Ok(Self { user: user.parse()?, branch: branch.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for good in ["kmo", "j.doe", "a", "for-next", "v6.1", "x+y_z"] {
            assert!(good.parse::<UserName>().is_ok(), "{good}");
            assert!(good.parse::<BranchName>().is_ok(), "{good}");
        }
        for hostile in
            ["", "-x", ".x", "a b", "a/b", "a..b", "a.", "a.lock", "a\n", "$(x)", "a`b", "\u{e9}", "../x"]
        {
            assert!(hostile.parse::<UserName>().is_err(), "{hostile:?}");
            assert!(hostile.parse::<GroupName>().is_err(), "{hostile:?}");
        }
        assert!("x".repeat(101).parse::<UserName>().is_err());
    }

    #[test]
    fn a_branch_may_hold_slashes() {
        for good in ["next/ext4", "a/b/c", "50%", "a%2Fb", "x@y"] {
            assert!(good.parse::<BranchName>().is_ok(), "{good}");
        }
        for hostile in ["/a", "a/", "a//b", "a/../b", "a/.b", "a/-b", "a.lock/b", "a b", "a;b", "a~1", "a\\b"]
        {
            assert!(hostile.parse::<BranchName>().is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn the_first_slash_ends_the_user() {
        let branch: BranchRef = "kmo/next/ext4".parse().unwrap();
        assert_eq!((branch.user.as_str(), branch.branch.as_str()), ("kmo", "next/ext4"));
        assert_eq!(branch.to_string(), "kmo/next/ext4");
        assert_eq!(
            serde_json::to_string(&branch).unwrap(),
            r#"{"user":"kmo","branch":"next/ext4"}"#,
            "the form of request files and JSON views"
        );
        assert!("kmo".parse::<BranchRef>().is_err());
    }

    proptest::proptest! {
        #[test]
        fn every_branch_is_a_git_ref(text in "[a-c./@%#=,+_-]{1,12}(\\.lock)?") {
            if let Ok(branch) = text.parse::<BranchName>()
                && branch.as_str() != "@"
            {
                assert!(text.parse::<crate::RefName>().is_ok(), "{text}");
            }
        }
    }
}
