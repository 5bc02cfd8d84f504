//! Random numbers that untrusted code cannot foresee.

use std::hash::{BuildHasher, RandomState};

/// 64 random bits: the value of SipHash under a secret key that the standard library takes from the kernel.
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
