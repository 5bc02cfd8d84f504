//! The grid of failure rates, and the prior of pairs of rates before and after the culprit.

use std::f64::consts::FRAC_PI_2;
use std::sync::LazyLock;

use crate::stats::Tally;

/// The number of rates.
pub(super) const SIZE: usize = 24;

/// The rates.
pub(super) const RATES: [f64; SIZE] = [
    0.0005, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.27, 0.35, 0.45, 0.55, 0.65, 0.75,
    0.85, 0.92, 0.96, 0.98, 0.99, 0.995, 0.9995,
];

/// The share of the prior of the rate before the culprit that is on the two smallest rates.
const MOSTLY_NEVER: f64 = 0.6;

/// One row per rate before the culprit: the weights of the rates after it.
pub(super) type Pairs = [[f64; SIZE]; SIZE];

pub(super) struct Grid {
    /// Logarithms of the rates and of their complements.
    ln_fail: [f64; SIZE],
    ln_pass: [f64; SIZE],
    /// The prior of one rate.
    single: [f64; SIZE],
    /// The prior of pairs (old, new); the sum is 1.
    pairs: Pairs,
}

pub(super) static GRID: LazyLock<Grid> = LazyLock::new(Grid::new);

/// What the attempts before and after a commit imply, if it is the culprit; or all attempts, if there is none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fit {
    /// The logarithm of the likelihood.
    pub(super) ln_likelihood: f64,
    /// The posterior mean of the rate before the culprit.
    pub(super) old: f64,
    /// The posterior mean of the rate from the culprit on.
    pub(super) new: f64,
}

impl Grid {
    fn new() -> Self {
        let single = widths();
        let old =
            |at: usize| (1.0 - MOSTLY_NEVER) * single[at] + if at < 2 { MOSTLY_NEVER / 2.0 } else { 0.0 };
        // With a tolerance: 1.5 times 0.1 is above 0.15 after rounding.
        let allowed = |old: f64, new: f64| new - old > 0.02 - 1e-9 && new > 1.5 * old - 1e-9;
        let weight =
            |at: usize, to: usize| if allowed(RATES[at], RATES[to]) { old(at) * single[to] } else { 0.0 };
        let mut pairs: Pairs = std::array::from_fn(|at| std::array::from_fn(|to| weight(at, to)));
        let total: f64 = pairs.iter().flatten().sum();
        pairs.iter_mut().flatten().for_each(|weight| *weight /= total);
        Self { ln_fail: RATES.map(f64::ln), ln_pass: RATES.map(|rate| (-rate).ln_1p()), single, pairs }
    }

    /// The logarithm of rate^F (1-rate)^P for each rate, minus the largest, and the largest.
    fn likelihoods(&self, tally: Tally) -> ([f64; SIZE], f64) {
        let (failures, passes) = (f64::from(tally.failures), f64::from(tally.passes));
        let logs: [f64; SIZE] =
            std::array::from_fn(|at| failures * self.ln_fail[at] + passes * self.ln_pass[at]);
        let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (logs.map(|log| log - most), most)
    }

    /// The fit of one rate to all attempts.
    pub(super) fn fit_one(&self, tally: Tally) -> Fit {
        let (logs, most) = self.likelihoods(tally);
        let weights: [f64; SIZE] = std::array::from_fn(|at| self.single[at] * logs[at].exp());
        let sum: f64 = weights.iter().sum();
        let mean = weights.iter().zip(RATES).map(|(weight, rate)| weight * rate).sum::<f64>() / sum;
        Fit { ln_likelihood: sum.ln() + most, old: mean, new: mean }
    }

    /// The fit of two rates to the attempts before the culprit and from it on.
    pub(super) fn fit_two(&self, before: Tally, after: Tally) -> Fit {
        let (old_logs, old_most) = self.likelihoods(before);
        let (new_logs, new_most) = self.likelihoods(after);
        let (old, new) = (old_logs.map(f64::exp), new_logs.map(f64::exp));
        let (mut sum, mut old_sum, mut new_sum) = (0.0, 0.0, 0.0);
        for (at, row) in self.pairs.iter().enumerate() {
            let (mut row_sum, mut row_new) = (0.0, 0.0);
            for (to, weight) in row.iter().enumerate() {
                let value = weight * new[to];
                row_sum += value;
                row_new += value * RATES[to];
            }
            sum += old[at] * row_sum;
            old_sum += old[at] * row_sum * RATES[at];
            new_sum += old[at] * row_new;
        }
        if sum < 1e-200 {
            return self.fit_unlikely(&old_logs, &new_logs, old_most + new_most);
        }
        Fit { ln_likelihood: sum.ln() + old_most + new_most, old: old_sum / sum, new: new_sum / sum }
    }

