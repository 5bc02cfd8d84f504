//! What of the kernel store may go: planned over plain data, then applied.
//!
//! What was of use lately stays, however large the store is; of the rest the least recently used goes first.

use std::time::{Duration, SystemTime};

use model::KernelId;
use walkdir::WalkDir;

use crate::cache::Lock;
use crate::error::BuildError;
use crate::store::{Meta, Store, Stored};

/// What an entry of the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A kernel.
    Kernel(Box<Meta>),
    /// A source that does not build, and why.
    Failed(String),
    /// Neither: damaged, or of another version of ktest.
    Unreadable,
}

/// An entry of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub id: KernelId,
    /// What it is.
    pub kind: Kind,
    /// How many bytes it takes.
    pub bytes: u64,
    /// When it was last of use.
    pub used: SystemTime,
}

/// What is to stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// At most so many bytes.
    pub bytes: u64,
    /// Whatever was used within this time, even if it is more.
    pub younger: Duration,
}

/// The entries that are to go, the least recently used first.
#[must_use]
pub fn plan(entries: &[Entry], keep: Keep, now: SystemTime) -> Vec<KernelId> {
    let mut total: u64 = entries.iter().map(|entry| entry.bytes).sum();
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by(|a, b| (a.used, &a.id).cmp(&(b.used, &b.id)));
    let mut go = Vec::new();
    for entry in sorted {
        // A time in the future is a clock that was set: young.
        let old = now.duration_since(entry.used).is_ok_and(|age| age > keep.younger);
        if old && (total > keep.bytes || entry.kind == Kind::Unreadable) {
            total -= entry.bytes;
            go.push(entry.id.clone());
        }
    }
    go
}

impl Store {
    /// All entries, the most recently used first. Looking does not count as use.
    pub fn list(&self) -> Result<Vec<Entry>, BuildError> {
        let mut entries = Vec::new();
        let dir = match std::fs::read_dir(self.dir()) {
            Ok(dir) => dir,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(entries),
            Err(error) => return Err(BuildError::io(self.dir(), &error)),
        };
        for entry in dir.filter_map(Result::ok) {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<KernelId>().ok()) else {
                continue;
            };
            let modified =
                |name: &str| std::fs::metadata(entry.path().join(name)).and_then(|meta| meta.modified());
            let used = modified("meta.json").or_else(|_| modified("failed.json")).or_else(|_| modified("."));
            let sizes = WalkDir::new(entry.path()).into_iter().filter_map(Result::ok);
            let bytes = sizes.filter_map(|file| file.metadata().ok()).filter(std::fs::Metadata::is_file);
            let kind = match self.read(&id) {
                Some(Stored::Kernel(meta)) => Kind::Kernel(meta),
                Some(Stored::Failed { reason, .. }) => Kind::Failed(reason),
                None => Kind::Unreadable,
            };
            entries.push(Entry {
                id,
                kind,
                bytes: bytes.map(|meta| meta.len()).sum(),
                used: used.unwrap_or(SystemTime::UNIX_EPOCH),
            });
        }
        entries.sort_by(|a, b| (b.used, &a.id).cmp(&(a.used, &b.id)));
        Ok(entries)
    }

    /// Removes an entry; false if it is being built or is gone.
    pub fn remove(&self, id: &KernelId) -> Result<bool, BuildError> {
        let path = self.lock_path(id);
        let Some(_lock) = Lock::try_acquire(&path, "removes")? else { return Ok(false) };
        let there = self.path(id).exists();
        if there {
            // First out of sight, so that nobody finds half of it.
            let trash = self.stage()?;
            std::fs::rename(self.path(id), trash.path().join("old"))
                .map_err(|error| BuildError::io(&self.path(id), &error))?;
        }
        let _ = std::fs::remove_file(path);
        Ok(there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Cache;
    use crate::store::hash_fields;
    use proptest::prelude::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn entry(name: &str, bytes: u64, used: u64) -> Entry {
        Entry { id: hash_fields([name]), kind: Kind::Failed(String::new()), bytes, used: at(used) }
    }

    #[test]
    fn the_least_recently_used_go_first_and_the_young_stay() {
        let mut entries = [entry("a", 10, 100), entry("b", 10, 50), entry("c", 10, 990), entry("d", 1, 2000)];
        let go = |entries: &[Entry], bytes| {
            plan(entries, Keep { bytes, younger: Duration::from_secs(100) }, at(1000))
        };
        assert!(go(&entries, 31).is_empty());
        assert_eq!(go(&entries, 25), [hash_fields(["b"])]);
        assert_eq!(go(&entries, 0), [hash_fields(["b"]), hash_fields(["a"])]);
        entries[0].kind = Kind::Unreadable;
        assert_eq!(go(&entries, 1000), [hash_fields(["a"])]);
    }

    proptest! {
        #[test]
        fn no_more_goes_than_must(list in prop::collection::vec((0u64..50, 0u64..1200), 0..10), bytes in 0u64..200) {
            let entries: Vec<_> =
                list.iter().enumerate().map(|(at, (size, used))| entry(&at.to_string(), *size, *used)).collect();
            let keep = Keep { bytes, younger: Duration::from_secs(100) };
            let go = plan(&entries, keep, at(1000));
            let left = |go: &[KernelId]| -> u64 {
                entries.iter().filter(|e| !go.contains(&e.id)).map(|e| e.bytes).sum()
            };
            let old: Vec<_> = entries.iter().filter(|e| e.used < at(900)).collect();
            prop_assert!(go.iter().all(|id| old.iter().any(|e| e.id == *id)));
            prop_assert!(left(&go) <= bytes || go.len() == old.len());
            if let Some((_, before)) = go.split_last() {
                prop_assert!(left(before) > bytes);
            }
        }
    }

    #[test]
    fn removed_is_gone_and_what_is_built_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::of(&Cache { dir: dir.path().into() });
        assert!(store.list().unwrap().is_empty());
        let (id, log) = (hash_fields(["x"]), dir.path().join("log"));
        std::fs::write(&log, "12345").unwrap();
        store.publish_failure(&id, "why", &log).unwrap();
        let listed = store.list().unwrap();
        assert_eq!((listed.len(), &listed[0].kind), (1, &Kind::Failed("why".into())));
        assert!(listed[0].bytes > 5);
        let building = Lock::try_acquire(&store.lock_path(&id), "builds").unwrap();
        assert!(!store.remove(&id).unwrap());
        drop(building);
        assert!(store.remove(&id).unwrap());
        assert!(!store.remove(&id).unwrap());
        assert!(store.list().unwrap().is_empty());
    }
}
