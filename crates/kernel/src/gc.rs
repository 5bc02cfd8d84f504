//! Deletes old entries of the kernel store: a pure function plans, then the plan is applied.
//!
//! Recently used entries are kept, even if the store is too large. Of the others, the least recently used are deleted
//! first.

use std::collections::HashSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use fsx::lock::Lock;
use fsx::own;
use model::KernelId;
use walkdir::WalkDir;

use crate::error::BuildError;
use crate::headers::UNPACKED;
use crate::store::{Meta, Store, Stored};

/// The content of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GcKind {
    /// A kernel.
    Kernel(Box<Meta>),
    /// A source that does not build, with the reason.
    Failed(String),
    /// Damaged, or written by another version of ktest.
    Unreadable,
}

/// An entry of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreEntry {
    /// Its id.
    pub id: KernelId,
    /// Its content.
    pub kind: GcKind,
    /// Its size in bytes, without files that a more recently used entry has as well: what its removal frees.
    pub bytes: u64,
    /// The size in bytes of the files that a more recently used entry has as well (hard links).
    pub shared: u64,
    /// The time of its last use.
    pub used: SystemTime,
}

/// Which entries are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The size limit of the store, in bytes.
    pub bytes: u64,
    /// Entries used within this time are kept, even beyond the limit.
    pub unused_for: Duration,
}

/// The entries to delete, least recently used first.
#[must_use]
pub fn plan(entries: &[StoreEntry], retention: Retention, now: SystemTime) -> Vec<KernelId> {
    let mut total: u64 = entries.iter().map(|entry| entry.bytes).sum();
    let mut sorted: Vec<&StoreEntry> = entries.iter().collect();
    sorted.sort_by(|a, b| (a.used, &a.id).cmp(&(b.used, &b.id)));
    let mut expired = Vec::new();
    for entry in sorted {
        // A time in the future, after the clock was set back, is treated as recent.
        let old = now.duration_since(entry.used).is_ok_and(|age| age > retention.unused_for);
        if old && (total > retention.bytes || entry.kind == GcKind::Unreadable) {
            total -= entry.bytes;
            expired.push(entry.id.clone());
        }
    }
    expired
}

impl Store {
    /// All entries, most recently used first. This does not count as a use.
    pub fn list(&self) -> Result<Vec<StoreEntry>, BuildError> {
        let mut entries = Vec::new();
        let listed = match own::list(self.dir()) {
            Ok(listed) => listed,
            Err(error) if error.is_not_found() => return Ok(entries),
            Err(error) => return Err(error.into()),
        };
        for entry in listed {
            let Some(id) = entry.name.to_str().and_then(|name| name.parse::<KernelId>().ok()) else {
                continue;
            };
            let modified =
                |name: &str| own::metadata(&entry.path.join(name)).ok().and_then(|meta| meta.modified().ok());
            let used = modified("meta.json").or_else(|| modified("failed.json")).or_else(|| modified("."));
            let kind = match self.read(&id) {
                Some(Stored::Kernel(meta)) => GcKind::Kernel(meta),
                Some(Stored::Failed { reason, .. }) => GcKind::Failed(reason),
                None => GcKind::Unreadable,
            };
            entries.push(StoreEntry {
                id,
                kind,
                bytes: 0,
                shared: 0,
                used: used.unwrap_or(SystemTime::UNIX_EPOCH),
            });
        }
        entries.sort_by(|a, b| (b.used, &a.id).cmp(&(a.used, &b.id)));
        let mut counted = HashSet::new();
        for entry in &mut entries {
            (entry.bytes, entry.shared) = self.size(&entry.id, &mut counted);
        }
        Ok(entries)
    }

    /// The sizes of the files of an entry that are not counted yet, and of those that are.
    fn size(&self, id: &KernelId, counted: &mut HashSet<(u64, u64)>) -> (u64, u64) {
        let dirs = [self.path(id), self.unpacked_headers(id)];
        let files = dirs.iter().flat_map(WalkDir::new).filter_map(Result::ok);
        let files = files.filter_map(|file| file.metadata().ok()).filter(Metadata::is_file);
        let (mut own, mut shared) = (0, 0);
        for file in files {
            let is_new = file.nlink() < 2 || counted.insert((file.dev(), file.ino()));
            *(if is_new { &mut own } else { &mut shared }) += file.len();
        }
        (own, shared)
    }

