//! Fetches a ref of a remote into a local ref, and looks up a ref of a remote.

use std::path::Path;
use std::time::{Duration, SystemTime};

use fsx::untrusted::Scratch;
use model::{CommitId, RefName, Remote};
use spawn::{Cmd, Limits};

use crate::command::{error_message, git};
use crate::error::GitError;
use crate::repo::Repo;

/// The limit of git's output in bytes, which is enough for a remote with a million refs.
const OUTPUT: usize = 256 << 20;

/// A fetch that reports no progress for this time is aborted. A server also reports progress while it counts and
/// compresses objects.
const IDLE: Duration = Duration::from_secs(120);

/// The limit of a lookup of the refs of a remote.
const LOOKUP: Duration = Duration::from_secs(60);
/// The memory for the refs of a remote, in bytes: a remote can list refs without an end.
const LOOKUP_MEMORY: u64 = 1 << 30;
/// The memory of each process of a fetch, in bytes.
pub(crate) const FETCH_MEMORY: u64 = 8 << 30;
/// The size of a pack, in bytes: a remote can send objects without an end. All of Linux takes less than 6 GiB.
pub(crate) const PACK: u64 = 32 << 30;
/// An incomplete pack that was not written to for this time belongs to no running fetch.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Overrides `remote.NAME.uploadpack`, a program that the repository's configuration can name.
const UPLOAD_PACK: &str = "--upload-pack=git-upload-pack";

/// The result of a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The commit of the local ref before the fetch; `None` if the ref did not exist.
    pub old: Option<CommitId>,
    /// The commit of the local ref now.
    pub new: CommitId,
}

impl Fetched {
    /// Whether the ref changed.
    #[must_use]
    pub fn moved(&self) -> bool {
        self.old.as_ref() != Some(&self.new)
    }
}

impl Repo {
    /// The commit of `git_ref` in the remote; `None` if the remote has no such ref. A short name is a branch, or else a
    /// tag, so that a tag with the name of a branch is not used instead of it.
    pub async fn ls_remote(
        &self,
        remote: &Remote,
        git_ref: &RefName,
        time: Duration,
    ) -> Result<Option<CommitId>, GitError> {
        Ok(self.remote_ref(remote, git_ref, time).await?.map(|(_, commit)| commit))
    }

    /// The full name and the commit of `git_ref` in the remote.
    async fn remote_ref(
        &self,
        remote: &Remote,
        git_ref: &RefName,
        time: Duration,
    ) -> Result<Option<(String, CommitId)>, GitError> {
        let trust = Trust::of(remote)?;
        let peeled = format!("{git_ref}^{{}}");
        let cmd = git(self.git_dir())
            .args(self.remote_settings())
            .args(["ls-remote", "--quiet", UPLOAD_PACK, "--"])
            .args([remote.as_str(), git_ref.as_str(), &peeled]);
        let limits = Limits { time: time.min(LOOKUP), bytes: OUTPUT };
        let output = trust.add(cmd).memory_limit(LOOKUP_MEMORY).output(limits).await?;
        if !output.exit.success() {
            return Err(self.failed(remote, git_ref, &output));
        }
        Ok(choose(&output.text(), git_ref.as_str()))
    }

    /// Sets the local ref `into` to the commit of `git_ref` in the remote, also after a force-push. Fetches no tags and
    /// no other refs. `into` must be a full name below `refs/` and not the branch of a checkout.
    pub async fn fetch(
        &self,
        remote: &Remote,
        git_ref: &RefName,
        into: &RefName,
        time: Duration,
    ) -> Result<Fetched, GitError> {
        let old = self.resolve(into.as_str()).ok();
        // git prefers a tag to a branch with the same name, so it is given the full name.
        let full = if git_ref.as_str().starts_with("refs/") {
            None
        } else {
            self.remote_ref(remote, git_ref, time).await?.map(|(full, _)| full)
        };
        let source = full.as_deref().unwrap_or(git_ref.as_str());
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
            .arg(format!("+{source}:{into}"));
        tracing::debug!(%cmd, "fetch");
        let cmd = trust.add(cmd).memory_limit(FETCH_MEMORY).file_size_limit(PACK);
        let output = cmd.output_with_progress(Limits { time, bytes: OUTPUT }, IDLE).await;
        if output.as_ref().map_or(true, |output| !output.exit.success()) {
            self.remove_abandoned_packs(ABANDONED);
        }
        let output = output?;
        if !output.exit.success() {
            return Err(self.failed(remote, git_ref, &output));
        }
        if error_message(&output).contains("shallow roots are not allowed") {
            return Err(GitError::Shallow { remote: remote.as_str().into() });
        }
        let new = self.resolve(into.as_str()).map_err(|error| match error {
            GitError::NoSuchCommit { .. } => {
                GitError::NotACommit { remote: remote.as_str().into(), git_ref: git_ref.as_str().into() }
            }
            other => other,
        })?;
        Ok(Fetched { old, new })
    }

