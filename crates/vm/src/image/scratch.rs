//! The directory in which mmdebstrap installs packages. It is in the directory of temporary files, because other users
//! (apt's, or those of a user namespace) must reach it.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use fsx::own;
use fsx::untrusted::Scratch;
use spawn::Limits;

use super::build::program;
use super::host::InstallMode;

const PREFIX: &str = ".ktest-image-";

/// Creates the directory, and removes those that killed runs of this user left.
pub(super) async fn create(mode: InstallMode) -> io::Result<Scratch> {
    create_in(&std::env::temp_dir(), mode).await
}

async fn create_in(parent: &Path, mode: InstallMode) -> io::Result<Scratch> {
    for abandoned in Scratch::abandoned(parent, PREFIX) {
        remove(abandoned, mode).await;
    }
    let scratch = Scratch::new_in(parent, PREFIX)?;
    std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o755))?;
    Ok(scratch)
}

/// Removes the directory. What mmdebstrap leaves in a user namespace belongs to the ids of this namespace. Failures are
/// ignored: the next run tries again.
pub(super) async fn remove(scratch: Scratch, mode: InstallMode) {
    let left = own::list(scratch.path()).unwrap_or_default();
    if mode == InstallMode::Unshare && !left.is_empty() {
        let paths = left.iter().map(|entry| &entry.path);
        let helper = ["--unshare-helper", "rm", "--recursive", "--force", "--one-file-system", "--"];
        let _ = program("mmdebstrap").args(helper).args(paths).output(Limits::seconds(300)).await;
    }
    drop(scratch);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_killed_build_left_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let left = parent.path().join(".ktest-image-x.tmp");
        own::create_dir_all(&left.join("mmdebstrap.1/proc")).unwrap();
        let running = create_in(parent.path(), InstallMode::Root).await.unwrap();
        assert!(!left.exists());
        let second = create_in(parent.path(), InstallMode::Root).await.unwrap();
        assert!(running.path().exists() && second.path().exists());
        remove(second, InstallMode::Root).await;
        assert_eq!(own::list(parent.path()).unwrap().len(), 1);
    }
}
