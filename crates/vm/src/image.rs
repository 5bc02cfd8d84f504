//! Root images: the guest's root file system, built once from the host's distribution and used copy-on-write.
//!
//! The name of an image is derived from its contents, so an existing image is never inspected. A new image is renamed
//! to its final name when it is complete.

use std::io;
use std::path::{Path, PathBuf};

use fsx::digest::{Hasher, hex};
use fsx::lock::{Lock, LockError};
use fsx::own;
use fsx::untrusted::Scratch;
use model::{Arch, PackageName, ShippedImage};

mod build;
mod foreign;
pub mod host;
mod package_file;
mod packages;
mod scratch;

use host::Host;
pub use package_file::PackageFile;

/// The description of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSpec {
    /// The guest's architecture.
    pub arch: Arch,
    /// The image that it extends.
    pub base: ShippedImage,
    /// The suite of the distribution; the default is the host's, or for the full image that of the kernel or a newer one.
    pub suite: Option<String>,
    /// The release of the kernel, if it is one of the distribution.
    pub kernel_release: Option<String>,
    /// The packages in addition to the essential ones.
    pub packages: Vec<String>,
    /// Packages from files, which have precedence over those of the distribution.
    pub package_files: Vec<PackageFile>,
    /// The size of the file system, in MiB; the file is sparse.
    pub size_mib: u64,
    /// The repository to install from; the default is the host's.
    pub mirror: Option<String>,
}

impl ImageSpec {
    /// One of the images that ktest makes.
    #[must_use]
    pub fn new(base: ShippedImage, arch: Arch) -> Self {
        let (packages, size_mib) = (packages::packages(base), packages::size_mib(base));
        Self {
            arch,
            base,
            suite: None,
            kernel_release: None,
            packages,
            package_files: Vec::new(),
            size_mib,
            mirror: None,
        }
    }

    /// The default image.
    #[must_use]
    pub fn standard(arch: Arch) -> Self {
        Self::new(ShippedImage::Standard, arch)
    }

    /// Adds packages.
    #[must_use]
    pub fn with(mut self, packages: &[PackageName]) -> Self {
        for name in packages.iter().map(PackageName::as_str) {
            if !self.packages.iter().any(|present| present == name) {
                self.packages.push(name.into());
            }
        }
        self
    }

    /// Its file name, derived from everything that determines its contents, except the mirror and the date.
    fn file_name(&self, suite: &str) -> String {
        let mut hasher = Hasher::new();
        let mut packages = self.packages.clone();
        packages.sort();
        let size = self.size_mib.to_string();
        let files = self.package_files.iter().map(PackageFile::digest);
        for part in packages.iter().map(String::as_str).chain([size.as_str()]).chain(build::OURS).chain(files)
        {
            hasher.field(part);
        }
        let digest = hex(&hasher.finish()[..6]);
        format!("{}-{suite}-{digest}.ext4", self.arch)
    }

    /// The suite on this host.
    fn suite_on(&self, host: &Host) -> Option<String> {
        let kernel = self.kernel_release.as_deref();
        self.suite.clone().or_else(|| Some(packages::suite(self.base, &host.apt.suite()?, kernel)))
    }

    /// Its path in a cache directory.
    fn path(&self, cache: &Path, suite: &str) -> PathBuf {
        cache.join("images").join(self.file_name(suite))
    }

    fn check(&self) -> Result<(), ImageError> {
        let plain = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.:".contains(c))
        };
        let names = self.packages.iter().chain(&self.suite);
        match names.into_iter().find(|name| !plain(name)) {
            Some(name) => Err(ImageError::Name(name.chars().take(100).collect())),
            None => Ok(()),
        }
    }
}

/// An existing image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its file.
    pub path: PathBuf,
    /// Its architecture.
    pub arch: Arch,
    /// Its suite.
    pub suite: String,
    /// The disk space it uses, in bytes.
    pub bytes: u64,
    /// Whether this call built it.
    pub new: bool,
}

