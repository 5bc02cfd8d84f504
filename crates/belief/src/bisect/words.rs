//! A record in words.

use std::fmt;

use model::CommitId;

use super::record::{Limit, Record, State, Verification};

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
    /// The merge in which the search continues.
    #[must_use]
    pub fn merge(&self) -> Option<&CommitId> {
        match &self.outer.last()?.state {
            State::Culprit { culprit, .. } => Some(culprit),
            _ => None,
        }
    }

    /// The runs and the builds of all steps.
    #[must_use]
    pub fn all_runs(&self) -> (u32, u32) {
        let all = self.outer.iter().chain([self]);
        all.fold((0, 0), |(runs, builds): (u32, u32), record| {
            (runs.saturating_add(record.runs), builds.saturating_add(record.builds))
        })
    }

    /// What the bisection shows, in one line: `first bad commit 3f2a91c07d3e, in merge 9ab1c3d4e5f6, posterior 0.997, verified 23 of 23,
    /// revert fixes it`.
    #[must_use]
    pub fn summary(&self) -> String {
        let text = self.step_summary();
        match (&self.state, self.merge()) {
            (State::Culprit { .. }, _) | (_, None) => text,
            (_, Some(merge)) => format!("first bad commit is in merge {}: {text}", merge.short()),
        }
    }

    fn step_summary(&self) -> String {
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
                let merge = match self.merge() {
                    Some(merge) if merge == culprit => ", the merge itself".into(),
                    Some(merge) => format!(", in merge {}", merge.short()),
                    None => String::new(),
                };
                let revert = self.verification.and_then(|verification| verification.revert_in_words());
                let revert = revert.map(|words| format!(", {words}")).unwrap_or_default();
                let (culprit, verified) = (culprit.short(), verified.unwrap_or_default());
                format!("first bad commit {culprit}{merge}{posterior}{verified}{revert}")
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

impl Verification {
    /// What the runs of the revert show; `None` if there are none: `revert fixes it`, `fails 3 of 10 runs with the revert, too`.
    #[must_use]
    pub fn revert_in_words(&self) -> Option<String> {
        let revert = self.revert?;
        Some(match (self.revert_fixes, revert.failures) {
            (true, _) => "revert fixes it".into(),
            (false, 0) => return None,
            (false, fails) => format!("fails {fails} of {} runs with the revert, too", revert.attempts()),
        })
    }
}
