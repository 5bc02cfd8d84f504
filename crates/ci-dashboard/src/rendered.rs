//! A page or view as bytes, and the same compressed once for all who take it so.

use std::io::{self, Write as _};
use std::sync::OnceLock;

use bytes::Bytes;

use crate::conditional::{self, Validators};

/// Bodies below this size are not worth compressing, in bytes.
const COMPRESS_MIN: usize = 1400;
/// Fast enough for a page that few ask for, and four fifths of what the best level saves.
const GZIP_LEVEL: u32 = 2;
/// Likewise.
const BROTLI_LEVEL: i32 = 3;

/// Bytes with the tag they are compared by.
#[derive(Debug)]
pub struct Rendered {
    plain: Bytes,
    validators: Validators,
    /// Each made when the first client takes it; none where it failed.
    brotli: OnceLock<Option<Bytes>>,
    gzip: OnceLock<Option<Bytes>>,
}

impl Rendered {
    /// Of a whole body.
    #[must_use]
    pub fn new(body: impl Into<Bytes>) -> Self {
        let plain = body.into();
        let validators = Validators::of_bytes(&plain);
        Self { plain, validators, brotli: OnceLock::new(), gzip: OnceLock::new() }
    }

    /// As it is.
    #[must_use]
    pub fn plain(&self) -> &Bytes {
        &self.plain
    }

    /// What it is compared by.
    #[must_use]
    pub fn validators(&self) -> &Validators {
        &self.validators
    }

    /// The most it takes, in bytes, with its codings.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.plain.len().saturating_mul(if self.plain.len() < COMPRESS_MIN { 1 } else { 3 })
    }

    /// The bytes for a client that sends this `Accept-Encoding`, and how they are coded.
    #[must_use]
    pub fn coded(&self, accepted: &str) -> (Bytes, Option<&'static str>) {
        let plain = || (self.plain.clone(), None);
        if self.plain.len() < COMPRESS_MIN {
            return plain();
        }
        let (packed, coding) = if conditional::accepts(accepted, "br") {
            (self.brotli.get_or_init(|| brotli(&self.plain).ok().map(Bytes::from)), "br")
        } else if conditional::accepts(accepted, "gzip") {
            (self.gzip.get_or_init(|| gzip(&self.plain).ok().map(Bytes::from)), "gzip")
        } else {
            return plain();
        };
        packed.clone().map_or_else(plain, |packed| (packed, Some(coding)))
    }
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let out = Vec::with_capacity(bytes.len() / 5);
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(GZIP_LEVEL));
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn brotli(mut bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len() / 6);
    // A window of 256 KiB: a page is hardly larger, and a large window costs memory first.
    let settings =
        brotli::enc::BrotliEncoderParams { quality: BROTLI_LEVEL, lgwin: 18, ..Default::default() };
    brotli::BrotliCompress(&mut bytes, &mut out, &settings)?;
    Ok(out)
}
