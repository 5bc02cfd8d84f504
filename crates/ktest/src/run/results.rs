//! The results of a run in progress: each verdict is passed to the output directory, the summary and the reporter.

use std::time::Duration;

use model::{Event, SubtestName, Verdict};
use vm::supervise::FinishedSubtest;

use super::error::{CannotRun, RunError};
use super::summary::Summary;
use crate::out::Out;
use crate::report::Reporter;

/// The results of a run in progress.
pub(super) struct Results<'a> {
    pub(super) out: Out,
    pub(super) summary: Summary,
    pub(super) reporter: &'a mut Reporter,
}

impl<'a> Results<'a> {
    pub(super) fn new(out: Out, reporter: &'a mut Reporter) -> Self {
        let summary = Summary { out: out.dir().to_path_buf(), ..Summary::default() };
        Self { out, summary, reporter }
    }

    /// Records a verdict. `source` is the source location of the crash.
    pub(super) fn verdict(
        &mut self,
        finished: FinishedSubtest,
        source: Option<String>,
    ) -> Result<(), RunError> {
        self.out.finished(&finished)?;
        let FinishedSubtest { subtest, verdict, duration, crash, .. } = finished;
        let dir = self.out.relative(&subtest);
        let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.summary.verdicts.push((subtest.clone(), verdict.clone()));
        self.reporter.event(Event::Verdict { subtest, verdict, duration_ms, crash, source, dir });
        Ok(())
    }

    /// Records that a subtest starts.
    pub(super) fn started(&mut self, subtest: SubtestName) -> Result<(), RunError> {
        self.out.started(&subtest)?;
        self.reporter.event(Event::SubtestStarted { subtest });
        Ok(())
    }

    /// Gives each of these subtests the verdict Failed to run. All subtests that never start get their verdict here.
    pub(super) fn cannot_run(
        &mut self,
        subtests: impl IntoIterator<Item = SubtestName>,
        cannot: &CannotRun,
    ) -> Result<(), RunError> {
        let CannotRun { reason, log } = cannot;
        for subtest in subtests {
            let mut text = log.clone();
            text.extend_from_slice(format!("ktest: {reason}\nFAILED TO RUN\n").as_bytes());
            let verdict = Verdict::FailedToRun { reason: reason.clone() };
            let (duration, crash) = (Duration::ZERO, None);
            self.verdict(FinishedSubtest { subtest, verdict, duration, crash, log: text }, None)?;
        }
        Ok(())
    }

    /// Records an infrastructure error, which ends the run.
    pub(super) fn infrastructure(&mut self, what: String) {
        self.reporter.event(Event::Infrastructure { what: what.clone() });
        self.summary.infrastructure = Some(what);
    }

    pub(super) fn finish(self) -> Summary {
        if let Err(error) = self.out.close() {
            tracing::warn!("the log of the run is incomplete: {error}");
        }
        self.summary
    }
}
