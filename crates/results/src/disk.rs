//! The one place where the store changes files, so that tests can stop the world at any step of it.
//!
//! Publication is: temporary file, fsync, rename, fsync of the folder. A step that fails leaves the old file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::files::is_absent;

/// One change of the disk that is about to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// A file is made, empty.
    Create(&'a Path),
    /// So many bytes are written at a file's end.
    Write(&'a Path, usize),
    /// A file or folder is made durable.
    Sync(&'a Path),
    /// All files on the file system are made durable.
    SyncAll,
    /// The first takes the name of the second.
    Rename(&'a Path, &'a Path),
    /// A file gets a second name.
    Link(&'a Path),
    /// A folder is made.
    MakeDir(&'a Path),
    /// A file or folder goes.
    Remove(&'a Path),
    /// A file is cut.
    Cut(&'a Path),
}

/// What becomes of a step.
#[derive(Debug)]
pub enum Fate {
    /// It happens.
    Happen,
    /// It does not, with this error; a write gets so many bytes done before.
    Fail(io::Error, usize),
}

/// Decides the fate of each step; tests inject crashes and full disks with it.
pub trait Hook: Send + Sync + std::fmt::Debug {
    /// The fate of this step.
    fn fate(&self, step: Step<'_>) -> Fate;
}

/// Whether a publication is to survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// Synced before and after the rename.
    Yes,
    /// Atomic only; somebody else syncs it, or it does not matter.
    No,
}

/// The disk, seen from one store.
#[derive(Debug, Clone)]
pub struct Disk {
    /// Where temporary files lie; the same file system as the results.
    scratch: PathBuf,
    next: Arc<AtomicU64>,
    hook: Option<Arc<dyn Hook>>,
}

impl Disk {
    /// The disk whose temporary files lie in `scratch`, a folder on the file system of the results.
    pub fn new(scratch: PathBuf, hook: Option<Arc<dyn Hook>>) -> Self {
        Self { scratch, next: Arc::default(), hook }
    }

    fn step(&self, step: Step<'_>) -> io::Result<()> {
        match self.hook.as_ref().map_or(Fate::Happen, |hook| hook.fate(step)) {
            Fate::Happen => Ok(()),
            Fate::Fail(error, _) => Err(error),
        }
    }

    /// Appends all of `bytes`; on failure some of them may be there.
    pub fn append(&self, file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let fate = self.hook.as_ref().map_or(Fate::Happen, |hook| hook.fate(Step::Write(path, bytes.len())));
        match fate {
            Fate::Happen => file.write_all(bytes),
            Fate::Fail(error, done) => {
                file.write_all(&bytes[..done.min(bytes.len())])?;
                Err(error)
            }
        }
    }

    /// Makes an open file's content durable.
    pub fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        self.step(Step::Sync(path))?;
        file.sync_data()
    }

    /// Cuts an open file to `len` bytes.
    pub fn cut(&self, file: &File, path: &Path, len: u64) -> io::Result<()> {
        self.step(Step::Cut(path))?;
        file.set_len(len)
    }

    /// Makes a folder's names durable.
    pub fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.step(Step::Sync(dir))?;
        File::open(dir)?.sync_all()
    }

    /// Makes everything on the results' file system durable.
    pub fn sync_all(&self, dir: &Path) -> io::Result<()> {
        self.step(Step::SyncAll)?;
        Ok(rustix::fs::syncfs(File::open(dir)?)?)
    }

    /// Makes the folder and those above it, each durable if `durable`.
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

    /// An empty file for appending, its name durable; an error if it is there.
    pub fn create(&self, path: &Path) -> io::Result<File> {
        self.step(Step::Create(path))?;
        let file = OpenOptions::new().append(true).create_new(true).open(path)?;
        if let Some(dir) = path.parent() {
            self.sync_dir(dir)?;
        }
        Ok(file)
    }

    /// Replaces `path` by a file with these bytes.
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
        self.append(&mut file, path, bytes)?;
        if durable == Durable::Yes {
            self.sync(&file, path)?;
        }
        Ok(())
    }

    /// Gives `path` another name, replacing what has it.
    pub fn rename(&self, from: &Path, to: &Path, durable: Durable) -> io::Result<()> {
        self.step(Step::Rename(from, to))?;
        std::fs::rename(from, to)?;
        match to.parent() {
            Some(dir) if durable == Durable::Yes => self.sync_dir(dir),
            _ => Ok(()),
        }
    }

    /// Replaces `to` by another name of the file `from`.
    pub fn link(&self, from: &Path, to: &Path, durable: Durable) -> io::Result<()> {
        let temporary = self.temporary();
        self.step(Step::Link(&temporary))?;
        std::fs::hard_link(from, &temporary)?;
        let result = self.rename(&temporary, to, durable);
        // Renaming one name of a file to another of the same does nothing and leaves both.
        let _ = self.remove_file(&temporary);
        result
    }

    /// Removes a file; it may be gone already.
    pub fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.step(Step::Remove(path))?;
        match std::fs::remove_file(path) {
            Err(error) if !is_absent(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes a folder and all it holds; it may be gone already.
    pub fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.step(Step::Remove(path))?;
        match std::fs::remove_dir_all(path) {
            Err(error) if !is_absent(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// A name that no other file has, on the file system of the results.
    pub fn temporary(&self) -> PathBuf {
        self.scratch.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }
}
