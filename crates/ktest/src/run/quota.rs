//! The quota of a guest: how much it may add to its directory. The VM is stopped when it exceeds the quota.
//!
//! The directory is measured on the host twice a second. QEMU limits the guest to [`vm::machine::SHARE_BPS`] bytes per
//! second, so the excess between two measurements is bounded. The guest's disks have a fixed size.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fsx::untrusted::Dir;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;
use vm::session::SessionInput;
use walkdir::WalkDir;

/// The time between two measurements.
const INTERVAL: Duration = Duration::from_millis(500);
/// The maximum number of new files.
const MAX_FILES: usize = 100_000;
/// If less space is free, in bytes, writes can fail with ENOSPC, and no verdict of such a run is reliable.
pub(super) const LEAST_FREE: u64 = 64 << 20;
/// The maximum growth of an existing file that is kept, in bytes.
const GROWTH: u64 = 64 << 20;

/// The content of the guest's directory before the first VM, and how much may be added.
#[derive(Debug, Clone)]
pub(super) struct Quota {
    files: PathBuf,
    before: BTreeMap<PathBuf, u64>,
    bytes: u64,
}

impl Quota {
    /// Allows `files` to grow by `bytes` from now on.
    pub(super) fn new(files: &Path, bytes: u64) -> Self {
        let before = entries(files).take(MAX_FILES).collect();
        Self { files: files.into(), before, bytes }
    }

    /// Why the guest must be stopped: the total size of its directory and the serial log exceeds the quota.
    pub(super) fn exceeded(&self, serial: &Path) -> Option<String> {
        let mut bytes = fsx::own::metadata(serial).map_or(0, |meta| meta.blocks() * 512);
        let mut files = 0;
        for (path, size) in entries(&self.files) {
            let before = self.before.get(&path);
            files += usize::from(before.is_none());
            bytes += size.saturating_sub(before.copied().unwrap_or_default());
            if bytes > self.bytes {
                let most = self.bytes >> 20;
                return Some(format!(
                    "the test wrote more than {most} MiB to its output directory or serial line (--max-output)"
                ));
            }
            if files > MAX_FILES {
                return Some(format!("the test created more than {MAX_FILES} files in its output directory"));
            }
        }
        None
    }

    /// Removes the guest's files after it exceeded the quota: all new files, and existing ones that grew by more than
    /// [`GROWTH`].
    pub(super) fn clear(&self) {
        let Ok(dir) = Dir::open(&self.files) else { return };
        for entry in WalkDir::new(&self.files).min_depth(1).contents_first(true).into_iter().flatten() {
            let path = entry.path();
            let before = self.before.get(path);
            if entry.file_type().is_dir() {
                // A directory that is not empty remains.
                if before.is_none() {
                    let _ = fsx::own::remove_dir(path);
                }
                continue;
            }
            let size = entry.metadata().map_or(0, |meta| meta.blocks() * 512);
            let kept = before.is_some_and(|before| size <= before + GROWTH);
            if !kept && let Err(error) = dir.remove_file(path.strip_prefix(&self.files).unwrap_or(path)) {
                tracing::warn!("{error}");
            }
        }
    }

    /// Measures until the task is aborted, and stops the guest through `to`.
    pub(super) fn watch(&self, vm_dir: &Path, to: UnboundedSender<SessionInput>) -> JoinHandle<()> {
        let (quota, serial, vm_dir) = (self.clone(), vm_dir.join("serial"), vm_dir.to_path_buf());
        measure_every(INTERVAL, to, move || {
            let room = [&quota.files, &vm_dir].into_iter().find_map(|dir| disk_full(dir));
            let full = || quota.exceeded(&serial).map(SessionInput::GiveUp);
            room.map(SessionInput::InfrastructureError).or_else(full)
        })
    }
}

/// Measures regularly until the task is aborted or `measure` has an input, which stops the guest.
pub(super) fn measure_every(
    interval: Duration,
    to: UnboundedSender<SessionInput>,
    measure: impl Fn() -> Option<SessionInput> + Send + Sync + 'static,
) -> JoinHandle<()> {
    let measure = Arc::new(measure);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(interval).await;
            let measure = Arc::clone(&measure);
            match tokio::task::spawn_blocking(move || measure()).await {
                Ok(None) => {}
                Ok(Some(input)) => {
                    let _ = to.send(input);
                    return;
                }
                Err(_) => return,
            }
        }
    })
}

/// The error if the file system of `dir` is almost full.
pub(super) fn disk_full(dir: &Path) -> Option<String> {
    let free = fsx::own::free_bytes(dir).ok()?;
    (free < LEAST_FREE).then(|| {
        format!(
            "{}: No space left on device (only {} MiB are free); free some space",
            dir.display(),
            free >> 20
        )
    })
}

/// Everything below a directory, with the allocated bytes.
pub(super) fn entries(dir: &Path) -> impl Iterator<Item = (PathBuf, u64)> {
    WalkDir::new(dir).min_depth(1).into_iter().flatten().map(|entry| {
        let bytes = entry.metadata().map_or(0, |meta| meta.blocks() * 512);
        (entry.into_path(), bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, size: usize) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, vec![1; size]).unwrap();
    }

    #[test]
    fn new_files_count_and_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path();
        write(&out.join("old/core"), 3 << 20);
        let quota = Quota::new(out, 1 << 20);
        let serial = out.join("no-serial");
        assert_eq!(quota.exceeded(&serial), None);
        write(&out.join("core"), 1000);
        std::fs::File::create(out.join("sparse")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(quota.exceeded(&serial), None);
        write(&out.join("gcov.0/deep/big"), 2 << 20);
        assert!(quota.exceeded(&serial).unwrap().contains("more than 1 MiB"));
        quota.clear();
        assert_eq!(quota.exceeded(&serial), None);
        let mut left: Vec<_> =
            entries(out).map(|(path, _)| path.strip_prefix(out).unwrap().to_path_buf()).collect();
        left.sort();
        assert_eq!(left, ["old", "old/core"].map(PathBuf::from));
        // The serial log counts too.
        write(&dir.path().join("old/serial"), 2 << 20);
        assert!(quota.exceeded(&dir.path().join("old/serial")).is_some());
    }

    #[test]
    fn an_old_file_cannot_grow_without_limit() {
        let dir = tempfile::tempdir().unwrap();
        let core = dir.path().join("core");
        write(&core, 1 << 10);
        let quota = Quota::new(dir.path(), 1 << 20);
        write(&core, (GROWTH as usize) + (2 << 20));
        assert!(quota.exceeded(Path::new("/nowhere")).is_some());
        quota.clear();
        assert!(!core.exists());
    }
}
