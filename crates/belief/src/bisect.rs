//! The first bad commit: a search that a farm and a command drive alike.
//!
//! A [`Bisection`] is plain data. The caller adds verdicts, asks for the next runs, and executes them; nothing here executes,
//! waits or reads a clock. The same verdicts in the same order give the same answers.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use model::{CommitId, HostName};

use crate::observation::Outcome;
use crate::stats::{Tally, short};

mod conclude;
mod grid;
mod merge;
mod posterior;
mod question;
mod record;
mod revert;
mod select;
mod verify;
mod words;

pub use question::{Budget, Change, Cost, KernelState, NotSuspected, Question, QuestionError, Suspect};
pub use record::{Arm, CommitRange, Limit, Rates, Record, Revert, State, Step, Suspicion, Verification, Why};
pub use verify::verification_runs;

use posterior::{History, Posterior};
use select::RunCost;
use verify::Verifying;

/// A run to execute.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedRun {
    /// The commit.
    pub commit: CommitId,
    /// Why. The runs of a verification need fresh VMs on hosts of one class.
    pub why: Why,
}

/// A run that was executed.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishedRun {
    /// The run.
    pub planned: PlannedRun,
    /// Its outcome.
    pub outcome: Outcome,
    /// The kernel image, if known.
    pub image: Option<String>,
    /// The host, if known.
    pub host: Option<HostName>,
}

/// A search for the first bad commit.
#[derive(Debug, Clone)]
pub struct Bisection {
    question: Question,
    positions: HashMap<CommitId, usize>,
    /// The observations at each position: up to the base, then at the suspects.
    tallies: Vec<Tally>,
    steps: Vec<Step>,
    phase: Phase,
    /// The verification that did not confirm its result.
    unconfirmed: Option<Verifying>,
    verifications: u32,
    /// The verifications did not confirm the result.
    gave_up: bool,
    last_verification: Option<Verification>,
    revert: Option<Revert>,
    /// The searches that found the merges in which this one continues.
    outer: Vec<Record>,
    runs: u32,
    selected_runs: u32,
    builds: u32,
    wall: Duration,
}

#[derive(Debug, Clone)]
enum Phase {
    Searching,
    Verifying(Verifying),
    Ended(State),
}

impl Bisection {
    /// A search without observations.
    pub fn new(question: Question) -> Result<Self, QuestionError> {
        if question.suspects.is_empty() {
            return Err(QuestionError::NoSuspects);
        }
        if question.base.kernel == KernelState::SameAsParent {
            return Err(QuestionError::Base(question.base.commit));
        }
        let mut positions = HashMap::with_capacity(question.suspects.len() + 1);
        for (at, suspect) in std::iter::once(&question.base).chain(&question.suspects).enumerate() {
            if positions.insert(suspect.commit.clone(), at).is_some() {
                return Err(QuestionError::Duplicate(suspect.commit.clone()));
            }
        }
        let mut tallies = vec![Tally::default(); positions.len()];
        tallies[0] = question.earlier;
        let mut bisection = Self {
            question,
            positions,
            tallies,
            steps: Vec::new(),
            phase: Phase::Searching,
            unconfirmed: None,
            verifications: 0,
            gave_up: false,
            last_verification: None,
            revert: None,
            outer: Vec::new(),
            runs: 0,
            selected_runs: 0,
            builds: 0,
            wall: Duration::ZERO,
        };
        bisection.evaluate();
        Ok(bisection)
    }

    /// Continues a bisection from its record: the question with the kernels that are known now, and the runs of the record.
    pub fn resume(question: Question, record: &Record) -> Result<Self, QuestionError> {
        let mut bisection = Self::new(question)?;
        bisection.outer.clone_from(&record.outer);
        bisection.revert.clone_from(&record.revert);
        for step in &record.steps {
            bisection.apply(step.clone());
        }
        // The budget is that of all steps: it must not end the search after the first one.
        bisection.builds = record.builds;
        bisection.wall = Duration::try_from_secs_f64(record.wall_s).unwrap_or_default();
        bisection.evaluate();
        if record.state == State::Cancelled {
            bisection.cancel();
        }
        Ok(bisection)
    }

