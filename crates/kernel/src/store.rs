//! The kernel store: one directory per kernel id, published by rename, so that every entry is complete.
//!
//! A source that is certain not to build also has an entry, with the reason and the log.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fsx::own;
use fsx::publish::{self, Durability};
use fsx::untrusted::Scratch;
use model::{Arch, KernelId};
use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::check::UnmetOption;
use crate::error::{BuildError, InfrastructureError};
use crate::id::hash_fields;

/// A kernel that can be booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Its id in the store.
    pub id: KernelId,
    /// The architecture.
    pub arch: Arch,
    /// The file for QEMU's `-kernel`: `vmlinux` (x86_64 with PVH; not decompressed at boot), `bzImage` or `Image`.
    pub image: PathBuf,
    /// SHA-256 (hex) of the image.
    pub image_hash: String,
    /// A hash of its code, which is equal for kernels that differ only in line numbers; `None` if it is not known.
    pub code: Option<String>,
    /// The directory with `lib/modules/<release>/`; `None` without CONFIG_MODULES.
    pub modules: Option<PathBuf>,
    /// The release, as `uname -r` prints it.
    pub release: String,
    /// The final `.config`.
    pub config: PathBuf,
    /// The initramfs that loads the drivers of the root disk; `None` if they are built in.
    pub initrd: Option<PathBuf>,
    /// The ELF file with symbols, for gdb and addr2line.
    pub vmlinux: Option<PathBuf>,
    /// The packed headers for modules built outside the tree ([`crate::headers`]).
    pub headers: Option<PathBuf>,
    /// The number of objects compiled for it, which is small in an incremental build.
    pub objects: u32,
    /// Whether it was already in the store.
    pub cached: bool,
    /// The time that the download took; `None` if this call did not download it.
    pub fetched: Option<Duration>,
    /// Tolerated options that did not get their required value, as `OPT=y`.
    pub tolerated: Vec<String>,
    /// Required options that the source does not define.
    pub unknown_options: Vec<String>,
}

impl Kernel {
    /// A kernel that the user provides, used in place and never stored: the image with its hash, without any other file
    /// than the configuration. `kind` distinguishes its id from those of other kinds.
    pub(crate) fn in_place(
        kind: &str,
        arch: Arch,
        (image, image_hash): (PathBuf, String),
        release: String,
        config: PathBuf,
    ) -> Self {
        Self {
            id: hash_fields([kind, &image_hash, &release]),
            arch,
            image,
            image_hash,
            code: None,
            modules: None,
            release,
            config,
            initrd: None,
            vmlinux: None,
            headers: None,
            objects: 0,
            cached: true,
            fetched: None,
            tolerated: Vec::new(),
            unknown_options: Vec::new(),
        }
    }
}

/// The description of a stored kernel: `meta.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The [`META_VERSION`] of the writer.
    pub version: u32,
    /// The architecture.
    pub arch: Arch,
    /// The release, as `uname -r` prints it.
    pub release: String,
    /// The file name of the image.
    pub image: String,
    /// SHA-256 (hex) of the image.
    pub image_hash: String,
    /// A hash of its code and that of its modules ([`Kernel::code`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The file name of the ELF file with symbols.
    pub vmlinux: Option<String>,
    /// Whether it has `lib/modules/`.
    pub modules: bool,
    /// The file name of its initramfs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<String>,
    /// The distribution package and its version; `None` for a kernel built here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// SHA-256 (hex) of the final `.config`.
    pub config_hash: String,
    /// Required options that did not get their value.
    pub unmet: Vec<UnmetOption>,
    /// Required options that the source does not define.
    pub unknown_options: Vec<String>,
    /// The name of the flavor.
    pub flavor: String,
    /// The versions of compiler and linker.
    pub compiler: String,
    /// The git tree it was built from; empty for a working tree.
    pub source_tree: String,
    /// The kernel of which it is a copy, because its commit changes no file that is part of the build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_as: Option<KernelId>,
    /// The number of objects compiled for it.
    pub objects: u32,
    /// The time from claiming a build tree to filling the stage, in ms.
    pub build_ms: u64,
}

/// The version of [`Meta`] that this program writes. Kernels with another version are rebuilt.
pub const META_VERSION: u32 = 1;

/// The name of the packed headers in the store.
pub(crate) const HEADERS: &str = "headers.tar.zst";
/// The maximum size of a description, in bytes.
pub(crate) const META_BYTES: u64 = 1 << 20;

/// `failed.json`.
#[derive(Debug, Serialize, Deserialize)]
struct FailedMeta {
    version: u32,
    reason: String,
}

