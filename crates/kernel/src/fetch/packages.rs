//! The packages of a distribution kernel.
//!
//! Up to Debian 13 one package has the image and the modules. Since kernel 7.0 they are apart: `linux-image` depends on
//! `linux-binary`, `linux-modules` and `linux-base`, each with the release of the kernel in its name.

use std::path::{Path, PathBuf};

use debian::{AptRoot, Package};
use model::DistroKernel;

use crate::error::{BuildError, InfrastructureError};

/// The packages of a kernel.
#[derive(Debug)]
pub(super) struct Packages {
    /// The release of the kernel: `6.12.95+deb12-amd64`.
    pub(super) release: String,
    /// `linux-image-RELEASE`.
    pub(super) image: Package,
    /// The packages that the image depends on for its own files.
    parts: Vec<Package>,
    headers: Vec<Package>,
    busybox: Package,
}

impl Packages {
    /// Finds the packages of the newest kernel in an index.
    pub(super) async fn find(apt: &AptRoot, wanted: &DistroKernel) -> Result<Self, BuildError> {
        // It always depends on the newest kernel. The cloud variant lacks 9p, which the guest needs.
        let meta_package = format!("linux-image-{}", wanted.arch().debian_name());
        let newest = apt.show(&meta_package).await?;
        let no_kernel = || incomplete(&newest, "no dependency on a kernel package");
        let name = newest.dependency("linux-image-").ok_or_else(no_kernel)?;
        let release = name.trim_start_matches("linux-image-").trim_start_matches("unsigned-").to_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || "._+-~".contains(c);
        if release.is_empty() || release.starts_with('.') || !release.chars().all(plain) {
            return Err(no_kernel().into());
        }
        let image = apt.show(name).await?;
        let own = format!("-{release}");
        let is_part = |name: &str| name.starts_with("linux-") && name.ends_with(&own);
        let parts = closure(apt, &image, &is_part).await?;
        let busybox = apt.show("busybox-static").await?;
        let first = apt.show(&format!("linux-headers-{release}")).await?;
        let is_header = |name: &str| name.starts_with("linux-headers-") || name.starts_with("linux-kbuild-");
        let mut headers = closure(apt, &first, &is_header).await?;
        headers.insert(0, first);
        Ok(Self { release, image, parts, headers, busybox })
    }

    fn all(&self) -> impl Iterator<Item = &Package> {
        let first = [&self.image, &self.busybox];
        first.into_iter().chain(&self.parts).chain(&self.headers)
    }

    /// The fields that identify the content of all packages.
    pub(super) fn fields(&self) -> Vec<&str> {
        self.all().flat_map(|package| [&*package.name, &*package.version, &*package.sha256]).collect()
    }

    /// The size of all packages in bytes.
    pub(super) fn size(&self) -> u64 {
        self.all().map(|package| package.size).sum()
    }

    /// Downloads and unpacks all packages into one tree below `work`.
    pub(super) async fn unpack(&self, apt: &AptRoot, work: &Path) -> Result<PathBuf, BuildError> {
        let (files, tree) = (work.join("packages"), work.join("tree"));
        fsx::own::create_dir_all(&files)?;
        for package in self.all() {
            let file = apt.download(package, &files).await?;
            debian::unpack(&file, &tree).await?;
            fsx::own::remove_file(&file)?;
        }
        Ok(tree)
    }
}

/// The packages that `first` depends on, directly or not, by way of names that `follow` accepts.
async fn closure(
    apt: &AptRoot,
    first: &Package,
    follow: &(dyn Fn(&str) -> bool + Sync),
) -> Result<Vec<Package>, BuildError> {
    let names = |package: &Package| {
        package.dependencies().filter(|name| follow(name)).map(String::from).collect::<Vec<_>>()
    };
    let mut found: Vec<Package> = Vec::new();
    let mut wanted = names(first);
    while let Some(name) = wanted.pop() {
        if name != first.name && found.iter().all(|package| package.name != name) {
            let package = apt.show(&name).await?;
            wanted.extend(names(&package));
            found.push(package);
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

pub(super) fn incomplete(package: &Package, missing: &'static str) -> InfrastructureError {
    InfrastructureError::Package { package: format!("{} {}", package.name, package.version), missing }
}
