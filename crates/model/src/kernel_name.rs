//! The names of kernels in `-k` and in the `kernels` of a test group, and the origin of each.

use crate::arch::Arch;
use crate::distro::DistroKernel;
use crate::names::{NameError, StoreKernel, bad};
use crate::package_repo::{PackageRepo, RepoKernel};

/// A kernel that is fetched by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedKernel {
    /// `debian/SUITE`: from the apt sources of the host.
    Debian(DistroKernel),
    /// `NAME/SUITE`: from a repository of the configuration.
    Repo(Box<RepoKernel>),
}

impl NamedKernel {
    /// Finds the origin of a kernel: Debian, or the repository with the first part of the name.
    pub fn parse<'a>(
        name: &StoreKernel,
        repos: impl IntoIterator<Item = &'a PackageRepo>,
        default: Arch,
    ) -> Result<Self, NameError> {
        if name.as_str().starts_with("debian/") {
            return DistroKernel::parse(name, default).map(Self::Debian);
        }
        let found = repos.into_iter().find_map(|repo| RepoKernel::parse(name, repo, default));
        found.map(|kernel| kernel.map(|kernel| Self::Repo(Box::new(kernel)))).unwrap_or_else(|| {
            let rule = "use debian/SUITE, or NAME/SUITE with the NAME of a kernel source";
            Err(bad("a distribution kernel", name.as_str(), rule))
        })
    }

    /// The architecture.
    #[must_use]
    pub fn arch(&self) -> Arch {
        match self {
            Self::Debian(kernel) => kernel.arch(),
            Self::Repo(kernel) => kernel.arch(),
        }
    }

    /// The complete name.
    #[must_use]
    pub fn name(&self) -> StoreKernel {
        match self {
            Self::Debian(kernel) => kernel.name(),
            Self::Repo(kernel) => kernel.name(),
        }
    }

    /// Text that differs if the same name refers to another repository; empty for Debian.
    #[must_use]
    pub fn origin(&self) -> String {
        match self {
            Self::Debian(_) => String::new(),
            Self::Repo(kernel) => kernel.repo().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_part_is_the_origin() {
        let repos = ["fedora,format=rpm-md,url=https://d.example/os".parse::<PackageRepo>().unwrap()];
        let parse = |text: &str| NamedKernel::parse(&text.parse().unwrap(), &repos, Arch::X86_64);
        assert_eq!(parse("debian/sid").unwrap().name().as_str(), "debian/sid/amd64");
        assert_eq!(parse("fedora").unwrap().name().as_str(), "fedora/x86_64");
        assert!(parse("fedora").unwrap().origin().contains("d.example"));
        let error = parse("ubuntu/noble").unwrap_err().to_string();
        assert!(error.contains("the NAME of a kernel source"), "{error}");
    }
}
