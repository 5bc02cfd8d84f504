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

/// When kernel trouble began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Before the first subtest. Trouble during the boot is no subtest's.
    BeforeFirst,
    /// While the subtest ran.
    Running,
    /// After the subtest printed its verdict, before the next one began or the VM ended.
    AfterEnd,
}

/// Kernel trouble: the line that reports it and the following lines.
#[derive(Debug)]
pub(super) struct KernelTrouble {
    when: When,
    first: String,
    lines: Vec<String>,
}

impl KernelTrouble {
    /// `text` is the text of the `line` without its prefix.
    pub(super) fn new(when: When, text: &str, line: &str) -> Self {
        Self { when, first: text.into(), lines: vec![line.into()] }
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
        let what =
            if self.first.contains(essence) { title.into() } else { format!("{title}: {}", self.first) };
        match self.when {
            When::Running => what,
            When::BeforeFirst => format!("{what} (before it began)"),
            When::AfterEnd => format!("{what} (after it ended)"),
        }
    }
}

/// A subtest that has started. Its verdict is reported when the next subtest begins or the VM ends, because the kernel may
/// still report trouble that the subtest caused.
#[derive(Debug)]
pub(super) struct RunningSubtest {
    pub(super) subtest: SubtestName,
    pub(super) started: Duration,
    pub(super) limit: Duration,
    pub(super) log: CappedLog,
    pub(super) trouble: Option<KernelTrouble>,
    /// The KTAP case that gives this subtest its verdict.
    pub(super) ktap: Option<KtapRequest>,
    /// When it announced that it will reset the guest.
    pub(super) expects_reboot: Option<Duration>,
    /// The verdict that it printed, and when.
    ended: Option<(Verdict, Duration)>,
}

impl RunningSubtest {
    /// `trouble`: before it began, and not that of another subtest.
    pub(super) fn new(
        subtest: SubtestName,
        limit: Duration,
        trouble: Option<KernelTrouble>,
        now: Duration,
    ) -> Self {
        let (started, log) = (now, CappedLog::new(LOG_BYTES));
        let mut running = Self {
            subtest,
            started,
            limit,
            log,
            trouble: None,
            ktap: None,
            expects_reboot: None,
            ended: None,
        };
        for line in trouble.iter().flat_map(|trouble| &trouble.lines) {
            running.log_line(line, now);
        }
        running.trouble = trouble;
        running.log_line(&format!("========= TEST   {}", running.subtest), now);
        running
    }

    /// Takes the verdict that the subtest printed.
    pub(super) fn end(&mut self, verdict: Verdict, now: Duration) {
        self.ended = Some((verdict, now));
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Takes a line of the console that can be part of kernel trouble.
    pub(super) fn check(&mut self, line: &str, trouble: Option<&crash::Trouble>, now: Duration) {
        let when = if self.has_ended() { When::AfterEnd } else { When::Running };
        match (&mut self.trouble, trouble) {
            (Some(report), _) => report.add(line),
            (None, Some(trouble)) => self.trouble = Some(KernelTrouble::new(when, &trouble.text, line)),
            (None, None) => return,
        }
        // A line of the time before is in the log already.
        if when == When::AfterEnd {
            self.log_line(line, now);
        }
    }

    /// Logs a console line with its time.
    pub(super) fn log_line(&mut self, line: &str, now: Duration) {
        self.log.line(&format!("{:05} {line}", now.as_secs()));
    }

    /// Finishes with the verdict that the subtest printed, or else with this one. Kernel trouble overrides it.
    pub(super) fn finish(mut self, otherwise: Verdict, now: Duration) -> Action {
        let (verdict, at) = self.ended.take().unwrap_or((otherwise, now));
        let Some(trouble) = &self.trouble else { return self.close(verdict, None, at) };
        let title = trouble.title();
        let reason = match (trouble.reason(&title), verdict) {
            (trouble_reason, Verdict::Failed { reason }) if trouble.when == When::AfterEnd => {
                format!("{reason}; {trouble_reason}")
            }
            (reason, _) => reason,
        };
        self.close(Verdict::Failed { reason }, Some(title), at)
    }

    /// Finishes with the verdict that the subtest printed.
    pub(super) fn finish_ended(self, now: Duration) -> Action {
        let reason = "ended without a verdict".into();
        self.finish(Verdict::Failed { reason }, now)
    }

    /// Finishes because the VM dies.
    pub(super) fn finish_dying(self, cause: DeathCause, now: Duration) -> Action {
        let reason = match cause {
            _ if self.has_ended() => return self.finish_ended(now),
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
