//! One bisection: the search of the crate `belief`, fed with the attempts in the store. Pure.
//!
//! The record of the search has all that is needed to continue it: attempts that it has not counted are counted after a restart, and
//! runs without a result are started again.

mod follow;

use std::collections::BTreeMap;
use std::time::Duration;

use belief::Outcome;
use belief::bisect::{
    Bisection, Budget, Cost, FinishedRun, KernelState, NotSuspected, PlannedRun, Question, QuestionError,
    Suspect,
};
use model::{CommitId, KernelId, Status};
use results::bisections::{BisectionRecord, PendingRun};
use results::{Attempt, TestEntry};

/// The cost of a build.
const BUILD: Duration = Duration::from_secs(300);
/// The wall time after which a bisection ends.
const WALL: Duration = Duration::from_secs(7 * 24 * 3600);
/// The runs without a verdict after which a commit counts as one that cannot be run.
const WITHOUT_VERDICT: u32 = 3;

/// A running bisection.
#[derive(Debug, Clone)]
pub(super) struct Search {
    /// The record without what [`Bisection::record`] gives.
    record: BisectionRecord,
    bisection: Bisection,
    kernels: Vec<Kernel>,
    states: Vec<KernelState>,
    places: BTreeMap<CommitId, usize>,
    /// What the attempts at the revert show.
    revert_kernel: Kernel,
    /// The commit of which the revert was asked for.
    reverted: Option<CommitId>,
    /// The repository was asked what the suspects change.
    knows_changes: bool,
    /// The repository has no commits of the merge that is the result.
    is_without_merged: bool,
}

/// What the attempts at a commit show of its kernel.
#[derive(Debug, Clone, Default)]
struct Kernel {
    stored: Option<KernelId>,
    does_not_build: bool,
    image: Option<String>,
    /// The attempts without a verdict since the last verdict.
    without_verdict: u32,
}

impl Search {
    /// A search that has counted no attempts.
    pub(super) fn begin(record: BisectionRecord) -> Result<Self, QuestionError> {
        let kernels = vec![Kernel::default(); record.commits.len()];
        let states = states(&kernels, record.builds_kernel);
        let bisection = Bisection::new(question(&record, &states)?)?;
        Ok(Self::around(record, bisection, kernels, states))
    }

    /// Continues from a record. `entry` reads the attempts at a commit.
    pub(super) fn resume(
        record: BisectionRecord,
        entry: impl Fn(&CommitId) -> Option<TestEntry>,
    ) -> Result<Self, QuestionError> {
        let entries: Vec<Option<TestEntry>> = record.commits.iter().map(&entry).collect();
        let known = record.commits.iter().zip(&entries);
        let kernels: Vec<Kernel> =
            known.map(|(commit, entry)| Kernel::known(&record, commit, entry)).collect();
        let states = states(&kernels, record.builds_kernel);
        let bisection = Bisection::resume(question(&record, &states)?, &record.record)?;
        let mut search = Self::around(record, bisection, kernels, states);
        for entry in search.record.commits.clone().iter().zip(&entries) {
            if let (commit, Some(entry)) = entry {
                search.observe(commit, entry);
            }
        }
        if let Some(commit) = search.bisection.revert().map(|revert| revert.commit.clone()) {
            let entry = entry(&commit);
            search.revert_kernel = Kernel::known(&search.record, &commit, &entry);
            entry.iter().for_each(|entry| search.observe(&commit, entry));
        }
        Ok(search)
    }

    fn around(
        record: BisectionRecord,
        bisection: Bisection,
        kernels: Vec<Kernel>,
        states: Vec<KernelState>,
    ) -> Self {
        let places = record.commits.iter().cloned().zip(0..).collect();
        let reverted = bisection.revert().map(|revert| revert.culprit.clone());
        Self {
            record,
            bisection,
            kernels,
            states,
            places,
            revert_kernel: Kernel::default(),
            reverted,
            knows_changes: false,
            is_without_merged: false,
        }
    }

    /// What is searched. Its results are those of [`Search::record`].
    pub(super) fn asked(&self) -> &BisectionRecord {
        &self.record
    }

    /// Whether it has ended.
    pub(super) fn is_final(&self) -> bool {
        self.bisection.state().is_final()
    }

