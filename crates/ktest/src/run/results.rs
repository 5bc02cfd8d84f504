//! The results of a run in progress: each verdict is passed to the output directory, the summary and the reporter.

use std::time::Duration;

use model::{ArtifactName, Event, SubtestName, Verdict};
use vm::supervise::FinishedSubtest;

use super::artifacts::before_last_line;
use super::error::{CannotRun, RunError};
use super::summary::Summary;
use crate::out::{Keep, Out};
use crate::report::Reporter;

/// The results of a run in progress.
pub(super) struct Results<'a> {
    pub(super) out: Out,
    pub(super) summary: Summary,
    pub(super) reporter: &'a mut Reporter,
    /// Whether the results are published from the output directory, which is removed afterwards.
    for_farm: bool,
}

impl<'a> Results<'a> {
    pub(super) fn new(out: Out, reporter: &'a mut Reporter, for_farm: bool) -> Self {
        let summary = Summary { out: out.dir().to_path_buf(), ..Summary::default() };
        Self { out, summary, reporter, for_farm }
    }

    /// Records a verdict. `source` is the source location of the crash.
    pub(super) fn verdict(
        &mut self,
        mut finished: FinishedSubtest,
        source: Option<String>,
    ) -> Result<(), RunError> {
        let notes = self.collect(&finished);
        before_last_line(&mut finished.log, &notes);
        self.out.finished(&finished)?;
        let FinishedSubtest { subtest, verdict, duration, crash, .. } = finished;
        let dir = self.out.relative(&subtest);
        let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.summary.verdicts.push((subtest.clone(), verdict.clone()));
        self.reporter.event(Event::Verdict { subtest, verdict, duration_ms, crash, source, dir });
        Ok(())
    }

    /// Collects the artifacts that the test left for a subtest. Returns the notes for its log.
    fn collect(&mut self, finished: &FinishedSubtest) -> Vec<String> {
        // A farm publishes none of a passed subtest.
        let keep = if self.for_farm && finished.verdict == Verdict::Passed { Keep::No } else { Keep::Yes };
        let collected = match self.out.collect(&finished.subtest, keep) {
            Ok(collected) => collected,
            Err(error) => return vec![format!("artifacts of the test not saved: {error}")],
        };
        let mut notes = Vec::new();
        if !collected.kept.is_empty() {
            let names: Vec<&str> = collected.kept.iter().map(ArtifactName::as_str).collect();
            notes.push(format!("artifacts: {}", names.join(" ")));
        }
        if collected.excess > 0 {
            notes.push(format!(
                "{} artifacts of the test not saved: {}",
                collected.excess,
                Out::collect_limits()
            ));
        }
        notes
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
