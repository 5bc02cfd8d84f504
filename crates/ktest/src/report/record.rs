//! The result of a run, collected from its events, as a JSON document and as JUnit XML.
//!
//! Pure except for the logs that a JUnit report quotes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use belief::{Confidence, Evidence, FixClaim, FixState};
use fsx::untrusted::Dir;
use model::{CommitId, Conditions, Event, KernelId, SubtestName, TestPath, Verdict};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde::Serialize;

/// The version of the JSON document.
pub const RECORD_VERSION: u32 = 1;
/// How many bytes at the end of a subtest's log a JUnit report quotes.
const QUOTED: u64 = 64 << 10;

/// One run of one test file.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Record {
    /// The test file; `None` if the run ended before it was evaluated.
    pub test: Option<TestPath>,
    /// The tested commit, if there is one.
    pub commit: Option<CommitId>,
    /// The kernel, if there was one.
    pub kernel: Option<KernelId>,
    /// The SHA-256 of its boot image.
    pub image_hash: Option<String>,
    /// `kvm` or `tcg`; `None` if no VM was started.
    pub accel: Option<String>,
    /// The number of VMs started.
    pub vms: u32,
    /// Why the kernel does not build.
    pub build_failed: Option<String>,
    /// The infrastructure error.
    pub infrastructure: Option<String>,
    /// The output directory, absolute; [`SubtestRecord::dir`] is relative to it.
    pub out: PathBuf,
    /// The duration of the run, in ms.
    pub duration_ms: u64,
    /// Its exit code.
    pub exit_code: u8,
    /// With `--until-believed`: what the runs prove.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub believed: Option<BelievedRecord>,
    /// The subtests with a verdict, in the order of the verdicts.
    pub subtests: Vec<SubtestRecord>,
}

/// The claim that a failure is fixed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BelievedRecord {
    /// `fixed`, `still_fails` or `unproven`.
    pub state: FixState,
    /// The passes that count.
    pub passes: u32,
    /// The passes that are needed.
    pub needed: u32,
    /// The passes that ended before `--fails-after`.
    pub early_passes: u32,
    /// The failure rate before the fix, as `FAILURES/ATTEMPTS`.
    pub rate: Evidence,
    /// The confidence in percent.
    pub confidence: Confidence,
}

impl From<&FixClaim> for BelievedRecord {
    fn from(claim: &FixClaim) -> Self {
        Self {
            state: claim.state(),
            passes: claim.passes(),
            needed: claim.needed(),
            early_passes: claim.early_passes(),
            rate: claim.evidence(),
            confidence: claim.confidence(),
        }
    }
}

/// One subtest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SubtestRecord {
    /// The subtest.
    pub subtest: SubtestName,
    /// The verdict, with its reason.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The duration, in ms.
    pub duration_ms: u64,
    /// The crash title, if the kernel crashed.
    pub crash: Option<String>,
    /// The source location of the crash, as `FILE:LINE`, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Its directory, relative to the output directory.
    pub dir: PathBuf,
    /// What it depended on.
    #[serde(flatten)]
    pub conditions: Conditions,
}

impl Record {
    /// Adds an event.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::RunStarted { test, commit, .. } => {
                (self.test, self.commit) = (Some(test.clone()), commit.clone());
            }
            Event::KernelReady { kernel, image_hash, .. } => {
                (self.kernel, self.image_hash) = (Some(kernel.clone()), Some(image_hash.clone()));
            }
            Event::BuildFailed { reason } => self.build_failed = Some(reason.clone()),
            Event::BootStarted { vm, accel, .. } => (self.vms, self.accel) = (*vm, Some(accel.clone())),
            Event::Verdict { subtest, verdict, duration_ms, crash, source, dir, conditions } => {
                self.subtests.push(SubtestRecord {
                    subtest: subtest.clone(),
                    verdict: verdict.clone(),
                    duration_ms: *duration_ms,
                    crash: crash.clone(),
                    source: source.clone(),
                    dir: dir.clone(),
                    conditions: conditions.clone(),
                });
            }
            Event::Infrastructure { what } => self.infrastructure = Some(what.clone()),
            Event::RunFinished { exit_code } => self.exit_code = *exit_code,
            Event::BuildStarted
            | Event::KernelWanted { .. }
            | Event::Log { .. }
            | Event::Heartbeat { .. }
            | Event::Phase { .. }
            | Event::BuildProgress { .. }
            | Event::Booted { .. }
            | Event::SubtestStarted { .. } => {}
        }
    }
}

/// The JSON document of `ktest run --json`.
#[must_use]
pub fn json(records: &[Record], exit_code: u8) -> String {
    let document = serde_json::json!({ "version": RECORD_VERSION, "exit_code": exit_code, "runs": records });
    serde_json::to_string_pretty(&document).expect("records are plain data")
}

