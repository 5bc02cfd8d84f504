//! The files of the journal: `.store/journal.<epoch>.<first sequence number>`. The newest one grows.
//!
//! A record is durable when [`Journal::commit`] has returned. After a failed write the file is cut back, or a new one
//! begins.

use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, Durable};
use crate::error::{Error, Result};
use crate::files;
use crate::journal::{self, Numbered, Record};

/// The size in bytes after which a new segment begins.
pub const SEGMENT_BYTES: u64 = 8 << 20;

/// The gap in the numbers after records that cannot be read: a number that the mark of a blob covers must not be used
/// again.
const SKIP: u64 = 1 << 20;

/// The name of a segment: its position in the journal.
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

/// The result of reading the journal of the last writer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The number of records; most are already in the blobs.
    pub records: usize,
    /// The number of damaged lines. Their segments are kept as `.store/damaged.*`.
    pub damaged: usize,
    /// Whether the last record is torn: the last writer was stopped before it acknowledged it.
    pub torn: bool,
}

/// Inspects the bytes of a segment, for repair tools and fuzzers.
#[must_use]
pub fn inspect_segment(bytes: &[u8]) -> Recovery {
    let journal::Scan { records, damaged, torn } = journal::scan(bytes);
    Recovery { records: records.len(), damaged, torn }
}

/// The records of the last writers and their journal.
#[derive(Debug)]
pub struct Replay {
    /// The records in their order.
    pub records: Vec<Numbered>,
    /// The counts.
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
    /// The durable size of the file.
    len: u64,
    next: u64,
    /// Whether the file may end in half a line, so that nothing is appended to it.
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
        // There is one epoch, unless two directories were merged; then the one with the higher number continues.
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
            // Numbers only increase; a record out of order is a copy.
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
        // A segment of that name may exist if it is empty or its only record is torn.
        retired.retain(|segment| segment.place != place);
        disk.remove_file(&path).map_err(Error::io("remove", &path))?;
        let file = disk.create(&path).map_err(Error::io("create", &path))?;
        let journal =
            Self { disk, dir: dir.into(), place, file, len: 0, next, spoilt: false, segment_bytes, retired };
        Ok((journal, replay))
    }

    /// The number of the journal.
    pub fn epoch(&self) -> u64 {
        self.place.epoch
    }

    /// The number of the last record.
    pub fn last(&self) -> u64 {
        self.next - 1
    }

    /// Uses only numbers above `sequence` from now on, because the mark of a blob includes it.
    pub fn skip_past(&mut self, sequence: u64) {
        if sequence >= self.next {
            self.next = sequence + SKIP;
        }
    }

    /// Makes the records durable, all or none; returns the number of the first.
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
                // After a failed fsync the content on the disk is unknown, so nothing more is appended to this file.
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

    /// Begins a new segment unless the current one is empty, so that all older ones can be removed.
    pub fn cut_off(&mut self) -> Result<()> {
        self.rotate()
    }

    /// Whether [`Self::retire`] would remove anything.
    pub fn can_retire(&self, floor: u64) -> bool {
        self.retired.first().is_some_and(|segment| segment.last < floor)
    }

    /// Removes the segments whose records are all durably published: those below `floor`.
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
    // The only source of randomness in the standard library.
    let seed = std::collections::hash_map::RandomState::new();
    let mut hasher = seed.build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish().max(1)
}
