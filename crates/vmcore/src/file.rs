//! The file: headers, the bitmap of the pages it has, and the pages, each compressed by itself.
//!
//! The layout is that of `struct disk_dump_header` (makedumpfile, QEMU's dump/dump.c): a header block, a second header, two
//! bitmaps of equal size, the descriptors of the pages in the second bitmap, the data.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use crate::CoreError;

/// A file that is read at offsets.
pub trait ReadAt {
    /// Fills the buffer with the bytes from this offset on.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(buffer.len());
        let bytes = self.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

const SIGNATURE: &[u8; 8] = b"KDUMP   ";
/// The offset of `block_size` in the first header: after the signature, the version, six names of 65 bytes and a time,
/// padded, and the status.
const BLOCK_SIZE: u64 = 428;
const SUB_HEADER_BLOCKS: u64 = 432;
const BITMAP_BLOCKS: u64 = 436;
/// The offset of the names of the kernel in the first header.
pub(crate) const NAMES: u64 = 12;
/// The offset of the name of the machine in the first header.
const MACHINE: u64 = NAMES + 4 * 65;
/// The offset of the offset and of the size of the notes in the second header.
const INFO: u64 = 32;
/// The size of a page descriptor.
const DESCRIPTOR: u64 = 24;
/// The maximum size of a bitmap, that of a guest with 2 TiB.
const MAX_BITMAP: u64 = 64 << 20;
/// The maximum size of the notes.
const MAX_INFO: u64 = 64 << 10;
/// The number of bytes of the bitmap between two counts.
const STEP: usize = 512;
/// The number of uncompressed pages that are kept.
const CACHED: usize = 4096;

/// The pages of a core.
pub(crate) struct Pages<R> {
    file: R,
    block: u64,
    machine: String,
    /// The pages in the file, one bit each.
    bitmap: Vec<u8>,
    /// The number of pages before each [`STEP`] bytes of the bitmap.
    counts: Vec<u64>,
    descriptors: u64,
    /// The place and the size of the notes.
    info: (u64, u64),
    cache: RefCell<HashMap<u64, Rc<Vec<u8>>>>,
}

impl<R> std::fmt::Debug for Pages<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").field("machine", &self.machine).finish_non_exhaustive()
    }
}

impl<R: ReadAt> Pages<R> {
    pub(crate) fn open(file: R) -> Result<Self, CoreError> {
        let mut signature = [0; 8];
        if file.read_at(0, &mut signature).is_err() || signature != *SIGNATURE {
            return Err(CoreError::NotACore);
        }
        let small = |at| read_u32(&file, at).map(u64::from);
        let block = small(BLOCK_SIZE)?;
        if !block.is_power_of_two() || !(4096..=65536).contains(&block) {
            return Err(CoreError::Damaged("its block size is invalid"));
        }
        let first = (1 + small(SUB_HEADER_BLOCKS)?) * block;
        let both = small(BITMAP_BLOCKS)? * block;
        let size = both / 2;
        if size > MAX_BITMAP {
            return Err(CoreError::Damaged("its bitmap is too large"));
        }
        let machine = name(&file, MACHINE)?;
        let info = (read_u64(&file, block + INFO)?, read_u64(&file, block + INFO + 8)?);
        let mut bitmap = vec![0; usize::try_from(size).expect("it is small")];
        file.read_at(first + size, &mut bitmap)?;
        let ones = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>();
        let counts = bitmap.chunks(STEP).scan(0, |sum, bytes| {
            let before = *sum;
            *sum += ones(bytes);
            Some(before)
        });
        let counts = counts.collect();
        let cache = RefCell::default();
        Ok(Self { block, machine, counts, bitmap, descriptors: first + both, info, cache, file })
    }

    /// The name of the machine, as `uname -m` prints it.
    pub(crate) fn machine(&self) -> &str {
        &self.machine
    }

