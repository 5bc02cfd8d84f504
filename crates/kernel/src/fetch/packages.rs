//! The packages of a distribution kernel, by distribution.
//!
//! Debian and Ubuntu: the newest kernel is what a meta package depends on. Up to Debian 13 one package has the image and
//! the modules. Since kernel 7.0 they are apart: `linux-image` depends on `linux-binary`, `linux-modules` and
//! `linux-base`, each with the release of the kernel in its name.

use std::path::{Path, PathBuf};

use debian::{AptRoot, Mirror, Package};
use fsx::lock::Lock;
use model::{Arch, NamedKernel, RepoFormat, RepoKernel};
use pkgrepo::{PackageFormat, RepoPackage};

use crate::cache::{Cache, lock};
use crate::error::{BuildError, InfrastructureError};
use crate::progress::Progress;

/// The program that loads the drivers of the root disk.
const BUSYBOX: &str = "busybox-static";

type OnProgress<'a> = &'a mut (dyn FnMut(Progress) + Send);

/// The packages of a kernel, and the repositories that can download them.
pub(super) struct Packages {
    /// The release of the kernel, `6.12.95+deb12-amd64`, if the index has it.
    pub(super) release: Option<String>,
    /// The directory for downloads.
    pub(super) dir: PathBuf,
    /// The first has the image.
    parts: Vec<Part>,
    roots: Vec<AptRoot>,
    repo: Option<RepoKernel>,
    _locks: Vec<Lock>,
}

/// A package: one of an apt root, by its number, or one of another repository.
enum Part {
    Apt(usize, Package),
    Repo(RepoPackage),
}

impl Part {
    fn fields(&self) -> [&str; 3] {
        match self {
            Self::Apt(_, package) => [&package.name, &package.version, &package.sha256],
            Self::Repo(package) => [&package.name, &package.version, package.checksum()],
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Apt(_, package) => package.size,
            Self::Repo(package) => package.size,
        }
    }
}

impl Packages {
    /// Finds the packages of the newest kernel. `mirror` is the one of Debian that has the kernel, or else busybox.
    pub(super) async fn find(
        wanted: &NamedKernel,
        mirror: &Mirror,
        cache: &Cache,
        on: OnProgress<'_>,
    ) -> Result<Self, BuildError> {
        let mut found = Self {
            release: None,
            dir: PathBuf::new(),
            parts: Vec::new(),
            roots: Vec::new(),
            repo: None,
            _locks: Vec::new(),
        };
        let arch = wanted.arch();
        match wanted {
            NamedKernel::Debian(kernel) => {
                let root = format!("{}-{}", kernel.suite(), arch.debian_name());
                found.add_root(&root, arch, mirror, cache, on).await?;
                let meta = format!("linux-image-{}", arch.debian_name());
                found.add_apt_kernel(&[&meta]).await?;
            }
            NamedKernel::Repo(kernel) => {
                // Indices that were accepted under other settings, for example without a key, are in another directory.
                let settings = fsx::digest::sha256_hex(wanted.origin());
                let name = format!("{}-{}", wanted.name().as_str().replace('/', "-"), &settings[..12]);
                if kernel.repo().format() == RepoFormat::Apt {
                    found.add_root(&name, arch, &mirror_of(kernel, mirror), cache, on).await?;
                    found.add_apt_kernel(&meta_packages(kernel)).await?;
                } else {
                    found.dir = cache.dir.join("apt").join(name);
                    found._locks.push(
                        lock(&found.dir.join("lock"), &format!("downloads {}", wanted.name()), on).await?,
                    );
                    on(Progress::Fetching { step: format!("reading the index of {}", wanted.name()) });
                    let packages =
                        pkgrepo::find(kernel, &found.dir).await.map_err(InfrastructureError::Repo)?;
                    found.parts.extend(packages.into_iter().map(Part::Repo));
                }
                found.repo = Some((**kernel).clone());
                let host = format!("host-{}", arch.debian_name());
                found.add_root(&host, arch, mirror, cache, on).await?;
            }
        }
        found.add_busybox().await?;
        Ok(found)
    }

    async fn add_root(
        &mut self,
        name: &str,
        arch: Arch,
        mirror: &Mirror,
        cache: &Cache,
        on: OnProgress<'_>,
    ) -> Result<(), BuildError> {
        let dir = cache.dir.join("apt").join(name);
        self._locks.push(lock(&dir.join("lock"), "downloads packages", on).await?);
        on(Progress::Fetching { step: format!("reading the index of {name}") });
        self.roots.push(AptRoot::update(&dir, arch, mirror).await?);
        if self.dir.as_os_str().is_empty() {
            self.dir = dir;
        }
        Ok(())
    }

    /// Adds the packages of the kernel that the first existing meta package depends on.
    async fn add_apt_kernel(&mut self, meta_packages: &[&str]) -> Result<(), BuildError> {
        let apt = &self.roots[0];
        let mut newest =
            Err(InfrastructureError::Package { package: "kernel".into(), missing: "no name" }.into());
        for name in meta_packages {
            newest = apt.show(name).await.map_err(BuildError::from);
            if newest.is_ok() {
                break;
            }
        }
        let newest = newest?;
        let no_kernel = || incomplete(&newest.name, "no dependency on a kernel package");
        let name = newest.dependency("linux-image-").ok_or_else(no_kernel)?;
        let release = name.trim_start_matches("linux-image-").trim_start_matches("unsigned-").to_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || "._+-~".contains(c);
        if release.is_empty() || release.starts_with('.') || !release.chars().all(plain) {
            return Err(no_kernel().into());
        }
        let image = apt.show(name).await?;
        let own = format!("-{release}");
        let is_part = |name: &str| name.starts_with("linux-") && name.ends_with(&own);
        // The modules of Ubuntu's second package are a dependency of the meta package.
        let mut parts = closure(apt, &[&image, &newest], &is_part).await?;
        let first = apt.show(&format!("linux-headers-{release}")).await?;
        let is_header = |name: &str| name.starts_with("linux-headers-") || name.starts_with("linux-kbuild-");
        let headers = closure(apt, &[&first], &is_header).await?;
        parts.retain(|part| part.name != first.name && headers.iter().all(|header| header.name != part.name));
        let all = [image].into_iter().chain(parts).chain([first]).chain(headers);
        self.parts.extend(all.map(|package| Part::Apt(0, package)));
        self.release = Some(release);
        Ok(())
    }