    /// Like [`Self::fit_two`], if the likely rates are pairs that the prior excludes: the maximum of the allowed pairs is subtracted.
    #[cold]
    fn fit_unlikely(&self, old: &[f64; SIZE], new: &[f64; SIZE], most: f64) -> Fit {
        let pairs = || (0..SIZE * SIZE).map(|pair| (pair / SIZE, pair % SIZE));
        let log = |(at, to): (usize, usize)| self.pairs[at][to].ln() + old[at] + new[to];
        let largest = pairs().map(log).fold(f64::NEG_INFINITY, f64::max);
        let (mut sum, mut old_sum, mut new_sum) = (0.0, 0.0, 0.0);
        for (at, to) in pairs() {
            let weight = (log((at, to)) - largest).exp();
            sum += weight;
            old_sum += weight * RATES[at];
            new_sum += weight * RATES[to];
        }
        Fit { ln_likelihood: sum.ln() + largest + most, old: old_sum / sum, new: new_sum / sum }
    }
}

/// The width of each rate's cell in arcsin(sqrt(rate)), as a share of all. Cells end in the middle between neighbors.
fn widths() -> [f64; SIZE] {
    let angle = |at: usize| RATES[at].sqrt().asin();
    let edge = |at: usize| match at {
        0 => 0.0,
        SIZE => FRAC_PI_2,
        at => f64::midpoint(angle(at - 1), angle(at)),
    };
    std::array::from_fn(|at| (edge(at + 1) - edge(at)) / FRAC_PI_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_priors_sum_to_one() {
        assert!((GRID.single.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((GRID.pairs.iter().flatten().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(GRID.pairs[8][9] > 0.0, "0.15 is 1.5 times 0.1");
        assert!(GRID.pairs[9][10].abs() < f64::EPSILON, "0.2 is less than 1.5 times 0.15");
        assert!(GRID.pairs[0][3].abs() < f64::EPSILON, "0.01 is less than 0.02 above 0.0005");
    }

    /// The sum of the specification, without logarithms.
    fn naive(before: Tally, after: Tally) -> (f64, f64, f64) {
        let power = |rate: f64, tally: Tally| {
            (0..tally.failures).map(|_| rate).product::<f64>()
                * (0..tally.passes).map(|_| 1.0 - rate).product::<f64>()
        };
        let (mut sum, mut old, mut new) = (0.0, 0.0, 0.0);
        for (old_rate, row) in RATES.into_iter().zip(&GRID.pairs) {
            for (new_rate, weight) in RATES.into_iter().zip(row) {
                let weight = weight * power(old_rate, before) * power(new_rate, after);
                sum += weight;
                old += weight * old_rate;
                new += weight * new_rate;
            }
        }
        (sum.ln(), old / sum, new / sum)
    }

    fn near(one: f64, other: f64) -> bool {
        (one - other).abs() <= 1e-9 * (1.0 + one.abs())
    }

    proptest::proptest! {
        #[test]
        fn the_fit_is_the_sum_of_the_specification(counts: [u8; 4]) {
            let [a, b, c, d] = counts.map(|count| u32::from(count % 40));
            let (before, after) = (Tally::new(a, b), Tally::new(c, d));
            let fit = GRID.fit_two(before, after);
            let (log, old, new) = naive(before, after);
            proptest::prop_assert!(near(fit.ln_likelihood, log) && near(fit.old, old) && near(fit.new, new));
            let (old, new) = (old_logs(before), old_logs(after));
            let slow = GRID.fit_unlikely(&old.0, &new.0, old.1 + new.1);
            proptest::prop_assert!(near(slow.ln_likelihood, fit.ln_likelihood) && near(slow.new, fit.new));
        }

        #[test]
        fn any_tally_has_a_finite_fit(counts: [u16; 4]) {
            let [a, b, c, d] = counts.map(u32::from);
            let fit = GRID.fit_two(Tally::new(a, b), Tally::new(c, d));
            proptest::prop_assert!(fit.ln_likelihood.is_finite() && fit.old < fit.new);
            proptest::prop_assert!(GRID.fit_one(Tally::new(a, b)).ln_likelihood.is_finite());
        }
    }

    fn old_logs(tally: Tally) -> ([f64; SIZE], f64) {
        GRID.likelihoods(tally)
    }
}
