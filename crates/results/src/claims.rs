//! The fixes that the farm proves with further runs: one record per claim, `believe/<id>.json` of the output directory.
//!
//! ci-daemon writes the records and continues from them after a restart. Others only read them.

use std::fmt;
use std::path::{Path, PathBuf};

use belief::Confidence;
use model::{BranchRef, CommitId, ResultKey};
use serde::{Deserialize, Serialize};

use crate::json::FixRow;
pub use crate::records::is_id;
use crate::records::{self, id_end};

/// The directory of the records, in the output directory.
pub const DIRECTORY: &str = "believe";

/// The record of a claim that a failure is fixed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClaimRecord {
    /// Its id.
    pub id: String,
    /// The test.
    pub test: ResultKey,
    /// The branch with the fix. Its user has the jobs.
    pub branch: BranchRef,
    /// The commit that is run: the tip of the branch when it was requested.
    pub commit: CommitId,
    /// The account that requested it; `None` if the farm started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    /// The name of the request file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The start, Unix seconds.
    pub begun: i64,
    /// The confidence in percent.
    pub confidence: Confidence,
    /// Its state.
    pub state: ClaimState,
    /// What the attempts in the store prove, those that were not requested included.
    pub fix: FixRow,
    /// The number of runs that ended.
    pub runs: u32,
    /// The number of the run that failed, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_run: Option<u32>,
    /// Why the last run did not pass, or why nothing runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The state of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimState {
    /// Runs are missing.
    Running,
    /// It is believed.
    Fixed,
    /// The test failed again.
    NotFixed,
    /// The runs cannot prove it.
    Unproven,
    /// It was cancelled.
    Cancelled,
}

impl ClaimState {
    /// Whether it has ended.
    #[must_use]
    pub fn is_final(self) -> bool {
        self != Self::Running
    }

    /// A word for lists.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Fixed => "fixed",
            Self::NotFixed => "not fixed",
            Self::Unproven => "not proven",
            Self::Cancelled => "cancelled",
        }
    }
}

/// `7 of 33 runs`, `fixed: 33 passes, 95 % confidence`, `not fixed: failed in run 7: lost 3 files`.
impl fmt::Display for ClaimRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FixRow { passes, needed, too_short, .. } = self.fix;
        match (self.state, self.failed_run) {
            (ClaimState::Running, _) => write!(f, "{passes} of {needed} runs")?,
            (ClaimState::Fixed, _) => {
                return write!(f, "fixed: {passes} passes, {} confidence", self.confidence);
            }
            (ClaimState::NotFixed, Some(run)) => write!(f, "not fixed: failed in run {run}")?,
            (ClaimState::NotFixed, None) => write!(f, "not fixed: failed after {passes} passes")?,
            (ClaimState::Unproven, _) => write!(f, "not proven: {passes} of {needed} runs")?,
            (ClaimState::Cancelled, _) => write!(f, "cancelled: {passes} of {needed} runs")?,
        }
        if too_short > 0 {
            write!(f, ", {too_short} too short")?;
        }
        self.reason.iter().try_for_each(|reason| write!(f, ": {reason}"))
    }
}

/// Records, and the problems of those that cannot be read.
#[derive(Debug, Default)]
pub struct ClaimRecords {
    /// The records, newest first.
    pub records: Vec<ClaimRecord>,
    /// The problems, one line each.
    pub problems: Vec<String>,
}

/// The id of the claim about a test at a commit. It is a file name.
#[must_use]
pub fn id(test: &ResultKey, commit: &CommitId) -> String {
    format!("{}{}", commit.short(), id_end(test))
}

/// The file of a record.
fn path(output_dir: &Path, id: &str) -> PathBuf {
    output_dir.join(DIRECTORY).join(format!("{id}.json"))
}

/// The text of a record.
#[must_use]
pub fn text(record: &ClaimRecord) -> String {
    serde_json::to_string_pretty(record).unwrap_or_default()
}