    fn unpacked_headers(&self, id: &KernelId) -> PathBuf {
        self.dir().join(UNPACKED).join(id.to_string())
    }

    /// Deletes an entry; false if it does not exist or is being built.
    pub fn remove(&self, id: &KernelId) -> Result<bool, BuildError> {
        let path = self.lock_path(id);
        let Some(_lock) = Lock::try_acquire(&path, "deletes it")? else { return Ok(false) };
        let exists = self.path(id).exists();
        if exists {
            // Renamed first, so that no reader finds an incomplete entry.
            let trash = self.stage()?;
            own::rename(&self.path(id), &trash.path().join("old"))?;
        }
        own::remove_tree(&self.unpacked_headers(id))?;
        let _ = own::remove_file(&path);
        Ok(exists)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Cache;
    use crate::id::hash_fields;
    use proptest::prelude::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn entry(name: &str, bytes: u64, used: u64) -> StoreEntry {
        StoreEntry {
            id: hash_fields([name]),
            kind: GcKind::Failed(String::new()),
            bytes,
            shared: 0,
            used: at(used),
        }
    }

    #[test]
    fn the_least_recently_used_go_first_and_recent_ones_stay() {
        let mut entries = [entry("a", 10, 100), entry("b", 10, 50), entry("c", 10, 990), entry("d", 1, 2000)];
        let expired = |entries: &[StoreEntry], bytes| {
            plan(entries, Retention { bytes, unused_for: Duration::from_secs(100) }, at(1000))
        };
        assert!(expired(&entries, 31).is_empty());
        assert_eq!(expired(&entries, 25), [hash_fields(["b"])]);
        assert_eq!(expired(&entries, 0), [hash_fields(["b"]), hash_fields(["a"])]);
        entries[0].kind = GcKind::Unreadable;
        assert_eq!(expired(&entries, 1000), [hash_fields(["a"])]);
    }

    proptest! {
        #[test]
        fn no_more_than_necessary_is_deleted(list in prop::collection::vec((0u64..50, 0u64..1200), 0..10), bytes in 0u64..200) {
            let entries: Vec<_> =
                list.iter().enumerate().map(|(at, (size, used))| entry(&at.to_string(), *size, *used)).collect();
            let keep = Retention { bytes, unused_for: Duration::from_secs(100) };
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
    fn an_entry_that_is_being_built_is_not_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::of(&Cache { dir: dir.path().into() });
        assert!(store.list().unwrap().is_empty());
        let (id, log) = (hash_fields(["x"]), dir.path().join("log"));
        std::fs::write(&log, "12345").unwrap();
        store.publish_failure(&id, "reason", &log).unwrap();
        let listed = store.list().unwrap();
        assert_eq!((listed.len(), &listed[0].kind), (1, &GcKind::Failed("reason".into())));
        assert!(listed[0].bytes > 5);
        let building = Lock::try_acquire(&store.lock_path(&id), "builds").unwrap();
        assert!(!store.remove(&id).unwrap());
        drop(building);
        assert!(store.remove(&id).unwrap());
        assert!(!store.remove(&id).unwrap());
        assert!(store.list().unwrap().is_empty());
    }

    #[test]
    fn a_file_of_two_entries_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::of(&Cache { dir: dir.path().into() });
        let (older, newer, log) = (hash_fields(["a"]), hash_fields(["b"]), dir.path().join("log"));
        std::fs::write(&log, "12345").unwrap();
        for id in [&older, &newer] {
            store.publish_failure(id, "reason", &log).unwrap();
        }
        let alone: Vec<u64> = store.list().unwrap().iter().map(|entry| entry.bytes).collect();
        std::fs::write(store.path(&older).join("image"), vec![0; 1000]).unwrap();
        std::fs::hard_link(store.path(&older).join("image"), store.path(&newer).join("image")).unwrap();
        let listed = store.list().unwrap();
        let sizes: Vec<_> = listed.iter().map(|entry| (entry.bytes, entry.shared)).collect();
        // The one that is deleted last has the file.
        assert_eq!(sizes, [(alone[0] + 1000, 0), (alone[1], 1000)]);
        let retention = Retention { bytes: alone[0] + 1000, unused_for: Duration::ZERO };
        let later = SystemTime::now() + Duration::from_secs(9);
        assert_eq!(plan(&listed, retention, later), [listed[1].id.clone()]);
    }
}
