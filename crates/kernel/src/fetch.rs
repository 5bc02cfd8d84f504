//! Distribution kernels, downloaded into the store by name: `debian/trixie`, `debian/trixie/arm64`, `fedora/42`.
//!
//! Every package has the checksum of its index, and the kernel id is a hash of the package hashes.

mod initramfs;
mod packages;

use std::path::{Path, PathBuf};
use std::time::Instant;

use debian::{DebianError, HostApt, Mirror};
use fsx::own;
use fsx::publish::{self, Durability};
use fsx::untrusted::Scratch;
use model::{Arch, KernelId, NamedKernel, StoreKernel};
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

/// The mirror to pass to [`fetch`] for a kernel on this host: that of its suite, or that of the host's own suite for a
/// kernel of another repository.
pub async fn host_mirror(wanted: &NamedKernel) -> Mirror {
    let host = HostApt::read().await;
    match wanted {
        NamedKernel::Debian(kernel) => host.mirror(kernel.suite()),
        NamedKernel::Repo(_) => host.mirror(&host.suite().unwrap_or_default()),
    }
}

/// Downloads the newest kernel of a name into the store, unless the store has it. Requires apt, dpkg and kmod on the
/// host.
pub async fn fetch(
    wanted: &NamedKernel,
    mirror: &Mirror,
    cache: &Cache,
    on: &mut (dyn FnMut(Progress) + Send),
) -> Result<Kernel, BuildError> {
    let begun = Instant::now();
    let store = Store::of(cache);
    let packages = find_packages(wanted, mirror, cache, on).await?;
    let fields = ["package", RECIPE, wanted.arch().as_str()].into_iter().chain(packages.fields());
    let id = hash_fields(fields);
    if let Some(Stored::Kernel(meta)) = store.find(&id) {
        store.set_name(wanted, &id)?;
        return Ok(store.kernel(&id, &meta, true));
    }
    let (image, megabytes) = (packages.image(), packages.size().div_ceil(1_000_000));
    on(Progress::Fetching { step: format!("downloading {image} ({megabytes} MB)") });
    let work = Scratch::new_in(&packages.dir, ".work-").map_err(InfrastructureError::io(&packages.dir))?;
    let tree = packages.unpack(work.path()).await?;
    on(Progress::Publishing);
    let unpacked = Unpacked::new(tree, packages.release.clone(), image)?;
    let stage = store.stage()?;
    let mut meta = unpacked.fill(stage.path(), wanted).await?;
    meta.build_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let _publishing = lock(&store.lock_path(&id), "publishes it", on).await?;
    store.publish(&id, &stage, &meta)?;
    store.set_name(wanted, &id)?;
    Ok(Kernel { fetched: Some(begun.elapsed()), ..store.kernel(&id, &meta, false) })
}

/// The newest kernel of a name on the mirror: its package with its version.
pub async fn find(
    wanted: &NamedKernel,
    mirror: &Mirror,
    cache: &Cache,
    on: &mut (dyn FnMut(Progress) + Send),
) -> Result<String, BuildError> {
    Ok(find_packages(wanted, mirror, cache, on).await?.image())
}

/// The packages in the index of the repository.
async fn find_packages(
    wanted: &NamedKernel,
    mirror: &Mirror,
    cache: &Cache,
    on: &mut (dyn FnMut(Progress) + Send),
) -> Result<Packages, BuildError> {
    Packages::find(wanted, mirror, cache, on).await.map_err(|error| not_found(wanted, error))
}

/// Names the kernel that is not on the mirror.
fn not_found(wanted: &NamedKernel, error: BuildError) -> BuildError {
    let cause = match &error {
        BuildError::Infrastructure(InfrastructureError::Debian(
            cause @ DebianError::NoPackage { certain: true, .. },
        )) => cause.to_string(),
        BuildError::Infrastructure(InfrastructureError::Repo(cause)) if cause.is_certain() => {
            cause.to_string()
        }
        _ => return error,
    };
    InfrastructureError::KernelNotFound { name: wanted.name(), cause }.into()
}

/// The tree of the unpacked packages.
struct Unpacked {
    tree: PathBuf,
    release: String,
    /// The package of the image.
    package: String,
}

/// The directories of modules.
const MODULES: [&str; 2] = ["lib/modules", "usr/lib/modules"];

impl Unpacked {
    fn new(tree: PathBuf, release: Option<String>, package: String) -> Result<Self, BuildError> {
        let found = release.or_else(|| {
            let dirs = MODULES.iter().flat_map(|dir| own::list(&tree.join(dir)).unwrap_or_default());
            let mut names =
                dirs.filter(|dir| has_modules(&dir.path)).filter_map(|dir| dir.name.into_string().ok());
            names.next()
        });
        let release = found.ok_or_else(|| incomplete(&package, "no modules"))?;
        Ok(Self { tree, release, package })
    }

