//! The search: what runs, and what is learnt from it.

mod follow;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use belief::bisect::{
    Arm, Bisection, Budget, Change, Cost, FinishedRun, KernelState, NotSuspected, Question, QuestionError,
    Record, Why,
};
use belief::{Outcome, Signature, Tally};
use gitio::{CommitInfo, GitError, Repo};
use model::{CommitId, ResultKey};

use super::commits::{of_merge, suspect};
use super::record_file::RecordFile;
use crate::run::RunError;

/// The runs without a verdict after which a commit counts as one that cannot be run.
const WITHOUT_VERDICT: u32 = 3;
/// The cost of a build before one was measured.
const BUILD: Duration = Duration::from_secs(300);

/// Runs the subtest on a commit.
pub(crate) trait Lab {
    /// Builds the commit and runs the subtest once, in a new VM.
    async fn run(&mut self, commit: &CommitId) -> Result<Ran, RunError>;
}

/// What the run of a commit gave.
#[derive(Debug, Clone)]
pub(crate) enum Ran {
    /// The kernel does not build.
    DoesNotBuild(String),
    /// The kernel was built or found, and the subtest ran.
    Tested(Tested),
}

/// A run of the subtest.
#[derive(Debug, Clone)]
pub(crate) struct Tested {
    /// The outcome.
    pub(crate) outcome: Outcome,
    /// The reason, unless it passed.
    pub(crate) reason: Option<String>,
    /// The content of the kernel: equal for commits with the same kernel.
    pub(crate) kernel: String,
    /// The time of the build; `None` if the kernel was in the store.
    pub(crate) built: Option<Duration>,
    /// The time of the run.
    pub(crate) took: Duration,
}

