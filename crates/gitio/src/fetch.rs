//! Fetching a ref of a remote into a local ref, and looking up a ref of a remote.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use model::{CommitId, RefName, Remote};
use spawn::{Cmd, Limits};
use tempfile::NamedTempFile;

use crate::command::{error_message, git};
use crate::error::GitError;
use crate::repo::Repo;

/// The limit of git's output in bytes: enough for a remote with a million refs.
const OUTPUT: usize = 256 << 20;

/// A fetch that reports no progress for this time ends. A server that counts and compresses objects reports it, too.
const IDLE: Duration = Duration::from_secs(120);

/// Overrides `remote.NAME.uploadpack`, a program that the repository's configuration can name.
const UPLOAD_PACK: &str = "--upload-pack=git-upload-pack";

/// The result of a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The commit of the local ref before; none if the ref did not exist.
    pub old: Option<CommitId>,
    /// The commit of the local ref now.
    pub new: CommitId,
}

impl Fetched {
    /// True if the ref changed.
    #[must_use]
    pub fn moved(&self) -> bool {
        self.old.as_ref() != Some(&self.new)
    }
}

impl Repo {
    /// The commit of `git_ref` in the remote; `None` if the remote has no such ref. A short name is resolved as git
    /// does: the name itself, then a tag, then a branch.
    pub async fn ls_remote(
        &self,
        remote: &Remote,
        git_ref: &RefName,
        time: Duration,
    ) -> Result<Option<CommitId>, GitError> {
        let trust = Trust::of(remote)?;
        let peeled = format!("{git_ref}^{{}}");
        let cmd = git(self.git_dir())
            .args(self.remote_settings())
            .args(["ls-remote", "--quiet", UPLOAD_PACK, "--"])
            .args([remote.as_str(), git_ref.as_str(), &peeled]);
        let output = trust.add(cmd).output(Limits { time, bytes: OUTPUT }).await?;
        if !output.exit.success() {
            return Err(failed(remote, git_ref, &output));
        }
        Ok(choose(&output.text(), git_ref.as_str()))
    }

    /// Sets the local ref `into` to the commit of `git_ref` in the remote, also after a force-push. Fetches no tags and
    /// no other refs. `into` is a full name below `refs/` and not the branch of a checkout.
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
            .args(self.remote_settings())
            .args([
                "fetch",
                "--quiet",
                "--progress",
                "--no-tags",
                "--no-write-fetch-head",
                "--no-recurse-submodules",
            ])
            .args([
                "--no-auto-maintenance",
                "--no-write-commit-graph",
                "--force",
                "--refmap=",
                UPLOAD_PACK,
                "--",
            ])
            .arg(remote.as_str())
            .arg(format!("+{git_ref}:{into}"));
        tracing::debug!(%cmd, "fetch");
        let output = trust.add(cmd).output_with_progress(Limits { time, bytes: OUTPUT }, IDLE).await?;
        if !output.exit.success() {
            return Err(failed(remote, git_ref, &output));
        }
        Ok(Fetched { old, new: self.resolve(into.as_str())? })
    }
}

fn failed(remote: &Remote, git_ref: &RefName, output: &spawn::Output) -> GitError {
    let message = error_message(output);
    let remote = remote.as_str().to_owned();
    if message.contains("couldn't find remote ref") {
        return GitError::NoSuchRef { remote, git_ref: git_ref.as_str().into() };
    }
    GitError::Fetch { remote, message }
}

/// The commit of a ref in the output of `git ls-remote`.
fn choose(listing: &str, git_ref: &str) -> Option<CommitId> {
    let find = |name: &str| {
        let line = listing.lines().find(|line| line.split_once('\t').is_some_and(|(_, other)| other == name));
        line.and_then(|line| line.split_once('\t')?.0.parse().ok())
    };
    let names = ["", "refs/", "refs/tags/", "refs/heads/"].map(|prefix| format!("{prefix}{git_ref}"));
    names.iter().find_map(|name| find(&format!("{name}^{{}}")).or_else(|| find(name)))
}

/// A remote that is a directory of this host is served by another git process, which takes `safe.directory` from a
/// configuration file only. This is that file; it exists as long as the fetch.
struct Trust(Option<NamedTempFile>);

impl Trust {
    fn of(remote: &Remote) -> Result<Self, GitError> {
        let path = remote.as_str().strip_prefix("file://").unwrap_or(remote.as_str());
        if !Path::new(path).is_dir() {
            return Ok(Self(None));
        }
        let io = |error: std::io::Error| fsx::Error::of("create a file in", &std::env::temp_dir())(error);
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
    fn a_short_name_is_the_ref_that_git_would_use() {
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
