//! The posterior of each suspect, and of "no culprit".

use super::grid::{Fit, GRID};
use crate::stats::Tally;

/// The positions of a history: 0 is the base, `1..` are the suspects from oldest to newest. If the suspect at position b is the
/// culprit, the positions before b have the old rate and those from b on the new one.
#[derive(Debug, Clone)]
pub(super) struct History {
    /// The attempts at each position.
    pub(super) tallies: Vec<Tally>,
    /// The relative prior of each position; 0 for the base and for suspects that cannot be the culprit.
    pub(super) prior: Vec<f64>,
    /// The prior of "no culprit".
    pub(super) no_culprit: f64,
}

/// What the attempts imply for each position.
#[derive(Debug, Clone)]
pub(super) struct Posterior {
    /// The probability that the suspect at the position is the culprit. The sum with `none` is 1.
    pub(super) culprit: Vec<f64>,
    /// The fit if the suspect at the position is the culprit.
    pub(super) fits: Vec<Fit>,
    /// The probability that there is no culprit.
    pub(super) none: f64,
    /// The fit if there is no culprit.
    pub(super) fit_none: Fit,
}

impl Posterior {
    /// Between two positions with attempts all fits are equal, so they are computed once.
    pub(super) fn new(history: &History) -> Self {
        let total = history.tallies.iter().copied().sum::<Tally>();
        let mut before = Tally::default();
        let mut fits: Vec<Fit> = Vec::with_capacity(history.tallies.len());
        let mut last = Tally::default();
        for tally in &history.tallies {
            let fit = match fits.last() {
                Some(fit) if last == Tally::default() => *fit,
                _ => {
                    let after = Tally::new(total.failures - before.failures, total.passes - before.passes);
                    GRID.fit_two(before, after)
                }
            };
            fits.push(fit);
            before += *tally;
            last = *tally;
        }
        let fit_none = GRID.fit_one(total);
        let mut posterior = Self { culprit: Vec::new(), fits, none: 0.0, fit_none };
        posterior.weigh(&history.prior, history.no_culprit);
        posterior
    }

    /// The same fits with another prior.
    pub(super) fn weigh(&mut self, prior: &[f64], no_culprit: f64) {
        let all: f64 = prior.iter().sum();
        // Without a possible culprit, "no culprit" is certain.
        let share = if all > 0.0 { (1.0 - no_culprit) / all } else { 0.0 };
        let possible = self.fits.iter().zip(prior).filter(|(_, prior)| **prior > 0.0);
        let most = possible.map(|(fit, _)| fit.ln_likelihood).fold(self.fit_none.ln_likelihood, f64::max);
        let weight = |fit: &Fit| (fit.ln_likelihood - most).exp();
        let culprit = self
            .fits
            .iter()
            .zip(prior)
            .map(|(fit, prior)| if *prior > 0.0 { prior * share * weight(fit) } else { 0.0 });
        self.culprit = culprit.collect();
        self.none = no_culprit * weight(&self.fit_none);
        let sum = self.culprit.iter().sum::<f64>() + self.none;
        self.culprit.iter_mut().for_each(|probability| *probability /= sum);
        self.none /= sum;
    }

    /// The mean rate from the culprit on.
    pub(super) fn new_rate(&self, range: std::ops::RangeInclusive<usize>) -> f64 {
        let (mut sum, mut weights) = (0.0, 0.0);
        for at in range {
            sum += self.culprit[at] * self.fits[at].new;
            weights += self.culprit[at];
        }
        if weights > 0.0 { sum / weights } else { self.fit_none.new }
    }

    /// The smallest contiguous range of positions with this mass; `None` if all suspects together have less.
    pub(super) fn range(&self, mass: f64) -> Option<std::ops::RangeInclusive<usize>> {
        let mut best: Option<(usize, usize)> = None;
        let (mut first, mut sum) = (0, 0.0);
        for (last, probability) in self.culprit.iter().enumerate() {
            sum += probability;
            while first < last && sum - self.culprit[first] >= mass {
                sum -= self.culprit[first];
                first += 1;
            }
            if sum >= mass && best.is_none_or(|(from, to)| last - first < to - from) {
                best = Some((first, last));
            }
        }
        best.map(|(first, last)| first..=last)
    }
}
