//! Names that users choose: users, branches, test groups and repositories. They become parts of git refs, file names
//! and URLs.
//!
//! A name in a configuration may contain only a few harmless characters; `configured` of each type checks this. The
//! result stores of other systems contain more, which `parse` accepts for users and branches.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::{NameError, bad, name};

/// Whether `text` can be one component of a git ref, of a file name and of a URL without escapes.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(['.', '-'])
        && !text.ends_with('.')
        && !text.ends_with(".lock")
        && !text.contains("..")
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c))
}

fn plain(kind: &'static str, text: &str) -> Result<(), NameError> {
    if text.len() > 100 {
        return Err(bad(kind, text, "it must have at most 100 characters"));
    }
    if !is_plain(text) {
        return Err(bad(
            kind,
            text,
            "use letters, digits and . _ + -; it must not begin with . or -, or end in . or .lock",
        ));
    }
    Ok(())
}

macro_rules! plain_name {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        name! { $(#[$doc])* $name }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                plain($kind, text)?;
                Ok(Self(text.into()))
            }
        }
    };
}

name! {
    /// A test group of the configuration.
    GroupName
}

impl FromStr for GroupName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > 200 || text.chars().any(char::is_control) {
            return Err(bad(
                "a test group name",
                text,
                "it must have 1 to 200 bytes and no control characters",
            ));
        }
        Ok(Self(text.into()))
    }
}

plain_name! {
    /// The name of a root image in the configuration; part of result keys.
    ImageName, "an image name"
}

plain_name! {
    /// A repository of the configuration.
    RepoName, "a repository name"
}

impl RepoName {
    /// The kernel's repository, which is the default: `linux`.
    #[must_use]
    pub fn linux() -> Self {
        Self("linux".into())
    }

    /// Whether its commits are kernels.
    #[must_use]
    pub fn is_linux(&self) -> bool {
        &*self.0 == "linux"
    }
}

name! {
    /// The owner of branches. Never contains a `/`.
    UserName
}

impl FromStr for UserName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > 255 || text.chars().any(|c| c == '/' || c.is_control()) {
            return Err(bad(
                "a user name",
                text,
                "it must have 1 to 255 bytes, no / and no control characters",
            ));
        }
        Ok(Self(text.into()))
    }
}

impl UserName {
    /// Parses a name from a configuration: 1 to 100 letters, digits and `. _ + -`.
    pub fn configured(text: &str) -> Result<Self, NameError> {
        plain("a user name", text)?;
        Ok(Self(text.into()))
    }
}

name! {
    /// The name of a branch in the farm, unique for its user: `for-next`, `next/ext4`.
    BranchName
}

impl FromStr for BranchName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > 255 || text.chars().any(char::is_control) {
            return Err(bad("a branch name", text, "it must have 1 to 255 bytes and no control characters"));
        }
        Ok(Self(text.into()))
    }
}

impl BranchName {
    /// Parses a name from a configuration: 1 to 200 letters, digits and `. _ + -`, in parts joined by `/`.
    pub fn configured(text: &str) -> Result<Self, NameError> {
        if text.len() <= 200 && text.split('/').all(is_plain) {
            return Ok(Self(text.into()));
        }
        Err(bad(
            "a branch name",
            text,
            "use letters, digits and . _ + - /; no part of it may be empty, begin with . or -, or end in . or .lock",
        ))
    }

    /// The name as one component of a git ref, with `/` encoded as `%2F`: users can have the branches `next` and
    /// `next/ext4` at the same time, git refs cannot.
    #[must_use]
    pub fn ref_component(&self) -> String {
        self.0.replace('%', "%25").replace('/', "%2F")
    }
}

/// A branch of a user, written `user/branch`. The user name contains no `/`, so the first one is the separator.
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
            return Err(bad("a branch of a user", text, "write USER/BRANCH"));
        };
        Ok(Self { user: user.parse()?, branch: branch.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_names_have_only_safe_characters() {
        for good in ["kmo", "j.doe", "a", "for-next", "v6.1", "x+y_z"] {
            assert!(UserName::configured(good).is_ok(), "{good}");
            assert!(BranchName::configured(good).is_ok(), "{good}");
            assert!(good.parse::<RepoName>().is_ok(), "{good}");
        }
        for hostile in
            ["", "-x", ".x", "a b", "a/b", "a..b", "a.", "a.lock", "a\n", "$(x)", "a`b", "\u{e9}", "../x"]
        {
            assert!(UserName::configured(hostile).is_err(), "{hostile:?}");
            assert!(hostile.parse::<RepoName>().is_err(), "{hostile:?}");
        }
        assert!(UserName::configured(&"x".repeat(101)).is_err());
        for good in ["next/ext4", "a/b/c"] {
            assert!(BranchName::configured(good).is_ok(), "{good}");
        }
        for hostile in ["/a", "a/", "a//b", "a/../b", "a/.b", "a/-b", "a.lock/b", "a b", "a;b", "a~1", "a\\b"]
        {
            assert!(BranchName::configured(hostile).is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn names_of_other_systems_are_parsed() {
        for text in ["50%", "a b", "<b>", "x\"y"] {
            assert!(text.parse::<UserName>().is_ok() && text.parse::<BranchName>().is_ok(), "{text}");
        }
        for text in ["", "a\n", "\0"] {
            assert!(text.parse::<UserName>().is_err() && text.parse::<BranchName>().is_err(), "{text:?}");
        }
        assert!("a/b".parse::<UserName>().is_err());
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
        fn every_configured_branch_has_a_git_ref_of_its_own(text in "[a-c./+_-]{1,12}(\\.lock)?") {
            if let Ok(branch) = BranchName::configured(&text) {
                let component = branch.ref_component();
                assert!(!component.contains('/'));
                assert!(format!("refs/ktest/u/{component}").parse::<crate::RefName>().is_ok(), "{text}");
                assert_eq!(component.replace("%2F", "/").replace("%25", "%"), text);
            }
        }
    }
}
