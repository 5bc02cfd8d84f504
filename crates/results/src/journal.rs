//! Records, and their format in the journal of ci-daemon 0.1, which is imported. Pure; `segment.rs` reads the files.
//!
//! One record per line: eight hexadecimal digits of the CRC-32 of the rest, a space, JSON, a newline. JSON contains no
//! raw newline, so the lines after a damaged one remain readable.

use model::{CommitId, ResultKey, Verdict};
use serde::{Deserialize, Serialize};

use crate::types::VerdictRecord;

/// A change of the results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// A verdict.
    Verdict(Box<VerdictRecord>),
    /// The message of a commit.
    Message {
        /// The commit.
        commit: CommitId,
        /// Its message.
        message: String,
    },
    /// A finished log was published.
    Log {
        /// The commit.
        commit: CommitId,
        /// The test.
        key: ResultKey,
        /// The attempt that the log belongs to.
        attempt: u32,
        /// Whether it is the log of the whole VM run.
        full: bool,
        /// The size of the plain log.
        bytes: u64,
    },
    /// The verdict of the decisive attempt became another one: a known failure is none any longer, or the reverse.
    Judgement {
        /// The commit.
        commit: CommitId,
        /// The test.
        key: ResultKey,
        /// The attempt that must still be the decisive one.
        attempt: u32,
        /// The new verdict.
        verdict: Verdict,
    },
}

impl Record {
    /// The commit of the record.
    #[must_use]
    pub fn commit(&self) -> &CommitId {
        match self {
            Self::Verdict(record) => &record.commit,
            Self::Message { commit, .. } | Self::Log { commit, .. } | Self::Judgement { commit, .. } => {
                commit
            }
        }
    }
}

/// A record and its number in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered {
    /// Increases by one per record, across segments.
    #[serde(rename = "seq")]
    pub sequence: u64,
    /// The record.
    #[serde(flatten)]
    pub record: Record,
}

/// A line with a valid checksum, which fuzzers cannot guess.
#[must_use]
pub fn checked_line(content: &[u8]) -> Vec<u8> {
    let mut line = format!("{:08x} ", crc32fast::hash(content)).into_bytes();
    line.extend_from_slice(content);
    line.push(b'\n');
    line
}

/// The content of a segment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The complete records in their order.
    pub records: Vec<Numbered>,
    /// The number of complete but damaged lines.
    pub damaged: usize,
    /// Whether the last line is torn: the writer was stopped during the write of a record that it had not acknowledged.
    pub torn: bool,
}

/// Parses a segment. Damaged lines are counted and are not an error.
#[must_use]
pub fn scan(bytes: &[u8]) -> Scan {
    let mut scan = Scan::default();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"\n") {
            None => scan.torn = true,
            Some(line) => match decode(line) {
                Some(record) => scan.records.push(record),
                None => scan.damaged += 1,
            },
        }
    }
    scan
}

fn decode(line: &[u8]) -> Option<Numbered> {
    serde_json::from_slice(checked(line)?).ok()
}

/// The content of a line with a valid checksum, without its newline.
pub fn checked(line: &[u8]) -> Option<&[u8]> {
    let (crc, json) = line.split_at_checked(9)?;
    // Compare digits, not numbers, because a number has more than one spelling.
    if crc != format!("{:08x} ", crc32fast::hash(json)).as_bytes() {
        return None;
    }
    Some(json)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn record(number: u64) -> Record {
        let mut record = VerdictRecord::new(
            "0123456789abcdef0123456789abcdef01234567".parse().unwrap(),
            format!("fs.ext4.basic.t{number}").parse().unwrap(),
            Verdict::Failed { reason: "line one\nline \"two\" ü".into() },
            Duration::from_millis(1234 + number),
        );
        record.host = Some("farm1".parse().unwrap());
        record.slot = Some(3);
        Record::Verdict(record.into())
    }

    fn line(sequence: u64, record: Record) -> Vec<u8> {
        checked_line(&serde_json::to_vec(&Numbered { sequence, record }).unwrap())
    }

    fn segment(count: u64) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for number in 0..count {
            bytes.extend(line(number + 1, record(number)));
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn records_round_trip() {
        let (bytes, _) = segment(5);
        let scan = scan(&bytes);
        assert_eq!((scan.damaged, scan.torn), (0, false));
        for (number, read) in (0..).zip(&scan.records) {
            assert_eq!(*read, Numbered { sequence: number + 1, record: record(number) });
        }
        for other in [
            Record::Message { commit: record(0).commit().clone(), message: "ext4: fix\n\nBecause.\n".into() },
            Record::Log {
                commit: record(0).commit().clone(),
                key: "a.b".parse().unwrap(),
                attempt: 2,
                full: true,
                bytes: 7,
            },
        ] {
            let bytes = line(9, other.clone());
            assert_eq!(super::scan(&bytes).records, [Numbered { sequence: 9, record: other }]);
        }
    }

    #[test]
    fn records_before_a_cut_are_kept() {
        let (bytes, ends) = segment(4);
        for len in 0..=bytes.len() {
            let scan = scan(&bytes[..len]);
            let whole = ends.iter().filter(|end| **end <= len).count();
            assert_eq!(scan.records.len(), whole, "cut at {len}");
            assert_eq!((scan.damaged, scan.torn), (0, len != 0 && !ends.contains(&len)));
        }
    }

    #[test]
    fn a_flipped_bit_loses_its_record_and_at_most_a_neighbor() {
        let (bytes, ends) = segment(4);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let scan = scan(&flipped);
                let hit = u64::try_from(ends.iter().filter(|end| **end <= at).count()).unwrap();
                let kept: Vec<u64> = scan.records.iter().map(|record| record.sequence - 1).collect();
                // A damaged newline joins two lines; any other damaged bit affects one line.
                let joined = bytes[at] == b'\n' && hit + 1 < 4;
                let expected: Vec<u64> =
                    (0..4).filter(|number| *number != hit && !(joined && *number == hit + 1)).collect();
                assert_eq!(kept, expected, "bit {bit} of byte {at}");
                for read in scan.records {
                    assert_eq!(read.record, record(read.sequence - 1));
                }
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = scan(&bytes);
        }
    }
}
