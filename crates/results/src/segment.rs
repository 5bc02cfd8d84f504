//! The journal's files: `.store/journal.<epoch>.<first sequence number>`, the newest of which grows.
//!
//! A record is durable when [`Journal::commit`] has returned. What could not be written leaves no trace: the file is
//! cut back, or a new one begun.

use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, Durable};
use crate::error::{Error, Result};
use crate::files;
use crate::journal::{self, Numbered, Record};

/// A segment that is longer than this is followed by a new one, in bytes.
pub const SEGMENT_BYTES: u64 = 8 << 20;

/// How many numbers are passed over where some may have been used by records that cannot be read: a number that a
/// blob's mark covers must never be given out again.
const SKIP: u64 = 1 << 20;

/// A segment's place in the journal, which is its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    epoch: u64,
    first: u64,
}

impl Place {
    fn path(self, dir: &Path) -> PathBuf {
        dir.join(format!("journal.{:016x}.{:020}", self.epoch, self.first))
    }

    fn parse(name: &str) -> Option<Self> {
        let (epoch, first) = name.strip_prefix("journal.")?.split_once('.')?;
        Some(Self { epoch: u64::from_str_radix(epoch, 16).ok()?, first: first.parse().ok()? })
    }
}

/// What was found in the journal of the last writer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovery {
    /// How many records were read; most are in the blobs already.
    pub records: usize,
    /// How many damaged lines were passed over; the segments that hold them are kept as `.store/damaged.*`.
    pub damaged: usize,
    /// Whether the last writer was stopped in the middle of a record; nobody was told that it is durable.
    pub torn: bool,
}

/// What the bytes of a segment hold, for who repairs or fuzzes.
#[must_use]
pub fn inspect_segment(bytes: &[u8]) -> Recovery {
    let journal::Scan { records, damaged, torn } = journal::scan(bytes);
    Recovery { records: records.len(), damaged, torn }
}

/// The records of the last writers, and what they belong to.
#[derive(Debug)]
pub struct Replay {
    /// The records in their order.
    pub records: Vec<Numbered>,
    /// What was found.
    pub recovery: Recovery,
}

#[derive(Debug)]
struct Retired {
    place: Place,
    /// Its last record.
    last: u64,
    damaged: bool,
}

/// The journal, open for writing.
#[derive(Debug)]
pub struct Journal {
    disk: Disk,
    dir: PathBuf,
    place: Place,
    file: File,
    /// What of the file is durable.
    len: u64,
    next: u64,
    /// The file may end in half a line: nothing more goes into it.
    spoilt: bool,
    segment_bytes: u64,
    retired: Vec<Retired>,
}

impl Journal {
    /// Reads what is in `dir` and begins a new segment there.
    pub fn open(disk: Disk, dir: &Path, segment_bytes: u64) -> Result<(Self, Replay)> {
        let mut places: Vec<Place> =
            files::names(dir)?.iter().filter_map(|name| Place::parse(name)).collect();
        places.sort_unstable_by_key(|place| place.first);
        // There is one epoch unless somebody mixed two folders; then the one that got further goes on.
        let epoch = places.last().map_or_else(new_epoch, |place| place.epoch);
        let mut replay = Replay { records: Vec::new(), recovery: Recovery::default() };
        let mut retired = Vec::new();
        let mut next = 1;
        for place in places.into_iter().filter(|place| place.epoch == epoch) {
            let path = place.path(dir);
            let mut bytes = Vec::new();
            let mut file = File::open(&path).map_err(Error::io("read", &path))?;
            file.read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
            let mut scan = journal::scan(&bytes);
            // Numbers only grow; what comes out of order is a copy.
            scan.records.retain(|record| {
                record.sequence >= next.max(place.first) && {
                    next = record.sequence + 1;
                    true
                }
            });
            next = next.max(place.first);
            replay.recovery.damaged += scan.damaged;
            replay.recovery.torn |= scan.torn;
            retired.push(Retired { place, last: next - 1, damaged: scan.damaged > 0 });
            replay.records.append(&mut scan.records);
        }
        replay.recovery.records = replay.records.len();
        if replay.recovery.damaged > 0 || replay.recovery.torn {
            next += SKIP;
        }
        let place = Place { epoch, first: next };
        let path = place.path(dir);
        // An empty segment of that name, or one whose only record is torn, may be there.
        retired.retain(|segment| segment.place != place);
        disk.remove_file(&path).map_err(Error::io("remove", &path))?;
        let file = disk.create(&path).map_err(Error::io("create", &path))?;
        let journal =
            Self { disk, dir: dir.into(), place, file, len: 0, next, spoilt: false, segment_bytes, retired };
        Ok((journal, replay))
    }

