//! When a bisection ends, and what it concludes.

use std::ops::RangeInclusive;

use super::posterior::Posterior;
use super::record::{Arm, CommitRange, Limit, Rates, Record, State, Step, Suspicion, Why};
use super::verify::{Verifying, verification_runs};
use super::{Bisection, Phase, PlannedRun};
use crate::observation::Outcome;
use crate::stats::{Tally, short};

/// The posterior at which the search stops.
pub(super) const STOP: f64 = 0.99;
/// The mass of the range that a search reports at the end of its budget.
const RANGE_MASS: f64 = 0.95;
/// A result that is not confirmed is verified again, with twice the runs, if the search still finds it. After this many runs of each
/// commit, and after this many verifications in total, the bisection gives up.
const VERIFICATION_RUNS: u32 = 240;
const VERIFICATIONS: u32 = 8;
/// The number of suspects in a record.
const TOP: usize = 20;

impl Bisection {
    pub(super) fn step(&self, planned: PlannedRun, outcome: &Outcome) -> Step {
        let target = Some(&self.question.signature);
        let failed = outcome.signature().is_some();
        let fails = failed && outcome.signature() == target;
        Step {
            commit: planned.commit,
            runs: 1,
            fails: fails.into(),
            other: (failed && !fails).into(),
            passes: (*outcome == Outcome::Passed).into(),
            image: None,
            host: None,
            why: planned.why,
        }
    }

    /// Adds a step to the previous one if it continues it.
    pub(super) fn add_step(&mut self, step: Step) {
        let same_why = |one: Why, other: Why| match (one, other) {
            (Why::Verification(one), Why::Verification(other)) => one == other,
            (one, other) => std::mem::discriminant(&one) == std::mem::discriminant(&other),
        };
        match self.steps.last_mut() {
            Some(last)
                if last.commit == step.commit && last.host == step.host && same_why(last.why, step.why) =>
            {
                last.runs += step.runs;
                last.fails += step.fails;
                last.other += step.other;
                last.passes += step.passes;
                if step.image.is_some() {
                    last.image = step.image;
                }
            }
            _ => self.steps.push(step),
        }
    }

    /// Counts a step, and evaluates what is known after it.
    pub(super) fn apply(&mut self, step: Step) {
        let tally = step.tally();
        let position = self.positions.get(&step.commit).copied();
        if step.why != Why::Known {
            self.runs += step.runs;
        }
        match (step.why, &mut self.phase) {
            (Why::Verification(arm), Phase::Verifying(verifying)) => {
                verifying.tallies[arm as usize] += tally;
                verifying.wasted += step.runs - tally.attempts();
            }
            // A late run of a verification that has ended, and all others.
            (why, _) => {
                if matches!(why, Why::Selected { .. }) {
                    self.selected_runs += step.runs;
                }
                if let Some(at) = position {
                    self.tallies[at] += tally;
                }
            }
        }
        self.add_step(step);
        self.evaluate();
    }

    /// Draws the conclusions of what is known.
    pub(super) fn evaluate(&mut self) {
        if let Phase::Verifying(verifying) = &self.phase {
            let (complete, wasted) = (verifying.is_complete(), verifying.wasted > 2 * verifying.runs_each);
            if complete || wasted {
                self.end_verification();
            }
        }
        if !matches!(self.phase, Phase::Searching) {
            return;
        }
        let posterior = self.posterior();
        if posterior.none >= STOP {
            let all: Tally = self.tallies.iter().copied().sum();
            self.phase = Phase::Ended(State::NotConfirmed { rate: all.rate().short() });
            return;
        }
        let mass = |class: &RangeInclusive<usize>| posterior.culprit[class.clone()].iter().sum::<f64>();
        let found = self.classes().into_iter().find(|(class, ..)| mass(class) >= STOP);
        if let Some((class, culprit, parent)) = found {
            let rate = posterior.new_rate(class.clone());
            self.begin_verification(class, culprit, parent, rate);
        } else if let Some(limit) = self.limit() {
            self.out_of_budget(&posterior, limit);
        }
    }

    /// A range of one commit, or of commits that cannot be told apart, is verified. Others are the result.
    fn out_of_budget(&mut self, posterior: &Posterior, limit: Limit) {
        let within = |class: &RangeInclusive<usize>, range: &RangeInclusive<usize>| {
            class.contains(range.start()) && class.contains(range.end())
        };
        let range = posterior.range(RANGE_MASS);
        let found =
            range.and_then(|range| self.classes().into_iter().find(|(class, ..)| within(class, &range)));
        match found {
            Some((class, culprit, parent)) if limit != Limit::NothingToRun && !self.gave_up => {
                let rate = posterior.new_rate(class.clone());
                self.begin_verification(class, culprit, parent, rate);
            }
            _ => self.phase = Phase::Ended(self.give_up(posterior, limit)),
        }
    }

    /// The limit that is reached.
    fn limit(&self) -> Option<Limit> {
        let budget = self.question.budget;
        if self.selected_runs >= budget.runs {
            Some(Limit::Runs)
        } else if self.builds >= budget.builds {
            Some(Limit::Builds)
        } else if self.wall >= budget.wall {
            Some(Limit::WallTime)
        } else if (0..self.tallies.len()).all(|at| self.must_build(at).is_none()) {
            Some(Limit::NothingToRun)
        } else {
            None
        }
    }

