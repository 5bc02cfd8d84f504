//! Blobs of the existing system, which have no columns: the statuses and durations of all tests, and one test, without
//! decoding the others.
//!
//! Neighboring commits have the same tests. The names of a blob are compared with those of the blob before it, which is
//! several times faster than hashing or copying them.

use std::sync::Arc;
use std::time::Duration;

use model::{ResultKey, Status};

use super::commit::{Run, decode_entry, keys_hash, status_of};
use super::{checked_len, open};
use crate::generated::test_results_capnp as schema;
use crate::types::{Summary, TestEntry, duration};

/// The names of the tests of a blob, sorted, and their hash.
#[derive(Debug)]
pub struct KnownNames {
    hash: u64,
    names: Vec<Box<str>>,
}

/// The columns of a blob, in the order of the names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobColumns {
    /// Equal for commits with the same tests.
    pub keys_hash: u64,
    /// One status per test.
    pub statuses: Vec<Status>,
    /// One duration per test.
    pub durations: Vec<Duration>,
}

impl BlobColumns {
    /// The sums over some tests, given by their places, which must exist.
    #[must_use]
    pub fn sums(&self, places: impl Iterator<Item = usize>) -> Summary {
        let mut summary = Summary::default();
        places.for_each(|place| summary.add(self.statuses[place], self.durations[place]));
        summary
    }
}

/// The columns of a blob. `known` are the names of an earlier blob, and those of this one afterwards. `None` if the blob
/// has to be decoded completely, because its names are not sorted or not valid.
pub fn decode_columns(bytes: &[u8], known: &mut Option<Arc<KnownNames>>) -> Option<BlobColumns> {
    let mut rest = bytes;
    let message = open(&mut rest).ok()?;
    let root: schema::test_results::Reader<'_> = message.get_root().ok()?;
    let list = root.get_entries().ok()?;
    let count = checked_len(list.len(), bytes.len()).ok()?;
    let same = known.as_deref().filter(|known| known.names.len() == count as usize);
    let (mut statuses, mut durations) =
        (Vec::with_capacity(count as usize), Vec::with_capacity(count as usize));
    let mut is_known = same.is_some();
    for at in 0..count {
        let entry = list.get(at);
        is_known =
            is_known && same.is_some_and(|known| name(entry) == Some(known.names[at as usize].as_bytes()));
        statuses.push(status_of(entry.get_status()));
        durations.push(duration(entry.get_duration_ms(), entry.get_duration()));
    }
    if !is_known {
        let keys = (0..count).map(|at| std::str::from_utf8(name(list.get(at))?).ok()?.parse().ok());
        let keys: Vec<ResultKey> = keys.collect::<Option<_>>()?;
        if !keys.is_sorted_by(|a, b| a < b) {
            return None;
        }
        let names = keys.iter().map(|key| Box::from(key.as_str())).collect();
        *known = Some(Arc::new(KnownNames { hash: keys_hash(keys.iter()), names }));
    }
    Some(BlobColumns { keys_hash: known.as_ref()?.hash, statuses, durations })
}

/// The names of the tests of a blob and their hash, without decoding its attempts. `None` if it has to be decoded completely.
pub fn decode_names(bytes: &[u8]) -> Option<(u64, Vec<Box<str>>)> {
    let mut known = None;
    decode_columns(bytes, &mut known)?;
    let KnownNames { hash, names } = Arc::into_inner(known?)?;
    Some((hash, names))
}

/// The entry of one test. The outer `None` means that the blob has to be decoded completely.
#[expect(clippy::option_option, reason = "no result, and no answer")]
pub fn decode_one(bytes: &[u8], key: &ResultKey) -> Option<Option<TestEntry>> {
    let mut rest = bytes;
    let message = open(&mut rest).ok()?;
    let root: schema::test_results::Reader<'_> = message.get_root().ok()?;
    let list = root.get_entries().ok()?;
    let count = checked_len(list.len(), bytes.len()).ok()?;
    let wanted = key.as_str().as_bytes();
    let Some(found) = (0..count).map(|at| list.get(at)).find(|entry| name(*entry) == Some(wanted)) else {
        return Some(None);
    };
    let runs = root.get_runs().ok()?;
    let count = checked_len(runs.len(), bytes.len()).ok()?;
    let runs: Vec<Run> = (0..count).map(|at| Run::decode(runs.get(at))).collect::<Result<_, _>>().ok()?;
    Some(Some(decode_entry(found, &runs, bytes.len()).ok()??))
}

