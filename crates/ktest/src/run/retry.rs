//! Repeated attempts to run subtests, in VMs or on the host, until each has its verdict.
//!
//! The decision whether to retry is pure and made by [`RetryPolicy`]; only the loop in [`supervise`] acts on it. A VM
//! that crashes or hangs ends only its running subtest: the others run in the next attempt.

use model::{AccelChoice, Status, SubtestName};

use super::error::{CannotRun, RunError};
use super::results::Results;

/// The maximum number of consecutive attempts without a new verdict.
const ATTEMPTS: u32 = 3;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AttemptEnd {
    /// Nothing was executed: `--dry-run`.
    DryRun,
    /// It ended early; the remaining subtests can run in another attempt.
    Interrupted,
    /// It ended normally, and the remaining subtests were never started.
    NeverRan,
    /// The guest did not boot. `is_final`: another attempt would end in the same way.
    NotStarted { reason: String, is_final: bool },
    /// KVM cannot execute this guest.
    NoKvm(String),
    /// An infrastructure error.
    Infrastructure(String),
}

/// The state of the run after an attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    /// The number of subtests without a verdict.
    pub(super) remaining: usize,
    /// The number of verdicts of the last attempt.
    pub(super) new_verdicts: usize,
    /// A subtest has failed.
    pub(super) failed: bool,
    /// Whether the reader of the events has closed its end.
    pub(super) reader_gone: bool,
}

/// A change for the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Use TCG instead of KVM.
    Tcg,
    /// Show console output from before the console driver is initialized, which can explain a failed boot.
    EarlyConsole,
}

/// What to do after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// End the run.
    Done,
    /// Retry, and report the note.
    Again { note: Option<String>, change: Option<Change> },
    /// The remaining subtests cannot run.
    GiveUp { reason: String, with_log: bool },
    /// End the run with this infrastructure error.
    Infrastructure(String),
    /// End a boot without subtests: the guest did not boot.
    NoGuest(String),
}

/// When to try again.
#[derive(Debug, Clone)]
pub(super) struct RetryPolicy {
    /// The unit in messages: `VMs` or `attempts`.
    pub(super) unit: &'static str,
    /// Whether an infrastructure error can be transient.
    pub(super) retry_infrastructure: bool,
    pub(super) accel: AccelChoice,
    pub(super) failfast: bool,
    /// Whether a user is connected to the guest's console. A second guest would be unexpected.
    pub(super) interactive: bool,
    /// Whether the guest runs no subtests: a boot, or a command.
    pub(super) boot_only: bool,
    /// The number of consecutive attempts without a new verdict.
    pub(super) fruitless: u32,
}

impl RetryPolicy {
    /// Decides what follows an attempt.
    pub(super) fn next(&mut self, end: AttemptEnd, progress: Progress) -> Next {
        let again = |note, change| Next::Again { note: Some(note), change };
        if let (AttemptEnd::NoKvm(reason), AccelChoice::Auto) = (&end, self.accel) {
            return again(format!("{reason}; trying again under TCG"), Some(Change::Tcg));
        }
        let was_up = matches!(end, AttemptEnd::DryRun | AttemptEnd::Interrupted | AttemptEnd::NeverRan);
        let complete = progress.remaining == 0 && (was_up || !self.boot_only);
        let stop = progress.reader_gone || self.interactive || (self.failfast && progress.failed);
        if complete || stop || end == AttemptEnd::DryRun {
            return Next::Done;
        }
        self.fruitless = if progress.new_verdicts > 0 { 0 } else { self.fruitless + 1 };
        let exhausted = self.fruitless >= ATTEMPTS;
        match end {
            AttemptEnd::NeverRan => {
                let reason = "list-tests prints it, but run-tests never ran it".into();
                Next::GiveUp { reason, with_log: false }
            }
            AttemptEnd::Interrupted if exhausted => {
                let reason = format!("run-tests started no subtest in {ATTEMPTS} {}", self.unit);
                Next::GiveUp { reason, with_log: false }
            }
            AttemptEnd::NotStarted { reason, is_final } if is_final || exhausted => match self.boot_only {
                true => Next::NoGuest(reason),
                false => Next::GiveUp { reason, with_log: true },
            },
            AttemptEnd::NotStarted { reason, .. } => {
                again(format!("{reason}; trying again"), Some(Change::EarlyConsole))
            }
            AttemptEnd::Infrastructure(what) | AttemptEnd::NoKvm(what) => {
                if exhausted || !self.retry_infrastructure {
                    Next::Infrastructure(what)
                } else {
                    again(format!("{what}; trying again"), None)
                }
            }
            AttemptEnd::Interrupted | AttemptEnd::DryRun => Next::Again { note: None, change: None },
        }
    }
}

