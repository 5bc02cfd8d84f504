//! The sources of results: a directory on this machine, or a dashboard.
//!
//! Commands use only this trait, so their output cannot depend on the source. Nothing here writes results.

mod local;
mod log;
mod remote;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;

use model::{BranchName, BranchRef, CommitId, ResultKey, StatusSnapshot, UserName};
use regress::json::{ChangesRow, CrashRow};
use regress::range_diff::RangeDiffView;
use regress::suspicious::Source;
use results::bisections::BisectionRecords;
use results::claims::ClaimRecords;
use results::findings::RecordedFinding;
use results::json::{
    ArtifactRow, BuildRow, FlakyRow, OwnersRow, SameCodeRow, SamePatchRow, SinceRow, SuspicionRow,
};
use results::requests::{RequestKind, RequestState};
use results::{BranchEntry, CommitResults, HistoryEntry, LogKind, Resolved};

pub use local::Local;
pub use log::LogContent;
pub use remote::{CommitFormat, Remote, base};

use crate::problem::Problem;
use crate::select::TestSelection;

/// Results of other commits that are no results of a commit.
#[derive(Debug, Default)]
pub struct RelatedResults {
    /// The tests of the commit that wait for an idle slot, because they ran at another commit whose kernel has the same code.
    pub same_code: Vec<SameCodeRow>,
    /// Other commits with results and the patch of the commit, on other bases.
    pub same_patch: Vec<SamePatchRow>,
}

/// Access to results.
pub trait Backend: Debug + Send + Sync {
    /// The users and their branches, both sorted.
    fn users(&self) -> Result<BTreeMap<UserName, Vec<BranchName>>, Problem>;

    /// The commits of a branch, newest first; `None` if the branch does not exist.
    fn branch(&self, at: &BranchRef) -> Result<Option<Vec<BranchEntry>>, Problem>;

    /// The commits of several branches, in the order of `names`. A listing that cannot be read is returned as empty, so
    /// that one damaged listing does not hide the others.
    fn listings(&self, names: &[BranchRef]) -> Vec<Vec<BranchEntry>> {
        names.iter().map(|at| self.branch(at).ok().flatten().unwrap_or_default()).collect()
    }

    /// Like [`Self::branch`], counting only these tests.
    fn branch_filtered(
        &self,
        at: &BranchRef,
        tests: &TestSelection,
    ) -> Result<Option<Vec<BranchEntry>>, Problem>;

    /// Whether a commit of a branch has a test configuration that this text selects; `true` if that is unknown.
    fn may_have_configuration(&self, _: &BranchRef, _wanted: &str) -> Result<bool, Problem> {
        Ok(true)
    }

    /// The builds of the commits of a branch that do not build or build again; of all tests.
    fn builds(&self, at: &BranchRef) -> Result<BTreeMap<CommitId, BuildRow>, Problem>;

    /// One test along a branch.
    fn history(&self, at: &BranchRef, key: &ResultKey) -> Result<Option<Vec<HistoryEntry>>, Problem>;

    /// The flaky tests of a branch, by name.
    fn flaky(&self, at: &BranchRef) -> Result<Vec<FlakyRow>, Problem>;

    /// The newest findings of a branch, or of all branches and of the farm.
    fn findings(&self, at: Option<&BranchRef>, limit: usize) -> Result<Vec<RecordedFinding>, Problem>;

    /// The commits of a branch that broke or fixed tests. Empty if a dashboard does not search for them.
    fn changes(&self, at: &BranchRef) -> Result<Vec<ChangesRow>, Problem>;

    /// The crashes of a branch by title.
    fn crashes(&self, at: &BranchRef) -> Result<Vec<CrashRow>, Problem>;

    /// A force-push of a branch: the newest one, or that with the old tip `of`; `None` if it is not recorded.
    fn range_diff(&self, at: &BranchRef, of: Option<&CommitId>) -> Result<Option<RangeDiffView>, Problem>;

    /// The results of a commit; `None` if there are none.
    fn commit(&self, commit: &CommitId) -> Result<Option<CommitResults>, Problem>;

    /// The commits with an id that starts with these digits.
    fn resolve_prefix(&self, prefix: &str) -> Result<Resolved, Problem>;

    /// A test's log; `None` if there is none.
    fn log(&self, commit: &CommitId, key: &ResultKey, kind: LogKind) -> Result<Option<LogContent>, Problem>;

    /// A part of the log of a running test, starting at `offset`; `None` if the log no longer grows.
    fn growth(
        &self,
        commit: &CommitId,
        key: &ResultKey,
        kind: LogKind,
        offset: u64,
    ) -> Result<Option<Vec<u8>>, Problem>;

    /// The artifacts of a test.
    fn artifacts(&self, commit: &CommitId, key: &ResultKey) -> Result<Vec<ArtifactRow>, Problem>;

    /// One artifact, as stored.
    fn artifact(&self, commit: &CommitId, key: &ResultKey, name: &str) -> Result<Vec<u8>, Problem>;

    /// The owners of the failed tests of a commit.
    fn owners(&self, results: &CommitResults) -> Result<Vec<OwnersRow>, Problem>;

    /// The suspicious passes of a commit that a dashboard found, compared with `base` or else with the commits before
    /// it. `None` if it does not search for them.
    fn suspicious(
        &self,
        base: Option<&CommitId>,
        commit: &CommitId,
    ) -> Result<Option<Vec<SuspicionRow>>, Problem> {
        let _ = (base, commit);
        Ok(None)
    }

    /// Since when the failed tests of a commit fail, as a dashboard found, on this branch or else on the first one that lists
    /// the commit. `None` if it does not search for it.
    fn since(&self, at: Option<&BranchRef>, commit: &CommitId) -> Result<Option<Vec<SinceRow>>, Problem> {
        let _ = (at, commit);
        Ok(None)
    }

    /// The results of other commits with the same code or patch.
    fn related_results(&self, commit: &CommitId) -> Result<RelatedResults, Problem>;

    /// Columns of commits and single results, if both are quick to read.
    fn source(&self) -> Option<&dyn Source> {
        None
    }

    /// The status snapshot of the daemon; `None` if no daemon has run there yet.
    fn snapshot(&self) -> Result<Option<StatusSnapshot>, Problem>;

    /// The bisections of the farm, newest first. A dashboard lists only the newest ones.
    fn bisections(&self) -> Result<BisectionRecords, Problem>;

    /// The claims of the farm, newest first. A dashboard lists only the newest ones.
    fn claims(&self) -> Result<ClaimRecords, Problem>;

    /// Requests something of the daemon. Returns the name of the request file.
    fn submit(&self, kind: RequestKind) -> Result<String, Problem>;

    /// How far the daemon is with a request.
    fn request_state(&self, file: &str) -> Result<RequestState, Problem>;

    /// Drops cached responses, so that the next read is up to date.
    fn refresh(&self) {}

    /// The directory of the results, if they are on this machine.
    fn directory(&self) -> Option<&Path> {
        None
    }
}

/// All branches, sorted.
pub fn all_branches(backend: &dyn Backend) -> Result<Vec<BranchRef>, Problem> {
    let users = backend.users()?.into_iter();
    let named = |(user, branches): (UserName, Vec<BranchName>)| {
        branches.into_iter().map(move |branch| BranchRef { user: user.clone(), branch })
    };
    Ok(users.flat_map(named).collect())
}
