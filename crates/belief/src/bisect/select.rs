//! Which commits to run next: the expected gain of information per cost, spread over the idle slots.
//!
//! The first run has the largest gain per cost. Runs next to it use slots that would be idle, so only
//! their gain counts.

use super::posterior::Posterior;

/// A commit to run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pick {
    pub(super) position: usize,
    /// The expected gain in bits.
    pub(super) gain: f64,
    /// The cost in seconds.
    pub(super) cost: f64,
}

/// What a run costs.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunCost {
    pub(super) run: f64,
    pub(super) build: f64,
}

/// The entropy of an event in bits.
fn entropy(probability: f64) -> f64 {
    let part = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
    part(probability) + part(1.0 - probability)
}

/// The expected gain of information from one run at each position, in bits: the entropy of its outcome, minus the mean entropy
/// of its outcome under each hypothesis.
pub(super) fn gains(posterior: &Posterior) -> Vec<f64> {
    // Sums over the culprits after a position: with those, the position has the old rate.
    let (mut old_mean, mut old_entropy) = (0.0, 0.0);
    for (probability, fit) in posterior.culprit.iter().zip(&posterior.fits) {
        old_mean += probability * fit.old;
        old_entropy += probability * entropy(fit.old);
    }
    let none = posterior.fit_none.new;
    let (mut new_mean, mut new_entropy) = (posterior.none * none, posterior.none * entropy(none));
    let gain = |(probability, fit): (&f64, &super::grid::Fit)| {
        old_mean -= probability * fit.old;
        old_entropy -= probability * entropy(fit.old);
        new_mean += probability * fit.new;
        new_entropy += probability * entropy(fit.new);
        let mean = (old_mean + new_mean).clamp(0.0, 1.0);
        (entropy(mean) - old_entropy - new_entropy).max(0.0)
    };
    posterior.culprit.iter().zip(&posterior.fits).map(gain).collect()
}

/// Picks a commit for each of the slots. `build` has, for each position, whether a run must build the kernel first, or `None` if
/// the position cannot be run. `running` are the positions of runs that have not ended.
pub(super) fn picks(
    posterior: &Posterior,
    build: &[Option<bool>],
    running: &[usize],
    slots: usize,
    cost: RunCost,
) -> Vec<Pick> {
    let gains = gains(posterior);
    let below: Vec<f64> = cumulated(&posterior.culprit);
    let parts = (slots + running.len() + 1) as f64;
    let spread = |at: usize, picked: &[usize]| {
        let distance = |other: &usize| (below[at] - below[*other]).abs();
        let nearest = picked.iter().map(distance).fold(f64::INFINITY, f64::min);
        if nearest.is_finite() { 0.6 + 0.4 * (parts * nearest).min(1.0) } else { 1.0 }
    };
    let mut scale = vec![1.0; gains.len()];
    let mut taken: Vec<usize> = Vec::with_capacity(slots + running.len());
    let mut found = Vec::with_capacity(slots);
    for at in running {
        taken.push(*at);
        scale.iter_mut().enumerate().for_each(|(at, scale)| *scale *= spread(at, &taken));
    }
    for _ in 0..slots {
        let first = taken.is_empty();
        let candidate = |(at, build): (usize, &Option<bool>)| {
            let must_build = (*build)? && !taken.contains(&at);
            let cost = cost.run + if must_build { cost.build } else { 0.0 };
            let score = gains[at] * scale[at] / if first { cost } else { 1.0 };
            Some((score, Pick { position: at, gain: gains[at], cost }))
        };
        let best = build
            .iter()
            .enumerate()
            .filter_map(candidate)
            .reduce(|best, next| if next.0 > best.0 { next } else { best });
        let Some((_, pick)) = best else { break };
        taken.push(pick.position);
        found.push(pick);
        scale.iter_mut().enumerate().for_each(|(at, scale)| *scale *= spread(at, &taken));
    }
    found
}

/// The share of the suspects' mass up to each position.
fn cumulated(culprit: &[f64]) -> Vec<f64> {
    let all: f64 = culprit.iter().sum();
    let mut sum = 0.0;
    let add = |probability: &f64| {
        sum += probability;
        if all > 0.0 { sum / all } else { 0.0 }
    };
    culprit.iter().map(add).collect()
}
