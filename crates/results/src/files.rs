//! Reads files of the store: completely, with a size limit, and with "missing" distinct from "unreadable".

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::codec::Aligned;
use crate::error::{Error, Result};

/// The size limit of a blob; the blob of a commit with 20,000 tests is about 5 MB.
pub const BLOB_MAX: u64 = 256 << 20;

/// The complete file; `None` if it is missing.
pub fn read_aligned(path: &Path) -> Result<Option<Aligned>> {
    let mut bytes = Aligned::zeroed(0);
    Ok(read_into(path, &mut bytes)?.then_some(bytes))
}

/// Reads the complete file into memory that is used again. Returns false if it is missing.
pub fn read_into(path: &Path, bytes: &mut Aligned) -> Result<bool> {
    let Some(mut file) = open(path)? else { return Ok(false) };
    let len = file.metadata().map_err(Error::io("read", path))?.len();
    if len > BLOB_MAX {
        return Err(Error::damaged(path, format_args!("larger than {BLOB_MAX} bytes")));
    }
    bytes.resize(usize::try_from(len).unwrap_or(0));
    match file.read_exact(bytes.bytes_mut()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Error::damaged(path, "it became shorter while it was read"))
        }
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

/// The first `limit` bytes of a file as text; `None` if it is missing.
pub fn read_text(path: &Path, limit: u64) -> Result<Option<String>> {
    let Some(file) = open(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The open file; `None` if it is missing.
pub fn open(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

/// Whether the error means that the file is missing.
pub fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The UTF-8 names in a directory, sorted; empty if it is missing.
pub fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", dir)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io("list", dir))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}
