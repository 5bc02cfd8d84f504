//! How often the answers are right: first bad commits that are verified again later, and the calibration of posteriors.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One of this many first bad commits is verified again.
const RECHECK: u64 = 100;

/// First bad commits that were named, and those that held when they were verified again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedCommits {
    /// The first bad commits that were named.
    pub named: u64,
    /// Those that were verified again and did not hold.
    pub refuted: u64,
}

impl NamedCommits {
    /// Counts a first bad commit. Returns whether it is to be verified again later: the first one and each hundredth after it.
    pub fn name(&mut self) -> bool {
        self.named = self.named.saturating_add(1);
        (self.named - 1).is_multiple_of(RECHECK)
    }

    /// Counts the result of a later verification.
    pub fn rechecked(&mut self, held: bool) {
        self.refuted = self.refuted.saturating_add(u64::from(!held)).min(self.named);
    }
}

/// `of 214 named, 211 held`.
impl fmt::Display for NamedCommits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "of {} named, {} held", self.named, self.named - self.refuted)
    }
}

/// Compares the posteriors of conclusions with the share of them that is right.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Calibration {
    conclusions: u32,
    right: u32,
    posteriors: f64,
}

impl Calibration {
    /// Adds a conclusion with its posterior.
    pub fn add(&mut self, posterior: f64, right: bool) {
        self.conclusions = self.conclusions.saturating_add(1);
        self.right = self.right.saturating_add(right.into());
        self.posteriors += posterior;
    }

    /// The number of conclusions.
    #[must_use]
    pub fn conclusions(&self) -> u32 {
        self.conclusions
    }

    /// The mean posterior; 0 without conclusions.
    #[must_use]
    pub fn posterior(&self) -> f64 {
        self.posteriors / f64::from(self.conclusions.max(1))
    }

    /// The share of the conclusions that is right; 0 without conclusions.
    #[must_use]
    pub fn right(&self) -> f64 {
        f64::from(self.right) / f64::from(self.conclusions.max(1))
    }
}
