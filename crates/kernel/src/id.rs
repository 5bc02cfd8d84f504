//! Kernel ids: hashes of everything that determines a kernel.

use fsx::digest::Hasher;
use model::KernelId;

/// SHA-256 (hex) of fields, each preceded by its length, so that different lists have different hashes.
pub(crate) fn hash_fields<'a>(fields: impl IntoIterator<Item = &'a str>) -> KernelId {
    let mut hasher = Hasher::new();
    for field in fields {
        hasher.field(field);
    }
    hasher.finish_hex().parse().expect("a SHA-256 has 64 digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_separated() {
        assert_ne!(hash_fields(["ab", "c"]), hash_fields(["a", "bc"]));
        assert_eq!(hash_fields(["a"]), hash_fields(["a"]));
    }
}
