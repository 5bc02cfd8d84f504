//! Signatures, verified by gpgv against the keyring of the operator.

use std::path::Path;

use fsx::own;
use spawn::{Cmd, Limits};

use crate::error::RepoError;

/// Verifies the detached signature of a file.
pub(crate) async fn verify(key: &Path, signature: &Path, file: &Path, url: &str) -> Result<(), RepoError> {
    let start = own::read(key, 1 << 20)?;
    if start.starts_with(b"-----BEGIN") {
        return Err(RepoError::Keyring(key.into()));
    }
    let program = debian::programs::find_program("gpgv")
        .ok_or(RepoError::Missing { program: "gpgv", package: "gpgv" })?;
    let cmd = Cmd::new(program).arg("--keyring").args([key, signature, file]).env("LC_ALL", "C");
    let output = cmd.output(Limits::seconds(300)).await?;
    if output.exit.success() {
        return Ok(());
    }
    Err(RepoError::Signature { url: url.into(), key: key.into(), cause: output.error_line() })
}
