//! Copies and removes whole trees below an untrusted directory, within limits.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, chmodat, fstat, mkdirat, renameat, unlinkat};
use rustix::io::Errno;

use super::resolve::open_on_mount;
use super::{
    Dir, Entry, EntryType, NewFile, Problem, Reason, UntrustedError, list_fd, os_name, random_name, read_dir,
};

/// Each level of a walk holds open files. Deeper trees are refused even if the limits allow them.
const MAX_DEPTH: u32 = 128;
/// From this depth on, directories to remove are moved to the top first, so that any depth needs few open files.
const REMOVE_DEPTH: u32 = 32;
/// How often a directory is listed again if other processes add entries while it is removed.
const REMOVE_PASSES: u32 = 16;

/// The limits of a walk or copy. Exceeding one is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeLimits {
    /// Total number of files, directories and other entries.
    pub entries: u64,
    /// Total bytes of all files, counted as they are read.
    pub bytes: u64,
    /// Levels of directories below the top; at most 128.
    pub depth: u32,
}

/// What a copy does with links, special files, and files with several links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// The copy ends with an error that names the entry.
    Refuse,
    /// The entry is left out.
    Skip,
}

/// The result of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// The files that were copied.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The entries that were left out.
    pub skipped: u64,
}

impl Dir {
    /// The entries below a directory that are not directories, and the directories, each with its path relative to
    /// `relative`. A directory comes before its contents. Links are listed and not followed.
    pub fn walk(
        &self,
        relative: impl AsRef<Path>,
        limits: TreeLimits,
    ) -> Result<Vec<(PathBuf, EntryType)>, UntrustedError> {
        let relative = relative.as_ref();
        let top = self.dir(relative).map_err(|error| self.error("list", relative, error.reason))?;
        let mut found = Vec::new();
        let walked = walk(&top, Path::new(""), limits, 0, &mut found);
        walked.map_err(|(path, reason)| self.error("list", &relative.join(path), reason))?;
        Ok(found)
    }

    /// Copies the tree at `relative` into `to`, which must exist and must not be below it. Files keep their contents
    /// and their permission bits, without the write permission for other users. An existing file in `to` is replaced.
    /// After an error `to` contains a part of the tree.
    pub fn copy_tree(
        &self,
        relative: impl AsRef<Path>,
        to: &Dir,
        limits: TreeLimits,
        special: Special,
    ) -> Result<Copied, UntrustedError> {
        self.copy_with(relative.as_ref(), to, Copy::new(limits, special))
    }

    /// Like [`Dir::copy_tree`]; files also keep their modification times.
    pub fn copy_tree_with_dates(
        &self,
        relative: impl AsRef<Path>,
        to: &Dir,
        limits: TreeLimits,
        special: Special,
    ) -> Result<Copied, UntrustedError> {
        self.copy_with(relative.as_ref(), to, Copy { dates: true, ..Copy::new(limits, special) })
    }

    fn copy_with(&self, relative: &Path, to: &Dir, mut copy: Copy) -> Result<Copied, UntrustedError> {
        let from = self.dir(relative).map_err(|error| self.error("copy", relative, error.reason))?;
        let result = copy.dir(&from, to, Path::new(""), 0);
        result.map_err(|(path, reason)| self.error("copy", &relative.join(path), reason))?;
        Ok(copy.copied)
    }

