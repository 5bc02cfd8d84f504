//! The subtest that runs: its log, its kernel trouble, and its verdict.

use std::time::Duration;

use model::SubtestName;
use model::marker::StatusLine;
use model::verdict::Verdict;

use super::action::{Action, FinishedSubtest};
use super::ktap::KtapRequest;
use crate::console::CappedLog;

/// The size limit of a subtest's log, in bytes. If the log exceeds it, half is kept from its start and half from its
/// end.
const LOG_BYTES: usize = 16 << 20;
/// The number of console lines, starting with the first line of the trouble, that are searched for the crash title.
const REPORT_LINES: usize = 600;

/// Why a VM is dying.
#[derive(Debug, Clone)]
pub(super) enum DeathCause {
    Panic,
    TimeOut {
        limit: Duration,
    },
    /// The guest did something that is not allowed.
    GivenUp {
        reason: String,
    },
}

/// Kernel trouble: the line that reports it and the following lines.
#[derive(Debug)]
pub(super) struct KernelTrouble {
    first: String,
    lines: Vec<String>,
}

impl KernelTrouble {
    /// `text` is the text of the `line` without its prefix.
    pub(super) fn new(text: &str, line: &str) -> Self {
        Self { first: text.into(), lines: vec![line.into()] }
    }

    pub(super) fn add(&mut self, line: &str) {
        if self.lines.len() < REPORT_LINES {
            self.lines.push(line.into());
        }
    }

    /// The crash title.
    pub(super) fn title(&self) -> String {
        let reports = crash::reports(&self.lines.join("\n"));
        reports.into_iter().next().map_or_else(|| self.first.clone(), |report| report.title)
    }

    /// The crash title, followed by the first line if it has additional information.
    fn reason(&self, title: &str) -> String {
        let essence = title.rsplit(": ").next().unwrap_or(title);
        if self.first.contains(essence) { title.into() } else { format!("{title}: {}", self.first) }
    }
}

/// A subtest that has started and has no verdict yet.
#[derive(Debug)]
pub(super) struct RunningSubtest {
    pub(super) subtest: SubtestName,
    pub(super) started: Duration,
    pub(super) limit: Duration,
    pub(super) log: CappedLog,
    pub(super) trouble: Option<KernelTrouble>,
    /// The KTAP case that gives this subtest its verdict.
    pub(super) ktap: Option<KtapRequest>,
}

impl RunningSubtest {
    pub(super) fn new(subtest: SubtestName, limit: Duration, now: Duration) -> Self {
        let mut running =
            Self { subtest, started: now, limit, log: CappedLog::new(LOG_BYTES), trouble: None, ktap: None };
        running.log_line(&format!("========= TEST   {}", running.subtest), now);
        running
    }

    /// Logs a console line with its time.
    pub(super) fn log_line(&mut self, line: &str, now: Duration) {
        self.log.line(&format!("{:05} {line}", now.as_secs()));
    }

    /// Finishes with the `verdict` that the subtest printed. Kernel trouble overrides it.
    pub(super) fn finish(self, verdict: Verdict, now: Duration) -> Action {
        let Some(trouble) = &self.trouble else { return self.close(verdict, None, now) };
        let title = trouble.title();
        let reason = trouble.reason(&title);
        self.close(Verdict::Failed { reason }, Some(title), now)
    }

    /// Finishes because the VM dies.
    pub(super) fn finish_dying(self, cause: DeathCause, now: Duration) -> Action {
        let reason = match cause {
            DeathCause::Panic => return self.finish(Verdict::Failed { reason: "kernel panic".into() }, now),
            DeathCause::GivenUp { reason } => reason,
            DeathCause::TimeOut { limit } => format!("timed out after {} s", limit.as_secs()),
        };
        // The list of blocked tasks that a hung kernel prints on request is not a crash report, so the reason is
        // unchanged.
        let crash = self.trouble.as_ref().map(KernelTrouble::title);
        let reason = crash.as_ref().map_or_else(|| reason.clone(), |title| format!("{title}; {reason}"));
        self.close(Verdict::Failed { reason }, crash, now)
    }

    fn close(mut self, verdict: Verdict, crash: Option<String>, now: Duration) -> Action {
        let duration = now.saturating_sub(self.started);
        let status = StatusLine { subtest: &self.subtest, verdict: &verdict, duration }.to_string();
        if let Verdict::Failed { reason } = &verdict {
            self.log_line(&format!("ktest: failed: {reason}"), now);
        }
        self.log_line(&status, now);
        let log = self.log.bytes();
        Action::Finished(FinishedSubtest { subtest: self.subtest, verdict, duration, crash, log })
    }
}
