//! Clones a repository that a test file requests. The URL is untrusted: no file of this host, no ssh key and no
//! credentials are used.

use std::path::Path;
use std::time::{Duration, Instant};

use model::Remote;
use spawn::{Cmd, Limits, Output};

use crate::checkout::checkout_error;
use crate::command::{error_message, git, git_alone};
use crate::error::GitError;
use crate::fetch::{FETCH_MEMORY, PACK};
use crate::repo::Repo;

/// The URL schemes that only access the network.
const SCHEMES: [&str; 3] = ["https", "http", "git"];

/// Checks that [`clone_public`] accepts this remote.
pub fn is_public(remote: &Remote) -> Result<(), GitError> {
    let scheme = remote.as_str().split_once("://").map(|(scheme, _)| scheme);
    match scheme {
        Some(scheme) if SCHEMES.contains(&scheme) => Ok(()),
        _ => Err(failed(remote, "the URL does not begin with https://, http:// or git://".into())),
    }
}

fn failed(remote: &Remote, message: String) -> GitError {
    GitError::Fetch { remote: remote.as_str().to_owned(), message }
}

/// Clones the default branch of `remote`, with its work tree, to `to`, which must not exist. `time` is the limit of both. A
/// tree that is too large to be checked out, or that git refuses, is [`GitError::InvalidTree`].
pub async fn clone_public(remote: &Remote, to: &Path, time: Duration) -> Result<(), GitError> {
    is_public(remote)?;
    let begun = Instant::now();
    let cmd = git_alone()
        .env("GIT_ALLOW_PROTOCOL", SCHEMES.join(":"))
        .args(["-c", "http.followRedirects=initial", "-c", "init.defaultRefFormat=files"])
        .args(["clone", "--quiet", "--template=", "--no-recurse-submodules", "--no-checkout"])
        .args(["--single-branch", "--"])
        .args([remote.as_str().as_ref(), to.as_os_str()]);
    let output = limited(cmd, time).await?;
    if !output.exit.success() {
        return Err(failed(remote, error_message(&output)));
    }
    let repo = Repo::open(to)?;
    let commit = match repo.head() {
        Ok(head) => head.commit,
        Err(GitError::Unborn { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    repo.check_size(&commit)?;
    let cmd = git(repo.git_dir()).arg("--work-tree").arg(to).args(["read-tree", "-u", "--reset", "HEAD"]);
    let output = limited(cmd.dir(to), time.saturating_sub(begun.elapsed())).await?;
    if output.exit.success() { Ok(()) } else { Err(checkout_error(&commit, to, &output)) }
}

async fn limited(cmd: Cmd, time: Duration) -> Result<Output, GitError> {
    let cmd = cmd.memory_limit(FETCH_MEMORY).file_size_limit(PACK);
    Ok(cmd.output(Limits { time, bytes: 1 << 20 }).await?)
}
