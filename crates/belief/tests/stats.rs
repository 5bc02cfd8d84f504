//! Intervals, Fisher's test and the runs to believe, against exact sums and the check values of the definition.

use belief::stats::{beta_cdf, beta_quantile, fisher, ln_gamma};
use belief::{ByLoad, Confidence, Evidence, FixClaim, FixState, Tally};
use proptest::prelude::*;
use std::time::Duration;

/// Runs to believe at 95 % and 99 %, for k failures in n attempts.
const RUNS: [(u32, u32, u32, u32); 9] = [
    (1, 1, 5, 14),
    (3, 3, 2, 4),
    (1, 2, 11, 36),
    (1, 3, 18, 57),
    (3, 5, 5, 10),
    (3, 10, 12, 24),
    (1, 25, 158, 509),
    (3, 25, 33, 65),
    (10, 25, 7, 11),
];

#[test]
fn runs_to_believe() {
    for (failures, attempts, usual, high) in RUNS {
        let evidence = Evidence::new(failures, attempts).unwrap();
        assert_eq!(evidence.runs_needed(Confidence::USUAL), usual, "{evidence} at 95 %");
        assert_eq!(evidence.runs_needed(Confidence::HIGH), high, "{evidence} at 99 %");
    }
}

/// The binomial coefficient, exactly.
fn choose(n: u32, k: u32) -> u128 {
    if k > n {
        return 0;
    }
    (0..k).fold(1, |product, i| product * u128::from(n - i) / u128::from(i + 1))
}

fn near(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-10 * one.abs().max(other.abs()) + 1e-14
}

#[test]
fn gamma_of_integers_and_halves() {
    let mut factorial = 0.0_f64;
    // Γ(1/2) = √π
    let mut half = std::f64::consts::PI.sqrt().ln();
    for n in 1..300 {
        let x = f64::from(n);
        assert!(near(ln_gamma(x), factorial), "{x}");
        assert!(near(ln_gamma(x - 0.5), half), "{x} - 1/2");
        factorial += x.ln();
        half += (x - 0.5).ln();
    }
}

#[test]
fn intervals_begin_at_zero_and_end_at_one() {
    let none = Tally::new(0, 20).rate();
    let all = Tally::new(20, 0).rate();
    assert!(none.low == 0.0 && (none.high - 0.1167).abs() < 1e-3, "{none:?}");
    assert!(all.high == 1.0 && (all.low - 0.8833).abs() < 1e-3, "{all:?}");
    // The example of Brown, Cai and DasGupta for 5 of 20: 0.102 to 0.464.
    let rate = Tally::new(5, 15).rate();
    assert!((rate.low - 0.102).abs() < 1e-3 && (rate.high - 0.464).abs() < 1e-3, "{rate:?}");
    assert_eq!(rate.to_string(), "5 of 20");
    assert!(Tally::default().rate().mean() == 0.0);
}

#[test]
fn a_failure_only_under_load() {
    let tally = |failures, passes| Tally::new(failures, passes);
    let fails_only_under_load = |loaded, alone| ByLoad { loaded, alone }.fails_only_under_load();
    // p is exactly 1/20.
    assert!(fails_only_under_load(tally(3, 0), tally(0, 3)));
    assert!(!fails_only_under_load(tally(3, 0), tally(0, 2)), "p is 1/10");
    assert!(!fails_only_under_load(tally(2, 0), tally(0, 100)), "two failures are too few");
    assert!(!fails_only_under_load(tally(50, 0), tally(1, 100)), "it fails alone, too");
    assert!(!fails_only_under_load(tally(3, 97), tally(0, 3)));
}

#[test]
fn early_passes_do_not_count() {
    let evidence = Evidence::new(3, 3).unwrap();
    let mut claim = FixClaim::new(evidence, Confidence::USUAL, Some(Duration::from_secs(60)));
    for _ in 0..10 {
        assert!(!claim.passed(Duration::from_secs(59)));
    }
    assert_eq!((claim.state(), claim.early_passes()), (FixState::Unproven, 10));
    assert_eq!(claim.to_string(), "fixed? 0 of 2 runs");
    assert!(claim.passed(Duration::from_secs(60)));
    assert_eq!((claim.state(), claim.missing()), (FixState::Unproven, 1));
    assert!(claim.passed(Duration::from_secs(60)));
    assert_eq!(claim.to_string(), "fixed, 2 passes, 95 % confidence");
    claim.failed();
    assert_eq!(claim.to_string(), "still fails, after 2 passes");
}

