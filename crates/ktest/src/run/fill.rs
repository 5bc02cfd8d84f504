//! What a guest writes on this machine, and the end of its VM when that is too much.
//!
//! A guest has root and its output folder: how much is in there is looked at from outside, twice a second, and QEMU writes no
//! more than [`vm::machine::SHARE_BPS`] a second there, so that what is written beyond the cap between two looks is bounded.
//! Its disks cannot grow beyond the size they were made with.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::statvfs;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;
use vm::session::SessionInput;
use walkdir::WalkDir;

/// How often a guest is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A guest may make so many files.
const FILES: usize = 100_000;
/// With less room than this a guest's writes may fail for want of it, in bytes: no verdict of such a run can be believed.
pub(super) const LEAST_FREE: u64 = 64 << 20;
/// What the run itself writes is never longer, in bytes.
const OWN: u64 = 64 << 20;

/// What was there before the first VM, and how much may be added to it.
#[derive(Debug, Clone)]
pub(super) struct Cap {
    out: PathBuf,
    before: BTreeMap<PathBuf, u64>,
    bytes: u64,
    /// The name of the test file in the output folder.
    test: String,
}

impl Cap {
    /// `out` may grow by so many bytes from now on.
    pub(super) fn new(out: &Path, bytes: u64, test: String) -> Self {
        let before = entries(out).take(FILES).collect();
        Self { out: out.into(), before, bytes, test }
    }

    /// Why the guest must end: what is in the folder, and in the log of its serial line, is more than it may be.
    pub(super) fn exceeded(&self, serial: &Path) -> Option<String> {
        let mut bytes = std::fs::metadata(serial).map_or(0, |meta| meta.blocks() * 512);
        let mut files = 0;
        for (path, size) in entries(&self.out) {
            let before = self.before.get(&path);
            files += usize::from(before.is_none());
            bytes += size.saturating_sub(before.copied().unwrap_or_default());
            if bytes > self.bytes {
                let most = self.bytes >> 20;
                return Some(format!(
                    "it wrote more than {most} MiB into its output folder or its serial line (--max-output)"
                ));
            }
            if files > FILES {
                return Some(format!("it made more than {FILES} files in its output folder"));
            }
        }
        None
    }

    /// Removes what the guest wrote, after it wrote too much: all that was not there before and is not the run's own.
    pub(super) fn clear(&self) {
        for entry in WalkDir::new(&self.out).min_depth(1).contents_first(true).into_iter().flatten() {
            let path = entry.path();
            if entry.file_type().is_dir() {
                // One that is not empty stays.
                if !self.before.contains_key(path) {
                    let _ = std::fs::remove_dir(path);
                }
                continue;
            }
            let size = entry.metadata().map_or(0, |meta| meta.blocks() * 512);
            let kept = match self.before.get(path) {
                Some(before) => size <= before + OWN,
                None => size <= OWN && self.own(path),
            };
            if !kept && let Err(error) = std::fs::remove_file(path) {
                tracing::warn!("{}: {error}", path.display());
            }
        }
    }

    /// Whether the run itself writes a file of that name.
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

    /// Looks at the guest until it is aborted; says by `to` when it is to be ended.
    pub(super) fn watch(&self, workplace: &Path, to: UnboundedSender<SessionInput>) -> JoinHandle<()> {
        let (cap, serial, workplace) = (self.clone(), workplace.join("serial"), workplace.to_path_buf());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                let (again, serial, workplace) = (cap.clone(), serial.clone(), workplace.clone());
                let look = move || {
                    let room = [&again.out, &workplace].into_iter().find_map(|dir| no_room(dir));
                    let full = || again.exceeded(&serial).map(SessionInput::GiveUp);
                    room.map(SessionInput::InfrastructureError).or_else(full)
                };
                match tokio::task::spawn_blocking(look).await {
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

/// What is wrong with the file system of a folder: too little room.
pub(super) fn no_room(dir: &Path) -> Option<String> {
    let stat = statvfs(dir).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    (free < LEAST_FREE).then(|| {
        format!("{}: No space left on device but {} MiB; make room there", dir.display(), free >> 20)
    })
}

/// All below a folder, and how much room each takes, in bytes.
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
    fn what_is_added_counts_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path();
        write(&out.join("old/core"), 3 << 20);
        let cap = Cap::new(out, 1 << 20, "t.a".into());
        let serial = out.join("no-serial");
        assert_eq!(cap.exceeded(&serial), None);
        write(&out.join("out/t.a"), 1000);
        write(&out.join("out/t.a.x/log"), 1000);
        write(&out.join("out/t.a.x/crash"), 1000);
        write(&out.join("out/t.a.x/core"), 1000);
        std::fs::File::create(out.join("sparse")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(cap.exceeded(&serial), None);
        write(&out.join("gcov.0/deep/big"), 2 << 20);
        assert!(cap.exceeded(&serial).unwrap().contains("more than 1 MiB"));
        cap.clear();
        assert_eq!(cap.exceeded(&serial), None);
        let mut left: Vec<_> =
            entries(out).map(|(path, _)| path.strip_prefix(out).unwrap().to_path_buf()).collect();
        left.sort();
        let expected = ["old", "old/core", "out", "out/t.a", "out/t.a.x", "out/t.a.x/crash", "out/t.a.x/log"];
        assert_eq!(left, expected.map(PathBuf::from));
        // The serial line counts too.
        write(&dir.path().join("old/serial"), 2 << 20);
        assert!(cap.exceeded(&dir.path().join("old/serial")).is_some());
    }

    #[test]
    fn a_file_that_was_there_cannot_grow_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let core = dir.path().join("core");
        write(&core, 1 << 10);
        let cap = Cap::new(dir.path(), 1 << 20, "t".into());
        write(&core, (OWN as usize) + (2 << 20));
        assert!(cap.exceeded(Path::new("/nowhere")).is_some());
        cap.clear();
        assert!(!core.exists());
    }
}