    /// Removes the entry at `relative`, of any type, with everything below it. Returns false if it does not exist.
    /// Links are removed and not followed; directories without permissions are made accessible first. Nothing below a
    /// mount point is removed. The time is proportional to the size of the tree. Stop the processes that write there first: a directory that keeps growing
    /// is an error.
    pub fn remove_tree(&self, relative: impl AsRef<Path>) -> Result<bool, UntrustedError> {
        let relative = relative.as_ref();
        let remove = || {
            let (parent, name) = self.parent(relative)?;
            match unlinkat(&parent, name, AtFlags::empty()) {
                Ok(()) => return Ok(()),
                Err(Errno::ISDIR) => {}
                Err(error) => return Err(Reason::from(error)),
            }
            let top = open_accessible(&parent, name)?;
            empty(&top, &top, 0)?;
            Ok(unlinkat(&parent, name, AtFlags::REMOVEDIR)?)
        };
        match remove() {
            Ok(()) => Ok(true),
            Err(Reason::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(reason) => Err(self.error("remove", relative, reason)),
        }
    }

    /// Gives the owner of this directory, who may be this program, all permissions for it.
    pub fn make_accessible(&self) -> Result<(), UntrustedError> {
        make_accessible(&self.fd).map_err(|reason| self.error("open", Path::new(""), reason))
    }

    /// Removes all entries of this directory and keeps the directory.
    pub fn clear(&self) -> Result<(), UntrustedError> {
        let clear = || {
            make_accessible(&self.fd)?;
            let top = open_accessible(&self.fd, OsStr::new("."))?;
            empty(&top, &top, 0).map(|_| ())
        };
        clear().map_err(|reason| self.error("empty", Path::new(""), reason))
    }
}

/// The path below the top at which a walk failed, and why.
type Failure = (PathBuf, Reason);

fn walk(
    dir: &Dir,
    path: &Path,
    limits: TreeLimits,
    depth: u32,
    found: &mut Vec<(PathBuf, EntryType)>,
) -> Result<(), Failure> {
    let left = limits.entries.saturating_sub(found.len() as u64);
    for Entry { name, entry_type } in entries(dir, path, limits, left, depth)? {
        let below = path.join(&name);
        found.push((below.clone(), entry_type));
        if found.len() as u64 > limits.entries {
            return Err((PathBuf::new(), Problem::MoreEntriesThan(limits.entries).into()));
        }
        if entry_type == EntryType::Directory {
            let next = dir.dir(&name).map_err(|error| (below.clone(), error.reason))?;
            walk(&next, &below, limits, depth + 1, found)?;
        }
    }
    Ok(())
}

/// The entries of one level, if the limits allow them.
fn entries(dir: &Dir, path: &Path, limits: TreeLimits, left: u64, depth: u32) -> Result<Vec<Entry>, Failure> {
    let deepest = limits.depth.min(MAX_DEPTH);
    if depth > deepest {
        return Err((path.into(), Problem::DeeperThan(deepest).into()));
    }
    list_fd(&dir.fd, left).map_err(|reason| match reason {
        Reason::Refused(Problem::MoreEntriesThan(_)) => {
            (PathBuf::new(), Problem::MoreEntriesThan(limits.entries).into())
        }
        reason => (path.into(), reason),
    })
}

struct Copy {
    limits: TreeLimits,
    special: Special,
    dates: bool,
    entries: u64,
    copied: Copied,
}

impl Copy {
    fn new(limits: TreeLimits, special: Special) -> Self {
        Self { limits, special, dates: false, entries: 0, copied: Copied::default() }
    }

    fn dir(&mut self, from: &Dir, to: &Dir, path: &Path, depth: u32) -> Result<(), Failure> {
        let left = self.limits.entries.saturating_sub(self.entries);
        let entries = entries(from, path, self.limits, left, depth)?;
        self.entries += entries.len() as u64;
        for Entry { name, entry_type } in entries {
            let below = path.join(&name);
            let failed = |reason: Reason| (below.clone(), reason);
            if entry_type == EntryType::Directory {
                let (from, to) = self.enter(from, to, &name).map_err(failed)?;
                self.dir(&from, &to, &below, depth + 1)?;
                continue;
            }
            match from.regular(Path::new(&name)) {
                Ok(file) => self.file(file, to, &name).map_err(failed)?,
                Err(Reason::Refused(_)) if self.special == Special::Skip => self.copied.skipped += 1,
                Err(reason) => return Err(failed(reason)),
            }
        }
        Ok(())
    }