    /// The journal's own number.
    pub fn epoch(&self) -> u64 {
        self.place.epoch
    }

    /// The last record's number.
    pub fn last(&self) -> u64 {
        self.next - 1
    }

    /// Gives out only numbers above `sequence` from now on: a blob includes that one, whatever became of the record.
    pub fn skip_past(&mut self, sequence: u64) {
        if sequence >= self.next {
            self.next = sequence + SKIP;
        }
    }

    /// Makes the records durable, all or none; gives the number of the first.
    pub fn commit<'a>(&mut self, records: impl Iterator<Item = &'a Record>) -> Result<u64> {
        if self.spoilt || self.len > self.segment_bytes {
            self.rotate()?;
        }
        let mut bytes = Vec::new();
        let first = self.next;
        let mut next = first;
        for record in records {
            journal::encode(&mut bytes, next, record);
            next += 1;
        }
        let path = self.place.path(&self.dir);
        let result = self
            .disk
            .append(&mut self.file, &path, &bytes)
            .and_then(|()| self.disk.sync(&self.file, &path))
            .map_err(Error::io("write", &path));
        match result {
            Ok(()) => {
                self.len += bytes.len() as u64;
                self.next = next;
                Ok(first)
            }
            Err(error) => {
                // After a failed fsync nobody knows what of the file is on the disk, so nothing more goes into it.
                self.spoilt = true;
                let _ = self.disk.cut(&self.file, &path, self.len);
                Err(error)
            }
        }
    }

    /// Begins a new segment.
    fn rotate(&mut self) -> Result<()> {
        if self.len == 0 && !self.spoilt {
            return Ok(());
        }
        let first = self.next + if self.spoilt { SKIP } else { 0 };
        let place = Place { epoch: self.place.epoch, first };
        let path = place.path(&self.dir);
        self.disk.remove_file(&path).map_err(Error::io("remove", &path))?;
        let file = self.disk.create(&path).map_err(Error::io("create", &path))?;
        let old = std::mem::replace(&mut self.place, place);
        self.retired.push(Retired { place: old, last: first - 1, damaged: false });
        (self.file, self.len, self.next, self.spoilt) = (file, 0, first, false);
        Ok(())
    }

    /// Begins a new segment if the current one holds anything, so that all before can be retired.
    pub fn cut_off(&mut self) -> Result<()> {
        self.rotate()
    }

    /// Whether [`Self::retire`] would remove anything.
    pub fn can_retire(&self, floor: u64) -> bool {
        self.retired.first().is_some_and(|segment| segment.last < floor)
    }

    /// Removes the segments whose records are all published, durably: those below `floor`.
    pub fn retire(&mut self, floor: u64) -> Result<()> {
        while self.retired.first().is_some_and(|segment| segment.last < floor) {
            let path = self.retired[0].place.path(&self.dir);
            if self.retired[0].damaged {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let kept = self.dir.join(format!("damaged.{name}"));
                self.disk.rename(&path, &kept, Durable::No).map_err(Error::io("rename", &path))?;
            } else {
                self.disk.remove_file(&path).map_err(Error::io("remove", &path))?;
            }
            self.retired.remove(0);
        }
        Ok(())
    }
}

fn new_epoch() -> u64 {
    // The standard library's only source of randomness.
    let seed = std::collections::hash_map::RandomState::new();
    let mut hasher = seed.build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish().max(1)
}
