//! Errors of repositories and packages. Every message is one line.

use std::path::PathBuf;

use model::RepoFormat;

/// Why a package is not available.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// The server does not have the file.
    #[error("{0}: not on the server; check url and suite of the kernel source")]
    NotFound(String),
    /// The server cannot be reached, or it failed.
    #[error("{url}: {cause}")]
    Http {
        /// The URL.
        url: String,
        /// The error of the connection, or the status.
        cause: String,
    },
    /// A file is larger than it may be.
    #[error("{url}: larger than {max} bytes")]
    TooLarge {
        /// The URL.
        url: String,
        /// The limit.
        max: u64,
    },
    /// A file is not the one in the index.
    #[error("{url}: its checksum differs from the index; try again later, the mirror may be changing")]
    Checksum {
        /// The URL.
        url: String,
    },
    /// The signature is missing or wrong.
    #[error("{url}: not signed by a key in {}: {cause}", key.display())]
    Signature {
        /// The signed file.
        url: String,
        /// The keyring.
        key: PathBuf,
        /// The last line of gpgv.
        cause: String,
    },
    /// gpgv reads only binary keyrings.
    #[error("{}: not a binary keyring; convert it: gpg --dearmor FILE", .0.display())]
    Keyring(PathBuf),
    /// The index cannot be understood.
    #[error("{url}: {cause}")]
    Index {
        /// The file.
        url: String,
        /// The error.
        cause: String,
    },
    /// No index lists the package.
    #[error("{repo} has no package {package}; set package in the kernel source")]
    NoPackage {
        /// The name of the kernel source.
        repo: String,
        /// The package, or the ones of which one must exist.
        package: String,
    },
    /// A program is missing.
    #[error("{program}: not installed; apt-get install {package}")]
    Missing {
        /// The program.
        program: &'static str,
        /// Its Debian package.
        package: &'static str,
    },
    /// A package cannot be unpacked.
    #[error("{}: {cause}", file.display())]
    Unpack {
        /// Its file.
        file: PathBuf,
        /// The error.
        cause: String,
    },
    /// Another crate reads this format.
    #[error("the format {0} is read with apt")]
    Format(RepoFormat),
    /// A program could not be run.
    #[error(transparent)]
    Spawn(#[from] spawn::SpawnError),
    /// The sandbox does not work.
    #[error(transparent)]
    Sandbox(#[from] sandbox::SandboxError),
    /// A file of this host cannot be accessed.
    #[error(transparent)]
    File(#[from] fsx::Error),
}

impl RepoError {
    /// Whether the repository was read, and does not have the kernel.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        matches!(self, Self::NotFound(_) | Self::NoPackage { .. })
    }
}