    #[expect(clippy::unused_self, reason = "one step of the copy, like its siblings")]
    fn enter(&self, from: &Dir, to: &Dir, name: &OsStr) -> Result<(Dir, Dir), Reason> {
        let from = from.dir(name).map_err(|error| error.reason)?;
        match mkdirat(&to.fd, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        Ok((from, to.dir(name).map_err(|error| error.reason)?))
    }

    fn file(&mut self, from: File, to: &Dir, name: &OsStr) -> Result<(), Reason> {
        let stat = fstat(&from)?;
        let left = self.limits.bytes.saturating_sub(self.copied.bytes);
        // A sparse file is refused before its holes are read. The bytes are counted anyway, because the size can
        // change.
        if u64::try_from(stat.st_size).is_ok_and(|size| size > left) {
            return Err(Problem::MoreBytesThan(self.limits.bytes).into());
        }
        let parent = to.open_below(Path::new("."), OFlags::PATH, Mode::empty())?;
        let mut new = NewFile::create(parent, name, to.path.join(name))?;
        let mut from = from.take(left.saturating_add(1));
        let count = std::io::copy(&mut from, &mut new.as_file())?;
        if count > left {
            return Err(Problem::MoreBytesThan(self.limits.bytes).into());
        }
        new.flush()?;
        new.set_mode(stat.st_mode)?;
        if self.dates {
            new.set_modified(&stat)?;
        }
        new.publish().map_err(|error| error.reason)?;
        self.copied.files += 1;
        self.copied.bytes += count;
        Ok(())
    }
}

/// Opens a directory for reading and gives its owner all permissions, so that entries can be removed from it.
fn open_accessible(parent: &impl AsFd, name: &OsStr) -> Result<OwnedFd, Reason> {
    let fd = match open_on_mount(parent.as_fd(), name, OFlags::PATH | OFlags::CLOEXEC) {
        // The error of removing a mount point.
        Err(Errno::XDEV) => return Err(Errno::BUSY.into()),
        fd => fd?,
    };
    make_accessible(&fd)?;
    Ok(fd)
}

fn make_accessible(fd: &OwnedFd) -> Result<(), Reason> {
    let stat = fstat(fd)?;
    if !FileType::from_raw_mode(stat.st_mode).is_dir() {
        return Err(Problem::NotADirectory.into());
    }
    if stat.st_mode & 0o700 != 0o700 {
        // A handle opened with O_PATH does not allow fchmod. If this fails, the removal fails too, with a better
        // message.
        let handle = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let _ = chmodat(CWD, handle, Mode::from_raw_mode(stat.st_mode | 0o700), AtFlags::empty());
    }
    Ok(())
}

/// Removes all entries of `dir`. Directories that are too deep are moved into `top`, where a later pass removes them.
/// Returns how many were moved.
fn empty(dir: &OwnedFd, top: &OwnedFd, depth: u32) -> Result<u64, Reason> {
    let (mut passes, mut moved) = (0, 0);
    loop {
        let moved_before = moved;
        let mut found = false;
        for entry in read_dir(dir)? {
            let entry = entry?;
            let name = os_name(entry.file_name());
            if name != "." && name != ".." {
                found = true;
                moved += remove_entry(dir, name, top, depth)?;
            }
        }
        if !found {
            return Ok(moved);
        }
        if moved == moved_before {
            passes += 1;
        }
        if passes > REMOVE_PASSES {
            return Err(Problem::KeepsGrowing.into());
        }
    }
}

/// Removes one entry of `dir` with everything below it. Returns how many directories were moved into `top` instead.
fn remove_entry(dir: &OwnedFd, name: &OsStr, top: &OwnedFd, depth: u32) -> Result<u64, Reason> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(0),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(0),
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::ACCESS) => {}
        Err(error) => return Err(error.into()),
    }
    let child = open_accessible(dir, name)?;
    if depth >= REMOVE_DEPTH {
        renameat(dir, name, top, random_name())?;
        return Ok(1);
    }
    let moved = empty(&child, top, depth + 1)?;
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        // Another process added an entry: the next pass retries.
        Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => Ok(moved),
        Err(error) => Err(error.into()),
    }
}