/// An entry of the store.
#[derive(Debug)]
pub enum Stored {
    /// A kernel.
    Kernel(Box<Meta>),
    /// The source does not build.
    Failed {
        /// The first error.
        reason: String,
        /// The output of make.
        log: PathBuf,
    },
}

/// The kernel store of a host.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The store of a cache.
    #[must_use]
    pub fn of(cache: &Cache) -> Self {
        Self { dir: cache.kernels() }
    }

    /// The directory of an id.
    #[must_use]
    pub fn path(&self, id: &KernelId) -> PathBuf {
        self.dir.join(id.as_str())
    }

    /// The lock for building an id.
    pub(crate) fn lock_path(&self, id: &KernelId) -> PathBuf {
        self.dir.join(".locks").join(id.as_str())
    }

    /// The directory of the store.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The kernel with this id. Counts as a use.
    #[must_use]
    pub fn get(&self, id: &KernelId) -> Option<Kernel> {
        match self.find(id)? {
            Stored::Kernel(meta) => Some(self.kernel(id, &meta, true)),
            Stored::Failed { .. } => None,
        }
    }

    /// The ids of all entries.
    #[must_use]
    pub fn ids(&self) -> Vec<KernelId> {
        let entries = own::list(&self.dir).unwrap_or_default().into_iter();
        entries.filter_map(|entry| entry.name.to_str()?.parse().ok()).collect()
    }

    /// Looks up an id and records the use.
    #[must_use]
    pub fn find(&self, id: &KernelId) -> Option<Stored> {
        let found = self.read(id)?;
        let name = if matches!(found, Stored::Kernel(_)) { "meta.json" } else { "failed.json" };
        // The use is not recorded if the store is read-only.
        if let Ok(file) = own::open(&self.path(id).join(name)) {
            let _ = file.set_modified(SystemTime::now());
        }
        Some(found)
    }

    /// Looks up an id without recording the use.
    pub(crate) fn read(&self, id: &KernelId) -> Option<Stored> {
        let dir = self.path(id);
        if let Ok(text) = own::read_to_string(&dir.join("meta.json"), META_BYTES) {
            let meta: Meta = serde_json::from_str(&text).ok()?;
            let usable = meta.version == META_VERSION && dir.join(&meta.image).is_file();
            return usable.then(|| Stored::Kernel(Box::new(meta)));
        }
        let text = own::read_to_string(&dir.join("failed.json"), META_BYTES).ok()?;
        let failed: FailedMeta = serde_json::from_str(&text).ok()?;
        let log = dir.join("build.log");
        (failed.version == META_VERSION).then_some(Stored::Failed { reason: failed.reason, log })
    }

    /// The kernel with this id and description.
    pub(crate) fn kernel(&self, id: &KernelId, meta: &Meta, cached: bool) -> Kernel {
        let dir = self.path(id);
        Kernel {
            id: id.clone(),
            arch: meta.arch,
            image: dir.join(&meta.image),
            image_hash: meta.image_hash.clone(),
            code: meta.code.clone(),
            modules: meta.modules.then(|| dir.clone()),
            release: meta.release.clone(),
            config: dir.join("config"),
            initrd: meta.initrd.as_ref().map(|name| dir.join(name)),
            vmlinux: meta.vmlinux.as_ref().map(|name| dir.join(name)),
            headers: Some(dir.join(HEADERS)).filter(|path| path.is_file()),
            objects: meta.objects,
            cached,
            tolerated: meta.unmet.iter().map(|unmet| unmet.option.to_string()).collect(),
            unknown_options: meta.unknown_options.clone(),
            fetched: None,
        }
    }

    /// A new directory in the store, to be filled and published. It is deleted if it is not published.
    pub(crate) fn stage(&self) -> Result<Scratch, BuildError> {
        let stage = self.scratch()?;
        // Guests read it over 9p with the permissions of QEMU's user.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(stage.path(), mode).map_err(InfrastructureError::io(stage.path()))?;
        Ok(stage)
    }

    /// A new directory in the store that a build can write to. It is deleted with its owner.
    pub(crate) fn scratch(&self) -> Result<Scratch, BuildError> {
        own::create_dir_all(&self.dir)?;
        self.remove_old_stages();
        Ok(Scratch::new_in(&self.dir, ".stage-").map_err(InfrastructureError::io(&self.dir))?)
    }

    /// Removes the stages of dead processes after a day, for file systems without locks.
    fn remove_old_stages(&self) {
        for entry in own::list(&self.dir).unwrap_or_default() {
            let stage = entry.name.to_str().is_some_and(|name| name.starts_with(".stage-"));
            let modified = own::metadata(&entry.path).ok().and_then(|meta| meta.modified().ok());
            let age = modified.and_then(|time| time.elapsed().ok());
            if stage && age.is_some_and(|age| age > Duration::from_secs(86_400)) {
                let _ = own::remove_tree(&entry.path);
            }
        }
    }

    /// Publishes a filled stage as a kernel. The caller must hold the lock of the id.
    pub(crate) fn publish(&self, id: &KernelId, stage: &Scratch, meta: &Meta) -> Result<(), BuildError> {
        let text = serde_json::to_string_pretty(meta).expect("metadata is plain data");
        self.put(id, stage, "meta.json", &text)
    }

    /// Stores the fact that a source does not build. The caller must hold the lock of the id.
    pub(crate) fn publish_failure(&self, id: &KernelId, reason: &str, log: &Path) -> Result<(), BuildError> {
        let stage = self.stage()?;
        own::copy(log, &stage.path().join("build.log"))?;
        let failed = FailedMeta { version: META_VERSION, reason: reason.into() };
        let text = serde_json::to_string_pretty(&failed).expect("metadata is plain data");
        self.put(id, &stage, "failed.json", &text)
    }

    /// Publishes a stage with its description `text` in the file `name`.
    pub(crate) fn put(
        &self,
        id: &KernelId,
        stage: &Scratch,
        name: &str,
        text: &str,
    ) -> Result<(), BuildError> {
        own::write(&stage.path().join(name), text)?;
        for entry in own::list(stage.path())?.into_iter().filter(|entry| entry.is_file) {
            own::open(&entry.path)?.sync_all().map_err(fsx::Error::of("sync", &entry.path))?;
        }
        let target = self.path(id);
        if target.exists() {
            // The old entry has another version or is damaged, so it cannot be in use.
            let old = self.stage()?;
            own::rename(&target, &old.path().join("old"))?;
        }
        publish::dir(stage.path(), &target, Durability::Synced)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        Meta {
            version: META_VERSION,
            arch: Arch::X86_64,
            release: "6.1.0".into(),
            image: "vmlinux".into(),
            image_hash: "0".into(),
            code: None,
            vmlinux: None,
            modules: false,
            initrd: None,
            package: None,
            config_hash: "0".into(),
            unmet: Vec::new(),
            unknown_options: Vec::new(),
            flavor: "x".into(),
            compiler: "gcc".into(),
            source_tree: String::new(),
            same_as: None,
            objects: 1,
            build_ms: 1,
        }
    }

    fn store() -> (tempfile::TempDir, Store, KernelId) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::of(&Cache { dir: dir.path().into() });
        (dir, store, hash_fields(["a"]))
    }

    #[test]
    fn published_kernels_are_found() {
        let (_dir, store, id) = store();
        assert!(store.find(&id).is_none());
        let stage = store.stage().unwrap();
        std::fs::write(stage.path().join("vmlinux"), "elf").unwrap();
        store.publish(&id, &stage, &meta()).unwrap();
        let Some(Stored::Kernel(found)) = store.find(&id) else { panic!("not found") };
        assert_eq!(*found, meta());
        assert_eq!(store.kernel(&id, &found, true).image, store.path(&id).join("vmlinux"));
        // Without its image, the entry is not usable. Publishing it again repairs it.
        std::fs::remove_file(store.path(&id).join("vmlinux")).unwrap();
        assert!(store.find(&id).is_none());
        let stage = store.stage().unwrap();
        std::fs::write(stage.path().join("vmlinux"), "elf").unwrap();
        store.publish(&id, &stage, &meta()).unwrap();
        assert!(store.find(&id).is_some());
        let left: Vec<_> = std::fs::read_dir(store.path(&id).parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn failures_keep_reason_and_log() {
        let (dir, store, id) = store();
        let log = dir.path().join("log");
        std::fs::write(&log, "output").unwrap();
        store.publish_failure(&id, "a.c:1: error: x", &log).unwrap();
        let Some(Stored::Failed { reason, log }) = store.find(&id) else { panic!("not found") };
        assert_eq!(
            (reason.as_str(), std::fs::read_to_string(log).unwrap().as_str()),
            ("a.c:1: error: x", "output")
        );
    }

    #[test]
    fn an_entry_with_an_invalid_description_is_ignored() {
        let (_dir, store, id) = store();
        for text in ["", "{}", "null", "{\"version\":99}"] {
            std::fs::create_dir_all(store.path(&id)).unwrap();
            std::fs::write(store.path(&id).join("meta.json"), text).unwrap();
            assert!(store.find(&id).is_none(), "{text}");
        }
    }
}
