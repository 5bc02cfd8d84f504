//! The tests that have a verdict, in memory, for planning: one bit per test and commit.
//!
//! Tests are numbered once for all commits, so a query about four million tests takes four million bit tests.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use model::{CommitId, ResultKey};

/// The number of a test, valid for the lifetime of the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u32);

/// The tests of one commit that have a final status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerdictSet {
    bits: Vec<u64>,
    len: usize,
    changes: u64,
}

impl VerdictSet {
    /// Whether the test has its verdict.
    #[must_use]
    pub fn contains(&self, key: KeyId) -> bool {
        let at = key.0 as usize;
        self.bits.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    /// The number of tests with a verdict.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no test has a verdict.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of changes. For one commit, equal numbers mean equal sets.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    fn insert(&mut self, key: KeyId) {
        let at = key.0 as usize;
        if self.bits.len() <= at / 64 {
            self.bits.resize(at / 64 + 1, 0);
        }
        let word = &mut self.bits[at / 64];
        if *word >> (at % 64) & 1 == 0 {
            *word |= 1 << (at % 64);
            self.len += 1;
        }
    }
}

#[derive(Debug, Default)]
struct Keys {
    numbers: HashMap<ResultKey, KeyId>,
    /// The tests of commits by the hash of their names, in the order of the names.
    lists: HashMap<u64, Arc<[KeyId]>>,
}

impl Keys {
    fn number(&mut self, key: &ResultKey) -> KeyId {
        if let Some(id) = self.numbers.get(key) {
            return *id;
        }
        let id = KeyId(u32::try_from(self.numbers.len()).expect("fewer than 2^32 tests"));
        self.numbers.insert(key.clone(), id);
        id
    }
}

/// The maximum number of lists of names in memory; commits with the same tests share one.
const LISTS_MAX: usize = 64;

/// The sets of all commits that were requested.
#[derive(Debug, Default)]
pub(crate) struct VerdictTable {
    keys: RwLock<Keys>,
    sets: RwLock<HashMap<CommitId, Arc<VerdictSet>>>,
}

impl VerdictTable {
    pub fn key(&self, key: &ResultKey) -> KeyId {
        if let Some(id) = read(&self.keys).numbers.get(key) {
            return *id;
        }
        write(&self.keys).number(key)
    }

    /// The tests of a list of names, if it is in memory.
    pub fn list(&self, hash: u64) -> Option<Arc<[KeyId]>> {
        read(&self.keys).lists.get(&hash).cloned()
    }

    /// Adds a list of names.
    pub fn remember<'a>(&self, hash: u64, names: impl Iterator<Item = &'a ResultKey>) -> Arc<[KeyId]> {
        let mut keys = write(&self.keys);
        let ids: Arc<[KeyId]> = names.map(|name| keys.number(name)).collect();
        if keys.lists.len() >= LISTS_MAX {
            keys.lists.clear();
        }
        keys.lists.insert(hash, Arc::clone(&ids));
        ids
    }

    pub fn get(&self, commit: &CommitId) -> Option<Arc<VerdictSet>> {
        read(&self.sets).get(commit).cloned()
    }

    /// The set of a commit, created from `keys` if it is not in memory.
    pub fn get_or(&self, commit: &CommitId, keys: impl Iterator<Item = KeyId>) -> Arc<VerdictSet> {
        let mut sets = write(&self.sets);
        let set = sets.entry(commit.clone()).or_insert_with(|| {
            let mut set = VerdictSet::default();
            keys.for_each(|key| set.insert(key));
            Arc::new(set)
        });
        Arc::clone(set)
    }

    /// Adds a test to the set of a commit, if the set is in memory.
    pub fn add(&self, commit: &CommitId, key: KeyId) {
        if let Some(set) = write(&self.sets).get_mut(commit) {
            let set = Arc::make_mut(set);
            set.insert(key);
            set.changes += 1;
        }
    }

    pub fn remove(&self, commit: &CommitId) {
        write(&self.sets).remove(commit);
    }
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_and_their_changes() {
        let verdict_table = VerdictTable::default();
        let commit: CommitId = "1".repeat(40).parse().unwrap();
        let ids: Vec<KeyId> =
            (0..200).map(|n| verdict_table.key(&format!("a.t{n}").parse().unwrap())).collect();
        assert_eq!(verdict_table.key(&"a.t7".parse().unwrap()), ids[7]);
        let before = verdict_table.get_or(&commit, [ids[3], ids[70], ids[3]].into_iter());
        assert!(before.contains(ids[3]) && before.contains(ids[70]) && !before.contains(ids[199]));
        assert_eq!(before.len(), 2);
        verdict_table.add(&commit, ids[199]);
        let after = verdict_table.get(&commit).unwrap();
        assert!(after.contains(ids[199]) && !before.contains(ids[199]));
        assert_ne!(after.changes(), before.changes());
        verdict_table.remove(&commit);
        assert!(verdict_table.get(&commit).is_none());
    }
}
