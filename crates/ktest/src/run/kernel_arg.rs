//! The arguments `-k` and `--commit`, which select the kernel of a run.

use std::path::{Path, PathBuf};

use kernel::{Cache, KernelSource, Store};
use model::{Arch, CommitId, KernelId, NameError, NamedKernel, PackageRepo, StoreKernel};

/// The origin of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelFrom {
    /// Build it.
    Source(KernelSource),
    /// A distribution kernel, by name: from the store, downloaded if it is missing.
    Named(StoreKernel),
    /// A kernel of the store, by id.
    Stored(KernelId),
    /// A directory with `vmlinuz`, and modules and an initramfs if they exist.
    Folder(PathBuf),
}

impl KernelFrom {
    /// The tested commit, if there is one.
    pub(super) fn commit(&self) -> Option<CommitId> {
        match self {
            Self::Source(KernelSource::Commit { commit, .. }) => Some(commit.clone()),
            _ => None,
        }
    }
}

/// Why `-k` or `--commit` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KernelArgError {
    /// `-k` is neither a directory nor the name of a kernel.
    #[error("{0}: no such directory; pass -k DIR or -k debian/SUITE")]
    NoDirectory(PathBuf),
    /// A wrong name of a kernel.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The repository cannot be read, or it does not have the commit.
    #[error(transparent)]
    Git(#[from] gitio::GitError),
    /// The store has no kernel with this id.
    #[error("the store has no kernel {0}; see ktest kernel list")]
    NotStored(String),
    /// The store has several kernels with ids that start like this.
    #[error("several kernels of the store start with {0}; give more digits of the id")]
    Ambiguous(String),
    /// The directory cannot be examined.
    #[error(transparent)]
    File(#[from] fsx::Error),
}

impl KernelArgError {
    /// Whether this host failed, and not the argument.
    #[must_use]
    pub fn is_of_host(&self) -> bool {
        use gitio::GitError::{File, Object, Spawn};
        matches!(self, Self::File(_) | Self::Git(Object { .. } | File(_) | Spawn(_)))
    }
}

/// Parses `-k` and `--commit`: a directory, a kernel's name, or at least 8 digits of its id. A name is one of Debian, of
/// `repos`, or of the store.
pub fn parse_kernel(
    text: &str,
    commit: Option<&str>,
    repos: &[PackageRepo],
    cache: &Path,
) -> Result<KernelFrom, KernelArgError> {
    let path = Path::new(text);
    if let Some(commit) = commit {
        let repo = directory(path)?;
        let commit = gitio::Repo::open(&repo)?.resolve(commit)?;
        return Ok(KernelFrom::Source(KernelSource::Commit { repo, commit }));
    }
    if fsx::own::is_dir(path)? {
        if kernel::folder::is_one(path)? {
            return Ok(KernelFrom::Folder(directory(path)?));
        }
        return Ok(KernelFrom::Source(KernelSource::WorkingTree(directory(path)?)));
    }
    if text.len() >= 8 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        let ids = Store::of(&Cache { dir: cache.into() }).ids();
        let mut like = ids.into_iter().filter(|id| id.as_str().starts_with(&text.to_ascii_lowercase()));
        return match (like.next(), like.next()) {
            (Some(id), None) => Ok(KernelFrom::Stored(id)),
            (Some(_), Some(_)) => Err(KernelArgError::Ambiguous(text.into())),
            (None, _) => Err(KernelArgError::NotStored(text.into())),
        };
    }
    match text.parse::<StoreKernel>() {
        Ok(name) if name.source() == "debian" || stored(&name, cache) => Ok(KernelFrom::Named(name)),
        Ok(name) if repos.iter().any(|repo| repo.name() == name.source()) => {
            NamedKernel::parse(&name, repos, Arch::X86_64)?;
            Ok(KernelFrom::Named(name))
        }
        _ => directory(path).map(|dir| KernelFrom::Source(KernelSource::WorkingTree(dir))),
    }
}

/// Whether the store has a kernel with this name, for any architecture.
fn stored(name: &StoreKernel, cache: &Path) -> bool {
    let names = Store::of(&Cache { dir: cache.into() }).names();
    let same = |other: &StoreKernel| {
        other == name || other.as_str().strip_prefix(name.as_str()).is_some_and(is_architecture)
    };
    names.iter().any(|(other, _)| same(other))
}

fn is_architecture(rest: &str) -> bool {
    rest.strip_prefix('/').is_some_and(|arch| arch.parse::<Arch>().is_ok())
}

fn directory(path: &Path) -> Result<PathBuf, KernelArgError> {
    fsx::own::canonical(path)?.ok_or_else(|| KernelArgError::NoDirectory(path.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_arguments() {
        let dir = tempfile::tempdir().unwrap();
        let id = "a".repeat(64);
        std::fs::create_dir_all(dir.path().join("kernels").join(&id)).unwrap();
        let repos = ["ubuntu,format=apt,url=https://u.example".parse().unwrap()];
        let parse =
            |text: &str| parse_kernel(text, None, &repos, dir.path()).map_err(|error| error.to_string());
        assert_eq!(parse("aaaaaaaa"), Ok(KernelFrom::Stored(id.parse().unwrap())));
        assert_eq!(parse("bbbbbbbb").unwrap_err(), "the store has no kernel bbbbbbbb; see ktest kernel list");
        assert_eq!(parse("debian/trixie"), Ok(KernelFrom::Named("debian/trixie".parse().unwrap())));
        assert_eq!(parse("ubuntu/noble"), Ok(KernelFrom::Named("ubuntu/noble".parse().unwrap())));
        assert!(parse("ubuntu").unwrap_err().contains("name a suite"));
        // Fetched before, for a run without the repository.
        std::fs::create_dir_all(dir.path().join("kernels/.names/fedora/42")).unwrap();
        std::fs::write(dir.path().join("kernels/.names/fedora/42/x86_64"), &id).unwrap();
        assert_eq!(parse("fedora/42"), Ok(KernelFrom::Named("fedora/42".parse().unwrap())));
        assert!(parse("fedora").is_err());
        assert_eq!(
            parse("no/such").unwrap_err(),
            "no/such: no such directory; pass -k DIR or -k debian/SUITE"
        );
        let here = dir.path().canonicalize().unwrap();
        std::fs::create_dir(here.join("built")).unwrap();
        std::fs::write(here.join("built/vmlinuz"), "image").unwrap();
        assert_eq!(parse(here.join("built").to_str().unwrap()), Ok(KernelFrom::Folder(here.join("built"))));
        assert_eq!(
            parse(dir.path().to_str().unwrap()),
            Ok(KernelFrom::Source(KernelSource::WorkingTree(here)))
        );
    }
}
