//! Package repositories in the formats rpm-md (Fedora, openSUSE, CentOS Stream) and pacman (Arch): the packages of a
//! kernel, their download, and the unpacking of packages in any format.
//!
//! A repository is not trusted. Every download has a size limit, every package has the checksum of its index, and
//! unpacking writes only regular files, below a new directory.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod compressed;
mod error;
mod http;
mod pacman;
mod rpm_md;
mod select;
mod signature;
mod unpack;

use std::path::{Path, PathBuf};

use model::{RepoFormat, RepoKernel};

pub use error::RepoError;
pub use unpack::{PackageFormat, unpack};

/// The checksum of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// In lower-case hexadecimal.
    Sha256(String),
    /// In lower-case hexadecimal.
    Sha512(String),
}

impl Checksum {
    /// The checksum with this name in an index. Weaker ones are refused.
    pub(crate) fn new(kind: &str, digits: &str) -> Option<Self> {
        let digits = digits.trim().to_ascii_lowercase();
        let hex = |length| digits.len() == length && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        match kind {
            "sha256" if hex(64) => Some(Self::Sha256(digits)),
            "sha512" if hex(128) => Some(Self::Sha512(digits)),
            _ => None,
        }
    }

    fn digits(&self) -> &str {
        match self {
            Self::Sha256(digits) | Self::Sha512(digits) => digits,
        }
    }
}

/// A package in an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoPackage {
    /// Its name.
    pub name: String,
    /// Its version, with the release of the package.
    pub version: String,
    /// The size of its file in bytes.
    pub size: u64,
    pub(crate) arch: String,
    pub(crate) url: String,
    pub(crate) checksum: Checksum,
}

impl RepoPackage {
    /// The checksum of its file in hexadecimal, from the index.
    #[must_use]
    pub fn checksum(&self) -> &str {
        self.checksum.digits()
    }
}

/// The packages of the newest kernel in a repository of the format rpm-md or pacman; the first has the boot image.
/// `work` is a directory for the index.
pub async fn find(kernel: &RepoKernel, work: &Path) -> Result<Vec<RepoPackage>, RepoError> {
    let mut found = Vec::new();
    for url in kernel.urls() {
        match kernel.repo().format() {
            RepoFormat::RpmMd => found.extend(rpm_md::read(kernel, &url, work).await?),
            RepoFormat::Pacman => found.extend(pacman::read(kernel, &url, work).await?),
            RepoFormat::Apt => return Err(RepoError::Format(RepoFormat::Apt)),
        }
    }
    select::packages(kernel, &found)
}

/// Downloads a package into `dir`, checks it, and returns the path of its file.
pub async fn download(kernel: &RepoKernel, package: &RepoPackage, dir: &Path) -> Result<PathBuf, RepoError> {
    let file = dir.join("package");
    http::get(&package.url, &file, package.size.min(http::PACKAGE_BYTES)).await?;
    http::check(&file, &package.url, &package.checksum)?;
    if let (RepoFormat::Pacman, Some(key)) = (kernel.repo().format(), kernel.repo().key()) {
        let signature = dir.join("signature");
        http::get(&format!("{}.sig", package.url), &signature, http::SIGNATURE_BYTES).await?;
        signature::verify(key, &signature, &file, &package.url).await?;
        fsx::own::remove_file(&signature)?;
    }
    Ok(file)
}

/// `url` with a path from an index appended. `None` if the path leads to another directory or host.
pub(crate) fn below(url: &str, path: &str) -> Option<String> {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#%\\:".contains(&byte))
    };
    path.split('/').all(plain).then(|| format!("{url}/{path}"))
}
