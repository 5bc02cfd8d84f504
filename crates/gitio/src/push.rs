//! Sends a commit to a repository on another host, and creates the repository that receives it.

use std::path::Path;
use std::time::Duration;

use model::{CommitId, RefName, Remote};
use spawn::Limits;

use crate::command::{QUICK, error_message, git, git_alone, succeeded};
use crate::error::GitError;
use crate::repo::Repo;

/// A repository that is reached over ssh.
#[derive(Debug, Clone)]
pub struct SshRemote {
    /// `[USER@]HOST:PATH`.
    pub url: Remote,
    /// The ssh command line, quoted for a shell. git appends the host and the command to it.
    pub command: String,
}

impl Repo {
    /// Sends `commit` with the objects that it needs, and sets `git_ref` of the remote to it.
    pub async fn push(
        &self,
        commit: &CommitId,
        to: &SshRemote,
        git_ref: &RefName,
        time: Duration,
    ) -> Result<(), GitError> {
        let output = git(self.git_dir())
            .env("GIT_SSH_COMMAND", &to.command)
            .args(["push", "--quiet", "--no-verify", "--"])
            .arg(to.url.as_str())
            .arg(format!("{commit}:{git_ref}"))
            .output(Limits { time, bytes: 1 << 20 })
            .await?;
        if output.exit.success() {
            return Ok(());
        }
        let (commit, remote) = (commit.short().into(), to.url.as_str().into());
        Err(GitError::Push { commit, remote, message: error_message(&output) })
    }

    /// Creates a bare repository at `path` that accepts pushes from shallow clones and never collects garbage
    /// automatically. Opens it if it exists.
    pub async fn create_mirror(path: &Path) -> Result<Self, GitError> {
        if !path.join("HEAD").is_file() {
            let init = git_alone().args(["init", "--quiet", "--bare", "--template=", "--"]).arg(path);
            succeeded("create the repository", path, init.output(QUICK).await?)?;
            for (key, value) in
                [("receive.shallowUpdate", "true"), ("receive.autogc", "false"), ("gc.auto", "0")]
            {
                let set = git(path).args(["config", key, value]);
                succeeded("configure the repository", path, set.output(QUICK).await?)?;
            }
        }
        Self::open(path)
    }
}
