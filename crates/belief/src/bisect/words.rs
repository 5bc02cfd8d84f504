//! A record in words.

use std::fmt;

use super::record::{Limit, Record, State};

impl fmt::Display for Limit {
    /// `because the budget of runs is used up`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Runs => "because the budget of runs is used up",
            Self::Builds => "because the budget of builds is used up",
            Self::WallTime => "because the time is over",
            Self::DoesNotBuild => "because the others cannot be run",
            Self::NothingToRun => "because no commit can be run",
            Self::Verification => "because the verification did not confirm it",
        })
    }
}

impl State {
    /// The state in one word or two.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Culprit { .. } => "found",
            Self::Range { .. } => "range",
            Self::NotConfirmed { .. } => "not confirmed",
            Self::Unresolved { .. } => "unresolved",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Record {
    /// What the bisection shows, in one line: `first bad commit 3f2a91c07d3e, posterior 0.997, verified 23 of 23`.
    #[must_use]
    pub fn summary(&self) -> String {
        match &self.state {
            State::Running => self.progress(),
            State::Culprit { culprit, .. } => {
                let found = self.posterior.iter().find(|suspicion| suspicion.commit == *culprit);
                let posterior =
                    found.map(|found| format!(", posterior {:.3}", found.probability)).unwrap_or_default();
                let verified = self.verification.map(|verification| {
                    let culprit = verification.culprit;
                    format!(", verified {} of {}", culprit.failures, culprit.attempts())
                });
                format!("first bad commit {}{posterior}{}", culprit.short(), verified.unwrap_or_default())
            }
            State::Range { range, because } => format!(
                "the first bad commit is one of {}, {} to {}, {because}",
                range.commits,
                range.oldest.short(),
                range.newest.short()
            ),
            State::NotConfirmed { rate } => {
                format!(
                    "no first bad commit: fails {:.0} % of the time since before the base",
                    rate.mean() * 100.0
                )
            }
            State::Unresolved { because } => format!("no answer, {because}"),
            State::Cancelled => "cancelled".into(),
        }
    }

    fn progress(&self) -> String {
        let verifying = self.verification.filter(|verification| !verification.confirmed);
        match (self.posterior.first(), verifying) {
            (Some(suspect), Some(verifying)) => format!(
                "verifying {}: fails {} of {} runs, its parent {} of {}",
                suspect.commit.short(),
                verifying.culprit.failures,
                verifying.culprit.attempts(),
                verifying.parent.failures,
                verifying.parent.attempts()
            ),
            (Some(suspect), None) => {
                format!("most probable: {} with {:.1} %", suspect.commit.short(), suspect.probability * 100.0)
            }
            (None, _) => "begins".into(),
        }
    }
}
