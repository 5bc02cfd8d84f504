//! Reads a growing file line by line.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The position in a growing file.
#[derive(Debug, Default)]
pub(super) struct Tail {
    position: u64,
    partial: Vec<u8>,
}

/// The size limit of a read and of a line, in bytes.
const READ_BYTES: u64 = 8 << 20;

impl Tail {
    /// The new complete lines.
    pub(super) fn read(&mut self, path: &Path) -> Vec<String> {
        let mut bytes = Vec::new();
        let read = fsx::own::open(path).map_err(std::io::Error::from).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.position))?;
            file.take(READ_BYTES).read_to_end(&mut bytes)
        });
        if read.is_err() {
            return Vec::new();
        }
        self.position += bytes.len() as u64;
        let mut lines = Vec::new();
        for byte in bytes {
            if byte == b'\n' {
                lines.push(String::from_utf8_lossy(&self.partial).into_owned());
                self.partial.clear();
            } else if (self.partial.len() as u64) < READ_BYTES {
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
    fn only_complete_lines_are_read() {
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
