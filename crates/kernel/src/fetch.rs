//! Distribution kernels, downloaded into the store by name: `debian/trixie`, `debian/trixie/arm64`.
//!
//! apt checks the signature of every package, and the kernel id is a hash of the package hashes.

mod initramfs;
mod packages;

use std::path::{Path, PathBuf};
use std::time::Instant;

use debian::{AptRoot, DebianError, Mirror, Package};
use fsx::own;
use fsx::publish::{self, Durability};
use fsx::untrusted::Scratch;
use model::{Arch, DistroKernel, KernelId, StoreKernel};
use spawn::{Cmd, Limits};

use crate::cache::{Cache, lock};
use crate::dotconfig::DotConfig;
use crate::error::{BuildError, InfrastructureError};
use crate::id::hash_fields;
use crate::option::KValue;
use crate::progress::Progress;
use crate::state::CONFIG_BYTES;
use crate::store::{Kernel, META_VERSION, Meta, Store, Stored};
use packages::{Packages, incomplete};

/// The version of the steps that turn packages into a kernel. Increase it when a change of the steps changes the
/// kernels.
const RECIPE: &str = "3";

/// Downloads the newest kernel of a suite into the store, unless the store has it. Requires apt, dpkg and kmod on the
/// host.
pub async fn fetch(
    wanted: &DistroKernel,
    mirror: &Mirror,
    cache: &Cache,
    on: &mut (dyn FnMut(Progress) + Send),
) -> Result<Kernel, BuildError> {
    let begun = Instant::now();
    let store = Store::of(cache);
    let Index { root, apt, packages, _lock } = read_index(wanted, mirror, cache, on).await?;
    let fields = ["package", RECIPE, wanted.arch().as_str()].into_iter().chain(packages.fields());
    let id = hash_fields(fields);
    if let Some(Stored::Kernel(meta)) = store.find(&id) {
        store.set_name(&wanted.name(), &id)?;
        return Ok(store.kernel(&id, &meta, true));
    }
    let (image, megabytes) = (&packages.image, packages.size().div_ceil(1_000_000));
    on(Progress::Fetching { step: format!("downloading {} {} ({megabytes} MB)", image.name, image.version) });
    let work = Scratch::new_in(&root, ".work-").map_err(InfrastructureError::io(&root))?;
    let tree = packages.unpack(&apt, work.path()).await?;
    on(Progress::Publishing);
    let unpacked = Unpacked { tree, release: packages.release.clone() };
    let stage = store.stage()?;
    let mut meta = unpacked.fill(stage.path(), wanted, image).await?;
    meta.build_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let _publishing = lock(&store.lock_path(&id), "publishes it", on).await?;
    store.publish(&id, &stage, &meta)?;
    store.set_name(&wanted.name(), &id)?;
    Ok(Kernel { fetched: Some(begun.elapsed()), ..store.kernel(&id, &meta, false) })
}

/// The newest kernel of a suite on the mirror: its package with its version.
pub async fn find(
    wanted: &DistroKernel,
    mirror: &Mirror,
    cache: &Cache,
    on: &mut (dyn FnMut(Progress) + Send),
) -> Result<String, BuildError> {
    let image = read_index(wanted, mirror, cache, on).await?.packages.image;
    Ok(format!("{} {}", image.name, image.version))
}

/// The packages in the index of the mirror, and the apt root that can download them.
struct Index {
    root: PathBuf,
    apt: AptRoot,
    packages: Packages,
    _lock: fsx::lock::Lock,
}

async fn read_index(
    wanted: &DistroKernel,
    mirror: &Mirror,
    cache: &Cache,
    on: &mut (dyn FnMut(Progress) + Send),
) -> Result<Index, BuildError> {
    let root = cache.dir.join("apt").join(format!("{}-{}", wanted.suite(), wanted.arch().debian_name()));
    let lock = lock(&root.join("lock"), &format!("downloads {}", wanted.name()), on).await?;
    on(Progress::Fetching { step: format!("reading the index of {}", wanted.suite()) });
    let apt = AptRoot::update(&root, wanted.arch(), mirror).await?;
    let packages = Packages::find(&apt, wanted).await.map_err(|error| not_found(wanted, error))?;
    Ok(Index { root, apt, packages, _lock: lock })
}

/// Names the kernel that is not on the mirror.
fn not_found(wanted: &DistroKernel, error: BuildError) -> BuildError {
    match error {
        BuildError::Infrastructure(InfrastructureError::Debian(
            error @ DebianError::NoPackage { certain: true, .. },
        )) => InfrastructureError::KernelNotFound { name: wanted.name(), error }.into(),
        other => other,
    }
}

/// The tree of the unpacked packages.
struct Unpacked {
    tree: PathBuf,
    release: String,
}

