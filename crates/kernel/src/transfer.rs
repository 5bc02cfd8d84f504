//! Kernels that come from another host's store: checked against what they say of themselves, then published like one's
//! own.
//!
//! What was only half received is never seen: it lies in a stage until it is whole.

use std::path::PathBuf;
use std::time::Duration;

use model::KernelId;

use crate::cache::Lock;
use crate::error::BuildError;
use crate::store::{Meta, Store, Stored, hash_file};

/// How long a publication waits for whoever builds the same kernel.
const PATIENCE: Duration = Duration::from_secs(10);

impl Store {
    /// The folder of a kernel (or of a remembered failure) that is there and whole, to be copied to another host.
    #[must_use]
    pub fn whole(&self, id: &KernelId) -> Option<PathBuf> {
        self.find(id).map(|_| self.path(id))
    }

    /// A folder to receive a kernel's files in; deleted unless it is [adopted](Self::adopt).
    pub fn receive(&self) -> Result<tempfile::TempDir, BuildError> {
        self.stage()
    }

    /// Publishes what was received as the kernel `id`, if it is what it says it is.
    pub async fn adopt(&self, id: &KernelId, stage: tempfile::TempDir) -> Result<(), BuildError> {
        let wrong = |why: &str| BuildError::Infrastructure(format!("kernel {}: {why}", id.short()));
        let dir = stage.path().to_path_buf();
        let kernel = dir.join("meta.json").is_file();
        let name = if kernel { "meta.json" } else { "failed.json" };
        let text = std::fs::read_to_string(dir.join(name)).map_err(|error| BuildError::io(&dir, &error))?;
        if kernel {
            let meta: Meta =
                serde_json::from_str(&text).map_err(|_| wrong("its meta.json cannot be read"))?;
            let plain = !meta.image.is_empty() && !meta.image.contains('/') && !meta.image.starts_with('.');
            if !plain || hash_file(&dir.join(&meta.image))? != meta.image_hash {
                return Err(wrong("its image is not the one that was built; it is built here instead"));
            }
        }
        let until = std::time::Instant::now() + PATIENCE;
        let _lock = loop {
            if let Some(lock) = Lock::try_acquire(&self.lock_path(id), "receives it")? {
                break lock;
            }
            if std::time::Instant::now() > until {
                return Err(wrong("it is being built here meanwhile"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        if self.find(id).is_some() {
            return Ok(());
        }
        self.put(id, stage, name, &text)?;
        match self.find(id) {
            Some(Stored::Kernel(_) | Stored::Failed { .. }) => Ok(()),
            None => Err(wrong("what was received cannot be used; is it another version's?")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Cache;
    use crate::store::hash_fields;

    #[tokio::test]
    async fn only_what_is_whole_and_right_is_adopted() {
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
            assert!(store.adopt(&id, stage(&bad)).await.is_err(), "{bad}");
            assert!(store.whole(&id).is_none());
        }
        assert!(store.adopt(&id, store.receive().unwrap()).await.is_err());
        let there = stage("");
        let hash = hash_file(&there.path().join("vmlinux")).unwrap();
        store.adopt(&id, stage(&meta(&hash))).await.unwrap();
        assert!(store.whole(&id).is_some_and(|dir| dir.join("vmlinux").is_file()));
        // A second one is as good as the first.
        store.adopt(&id, stage(&meta(&hash))).await.unwrap();
    }
}
