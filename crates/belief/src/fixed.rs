//! Fixed: how many passes in a row prove that a failure is gone.
//!
//! With k failures in n attempts, and Jeffreys' prior of the rate, the probability that a bug that still exists passes m times is
//! the product over i = 0..m-1 of (n - k + 1/2 + i) / (n + 1 + i).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::stats::{Tally, at_most};

/// The largest number of attempts of an [`Evidence`], which bounds the time to compute the runs that are needed.
pub const MOST_ATTEMPTS: u32 = 1_000_000;

/// How often a test failed with a signature, where it failed: k failures in n attempts, with at least one failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Evidence {
    failures: u32,
    attempts: u32,
}

/// The text or the numbers are not a failure rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a failure rate; write FAILURES/ATTEMPTS, with at least one failure: 3/25")]
pub struct EvidenceError(String);

impl Evidence {
    /// One failure in one attempt.
    pub const ONE: Self = Self { failures: 1, attempts: 1 };

    /// Evidence of this many failures in this many attempts.
    pub fn new(failures: u32, attempts: u32) -> Result<Self, EvidenceError> {
        let valid = failures > 0 && failures <= attempts && attempts <= MOST_ATTEMPTS;
        valid
            .then_some(Self { failures, attempts })
            .ok_or_else(|| EvidenceError(format!("{failures}/{attempts}")))
    }

    /// Evidence from a tally of the attempts where the test failed.
    pub fn from_tally(tally: Tally) -> Result<Self, EvidenceError> {
        Self::new(tally.failures, tally.attempts())
    }

    /// The number of failures.
    #[must_use]
    pub fn failures(self) -> u32 {
        self.failures
    }

    /// The number of attempts.
    #[must_use]
    pub fn attempts(self) -> u32 {
        self.attempts
    }

    /// The probability that a bug with this evidence passes this many times in a row.
    #[must_use]
    pub fn believe(self, passes: u32) -> f64 {
        (0..passes).map(|i| self.factor(i)).product()
    }

    /// The number of passes in a row after which the failure is fixed with this confidence.
    #[must_use]
    pub fn runs_needed(self, confidence: Confidence) -> u32 {
        let (mut believe, mut passes) = (1.0, 0);
        while !at_most(believe, confidence.doubt()) && passes < u32::MAX {
            believe *= self.factor(passes);
            passes += 1;
        }
        passes
    }

    fn factor(self, i: u32) -> f64 {
        let (k, n, i) = (f64::from(self.failures), f64::from(self.attempts), f64::from(i));
        (n - k + 0.5 + i) / (n + 1.0 + i)
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.failures, self.attempts)
    }
}

impl FromStr for Evidence {
    type Err = EvidenceError;
    fn from_str(text: &str) -> Result<Self, EvidenceError> {
        let error = || EvidenceError(text.chars().take(100).collect());
        let (failures, attempts) = text.split_once('/').ok_or_else(error)?;
        let number = |part: &str| part.parse().map_err(|_| error());
        Self::new(number(failures)?, number(attempts)?).map_err(|_| error())
    }
}

impl TryFrom<String> for Evidence {
    type Error = EvidenceError;
    fn try_from(text: String) -> Result<Self, EvidenceError> {
        text.parse()
    }
}

impl From<Evidence> for String {
    fn from(evidence: Evidence) -> Self {
        evidence.to_string()
    }
}

/// A confidence in percent, 50 to 99.9.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Confidence(f64);

/// Not a confidence.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{0:?} is not a confidence; give a percentage from 50 to 99.9")]
pub struct ConfidenceError(String);

impl Confidence {
    /// 95 %.
    pub const USUAL: Self = Self(95.0);
    /// 99 %.
    pub const HIGH: Self = Self(99.0);

    fn doubt(self) -> f64 {
        1.0 - self.0 / 100.0
    }
}

