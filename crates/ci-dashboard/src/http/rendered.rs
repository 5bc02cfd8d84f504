//! A rendered page or view, compressed at most once per content coding for all clients.

use std::io::{self, Write as _};
use std::sync::OnceLock;

use bytes::Bytes;

use super::conditional::{self, Validators};

/// Bodies that are shorter than this are not compressed, in bytes.
const COMPRESS_MIN: usize = 1400;
/// A low level: most pages are sent to few clients, and it achieves 80 % of the reduction of the highest level.
const GZIP_LEVEL: u32 = 2;
/// A low level, for the same reason.
const BROTLI_LEVEL: i32 = 3;

/// A body with its validators and its compressed forms.
#[derive(Debug)]
pub struct Rendered {
    plain: Bytes,
    validators: Validators,
    /// Set when the first client accepts the encoding; `None` inside if compression failed.
    brotli: OnceLock<Option<Bytes>>,
    gzip: OnceLock<Option<Bytes>>,
}

impl Rendered {
    /// Creates it from a complete body.
    #[must_use]
    pub fn new(body: impl Into<Bytes>) -> Self {
        let plain = body.into();
        let validators = Validators::of_bytes(&plain);
        Self { plain, validators, brotli: OnceLock::new(), gzip: OnceLock::new() }
    }

    /// The uncompressed body.
    #[must_use]
    pub fn plain(&self) -> &Bytes {
        &self.plain
    }

    /// The validators, which are the same for all encodings.
    #[must_use]
    pub fn validators(&self) -> &Validators {
        &self.validators
    }

    /// An upper bound of its memory with all encodings, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.plain.len().saturating_mul(if self.plain.len() < COMPRESS_MIN { 1 } else { 3 })
    }

    /// The bytes for a client that sends this `Accept-Encoding`, and their content encoding.
    #[must_use]
    pub fn encoded(&self, accept_encoding: &str) -> (Bytes, Option<&'static str>) {
        let plain = || (self.plain.clone(), None);
        if self.plain.len() < COMPRESS_MIN {
            return plain();
        }
        let (packed, coding) = if conditional::accepts(accept_encoding, "br") {
            (self.brotli.get_or_init(|| brotli(&self.plain).ok().map(Bytes::from)), "br")
        } else if conditional::accepts(accept_encoding, "gzip") {
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
    // A window of 256 KiB: few pages are larger, and the window is the main memory cost.
    let settings =
        brotli::enc::BrotliEncoderParams { quality: BROTLI_LEVEL, lgwin: 18, ..Default::default() };
    brotli::BrotliCompress(&mut bytes, &mut out, &settings)?;
    Ok(out)
}
