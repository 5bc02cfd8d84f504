//! Reads logs: finished ones are compressed with brotli, in packs or in separate files; those of running tests are plain
//! and growing. Links that lead outside of `output_dir` are refused.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files;
use crate::layout::{Layout, LogKind};
use crate::packs::PackedFile;

/// The size of the buffer for compressed bytes.
const BUFFER: usize = 64 << 10;

/// A log that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    source: Source,
    /// The file, for messages.
    path: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// A finished log in a pack.
    Packed(PackedFile),
    /// A finished log in a file.
    File,
    /// The plain log of a running test.
    Live,
}

impl Log {
    /// A log in a pack.
    pub(crate) fn packed(file: PackedFile) -> Self {
        Self { path: file.path(), source: Source::Packed(file) }
    }

    /// The log of a test: the finished one, or else the growing one.
    pub(crate) fn find(layout: &Layout, directory: &Path, kind: LogKind) -> Result<Option<Self>> {
        for (name, source) in [(kind.file(), Source::File), (kind.live_file(), Source::Live)] {
            let path = directory.join(name);
            match path.canonicalize() {
                Ok(real) => {
                    let root = layout.dir().canonicalize().map_err(Error::io("read", layout.dir()))?;
                    if !real.starts_with(&root) {
                        return Err(Error::damaged(&path, "a link that leads out of the results"));
                    }
                    if real.is_file() {
                        return Ok(Some(Self { source, path: real }));
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
                Ok((real.starts_with(&root) && real.is_file())
                    .then_some(Self { source: Source::File, path: real }))
            }
            Err(error) if files::is_absent(&error) => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    /// The path of the file, which is a pack for a log in a pack. It is plain if the log [is growing](Self::is_live),
    /// otherwise compressed with brotli.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Device, inode and offset: equal for the logs that share one stream or file.
    pub fn identity(&self) -> Result<(u64, u64, u64)> {
        let data = self.path.metadata().map_err(Error::io("read", &self.path))?;
        let offset = match &self.source {
            Source::Packed(file) => file.offset(),
            Source::File | Source::Live => 0,
        };
        Ok((data.dev(), data.ino(), offset))
    }

    /// Whether the test still runs: the file is plain text and grows.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.source == Source::Live
    }

    /// The plain text as a stream.
    pub fn open(&self) -> Result<Box<dyn Read + Send>> {
        Ok(match &self.source {
            Source::Live => Box::new(self.file()?),
            Source::File => Box::new(brotli::Decompressor::new(self.file()?, BUFFER)),
            Source::Packed(file) => Box::new(brotli::Decompressor::new(file.stream()?, BUFFER)),
        })
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
