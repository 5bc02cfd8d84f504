//! The kernel store: one folder per kernel id, published by rename, so that what is there is whole.
//!
//! A source that certainly does not build is remembered the same way, with its reason and log.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use model::{Arch, KernelId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cache::{Cache, make_dir};
use crate::check::Unmet;
use crate::error::BuildError;
use crate::headers;

/// A kernel that can be booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Its name in the store.
    pub id: KernelId,
    /// What it runs on.
    pub arch: Arch,
    /// What QEMU's `-kernel` takes: `vmlinux` (x86_64 with PVH: nothing to unpack at boot), `bzImage` or `Image`.
    pub image: PathBuf,
    /// SHA-256 (hex) of the image.
    pub image_hash: String,
    /// The folder that holds `lib/modules/<release>/`; `None` without CONFIG_MODULES.
    pub modules: Option<PathBuf>,
    /// What `uname -r` says.
    pub release: String,
    /// The finished `.config`.
    pub config: PathBuf,
    /// The initramfs that it needs to find its root disk; `None` where the drivers are built in.
    pub initrd: Option<PathBuf>,
    /// The ELF file with symbols, for gdb and addr2line.
    pub vmlinux: Option<PathBuf>,
    /// The packed headers for modules built outside the tree ([`crate::headers`]).
    pub headers: Option<PathBuf>,
    /// How many objects were made when it was built: all of them, or few in an incremental build.
    pub objects: u32,
    /// Whether it was in the store already.
    pub cached: bool,
    /// Required options that did not take and were tolerated, as `OPT=y`.
    pub tolerated: Vec<String>,
    /// Required options that this source does not know.
    pub unknown_options: Vec<String>,
}

/// What is stored about a kernel, beside its files: `meta.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// [`META_VERSION`] of the writer.
    pub version: u32,
    /// What it runs on.
    pub arch: Arch,
    /// What `uname -r` says.
    pub release: String,
    /// The image's file name.
    pub image: String,
    /// SHA-256 (hex) of the image.
    pub image_hash: String,
    /// The file name of the ELF file with symbols.
    pub vmlinux: Option<String>,
    /// Whether there is `lib/modules/`.
    pub modules: bool,
    /// The file name of the initramfs that it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<String>,
    /// The distribution's package and its version, where it was not built here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// SHA-256 (hex) of the finished `.config`.
    pub config_hash: String,
    /// Required options that did not take.
    pub unmet: Vec<Unmet>,
    /// Required options that the source does not know.
    pub unknown_options: Vec<String>,
    /// The flavor's name.
    pub flavor: String,
    /// Compiler and linker.
    pub compiler: String,
    /// The git tree it was built from; empty for a working tree.
    pub source_tree: String,
    /// How many objects were made.
    pub objects: u32,
    /// How long it took from claiming a build tree to filling the stage, in ms.
    pub build_ms: u64,
}

/// The version of [`Meta`] that this build writes; others are built again.
pub const META_VERSION: u32 = 1;

/// `failed.json`.
#[derive(Debug, Serialize, Deserialize)]
struct FailedMeta {
    version: u32,
    reason: String,
}

/// What the store knows of an id.
#[derive(Debug)]
pub enum Stored {
    /// A kernel.
    Kernel(Box<Meta>),
    /// It does not build.
    Failed {
        /// The first error.
        reason: String,
        /// make's output.
        log: PathBuf,
    },
}

