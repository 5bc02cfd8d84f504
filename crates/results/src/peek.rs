//! Reads single fields of a commit blob without reading all of it, for histories and listings of hundreds of commits.
//! Follows capnp pointers itself, according to <https://capnproto.org/encoding.html>.
//!
//! Every function returns an `Option`: `None` means that the whole blob must be read, because it was written by the
//! existing system, has several segments, or is damaged. Offsets are checked against the file size before each read.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use model::{Counts, Status};

use crate::types::Summary;

/// The number of bytes that are read when a blob is opened. They contain the root struct and all its numbers.
const HEAD: usize = 512;
/// The maximum number of tests for which columns are read.
const COLUMN: u32 = 4 << 20;

/// The offsets of the fields: data in bytes from the start of the struct, pointers by number. A test compares them with
/// the generated code.
mod root {
    pub const PASSED: u64 = 16;
    pub const FAILED: u64 = 20;
    pub const NOTRUN: u64 = 24;
    pub const FAILED_TO_RUN: u64 = 28;
    pub const INPROGRESS: u64 = 32;
    pub const UNKNOWN: u64 = 36;
    pub const TOTAL_MS: u64 = 40;
    pub const KEYS_HASH: u64 = 48;
    pub const FLAKY: u64 = 56;
    pub const STATUSES: u64 = 3;
    pub const DURATIONS: u64 = 4;
}

/// An open blob.
#[derive(Debug)]
pub struct Peek {
    file: File,
    head: Vec<u8>,
    /// The size of the segment in bytes, starting with its first word.
    size: u64,
    root: Struct,
}

/// A struct in the segment; offsets in bytes.
#[derive(Debug, Clone, Copy)]
struct Struct {
    data: u64,
    data_len: u64,
    pointers: u64,
    pointer_count: u64,
}

impl Peek {
    /// Opens a blob. `None` unless this crate wrote it.
    pub fn open(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        let mut head = vec![0; HEAD];
        let len = file.read_at(&mut head, 0).ok()?;
        head.truncate(len);
        if head.len() < 16 || number::<4>(&head, 0)? != 0 {
            return None;
        }
        let size = number::<4>(&head, 4)? * 8;
        if file.metadata().ok()?.len() < size.checked_add(8)? {
            return None;
        }
        head.drain(..8);
        let nothing = Struct { data: 0, data_len: 0, pointers: 0, pointer_count: 0 };
        let mut peek = Self { file, head, size, root: nothing };
        peek.root = peek.follow(0)?;
        (peek.keys_hash() != 0).then_some(peek)
    }

    /// The sums over all tests.
    pub fn summary(&self) -> Option<Summary> {
        let count = |at| u32::try_from(self.data::<4>(self.root, at)).ok();
        let flaky = count(root::FLAKY)?;
        let counts = Counts {
            passed: count(root::PASSED)?,
            failed: count(root::FAILED)?.saturating_sub(flaky),
            notrun: count(root::NOTRUN)?,
            failed_to_run: count(root::FAILED_TO_RUN)?,
            inprogress: count(root::INPROGRESS)?,
            unknown: count(root::UNKNOWN)?,
            flaky,
        };
        Some(Summary { counts, duration: Duration::from_millis(self.data::<8>(self.root, root::TOTAL_MS)) })
    }

    /// Equal for commits with the same tests; never 0.
    pub fn keys_hash(&self) -> u64 {
        self.data::<8>(self.root, root::KEYS_HASH)
    }

    /// The status of each test, in the order of their names.
    pub fn statuses(&self) -> Option<Vec<Status>> {
        let bytes = self.list(self.root, root::STATUSES, 2, COLUMN)?;
        Some(bytes.into_iter().map(|byte| status(u64::from(byte))).collect())
    }

    /// The duration of each test, in the order of their names.
    pub fn durations(&self) -> Option<Vec<Duration>> {
        let bytes = self.list(self.root, root::DURATIONS, 4, COLUMN)?;
        let (numbers, _) = bytes.as_chunks::<4>();
        Some(numbers.iter().map(|bytes| Duration::from_millis(u32::from_le_bytes(*bytes).into())).collect())
    }

    /// The sums over some tests, given by their places in the order of names, ascending. `None` if the blob does not have
    /// `tests` tests. `columns` is scratch memory.
    pub fn sums(&self, tests: usize, places: &[u32], columns: &mut Vec<u8>) -> Option<Summary> {
        let (Some(first), Some(last)) = (places.first(), places.last()) else {
            return Some(Summary::default());
        };
        let (start, count) = (u64::from(*first), u64::from(last - first) + 1);
        let mut summary = Summary::default();
        let (statuses, of) = self.place(self.root, root::STATUSES, 2, COLUMN)?;
        let (durations, of_durations) = self.place(self.root, root::DURATIONS, 4, COLUMN)?;
        if of != tests as u64 || of_durations != of || u64::from(*last) >= of {
            return None;
        }
        columns.resize(usize::try_from(count * 5).ok()?, 0);
        let (of_status, of_duration) = columns.split_at_mut(usize::try_from(count).ok()?);
        self.read(statuses + start, of_status)?;
        self.read(durations + start * 4, of_duration)?;
        let (of_duration, _) = of_duration.as_chunks::<4>();
        for place in places {
            let at = (place - first) as usize;
            let millis = u32::from_le_bytes(of_duration[at]);
            summary.add(status(u64::from(of_status[at])), Duration::from_millis(millis.into()));
        }
        Some(summary)
    }

