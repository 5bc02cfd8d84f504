//! Results in a directory on this machine, read with `results::Reader`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::{BranchName, BranchRef, CommitId, ResultKey, StatusSnapshot, UserName};
use regress::branch_history::BranchHistory;
use regress::builds::{BuildHistory, CommitBuilds, KernelCache};
use regress::crash_groups;
use regress::eta::expected_slots;
use regress::json::{ChangesRow, CrashRow};
use regress::range_diff::{PushResults, RangeDiffView};
use regress::suspicious::{Columns, PASSES_READ, Source};
use regress::{CommitStatuses, Names};
use results::bisections::BisectionRecords;
use results::claims::ClaimRecords;
use results::findings::{FindingQuery, RecordedFinding};
use results::json::{ArtifactRow, BuildRow, FlakyRow, OwnersRow};
use results::requests::{self, RequestKind, RequestState};
use results::{
    BranchEntry, CommitResults, HistoryEntry, LogKind, Reader, RecentRun, Resolved, Statuses, TestDuration,
    TestEntry,
};

use super::{Backend, LogContent, RelatedResults};
use crate::problem::Problem;
use crate::select::TestSelection;

/// The maximum number of bytes of a growing log per read.
const PIECE: u64 = 1 << 20;

/// A directory of results.
#[derive(Debug, Clone)]
pub struct Local {
    reader: Reader,
    /// Names of tests by their hash: commits mostly have the same tests as the next one.
    names: Arc<Mutex<HashMap<u64, Names>>>,
}

impl Local {
    /// The results in `dir`.
    pub fn open(dir: &Path) -> Result<Self, Problem> {
        Ok(Self { reader: Reader::open(dir)?, names: Arc::default() })
    }

    fn branch_history(&self, entries: &[BranchEntry]) -> BranchHistory {
        BranchHistory::new(entries.iter().map(|entry| {
            let columns = (entry.counts.total() > 0).then(|| self.columns(&entry.commit))?;
            columns.map(Columns::into_statuses)
        }))
    }
}

impl Backend for Local {
    fn users(&self) -> Result<BTreeMap<UserName, Vec<BranchName>>, Problem> {
        Ok(self.reader.users()?)
    }

    fn branch(&self, at: &BranchRef) -> Result<Option<Vec<BranchEntry>>, Problem> {
        Ok(self.reader.branch(at)?)
    }

    fn branch_filtered(
        &self,
        at: &BranchRef,
        tests: &TestSelection,
    ) -> Result<Option<Vec<BranchEntry>>, Problem> {
        Ok(self.reader.branch_filtered(at, |key| tests.matches(key.as_str()))?)
    }

    fn builds(&self, at: &BranchRef) -> Result<BTreeMap<CommitId, BuildRow>, Problem> {
        let entries = self.reader.branch(at)?.unwrap_or_default();
        let mut kernels = KernelCache::default();
        let builds = |commit: &CommitId| {
            let columns = self.columns(commit)?.into_statuses();
            let kernels = kernels.of(&columns.names);
            let all = || self.reader.commit(commit).ok()?;
            Some(Arc::new(CommitBuilds::of_columns(&columns, &kernels, |key| self.entry(commit, key), all)))
        };
        let history = BuildHistory::of_listing(&entries, builds);
        let row =
            |(row, entry): (usize, &BranchEntry)| Some((entry.commit.clone(), history.row(row, &entries)?));
        Ok(entries.iter().enumerate().filter_map(row).collect())
    }

    fn history(&self, at: &BranchRef, key: &ResultKey) -> Result<Option<Vec<HistoryEntry>>, Problem> {
        Ok(self.reader.history(at, key)?)
    }

    fn flaky(&self, at: &BranchRef) -> Result<Vec<FlakyRow>, Problem> {
        let found = self.reader.flaky(at)?.unwrap_or_default();
        Ok(found.iter().map(FlakyRow::from).collect())
    }

    fn findings(&self, at: Option<&BranchRef>, limit: usize) -> Result<Vec<RecordedFinding>, Problem> {
        Ok(self.reader.findings(&FindingQuery { branch: at, most: limit, ..FindingQuery::default() }))
    }

    fn changes(&self, at: &BranchRef) -> Result<Vec<ChangesRow>, Problem> {
        let entries = self.reader.branch(at)?.unwrap_or_default();
        Ok(regress::json::changes(&entries, &self.branch_history(&entries)))
    }

    fn crashes(&self, at: &BranchRef) -> Result<Vec<CrashRow>, Problem> {
        let entries = self.reader.branch(at)?.unwrap_or_default();
        let found = match self.reader.crashes(at) {
            Some(table) => crash_groups::of_table(&entries, table, |commit| {
                self.columns(commit).map(Columns::into_statuses)
            }),
            None => {
                let entry = |commit: &_, key: &_| self.reader.entry(commit, key).ok()?;
                crash_groups::of_results(&self.branch_history(&entries), &entries, entry).groups
            }
        };
        Ok(found.iter().map(|group| CrashRow::new(group, &entries)).collect())
    }