    /// Removes the incomplete packs of fetches that were killed: nothing else does, because git's maintenance is off.
    fn remove_abandoned_packs(&self, age: Duration) {
        let dir = self.git_dir().join("objects/pack");
        for entry in fsx::own::list(&dir).unwrap_or_default() {
            let is_incomplete = entry.path.file_name().is_some_and(|name| {
                name.as_encoded_bytes().starts_with(b"tmp_pack_")
                    || name.as_encoded_bytes().starts_with(b"tmp_idx_")
            });
            let idle = || {
                let modified = fsx::own::metadata(&entry.path).ok()?.modified().ok()?;
                SystemTime::now().duration_since(modified).ok()
            };
            if is_incomplete
                && idle().is_some_and(|idle| idle >= age)
                && let Err(error) = fsx::own::remove_file(&entry.path)
            {
                tracing::warn!("{error}");
            }
        }
    }

    fn failed(&self, remote: &Remote, git_ref: &RefName, output: &spawn::Output) -> GitError {
        let message = error_message(output);
        let remote = remote.as_str().to_owned();
        if message.contains("couldn't find remote ref") {
            return GitError::NoSuchRef { remote, git_ref: git_ref.as_str().into() };
        }
        if message.contains("mismatched algorithms") {
            return GitError::ObjectFormat { remote, repo: self.path().into() };
        }
        GitError::Fetch { remote, message }
    }
}

/// The full name and the commit of a ref in the output of `git ls-remote`.
fn choose(listing: &str, git_ref: &str) -> Option<(String, CommitId)> {
    let find = |name: &str| {
        let line = listing.lines().find(|line| line.split_once('\t').is_some_and(|(_, other)| other == name));
        line.and_then(|line| line.split_once('\t')?.0.parse().ok())
    };
    let full = git_ref.starts_with("refs/") || git_ref == "HEAD";
    let prefixes: &[&str] = if full { &[""] } else { &["refs/heads/", "refs/tags/", "refs/"] };
    let names = prefixes.iter().map(|prefix| format!("{prefix}{git_ref}"));
    names.into_iter().find_map(|name| {
        let commit = find(&format!("{name}^{{}}")).or_else(|| find(&name))?;
        Some((name, commit))
    })
}

/// The name of the file of [`Trust`].
const TRUST: &str = "config";

/// If the remote is a directory of this host, another git process serves it, which reads `safe.directory` only from a
/// configuration file. This is that file; it exists during the fetch.
struct Trust(Option<Scratch>);

impl Trust {
    fn of(remote: &Remote) -> Result<Self, GitError> {
        let path = remote.as_str().strip_prefix("file://").unwrap_or(remote.as_str());
        if !Path::new(path).is_dir() {
            return Ok(Self(None));
        }
        let io =
            |error: std::io::Error| fsx::Error::of("create a directory in", &std::env::temp_dir())(error);
        let dir = Scratch::temporary().map_err(io)?;
        fsx::own::write(&dir.path().join(TRUST), "[safe]\n\tdirectory = *\n")?;
        Ok(Self(Some(dir)))
    }

    fn add(&self, cmd: Cmd) -> Cmd {
        match &self.0 {
            Some(dir) => cmd.env("GIT_CONFIG_GLOBAL", dir.path().join(TRUST)),
            None => cmd,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_is_a_branch_before_it_is_a_tag() {
        let id = |digit: &str| digit.repeat(40);
        let listing = format!(
            "{}\trefs/heads/x/next\n{}\trefs/heads/next\n{}\trefs/tags/v1\n{}\trefs/tags/v1^{{}}\n{}\trefs/tags/next\n",
            id("1"),
            id("2"),
            id("3"),
            id("4"),
            id("5")
        );
        let chosen = |name| choose(&listing, name).map(|(_, id)| id.as_str()[..1].to_owned());
        assert_eq!(chosen("next").as_deref(), Some("2"));
        assert_eq!(chosen("refs/heads/x/next").as_deref(), Some("1"));
        assert_eq!(chosen("v1").as_deref(), Some("4"));
        assert_eq!(chosen("refs/tags/next").as_deref(), Some("5"));
        assert_eq!(chosen("v2"), None);
    }
}
