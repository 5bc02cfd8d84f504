//! The quota of a guest: how much it may add to the output directory. Its VM ends when it exceeds the quota.
//!
//! The directory is measured on the host twice a second. QEMU limits the guest to [`vm::machine::SHARE_BPS`] bytes a second,
//! so the excess between two measurements is bounded. The guest's disks have a fixed size.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fsx::untrusted::Dir;
use rustix::fs::statvfs;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;
use vm::session::SessionInput;
use walkdir::WalkDir;

/// The time between two measurements.
const INTERVAL: Duration = Duration::from_millis(500);
/// The largest number of new files.
const MAX_FILES: usize = 100_000;
/// With less free space, in bytes, writes can fail with ENOSPC: no verdict of such a run is reliable.
pub(super) const LEAST_FREE: u64 = 64 << 20;
/// The size limit of a file that the run itself writes, in bytes.
const OWN_FILE: u64 = 64 << 20;

/// The content of the output directory before the first VM, and how much may be added.
#[derive(Debug, Clone)]
pub(super) struct Quota {
    out: PathBuf,
    before: BTreeMap<PathBuf, u64>,
    bytes: u64,
    /// The test file's name in the output directory.
    test: String,
}

impl Quota {
    /// Allows `out` to grow by `bytes` from now on.
    pub(super) fn new(out: &Path, bytes: u64, test: String) -> Self {
        let before = entries(out).take(MAX_FILES).collect();
        Self { out: out.into(), before, bytes, test }
    }

    /// Why the guest must end: the output directory and the serial log together exceed the quota.
    pub(super) fn exceeded(&self, serial: &Path) -> Option<String> {
        let mut bytes = fsx::own::metadata(serial).map_or(0, |meta| meta.blocks() * 512);
        let mut files = 0;
        for (path, size) in entries(&self.out) {
            let before = self.before.get(&path);
            files += usize::from(before.is_none());
            bytes += size.saturating_sub(before.copied().unwrap_or_default());
            if bytes > self.bytes {
                let most = self.bytes >> 20;
                return Some(format!(
                    "the guest wrote more than {most} MiB to its output directory or serial line (--max-output)"
                ));
            }
            if files > MAX_FILES {
                return Some(format!(
                    "the guest created more than {MAX_FILES} files in its output directory"
                ));
            }
        }
        None
    }

    /// Removes the guest's files after it exceeded the quota: all new files except those of the run itself.
    pub(super) fn clear(&self) {
        let Ok(dir) = Dir::open(&self.out) else { return };
        for entry in WalkDir::new(&self.out).min_depth(1).contents_first(true).into_iter().flatten() {
            let path = entry.path();
            if entry.file_type().is_dir() {
                // A directory that is not empty stays.
                if !self.before.contains_key(path) {
                    let _ = fsx::own::remove_dir(path);
                }
                continue;
            }
            let size = entry.metadata().map_or(0, |meta| meta.blocks() * 512);
            let kept = match self.before.get(path) {
                Some(before) => size <= before + OWN_FILE,
                None => size <= OWN_FILE && self.own(path),
            };
            if !kept && let Err(error) = dir.remove_file(path.strip_prefix(&self.out).unwrap_or(path)) {
                tracing::warn!("{error}");
            }
        }
    }

    /// Whether the run itself writes a file of this name.
    fn own(&self, path: &Path) -> bool {
        let Ok(path) = path.strip_prefix(&self.out) else { return false };
        let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
        match &parts[..] {
            [file] => matches!(&**file, ".lock" | "kernel.config"),
            [out, file] if out == "out" => {
                *file == *self.test || matches!(&**file, "qemu-command" | "build.log")
            }
            [out, dir, file] if out == "out" => {
                dir.starts_with(&self.test)
                    && matches!(&**file, "status" | "log" | "duration" | "qemu-command" | "crash")
            }
            _ => false,
        }
    }

    /// Measures until the task is aborted, and ends the guest through `to`.
    pub(super) fn watch(&self, vm_dir: &Path, to: UnboundedSender<SessionInput>) -> JoinHandle<()> {
        let (quota, serial, vm_dir) = (self.clone(), vm_dir.join("serial"), vm_dir.to_path_buf());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(INTERVAL).await;
                let (quota, serial, vm_dir) = (quota.clone(), serial.clone(), vm_dir.clone());
                let measure = move || {
                    let room = [&quota.out, &vm_dir].into_iter().find_map(|dir| disk_full(dir));
                    let full = || quota.exceeded(&serial).map(SessionInput::GiveUp);
                    room.map(SessionInput::InfrastructureError).or_else(full)
                };
                match tokio::task::spawn_blocking(measure).await {
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
}

/// The error if the file system of `dir` is almost full.
pub(super) fn disk_full(dir: &Path) -> Option<String> {
    let stat = statvfs(dir).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    (free < LEAST_FREE).then(|| {
        format!("{}: No space left on device but {} MiB; free some space", dir.display(), free >> 20)
    })
}

/// Everything below a directory, with its allocated bytes.
fn entries(dir: &Path) -> impl Iterator<Item = (PathBuf, u64)> {
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
        let quota = Quota::new(out, 1 << 20, "t.a".into());
        let serial = out.join("no-serial");
        assert_eq!(quota.exceeded(&serial), None);
        write(&out.join("out/t.a"), 1000);
        write(&out.join("out/t.a.x/log"), 1000);
        write(&out.join("out/t.a.x/crash"), 1000);
        write(&out.join("out/t.a.x/core"), 1000);
        std::fs::File::create(out.join("sparse")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(quota.exceeded(&serial), None);
        write(&out.join("gcov.0/deep/big"), 2 << 20);
        assert!(quota.exceeded(&serial).unwrap().contains("more than 1 MiB"));
        quota.clear();
        assert_eq!(quota.exceeded(&serial), None);
        let mut left: Vec<_> =
            entries(out).map(|(path, _)| path.strip_prefix(out).unwrap().to_path_buf()).collect();
        left.sort();
        let expected = ["old", "old/core", "out", "out/t.a", "out/t.a.x", "out/t.a.x/crash", "out/t.a.x/log"];
        assert_eq!(left, expected.map(PathBuf::from));
        // The serial line counts too.
        write(&dir.path().join("old/serial"), 2 << 20);
        assert!(quota.exceeded(&dir.path().join("old/serial")).is_some());
    }

    #[test]
    fn an_old_file_cannot_grow_without_limit() {
        let dir = tempfile::tempdir().unwrap();
        let core = dir.path().join("core");
        write(&core, 1 << 10);
        let quota = Quota::new(dir.path(), 1 << 20, "t".into());
        write(&core, (OWN_FILE as usize) + (2 << 20));
        assert!(quota.exceeded(Path::new("/nowhere")).is_some());
        quota.clear();
        assert!(!core.exists());
    }
}
