//! Reads logs: finished ones are compressed with brotli, those of running tests are plain and growing. Links that lead
//! outside of `output_dir` are refused.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files;
use crate::layout::{Layout, LogKind};

/// A log that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    path: PathBuf,
    live: bool,
}

impl Log {
    /// The log of a test: the finished one, or else the growing one.
    pub(crate) fn find(layout: &Layout, directory: &Path, kind: LogKind) -> Result<Option<Self>> {
        for (name, live) in [(kind.file(), false), (kind.live_file(), true)] {
            let path = directory.join(name);
            match path.canonicalize() {
                Ok(real) => {
                    let root = layout.dir().canonicalize().map_err(Error::io("read", layout.dir()))?;
                    if !real.starts_with(&root) {
                        return Err(Error::damaged(&path, "a link that leads out of the results"));
                    }
                    if real.is_file() {
                        return Ok(Some(Self { path: real, live }));
                    }
                }
                Err(error) if files::is_absent(&error) => {}
                Err(error) => return Err(Error::io("read", &path)(error)),
            }
        }
        Ok(None)
    }

    /// The artifact `<name>.br` in the directory of a test.
    pub(crate) fn artifact(layout: &Layout, directory: &Path, name: &str) -> Result<Option<Self>> {
        let path = directory.join(format!("{name}.br"));
        match path.canonicalize() {
            Ok(real) => {
                let root = layout.dir().canonicalize().map_err(Error::io("read", layout.dir()))?;
                Ok((real.starts_with(&root) && real.is_file()).then_some(Self { path: real, live: false }))
            }
            Err(error) if files::is_absent(&error) => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    /// The path of the file. It is plain if the log [is growing](Self::is_live), otherwise compressed with brotli.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the test is still running: the file is plain text and grows.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// The plain text as a stream.
    pub fn open(&self) -> Result<Box<dyn Read + Send>> {
        let file = self.file()?;
        Ok(if self.live { Box::new(file) } else { Box::new(brotli::Decompressor::new(file, 64 << 10)) })
    }

    /// At most `limit` bytes of the plain text, and whether that is the complete log.
    pub fn read(&self, limit: u64) -> Result<(Vec<u8>, bool)> {
        let mut bytes = Vec::new();
        let result = self.open()?.take(limit.saturating_add(1)).read_to_end(&mut bytes);
        result.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Error::damaged(&self.path, "not a whole brotli stream")
            }
            _ => Error::io("read", &self.path)(error),
        })?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let all = bytes.len() <= limit;
        bytes.truncate(limit);
        Ok((bytes, all))
    }

    /// At most `limit` bytes of a growing log, starting at `offset`.
    pub fn read_live(&self, offset: u64, limit: u64) -> Result<Vec<u8>> {
        let mut file = self.file()?;
        file.seek(SeekFrom::Start(offset)).map_err(Error::io("read", &self.path))?;
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes).map_err(Error::io("read", &self.path))?;
        Ok(bytes)
    }

    fn file(&self) -> Result<File> {
        File::open(&self.path).map_err(Error::io("read", &self.path))
    }
}
