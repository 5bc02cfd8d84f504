//! SHA-256 and its hexadecimal form, for names that are derived from contents.

use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::Error;

/// Lower-case hexadecimal, two digits per byte.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: impl AsRef<[u8]>) -> [u8; 32] {
    Sha256::digest(bytes.as_ref()).into()
}

/// The SHA-256 of `bytes` as 64 hexadecimal digits.
#[must_use]
pub fn sha256_hex(bytes: impl AsRef<[u8]>) -> String {
    hex(&sha256(bytes))
}

/// The SHA-256 of everything that `from` yields, as 64 hexadecimal digits. Memory use is constant.
pub fn reader(mut from: impl Read) -> io::Result<String> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish_hex()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The SHA-256 of a file that only we write, as 64 hexadecimal digits.
pub fn file(path: &Path) -> Result<String, Error> {
    reader(crate::own::open(path)?).map_err(Error::of("read", path))
}

/// A SHA-256 that is computed incrementally.
#[derive(Debug, Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// The hash of no bytes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends `bytes`. Two calls give the same result as one call with both.
    pub fn update(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.update(bytes.as_ref());
    }

    /// Appends the length of `bytes`, then `bytes`, so that two different lists of fields have different digests.
    pub fn field(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.update((bytes.len() as u64).to_le_bytes());
        self.update(bytes);
    }

    /// The digest.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }

    /// The digest as 64 hexadecimal digits.
    #[must_use]
    pub fn finish_hex(self) -> String {
        hex(&self.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn every_form_has_the_published_test_vector() {
        assert_eq!(hex(&[0, 0x0f, 0xf0, 0xff]), "000ff0ff");
        assert_eq!(sha256_hex("abc"), ABC);
        assert_eq!(reader(&b"abc"[..]).unwrap(), ABC);
        let mut hasher = Hasher::new();
        hasher.update("a");
        hasher.update("bc");
        assert_eq!(hasher.finish_hex(), ABC);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(file(&path).unwrap(), ABC);
        let missing = file(&dir.path().join("missing")).unwrap_err();
        assert!(missing.is_not_found(), "{missing}");
    }

    #[test]
    fn fields_are_delimited() {
        let of = |fields: &[&str]| {
            let mut hasher = Hasher::new();
            fields.iter().for_each(|field| hasher.field(field));
            hasher.finish_hex()
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
    }
}
