//! The verification of a result: the culprit and its parent run m times each, in turns.

use super::record::{Arm, Verification};
use crate::stats::{Tally, at_most, fisher, short};

/// Fisher's p that confirms a result.
const CONFIRMED: f64 = 0.01;
/// The fewest and the most runs of each commit.
const RUNS: (f64, f64) = (5.0, 60.0);

/// The runs of each commit for a failure rate: enough that a bug with this rate passes all of them in one case of 1,000.
#[must_use]
pub fn verification_runs(rate: f64) -> u32 {
    let runs = 0.001_f64.ln() / (-rate).ln_1p();
    // A rate of 0 gives an infinite number, a rate of 1 gives 0.
    runs.ceil().clamp(RUNS.0, RUNS.1) as u32
}

/// The positions that are compared, and their runs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verifying {
    /// The positions that may be the culprit.
    pub(super) class: std::ops::RangeInclusive<usize>,
    /// The oldest position of the class that can be run.
    pub(super) culprit: usize,
    /// The newest older position that can be run.
    pub(super) parent: usize,
    /// The runs of each that are planned.
    pub(super) runs_each: u32,
    /// Runs without a verdict are repeated, up to this many.
    pub(super) wasted: u32,
    pub(super) tallies: [Tally; 3],
    /// What of them is already evidence of the search.
    pub(super) counted: [Tally; 3],
    /// Whether the tip without the commit is run, too.
    pub(super) with_revert: bool,
}

impl Verifying {
    pub(super) fn arms(&self) -> &'static [Arm] {
        if self.with_revert {
            &[Arm::Culprit, Arm::Parent, Arm::Revert]
        } else {
            &[Arm::Culprit, Arm::Parent]
        }
    }

    /// The number of runs of an arm that are missing.
    pub(super) fn missing(&self, arm: Arm) -> u32 {
        self.runs_each.saturating_sub(self.tallies[arm as usize].attempts())
    }

    pub(super) fn is_complete(&self) -> bool {
        self.arms().iter().all(|arm| self.missing(*arm) == 0)
    }

    pub(super) fn result(&self) -> Verification {
        let [culprit, parent, revert] = self.tallies;
        let p = fisher(culprit, parent);
        let revert_fixes =
            self.with_revert && revert.failures == 0 && revert.passes >= self.runs_each && self.runs_each > 0;
        Verification {
            runs_each: self.runs_each,
            culprit,
            parent,
            p: short(p),
            confirmed: culprit.failures > 0 && at_most(p, CONFIRMED),
            revert: self.with_revert.then_some(revert),
            revert_fixes,
        }
    }
}