    fn range_diff(&self, at: &BranchRef, of: Option<&CommitId>) -> Result<Option<RangeDiffView>, Problem> {
        let Some(pushes) = results::pushes::read(self.reader.output_dir(), at)? else { return Ok(None) };
        let listed = self.reader.branch(at)?.unwrap_or_default();
        let snapshot = self.reader.snapshot()?.unwrap_or_default();
        let slots = expected_slots(&snapshot).get(at.user.as_str()).copied().unwrap_or(0.0);
        let means = self.reader.durations()?.into_iter();
        let means = means.map(|known| (known.test.to_string(), known.mean)).collect();
        Ok(RangeDiffView::new(at, &pushes, of, &listed, &LocalPush { local: self, means }, slots))
    }

    fn commit(&self, commit: &CommitId) -> Result<Option<CommitResults>, Problem> {
        Ok(self.reader.commit(commit)?)
    }

    fn resolve_prefix(&self, prefix: &str) -> Result<Resolved, Problem> {
        Ok(self.reader.resolve_prefix(prefix)?)
    }

    fn log(&self, commit: &CommitId, key: &ResultKey, kind: LogKind) -> Result<Option<LogContent>, Problem> {
        Ok(self.reader.log(commit, key, kind)?.map(LogContent::from))
    }

    fn growth(
        &self,
        commit: &CommitId,
        key: &ResultKey,
        kind: LogKind,
        offset: u64,
    ) -> Result<Option<Vec<u8>>, Problem> {
        match self.reader.log(commit, key, kind)? {
            Some(log) if log.is_live() => match log.read_live(offset, PIECE) {
                // The test finished in the meantime.
                Err(_) if self.reader.log(commit, key, kind)?.is_none_or(|log| !log.is_live()) => Ok(None),
                read => Ok(Some(read?)),
            },
            _ => Ok(None),
        }
    }

    fn artifacts(&self, commit: &CommitId, key: &ResultKey) -> Result<Vec<ArtifactRow>, Problem> {
        Ok(self.reader.artifacts(commit, key)?)
    }

    fn artifact(&self, commit: &CommitId, key: &ResultKey, name: &str) -> Result<Vec<u8>, Problem> {
        Ok(self.reader.artifact(commit, key, name)?)
    }

    fn owners(&self, results: &CommitResults) -> Result<Vec<OwnersRow>, Problem> {
        Ok(OwnersRow::of_failed(&self.reader.owners()?, &results.entries))
    }

    fn related_results(&self, commit: &CommitId) -> Result<RelatedResults, Problem> {
        Ok(RelatedResults {
            same_code: self.reader.same_code_rows(commit),
            same_patch: self.reader.same_patch(commit),
        })
    }

    fn source(&self) -> Option<&dyn Source> {
        Some(self)
    }

    fn snapshot(&self) -> Result<Option<StatusSnapshot>, Problem> {
        Ok(self.reader.snapshot()?)
    }

    fn bisections(&self) -> Result<BisectionRecords, Problem> {
        Ok(results::bisections::list(self.reader.output_dir()))
    }

    fn claims(&self) -> Result<ClaimRecords, Problem> {
        Ok(results::claims::list(self.reader.output_dir()))
    }

    fn submit(&self, kind: RequestKind) -> Result<String, Problem> {
        let output_dir = self.reader.output_dir();
        let path = requests::submit(output_dir, kind, None)
            .map_err(|reason| Problem::Request { path: output_dir.join(requests::DIRECTORY), reason })?;
        Ok(path.file_name().map(|name| name.to_string_lossy().into()).unwrap_or_default())
    }

    fn request_state(&self, file: &str) -> Result<RequestState, Problem> {
        Ok(requests::state(self.reader.output_dir(), file))
    }

    fn directory(&self) -> Option<&Path> {
        Some(self.reader.output_dir())
    }
}

/// The results of a force-push.
struct LocalPush<'a> {
    local: &'a Local,
    means: HashMap<String, Duration>,
}

impl PushResults for LocalPush<'_> {
    fn statuses(&self, commit: &CommitId) -> Option<CommitStatuses> {
        self.local.columns(commit).map(Columns::into_statuses)
    }

    fn inherited(&self, commit: &CommitId) -> usize {
        self.local.reader.inherited_tests(commit)
    }

    fn mean(&self, test: &str) -> Option<Duration> {
        self.means.get(test).copied()
    }
}

impl Source for Local {
    fn columns(&self, commit: &CommitId) -> Option<Columns> {
        let Statuses { keys_hash, statuses } = self.reader.statuses(commit).ok()??;
        let mut known = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(names) = known.get(&keys_hash) {
            let statuses = CommitStatuses { names: Arc::clone(names), statuses: statuses.into() };
            return Columns::new(statuses, self.reader.durations_at(commit).ok()??);
        }
        let columns = Columns::from(&self.reader.commit(commit).ok()??);
        known.insert(keys_hash, Arc::clone(columns.names()));
        Some(columns)
    }

    fn entry(&self, commit: &CommitId, key: &ResultKey) -> Option<TestEntry> {
        self.reader.entry(commit, key).ok()?
    }

    fn means(&self) -> Vec<TestDuration> {
        self.reader.durations().unwrap_or_default()
    }

    fn past(&self, commit: &CommitId, entry: &TestEntry) -> Vec<RecentRun> {
        self.reader.passes_before(commit, entry, PASSES_READ)
    }
}
