//! The results of a run in progress: each verdict is passed to the output directory, the summary and the reporter.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{ArtifactName, Conditions, Event, KNOWN_FAILURE, SubtestName, Verdict};
use testfile::known_issues::{self, Circumstances, KnownIssue, KnownIssues, KnownIssuesError};
use testfile::{HostEnv, TestFile};
use vm::supervise::FinishedSubtest;

use super::artifacts::before_last_line;
use super::error::{CannotRun, RunError};
use super::summary::Summary;
use crate::out::{Keep, Out};
use crate::report::Reporter;

/// The subtests of a run that are known to fail, each with its entries.
#[derive(Debug, Default)]
pub(super) struct Known(BTreeMap<SubtestName, Vec<KnownIssue>>);

impl Known {
    /// The entries in effect for these subtests. Reads the disk.
    pub(super) fn load(
        file: &TestFile,
        subtests: &[SubtestName],
        env: &HostEnv,
    ) -> Result<Self, KnownIssuesError> {
        let issues = KnownIssues::load(file)?;
        let at = Circumstances { kernel_version: &env.kernel_version, now: fsx::clock::unix_seconds() };
        let variant = known_issues::variant_of(env.env.iter().map(|(name, value)| (&**name, &**value)));
        let found = |subtest| issues.find(file, subtest, variant, at).cloned().collect();
        Ok(Self(subtests.iter().map(|subtest| (subtest.clone(), found(subtest))).collect()))
    }

    /// A known failure is Not run. Returns a note for the log.
    fn apply(&self, finished: &mut FinishedSubtest) -> Option<String> {
        let issues = self.0.get(&finished.subtest)?;
        match &finished.verdict {
            Verdict::Failed { reason: found } => {
                let issue = issues.iter().find(|issue| issue.is_failure(found, finished.crash.as_deref()))?;
                let (known, place) = (issue.known_failure(), &issue.place);
                let note = format!("{KNOWN_FAILURE}{known} ({place})");
                finished.verdict = Verdict::NotRun { reason: known.verdict_reason(found) };
                Some(note)
            }
            Verdict::Passed => issues.first().map(|issue| {
                let (place, known) = (&issue.place, issue.known_failure());
                format!("it passes, but {place} has it as a known failure: {known}")
            }),
            Verdict::NotRun { .. } | Verdict::FailedToRun { .. } => None,
        }
    }
}

/// The results of a run in progress.
pub(super) struct Results<'a> {
    pub(super) out: Out,
    pub(super) summary: Summary,
    pub(super) reporter: &'a mut Reporter,
    known: Known,
    /// What the verdicts depend on. The load is measured for each.
    pub(super) conditions: Conditions,
    /// Whether the results are published from the output directory, which is removed afterwards.
    for_farm: bool,
}

impl<'a> Results<'a> {
    pub(super) fn new(out: Out, reporter: &'a mut Reporter, for_farm: bool) -> Self {
        let summary = Summary { out: out.dir().to_path_buf(), ..Summary::default() };
        Self { out, summary, reporter, known: Known::default(), conditions: Conditions::default(), for_farm }
    }

    /// The subtests that are known to fail.
    pub(super) fn set_known(&mut self, known: Known) {
        self.known = known;
    }

    /// Records a verdict. `source` is the source location of the crash.
    pub(super) fn verdict(
        &mut self,
        mut finished: FinishedSubtest,
        source: Option<String>,
    ) -> Result<(), RunError> {
        let mut notes = self.collect(&finished);
        notes.extend(self.conditions.suite.iter().map(|suite| format!("suite: {suite}")));
        notes.extend(self.known.apply(&mut finished));
        before_last_line(&mut finished.log, &notes);
        self.out.finished(&finished)?;
        let FinishedSubtest { subtest, verdict, duration, crash, .. } = finished;
        let dir = self.out.relative(&subtest);
        let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.judged(&subtest, &verdict, duration);
        let conditions = Conditions { load: fsx::machine::load_percent(), ..self.conditions.clone() };
        self.reporter.event(Event::Verdict { subtest, verdict, duration_ms, crash, source, dir, conditions });
        Ok(())
    }

