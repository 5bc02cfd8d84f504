//! A file that another process appends lines to, read as it grows.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// What was read of a file that grows.
#[derive(Debug, Default)]
pub(super) struct Tail {
    at: u64,
    partial: Vec<u8>,
}

/// So much is read at a time, and no line is longer, in bytes.
const READ: u64 = 8 << 20;

impl Tail {
    /// The lines that are new and whole.
    pub(super) fn read(&mut self, path: &Path) -> Vec<String> {
        let mut bytes = Vec::new();
        let read = std::fs::File::open(path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.at))?;
            file.take(READ).read_to_end(&mut bytes)
        });
        if read.is_err() {
            return Vec::new();
        }
        self.at += bytes.len() as u64;
        let mut lines = Vec::new();
        for byte in bytes {
            if byte == b'\n' {
                lines.push(String::from_utf8_lossy(&self.partial).into_owned());
                self.partial.clear();
            } else if (self.partial.len() as u64) < READ {
                self.partial.push(byte);
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growing_file_is_read_by_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut tail = Tail::default();
        assert!(tail.read(&path).is_empty());
        std::fs::write(&path, "a\nb").unwrap();
        assert_eq!(tail.read(&path), ["a"]);
        std::fs::write(&path, "a\nbc\n\n").unwrap();
        assert_eq!(tail.read(&path), ["bc", ""]);
    }
}