/// The store of a host.
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

    /// The folder of an id.
    #[must_use]
    pub fn path(&self, id: &KernelId) -> PathBuf {
        self.dir.join(id.as_str())
    }

    /// The lock under which an id is built.
    pub(crate) fn lock_path(&self, id: &KernelId) -> PathBuf {
        self.dir.join(".locks").join(id.as_str())
    }

    /// The folder of them all.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The kernel of an id, where there is one. Counts as use.
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
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().filter_map(Result::ok);
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// Looks an id up and notes that it was of use.
    #[must_use]
    pub fn find(&self, id: &KernelId) -> Option<Stored> {
        let found = self.read(id)?;
        let name = if matches!(found, Stored::Kernel(_)) { "meta.json" } else { "failed.json" };
        // Who may not write here need not say so.
        let file = File::open(self.path(id).join(name));
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
        Some(found)
    }

    /// Looks an id up.
    pub(crate) fn read(&self, id: &KernelId) -> Option<Stored> {
        let dir = self.path(id);
        if let Ok(text) = std::fs::read_to_string(dir.join("meta.json")) {
            let meta: Meta = serde_json::from_str(&text).ok()?;
            let whole = meta.version == META_VERSION && dir.join(&meta.image).is_file();
            return whole.then(|| Stored::Kernel(Box::new(meta)));
        }
        let text = std::fs::read_to_string(dir.join("failed.json")).ok()?;
        let failed: FailedMeta = serde_json::from_str(&text).ok()?;
        let log = dir.join("build.log");
        (failed.version == META_VERSION).then_some(Stored::Failed { reason: failed.reason, log })
    }

    /// The kernel of an id, from its metadata.
    pub(crate) fn kernel(&self, id: &KernelId, meta: &Meta, cached: bool) -> Kernel {
        let dir = self.path(id);
        Kernel {
            id: id.clone(),
            arch: meta.arch,
            image: dir.join(&meta.image),
            image_hash: meta.image_hash.clone(),
            modules: meta.modules.then(|| dir.clone()),
            release: meta.release.clone(),
            config: dir.join("config"),
            initrd: meta.initrd.as_ref().map(|name| dir.join(name)),
            vmlinux: meta.vmlinux.as_ref().map(|name| dir.join(name)),
            headers: Some(dir.join(headers::ARCHIVE)).filter(|path| path.is_file()),
            objects: meta.objects,
            cached,
            tolerated: meta.unmet.iter().map(|unmet| unmet.option.to_string()).collect(),
            unknown_options: meta.unknown_options.clone(),
        }
    }

    /// A new folder beside the kernels, to be filled and published; it is deleted if it is not.
    pub(crate) fn stage(&self) -> Result<tempfile::TempDir, BuildError> {
        make_dir(&self.dir)?;
        self.sweep();
        let stage = tempfile::Builder::new().prefix(".stage-").tempdir_in(&self.dir);
        let stage = stage.map_err(|error| BuildError::io(&self.dir, &error))?;
        // Guests read it over 9p as whatever user QEMU runs as.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(stage.path(), mode).map_err(|error| BuildError::io(stage.path(), &error))?;
        Ok(stage)
    }

    /// Removes what dead processes left half done, a day later.
    fn sweep(&self) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return };
        for entry in entries.filter_map(Result::ok) {
            let left = entry.file_name().to_str().is_some_and(|name| name.starts_with(".stage-"));
            let age =
                entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
            if left && age.is_some_and(|age| age > Duration::from_secs(86_400)) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Publishes a filled stage as a kernel. The caller holds the id's lock.
    pub(crate) fn publish(
        &self,
        id: &KernelId,
        stage: tempfile::TempDir,
        meta: &Meta,
    ) -> Result<(), BuildError> {
        let text = serde_json::to_string_pretty(meta).expect("metadata is plain data");
        self.put(id, stage, "meta.json", &text)
    }

    /// Remembers that a source does not build. The caller holds the id's lock.
    pub(crate) fn publish_failure(&self, id: &KernelId, reason: &str, log: &Path) -> Result<(), BuildError> {
        let stage = self.stage()?;
        let kept = stage.path().join("build.log");
        std::fs::copy(log, &kept).map_err(|error| BuildError::io(log, &error))?;
        let failed = FailedMeta { version: META_VERSION, reason: reason.into() };
        let text = serde_json::to_string_pretty(&failed).expect("metadata is plain data");
        self.put(id, stage, "failed.json", &text)
    }

    pub(crate) fn put(
        &self,
        id: &KernelId,
        stage: tempfile::TempDir,
        name: &str,
        text: &str,
    ) -> Result<(), BuildError> {
        let path = stage.path().join(name);
        std::fs::write(&path, text).map_err(|error| BuildError::io(&path, &error))?;
        for entry in std::fs::read_dir(stage.path()).into_iter().flatten().filter_map(Result::ok) {
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                let synced = File::open(entry.path()).and_then(|file| file.sync_all());
                synced.map_err(|error| BuildError::io(&entry.path(), &error))?;
            }
        }
        let target = self.path(id);
        if target.exists() {
            // Of another version, or damaged: nobody could use it.
            let old = self.stage()?;
            let moved = std::fs::rename(&target, old.path().join("old"));
            moved.map_err(|error| BuildError::io(&target, &error))?;
        }
        std::fs::rename(stage.path(), &target).map_err(|error| BuildError::io(&target, &error))?;
        // The folder is no longer where the guard thinks.
        let _ = stage.keep();
        Ok(())
    }
}

/// SHA-256 (hex) of a file.
pub(crate) fn hash_file(path: &Path) -> Result<String, BuildError> {
    let io = |error: std::io::Error| BuildError::io(path, &error);
    let mut file = File::open(path).map_err(io)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = file.read(&mut buffer).map_err(io)?;
        if count == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..count]);
    }
}

/// SHA-256 (hex) of fields, each with its length, so that no two lists look alike.
pub(crate) fn hash_fields<'a>(fields: impl IntoIterator<Item = &'a str>) -> KernelId {
    let mut hasher = Sha256::new();
    for field in fields {
        hasher.update((field.len() as u64).to_le_bytes());
        hasher.update(field.as_bytes());
    }
    hex(&hasher.finalize()).parse().expect("a SHA-256 has 64 digits")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
    fn published_kernels_are_found_whole() {
        let (_dir, store, id) = store();
        assert!(store.find(&id).is_none());
        let stage = store.stage().unwrap();
        std::fs::write(stage.path().join("vmlinux"), "elf").unwrap();
        store.publish(&id, stage, &meta()).unwrap();
        let Some(Stored::Kernel(found)) = store.find(&id) else { panic!("it is there") };
        assert_eq!(*found, meta());
        assert_eq!(store.kernel(&id, &found, true).image, store.path(&id).join("vmlinux"));
        // Without its image it is no kernel; publishing again mends it.
        std::fs::remove_file(store.path(&id).join("vmlinux")).unwrap();
        assert!(store.find(&id).is_none());
        let stage = store.stage().unwrap();
        std::fs::write(stage.path().join("vmlinux"), "elf").unwrap();
        store.publish(&id, stage, &meta()).unwrap();
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
        let Some(Stored::Failed { reason, log }) = store.find(&id) else { panic!("it is there") };
        assert_eq!(
            (reason.as_str(), std::fs::read_to_string(log).unwrap().as_str()),
            ("a.c:1: error: x", "output")
        );
    }

    #[test]
    fn rubbish_is_no_kernel() {
        let (_dir, store, id) = store();
        for text in ["", "{}", "null", "{\"version\":99}"] {
            std::fs::create_dir_all(store.path(&id)).unwrap();
            std::fs::write(store.path(&id).join("meta.json"), text).unwrap();
            assert!(store.find(&id).is_none(), "{text}");
        }
    }

    #[test]
    fn fields_do_not_run_together() {
        assert_ne!(hash_fields(["ab", "c"]), hash_fields(["a", "bc"]));
        assert_eq!(hash_fields(["a"]), hash_fields(["a"]));
    }
}
