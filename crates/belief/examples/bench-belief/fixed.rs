//! Claims that a simulated bug is fixed.

use std::error::Error;
use std::time::Duration;

use belief::{Confidence, Evidence, FixClaim, FixState};

use crate::Figure;
use crate::random::Random;

const BUGS: u32 = 1000;
/// The lowest and the highest failure rate. Rates are spread evenly over the logarithm.
const RATES: (f64, f64) = (0.02, 0.9);
/// The attempts of the evidence; more batches of this size follow until one attempt failed.
const ATTEMPTS: u32 = 25;
/// The share of the passes of a fixed bug that end before the test used to fail.
const EARLY: f64 = 0.05;

fn rate(random: &mut Random) -> f64 {
    (RATES.0.ln() + random.unit() * (RATES.1 / RATES.0).ln()).exp()
}

fn evidence(random: &mut Random, rate: f64) -> Result<Evidence, Box<dyn Error>> {
    let (mut failures, mut attempts) = (0, 0);
    while failures == 0 {
        failures += (0..ATTEMPTS).map(|_| u32::from(random.chance(rate))).sum::<u32>();
        attempts += ATTEMPTS;
    }
    Ok(Evidence::new(failures, attempts)?)
}

pub(crate) fn figures(seed: u64) -> Result<Vec<Figure>, Box<dyn Error>> {
    let mut random = Random::new(seed.wrapping_add(1));
    let usual = Duration::from_secs(10);
    let (mut false_fixed, mut false_after_one) = (0, 0);
    let (mut runs, mut table) = (0, 0);
    for _ in 0..BUGS {
        let rate = rate(&mut random);
        let evidence = evidence(&mut random, rate)?;
        for (evidence, count) in [(evidence, &mut false_fixed), (Evidence::ONE, &mut false_after_one)] {
            let mut claim = FixClaim::new(evidence, Confidence::USUAL, Some(usual));
            while claim.state() == FixState::Unproven {
                if random.chance(rate) {
                    claim.failed();
                } else {
                    claim.passed(usual);
                }
            }
            *count += u32::from(claim.state() == FixState::Fixed);
        }
        let mut claim = FixClaim::new(evidence, Confidence::USUAL, Some(usual));
        table += claim.needed();
        while claim.state() == FixState::Unproven {
            claim.passed(if random.chance(EARLY) { usual / 10 } else { usual });
            runs += 1;
        }
    }
    let percent = |count: u32| 100.0 * f64::from(count) / f64::from(BUGS);
    Ok(vec![
        ("believe_false_fixed_percent".into(), percent(false_fixed), "%"),
        ("believe_false_fixed_after_one_failure_percent".into(), percent(false_after_one), "%"),
        ("believe_runs_ratio".into(), f64::from(runs) / f64::from(table), "x"),
    ])
}
