//! Root images: the guest's file system, made once from the host's distribution and used copy-on-write.
//!
//! An image is named by what it is made from, so one that is there never needs to be looked into; it appears under
//! its name whole, by rename, or not at all.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use model::{Arch, PackageName};

mod build;
mod foreign;
pub mod host;

use host::Host;

/// What the guest of an ordinary test file needs: the contract's programs and the tools of the file systems.
pub const STANDARD_PACKAGES: [&str; 20] = [
    "acl",
    "attr",
    "bash-static",
    "btrfs-progs",
    "busybox-static",
    "dmsetup",
    "e2fsprogs",
    "iproute2",
    "keyutils",
    "kmod",
    "mawk",
    "mount",
    "openssh-server",
    "passwd",
    "procps",
    "psmisc",
    "quota",
    "util-linux",
    "xfsprogs",
    "xxd",
];

/// What an image is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSpec {
    /// The guest's architecture.
    pub arch: Arch,
    /// The suite of the distribution; None: the host's own.
    pub suite: Option<String>,
    /// Packages beside the essential ones.
    pub packages: Vec<String>,
    /// Size of the file system, MiB; the file is sparse.
    pub size_mib: u64,
    /// The repository to install from; None: the host's own.
    pub mirror: Option<String>,
}

impl ImageSpec {
    /// The image that is used when none is asked for.
    #[must_use]
    pub fn standard(arch: Arch) -> Self {
        let packages = STANDARD_PACKAGES.map(String::from).to_vec();
        Self { arch, suite: None, packages, size_mib: 4096, mirror: None }
    }

    /// With these packages, too.
    #[must_use]
    pub fn with(mut self, packages: &[PackageName]) -> Self {
        for name in packages.iter().map(PackageName::as_str) {
            if !self.packages.iter().any(|there| there == name) {
                self.packages.push(name.into());
            }
        }
        self
    }