#[test]
fn rates_and_confidences_as_text() {
    assert_eq!("3/25".parse(), Evidence::new(3, 25));
    for bad in ["", "3", "0/25", "26/25", "3/25/1", "-1/2", "1/0", "1/1000001", "x/y"] {
        let error = bad.parse::<Evidence>().unwrap_err().to_string();
        assert!(error.contains(&format!("{bad:?}")), "{error}");
    }
    assert_eq!("95".parse(), Ok(Confidence::USUAL));
    assert_eq!("99 %".parse(), Ok(Confidence::HIGH));
    for bad in ["", "49", "100", "NaN", "inf", "x"] {
        assert!(bad.parse::<Confidence>().is_err(), "{bad}");
    }
}

proptest! {
    /// For integers, I_x(a, b) is a binomial tail.
    #[test]
    fn beta_is_a_binomial_tail(a in 1_u32..30, b in 1_u32..30, x in 0.001_f64..0.999) {
        let n = a + b - 1;
        let term = |k: u32| choose(n, k) as f64 * x.powf(f64::from(k)) * (1.0 - x).powf(f64::from(n - k));
        let exact: f64 = (a..=n).rev().map(term).sum();
        let value = beta_cdf(x, f64::from(a), f64::from(b));
        prop_assert!((value - exact).abs() < 1e-11, "{value} {exact}");
    }

    #[test]
    fn quantiles_invert_the_distribution(k in 0_u32..200, m in 0_u32..200, p in 0.001_f64..0.999) {
        let (a, b) = (f64::from(k) + 0.5, f64::from(m) + 0.5);
        prop_assert!((beta_cdf(beta_quantile(p, a, b), a, b) - p).abs() < 1e-9);
    }

    /// Fisher's p as a quotient of integers.
    #[test]
    fn fisher_is_the_hypergeometric_tail(a in 0_u32..25, b in 0_u32..25, c in 0_u32..25, d in 0_u32..25) {
        let (n, failures) = (a + b + c + d, a + c);
        let term = |x: u32| choose(a + b, x) * choose(c + d, failures - x);
        let tail: u128 = (a..=failures.min(a + b)).map(term).sum();
        let exact = tail as f64 / choose(n, failures) as f64;
        let value = fisher(Tally::new(a, b), Tally::new(c, d));
        prop_assert!(near(value, exact), "{value} {exact}");
    }

    /// believe(m) as a quotient of two products of odd and even numbers: (n-k+1/2+i)/(n+1+i) = (2(n-k+i)+1)/(2(n+1+i)).
    #[test]
    fn believe_is_the_quotient_of_products(k in 1_u32..12, more in 0_u32..12, m in 0_u32..12) {
        let n = k + more;
        let product = |factor: &dyn Fn(u32) -> u32| (0..m).map(|i| f64::from(factor(i))).product::<f64>();
        let exact = product(&|i| 2 * (n - k + i) + 1) / product(&|i| 2 * (n + 1 + i));
        prop_assert!(near(Evidence::new(k, n).unwrap().believe(m), exact));
    }

    /// One pass fewer is not enough.
    #[test]
    fn the_runs_needed_are_the_fewest(k in 1_u32..30, more in 0_u32..30, percent in 50.0_f64..99.9) {
        let evidence = Evidence::new(k, k + more).unwrap();
        let needed = evidence.runs_needed(Confidence::try_from(percent).unwrap());
        let limit = 1.0 - percent / 100.0;
        prop_assert!(evidence.believe(needed) <= limit * (1.0 + 1e-8));
        prop_assert!(needed > 0 && evidence.believe(needed - 1) > limit);
    }
}
