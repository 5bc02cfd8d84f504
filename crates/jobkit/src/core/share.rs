//! Decayed usage on a scale that needs no updating.
//!
//! All usage decays with one half-life, so the order of the groups does not change while nothing is used. Usage is
//! therefore kept as it would have to be at a fixed epoch's worth: what is used later counts for more, by
//! 2^((now - epoch) / half-life). The epoch moves on before the numbers grow out of range.

/// The scale.
#[derive(Debug, Clone)]
pub(super) struct Decay {
    half_life_ms: f64,
    epoch: u64,
}

/// The exponent at which the epoch is moved.
const EXPONENT_MAX: f64 = 100.0;

impl Decay {
    pub(super) fn new(half_life_ms: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a half-life needs no more than 52 bits")]
        Self { half_life_ms: half_life_ms.max(1) as f64, epoch: 0 }
    }

    #[expect(clippy::cast_precision_loss, reason = "ms since the start, far below 2^52")]
    fn exponent(&self, at: u64) -> f64 {
        (at as f64 - self.epoch as f64) / self.half_life_ms
    }

    /// What 1 ms used at `at` is worth.
    pub(super) fn worth(&self, at: u64) -> f64 {
        self.exponent(at).exp2()
    }

    /// Usage on the scale as ms at `now`.
    pub(super) fn as_of(&self, usage: f64, now: u64) -> f64 {
        usage / self.worth(now)
    }

    /// Whether the epoch is due to be moved; the factor to multiply every usage with if it was.
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
    fn usage_halves_and_the_epoch_moves_unseen() {
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