    /// Adds busybox from the first of the repositories that has it.
    async fn add_busybox(&mut self) -> Result<(), BuildError> {
        let mut error = None;
        for (number, root) in self.roots.iter().enumerate() {
            match root.show(BUSYBOX).await {
                Ok(package) => {
                    self.parts.push(Part::Apt(number, package));
                    return Ok(());
                }
                Err(other) => error = Some(other),
            }
        }
        let none = || InfrastructureError::Package { package: BUSYBOX.into(), missing: "no repository" };
        Err(error.map_or_else(none, InfrastructureError::Debian).into())
    }

    /// The name and the version of the package with the image.
    pub(super) fn image(&self) -> String {
        let [name, version, _] = self.parts.first().map(Part::fields).unwrap_or_default();
        format!("{name} {}", version.strip_prefix("0:").unwrap_or(version))
    }

    /// The fields that identify the content of all packages.
    pub(super) fn fields(&self) -> Vec<&str> {
        self.parts.iter().flat_map(Part::fields).collect()
    }

    /// The size of all packages in bytes.
    pub(super) fn size(&self) -> u64 {
        self.parts.iter().map(Part::size).sum()
    }

    /// Downloads and unpacks all packages into one tree below `work`. Those of Debian may contain links; others are not
    /// trusted, and only their regular files are unpacked.
    pub(super) async fn unpack(&self, work: &Path) -> Result<PathBuf, BuildError> {
        let (files, tree) = (work.join("packages"), work.join("tree"));
        fsx::own::create_dir_all(&files)?;
        for part in &self.parts {
            let file = match (part, &self.repo) {
                (Part::Apt(number, package), repo) => {
                    let file = self.roots[*number].download(package, &files).await?;
                    match repo {
                        None => debian::unpack(&file, &tree).await?,
                        Some(_) => unpack(&file, PackageFormat::Deb, &tree).await?,
                    }
                    file
                }
                (Part::Repo(package), Some(repo)) => {
                    let file =
                        pkgrepo::download(repo, package, &files).await.map_err(InfrastructureError::Repo)?;
                    unpack(&file, PackageFormat::Other, &tree).await?;
                    file
                }
                (Part::Repo(package), None) => return Err(incomplete(&package.name, "no repository").into()),
            };
            fsx::own::remove_file(&file)?;
        }
        Ok(tree)
    }
}

async fn unpack(file: &Path, format: PackageFormat, tree: &Path) -> Result<(), BuildError> {
    Ok(pkgrepo::unpack(file, format, tree).await.map_err(InfrastructureError::Repo)?)
}

/// The meta packages of an apt repository: the operator's, or those of Debian and of Ubuntu.
fn meta_packages(kernel: &RepoKernel) -> Vec<&str> {
    let debian = match kernel.arch() {
        Arch::X86_64 => "linux-image-amd64",
        Arch::Aarch64 => "linux-image-arm64",
    };
    match kernel.repo().packages() {
        [] => vec!["linux-image-generic", debian],
        own => own.iter().map(model::PackageName::as_str).collect(),
    }
}

/// The lines of an apt repository, with the host's settings for proxies. Its index is verified by the key of the kernel
/// source, or else by the keys of this host.
fn mirror_of(kernel: &RepoKernel, host: &Mirror) -> Mirror {
    let components = kernel.repo().components().collect::<Vec<_>>().join(" ");
    let suite = kernel.suite().unwrap_or_default();
    let options = match kernel.repo().key() {
        _ if kernel.repo().is_unsigned() => "[trusted=yes] ".to_owned(),
        Some(key) => format!("[signed-by={}] ", key.display()),
        None => String::new(),
    };
    let line = |url: String| format!("deb {options}{url} {suite} {components}");
    Mirror { lines: kernel.urls().into_iter().map(line).collect(), settings: host.settings.clone() }
}

/// The packages that `first` depend on, directly or not, by way of names that `follow` accepts.
async fn closure(
    apt: &AptRoot,
    first: &[&Package],
    follow: &(dyn Fn(&str) -> bool + Sync),
) -> Result<Vec<Package>, BuildError> {
    let names = |package: &Package| {
        package.dependencies().filter(|name| follow(name)).map(String::from).collect::<Vec<_>>()
    };
    let mut found: Vec<Package> = Vec::new();
    let mut wanted: Vec<String> = first.iter().flat_map(|package| names(package)).collect();
    while let Some(name) = wanted.pop() {
        let known = |package: &Package| package.name == name;
        if !first.iter().any(|package| known(package)) && !found.iter().any(known) {
            let package = apt.show(&name).await?;
            wanted.extend(names(&package));
            found.push(package);
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

pub(super) fn incomplete(package: &str, missing: &'static str) -> InfrastructureError {
    InfrastructureError::Package { package: package.into(), missing }
}