    /// Fills a stage. The modules are moved, not copied.
    async fn fill(&self, stage: &Path, wanted: &NamedKernel) -> Result<Meta, BuildError> {
        let release = &self.release;
        let image = self.move_files(stage, wanted.arch())?;
        crate::pack::need_depmod()?;
        let depmod = Cmd::new("depmod").env("PATH", debian::programs::search_path());
        let output = depmod.arg("-b").arg(stage).arg(release).output(Limits::seconds(300)).await?;
        if !output.exit.success() {
            return Err(InfrastructureError::program("depmod", output.error_line()).into());
        }
        self.initramfs(stage, &stage.join("lib/modules").join(release)).await?;
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
            // Its image says which package it is from.
            code: None,
            vmlinux: None,
            modules: true,
            initrd: Some("initrd".into()),
            package: Some(self.package.clone()),
            config_hash: hash_fields([config.as_str()]).to_string(),
            unmet: Vec::new(),
            unknown_options: Vec::new(),
            flavor: wanted.name().to_string(),
            compiler,
            source_tree: String::new(),
            same_as: None,
            objects: 0,
            build_ms: 0,
        })
    }

    /// Moves image, configuration, symbols and modules into a stage, and packs the headers. Returns the name of the image.
    fn move_files(&self, stage: &Path, arch: Arch) -> Result<&'static str, BuildError> {
        let release = &self.release;
        let from = self.modules().ok_or_else(|| incomplete(&self.package, "no modules"))?;
        crate::headers::pack_distribution(stage, &self.tree, release, arch)?;
        let image = match arch {
            Arch::X86_64 => "bzImage",
            Arch::Aarch64 => "Image",
        };
        // The last three are in /boot, or next to the modules, or only among the headers.
        for (name, other, to) in [
            ("vmlinuz", "vmlinuz", image),
            ("config", "build/.config", "config"),
            ("System.map", "build/System.map", "System.map"),
        ] {
            let in_boot = self.tree.join("boot").join(format!("{name}-{release}"));
            match [in_boot, from.join(name), from.join(other)].into_iter().find(|path| path.is_file()) {
                Some(path) => own::rename(&path, &stage.join(to))?,
                None if name == "System.map" => {}
                None if name == "config" => return Err(incomplete(&self.package, "no configuration").into()),
                None => return Err(incomplete(&self.package, "no boot image").into()),
            }
        }
        let modules = stage.join("lib/modules").join(release);
        own::create_dir_all(&stage.join("lib/modules"))?;
        own::rename(&from, &modules)?;
        for link in ["build", "source"] {
            let path = modules.join(link);
            // Arch has the headers there, others a link to them.
            if path.is_dir() && !path.is_symlink() {
                own::remove_tree(&path)?
            } else {
                own::remove_file(&path)?
            };
        }
        // The guest mounts the headers there.
        own::create_dir_all(&modules.join("build"))?;
        Ok(image)
    }

    /// The directory of the modules.
    fn modules(&self) -> Option<PathBuf> {
        MODULES.iter().map(|dir| self.tree.join(dir).join(&self.release)).find(|dir| has_modules(dir))
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

fn has_modules(dir: &Path) -> bool {
    dir.join("kernel").is_dir() || dir.join("modules.order").is_file()
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

/// Empty for Debian, whose names need no configuration.
fn origin_line(name: &NamedKernel) -> String {
    let origin = name.origin();
    if origin.is_empty() { origin } else { format!("{}\n", fsx::digest::sha256_hex(origin)) }
}

impl Store {
    fn name_path(&self, name: &StoreKernel) -> PathBuf {
        self.dir().join(".names").join(name.as_str())
    }

    /// Makes a name refer to a kernel of the store. The second line of the file is a hash of the origin.
    fn set_name(&self, name: &NamedKernel, id: &KernelId) -> Result<(), BuildError> {
        let path = self.name_path(&name.name());
        let dir = path.parent().unwrap_or(self.dir());
        own::create_dir_all(dir)?;
        Ok(publish::file(&path, format!("{id}\n{}", origin_line(name)), Durability::Cached)?)
    }

    /// The kernel with this name, if the store has it and it came from the same repository. Counts as a use.
    #[must_use]
    pub fn named(&self, wanted: &NamedKernel) -> Option<Kernel> {
        let text = own::read_to_string(&self.name_path(&wanted.name()), 1000).ok()?;
        let (id, origin) = text.split_once('\n').unwrap_or((&text, ""));
        (origin == origin_line(wanted)).then(|| self.get(&id.parse().ok()?)).flatten()
    }

    /// The kernel with this complete name, from whatever repository. Counts as a use.
    #[must_use]
    pub fn with_name(&self, name: &StoreKernel) -> Option<Kernel> {
        let text = own::read_to_string(&self.name_path(name), 1000).ok()?;
        self.get(&text.lines().next()?.parse().ok()?)
    }

    /// All names, each with its kernel.
    #[must_use]
    pub fn names(&self) -> Vec<(StoreKernel, KernelId)> {
        let root = self.dir().join(".names");
        let files = walkdir::WalkDir::new(&root).sort_by_file_name().into_iter().filter_map(Result::ok);
        let read = |entry: walkdir::DirEntry| {
            let name = entry.path().strip_prefix(&root).ok()?.to_str()?.parse().ok()?;
            let id = own::read_to_string(entry.path(), 1000).ok()?.lines().next()?.parse().ok()?;
            Some((name, id))
        };
        files.filter_map(read).collect()
    }
}
