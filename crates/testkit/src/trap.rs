//! What untrusted code can create instead of a file: links, special files, directories, endless files.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

/// What is created instead of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trap {
    /// A link to the file `secret` in the outside directory.
    LinkToFile,
    /// A link to the outside directory.
    LinkToDirectory,
    /// A link to `/dev/zero`.
    LinkToDevice,
    /// A link to a missing file in the outside directory.
    DanglingLink,
    /// A FIFO without a writer.
    Fifo,
    /// A socket that nothing listens on.
    Socket,
    /// The device `/dev/zero`. Only root can create it; for other users there is no file.
    Device,
    /// A directory with a directory in it.
    Directory,
    /// A sparse file of 4 TiB.
    SparseFile,
    /// A hard link to the file `secret` in the outside directory.
    HardLink,
    /// 70 nested directories.
    DeepTree,
    /// A file without permissions.
    LockedFile,
    /// A directory with a file in it, without permissions.
    LockedDirectory,
}

impl Trap {
    /// Every trap.
    pub const ALL: [Self; 13] = [
        Self::LinkToFile,
        Self::LinkToDirectory,
        Self::LinkToDevice,
        Self::DanglingLink,
        Self::Fifo,
        Self::Socket,
        Self::Device,
        Self::Directory,
        Self::SparseFile,
        Self::HardLink,
        Self::DeepTree,
        Self::LockedFile,
        Self::LockedDirectory,
    ];

    /// Creates it at `path`, which must not exist. The directory `outside` contains the file `secret`.
    ///
    /// # Panics
    ///
    /// If it cannot be created.
    pub fn set(self, path: &Path, outside: &Path) {
        let node = |kind, device| mknodat(CWD, path, kind, Mode::RWXU, device).map_err(io::Error::from);
        let created = match self {
            Self::LinkToFile => symlink(outside.join("secret"), path),
            Self::LinkToDirectory => symlink(outside, path),
            Self::LinkToDevice => symlink("/dev/zero", path),
            Self::DanglingLink => symlink(outside.join("new"), path),
            Self::Fifo => node(FileType::Fifo, 0),
            Self::Socket => node(FileType::Socket, 0),
            Self::Device => node(FileType::CharacterDevice, makedev(1, 5)).or(Ok(())),
            Self::Directory => fs::create_dir_all(path.join("below")),
            Self::SparseFile => File::create(path).and_then(|file| file.set_len(1 << 42)),
            Self::HardLink => fs::hard_link(outside.join("secret"), path),
            Self::DeepTree => fs::create_dir_all(path.join("d/".repeat(70))),
            Self::LockedFile => File::create(path).and_then(|_| lock(path)),
            Self::LockedDirectory => {
                fs::create_dir(path).and_then(|()| File::create(path.join("file"))).and_then(|_| lock(path))
            }
        };
        created.expect("the parent directory is ours, and nothing is at the path");
    }
}

fn lock(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o000))
}
