//! The result of a run, and its exit code.

use std::path::PathBuf;
use std::time::Duration;

use belief::{FixClaim, FixState};
use kernel::Kernel;
use model::{Status, SubtestName, Verdict};

/// The result of a run.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// The verdicts, in the order in which the subtests ended.
    pub verdicts: Vec<(SubtestName, Verdict)>,
    /// The infrastructure error that ended the run.
    pub infrastructure: Option<String>,
    /// With `--dry-run`: the QEMU command.
    pub command: Option<String>,
    /// The exit status of `run-tests`, or of the command that ran instead, in the last VM.
    pub command_status: Option<u8>,
    /// The number of rounds started.
    pub rounds: u32,
    /// The number of requested subtests per round.
    pub asked: usize,
    /// With `--until-believed`: the claim that a failure is fixed, with the passes so far.
    pub claim: Option<FixClaim>,
    /// The kernel that ran, if there was one.
    pub kernel: Option<UsedKernel>,
    /// The output directory, absolute.
    pub out: PathBuf,
}

/// The kernel of a run.
#[derive(Debug, Clone)]
pub struct UsedKernel {
    /// The kernel.
    pub kernel: Kernel,
    /// The time to build it, or to find it in the store.
    pub took: Duration,
}

impl Summary {
    /// The number of verdicts with this status.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.verdicts.iter().filter(|(_, verdict)| verdict.status() == status).count()
    }

    /// The exit code of `ktest run`: 0 if all passed or did not run, 1 if a test failed, 125 if no verdict is possible or a
    /// claim is not proven.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let judged = self.count(Status::Passed) + self.count(Status::NotRun);
        if self.count(Status::Failed) > 0 {
            1
        } else if self.infrastructure.is_some() || self.is_unproven() {
            125
        } else if self.count(Status::FailedToRun) == 0 {
            0
        } else if judged > 0 {
            1
        } else {
            125
        }
    }
    /// Whether it has a claim that its passes do not prove.
    fn is_unproven(&self) -> bool {
        self.claim.as_ref().is_some_and(|claim| claim.state() == FixState::Unproven)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        let summary = |statuses: &[Status], infrastructure: bool| {
            let verdict = |status: &Status| match status {
                Status::Passed => Verdict::Passed,
                Status::Failed => Verdict::Failed { reason: String::new() },
                Status::NotRun => Verdict::NotRun { reason: String::new() },
                _ => Verdict::FailedToRun { reason: String::new() },
            };
            let verdicts = statuses.iter().map(|status| ("x".parse().unwrap(), verdict(status))).collect();
            let infrastructure = infrastructure.then(|| "host gone".to_string());
            Summary { verdicts, infrastructure, ..Summary::default() }.exit_code()
        };
        use Status::{Failed, FailedToRun, NotRun, Passed};
        assert_eq!(summary(&[Passed, NotRun], false), 0);
        assert_eq!(summary(&[NotRun], false), 0);
        assert_eq!(summary(&[Passed, Failed], false), 1);
        assert_eq!(summary(&[Failed], true), 1);
        assert_eq!(summary(&[Passed, FailedToRun], false), 1);
        assert_eq!(summary(&[FailedToRun], false), 125);
        assert_eq!(summary(&[Passed], true), 125);
        assert_eq!(summary(&[], true), 125);
    }
}
