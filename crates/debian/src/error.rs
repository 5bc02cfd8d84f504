//! Errors of apt and dpkg. Every message is one line.

use std::path::PathBuf;

/// Why a package or an index is not available.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {
    /// apt's configuration format has no way to quote this path.
    #[error("{}: apt does not accept quotes, backslashes or semicolons in a path; set KTEST_CACHE_DIR", .0.display())]
    Path(PathBuf),
    /// The index of the mirror does not list the package.
    #[error("the mirror has no package {name}: {cause}")]
    NoPackage {
        /// The package.
        name: String,
        /// The first error of `apt-get update`, or the error of `apt-cache show`.
        cause: String,
        /// Whether the mirror was read, and does not have the suite or the package.
        certain: bool,
    },
    /// apt did not download the package.
    #[error("apt-get download {package}: {cause}")]
    Download {
        /// The package.
        package: String,
        /// apt's last error line.
        cause: String,
    },
    /// A package file cannot be unpacked.
    #[error("dpkg-deb {}: {cause}", file.display())]
    Unpack {
        /// The `.deb` file.
        file: PathBuf,
        /// dpkg's last error line.
        cause: String,
    },
    /// A program could not be run.
    #[error(transparent)]
    Spawn(#[from] spawn::SpawnError),
    /// A file or directory of the apt root cannot be accessed.
    #[error(transparent)]
    File(#[from] fsx::Error),
}