    /// A number of `N` bytes in the data of a struct; 0 if an older writer did not write the field.
    fn data<const N: usize>(&self, of: Struct, at: u64) -> u64 {
        if at + N as u64 > of.data_len {
            return 0;
        }
        let mut bytes = [0; N];
        self.read(of.data + at, &mut bytes).and_then(|()| number::<N>(&bytes, 0)).unwrap_or(0)
    }

    /// A pointer of a struct; 0 if it is null or an older writer did not write the field.
    fn pointer(&self, of: Struct, number: u64) -> Option<u64> {
        if number < of.pointer_count { self.word(of.pointers + number * 8) } else { Some(0) }
    }

    fn word(&self, at: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(at, &mut bytes)?;
        Some(u64::from_le_bytes(bytes))
    }

    fn read(&self, at: u64, bytes: &mut [u8]) -> Option<()> {
        let end = at.checked_add(bytes.len() as u64)?;
        if end > self.size {
            return None;
        }
        let (start, stop) = (usize::try_from(at).ok()?, usize::try_from(end).ok()?);
        if let Some(head) = self.head.get(start..stop) {
            bytes.copy_from_slice(head);
            return Some(());
        }
        self.file.read_exact_at(bytes, at + 8).ok()
    }

    /// The target, in bytes, of the pointer at `at` with the value `word`.
    fn target(at: u64, word: u64) -> Option<u64> {
        // The offset is a signed 30-bit number, in words from the end of the pointer.
        let offset = i64::from((u32::try_from(word & 0xffff_ffff).ok()?).cast_signed() >> 2) * 8;
        at.checked_add(8)?.checked_add_signed(offset)
    }

    /// The struct that the pointer at `at` points to.
    fn follow(&self, at: u64) -> Option<Struct> {
        let word = self.word(at)?;
        (word != 0 && word & 3 == 0).then(|| Self::struct_at(Self::target(at, word)?, word)).flatten()
    }

    /// A struct at `data`, with the sizes in its pointer or tag.
    fn struct_at(data: u64, word: u64) -> Option<Struct> {
        let data_len = (word >> 32 & 0xffff) * 8;
        Some(Struct { data, data_len, pointers: data.checked_add(data_len)?, pointer_count: word >> 48 })
    }

    /// The bytes of a list of numbers (`code` 2: one byte each, 4: four bytes each) of at most `limit` elements.
    fn list(&self, of: Struct, number: u64, code: u64, limit: u32) -> Option<Vec<u8>> {
        let (start, count) = self.place(of, number, code, limit)?;
        // The file has as many bytes.
        let mut bytes = vec![0; usize::try_from(if code == 4 { count * 4 } else { count }).ok()?];
        self.read(start, &mut bytes)?;
        Some(bytes)
    }

    /// The place of such a list, which is inside of the file, and the number of its elements.
    fn place(&self, of: Struct, number: u64, code: u64, limit: u32) -> Option<(u64, u64)> {
        let at = of.pointers + number * 8;
        let word = self.pointer(of, number)?;
        if word == 0 {
            return Some((0, 0));
        }
        let count = word >> 35;
        if word & 3 != 1 || word >> 32 & 7 != code || count > u64::from(limit) {
            return None;
        }
        let size = if code == 4 { count * 4 } else { count };
        let start = Self::target(at, word)?;
        (start.checked_add(size)? <= self.size).then_some((start, count))
    }
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + N)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn status(code: u64) -> Status {
    usize::try_from(code).ok().and_then(|code| Status::ALL.get(code)).copied().unwrap_or(Status::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Mark, encode_commit};
    use crate::types::{Attempt, CommitResults, TestEntry};

    /// If a function returns `None`, the whole blob is read instead, so only this test detects a wrong offset.
    #[test]
    fn peeking_succeeds_on_our_blobs() {
        let keys = ["a.b", "a.c", "d.e"];
        let mut entries: Vec<TestEntry> =
            keys.iter().map(|key| TestEntry::new(key.parse().unwrap(), Status::Passed)).collect();
        entries[1].decisive.duration = Duration::from_millis(1500);
        entries[1].decisive.started = Some(-5);
        entries[1].decisive.status = Status::Failed;
        entries[1].decisive.reason = Some("why".into());
        entries[1].decisive.crash = Some("what".into());
        entries[1].decisive.host = Some("farm1".parse().unwrap());
        entries[1].decisive.slot = Some(0);
        entries[1].decisive.kernel = Some("c".repeat(64).parse().unwrap());
        entries[1].decisive.image_hash = Some("d".repeat(64).into());
        entries[1].decisive.number = 3;
        entries[1].decisive.log_bytes = 7;
        entries[1].decisive.full_log_bytes = 8;
        entries.push(TestEntry::new("e.f".parse().unwrap(), Status::Failed));
        let passed = Attempt { number: 2, ..Attempt::new(Status::Passed) };
        entries[3].others.push(passed);
        let results = CommitResults { commit: "0".repeat(40).parse().unwrap(), message: "m".into(), entries };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), encode_commit(&results, Mark::default())).unwrap();
        let peek = Peek::open(file.path()).unwrap();
        assert_eq!(peek.summary().unwrap().counts, results.counts());
        assert_eq!(peek.statuses().unwrap(), [Status::Passed, Status::Failed, Status::Passed, Status::Flaky]);
        assert_eq!(peek.durations().unwrap()[1], Duration::from_millis(1500));
    }
}
