//! From a remote into a local ref, and what a remote has, by the git command.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use model::{CommitId, RefName, Remote};
use spawn::{Cmd, Limits};
use tempfile::NamedTempFile;

use crate::command::{complaint, git};
use crate::error::GitError;
use crate::repo::Repo;

/// The most that git may print, in bytes: a remote with a million refs.
const OUTPUT: usize = 256 << 20;

/// What a fetch did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Where the local ref stood before, if it was there.
    pub old: Option<CommitId>,
    /// Where it stands now.
    pub new: CommitId,
}

impl Fetched {
    /// Whether the ref moved.
    #[must_use]
    pub fn moved(&self) -> bool {
        self.old.as_ref() != Some(&self.new)
    }
}

impl Repo {
    /// The commit that `git_ref` stands at in the remote; `None` if the remote has no such ref. A short name means
    /// what it means to git: itself, then a tag, then a branch.
    pub async fn ls_remote(
        &self,
        remote: &Remote,
        git_ref: &RefName,
        time: Duration,
    ) -> Result<Option<CommitId>, GitError> {
        let trust = Trust::of(remote)?;
        let peeled = format!("{git_ref}^{{}}");
        let cmd = git(self.git_dir()).args(["ls-remote", "--quiet", "--"]).args([
            remote.as_str(),
            git_ref.as_str(),
            &peeled,
        ]);
        let output = trust.add(cmd).output(Limits { time, bytes: OUTPUT }).await?;
        if !output.exit.success() {
            return Err(failed(remote, git_ref, &output));
        }
        Ok(choose(&output.text(), git_ref.as_str()))
    }

    /// Makes the local ref `into` what `git_ref` is in the remote, also when that was force-pushed. No tags, no
    /// other refs. `into` is a full name below `refs/` and not the branch of a checkout.
    pub async fn fetch(
        &self,
        remote: &Remote,
        git_ref: &RefName,
        into: &RefName,
        time: Duration,
    ) -> Result<Fetched, GitError> {
        let old = self.resolve(into.as_str()).ok();
        let trust = Trust::of(remote)?;
        let cmd = git(self.git_dir())
            .args(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"])
            .args(["--no-auto-maintenance", "--no-write-commit-graph", "--force", "--refmap=", "--"])
            .arg(remote.as_str())
            .arg(format!("+{git_ref}:{into}"));
        tracing::debug!(%cmd, "fetch");
        let output = trust.add(cmd).output(Limits { time, bytes: OUTPUT }).await?;
        if !output.exit.success() {
            return Err(failed(remote, git_ref, &output));
        }
        Ok(Fetched { old, new: self.resolve(into.as_str())? })
    }
}

fn failed(remote: &Remote, git_ref: &RefName, output: &spawn::Output) -> GitError {
    let complaint = complaint(output);
    let remote = remote.as_str().to_owned();
    if complaint.contains("couldn't find remote ref") {
        return GitError::NoSuchRef { remote, git_ref: git_ref.as_str().into() };
    }
    GitError::Fetch { remote, complaint }
}

/// The line of `git ls-remote` that a ref means.
fn choose(listing: &str, git_ref: &str) -> Option<CommitId> {
    let find = |name: &str| {
        let line = listing.lines().find(|line| line.split_once('\t').is_some_and(|(_, other)| other == name));
        line.and_then(|line| line.split_once('\t')?.0.parse().ok())
    };
    let names = ["", "refs/", "refs/tags/", "refs/heads/"].map(|prefix| format!("{prefix}{git_ref}"));
    names.iter().find_map(|name| find(&format!("{name}^{{}}")).or_else(|| find(name)))
}

/// A remote that is a folder of this machine is served by another git process, which trusts only what a
/// configuration file says; so there is one for the time of the fetch.
struct Trust(Option<NamedTempFile>);

impl Trust {
    fn of(remote: &Remote) -> Result<Self, GitError> {
        let path = remote.as_str().strip_prefix("file://").unwrap_or(remote.as_str());
        if !Path::new(path).is_dir() {
            return Ok(Self(None));
        }
        let io = |source| GitError::Io { path: std::env::temp_dir(), source };
        let mut file = NamedTempFile::new().map_err(io)?;
        file.write_all(b"[safe]\n\tdirectory = *\n").map_err(io)?;
        Ok(Self(Some(file)))
    }

    fn add(&self, cmd: Cmd) -> Cmd {
        match &self.0 {
            Some(file) => cmd.env("GIT_CONFIG_GLOBAL", file.path()),
            None => cmd,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ref_that_is_meant() {
        let id = |digit: &str| digit.repeat(40);
        let listing = format!(
            "{}\trefs/heads/x/next\n{}\trefs/heads/next\n{}\trefs/tags/v1\n{}\trefs/tags/v1^{{}}\n",
            id("1"),
            id("2"),
            id("3"),
            id("4")
        );
        let chosen = |name| choose(&listing, name).map(|id| id.as_str()[..1].to_owned());
        assert_eq!(chosen("next").as_deref(), Some("2"));
        assert_eq!(chosen("refs/heads/x/next").as_deref(), Some("1"));
        assert_eq!(chosen("v1").as_deref(), Some("4"));
        assert_eq!(chosen("v2"), None);
    }
}