    /// Adds verdicts that exist already. They are the first evidence, and are not run again.
    pub fn known<'a>(
        &mut self,
        verdicts: impl IntoIterator<Item = (&'a CommitId, &'a Outcome)>,
    ) -> Result<(), NotSuspected> {
        for (commit, outcome) in verdicts {
            let at = self.position(commit)?;
            let step = self.step(PlannedRun { commit: commit.clone(), why: Why::Known }, outcome);
            self.tallies[at] += step.tally();
            self.add_step(step);
        }
        self.evaluate();
        Ok(())
    }

    /// Adds the result of a build that the bisection paid for.
    pub fn built(&mut self, commit: &CommitId, kernel: KernelState) -> Result<(), NotSuspected> {
        self.builds = self.builds.saturating_add(1);
        self.kernel(commit, kernel)
    }

    /// Sets what is known of the kernel of a commit, without a build.
    pub fn kernel(&mut self, commit: &CommitId, kernel: KernelState) -> Result<(), NotSuspected> {
        let at = self.position(commit)?;
        if at == 0 && kernel == KernelState::SameAsParent {
            return Err(NotSuspected(commit.clone()));
        }
        let suspect = self.suspect_mut(at);
        suspect.kernel = kernel;
        if kernel == KernelState::SameAsParent {
            // The kernel that was built is also the parent's.
            let parent = self.same_image(at);
            if self.suspect(parent).kernel == KernelState::ToBuild {
                self.suspect_mut(parent).kernel = KernelState::Stored;
            }
        }
        self.kernel_changed(at);
        Ok(())
    }

    /// Adds what is known of the change of a commit.
    pub fn changes(&mut self, commit: &CommitId, change: Change) -> Result<(), NotSuspected> {
        let at = self.position(commit)?;
        let suspect = self.suspect_mut(at);
        suspect.change = suspect.change.and(change);
        Ok(())
    }

    /// Adds that the test passes at another commit with the patch of this one.
    pub fn passes_on_other_base(&mut self, commit: &CommitId) -> Result<(), NotSuspected> {
        let at = self.position(commit)?;
        self.suspect_mut(at).passes_on_other_base = true;
        Ok(())
    }

    /// Adds the result of a run. A run of a commit that is not part of the bisection is refused.
    pub fn finished(&mut self, run: FinishedRun) -> Result<(), NotSuspected> {
        if run.planned.why != Why::Verification(Arm::Revert) {
            self.position(&run.planned.commit)?;
        }
        let mut step = self.step(run.planned, &run.outcome);
        step.image = run.image;
        step.host = run.host;
        self.apply(step);
        Ok(())
    }

    /// Sets the wall time since the begin of the bisection.
    pub fn elapsed(&mut self, wall: Duration) {
        self.wall = wall;
        self.evaluate();
    }

    /// Ends the bisection, unless it has a result.
    pub fn cancel(&mut self) {
        if !self.state().is_final() {
            self.phase = Phase::Ended(State::Cancelled);
        }
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> State {
        match &self.phase {
            Phase::Ended(state) => state.clone(),
            Phase::Searching | Phase::Verifying(_) => State::Running,
        }
    }

    /// The question.
    #[must_use]
    pub fn question(&self) -> &Question {
        &self.question
    }

    /// The commit that is being verified.
    #[must_use]
    pub fn verifying(&self) -> Option<&CommitId> {
        match &self.phase {
            Phase::Verifying(verifying) => Some(&self.suspect(*verifying.class.end()).commit),
            Phase::Searching | Phase::Ended(_) => None,
        }
    }

    /// The runs to start on this many idle slots, while others are running. Empty if nothing is to be started now.
    #[must_use]
    pub fn next(&self, idle_slots: usize, running: &[PlannedRun]) -> Vec<PlannedRun> {
        match &self.phase {
            Phase::Ended(_) => Vec::new(),
            Phase::Verifying(verifying) => self.next_of_verification(verifying, idle_slots, running),
            Phase::Searching => self.next_of_search(idle_slots, running),
        }
    }

    fn next_of_search(&self, idle_slots: usize, running: &[PlannedRun]) -> Vec<PlannedRun> {
        let mut weighted = self.posterior();
        weighted.weigh(&self.prior(Suspect::weight), self.question.no_culprit());
        let build: Vec<Option<bool>> = (0..self.tallies.len()).map(|at| self.must_build(at)).collect();
        let running: Vec<usize> =
            running.iter().filter_map(|run| self.positions.get(&run.commit).copied()).collect();
        let left = self.question.budget.runs.saturating_sub(self.selected_runs) as usize;
        let slots = idle_slots.min(left.saturating_sub(running.len()));
        let cost = self.question.cost;
        let cost = RunCost { run: cost.run.as_secs_f64().max(1e-3), build: cost.build.as_secs_f64() };
        let picks = select::picks(&weighted, &build, &running, slots, cost);
        let planned = |pick: select::Pick| PlannedRun {
            commit: self.suspect(pick.position).commit.clone(),
            why: Why::Selected { gain_bits: short(pick.gain), cost_s: short(pick.cost) },
        };
        picks.into_iter().map(planned).collect()
    }

    /// Runs of the arms in turns: the arm with the most missing runs is next.
    fn next_of_verification(
        &self,
        verifying: &Verifying,
        idle_slots: usize,
        running: &[PlannedRun],
    ) -> Vec<PlannedRun> {
        let commit = |arm| match arm {
            Arm::Culprit => Some(&self.suspect(verifying.culprit).commit),
            Arm::Parent => Some(&self.suspect(verifying.parent).commit),
            Arm::Revert => self.revert.as_ref().map(|revert| &revert.commit),
        };
        let pending = |arm, planned: &[PlannedRun]| {
            let of_arm = |run: &&PlannedRun| run.why == Why::Verification(arm);
            let count = running.iter().chain(planned).filter(of_arm).count();
            verifying.missing(arm).saturating_sub(u32::try_from(count).unwrap_or(u32::MAX))
        };
        let mut planned: Vec<PlannedRun> = Vec::new();
        while planned.len() < idle_slots {
            let arms = verifying.arms().iter().rev();
            let Some(arm) = arms.copied().max_by_key(|arm| pending(*arm, &planned)) else { break };
            let (true, Some(commit)) = (pending(arm, &planned) > 0, commit(arm)) else { break };
            planned.push(PlannedRun { commit: commit.clone(), why: Why::Verification(arm) });
        }
        planned
    }

    fn position(&self, commit: &CommitId) -> Result<usize, NotSuspected> {
        self.positions.get(commit).copied().ok_or_else(|| NotSuspected(commit.clone()))
    }

    fn suspect(&self, at: usize) -> &Suspect {
        match at {
            0 => &self.question.base,
            at => &self.question.suspects[at - 1],
        }
    }

    fn suspect_mut(&mut self, at: usize) -> &mut Suspect {
        match at {
            0 => &mut self.question.base,
            at => &mut self.question.suspects[at - 1],
        }
    }

    /// The oldest position with the same kernel.
    fn same_image(&self, at: usize) -> usize {
        (0..=at).rev().find(|at| self.has_own_kernel(*at)).unwrap_or(0)
    }

    /// Whether the kernel differs from that of the parent.
    fn has_own_kernel(&self, at: usize) -> bool {
        self.suspect(at).kernel != KernelState::SameAsParent
    }

    /// Whether a run must build the kernel first; `None` if the position cannot be run, or has the kernel of its parent.
    fn must_build(&self, at: usize) -> Option<bool> {
        match self.suspect(at).kernel {
            KernelState::ToBuild => Some(true),
            KernelState::Stored => Some(false),
            KernelState::DoesNotBuild | KernelState::SameAsParent => None,
        }
    }

    fn prior(&self, weight: impl Fn(&Suspect) -> f64) -> Vec<f64> {
        let prior = |suspect: &Suspect| match suspect.kernel {
            KernelState::SameAsParent => 0.0,
            _ => weight(suspect),
        };
        std::iter::once(0.0).chain(self.question.suspects.iter().map(prior)).collect()
    }

    fn posterior(&self) -> Posterior {
        let mut tallies = vec![Tally::default(); self.tallies.len()];
        for (at, tally) in self.tallies.iter().enumerate() {
            tallies[self.same_image(at)] += *tally;
        }
        Posterior::new(&History {
            tallies,
            prior: self.prior(|_| 1.0),
            no_culprit: self.question.no_culprit(),
        })
    }

    /// The probability of each suspect, from oldest to newest, and that of "no culprit".
    #[must_use]
    pub fn probabilities(&self) -> (Vec<Suspicion>, f64) {
        let posterior = self.posterior();
        let suspicion = |at: usize| Suspicion {
            commit: self.suspect(at).commit.clone(),
            probability: posterior.culprit[at],
        };
        ((1..self.tallies.len()).map(suspicion).collect(), posterior.none)
    }

    /// The commits that cannot be told apart: those after one that can be run, up to the next one that can be run.
    fn classes(&self) -> Vec<(RangeInclusive<usize>, usize, usize)> {
        let testable: Vec<usize> =
            (0..self.tallies.len()).filter(|at| self.must_build(*at).is_some()).collect();
        let class = |pair: &[usize]| {
            let (parent, culprit) = (pair[0], pair[1]);
            let first = (parent + 1..=culprit).find(|at| self.has_own_kernel(*at))?;
            Some((first..=culprit, culprit, parent))
        };
        testable.windows(2).filter_map(class).collect()
    }
}