/// One way to execute subtests.
pub(super) trait Attempt {
    /// Executes the subtests once and records the verdicts that result.
    async fn execute(
        &mut self,
        subtests: &[SubtestName],
        results: &mut Results<'_>,
    ) -> Result<AttemptEnd, RunError>;

    /// Applies a change to the following attempts.
    fn change(&mut self, change: Change);

    /// The console log of the last attempt, for subtests that never started.
    fn console_log(&self) -> Vec<u8>;
}

/// Runs the subtests in as many attempts as the policy allows. Each subtest gets a verdict, unless
/// `summary.infrastructure` is set.
pub(super) async fn supervise(
    attempt: &mut impl Attempt,
    mut policy: RetryPolicy,
    mut remaining: Vec<SubtestName>,
    results: &mut Results<'_>,
) -> Result<(), RunError> {
    let begin = results.summary.verdicts.len();
    loop {
        let before = results.summary.verdicts.len();
        let end = attempt.execute(&remaining, results).await?;
        let done = &results.summary.verdicts[begin..];
        remaining.retain(|subtest| !done.iter().any(|(done, _)| done == subtest));
        let progress = Progress {
            remaining: remaining.len(),
            new_verdicts: results.summary.verdicts.len() - before,
            failed: results.summary.count(Status::Failed) > 0,
            reader_gone: results.reporter.broken(),
        };
        match policy.next(end, progress) {
            Next::Done => return Ok(()),
            Next::Again { note, change } => {
                if let Some(note) = note {
                    results.reporter.note(&note);
                }
                if let Some(change) = change {
                    attempt.change(change);
                }
            }
            Next::GiveUp { reason, with_log } => {
                let log = if with_log { attempt.console_log() } else { Vec::new() };
                return results.cannot_run(remaining, &CannotRun { reason, log });
            }
            Next::Infrastructure(what) => {
                results.infrastructure(what);
                return Ok(());
            }
            Next::NoGuest(reason) => {
                results.summary.infrastructure = Some(reason);
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vms() -> RetryPolicy {
        RetryPolicy {
            unit: "VMs",
            retry_infrastructure: true,
            accel: AccelChoice::Auto,
            failfast: false,
            interactive: false,
            boot_only: false,
            fruitless: 0,
        }
    }

    const STUCK: Progress = Progress { remaining: 2, new_verdicts: 0, failed: false, reader_gone: false };

    fn no_boot() -> AttemptEnd {
        AttemptEnd::NotStarted { reason: "panic".into(), is_final: false }
    }

    fn init_failed() -> AttemptEnd {
        AttemptEnd::NotStarted { reason: "init failed".into(), is_final: true }
    }

    fn infra() -> AttemptEnd {
        AttemptEnd::Infrastructure("no QEMU".into())
    }

    fn again(note: &str, change: Option<Change>) -> Next {
        Next::Again { note: Some(note.into()), change }
    }

    fn give_up(reason: &str, with_log: bool) -> Next {
        Next::GiveUp { reason: reason.into(), with_log }
    }

    /// One row per case: a policy, the progress, how the attempt ended, the number of previous attempts without a
    /// verdict, and the decision.
    #[test]
    fn the_table() {
        let host = || RetryPolicy {
            unit: "attempts",
            retry_infrastructure: false,
            accel: AccelChoice::Tcg,
            ..vms()
        };
        let boot = || RetryPolicy { boot_only: true, ..vms() };
        let kvm = || RetryPolicy { accel: AccelChoice::Kvm, ..vms() };
        let no_kvm = || AttemptEnd::NoKvm("KVM fails".into());
        let (complete, nothing) =
            (Progress { remaining: 0, ..STUCK }, Next::Again { note: None, change: None });
        let never = "list-tests prints it, but run-tests never ran it";
        let rows = [
            (vms(), STUCK, AttemptEnd::Interrupted, 0, nothing.clone()),
            (
                vms(),
                STUCK,
                AttemptEnd::Interrupted,
                2,
                give_up("run-tests started no subtest in 3 VMs", false),
            ),
            (
                host(),
                STUCK,
                AttemptEnd::Interrupted,
                2,
                give_up("run-tests started no subtest in 3 attempts", false),
            ),
            (vms(), Progress { new_verdicts: 1, ..STUCK }, AttemptEnd::Interrupted, 2, nothing),
            (vms(), STUCK, AttemptEnd::NeverRan, 0, give_up(never, false)),
            (vms(), complete, AttemptEnd::NeverRan, 0, Next::Done),
            (vms(), STUCK, AttemptEnd::DryRun, 0, Next::Done),
            (vms(), STUCK, no_boot(), 0, again("panic; trying again", Some(Change::EarlyConsole))),
            (vms(), STUCK, no_boot(), 2, give_up("panic", true)),
            (vms(), STUCK, init_failed(), 0, give_up("init failed", true)),
            (boot(), complete, init_failed(), 0, Next::NoGuest("init failed".into())),
            (boot(), complete, no_boot(), 0, again("panic; trying again", Some(Change::EarlyConsole))),
            (boot(), complete, AttemptEnd::NeverRan, 0, Next::Done),
            (vms(), STUCK, infra(), 0, again("no QEMU; trying again", None)),
            (vms(), STUCK, infra(), 2, Next::Infrastructure("no QEMU".into())),
            (host(), STUCK, infra(), 0, Next::Infrastructure("no QEMU".into())),
            (vms(), complete, infra(), 0, Next::Done),
            (vms(), STUCK, no_kvm(), 2, again("KVM fails; trying again under TCG", Some(Change::Tcg))),
            (kvm(), STUCK, no_kvm(), 0, again("KVM fails; trying again", None)),
            (kvm(), STUCK, no_kvm(), 2, Next::Infrastructure("KVM fails".into())),
            (RetryPolicy { interactive: true, ..vms() }, STUCK, AttemptEnd::Interrupted, 0, Next::Done),
            (
                RetryPolicy { failfast: true, ..vms() },
                Progress { failed: true, ..STUCK },
                AttemptEnd::Interrupted,
                0,
                Next::Done,
            ),
            (vms(), Progress { reader_gone: true, ..STUCK }, AttemptEnd::Interrupted, 0, Next::Done),
        ];
        for (policy, progress, end, fruitless, expected) in rows {
            let mut policy = RetryPolicy { fruitless, ..policy };
            let case = format!("{policy:?} {progress:?} {end:?}");
            assert_eq!(policy.next(end, progress), expected, "{case}");
        }
    }

    #[test]
    fn every_end_without_progress_stops_within_three_attempts() {
        for end in [AttemptEnd::Interrupted, AttemptEnd::NeverRan, no_boot(), init_failed(), infra()] {
            let mut policy = vms();
            let tries = (1..).find(|_| !matches!(policy.next(end.clone(), STUCK), Next::Again { .. }));
            assert!(tries.unwrap() <= ATTEMPTS, "{end:?}");
        }
    }
}