/// Why a search ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SearchError {
    /// The run of a commit failed for a reason that is not the commit's.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The head cannot be tested, or does not fail.
    #[error("{0}")]
    Head(String),
    /// There is no question.
    #[error(transparent)]
    Question(#[from] QuestionError),
    /// A commit that is not part of the search.
    #[error(transparent)]
    Commit(#[from] NotSuspected),
    /// The repository cannot be read.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The record cannot be written.
    #[error(transparent)]
    Record(#[from] fsx::Error),
}

/// A search for the first bad commit.
#[derive(Debug)]
pub(crate) struct Search {
    bisection: Bisection,
    commits: Vec<CommitInfo>,
    file: RecordFile,
    kernels: HashMap<CommitId, String>,
    without_verdict: HashMap<CommitId, u32>,
    began: Instant,
    earlier: Duration,
    /// The repository with the commits, and the newest of them.
    reverts: Option<(Repo, CommitId)>,
    /// The commit of which a revert was tried.
    reverted: Option<CommitId>,
}

/// The failure at the head, and what its runs showed.
pub(crate) struct Reproduced {
    pub(crate) signature: Signature,
    pub(crate) runs: Vec<Tested>,
}

/// Runs the head until it fails, at most `attempts` times. `said` is called after each run.
pub(crate) async fn reproduce<L: Lab>(
    lab: &mut L,
    head: &CommitId,
    attempts: u32,
    mut said: impl FnMut(&Tested),
) -> Result<Reproduced, SearchError> {
    let mut runs = Vec::new();
    for _ in 0..attempts {
        let tested = match lab.run(head).await? {
            Ran::Tested(tested) => tested,
            Ran::DoesNotBuild(reason) => {
                return Err(SearchError::Head(format!("the head does not build: {reason}")));
            }
        };
        said(&tested);
        let signature = tested.outcome.signature().cloned();
        if tested.outcome == Outcome::NoVerdict {
            let why = tested.reason.unwrap_or_default();
            return Err(SearchError::Head(format!("the head has no verdict: {why}")));
        }
        runs.push(tested);
        if let Some(signature) = signature {
            return Ok(Reproduced { signature, runs });
        }
    }
    Err(SearchError::Head(format!(
        "the subtest passed in {attempts} runs of the head; if it fails more rarely, use a larger --attempts"
    )))
}

impl Search {
    /// A search for a failure, between the first commit and the last one. `found` are the runs of the last one.
    pub(crate) fn new(
        test: &ResultKey,
        failure: Reproduced,
        commits: Vec<CommitInfo>,
        file: RecordFile,
    ) -> Result<Self, SearchError> {
        let Reproduced { signature, runs } = failure;
        let head = commits.last().map(|commit| commit.id.clone());
        let bisection = Bisection::new(question(test, signature, &commits, &runs, Tally::default())?)?;
        let mut search = Self::around(bisection, commits, file, Duration::ZERO);
        if let Some(head) = head {
            search.bisection.known(runs.iter().map(|run| (&head, &run.outcome)))?;
            for run in &runs {
                search.kernel_of(&head, run)?;
            }
        }
        Ok(search)
    }

    /// Continues an interrupted search. `commits` are those of the range.
    pub(crate) fn resume(
        record: &Record,
        repo: &Repo,
        commits: Vec<CommitInfo>,
        file: RecordFile,
    ) -> Result<Self, SearchError> {
        let of_merge = record.merge().map(|merge| of_merge(repo, &record.base, merge)).transpose()?.flatten();
        let is_of_merge = of_merge.is_some();
        let commits = of_merge.unwrap_or(commits);
        let mut question = question(&record.test, record.signature.clone(), &commits, &[], record.earlier)?;
        if let Some(merge) = question.suspects.last_mut().filter(|_| is_of_merge) {
            merge.second_parent = None;
        }
        let earlier = Duration::try_from_secs_f64(record.wall_s).unwrap_or_default();
        let bisection = Bisection::resume(question, record)?;
        let mut search = Self::around(bisection, commits, file, earlier);
        search.reverted = record.revert.as_ref().map(|revert| revert.culprit.clone());
        for step in record.outer.iter().chain([record]).flat_map(|record| &record.steps) {
            let is_listed = search.commits.iter().any(|commit| commit.id == step.commit);
            if let Some(kernel) = step.image.as_ref().filter(|_| is_listed) {
                search.learn_kernel(&step.commit, kernel)?;
            }
        }
        Ok(search)
    }

    fn around(bisection: Bisection, commits: Vec<CommitInfo>, file: RecordFile, earlier: Duration) -> Self {
        Self {
            bisection,
            commits,
            file,
            kernels: HashMap::new(),
            without_verdict: HashMap::new(),
            began: Instant::now(),
            earlier,
            reverts: None,
            reverted: None,
        }
    }

    /// The bisection.
    pub(crate) fn bisection(&self) -> &Bisection {
        &self.bisection
    }

    /// The base and the suspects.
    pub(crate) fn commits(&self) -> &[CommitInfo] {
        &self.commits
    }

    /// Records what a commit changes.
    pub(crate) fn set_change(&mut self, commit: &CommitId, change: Change) {
        if let Err(error) = self.bisection.changes(commit, change) {
            tracing::error!("{error}");
        }
    }

    /// The file of the record.
    pub(crate) fn file(&self) -> &RecordFile {
        &self.file
    }

    /// Executes the next run. False if the search has ended. `said` is called when the commit is known, and after the run.
    pub(crate) async fn step<L: Lab>(
        &mut self,
        lab: &mut L,
        mut said: impl FnMut(&Self, &CommitId, Option<&Ran>),
    ) -> Result<bool, SearchError> {
        self.bisection.elapsed(self.earlier + self.began.elapsed());
        self.revert().await;
        let Some(planned) = self.bisection.next(1, &[]).into_iter().next() else { return Ok(false) };
        let commit = planned.commit.clone();
        said(self, &commit, None);
        let ran = lab.run(&commit).await?;
        let is_revert = planned.why == Why::Verification(Arm::Revert);
        match &ran {
            Ran::DoesNotBuild(_) if is_revert => self.bisection.drop_revert(),
            Ran::DoesNotBuild(_) => self.bisection.built(&commit, KernelState::DoesNotBuild)?,
            Ran::Tested(tested) => {
                if !is_revert {
                    self.kernel_of(&commit, tested)?;
                }
                self.bisection.finished(FinishedRun {
                    planned,
                    outcome: tested.outcome.clone(),
                    image: Some(tested.kernel.clone()),
                    host: None,
                })?;
                self.count_without_verdict(&commit, &tested.outcome, is_revert)?;
            }
        }
        said(self, &commit, Some(&ran));
        self.file.write(&self.bisection.record(self.file.id()))?;
        Ok(!self.bisection.state().is_final())
    }

    /// A commit that never gives a verdict is left out, as one that does not build.
    fn count_without_verdict(
        &mut self,
        commit: &CommitId,
        outcome: &Outcome,
        is_revert: bool,
    ) -> Result<(), NotSuspected> {
        if *outcome != Outcome::NoVerdict {
            self.without_verdict.remove(commit);
            return Ok(());
        }
        let count = self.without_verdict.entry(commit.clone()).or_default();
        *count += 1;
        if *count >= WITHOUT_VERDICT {
            if is_revert {
                self.bisection.drop_revert();
                return Ok(());
            }
            return self.bisection.kernel(commit, KernelState::DoesNotBuild);
        }
        Ok(())
    }

    /// Learns from a run that the kernel is in the store, and with which neighbors the commit shares it.
    fn kernel_of(&mut self, commit: &CommitId, tested: &Tested) -> Result<(), NotSuspected> {
        if tested.built.is_some() && !self.kernels.contains_key(commit) {
            self.bisection.built(commit, KernelState::Stored)?;
        }
        self.learn_kernel(commit, &tested.kernel)
    }

    fn learn_kernel(&mut self, commit: &CommitId, kernel: &str) -> Result<(), NotSuspected> {
        if self.kernels.insert(commit.clone(), kernel.to_owned()).is_some() {
            return Ok(());
        }
        self.bisection.kernel(commit, KernelState::Stored)?;
        let Some(at) = self.commits.iter().position(|other| other.id == *commit) else { return Ok(()) };
        // The commit and its parent, then its child and the commit.
        for at in [at, at + 1] {
            let (Some(parent), Some(child)) = (at.checked_sub(1), self.commits.get(at)) else { continue };
            let (parent, child) = (self.commits[parent].id.clone(), child.id.clone());
            let same = |id: &CommitId| self.kernels.get(id).is_some_and(|other| other == kernel);
            if same(&parent) && same(&child) {
                self.bisection.kernel(&child, KernelState::SameAsParent)?;
            }
        }
        Ok(())
    }
}

/// The question. The costs are those of the runs so far.
fn question(
    test: &ResultKey,
    signature: Signature,
    commits: &[CommitInfo],
    runs: &[Tested],
    earlier: Tally,
) -> Result<Question, QuestionError> {
    let count = u32::try_from(runs.len()).unwrap_or(u32::MAX).max(1);
    let run = runs.iter().map(|run| run.took).sum::<Duration>() / count;
    let build = runs.iter().find_map(|run| run.built).unwrap_or(BUILD);
    let (base, suspects) = commits.split_first().ok_or(QuestionError::NoSuspects)?;
    Ok(Question {
        test: test.clone(),
        signature,
        base: suspect(base),
        suspects: suspects.iter().map(suspect).collect(),
        earlier,
        cost: Cost { run: run.max(Duration::from_secs(1)), build },
        budget: Budget::usual(suspects.len(), Duration::MAX),
    })
}

#[cfg(test)]
mod tests;
