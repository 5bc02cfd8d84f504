//! Secrets in files: read only if no other user can read them.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::Error;

/// The longest secret, in bytes.
const MAX: u64 = 4096;

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] Error),
    /// It is not a regular file.
    #[error("{}: not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// Users other than its owner can read it.
    #[error("{path}: other users can read it (mode {mode:o}); run: chmod 600 {path}", path = .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is longer than any secret.
    #[error("{}: longer than {MAX} bytes", .0.display())]
    Long(PathBuf),
    /// It is not text.
    #[error("{}: not UTF-8 text", .0.display())]
    NotText(PathBuf),
}

/// The text of a file that only its owner can access, without surrounding white space.
pub fn read(path: &Path) -> Result<String, SecretError> {
    // NONBLOCK: opening a FIFO must not block.
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(nonblock).open(path);
    let file = file.map_err(Error::of("read", path))?;
    let data = file.metadata().map_err(Error::of("read", path))?;
    if !data.is_file() {
        return Err(SecretError::NotAFile(path.into()));
    }
    let mode = data.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Exposed { path: path.into(), mode });
    }
    let mut bytes = Vec::new();
    file.take(MAX + 1).read_to_end(&mut bytes).map_err(Error::of("read", path))?;
    if bytes.len() as u64 > MAX {
        return Err(SecretError::Long(path.into()));
    }
    let text = String::from_utf8(bytes).map_err(|_| SecretError::NotText(path.into()))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn only_a_private_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        assert!(matches!(read(&path), Err(SecretError::Read(_))));
        let write = |bytes: &[u8], mode| {
            std::fs::write(&path, bytes).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write(b" secret\n", 0o600);
        assert_eq!(read(&path).unwrap(), "secret");
        for mode in [0o644, 0o640, 0o604, 0o620, 0o610] {
            write(b"secret", mode);
            let error = read(&path).unwrap_err().to_string();
            assert!(error.ends_with(&format!("run: chmod 600 {}", path.display())), "{error}");
        }
        write(&[b'x'; 5000], 0o400);
        assert!(matches!(read(&path), Err(SecretError::Long(_))));
        std::fs::remove_file(&path).unwrap();
        write(b"\xff", 0o600);
        assert!(matches!(read(&path), Err(SecretError::NotText(_))));
        std::fs::remove_file(&path).unwrap();
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert!(matches!(read(&path), Err(SecretError::NotAFile(_))));
        assert!(matches!(read(dir.path()), Err(SecretError::NotAFile(_))));
    }
}