/// Writes the text of a record. A reader sees the previous or the new one.
pub fn write(output_dir: &Path, id: &str, text: &str) -> Result<(), fsx::Error> {
    records::write(&path(output_dir, id), text)
}

/// One record; `None` if there is none. The error is one line.
pub fn read(output_dir: &Path, id: &str) -> Result<Option<ClaimRecord>, String> {
    if !is_id(id) {
        return Ok(None);
    }
    records::read(&path(output_dir, id), |record: &ClaimRecord| {
        let is_own = record.id == id && record.id == self::id(&record.test, &record.commit);
        is_own.then_some(()).ok_or_else(|| "its id is not that of its test and commit".to_owned())
    })
}

/// At most `max` records, those that were written last, newest first. Those that cannot be read are left out.
#[must_use]
pub fn newest(output_dir: &Path, max: usize) -> Vec<ClaimRecord> {
    let read = |id: &str| read(output_dir, id);
    let (mut records, _) = records::list_newest(&output_dir.join(DIRECTORY), max, |_| true, read);
    sort(&mut records);
    records
}

fn sort(records: &mut [ClaimRecord]) {
    records.sort_by(|a, b| (b.begun, &b.id).cmp(&(a.begun, &a.id)));
}

/// The records of an output directory, newest first.
#[must_use]
pub fn list(output_dir: &Path) -> ClaimRecords {
    let read = |id: &str| read(output_dir, id);
    let (mut records, problems) = records::list(&output_dir.join(DIRECTORY), |_| true, read);
    sort(&mut records);
    ClaimRecords { records, problems }
}

#[cfg(test)]
mod tests {
    use belief::FixState;

    use super::*;

    fn record() -> ClaimRecord {
        let (test, commit): (ResultKey, CommitId) =
            ("fs.a.x".parse().unwrap(), "a".repeat(40).parse().unwrap());
        let state = FixState::Unproven;
        ClaimRecord {
            id: id(&test, &commit),
            test,
            branch: "u/b".parse().unwrap(),
            commit,
            requested_by: Some("kmo".into()),
            request: None,
            begun: 5,
            confidence: Confidence::USUAL,
            state: ClaimState::Running,
            fix: FixRow { state, passes: 7, needed: 33, too_short: 0, failed: 3, runs: 25 },
            runs: 6,
            failed_run: None,
            reason: None,
        }
    }

    #[test]
    fn a_record_is_written_and_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(list(dir.path()).records.is_empty() && list(dir.path()).problems.is_empty());
        let record = record();
        write(dir.path(), &record.id, &text(&record)).unwrap();
        assert_eq!(read(dir.path(), &record.id), Ok(Some(record.clone())));
        assert_eq!(read(dir.path(), "../believe/x"), Ok(None));
        write(dir.path(), "x", &text(&record)).unwrap();
        std::fs::write(dir.path().join("believe/y.json"), "{").unwrap();
        let found = list(dir.path());
        assert_eq!((found.records, found.problems.len()), (vec![record], 2));
    }

    #[test]
    fn a_record_in_words() {
        let words = |state: ClaimState, failed_run: Option<u32>, reason: Option<&str>| {
            ClaimRecord { state, failed_run, reason: reason.map(Into::into), ..record() }.to_string()
        };
        assert_eq!(words(ClaimState::Running, None, None), "7 of 33 runs");
        assert_eq!(words(ClaimState::Fixed, None, Some("x")), "fixed: 7 passes, 95 % confidence");
        let failed = words(ClaimState::NotFixed, Some(7), Some("lost 3 files"));
        assert_eq!(failed, "not fixed: failed in run 7: lost 3 files");
        assert_eq!(words(ClaimState::NotFixed, None, None), "not fixed: failed after 7 passes");
        assert_eq!(words(ClaimState::Unproven, None, Some("skipped")), "not proven: 7 of 33 runs: skipped");
        assert_eq!(words(ClaimState::Cancelled, None, None), "cancelled: 7 of 33 runs");
    }
}
