//! All file system changes of the store. Tests can make any step fail.
//!
//! To publish a file: write a temporary file, fsync, rename, fsync the directory. If a step fails, the old file
//! remains.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::files::is_absent;

/// A change of the disk that is about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// An empty file is created.
    Create(&'a Path),
    /// N bytes are appended to a file.
    Write(&'a Path, usize),
    /// A file or directory is made durable.
    Sync(&'a Path),
    /// All files on the file system are made durable.
    SyncAll,
    /// The first path is renamed to the second.
    Rename(&'a Path, &'a Path),
    /// A file gets a second name.
    Link(&'a Path),
    /// A directory is created.
    MakeDir(&'a Path),
    /// A file or directory is removed.
    Remove(&'a Path),
    /// A transaction of the database is about to be made. It becomes durable with the next one that is [committed](Self::Committed).
    Commit(&'a Path),
    /// A transaction of the database has become durable, but has not been acknowledged yet.
    Committed(&'a Path),
}

/// The result of a step.
#[derive(Debug)]
pub enum StepResult {
    /// The change is made.
    Proceed,
    /// It fails with this error; a write writes N bytes before it fails.
    Fail(io::Error, usize),
}

/// Decides the result of each step. Tests use it to inject crashes and full disks.
pub trait FaultInjector: Send + Sync + std::fmt::Debug {
    /// The result of this step.
    fn result(&self, step: Step<'_>) -> StepResult;
}

/// Whether a publication must survive a power failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// Synced before and after the rename.
    Yes,
    /// Atomic only: a later sync makes it durable, or durability is not needed.
    No,
}

/// The number of bytes of a file that are synced together: the sync of a verdict waits for the device.
const CHUNK: usize = 1 << 20;

/// The file system of one store.
#[derive(Debug, Clone)]
pub struct Disk {
    /// The directory for temporary files, on the same file system as the results.
    scratch: PathBuf,
    next: Arc<AtomicU64>,
    faults: Option<Arc<dyn FaultInjector>>,
}

impl Disk {
    /// Uses `scratch`, a directory on the file system of the results, for temporary files.
    pub fn new(scratch: PathBuf, faults: Option<Arc<dyn FaultInjector>>) -> Self {
        Self { scratch, next: Arc::default(), faults }
    }

    pub(crate) fn step(&self, step: Step<'_>) -> io::Result<()> {
        match self.faults.as_ref().map_or(StepResult::Proceed, |faults| faults.result(step)) {
            StepResult::Proceed => Ok(()),
            StepResult::Fail(error, _) => Err(error),
        }
    }

    /// Appends `bytes`. If it fails, a part of them may have been written.
    pub fn append(&self, file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let result = self
            .faults
            .as_ref()
            .map_or(StepResult::Proceed, |faults| faults.result(Step::Write(path, bytes.len())));
        match result {
            StepResult::Proceed => file.write_all(bytes),
            StepResult::Fail(error, done) => {
                file.write_all(&bytes[..done.min(bytes.len())])?;
                Err(error)
            }
        }
    }

    /// Makes the content of an open file durable.
    pub fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        self.step(Step::Sync(path))?;
        file.sync_data()
    }

    /// Makes the names in a directory durable.
    pub fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.step(Step::Sync(dir))?;
        File::open(dir)?.sync_all()
    }

    /// Makes everything on the file system of the results durable.
    pub fn sync_all(&self, dir: &Path) -> io::Result<()> {
        self.step(Step::SyncAll)?;
        Ok(rustix::fs::syncfs(File::open(dir)?)?)
    }

    /// Creates a directory and its missing parents; `durable` applies to each of them.
    pub fn make_dir(&self, dir: &Path, durable: Durable) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = dir.parent();
        if let Some(parent) = parent {
            self.make_dir(parent, durable)?;
        }
        self.step(Step::MakeDir(dir))?;
        match std::fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        match parent {
            Some(parent) if durable == Durable::Yes => self.sync_dir(parent),
            _ => Ok(()),
        }
    }

    /// Replaces `path` with a file that contains these bytes.
    pub fn publish(&self, path: &Path, bytes: &[u8], durable: Durable) -> io::Result<()> {
        let temporary = self.temporary();
        let result =
            self.write(&temporary, bytes, durable).and_then(|()| self.rename(&temporary, path, durable));
        if result.is_err() {
            let _ = self.remove_file(&temporary);
        }
        result
    }

    fn write(&self, path: &Path, bytes: &[u8], durable: Durable) -> io::Result<()> {
        self.step(Step::Create(path))?;
        let mut file = File::create(path)?;
        let mut chunks = bytes.chunks(CHUNK).peekable();
        while let Some(chunk) = chunks.next() {
            self.append(&mut file, path, chunk)?;
            if durable == Durable::Yes && chunks.peek().is_some() {
                self.sync(&file, path)?;
            }
        }
        if durable == Durable::Yes { self.sync(&file, path) } else { Ok(()) }
    }

    /// Renames `from` to `to`, replacing it.
    pub fn rename(&self, from: &Path, to: &Path, durable: Durable) -> io::Result<()> {
        self.step(Step::Rename(from, to))?;
        std::fs::rename(from, to)?;
        match to.parent() {
            Some(dir) if durable == Durable::Yes => self.sync_dir(dir),
            _ => Ok(()),
        }
    }

    /// Replaces `to` with a hard link to `from`.
    pub fn link(&self, from: &Path, to: &Path, durable: Durable) -> io::Result<()> {
        let temporary = self.temporary();
        self.step(Step::Link(&temporary))?;
        std::fs::hard_link(from, &temporary)?;
        let result = self.rename(&temporary, to, durable);
        // Renaming between two links of the same file does nothing and keeps both names.
        let _ = self.remove_file(&temporary);
        result
    }

    /// Removes a file, if it exists.
    pub fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.step(Step::Remove(path))?;
        match std::fs::remove_file(path) {
            Err(error) if !is_absent(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes a directory and its content, if it exists.
    pub fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.step(Step::Remove(path))?;
        match std::fs::remove_dir_all(path) {
            Err(error) if !is_absent(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// An unused file name on the file system of the results.
    pub fn temporary(&self) -> PathBuf {
        self.scratch.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }
}
