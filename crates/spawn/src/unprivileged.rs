//! A user without rights for programs that give files of the host to others, such as bwrap, if this process is root.
//!
//! The child shows files of the host to untrusted programs under their own paths only if it can reach them. As another user
//! it cannot: they are in directories of root. So this process opens each of them as a mount of its own, and the child
//! finds them in [`STAGE`], in its own mount namespace. The mounts are mapped: the files of root belong to the user of the
//! child there, and the files that it creates belong to root on the host. Nothing has to change its owner.

use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::ptr::null;
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

/// The users of children: the id of this process is added. systemd reserves no ids from here to [`LAST_USER`].
const FIRST_USER: u32 = 0x7000_0000;
const LAST_USER: u32 = 0x7ff0_0000;

/// The directory in which the child finds the mounts. Each system has it, and bwrap replaces it.
const STAGE: &str = "/tmp";
const STAGE_PATH: &CStr = c"/tmp";
/// The options of the file system there, which contains only empty files and directories.
const STAGE_OPTIONS: &CStr = c"mode=755,size=1m";

/// The type of the file system of pipes without a name, `PIPEFS_MAGIC`.
const PIPES: libc::__fsword_t = 0x5049_5045;

/// How long a directory may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// How the child shows a file, directory or device of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Its programs can read it.
    ReadOnly,
    /// Its programs can change it.
    Writable,
    /// Its programs can use this device.
    Device,
}

/// An argument that is the path of a file of the host.
#[derive(Debug, Clone)]
pub(crate) struct SharedArg {
    /// The index among the arguments.
    pub at: usize,
    pub path: PathBuf,
    pub access: Access,
}

/// The user of the children of this process.
#[derive(Debug)]
struct User {
    id: u32,
    /// A user namespace in which this user is root.
    root: OwnedFd,
}

/// What a child gets: the user, and the files under other names.
#[derive(Debug)]
pub(crate) struct Stage {
    user: u32,
    files: Vec<Staged>,
}

#[derive(Debug)]
struct Staged {
    /// The index of the argument.
    at: usize,
    name: CString,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Mount { tree: OwnedFd, is_dir: bool },
    Device { mode: libc::mode_t, number: libc::dev_t },
}

impl Stage {
    /// Opens the files. `None` if this process is not root, or is root only in a user namespace: then it has no other user.
    pub fn open(shared: &[SharedArg]) -> io::Result<Option<Self>> {
        static USER: OnceLock<User> = OnceLock::new();
        if !rustix::process::geteuid().is_root() || !has_all_users() {
            return Ok(None);
        }
        let user = match USER.get() {
            Some(user) => user,
            None => {
                let user = User::new()?;
                USER.get_or_init(|| user)
            }
        };
        let (answer, files) = mpsc::sync_channel(1);
        let wanted = shared.to_vec();
        // A network file system may not answer.
        std::thread::Builder::new().spawn(move || {
            let files = wanted.iter().enumerate().map(|(number, arg)| user.stage(number, arg));
            let _ = answer.send(files.collect::<io::Result<Vec<_>>>());
        })?;
        let files = files.recv_timeout(ANSWER).map_err(|_| {
            io::Error::new(
                io::ErrorKind::TimedOut,
                "a file for the sandbox is on a file system that does not answer",
            )
        })??;
        Ok(Some(Self { user: user.id, files }))
    }

    /// The paths of the files, each with the index of its argument.
    pub fn paths(&self) -> impl Iterator<Item = (usize, OsString)> {
        self.files.iter().map(|file| (file.at, std::ffi::OsStr::from_bytes(file.name.to_bytes()).to_owned()))
    }

    /// Makes the calling process that user, in a mount namespace with the files. Only system calls: it runs between fork
    /// and exec.
    pub fn enter(&self) -> io::Result<()> {
        let id = self.user;
        // SAFETY: system calls with strings and files that live as long as `self`.
        unsafe {
            check(libc::unshare(libc::CLONE_NEWNS))?;
            check(libc::mount(null(), c"/".as_ptr(), null(), libc::MS_REC | libc::MS_SLAVE, null()))?;
            let (flags, options) = (libc::MS_NOSUID | libc::MS_NOEXEC, STAGE_OPTIONS.as_ptr().cast());
            check(libc::mount(c"tmpfs".as_ptr(), STAGE_PATH.as_ptr(), c"tmpfs".as_ptr(), flags, options))?;
            for file in &self.files {
                file.attach(id)?;
            }
            check(libc::chdir(c"/".as_ptr()))?;
            for stream in libc::STDIN_FILENO..=libc::STDERR_FILENO {
                hand_over(stream, id)?;
            }
            check(libc::setgroups(0, null()))?;
            check(libc::setresgid(id, id, id))?;
            check(libc::setresuid(id, id, id))
        }
    }
}

/// Lets the user open a standard stream again, as `/dev/stderr`, if it is a pipe of root without a name.
///
/// # Safety
///
/// It may run between fork and exec.
unsafe fn hand_over(stream: RawFd, user: u32) -> io::Result<()> {
    // SAFETY: system calls that write to these structures.
    unsafe {
        let (mut data, mut system) = (std::mem::zeroed::<libc::stat>(), std::mem::zeroed::<libc::statfs>());
        if libc::fstat(stream, &raw mut data) < 0 || libc::fstatfs(stream, &raw mut system) < 0 {
            // It is closed.
            return Ok(());
        }
        if system.f_type == PIPES && data.st_uid == 0 {
            check(libc::fchown(stream, user, user))?;
        }
    }
    Ok(())
}

