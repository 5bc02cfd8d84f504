//! Decayed usage without periodic updates.
//!
//! All usage decays with the same half-life, so the order of the groups changes only when usage is added. Usage is
//! therefore stored relative to a fixed epoch: usage at a later time is multiplied by 2^((now - epoch) / half-life).
//! The epoch is moved before the numbers overflow.

/// The scale of stored usage.
#[derive(Debug, Clone)]
pub(super) struct Decay {
    half_life_ms: f64,
    epoch: u64,
}

/// The exponent at which the epoch is moved.
const EXPONENT_MAX: f64 = 100.0;

impl Decay {
    pub(super) fn new(half_life_ms: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a half-life fits in 52 bits")]
        Self { half_life_ms: half_life_ms.max(1) as f64, epoch: 0 }
    }

    #[expect(clippy::cast_precision_loss, reason = "ms since the start, far below 2^52")]
    fn exponent(&self, at: u64) -> f64 {
        (at as f64 - self.epoch as f64) / self.half_life_ms
    }

    /// The stored value of 1 ms of usage at `at`.
    pub(super) fn worth(&self, at: u64) -> f64 {
        self.exponent(at).exp2()
    }

    /// Stored usage in ms at `now`.
    pub(super) fn as_of(&self, usage: f64, now: u64) -> f64 {
        usage / self.worth(now)
    }

    /// Moves the epoch if necessary. Returns the factor by which to multiply every stored usage.
    pub(super) fn rebase(&mut self, now: u64) -> Option<f64> {
        let exponent = self.exponent(now);
        (exponent > EXPONENT_MAX).then(|| {
            self.epoch = now;
            (-exponent).exp2()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_halves_and_moving_the_epoch_does_not_change_it() {
        let mut decay = Decay::new(1000);
        let usage = 500.0 * decay.worth(0);
        assert!((decay.as_of(usage, 1000) - 250.0).abs() < 1e-9);
        assert!(decay.rebase(99_000).is_none());
        let late = 200_000;
        let usage = 500.0 * decay.worth(150_000);
        let before = decay.as_of(usage, late + 1000);
        let factor = decay.rebase(late).unwrap();
        let after = decay.as_of(usage * factor, late + 1000);
        assert!((before / after - 1.0).abs() < 1e-9);
        assert!(decay.rebase(u64::MAX).is_some());
        assert!(decay.worth(u64::MAX).is_finite());
    }
}
