//! Clones a repository that a test file requests. The URL is untrusted: no file of this host, no ssh key and no
//! credentials are used.

use std::path::Path;
use std::time::Duration;

use model::Remote;
use spawn::Limits;

use crate::command::{error_message, git_alone};
use crate::error::GitError;
use crate::fetch::{FETCH_MEMORY, PACK};

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

/// Clones the default branch of `remote`, with its work tree, to `to`, which must not exist.
pub async fn clone_public(remote: &Remote, to: &Path, time: Duration) -> Result<(), GitError> {
    is_public(remote)?;
    let cmd = git_alone()
        .env("GIT_ALLOW_PROTOCOL", SCHEMES.join(":"))
        .args([
            "-c",
            "http.followRedirects=initial",
            "clone",
            "--quiet",
            "--template=",
            "--no-recurse-submodules",
        ])
        .args(["--single-branch", "--"])
        .args([remote.as_str().as_ref(), to.as_os_str()]);
    let cmd = cmd.memory_limit(FETCH_MEMORY).file_size_limit(PACK);
    let output = cmd.output(Limits { time, bytes: 1 << 20 }).await?;
    if output.exit.success() { Ok(()) } else { Err(failed(remote, error_message(&output))) }
}