impl TryFrom<f64> for Confidence {
    type Error = ConfidenceError;
    fn try_from(percent: f64) -> Result<Self, ConfidenceError> {
        (50.0..=99.9)
            .contains(&percent)
            .then_some(Self(percent))
            .ok_or_else(|| ConfidenceError(percent.to_string()))
    }
}

impl From<Confidence> for f64 {
    fn from(confidence: Confidence) -> Self {
        confidence.0
    }
}

impl FromStr for Confidence {
    type Err = ConfidenceError;
    /// The percent sign is optional.
    fn from_str(text: &str) -> Result<Self, ConfidenceError> {
        let error = || ConfidenceError(text.chars().take(100).collect());
        let percent: f64 = text.strip_suffix('%').unwrap_or(text).trim().parse().map_err(|_| error())?;
        Self::try_from(percent).map_err(|_| error())
    }
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0)
    }
}

/// A claim that a failure is fixed, and the runs that support it. A claim is never shown as a pass before it is believed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FixClaim {
    evidence: Evidence,
    confidence: Confidence,
    fails_after: Option<Duration>,
    passes: u32,
    early: u32,
    failed: bool,
}

/// What the runs of a claim prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FixState {
    /// More passes are needed.
    Unproven,
    /// The failure is fixed, with the confidence of the claim.
    Fixed,
    /// The test failed with the signature: the bug still exists.
    StillFails,
}

impl FixClaim {
    /// A claim without runs. `fails_after` is the shortest time after which the test failed, if known; a timeout gives no such time,
    /// because it is not when the test failed.
    #[must_use]
    pub fn new(evidence: Evidence, confidence: Confidence, fails_after: Option<Duration>) -> Self {
        Self { evidence, confidence, fails_after, passes: 0, early: 0, failed: false }
    }

    /// Adds a pass. Returns whether it counts: a pass that ended before the test used to fail does not.
    pub fn passed(&mut self, duration: Duration) -> bool {
        self.passed_not_before(duration, self.fails_after)
    }

    /// Adds a pass, which counts if it is not shorter than the limit.
    pub(crate) fn passed_not_before(&mut self, duration: Duration, limit: Option<Duration>) -> bool {
        let counts = limit.is_none_or(|limit| duration >= limit);
        let count = if counts { &mut self.passes } else { &mut self.early };
        *count = count.saturating_add(1);
        counts
    }

    /// Adds a failure with the signature of the claim. Failures with other signatures are no observation.
    pub fn failed(&mut self) {
        self.failed = true;
    }

    /// What the runs prove.
    #[must_use]
    pub fn state(&self) -> FixState {
        if self.failed {
            FixState::StillFails
        } else if self.missing() == 0 {
            FixState::Fixed
        } else {
            FixState::Unproven
        }
    }

    /// The number of passes that count.
    #[must_use]
    pub fn passes(&self) -> u32 {
        self.passes
    }

    /// The number of passes that do not count, because they ended before the test used to fail.
    #[must_use]
    pub fn early_passes(&self) -> u32 {
        self.early
    }

    /// The number of passes that the claim needs.
    #[must_use]
    pub fn needed(&self) -> u32 {
        self.evidence.runs_needed(self.confidence)
    }

    /// The number of passes that are missing.
    #[must_use]
    pub fn missing(&self) -> u32 {
        self.needed().saturating_sub(self.passes)
    }

    /// The evidence of the bug.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        self.evidence
    }

    /// The confidence that the claim asks for.
    #[must_use]
    pub fn confidence(&self) -> Confidence {
        self.confidence
    }
}

/// `fixed? 14 of 33 runs`.
impl fmt::Display for FixClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (passes, needed) = (self.passes, self.needed());
        match self.state() {
            FixState::Unproven => write!(f, "fixed? {passes} of {needed} runs"),
            FixState::Fixed => write!(f, "fixed, {passes} passes, {} confidence", self.confidence),
            FixState::StillFails => write!(f, "still fails, after {passes} passes"),
        }
    }
}
