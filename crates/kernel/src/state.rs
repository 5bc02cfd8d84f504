//! The state of an object directory. A branch's Makefile can write to the object directory, so this state is stored
//! next to it, where a sandboxed build can at most read it.
//!
//! Invariant: after a build ended in any way, make finds consistent objects. The objects of an interrupted build are
//! removed.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fsx::own;
use fsx::untrusted::{Dir, EntryType, TreeLimits, UntrustedError};

/// The maximum size of a `.config` and of other text files that a build leaves.
pub(crate) const CONFIG_BYTES: u64 = 4 << 20;
/// The limits of an object directory: an allyesconfig build has 200,000 files.
pub(crate) const OBJECT_LIMITS: TreeLimits = TreeLimits { entries: 2_000_000, bytes: 64 << 30, depth: 64 };

/// The state of one object directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectState {
    dir: PathBuf,
}

impl ObjectState {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The directory of the state.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The options that Kconfig reads: the base and the fragment.
    pub(crate) fn fragment(&self) -> PathBuf {
        self.dir.join(FRAGMENT)
    }

    /// The file that identifies the last complete configuration.
    pub(crate) fn config_stamp(&self) -> PathBuf {
        self.dir.join("configured")
    }

    /// The source files that the builds read, as of its modification time.
    pub(crate) fn closure(&self) -> PathBuf {
        self.dir.join(crate::closure::LIST)
    }

    /// Exists if all objects have been built once; its modification time is that of the last time.
    fn complete(&self) -> PathBuf {
        self.dir.join("complete")
    }

    /// Exists while make runs in the object directory.
    fn running(&self) -> PathBuf {
        self.dir.join("running")
    }

    pub(crate) fn set_complete(&self) -> Result<(), fsx::Error> {
        own::write(&self.complete(), "")
    }

    /// The time when all objects were last built; `None` if they never were.
    pub(crate) fn completed(&self) -> Option<SystemTime> {
        own::metadata(&self.complete()).ok()?.modified().ok()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running().exists()
    }

    /// Deletes the state: the object directory is new.
    pub(crate) fn clear(&self) -> Result<(), fsx::Error> {
        for path in [self.fragment(), self.config_stamp(), self.complete(), self.running(), self.closure()] {
            own::remove_file(&path)?;
        }
        Ok(())
    }

    /// Marks the object directory as being built, after repairing what an interrupted build left. Blocks on disk I/O.
    pub(crate) fn begin(&self, objects: &Dir) -> Result<(), BeginError> {
        let started = own::metadata(&self.running()).ok().and_then(|meta| meta.modified().ok());
        if let Some(started) = started {
            let removed = remove_since(objects, started)?;
            tracing::info!(objects = %objects.path().display(), removed, "repaired an interrupted build");
        }
        Ok(own::write(&self.running(), "")?)
    }

    /// Marks the build as ended: make exited by itself, so every object is complete or was deleted by make.
    pub(crate) fn end(&self) {
        if let Err(error) = own::remove_file(&self.running()) {
            // The next build then repairs the directory unnecessarily.
            tracing::warn!("{error}");
        }
    }
}

/// The name of [`ObjectState::fragment`].
pub(crate) const FRAGMENT: &str = "fragment";

/// Why an object directory cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BeginError {
    #[error(transparent)]
    State(#[from] fsx::Error),
    #[error(transparent)]
    Objects(#[from] UntrustedError),
}

/// Removes the files that were written since then, because a killed compiler leaves a partial object that looks new.
/// The files of Kconfig are kept: they are written by rename, and make uses their modification times to detect which
/// options changed.
fn remove_since(objects: &Dir, since: SystemTime) -> Result<usize, UntrustedError> {
    let mut removed = 0;
    for (path, entry_type) in objects.walk(".", OBJECT_LIMITS)? {
        let top_level = path.parent().is_none_or(|parent| parent.as_os_str().is_empty());
        let config = top_level && path.to_string_lossy().starts_with(".config");
        if entry_type != EntryType::File || config || path.starts_with("include/config") {
            continue;
        }
        let new = objects.metadata(&path)?.is_none_or(|meta| meta.modified >= since);
        if new && objects.remove_file(&path)? {
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_interrupted_build_leaves_no_partial_objects() {
        let dir = tempfile::tempdir().unwrap();
        let (obj, state) = (dir.path().join("obj"), ObjectState::new(dir.path().join("state")));
        std::fs::create_dir_all(state.dir()).unwrap();
        let put = |path: PathBuf, ago: u64| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "x").unwrap();
            let time = SystemTime::now() - Duration::from_secs(ago);
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        put(obj.join("fs/old.o"), 100);
        put(state.running(), 50);
        put(obj.join("fs/partial.o"), 10);
        put(obj.join("include/config/NEW"), 10);
        put(obj.join(".config"), 10);
        let objects = Dir::open(&obj).unwrap();
        state.begin(&objects).unwrap();
        let exists = |name: &str| obj.join(name).exists();
        assert!(exists("fs/old.o") && !exists("fs/partial.o"));
        assert!(exists("include/config/NEW") && exists(".config") && state.is_running());
        state.end();
        assert!(!state.is_running());
        put(obj.join("fs/whole.o"), 0);
        state.begin(&objects).unwrap();
        assert!(exists("fs/whole.o"));
    }
}