impl Unpacked {
    /// Fills a stage. The modules are moved, not copied.
    async fn fill(&self, stage: &Path, wanted: &DistroKernel, package: &Package) -> Result<Meta, BuildError> {
        let release = &self.release;
        let from = self.modules().ok_or_else(|| incomplete(package, "no modules"))?;
        let image = match wanted.arch() {
            Arch::X86_64 => "bzImage",
            Arch::Aarch64 => "Image",
        };
        // The last three are in /boot, or next to the modules.
        for (name, to) in [("vmlinuz", image), ("config", "config"), ("System.map", "System.map")] {
            let next_to = from.join(name);
            let in_boot = self.tree.join("boot").join(format!("{name}-{release}"));
            match [in_boot, next_to].into_iter().find(|path| path.is_file()) {
                Some(path) => own::rename(&path, &stage.join(to))?,
                None if name == "System.map" => {}
                None if name == "config" => return Err(incomplete(package, "no configuration").into()),
                None => return Err(incomplete(package, "no boot image").into()),
            }
        }
        let modules = stage.join("lib/modules").join(release);
        own::create_dir_all(&stage.join("lib/modules"))?;
        own::rename(&from, &modules)?;
        for link in ["build", "source"] {
            own::remove_file(&modules.join(link))?;
        }
        // The guest mounts the headers there.
        own::create_dir_all(&modules.join("build"))?;
        crate::headers::pack_distribution(stage, &self.tree, release, wanted.arch())?;
        crate::pack::need_depmod()?;
        let depmod = Cmd::new("depmod").env("PATH", debian::programs::search_path());
        let output = depmod.arg("-b").arg(stage).arg(release).output(Limits::seconds(300)).await?;
        if !output.exit.success() {
            return Err(InfrastructureError::program("depmod", output.error_line()).into());
        }
        self.initramfs(stage, &modules).await?;
        let config = own::read_to_string(&stage.join("config"), CONFIG_BYTES)?;
        let compiler = match DotConfig::parse(&config).get("CC_VERSION_TEXT") {
            KValue::Text(text) => text.clone(),
            _ => String::new(),
        };
        Ok(Meta {
            version: META_VERSION,
            arch: wanted.arch(),
            release: release.clone(),
            image: image.into(),
            image_hash: fsx::digest::file(&stage.join(image))?,
            vmlinux: None,
            modules: true,
            initrd: Some("initrd".into()),
            package: Some(format!("{} {}", package.name, package.version)),
            config_hash: hash_fields([config.as_str()]).to_string(),
            unmet: Vec::new(),
            unknown_options: Vec::new(),
            flavor: wanted.name().to_string(),
            compiler,
            source_tree: String::new(),
            objects: 0,
            build_ms: 0,
        })
    }

    /// The directory of the modules.
    fn modules(&self) -> Option<PathBuf> {
        let dirs = ["lib/modules", "usr/lib/modules"].map(|dir| self.tree.join(dir).join(&self.release));
        dirs.into_iter().find(|dir| dir.join("kernel").is_dir() || dir.join("modules.order").is_file())
    }

    async fn initramfs(&self, stage: &Path, modules: &Path) -> Result<(), BuildError> {
        let busybox = ["bin/busybox", "usr/bin/busybox"].map(|path| self.tree.join(path));
        let busybox = busybox.into_iter().find(|path| path.is_file());
        let package = || "busybox-static".to_owned();
        let no_busybox = || InfrastructureError::Package { package: package(), missing: "no busybox" };
        let busybox = own::read(&busybox.ok_or_else(no_busybox)?, FILE_BYTES)?;
        let list = own::read(&modules.join("modules.dep"), FILE_BYTES)?;
        let list = String::from_utf8_lossy(&list);
        let mut loaded = Vec::new();
        for path in initramfs::load_order(&list, &initramfs::WANTED) {
            let content = decompressed(&modules.join(&path)).await?;
            loaded.push((format!("{}.ko", initramfs::module_name(&path)), content));
        }
        Ok(own::write(&stage.join("initrd"), initramfs::archive(&busybox, &loaded))?)
    }
}

/// The maximum size of a module or program that is read into memory, in bytes.
const FILE_BYTES: u64 = 1 << 30;

/// A module in the form that the kernel loads.
async fn decompressed(file: &Path) -> Result<Vec<u8>, BuildError> {
    let program = match file.extension().and_then(|ending| ending.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return Ok(own::read(file, FILE_BYTES)?),
    };
    let output = Cmd::new(program).arg("-dc").arg(file).output(Limits::seconds(60)).await?;
    if output.exit.success() {
        return Ok(output.stdout);
    }
    Err(InfrastructureError::program(format!("{program} {}", file.display()), output.error_line()).into())
}

impl Store {
    fn name_path(&self, name: &StoreKernel) -> PathBuf {
        self.dir().join(".names").join(name.as_str())
    }

    /// Makes a name refer to a kernel of the store.
    fn set_name(&self, name: &StoreKernel, id: &KernelId) -> Result<(), BuildError> {
        let path = self.name_path(name);
        let dir = path.parent().unwrap_or(self.dir());
        own::create_dir_all(dir)?;
        Ok(publish::file(&path, format!("{id}\n"), Durability::Cached)?)
    }

    /// The kernel with this name, if the store has it. Counts as a use.
    #[must_use]
    pub fn named(&self, wanted: &DistroKernel) -> Option<Kernel> {
        let id: KernelId =
            own::read_to_string(&self.name_path(&wanted.name()), 1000).ok()?.trim().parse().ok()?;
        self.get(&id)
    }

    /// All names, each with its kernel.
    #[must_use]
    pub fn names(&self) -> Vec<(StoreKernel, KernelId)> {
        let root = self.dir().join(".names");
        let files = walkdir::WalkDir::new(&root).sort_by_file_name().into_iter().filter_map(Result::ok);
        let read = |entry: walkdir::DirEntry| {
            let name = entry.path().strip_prefix(&root).ok()?.to_str()?.parse().ok()?;
            let id = own::read_to_string(entry.path(), 1000).ok()?.trim().parse().ok()?;
            Some((name, id))
        };
        files.filter_map(read).collect()
    }
}
