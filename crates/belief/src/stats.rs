//! Failure rates with intervals, and Fisher's exact test.
//!
//! The gamma and beta functions have a relative error below 1e-12 in the range used here (tests/stats.rs compares them with exact
//! sums). Comparisons with a limit have a tolerance, so that a value that is exactly the limit passes.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

/// The tolerance of comparisons with a limit: rounding errors are smaller, differences that matter are larger.
const TOLERANCE: f64 = 1e-9;

/// Whether a probability is at most the limit, whatever the rounding.
pub(crate) fn at_most(probability: f64, limit: f64) -> bool {
    probability <= limit * (1.0 + TOLERANCE)
}

/// The number with six significant digits, for records.
pub(crate) fn short(number: f64) -> f64 {
    format!("{number:.5e}").parse().unwrap_or(number)
}

/// Failures and passes of a test. Attempts without a verdict are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Failures with the signature in question.
    pub failures: u32,
    /// Passes.
    pub passes: u32,
}

impl Tally {
    /// A tally of this many failures and passes.
    #[must_use]
    pub fn new(failures: u32, passes: u32) -> Self {
        Self { failures, passes }
    }

    /// The number of attempts.
    #[must_use]
    pub fn attempts(self) -> u32 {
        self.failures.saturating_add(self.passes)
    }

    /// The failure rate.
    #[must_use]
    pub fn rate(self) -> FailureRate {
        FailureRate::new(self)
    }
}

impl Add for Tally {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let failures = self.failures.saturating_add(other.failures);
        Self { failures, passes: self.passes.saturating_add(other.passes) }
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), Add::add)
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// A failure rate with its Jeffreys interval: the 0.025 and 0.975 quantiles of Beta(k + 1/2, n - k + 1/2), except that the
/// interval begins at 0 if nothing failed, and ends at 1 if everything failed (Brown, Cai, DasGupta 2001).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FailureRate {
    /// The number of failures.
    pub failures: u32,
    /// The number of attempts.
    pub attempts: u32,
    /// The lower end of the 95 % interval, 0 to 1.
    pub low: f64,
    /// The upper end of the 95 % interval, 0 to 1.
    pub high: f64,
}

impl FailureRate {
    fn new(tally: Tally) -> Self {
        let (failures, attempts) = (tally.failures, tally.attempts());
        let (a, b) = (f64::from(failures) + 0.5, f64::from(tally.passes) + 0.5);
        let low = if failures == 0 { 0.0 } else { beta_quantile(0.025, a, b) };
        let high = if tally.passes == 0 { 1.0 } else { beta_quantile(0.975, a, b) };
        Self { failures, attempts, low, high }
    }

    /// The rate with an interval of six significant digits.
    pub(crate) fn short(self) -> Self {
        Self { low: short(self.low), high: short(self.high), ..self }
    }

    /// Failures per attempt; 0 without attempts.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.attempts == 0 { 0.0 } else { f64::from(self.failures) / f64::from(self.attempts) }
    }
}

/// `3 of 25`.
impl fmt::Display for FailureRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.failures, self.attempts)
    }
}

/// Fisher's exact test, one-sided: the probability of at least as many failures on the side of `more`, if both sides fail at
/// the same rate.
#[must_use]
pub fn fisher(more: Tally, fewer: Tally) -> f64 {
    let failures = more.failures.saturating_add(fewer.failures);
    let total = more.attempts().saturating_add(fewer.attempts());
    let most = failures.min(more.attempts());
    let all = ln_choose(total, failures);
    let term = |x: u32| {
        let rest = failures - x;
        if rest > fewer.attempts() {
            return 0.0;
        }
        (ln_choose(more.attempts(), x) + ln_choose(fewer.attempts(), rest) - all).exp()
    };
    // The smallest terms first.
    (more.failures..=most).rev().map(term).sum::<f64>().min(1.0)
}

fn ln_choose(n: u32, k: u32) -> f64 {
    let (n, k) = (f64::from(n), f64::from(k));
    ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(n - k + 1.0)
}

/// The logarithm of the gamma function, for `x` > 0: Stirling's series, after `x` was moved above 10 by the recurrence.
#[must_use]
pub fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut product) = (x, 1.0);
    while x < 10.0 {
        product *= x;
        x += 1.0;
    }
    let square = x * x;
    // 1/12x - 1/360x^3 + 1/1260x^5 - 1/1680x^7 + 1/1188x^9 - 691/360360x^11
    let series = (1.0 / 12.0
        - (1.0 / 360.0
            - (1.0 / 1260.0
                - (1.0 / 1680.0 - (1.0 / 1188.0 - 691.0 / 360_360.0 / square) / square) / square)
                / square)
            / square)
        / x;
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - product.ln()
}

/// The distribution function of Beta(a, b) at `x`, by the continued fraction of DLMF 8.17.22.
#[must_use]
pub fn beta_cdf(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    // The fraction converges fast below the mean.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta_cdf(1.0 - x, b, a);
    }
    let front = a * x.ln() + b * (-x).ln_1p() + ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b);
    front.exp() / a * beta_fraction(x, a, b)
}

/// 1/(1 + d1/(1 + d2/(1 + ...))), evaluated from the front (modified Lentz).
fn beta_fraction(x: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let nonzero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let coefficient = |step: u32| {
        let m = f64::from(step / 2);
        if step.is_multiple_of(2) {
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        } else {
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        }
    };
    let (mut denominator, mut c, mut d) = (1.0, 1.0, 0.0);
    for step in 1..10_000 {
        d = 1.0 / nonzero(1.0 + coefficient(step) * d);
        c = nonzero(1.0 + coefficient(step) / c);
        denominator *= c * d;
        if (c * d - 1.0).abs() < 1e-15 {
            break;
        }
    }
    1.0 / denominator
}

/// The quantile of Beta(a, b) at `p`, by bisection to the last bit.
#[must_use]
pub fn beta_quantile(p: f64, a: f64, b: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if beta_cdf(middle, a, b) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}
