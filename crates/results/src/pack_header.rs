//! The header before each stream of a pack, from which the files of runs are found again if the database is lost.
//!
//! A header is a line with a checksum: eight hexadecimal digits, a space, JSON. It follows the stream before it, which is
//! binary, so it begins with a newline. An interrupted write leaves a part of a header or of a stream, and the search goes
//! on at the next valid header.

use std::io;
use std::path::Path;

use model::ResultKey;
use serde::{Deserialize, Serialize};

use crate::journal::{checked, checked_line};
use crate::packs::Region;

/// The start of the JSON in each header.
const START: &[u8] = b" {\"file\":";
/// The length of the checksum.
const CHECKSUM: usize = 8;

/// A header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The name of the file, without `.br`. This field is the first one in the JSON.
    pub file: String,
    /// The length of the stream in bytes.
    pub length: u64,
    /// The checksum (CRC-32) of the stream.
    pub crc: u32,
    /// The size of the plain content.
    pub plain_bytes: u64,
    /// The tests that have the file, and their attempts; 0 for a file that a later attempt replaces.
    pub owners: Vec<(ResultKey, u32)>,
}

impl Header {
    /// The bytes before the stream.
    pub fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).unwrap_or_default();
        [b"\n".as_slice(), &checked_line(&json)].concat()
    }
}

/// The complete files of a pack, in their order. What is damaged is left out.
pub fn scan(path: &Path, pack: u32) -> io::Result<Vec<(Header, Region)>> {
    // A pack is not much larger than its limit.
    let bytes = std::fs::read(path)?;
    let (mut files, mut at) = (Vec::new(), 0);
    while let Some(found) = find(&bytes[at..]) {
        let start = at + found;
        at = start + START.len();
        let Some((header, stream)) = header(&bytes, start) else { continue };
        let end = usize::try_from(header.length).ok().and_then(|length| stream.checked_add(length));
        let Some(content) = end.and_then(|end| bytes.get(stream..end)) else { continue };
        if crc32fast::hash(content) == header.crc {
            at = stream + content.len();
            let (offset, length) = (stream as u64, header.length);
            files.push((header, Region { pack, offset, length }));
        }
    }
    Ok(files)
}

/// The place of the next start of JSON.
fn find(bytes: &[u8]) -> Option<usize> {
    bytes.windows(START.len()).position(|window| window == START)
}

/// The header whose JSON starts after the space at `at`, and the start of its stream.
fn header(bytes: &[u8], at: usize) -> Option<(Header, usize)> {
    let line = &bytes[at.checked_sub(CHECKSUM)?..];
    let end = line.iter().position(|byte| *byte == b'\n')?;
    let header = serde_json::from_slice(checked(&line[..end])?).ok()?;
    Some((header, at - CHECKSUM + end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_files_are_found_in_damaged_packs() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let streams: [&[u8]; 3] = [b"one", b"a \n {\"file\":", b"\0\xff"];
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        let headers = streams.map(|stream| Header {
            file: "log".into(),
            length: stream.len() as u64,
            crc: crc32fast::hash(stream),
            plain_bytes: 7,
            owners: vec![("a.b".parse().unwrap(), 1), ("a.c".parse().unwrap(), 0)],
        });
        for (header, stream) in headers.iter().zip(streams) {
            bytes.extend(header.encode());
            bytes.extend_from_slice(stream);
            ends.push(bytes.len());
        }
        let found = |bytes: &[u8]| {
            std::fs::write(file.path(), bytes).unwrap();
            let files = scan(file.path(), 1).unwrap();
            for (header, Region { offset, length, .. }) in &files {
                let (start, length) = (usize::try_from(*offset).unwrap(), usize::try_from(*length).unwrap());
                assert_eq!(crc32fast::hash(&bytes[start..start + length]), header.crc);
            }
            files.into_iter().map(|(header, _)| header).collect::<Vec<_>>()
        };
        assert_eq!(found(&bytes), headers);
        for len in 0..bytes.len() {
            let complete = ends.iter().filter(|end| **end <= len).count();
            assert_eq!(found(&bytes[..len]), headers[..complete], "{len}");
            // What follows an interrupted write is found.
            let resumed = [&bytes[..len], &bytes].concat();
            assert!(found(&resumed).ends_with(&headers), "{len}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x20;
            assert!(found(&damaged).len() >= 2, "{at}");
        }
    }
}
