//! Receives a kernel from the store of another host: checks it against its description and publishes it.
//!
//! A worker host is untrusted: the received directory is read with [`fsx::untrusted`], and an incomplete kernel is
//! never published.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fsx::lock::Lock;
use fsx::untrusted::{Dir, Scratch};
use model::KernelId;

use crate::error::{BuildError, InfrastructureError};
use crate::store::{META_BYTES, Meta, Store, Stored};

/// How long publication waits for a process that builds the same kernel.
const LOCK_TIME: Duration = Duration::from_secs(10);

impl Store {
    /// The directory of a complete entry (a kernel or a failed build), to copy it to another host.
    #[must_use]
    pub fn entry_dir(&self, id: &KernelId) -> Option<PathBuf> {
        self.find(id).map(|_| self.path(id))
    }

    /// A directory for the files of a received kernel. It is deleted unless it is [adopted](Self::adopt).
    pub fn receive(&self) -> Result<Scratch, BuildError> {
        self.stage()
    }

    /// Publishes a received kernel under `id` if its files match its description.
    pub async fn adopt(&self, id: &KernelId, stage: &Scratch) -> Result<(), BuildError> {
        let refused = |problem| InfrastructureError::Received { id: id.short().to_string(), problem };
        let (name, text) = check(stage.path(), &refused)?;
        let path = self.lock_path(id);
        let lock = Lock::acquire(&path, "receives it", |_| {});
        let Ok(lock) = tokio::time::timeout(LOCK_TIME, lock).await else {
            return Err(refused("it is being built on this host").into());
        };
        let _lock = lock?;
        if self.find(id).is_some() {
            return Ok(());
        }
        self.put(id, stage, name, &text)?;
        match self.find(id) {
            Some(Stored::Kernel(_) | Stored::Failed { .. }) => Ok(()),
            None => Err(refused("this version of ktest cannot use it").into()),
        }
    }
}

/// Checks a received directory. Returns the name and the text of its description.
fn check(
    stage: &Path,
    refused: &dyn Fn(&'static str) -> InfrastructureError,
) -> Result<(&'static str, String), BuildError> {
    let dir = Dir::open(stage).map_err(InfrastructureError::Untrusted)?;
    let failed = dir.metadata("meta.json").map_err(InfrastructureError::Untrusted)?.is_none();
    let name = if failed { "failed.json" } else { "meta.json" };
    let text = dir.read_to_string(name, META_BYTES).map_err(InfrastructureError::Untrusted)?;
    if failed {
        return Ok((name, text));
    }
    let meta: Meta = serde_json::from_str(&text).map_err(|_| refused("its meta.json is not valid"))?;
    let plain = !meta.image.is_empty() && !meta.image.contains('/') && !meta.image.starts_with('.');
    let hash = if plain { dir.open_file(&meta.image).ok() } else { None };
    match hash.and_then(|file| fsx::digest::reader(file).ok()) {
        Some(hash) if hash == meta.image_hash => Ok((name, text)),
        _ => Err(refused("its image is damaged; it is built on this host instead").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Cache;
    use crate::id::hash_fields;

    #[tokio::test]
    async fn only_complete_kernels_are_adopted() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::of(&Cache { dir: dir.path().into() });
        let id = hash_fields(["a"]);
        let meta = |hash: &str| {
            format!(
                r#"{{"version":1,"arch":"x86_64","release":"6.1.0","image":"vmlinux","image_hash":"{hash}","vmlinux":null,
                "modules":false,"config_hash":"0","unmet":[],"unknown_options":[],"flavor":"x","compiler":"gcc",
                "source_tree":"","objects":1,"build_ms":1}}"#
            )
        };
        let stage = |meta: &str| {
            let stage = store.receive().unwrap();
            std::fs::write(stage.path().join("vmlinux"), "elf").unwrap();
            std::fs::write(stage.path().join("meta.json"), meta).unwrap();
            stage
        };
        for bad in [meta("00"), "{}".into(), String::new()] {
            assert!(store.adopt(&id, &stage(&bad)).await.is_err(), "{bad}");
            assert!(store.entry_dir(&id).is_none());
        }
        assert!(store.adopt(&id, &store.receive().unwrap()).await.is_err());
        let received = stage("");
        let hash = fsx::digest::file(&received.path().join("vmlinux")).unwrap();
        store.adopt(&id, &stage(&meta(&hash))).await.unwrap();
        assert!(store.entry_dir(&id).is_some_and(|dir| dir.join("vmlinux").is_file()));
        // A second copy changes nothing.
        store.adopt(&id, &stage(&meta(&hash))).await.unwrap();
    }
}
