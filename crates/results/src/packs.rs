//! Files in packs: a pack is a file to which the streams of a commit are appended, one after the other.
//!
//! Rows of the database name the streams. Each has a header before it, for the case that the database is lost. Other bytes
//! are the rest of an interrupted write.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fsx::untrusted::{Dir, Reason};
use model::CommitId;

use crate::error::{Error, Result};
use crate::layout::{self, Layout, PACKS};

/// The place of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Region {
    /// The number of the pack among those of the commit.
    pub pack: u32,
    /// In bytes from the start of the pack.
    pub offset: u64,
    /// In bytes.
    pub length: u64,
}

/// A file as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// The attempt, or 0 if a later attempt replaces the file.
    pub attempt: u32,
    /// Whether the attempt gives the verdict.
    pub decisive: bool,
    /// The name without `.br`.
    pub name: String,
    pub region: Region,
    /// The size of the plain content.
    pub plain_bytes: u64,
    /// When the attempt ended, if that is known.
    pub ended: Option<SystemTime>,
}

impl StoredFile {
    /// The path below the directory of the test.
    pub fn path(&self) -> String {
        let Self { attempt, name, .. } = self;
        if self.decisive || *attempt == 0 {
            format!("{name}.br")
        } else {
            format!("attempt.{attempt}/{name}.br")
        }
    }

    /// The file in the results below `layout`.
    pub fn packed(&self, layout: &Layout, commit: &CommitId) -> PackedFile {
        let Self { region, ended, .. } = self;
        PackedFile {
            root: layout.dir().into(),
            name: layout::pack_name(commit, region.pack),
            region: *region,
            ended: *ended,
        }
    }
}

/// A brotli stream in a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedFile {
    root: PathBuf,
    name: String,
    region: Region,
    ended: Option<SystemTime>,
}

impl PackedFile {
    /// The pack, for messages.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.root.join(PACKS).join(&self.name)
    }

    /// The size of the stream in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.region.length
    }

    pub(crate) fn offset(&self) -> u64 {
        self.region.offset
    }

    /// The number of the pack, the offset and the length.
    #[must_use]
    pub fn tag(&self) -> String {
        let Region { pack, offset, length } = self.region;
        format!("{pack:x}-{offset:x}-{length:x}")
    }

    /// When the run ended that made it, if that is known.
    #[must_use]
    pub fn ended(&self) -> Option<SystemTime> {
        self.ended
    }

    /// The pack, and the offset and length of the stream in it, which are inside of it.
    pub fn open(&self) -> Result<(File, u64, u64)> {
        let path = self.path();
        let opened =
            Dir::open(&self.root).and_then(|dir| dir.open_published(Path::new(PACKS).join(&self.name)));
        let file = opened.map_err(|error| match error.reason {
            Reason::Io(source) if source.kind() == io::ErrorKind::NotFound => {
                Error::damaged(&path, "the pack is missing")
            }
            Reason::Io(source) => Error::io("read", &path)(source),
            Reason::Refused(problem) => Error::damaged(&path, problem),
        })?;
        let size = file.metadata().map_err(Error::io("read", &path))?.len();
        let Region { offset, length, .. } = self.region;
        if offset.checked_add(length).is_none_or(|end| end > size) {
            let what = format_args!("{length} bytes from {offset} on are not in its {size} bytes");
            return Err(Error::damaged(&path, what));
        }
        Ok((file, offset, length))
    }

    /// The stream, compressed.
    pub fn stream(&self) -> Result<io::Take<File>> {
        let (mut file, offset, length) = self.open()?;
        file.seek(SeekFrom::Start(offset)).map_err(Error::io("read", &self.path()))?;
        Ok(file.take(length))
    }

    /// The bytes of the stream, compressed.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream()?.read_to_end(&mut bytes).map_err(Error::io("read", &self.path()))?;
        if bytes.len() as u64 != self.region.length {
            return Err(Error::damaged(&self.path(), "it became shorter while it was read"));
        }
        Ok(bytes)
    }
}

/// The paths of the packs of a commit, in order. They are numbered without gaps.
pub fn packs_of(layout: &Layout, commit: &CommitId) -> Vec<PathBuf> {
    (1..)
        .map(|number| layout.pack(commit, number))
        .take_while(|path| path.symlink_metadata().is_ok())
        .collect()
}