    /// The commits that are to be run.
    pub(super) fn pending(&self) -> impl Iterator<Item = &CommitId> {
        self.record.pending.iter().map(|run| &run.commit)
    }

    /// Counts the attempts at a commit that are not counted yet.
    pub(super) fn observe(&mut self, commit: &CommitId, entry: &TestEntry) {
        let Some(at) = self.places.get(commit).copied() else { return self.observe_revert(commit, entry) };
        let counted = self.record.counted.get(commit).copied().unwrap_or(0);
        for attempt in ended(entry).into_iter().filter(|attempt| attempt.number > counted) {
            self.record.counted.insert(commit.clone(), attempt.number);
            let run = self.take_pending(commit);
            let outcome = self.kernels[at].learn(attempt);
            if outcome != Outcome::NoVerdict {
                self.record.given_up.remove(commit);
            }
            self.kernels_changed(at, run.is_some());
            let added = match run {
                // Without a kernel, there was no run.
                Some(_) if self.record.builds_kernel && does_not_build(attempt) => Ok(()),
                Some(planned) => self.bisection.finished(finished(planned, outcome, attempt)),
                None => self.bisection.known([(commit, &outcome)]),
            };
            expect_listed(added);
        }
    }

    /// The farm gave up the run of a commit: there is no attempt.
    pub(super) fn gave_up(&mut self, commit: &CommitId) {
        let Some(planned) = self.take_pending(commit) else { return };
        *self.record.given_up.entry(commit.clone()).or_default() += 1;
        match self.places.get(commit).copied() {
            Some(at) => {
                self.kernels[at].without_verdict += 1;
                self.kernels_changed(at, false);
            }
            None => self.revert_kernel.without_verdict += 1,
        }
        let run = FinishedRun { planned, outcome: Outcome::NoVerdict, image: None, host: None };
        expect_listed(self.bisection.finished(run));
        self.check_revert();
    }

    /// Chooses the next runs for this number of idle slots. A search without runs has at least one. `now` in Unix seconds.
    pub(super) fn choose(&mut self, idle: usize, now: i64) {
        let elapsed = u64::try_from(now.saturating_sub(self.record.begun)).unwrap_or(0);
        self.bisection.elapsed(Duration::from_secs(elapsed));
        if self.is_final() {
            self.record.pending.clear();
            self.record.waits_for = None;
            return;
        }
        let pending = &mut self.record.pending;
        let planned = |run: &PendingRun| PlannedRun { commit: run.commit.clone(), why: run.why };
        let running: Vec<PlannedRun> = pending.iter().map(planned).collect();
        let slots = if running.is_empty() { idle.max(1) } else { idle };
        for PlannedRun { commit, why } in self.bisection.next(slots, &running) {
            // The attempts at a commit have an order.
            if !pending.iter().any(|run| run.commit == commit) {
                pending.push(PendingRun { commit, why });
            }
        }
    }

    /// Sets why nothing runs.
    pub(super) fn set_waits_for(&mut self, reason: Option<String>) {
        self.record.waits_for = reason;
    }

    /// Ends the search.
    pub(super) fn cancel(&mut self) {
        self.bisection.cancel();
    }

    /// The record, as it is written.
    pub(super) fn record(&self) -> BisectionRecord {
        BisectionRecord { record: self.bisection.record(&self.record.record.id), ..self.record.clone() }
    }

    fn take_pending(&mut self, commit: &CommitId) -> Option<PlannedRun> {
        let at = self.record.pending.iter().position(|run| run.commit == *commit)?;
        let PendingRun { commit, why } = self.record.pending.remove(at);
        Some(PlannedRun { commit, why })
    }

    /// Tells the search what an attempt showed of the kernel of a commit, and of its child.
    fn kernels_changed(&mut self, at: usize, paid: bool) {
        for at in at..self.kernels.len().min(at + 2) {
            let (state, was) = (state(&self.kernels, at, self.record.builds_kernel), self.states[at]);
            if state == was {
                continue;
            }
            self.states[at] = state;
            let commit = &self.record.commits[at];
            expect_listed(if paid && was == KernelState::ToBuild {
                self.bisection.built(commit, state)
            } else {
                self.bisection.kernel(commit, state)
            });
        }
    }
}