/// The JUnit report of `ktest run --junit`: one suite per run, one case per subtest. Failed to run is an error.
#[must_use]
pub fn junit(records: &[Record]) -> String {
    let mut report = Report::new("ktest");
    for record in records {
        let test = record.test.as_ref().map_or_else(|| "ktest".into(), TestPath::dotted);
        let mut suite = TestSuite::new(&test);
        suite.set_time(Duration::from_millis(record.duration_ms));
        let kernel = record.kernel.as_ref().map(KernelId::as_str);
        let commit = record.commit.as_ref().map(CommitId::as_str);
        for (name, value) in [("commit", commit), ("kernel", kernel), ("accel", record.accel.as_deref())] {
            if let Some(value) = value {
                suite.add_property((name, value));
            }
        }
        for subtest in &record.subtests {
            let mut case = TestCase::new(subtest.subtest.as_str(), status(&subtest.verdict));
            case.set_classname(&test).set_time(Duration::from_millis(subtest.duration_ms));
            if let Some(log) = end_of(&record.out, &subtest.dir.join("log")) {
                case.set_system_out(log);
            }
            suite.add_test_case(case);
        }
        if let Some(what) = &record.infrastructure {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_message(what).set_type("infrastructure");
            suite.add_test_case(TestCase::new("ktest", status));
        }
        report.add_test_suite(suite);
    }
    let xml = report.to_string().expect("a report of plain text can be written");
    stdio::xml::text(&xml).into_owned()
}

fn status(verdict: &Verdict) -> TestCaseStatus {
    let failed = |kind, reason: &str| {
        let mut status = TestCaseStatus::non_success(kind);
        status.set_message(reason);
        status
    };
    match verdict {
        Verdict::Passed => TestCaseStatus::success(),
        Verdict::Failed { reason } => failed(NonSuccessKind::Failure, reason),
        Verdict::FailedToRun { reason } => failed(NonSuccessKind::Error, reason),
        Verdict::NotRun { reason } => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(reason);
            status
        }
    }
}

/// The end of a log, starting at the beginning of a line.
pub(super) fn end_of(out: &Path, log: &Path) -> Option<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = Dir::open(out).ok()?.open_file(log).ok()?;
    let skip = file.metadata().ok()?.len().saturating_sub(QUOTED);
    file.seek(SeekFrom::Start(skip)).ok()?;
    let mut bytes = Vec::new();
    file.take(QUOTED).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Some(if skip == 0 { text } else { text.split_once('\n').map_or(text.clone(), |(_, rest)| rest.into()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(out: &Path) -> Record {
        let mut record = Record { out: out.into(), duration_ms: 4321, ..Record::default() };
        let verdict = |subtest: &str, verdict, duration_ms| Event::Verdict {
            subtest: subtest.parse().unwrap(),
            verdict,
            duration_ms,
            crash: None,
            source: None,
            dir: format!("out/fs.x.{}", subtest.replace('/', ".")).into(),
            conditions: Conditions::default(),
        };
        for event in [
            Event::RunStarted { test: "fs/x".parse().unwrap(), subtests: Vec::new(), commit: None },
            Event::BuildStarted,
            Event::KernelReady {
                kernel: "a".repeat(64).parse().unwrap(),
                image_hash: "bb".into(),
                cached: true,
                fetched: false,
                duration_ms: 1,
            },
            Event::BootStarted { vm: 1, accel: "tcg".into(), experiment: None, code: None },
            verdict("generic/001", Verdict::Passed, 1500),
            verdict("punch", Verdict::Failed { reason: "kernel BUG at <fs/x.c> & \"more\"".into() }, 20),
            verdict("dax", Verdict::NotRun { reason: "no pmem".into() }, 0),
            verdict("lost", Verdict::FailedToRun { reason: "never ran".into() }, 0),
            Event::RunFinished { exit_code: 1 },
        ] {
            record.event(&event);
        }
        record
    }

    #[test]
    fn as_json() {
        insta::assert_snapshot!("json", json(&[record("/o".as_ref())], 1));
    }

    #[test]
    fn as_junit() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("out/fs.x.punch/log");
        std::fs::create_dir_all(log.parent().unwrap()).unwrap();
        // Characters that XML cannot represent are left out, and markup is escaped.
        std::fs::write(&log, b"00001 \x1b[31mred\x1b[0m \x07\xff\xef\xbf\xbe\xef\xbf\xbf ]]> <end/>\n")
            .unwrap();
        let mut records = vec![record(dir.path()), Record::default()];
        records[1].infrastructure = Some("disk full".into());
        let xml = junit(&records);
        assert!(!xml.contains(['\u{fffe}', '\u{ffff}', '\u{1b}', '\u{7}']), "{xml:?}");
        insta::assert_snapshot!("junit", xml);
    }

    #[test]
    fn a_long_log_is_quoted_from_the_beginning_of_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        std::fs::write(&log, "0123456789\n".repeat(10_000)).unwrap();
        let text = end_of(dir.path(), Path::new("log")).unwrap();
        assert!(text.starts_with("0123456789\n") && text.len() > 60_000 && text.len() <= 64 << 10);
        assert_eq!(end_of(dir.path(), Path::new("none")), None);
    }
}