    /// The range that most probably has the culprit, if all suspects together have enough mass.
    fn give_up(&self, posterior: &Posterior, because: Limit) -> State {
        match posterior.range(RANGE_MASS) {
            Some(range) if because != Limit::NothingToRun => {
                State::Range { range: self.commit_range(&range), because }
            }
            _ => State::Unresolved { because },
        }
    }

    fn commit_range(&self, range: &RangeInclusive<usize>) -> CommitRange {
        // The base has no mass.
        let oldest = (*range.start()).max(1);
        CommitRange {
            oldest: self.suspect(oldest).commit.clone(),
            newest: self.suspect(*range.end()).commit.clone(),
            commits: range.end() + 1 - oldest,
        }
    }

    fn begin_verification(&mut self, class: RangeInclusive<usize>, culprit: usize, parent: usize, rate: f64) {
        let with_revert = self.has_revert_of(*class.end());
        let mut verifying = match self.unconfirmed.take() {
            // The runs of an earlier verification of the same result count.
            Some(earlier) if earlier.culprit == culprit && earlier.parent == parent => earlier,
            _ => Verifying {
                class: class.clone(),
                with_revert,
                culprit,
                parent,
                runs_each: 0,
                wasted: 0,
                tallies: [Tally::default(); 3],
                counted: [Tally::default(); 3],
            },
        };
        verifying.class = class;
        verifying.with_revert = with_revert;
        verifying.runs_each += verification_runs(rate).max(verifying.runs_each);
        self.verifications += 1;
        self.phase = Phase::Verifying(verifying);
    }

    fn end_verification(&mut self) {
        let Phase::Verifying(verifying) = std::mem::replace(&mut self.phase, Phase::Searching) else {
            return;
        };
        let result = verifying.result();
        self.last_verification = Some(result);
        if result.confirmed {
            self.phase = Phase::Ended(self.confirmed(&verifying));
            return;
        }
        self.gave_up = self.verifications >= VERIFICATIONS
            || verifying.runs_each >= VERIFICATION_RUNS
            || !verifying.is_complete();
        self.return_to_search(verifying);
        if self.gave_up && self.limit().is_none() {
            self.phase = Phase::Ended(State::Unresolved { because: Limit::Verification });
        }
    }

    /// The runs of a verification without a result are evidence like others.
    fn return_to_search(&mut self, mut verifying: Verifying) {
        for (at, arm) in [(verifying.culprit, Arm::Culprit), (verifying.parent, Arm::Parent)] {
            let (tally, counted) = (verifying.tallies[arm as usize], verifying.counted[arm as usize]);
            self.tallies[at] += Tally::new(tally.failures - counted.failures, tally.passes - counted.passes);
        }
        verifying.counted = verifying.tallies;
        self.unconfirmed = Some(verifying);
    }

    /// A verification ends without a result if one of its commits cannot be run.
    pub(super) fn kernel_changed(&mut self, at: usize) {
        let affected = matches!(&self.phase, Phase::Verifying(v) if [v.culprit, v.parent].contains(&at));
        if affected && self.must_build(at).is_none() {
            let phase = std::mem::replace(&mut self.phase, Phase::Searching);
            if let Phase::Verifying(verifying) = phase {
                self.return_to_search(verifying);
            }
        }
        self.evaluate();
    }

    fn confirmed(&self, verifying: &Verifying) -> State {
        if verifying.class.clone().filter(|at| self.has_own_kernel(*at)).count() > 1 {
            let range = self.commit_range(&verifying.class);
            return State::Range { range, because: Limit::DoesNotBuild };
        }
        let culprit = self.suspect(*verifying.class.end());
        State::Culprit {
            culprit: culprit.commit.clone(),
            parent: self.suspect(verifying.parent).commit.clone(),
            second_parent: culprit.second_parent.clone(),
        }
    }

    /// The record. The caller chooses the id and writes it to `bisect/<id>.json`.
    #[must_use]
    pub fn record(&self, id: &str) -> Record {
        let posterior = self.posterior();
        let mut top: Vec<usize> = (1..self.tallies.len()).filter(|at| posterior.culprit[*at] > 0.0).collect();
        top.sort_by(|one, other| posterior.culprit[*other].total_cmp(&posterior.culprit[*one]));
        // Without a suspect that can be the culprit, all runs are from before it.
        let split = top.first().copied().unwrap_or(self.tallies.len());
        let (old, new) = self.tallies.split_at(split);
        let rate = |tallies: &[Tally]| tallies.iter().copied().sum::<Tally>().rate().short();
        let suspicion = |at: &usize| Suspicion {
            commit: self.suspect(*at).commit.clone(),
            probability: short(posterior.culprit[*at]),
        };
        let verification = match &self.phase {
            Phase::Verifying(verifying) => Some(verifying.result()),
            Phase::Searching | Phase::Ended(_) => self.last_verification,
        };
        Record {
            id: id.to_owned(),
            test: self.question.test.clone(),
            signature: self.question.signature.clone(),
            base: self.question.base.commit.clone(),
            head: self.suspect(self.tallies.len() - 1).commit.clone(),
            state: self.state(),
            posterior: top.iter().take(TOP).map(suspicion).collect(),
            no_culprit: short(posterior.none),
            rates: Rates { old: rate(old), new: rate(new) },
            earlier: self.question.earlier,
            steps: self.steps.clone(),
            verification,
            revert: self.revert.clone(),
            outer: self.outer.clone(),
            runs: self.runs,
            builds: self.builds,
            wall_s: short(self.wall.as_secs_f64()),
        }
    }
}