    /// The name of its file, of all that decides what is in it but the mirror and the day.
    fn file_name(&self, suite: &str) -> String {
        let mut hash = Sha256::new();
        let mut packages = self.packages.clone();
        packages.sort();
        let size = self.size_mib.to_string();
        for part in packages.iter().map(String::as_str).chain([size.as_str()]).chain(build::OURS) {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        let digest: String = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{suite}-{digest}.ext4", self.arch)
    }

    /// Where it is in a cache.
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

/// An image that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its file.
    pub path: PathBuf,
    /// Its architecture.
    pub arch: Arch,
    /// Its suite.
    pub suite: String,
    /// Bytes that it takes on the disk.
    pub bytes: u64,
    /// Whether it was made just now.
    pub new: bool,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The host lets this user make none.
    #[error("an image cannot be made as this user: {0}")]
    Rights(String),
    /// Nothing says which distribution to install.
    #[error("this host's apt does not tell what to install the image from; give a suite and a mirror")]
    NoMirror,
    /// Not the name of a package or suite.
    #[error("{0:?} is not the name of a package or suite")]
    Name(String),
    /// A path that cannot be passed on.
    #[error("{0:?} is not UTF-8; use another folder")]
    Path(PathBuf),
    /// A program of others failed.
    #[error("{what} failed: {complaint}")]
    Program {
        /// Which.
        what: String,
        /// What it said.
        complaint: String,
    },
    /// A program could not be run.
    #[error(transparent)]
    Spawn(#[from] spawn::SpawnError),
    /// A file could not be written.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl ImageError {
    fn io(what: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { what, path: path.into(), source }
    }
}

/// The image of `spec` in the cache folder, made if it is not there. `progress` is told what is being done.
///
/// Of several callers at once, in whatever processes, one makes it and the others wait.
pub async fn find_or_create(
    spec: &ImageSpec,
    cache: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Image, ImageError> {
    spec.check()?;
    let host = Host::look().await;
    let suite = spec.suite.clone().or_else(|| host.apt.suite()).ok_or(ImageError::NoMirror)?;
    let path = spec.path(cache, &suite);
    if !path.exists() {
        create_on(spec, &host, &suite, &path, progress).await?;
        return image_at(&path, true).ok_or(ImageError::Path(path));
    }
    image_at(&path, false).ok_or(ImageError::Path(path))
}

/// The image of `spec` in the cache folder, where it is there.
pub async fn find(spec: &ImageSpec, cache: &Path) -> Option<Image> {
    let suite = spec.suite.clone().or(Host::look().await.apt.suite())?;
    image_at(&spec.path(cache, &suite), false)
}

/// Makes the image of `spec` at `path`, replacing the one that is there.
pub async fn create(
    spec: &ImageSpec,
    path: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<Image, ImageError> {
    spec.check()?;
    let host = Host::look().await;
    let suite = spec.suite.clone().or_else(|| host.apt.suite()).ok_or(ImageError::NoMirror)?;
    if path.exists() {
        std::fs::remove_file(path).map_err(|source| ImageError::io("remove", path, source))?;
    }
    create_on(spec, &host, &suite, path, progress).await?;
    Ok(Image { path: path.into(), arch: spec.arch, suite, bytes: disk_bytes(path), new: true })
}

/// The images of a cache folder.
#[must_use]
pub fn list(cache: &Path) -> Vec<Image> {
    let Ok(entries) = std::fs::read_dir(cache.join("images")) else { return vec![] };
    let mut images: Vec<_> = entries.flatten().filter_map(|entry| image_at(&entry.path(), false)).collect();
    images.sort_by(|a, b| a.path.cmp(&b.path));
    images
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
    std::fs::metadata(path).map_or(0, |meta| meta.blocks() * 512)
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
    std::fs::create_dir_all(dir).map_err(|source| ImageError::io("create", dir, source))?;
    let dir = dir.canonicalize().map_err(|source| ImageError::io("find", dir, source))?;

    let _lock = lock(&dir.join(format!(".{name}.lock")), progress).await?;
    if path.exists() {
        return Ok(());
    }
    // Under the lock nobody else uses it, so what is there was left by a process that was killed.
    let work = dir.join(format!(".{name}.new"));
    remove_tree(&work)?;
    std::fs::create_dir(&work).map_err(|source| ImageError::io("create", &work, source))?;
    let made = build::make(spec, host, (suite, &lines), &work, progress).await;
    let published = made.and_then(|made| {
        let packages = path.with_extension("packages");
        std::fs::write(&packages, made.packages)
            .map_err(|source| ImageError::io("write", packages, source))?;
        std::fs::rename(work.join("image"), path).map_err(|source| ImageError::io("create", path, source))
    });
    remove_tree(&work)?;
    published
}

fn remove_tree(dir: &Path) -> Result<(), ImageError> {
    match std::fs::remove_dir_all(dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(ImageError::io("remove", dir, source)),
        _ => Ok(()),
    }
}

/// Held until the file is dropped. The file itself stays: removing it would let two in.
async fn lock(file: &Path, progress: &mut dyn FnMut(&str)) -> Result<std::fs::File, ImageError> {
    let error = |source: io::Error| ImageError::io("lock", file, source);
    let handle = std::fs::File::create(file).map_err(error)?;
    let mut told = false;
    loop {
        match flock(&handle, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(handle),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                if !told {
                    progress("another ktest is making the same image; waiting for it");
                    told = true;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(errno) => return Err(error(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_tell_contents_apart() {
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
    fn what_is_not_a_package_goes_nowhere() {
        let mut spec = ImageSpec::standard(Arch::X86_64);
        assert!(spec.check().is_ok());
        for bad in ["", "-x", "a b", "a,b", "--mode=root", "$(id)", "?essential"] {
            spec.packages = vec![bad.into()];
            assert!(matches!(spec.check(), Err(ImageError::Name(_))), "{bad}");
        }
    }

    #[test]
    fn a_cache_without_images_has_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(list(dir.path()), []);
        std::fs::create_dir(dir.path().join("images")).unwrap();
        std::fs::write(dir.path().join("images/x86_64-trixie-00ff.ext4"), "x").unwrap();
        std::fs::write(dir.path().join("images/README"), "x").unwrap();
        let found: Vec<_> = list(dir.path()).into_iter().map(|image| image.suite).collect();
        assert_eq!(found, ["trixie"]);
    }

    /// The real thing, with the network: `KTEST_TEST_IMAGE=DIR cargo test -p vm -- --ignored image`.
    #[tokio::test]
    #[ignore = "fetches packages; set KTEST_TEST_IMAGE to the folder for the image"]
    async fn a_real_image() {
        let cache =
            PathBuf::from(std::env::var_os("KTEST_TEST_IMAGE").expect("KTEST_TEST_IMAGE names a folder"));
        let spec = ImageSpec::standard(Arch::native().unwrap());
        let start = std::time::Instant::now();
        let mut tell = |what: &str| println!("{:6.1} {what}", start.elapsed().as_secs_f64());
        let image = find_or_create(&spec, &cache, &mut tell).await.unwrap();
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