impl Kernel {
    /// What the counted attempts at a commit show.
    fn known(record: &BisectionRecord, commit: &CommitId, entry: &Option<TestEntry>) -> Self {
        let mut kernel = Self::default();
        let counted = record.counted.get(commit).copied().unwrap_or(0);
        let known = entry.iter().flat_map(ended).filter(|attempt| attempt.number <= counted);
        known.for_each(|attempt| drop(kernel.learn(attempt)));
        kernel.without_verdict += record.given_up.get(commit).copied().unwrap_or(0);
        kernel
    }

    /// Whether the commit cannot be run.
    fn is_unusable(&self, builds_kernel: bool) -> bool {
        let unbuildable = builds_kernel && self.does_not_build && self.stored.is_none();
        unbuildable || self.without_verdict >= WITHOUT_VERDICT
    }

    /// Learns from an attempt, and returns its outcome.
    fn learn(&mut self, attempt: &Attempt) -> Outcome {
        self.stored = attempt.kernel.clone().or(self.stored.take());
        self.does_not_build |= does_not_build(attempt);
        if let Some(image) = &attempt.image_hash {
            self.image = Some(image.to_string());
        }
        let outcome = Outcome::of(attempt.status, attempt.reason.as_deref(), attempt.crash.as_deref());
        self.without_verdict = if outcome == Outcome::NoVerdict { self.without_verdict + 1 } else { 0 };
        outcome
    }
}

fn finished(planned: PlannedRun, outcome: Outcome, attempt: &Attempt) -> FinishedRun {
    let image = attempt.image_hash.as_deref().map(str::to_owned);
    FinishedRun { planned, outcome, image, host: attempt.host.clone() }
}

fn does_not_build(attempt: &Attempt) -> bool {
    attempt.status == Status::FailedToRun && attempt.kernel.is_none()
}

/// The attempts of a test that have ended, in their order.
fn ended(entry: &TestEntry) -> Vec<&Attempt> {
    let all = std::iter::once(&entry.decisive).chain(&entry.others);
    let mut ended: Vec<&Attempt> = all.filter(|attempt| attempt.status.is_final()).collect();
    ended.sort_by_key(|attempt| attempt.number);
    ended
}

fn states(kernels: &[Kernel], builds_kernel: bool) -> Vec<KernelState> {
    (0..kernels.len()).map(|at| state(kernels, at, builds_kernel)).collect()
}

fn state(kernels: &[Kernel], at: usize, builds_kernel: bool) -> KernelState {
    let kernel = &kernels[at];
    if kernel.is_unusable(builds_kernel) {
        return KernelState::DoesNotBuild;
    }
    if !builds_kernel {
        return KernelState::Stored;
    }
    let parent = at.checked_sub(1).and_then(|parent| kernels[parent].image.as_ref());
    match (&kernel.image, parent) {
        (Some(image), Some(parent)) if image == parent => KernelState::SameAsParent,
        _ if kernel.stored.is_some() => KernelState::Stored,
        _ => KernelState::ToBuild,
    }
}

/// The question of a record. `kernels` are those that are known.
fn question(record: &BisectionRecord, kernels: &[KernelState]) -> Result<Question, QuestionError> {
    let suspect = |(commit, kernel): (&CommitId, &KernelState)| Suspect {
        kernel: *kernel,
        second_parent: record.merges.get(commit).cloned(),
        ..Suspect::new(commit.clone())
    };
    let mut suspects = record.commits.iter().zip(kernels).map(suspect);
    let base = suspects.next().ok_or(QuestionError::NoSuspects)?;
    let suspects: Vec<Suspect> = suspects.collect();
    let run = Duration::try_from_secs_f64(record.run_s).unwrap_or_default();
    let budget = Budget::usual(suspects.len(), WALL);
    Ok(Question {
        test: record.record.test.clone(),
        signature: record.record.signature.clone(),
        base,
        suspects,
        earlier: record.record.earlier,
        cost: Cost { run: run.max(Duration::from_secs(1)), build: BUILD },
        budget,
    })
}

/// All commits of the record are in the question.
fn expect_listed(result: Result<(), NotSuspected>) {
    if let Err(error) = result {
        tracing::error!("{error}");
    }
}
