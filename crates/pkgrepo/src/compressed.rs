//! Compressed indices, by the first bytes of the file.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use fsx::own;

use crate::error::RepoError;

/// The maximum size of an uncompressed index, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// The content of an index: compressed with gzip or zstd, or not at all. It ends after [`MAX_BYTES`].
pub(crate) fn open(file: &Path, url: &str) -> Result<BufReader<Box<dyn Read + Send>>, RepoError> {
    let index = |cause: String| RepoError::Index { url: url.into(), cause };
    let mut from = BufReader::new(own::open(file)?);
    let start = from.fill_buf().map_err(fsx::Error::of("read", file))?;
    let content: Box<dyn Read + Send> = match start {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(from)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(
            zstd::stream::read::Decoder::with_buffer(from).map_err(|error| index(error.to_string()))?,
        ),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            return Err(index("compressed with xz; only gzip and zstd are supported".into()));
        }
        _ => Box::new(from),
    };
    Ok(BufReader::new(Box::new(content.take(MAX_BYTES))))
}