    /// Counts a verdict.
    pub(super) fn judged(&mut self, subtest: &SubtestName, verdict: &Verdict, duration: Duration) {
        match (&mut self.summary.claim, verdict) {
            (Some(claim), Verdict::Passed) => _ = claim.passed(duration),
            (Some(claim), Verdict::Failed { .. }) => claim.failed(),
            _ => {}
        }
        self.summary.verdicts.push((subtest.clone(), verdict.clone()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Style;

    #[test]
    fn a_known_failure_is_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tests/fs/x.ktest");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let issues = "[[issue]]\ntest = \"fs.x.generic/001\"\nvariant = \"1k\"\nreason = \"a bug\"\n\
            link = \"https://bugs.example.org/7\"\nuntil = \"6.12\"\n";
        std::fs::write(path.with_file_name("known-issues.toml"), issues).unwrap();
        let file = TestFile { ktest_dir: dir.path().into(), path, test: "fs/x".parse().unwrap() };
        let subtests = ["generic/001", "generic/002"].map(|name| name.parse().unwrap());
        let known = |variant: &str, kernel: &str| {
            let env = vec![("ktest_xfstests_variant".to_owned(), variant.to_owned())];
            let env = HostEnv { env, kernel_version: kernel.into(), ..HostEnv::default() };
            Known::load(&file, &subtests, &env).unwrap()
        };
        let failed = || Verdict::Failed { reason: "1 != 2".into() };
        let finished = |at: usize, verdict: Verdict| {
            let subtest: SubtestName = subtests[at].clone();
            FinishedSubtest { subtest, verdict, duration: Duration::ZERO, crash: None, log: Vec::new() }
        };
        let apply = |known: &Known, at: usize, verdict: Verdict| {
            let mut finished = finished(at, verdict);
            let note = known.apply(&mut finished);
            (finished.verdict, note.is_some())
        };
        let old = known("1k", "6.11.3");
        let reason = "known failure: a bug (https://bugs.example.org/7, until 6.12); it failed: 1 != 2";
        assert_eq!(apply(&old, 0, failed()), (Verdict::NotRun { reason: reason.into() }, true));
        assert_eq!(apply(&old, 0, Verdict::Passed), (Verdict::Passed, true), "a note for the log");
        assert_eq!(apply(&old, 1, failed()), (failed(), false));
        let broken = || Verdict::FailedToRun { reason: "no VM".into() };
        assert_eq!(apply(&old, 0, broken()), (broken(), false));
        for known in [known("1k", "6.12.0"), known("", "6.11")] {
            assert_eq!(apply(&known, 0, failed()), (failed(), false));
        }
        let issues = "[[issue]]\ntest = \"fs.x.*\"\nfailure = \"1 != *\"\nreason = \"a bug\"\n";
        std::fs::write(file.path.with_file_name("known-issues.toml"), issues).unwrap();
        let of_failure = known("", "6.11");
        assert!(apply(&of_failure, 0, failed()).1);
        let other = || Verdict::Failed { reason: "2 != 3".into() };
        assert_eq!(apply(&of_failure, 0, other()), (other(), false), "another failure of the test");
        let mut reporter = Reporter::new(Style::Silent);
        let out = Out::create(&dir.path().join("out"), &file.test, &subtests).unwrap();
        let mut results = Results::new(out, &mut reporter, false);
        results.set_known(old);
        let suite = format!("xfstests {}", "0123".repeat(10));
        results.conditions.suite = Some(suite.parse().unwrap());
        for (at, verdict) in [failed(), Verdict::Passed].into_iter().enumerate() {
            let log = b"the first line\nthe last line\n".to_vec();
            results.verdict(FinishedSubtest { log, ..finished(at, verdict) }, None).unwrap();
        }
        let summary = results.finish();
        assert_eq!((summary.exit_code(), summary.count(model::Status::NotRun)), (0, 1));
        let log = std::fs::read_to_string(summary.out.join("out/fs.x.generic.001/log")).unwrap();
        assert!(log.contains("known failure: a bug (https://bugs.example.org/7, until 6.12) ("), "{log}");
        assert!(
            log.contains(&format!(" ktest: suite: {suite}\n")) && log.ends_with("the last line\n"),
            "{log}"
        );
    }
}
