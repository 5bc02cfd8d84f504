//! Revisions from untrusted input: a name and steps to its ancestors. git's other expressions (`:/text`, `@{date}`,
//! `^{/text}`, `branch:path`) search the history, read reflogs or name files, and are not accepted.

use std::fmt;
use std::str::FromStr;

use model::{CommitId, RefName};

use crate::error::GitError;
use crate::repo::Repo;

/// The maximum number of commits that a revision goes back.
const STEPS_MAX: usize = 10_000;
/// The maximum number of `~N` and `^N`.
const SUFFIXES_MAX: usize = 10;

/// `v6.12`, `kmo/next~3`, `1f2e3d4^2`, `HEAD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    name: RefName,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// `~N`: N first parents back.
    Back(usize),
    /// `^N`: to the Nth parent.
    Parent(usize),
}

/// The text is not a revision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a revision; give a commit id, a branch or a tag, optionally with ~N or ^N")]
pub struct RevisionError(String);

impl FromStr for Revision {
    type Err = RevisionError;

    fn from_str(text: &str) -> Result<Self, RevisionError> {
        let error = || RevisionError(text.chars().take(100).collect());
        let end = text.find(['~', '^']).unwrap_or(text.len());
        let (name, mut rest) = text.split_at(end);
        let name = if name == "@" { "HEAD" } else { name }.parse().map_err(|_| error())?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let is_parent = rest.starts_with('^');
            let tail = rest.strip_prefix(['~', '^']).ok_or_else(error)?;
            let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = tail.split_at(digits);
            let number = if digits == 0 { Ok(1) } else { number.parse() }.map_err(|_| error())?;
            steps.push(if is_parent { Step::Parent(number) } else { Step::Back(number) });
            rest = after;
        }
        let back: usize = steps
            .iter()
            .map(|step| if let Step::Back(n) = step { *n } else { 1 })
            .fold(0, usize::saturating_add);
        if steps.len() > SUFFIXES_MAX || back > STEPS_MAX {
            return Err(error());
        }
        Ok(Self { name, steps })
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        self.steps.iter().try_for_each(|step| match step {
            Step::Back(n) => write!(f, "~{n}"),
            Step::Parent(n) => write!(f, "^{n}"),
        })
    }
}

impl Revision {
    /// The name that it starts with.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The same steps from another ref.
    #[must_use]
    pub fn from_ref(&self, name: RefName) -> Self {
        Self { name, steps: self.steps.clone() }
    }
}

impl Repo {
    /// The commit of a revision.
    pub fn resolve_revision(&self, revision: &Revision) -> Result<CommitId, GitError> {
        let missing = || GitError::NoSuchCommit { repo: self.path().into(), spec: revision.to_string() };
        let mut commit = self.resolve(revision.name.as_str())?;
        let repo = self.local();
        let parent = |commit: &CommitId, number: usize| -> Result<CommitId, GitError> {
            let parents = self.info(&repo, self.object_id(commit)?)?.parents;
            parents.into_iter().nth(number - 1).ok_or_else(missing)
        };
        for step in &revision.steps {
            match step {
                Step::Back(count) => {
                    for _ in 0..*count {
                        commit = parent(&commit, 1)?;
                    }
                }
                Step::Parent(0) => {}
                Step::Parent(number) => commit = parent(&commit, *number)?,
            }
        }
        Ok(commit)
    }
}

#[cfg(test)]
mod tests {
    use testkit::ScratchRepo;

    use super::*;

    #[test]
    fn names_with_steps() {
        for (text, shown) in [
            ("v6.12", "v6.12"),
            ("kmo/next~3", "kmo/next~3"),
            ("1f2e3d4^2~", "1f2e3d4^2~1"),
            ("@^^0", "HEAD^1^0"),
            ("refs/heads/x", "refs/heads/x"),
        ] {
            assert_eq!(text.parse::<Revision>().unwrap().to_string(), shown);
        }
        for hostile in [
            "",
            "~1",
            ":/fix",
            "HEAD^{/fix}",
            "HEAD^{commit}",
            "HEAD@{1}",
            "@{-1}",
            "a..b",
            "a:b",
            "--all",
            "-1",
            "a b",
            "HEAD~10001",
            "HEAD~9999~2",
            "HEAD^^^^^^^^^^^",
            "HEAD~99999999999999999999999",
            "HEAD~-1",
            "a\nb",
            "HEAD~\u{665}",
        ] {
            assert!(hostile.parse::<Revision>().is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn revisions_resolve_as_in_git() {
        let scratch = ScratchRepo::new();
        for name in ["c0", "c1", "c2"] {
            scratch.commit(name, &[("a", name)]);
        }
        scratch.git(["checkout", "-q", "-b", "side", "HEAD~1"]);
        scratch.commit("s", &[("b", "1")]);
        scratch.git(["checkout", "-q", "master"]);
        scratch.git(["merge", "-q", "--no-ff", "-m", "merge", "side"]);
        scratch.git(["tag", "-a", "-m", "t", "v1"]);
        let repo = Repo::open(scratch.path()).unwrap();
        let short = scratch.git(["rev-parse", "--short=8", "HEAD~1"]);
        let spelled =
            ["HEAD", "@", "v1", "master^2", "side~1", "v1^0", "master~2", "master^2^", short.trim()];
        for text in spelled {
            let expected = scratch.git(["rev-parse", &format!("{text}^{{commit}}")]);
            let found = repo.resolve_revision(&text.parse().unwrap()).unwrap();
            assert_eq!(found.as_str(), expected.trim(), "{text}");
        }
        for text in ["HEAD~9", "HEAD^3", "nowhere", "ffffffff"] {
            assert!(repo.resolve_revision(&text.parse().unwrap()).is_err(), "{text}");
        }
    }
}
