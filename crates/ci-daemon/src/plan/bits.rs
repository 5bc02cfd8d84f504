//! A growing set of small numbers. Numbers beyond its end are not in the set.

/// The set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bits(Vec<u64>);

impl Bits {
    /// Whether `at` is in the set.
    #[must_use]
    pub fn has(&self, at: u32) -> bool {
        self.0.get(at as usize / 64).is_some_and(|word| word & (1 << (at % 64)) != 0)
    }

    /// Adds `at`. Returns true if it is new.
    pub fn insert(&mut self, at: u32) -> bool {
        let word = at as usize / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let mask = 1 << (at % 64);
        let new = self.0[word] & mask == 0;
        self.0[word] |= mask;
        new
    }

    /// Removes `at`. Returns true if it was in the set.
    pub fn remove(&mut self, at: u32) -> bool {
        let Some(word) = self.0.get_mut(at as usize / 64) else { return false };
        let mask = 1 << (at % 64);
        let had = *word & mask != 0;
        *word &= !mask;
        had
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Removes all numbers.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The smallest number in `from..end` that is not in the set.
    #[must_use]
    pub fn next_absent(&self, from: u32, end: u32) -> Option<u32> {
        let mut at = from;
        while at < end {
            let word = self.0.get(at as usize / 64).copied().unwrap_or(0);
            let left = !word >> (at % 64);
            if left != 0 {
                let found = at + left.trailing_zeros();
                return (found < end).then_some(found);
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Bits;

    proptest::proptest! {
        #[test]
        fn equals_a_btree_set(ops in proptest::collection::vec((0u32..300, proptest::bool::ANY), 0..200), from in 0u32..320, end in 0u32..320) {
            let (mut bits, mut set) = (Bits::default(), BTreeSet::new());
            for (at, add) in ops {
                if add {
                    assert_eq!(bits.insert(at), set.insert(at));
                } else {
                    assert_eq!(bits.remove(at), set.remove(&at));
                }
            }
            for at in 0..320 {
                assert_eq!(bits.has(at), set.contains(&at));
            }
            assert_eq!(bits.is_empty(), set.is_empty());
            assert_eq!(bits.next_absent(from, end), (from..end).find(|at| !set.contains(at)));
        }
    }
}
