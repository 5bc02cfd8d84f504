//! Random numbers that untrusted code cannot predict.

use std::hash::{BuildHasher, RandomState};

/// 64 random bits: the value of SipHash with a secret key that the standard library gets from the kernel.
#[must_use]
pub fn bits() -> u64 {
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_differ() {
        assert_ne!(super::bits(), super::bits());
    }
}
