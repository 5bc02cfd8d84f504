//! Opens a path below a directory handle without following symbolic links: with `openat2`, or component by component if
//! the kernel has no `openat2`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;

use super::Problem;

/// `openat2` fails with `EAGAIN` while other processes rename directories; a retry may succeed.
const ATTEMPTS: u32 = 8;

/// How paths are resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolver {
    /// By `openat2`.
    Kernel,
    /// By component.
    Components,
}

/// The components of a relative path; `None` if the path is absolute or contains "..". The path "." has no components.
pub(super) fn names(relative: &Path) -> Option<Vec<&OsStr>> {
    relative
        .components()
        .filter(|component| !matches!(component, Component::CurDir))
        .map(|component| match component {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect()
}

impl Resolver {
    /// Probes the kernel. The system call filter of a container may return `EPERM` for a call that it does not list.
    pub(super) fn of_this_kernel() -> Self {
        static RESOLVER: OnceLock<Resolver> = OnceLock::new();
        *RESOLVER.get_or_init(|| match by_kernel(CWD, &[], OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOSYS | Errno::PERM) => Self::Components,
            _ => Self::Kernel,
        })
    }

    /// Opens `names` below `dir`. A symbolic link as the last component gives `ELOOP`; with `O_PATH` the link itself is
    /// opened.
    pub(super) fn open(
        self,
        dir: BorrowedFd<'_>,
        names: &[&OsStr],
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match self {
            Self::Kernel => by_kernel(dir, names, flags, mode),
            Self::Components => by_components(dir, names, flags, mode),
        }
    }
}

/// Opens `names` below `dir` and follows symbolic links that stay below it. Without `openat2`, no link is followed.
pub(super) fn follow_below(
    resolver: Resolver,
    dir: BorrowedFd<'_>,
    names: &[&OsStr],
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    match resolver {
        Resolver::Kernel => {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
            by_openat2(dir, names, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
        }
        Resolver::Components => resolver.open(dir, names, flags, Mode::empty()),
    }
}

/// Opens one entry of `dir` without following a symbolic link. An entry on which something is mounted gives `EXDEV`;
/// without `openat2`, only if it is another file system.
pub(super) fn open_on_mount(dir: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW;
    match Resolver::of_this_kernel() {
        Resolver::Kernel => by_openat2(dir, &[name], flags, Mode::empty(), ResolveFlags::NO_XDEV),
        Resolver::Components => {
            let fd = openat(dir, name, flags, Mode::empty())?;
            if fstat(&fd)?.st_dev == fstat(dir)?.st_dev { Ok(fd) } else { Err(Errno::XDEV) }
        }
    }
}

/// Why `names` below `dir` cannot be opened, if untrusted code is the cause: a component is a link or a file instead of
/// a directory, or the last one is a link. `None` if the error is one of the system.
pub(super) fn problem_on_the_way(dir: BorrowedFd<'_>, names: &[&OsStr], flags: OFlags) -> Option<Problem> {
    let writes = flags.intersects(OFlags::WRONLY | OFlags::RDWR);
    let wants_dir = flags.contains(OFlags::DIRECTORY);
    let mut current: Option<OwnedFd> = None;
    for (at, name) in names.iter().enumerate() {
        let from = current.as_ref().map_or(dir, AsFd::as_fd);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let next = openat(from, *name, flags, Mode::empty()).ok()?;
        let is_last = at + 1 == names.len();
        match FileType::from_raw_mode(fstat(&next).ok()?.st_mode) {
            FileType::Symlink if is_last => return Some(Problem::SymbolicLink),
            FileType::Symlink => return Some(Problem::BelowSymbolicLink),
            FileType::Directory if is_last => return writes.then_some(Problem::Directory),
            FileType::Directory => current = Some(next),
            _ if is_last => return wants_dir.then_some(Problem::NotADirectory),
            _ => return Some(Problem::NotADirectory),
        }
    }
    None
}

/// Whether `names` below `dir` cannot be used because the owner of an entry lacks a permission, which untrusted code can
/// remove. Root needs no permissions.
pub(super) fn lacks_permission(dir: BorrowedFd<'_>, names: &[&OsStr]) -> bool {
    let lacks = |fd: BorrowedFd<'_>| {
        fstat(fd).is_ok_and(|stat| {
            let is_dir = FileType::from_raw_mode(stat.st_mode).is_dir();
            !Mode::from_raw_mode(stat.st_mode).contains(if is_dir { Mode::RWXU } else { Mode::RUSR })
        })
    };
    let mut current: Option<OwnedFd> = None;
    for name in names {
        let from = current.as_ref().map_or(dir, AsFd::as_fd);
        if lacks(from) {
            return true;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(next) = openat(from, *name, flags, Mode::empty()) else { return false };
        current = Some(next);
    }
    lacks(current.as_ref().map_or(dir, AsFd::as_fd))
}

fn by_kernel(dir: BorrowedFd<'_>, names: &[&OsStr], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    by_openat2(dir, names, flags, mode, resolve)
}

fn by_openat2(
    dir: BorrowedFd<'_>,
    names: &[&OsStr],
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let path: PathBuf = if names.is_empty() { ".".into() } else { names.iter().collect() };
    let mut attempts = 0;
    loop {
        attempts += 1;
        match openat2(dir, &path, flags, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) if attempts < ATTEMPTS => {}
            result => return result,
        }
    }
}

fn by_components(dir: BorrowedFd<'_>, names: &[&OsStr], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let Some((last, above)) = names.split_last() else {
        return openat(dir, ".", flags, mode);
    };
    let mut current: Option<OwnedFd> = None;
    for name in above {
        let from = current.as_ref().map_or(dir, AsFd::as_fd);
        let next = openat(from, *name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        match FileType::from_raw_mode(fstat(&next)?.st_mode) {
            FileType::Directory => current = Some(next),
            FileType::Symlink => return Err(Errno::LOOP),
            _ => return Err(Errno::NOTDIR),
        }
    }
    openat(current.as_ref().map_or(dir, AsFd::as_fd), *last, flags, mode)
}