/// Why an image cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The user lacks the required privileges.
    #[error("this user cannot build an image: {0}")]
    Rights(String),
    /// The host has no apt sources.
    #[error(
        "no distribution to build the image from: this host has no apt sources; give a suite and a mirror"
    )]
    NoMirror,
    /// Not the name of a package or suite.
    #[error("{0:?} is not the name of a package or suite")]
    Name(String),
    /// A file that is not a package.
    #[error("{0:?} is not a Debian package (a .deb file)")]
    NotAPackage(PathBuf),
    /// Packages from files cannot be installed.
    #[error("packages from files cannot be installed: {0}")]
    NoPackageFiles(&'static str),
    /// The release lacks packages.
    #[error("{suite} has no package {packages}; use another release, or another list of packages")]
    NoPackages {
        /// The release.
        suite: String,
        /// The packages, separated by commas.
        packages: String,
    },
    /// A path that other programs do not accept.
    #[error("{0:?} is not UTF-8; use another directory")]
    Path(PathBuf),
    /// A program failed.
    #[error("{what} failed: {complaint}")]
    Program {
        /// The program.
        what: String,
        /// Its error.
        complaint: String,
    },
    /// A program could not be run.
    #[error(transparent)]
    Spawn(#[from] spawn::SpawnError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] fsx::Error),
    /// The lock of the image cannot be taken.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file operation failed.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// The operation.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

impl ImageError {
    fn io(what: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { what, path: path.into(), source }
    }
}

/// Returns the image for `spec` in the cache directory, and builds it if it does not exist. `progress` is called for
/// each step.
///
/// If several callers in any processes run this concurrently, one builds the image and the others wait.
pub async fn find_or_create(
    spec: &ImageSpec,
    cache: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Image, ImageError> {
    spec.check()?;
    let host = Host::read().await;
    let suite = spec.suite_on(&host).ok_or(ImageError::NoMirror)?;
    let path = spec.path(cache, &suite);
    if !path.exists() {
        create_on(spec, &host, &suite, &path, progress).await?;
        return image_at(&path, true).ok_or(ImageError::Path(path));
    }
    image_at(&path, false).ok_or(ImageError::Path(path))
}

/// The image for `spec` in the cache directory, if it exists.
pub async fn find(spec: &ImageSpec, cache: &Path) -> Option<Image> {
    let suite = spec.suite_on(&Host::read().await)?;
    image_at(&spec.path(cache, &suite), false)
}

/// Builds the image for `spec` at `path`. Replaces an existing image.
pub async fn create(
    spec: &ImageSpec,
    path: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Image, ImageError> {
    spec.check()?;
    let host = Host::read().await;
    let suite = spec.suite_on(&host).ok_or(ImageError::NoMirror)?;
    own::remove_file(path)?;
    create_on(spec, &host, &suite, path, progress).await?;
    Ok(Image { path: path.into(), arch: spec.arch, suite, bytes: disk_bytes(path), new: true })
}

/// The images of a cache directory.
#[must_use]
pub fn list(cache: &Path) -> Vec<Image> {
    let entries = own::list(&cache.join("images")).unwrap_or_default();
    entries.iter().filter_map(|entry| image_at(&entry.path, false)).collect()
}

fn image_at(path: &Path, new: bool) -> Option<Image> {
    let (arch, suite) = parse_name(path.file_name()?.to_str()?)?;
    path.is_file().then(|| Image { path: path.into(), arch, suite, bytes: disk_bytes(path), new })
}

fn parse_name(name: &str) -> Option<(Arch, String)> {
    let (head, _hash) = name.strip_suffix(".ext4")?.rsplit_once('-')?;
    let (arch, suite) = head.split_once('-')?;
    Some((arch.parse().ok()?, suite.into()))
}

fn disk_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    own::metadata(path).map_or(0, |meta| meta.blocks() * 512)
}

async fn create_on(
    spec: &ImageSpec,
    host: &Host,
    suite: &str,
    path: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<(), ImageError> {
    let lines = match &spec.mirror {
        Some(mirror) => vec![format!("deb {mirror} {suite} main")],
        None => host.apt.mirror(suite).lines,
    };
    if lines.is_empty() {
        return Err(ImageError::NoMirror);
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| ImageError::Path(path.into()))?.to_string_lossy().into_owned();
    own::create_dir_all(dir)?;
    let dir = dir.canonicalize().map_err(|source| ImageError::io("find", dir, source))?;

    let _lock = lock(&dir.join(format!(".{name}.lock")), progress).await?;
    if path.exists() {
        return Ok(());
    }
    let work =
        Scratch::new_in(&dir, ".ktest-image-").map_err(|source| ImageError::io("write", &dir, source))?;
    let built = build::build(spec, host, (suite, &lines), work.path(), progress).await?;
    own::write(&path.with_extension("packages"), built.packages)?;
    Ok(own::rename(&work.path().join("image"), path)?)
}

/// Takes the lock of an image. Reports once if another process is building it.
async fn lock(file: &Path, progress: &mut dyn FnMut(&str)) -> Result<Lock, ImageError> {
    if let Some(lock) = Lock::try_acquire(file, "builds the image")? {
        return Ok(lock);
    }
    progress("another ktest is building the same image; waiting for it");
    Ok(Lock::acquire(file, "builds the image", |_| {}).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_back_and_differ_by_contents() {
        let standard = ImageSpec::standard(Arch::X86_64);
        let name = standard.file_name("bookworm");
        assert_eq!(parse_name(&name), Some((Arch::X86_64, "bookworm".into())));
        let mut shuffled = standard.clone();
        shuffled.packages.reverse();
        assert_eq!(shuffled.file_name("bookworm"), name);
        let more = ImageSpec { size_mib: 8192, ..standard.clone() };
        assert_ne!(more.file_name("bookworm"), name);
        let joined = ImageSpec { packages: vec!["ab".into(), "c".into()], ..standard.clone() };
        let apart = ImageSpec { packages: vec!["a".into(), "bc".into()], ..standard };
        assert_ne!(joined.file_name("x"), apart.file_name("x"));
        assert_eq!(parse_name("x86_64-a-suite-0123.ext4"), Some((Arch::X86_64, "a-suite".into())));
        for name in
            ["x86_64.ext4", "sparc-sid-00.ext4", "x86_64-sid-00.packages", ".x86_64-sid-00.ext4.lock", ""]
        {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }

    #[test]
    fn other_names_are_refused() {
        let mut spec = ImageSpec::standard(Arch::X86_64);
        assert!(spec.check().is_ok());
        for bad in ["", "-x", "a b", "a,b", "--mode=root", "$(id)", "?essential"] {
            spec.packages = vec![bad.into()];
            assert!(matches!(spec.check(), Err(ImageError::Name(_))), "{bad}");
        }
    }

    #[test]
    fn images_of_a_cache() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(list(dir.path()), []);
        std::fs::create_dir(dir.path().join("images")).unwrap();
        std::fs::write(dir.path().join("images/x86_64-trixie-00ff.ext4"), "x").unwrap();
        std::fs::write(dir.path().join("images/README"), "x").unwrap();
        let found: Vec<_> = list(dir.path()).into_iter().map(|image| image.suite).collect();
        assert_eq!(found, ["trixie"]);
    }

    /// A real build, with network access: `KTEST_TEST_IMAGE=DIR cargo test -p vm -- --ignored image`.
    #[tokio::test]
    #[ignore = "fetches packages; set KTEST_TEST_IMAGE to the directory for the image"]
    async fn a_real_image() {
        let cache =
            PathBuf::from(std::env::var_os("KTEST_TEST_IMAGE").expect("KTEST_TEST_IMAGE names a directory"));
        let spec = ImageSpec::standard(Arch::native().unwrap());
        let start = std::time::Instant::now();
        let mut progress = |what: &str| println!("{:6.1} {what}", start.elapsed().as_secs_f64());
        let image = find_or_create(&spec, &cache, &mut progress).await.unwrap();
        println!(
            "{:6.1} {} ({} MiB)",
            start.elapsed().as_secs_f64(),
            image.path.display(),
            image.bytes >> 20
        );
        assert!(image.bytes > 100 << 20);
        assert!(!find_or_create(&spec, &cache, &mut |_| {}).await.unwrap().new);
        assert!(list(&cache).iter().any(|listed| listed.path == image.path));
    }
}
