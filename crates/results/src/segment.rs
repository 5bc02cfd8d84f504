//! The journal of ci-daemon 0.1, which is read once for the import: `.store/journal.<epoch>.<first sequence number>`.
//!
//! After the import, the files are renamed and not removed.

use std::path::{Path, PathBuf};

use crate::disk::{Disk, Durable};
use crate::error::{Error, Result};
use crate::files;
use crate::journal::{self, Numbered};

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

/// The content of a journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The number of records.
    pub records: usize,
    /// The number of damaged lines.
    pub damaged: usize,
    /// Whether the last record is torn: it was never acknowledged.
    pub torn: bool,
}

/// Inspects the bytes of a segment, for repair tools and fuzzers.
#[must_use]
pub fn inspect_segment(bytes: &[u8]) -> Recovery {
    let journal::Scan { records, damaged, torn } = journal::scan(bytes);
    Recovery { records: records.len(), damaged, torn }
}

/// The records of a journal.
#[derive(Debug, Default)]
pub struct Replay {
    /// The number of the journal, which the marks in blobs refer to.
    pub epoch: u64,
    /// The records in their order.
    pub records: Vec<Numbered>,
    /// The counts.
    pub recovery: Recovery,
    files: Vec<PathBuf>,
}

impl Replay {
    /// Reads the journal in `dir`.
    pub fn read(dir: &Path) -> Result<Self> {
        let mut places: Vec<Place> =
            files::names(dir)?.iter().filter_map(|name| Place::parse(name)).collect();
        places.sort_unstable_by_key(|place| place.first);
        // There is one epoch, unless two directories were merged; then the higher one is used.
        let epoch = places.last().map_or(0, |place| place.epoch);
        let mut replay = Self { epoch, ..Self::default() };
        let mut next = 1;
        for place in places {
            let path = place.path(dir);
            if place.epoch == epoch {
                let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
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
                replay.records.append(&mut scan.records);
            }
            replay.files.push(path);
        }
        replay.recovery.records = replay.records.len();
        Ok(replay)
    }

    /// Renames the files to `imported.journal.*`.
    pub fn set_aside(&self, disk: &Disk) -> Result<()> {
        for path in &self.files {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let kept = path.with_file_name(format!("imported.{name}"));
            disk.rename(path, &kept, Durable::No).map_err(Error::io("rename", path))?;
        }
        Ok(())
    }
}