fn name<'a>(entry: schema::test_result::Reader<'a>) -> Option<&'a [u8]> {
    entry.get_name().ok().map(capnp::text::Reader::as_bytes)
}

#[cfg(test)]
mod tests {
    use super::super::{Aligned, builder, decode_commit, finish};
    use super::*;

    /// A blob with only the fields that the existing system writes.
    fn blob(tests: &[(&str, u16)]) -> Aligned {
        let mut message = builder(64);
        let root = message.init_root::<schema::test_results::Builder<'_>>();
        let mut list = root.init_entries(u32::try_from(tests.len()).unwrap());
        for (at, (name, status)) in (0..).zip(tests) {
            let mut entry = list.reborrow().get(at);
            entry.set_name(*name);
            entry.set_duration(u64::from(at) * 7);
            entry.set_status((*status).try_into().unwrap());
        }
        Aligned::from(&*finish(&message))
    }

    #[test]
    fn names_are_those_of_the_decoded_blob() {
        let commit = "1".repeat(40).parse().unwrap();
        for tests in [&[] as &[(&str, u16)], &[("a.x", 1), ("a.y", 2), ("b.z", 1)]] {
            let bytes = blob(tests);
            let whole = decode_commit(&commit, bytes.bytes()).unwrap().results;
            let keys: Vec<&ResultKey> = whole.entries.iter().map(|entry| &entry.key).collect();
            let (hash, names) = decode_names(bytes.bytes()).unwrap();
            assert_eq!(hash, keys_hash(keys.iter().copied()));
            assert!(names.iter().map(|name| &**name).eq(keys.iter().map(|key| key.as_str())));
        }
        assert_eq!(decode_names(blob(&[("b.z", 1), ("a.x", 1)]).bytes()), None, "not sorted");
    }

    #[test]
    fn columns_are_those_of_the_decoded_blob() {
        let commit = "1".repeat(40).parse().unwrap();
        let lists: [&[(&str, u16)]; 6] = [
            &[("a.x", 1), ("a.y", 2), ("b.z", 3)],
            &[("a.x", 2), ("a.y", 1), ("b.z", 4)],
            &[("a.x", 2), ("a.y", 1), ("b.zz", 4)],
            &[("a.x", 2)],
            &[],
            &[("a.x", 0), ("a.y", 5), ("b.z", 3), ("c", 1)],
        ];
        let mut known = None;
        for tests in lists {
            let bytes = blob(tests);
            let results = decode_commit(&commit, bytes.bytes()).unwrap().results;
            let columns = decode_columns(bytes.bytes(), &mut known).unwrap();
            assert_eq!(columns.keys_hash, keys_hash(results.entries.iter().map(|entry| &entry.key)));
            let decoded =
                results.entries.iter().map(|entry| (entry.decisive.status, entry.decisive.duration));
            let read = columns.statuses.iter().copied().zip(columns.durations.iter().copied());
            assert!(decoded.eq(read), "{tests:?}");
            assert_eq!(columns.sums(0..tests.len()), Summary::of(&results, |_| true));
            for key in ["a.x", "b.z", "c", "d"].map(|key| key.parse().unwrap()) {
                assert_eq!(decode_one(bytes.bytes(), &key).unwrap().as_ref(), results.get(&key));
            }
        }
    }

    #[test]
    fn blobs_that_need_more_care_are_decoded_completely() {
        let lists: [&[(&str, u16)]; 4] =
            [&[("b", 1), ("a", 1)], &[("a", 1), ("a", 2)], &[("a", 1), ("b/c", 1)], &[("", 1)]];
        for tests in lists {
            assert_eq!(decode_columns(blob(tests).bytes(), &mut None), None, "{tests:?}");
        }
        let bytes = blob(&[("a.x", 1), ("a.y", 2)]);
        for len in (0..bytes.bytes().len()).step_by(8) {
            let cut = Aligned::from(&bytes.bytes()[..len]);
            decode_columns(cut.bytes(), &mut None);
            decode_one(cut.bytes(), &"a.x".parse().unwrap());
        }
    }
}