    /// The name of the system, as `uname -s` prints it; empty if the program that wrote the core did not know it.
    pub(crate) fn system(&self) -> Result<String, CoreError> {
        Ok(name(&self.file, NAMES)?)
    }

    /// The notes of the kernel.
    pub(crate) fn info(&self) -> Result<Option<String>, CoreError> {
        let (at, size) = self.info;
        if at == 0 || size == 0 {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(size.min(MAX_INFO)).expect("it is small")];
        self.file.read_at(at, &mut bytes)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Reads from a physical address. The bytes may span pages.
    pub(crate) fn read(&self, mut address: u64, mut buffer: &mut [u8]) -> Result<(), CoreError> {
        while !buffer.is_empty() {
            let page = self.page(address / self.block)?;
            let offset = usize::try_from(address % self.block).expect("it is small");
            let count = buffer.len().min(page.len() - offset);
            let (now, rest) = buffer.split_at_mut(count);
            now.copy_from_slice(&page[offset..offset + count]);
            address = address.checked_add(count as u64).ok_or(CoreError::Address(address))?;
            buffer = rest;
        }
        Ok(())
    }

    /// The number of the descriptor of a page: the pages that are before it in the bitmap.
    fn rank(&self, number: u64) -> Option<u64> {
        let at = usize::try_from(number / 8).ok()?;
        let (byte, bit) = (*self.bitmap.get(at)?, number % 8);
        let part = at - at % STEP;
        let before = self.bitmap[part..at].iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>();
        let earlier = byte & !(0xff << bit);
        let exists = byte & (1 << bit) != 0;
        exists.then(|| self.counts[at / STEP] + before + u64::from(earlier.count_ones()))
    }

    fn page(&self, number: u64) -> Result<Rc<Vec<u8>>, CoreError> {
        if let Some(page) = self.cache.borrow().get(&number) {
            return Ok(Rc::clone(page));
        }
        let rank = self.rank(number).ok_or(CoreError::Address(number.saturating_mul(self.block)))?;
        let at = self.descriptors + rank * DESCRIPTOR;
        let (offset, size) = (read_u64(&self.file, at)?, u64::from(read_u32(&self.file, at + 8)?));
        let flags = read_u32(&self.file, at + 12)?;
        if size > 2 * self.block {
            return Err(CoreError::Damaged("a page is too large"));
        }
        let mut bytes = vec![0; usize::try_from(size).expect("it is small")];
        self.file.read_at(offset, &mut bytes)?;
        let page = match flags & 0xf {
            0 => bytes,
            1 => inflate(&bytes, self.block)?,
            _ => return Err(CoreError::Damaged("a page has an unknown compression")),
        };
        if page.len() as u64 != self.block {
            return Err(CoreError::Damaged("a page has another size"));
        }
        let page = Rc::new(page);
        let mut cache = self.cache.borrow_mut();
        if cache.len() >= CACHED {
            cache.clear();
        }
        cache.insert(number, Rc::clone(&page));
        Ok(page)
    }
}

fn inflate(bytes: &[u8], block: u64) -> Result<Vec<u8>, CoreError> {
    let mut page = Vec::new();
    // One byte more than a page shows that it is too large.
    let inflated = flate2::read::ZlibDecoder::new(bytes).take(block + 1).read_to_end(&mut page);
    inflated.map_err(|_| CoreError::Damaged("a page cannot be decompressed"))?;
    Ok(page)
}

fn read_u32<R: ReadAt>(file: &R, at: u64) -> io::Result<u32> {
    let mut bytes = [0; 4];
    file.read_at(at, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn read_u64<R: ReadAt>(file: &R, at: u64) -> io::Result<u64> {
    let mut bytes = [0; 8];
    file.read_at(at, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// A name in the header.
fn name<R: ReadAt>(file: &R, at: u64) -> io::Result<String> {
    let mut name = [0; 65];
    file.read_at(at, &mut name)?;
    Ok(String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned())
}
