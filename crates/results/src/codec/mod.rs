//! Encoding and decoding of blobs: capnp in standard unpacked framing.
//!
//! Decoding arbitrary bytes returns data or an error, and uses memory proportional to their number. An entry with an
//! invalid result key is left out; the others are kept.

mod branch;
mod columns;
mod commit;
mod durations;

use capnp::Word;
use capnp::message::{Builder, HeapAllocator, Reader, ReaderOptions};
use capnp::serialize::{BufferSegments, read_message_from_flat_slice, write_message_to_words};

pub use branch::{decode_branch, encode_branch};
pub(crate) use columns::{BlobColumns, KnownNames, decode_columns, decode_names, decode_one};
pub(crate) use commit::encode_entries;
pub use commit::{CommitBlob, decode_commit, encode_commit, keys_hash};
pub use durations::{DurationsBlob, decode_durations, encode_durations};

/// The journal records that a blob includes: all records of the journal `epoch` up to `sequence`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// The number of the journal; 0 in blobs of the existing system.
    pub epoch: u64,
    /// The last record.
    pub sequence: u64,
}

/// Bytes at an address that is divisible by 8, so that they can be read in place.
pub struct Aligned {
    words: Vec<Word>,
    len: usize,
}

impl Aligned {
    /// `len` zero bytes.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        Self { words: Word::allocate_zeroed_vec(len.div_ceil(8)), len }
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &Word::words_to_bytes(&self.words)[..self.len]
    }

    /// Changes the length. Bytes that are added are not defined.
    pub fn resize(&mut self, len: usize) {
        if len.div_ceil(8) > self.words.len() {
            self.words = Word::allocate_zeroed_vec(len.div_ceil(8));
        }
        self.len = len;
    }

    /// The bytes, for writing.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut Word::words_to_bytes_mut(&mut self.words)[..self.len]
    }
}

impl From<&[u8]> for Aligned {
    fn from(bytes: &[u8]) -> Self {
        let mut aligned = Self::zeroed(bytes.len());
        aligned.bytes_mut().copy_from_slice(bytes);
        aligned
    }
}

/// Opens a message. Our blobs contain no shared references, so a traversal limit of four times the size is sufficient.
fn open<'a>(bytes: &mut &'a [u8]) -> capnp::Result<Reader<BufferSegments<&'a [u8]>>> {
    let mut options = ReaderOptions::new();
    options.traversal_limit_in_words(Some(bytes.len() / 2 + 1024)).nesting_limit(16);
    read_message_from_flat_slice(bytes, options)
}

/// A builder for a message that has a single segment if it needs at most `words` words.
fn builder(words: usize) -> Builder<HeapAllocator> {
    let words = u32::try_from(words).unwrap_or(u32::MAX / 8);
    Builder::new(HeapAllocator::new().first_segment_words(words.max(64)))
}

fn finish(message: &Builder<HeapAllocator>) -> Vec<u8> {
    write_message_to_words(message)
}

/// The number of words that a text needs.
fn text_words(text: &str) -> usize {
    text.len() / 8 + 1
}

/// The length of a list, checked against the size of the blob: empty structs take no space, so a small hostile blob
/// could claim billions of them.
fn checked_len(len: u32, bytes: usize) -> capnp::Result<u32> {
    if len as usize > bytes {
        return Err(capnp::Error::failed("a list claims more entries than the blob has bytes".into()));
    }
    Ok(len)
}

fn text(text: capnp::text::Reader<'_>) -> String {
    match text.to_str() {
        Ok(text) => text.to_owned(),
        Err(_) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
    }
}

fn non_empty(value: capnp::text::Reader<'_>) -> Option<String> {
    let value = text(value);
    (!value.is_empty()).then_some(value)
}