impl Staged {
    /// # Safety
    ///
    /// As for [`Stage::enter`].
    unsafe fn attach(&self, user: u32) -> io::Result<()> {
        let name = self.name.as_ptr();
        // SAFETY: as for `enter`.
        unsafe {
            match &self.content {
                Content::Device { mode, number } => {
                    check(libc::mknod(name, *mode, *number))?;
                    check(libc::chown(name, user, user))?;
                }
                Content::Mount { tree, is_dir } => {
                    if *is_dir {
                        check(libc::mkdir(name, 0o700))?;
                    } else {
                        check(libc::mknod(name, libc::S_IFREG | 0o600, 0))?;
                    }
                    let (from, empty) = (tree.as_raw_fd(), c"".as_ptr());
                    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH;
                    let at = libc::AT_FDCWD;
                    check_long(libc::syscall(libc::SYS_move_mount, from, empty, at, name, flags))?;
                }
            }
        }
        Ok(())
    }
}

impl User {
    fn new() -> io::Result<Self> {
        let id = FIRST_USER
            + rustix::process::getpid().as_raw_nonzero().get().unsigned_abs() % (LAST_USER - FIRST_USER);
        // The namespace exists as long as a process or a file of it. The process must not end before it is open.
        let parent = std::process::id();
        // SAFETY: like fork: the child makes system calls only.
        let child =
            unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD, 0, 0, 0, 0) };
        let child = libc::pid_t::try_from(check_long(child)?).map_err(io::Error::other)?;
        if child == 0 {
            // SAFETY: it waits until it is killed, and ends with its parent.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                while u32::try_from(libc::getppid()) == Ok(parent) {
                    libc::pause();
                }
                libc::_exit(0);
            }
        }
        let root = mapped_namespace(child, id);
        // SAFETY: the child has not been waited for.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
        Ok(Self { id, root: root? })
    }

    fn stage(&self, number: usize, arg: &SharedArg) -> io::Result<Staged> {
        let named = |error: io::Error| io::Error::other(format!("{}: {error}", arg.path.display()));
        let content = match arg.access {
            Access::Device => device(&arg.path),
            Access::ReadOnly | Access::Writable => self.tree(&arg.path, arg.access == Access::Writable),
        };
        let name = CString::new(format!("{STAGE}/{number}")).map_err(io::Error::other)?;
        Ok(Staged { at: arg.at, name, content: content.map_err(named)? })
    }

    /// A mount of this file or directory.
    fn tree(&self, path: &Path, writable: bool) -> io::Result<Content> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let recursive = libc::c_uint::try_from(libc::AT_RECURSIVE).map_err(io::Error::other)?;
        let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | recursive;
        // SAFETY: a system call that opens a file.
        let tree = unsafe {
            let tree = check_long(libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags))?;
            OwnedFd::from_raw_fd(RawFd::try_from(tree).map_err(io::Error::other)?)
        };
        match set_attributes(&tree, Some(&self.root)) {
            Err(_) if !writable => set_attributes(&tree, None)?,
            Err(error) if unsupported(&error) => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "its file system cannot map owners (idmapped mounts), which a sandbox needs if this program runs as \
                     root; run it as an ordinary user",
                ));
            }
            result => result?,
        }
        let tree = File::from(tree);
        let is_dir = tree.metadata()?.is_dir();
        Ok(Content::Mount { tree: tree.into(), is_dir })
    }
}

fn unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EPERM | libc::EOPNOTSUPP))
}

/// Separates a mount from others. With `root`, its files of root belong to the root user of this namespace.
fn set_attributes(tree: &OwnedFd, root: Option<&OwnedFd>) -> io::Result<()> {
    let fd = root.map(|root| u64::try_from(root.as_raw_fd())).transpose().map_err(io::Error::other)?;
    let attributes = libc::mount_attr {
        attr_set: if root.is_some() { libc::MOUNT_ATTR_IDMAP } else { 0 },
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: fd.unwrap_or(0),
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: a system call with a structure of this size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    check_long(result).map(drop)
}

fn device(path: &Path) -> io::Result<Content> {
    let data = std::fs::metadata(path)?;
    let kind = match data.file_type() {
        kind if kind.is_char_device() => libc::S_IFCHR,
        kind if kind.is_block_device() => libc::S_IFBLK,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a device")),
    };
    Ok(Content::Device { mode: kind | 0o600, number: data.rdev() })
}

/// The user namespace of this process after its ids are mapped: its root is `id`, all others are the same.
fn mapped_namespace(process: libc::pid_t, id: u32) -> io::Result<OwnedFd> {
    let proc = PathBuf::from(format!("/proc/{process}"));
    let map = format!("0 {id} 1\n1 1 {}\n", id - 1);
    std::fs::write(proc.join("uid_map"), &map)?;
    std::fs::write(proc.join("gid_map"), &map)?;
    Ok(File::open(proc.join("ns/user"))?.into())
}

/// Whether this process is in a user namespace with all users, as the first one of the system is.
fn has_all_users() -> bool {
    let all = |file| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.split_whitespace().eq(["0", "0", "4294967295"])
    };
    all("/proc/self/uid_map") && all("/proc/self/gid_map")
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn check_long(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
