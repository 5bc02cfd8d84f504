//! Bisections of simulated histories.

use std::error::Error;
use std::time::{Duration, Instant};

use belief::bisect::{
    Budget, Cost, FinishedRun, KernelState, PlannedRun, Question, State, Suspect, Verification, Why,
};
use belief::{Bisection, Calibration, Outcome, Signature, Tally};
use model::CommitId;

use crate::Figure;
use crate::random::Random;

/// Failure rates before and after the culprit.
const CASES: [(f64, f64); 8] =
    [(0.0, 1.0), (0.0, 0.5), (0.0, 0.25), (0.0, 0.1), (0.02, 0.3), (0.05, 0.5), (0.1, 0.9), (0.2, 0.8)];
/// The rate of the histories without a culprit.
const NO_CULPRIT: f64 = 0.3;
const SIZES: [usize; 4] = [8, 64, 256, 1000];
/// Per size: 5 histories of each case, and 10 without a culprit, which is a fifth of all.
const HISTORIES_PER_CASE: usize = 5;
const HISTORIES_WITHOUT: usize = 10;
/// The share of commits that do not build, and of failures with another signature.
const DO_NOT_BUILD: f64 = 0.1;
const OTHER_FAILURE: f64 = 0.1;
/// The build of a neighbor takes as long as two runs.
const COST: Cost = Cost { run: Duration::from_secs(30), build: Duration::from_secs(60) };
/// The attempts at the commits before the base.
const EARLIER_ATTEMPTS: u32 = 50;
/// The commits of the measurement of a selection.
const SELECT_COMMITS: usize = 2000;

/// A history and its answer.
struct History {
    /// Whether each commit builds; the base is the first.
    builds: Vec<bool>,
    culprit: Option<usize>,
    old: f64,
    new: f64,
    /// Attempts before the base.
    earlier: Tally,
}

impl History {
    fn new(random: &mut Random, suspects: usize, rates: Option<(f64, f64)>) -> Self {
        let (old, new) = rates.unwrap_or((NO_CULPRIT, NO_CULPRIT));
        let culprit = rates.map(|_| 1 + random.below(suspects));
        let ends = |at: usize| at == 0 || at == suspects;
        let builds = (0..=suspects).map(|at| ends(at) || !random.chance(DO_NOT_BUILD)).collect();
        let failures = (0..EARLIER_ATTEMPTS).map(|_| u32::from(random.chance(old))).sum();
        Self { builds, culprit, old, new, earlier: Tally::new(failures, EARLIER_ATTEMPTS - failures) }
    }

    fn outcome(&self, random: &mut Random, at: usize) -> Outcome {
        if random.chance(OTHER_FAILURE) {
            return Outcome::Failed { signature: Signature::new(None, "another failure") };
        }
        let rate = if self.culprit.is_some_and(|culprit| at >= culprit) { self.new } else { self.old };
        if random.chance(rate) { Outcome::Failed { signature: signature() } } else { Outcome::Passed }
    }

    fn question(&self) -> Result<Question, Box<dyn Error>> {
        let mut commits =
            (0..self.builds.len()).map(commit).collect::<Result<Vec<_>, _>>()?.into_iter().map(Suspect::new);
        let mut base = commits.next().ok_or("no base")?;
        let mut suspects: Vec<Suspect> = commits.collect();
        // Both ends have been tested before.
        base.kernel = KernelState::Stored;
        if let Some(head) = suspects.last_mut() {
            head.kernel = KernelState::Stored;
        }
        Ok(Question {
            test: "fs.ext4.basic.punch".parse()?,
            signature: signature(),
            base,
            budget: Budget::usual(suspects.len(), Duration::MAX),
            suspects,
            earlier: self.earlier,
            cost: COST,
        })
    }
}

fn commit(at: usize) -> Result<CommitId, model::NameError> {
    format!("{at:040x}").parse()
}

fn index(commit: &CommitId) -> Result<usize, Box<dyn Error>> {
    Ok(usize::from_str_radix(commit.as_str(), 16)?)
}

fn signature() -> Signature {
    Signature::new(None, "the failure")
}

/// A finished simulation.
struct Simulated {
    /// Whether its state is the answer of the history.
    right: bool,
    /// Whether its state is an answer, and a wrong one.
    wrong: bool,
    /// The runs and rounds of the search, without its verification.
    runs: u32,
    rounds: u32,
    builds: u32,
    verification_runs: u32,
    verification: Option<Verification>,
    /// The posterior of the first conclusion, and whether it is right.
    conclusion: Option<(f64, bool)>,
}

fn simulate(history: &History, random: &mut Random, slots: usize) -> Result<Simulated, Box<dyn Error>> {
    let mut bisection = Bisection::new(history.question()?)?;
    earlier_verdicts(&mut bisection, history, random)?;
    let (mut runs, mut rounds, mut verification_runs) = (0, 0, 0);
    let mut kernels: Vec<Option<bool>> = vec![None; history.builds.len()];
    kernels[0] = Some(true);
    *kernels.last_mut().ok_or("no head")? = Some(true);
    let mut conclusion = None;
    while !bisection.state().is_final() {
        let planned = bisection.next(slots, &[]);
        if planned.is_empty() {
            return Err("a bisection without a state plans no runs".into());
        }
        let searching = matches!(planned[0].why, Why::Selected { .. });
        rounds += u32::from(searching);
        for run in planned {
            let at = index(&run.commit)?;
            if kernels[at].is_none() {
                kernels[at] = Some(history.builds[at]);
                let kernel = if history.builds[at] { KernelState::Stored } else { KernelState::DoesNotBuild };
                bisection.built(&run.commit, kernel)?;
            }
            if kernels[at] == Some(true) {
                *(if searching { &mut runs } else { &mut verification_runs }) += 1;
                finish(&mut bisection, run, history.outcome(random, at))?;
            }
        }
        if conclusion.is_none() && searching {
            conclusion = concluded(&bisection, history);
        }
    }
    let record = bisection.record("1");
    let (answered, right) = judge(&record.state, history)?;
    let (builds, verification) = (record.builds, record.verification);
    let wrong = answered && !right;
    Ok(Simulated { right, wrong, runs, rounds, builds, verification_runs, verification, conclusion })
}

/// The farm has tested both ends: the base once, the head once and, if it failed, once more.
fn earlier_verdicts(
    bisection: &mut Bisection,
    history: &History,
    random: &mut Random,
) -> Result<(), Box<dyn Error>> {
    let head = history.builds.len() - 1;
    let mut verdicts =
        vec![(commit(0)?, history.outcome(random, 0)), (commit(head)?, history.outcome(random, head))];
    if verdicts[1].1 != Outcome::Passed {
        verdicts.push((commit(head)?, history.outcome(random, head)));
    }
    bisection.known(verdicts.iter().map(|(commit, outcome)| (commit, outcome)))?;
    Ok(())
}

fn finish(bisection: &mut Bisection, planned: PlannedRun, outcome: Outcome) -> Result<(), Box<dyn Error>> {
    Ok(bisection.finished(FinishedRun { planned, outcome, image: None, host: None })?)
}

/// The posterior of a conclusion that has just been drawn: of "no culprit", or of the suspects that cannot be told apart.
fn concluded(bisection: &Bisection, history: &History) -> Option<(f64, bool)> {
    let (suspects, none) = bisection.probabilities();
    if matches!(bisection.state(), State::NotConfirmed { .. }) {
        return Some((none, history.culprit.is_none()));
    }
    bisection.verifying()?;
    let most = suspects.iter().map(|suspect| suspect.probability).fold(0.0, f64::max);
    let equal = |probability: f64| (probability - most).abs() < 1e-9 * most;
    let posterior =
        suspects.iter().filter(|suspect| equal(suspect.probability)).map(|suspect| suspect.probability).sum();
    Some((posterior, history.culprit.is_some_and(|culprit| equal(suspects[culprit - 1].probability))))
}

/// Whether the state is an answer, and whether it is right. A range at the end of the budget is no answer.
fn judge(state: &State, history: &History) -> Result<(bool, bool), Box<dyn Error>> {
    Ok(match state {
        State::Culprit { culprit, .. } => (true, history.culprit == Some(index(culprit)?)),
        State::Range { range, because: belief::bisect::Limit::DoesNotBuild } => {
            let range = index(&range.oldest)?..=index(&range.newest)?;
            (true, history.culprit.is_some_and(|culprit| range.contains(&culprit)))
        }
        State::NotConfirmed { .. } => (true, history.culprit.is_none()),
        _ => (false, false),
    })
}

/// Sums over simulations.
#[derive(Default)]
struct Sums {
    histories: u32,
    right: u32,
    wrong: u32,
    runs: u32,
    builds: u32,
    rounds: u32,
    verification_runs: u32,
    verified: u32,
    verifications: u32,
    calibration: Calibration,
}

impl Sums {
    fn add(&mut self, simulated: &Simulated) {
        self.histories += 1;
        self.right += u32::from(simulated.right);
        self.wrong += u32::from(simulated.wrong);
        self.runs += simulated.runs;
        self.builds += simulated.builds;
        self.rounds += simulated.rounds;
        self.verification_runs += simulated.verification_runs;
        if let Some(verification) = simulated.verification {
            self.verifications += 1;
            self.verified += u32::from(verification.confirmed);
        }
        if let Some((posterior, right)) = simulated.conclusion {
            self.calibration.add(posterior, right);
        }
    }

    fn mean(&self, sum: u32) -> f64 {
        f64::from(sum) / f64::from(self.histories.max(1))
    }

    fn percent(&self, count: u32) -> f64 {
        100.0 * self.mean(count)
    }
}

pub(crate) fn figures(seed: u64) -> Result<Vec<Figure>, Box<dyn Error>> {
    let mut random = Random::new(seed);
    let (mut all, mut of_64) = (Sums::default(), Sums::default());
    for size in SIZES {
        let mut of_size = Sums::default();
        let with = CASES.into_iter().flat_map(|rates| [Some(rates); HISTORIES_PER_CASE]);
        for rates in with.chain([None; HISTORIES_WITHOUT]) {
            let history = History::new(&mut random, size, rates);
            let simulated = simulate(&history, &mut random, 1)?;
            all.add(&simulated);
            of_size.add(&simulated);
        }
        if size == 64 {
            of_64 = of_size;
        }
    }
    let mut plain = Sums::default();
    for _ in 0..40 {
        let history = History::new(&mut random, 256, Some((0.0, 1.0)));
        plain.add(&simulate(&history, &mut random, 8)?);
    }
    let calibration = all.calibration;
    let figure = |name: &str, value, unit| (name.to_owned(), value, unit);
    Ok(vec![
        figure("bisect_right_percent", all.percent(all.right), "%"),
        figure("bisect_confidently_wrong_percent", all.percent(all.wrong), "%"),
        figure("bisect_runs_mean", of_64.mean(of_64.runs), "runs"),
        figure("bisect_builds_mean", of_64.mean(of_64.builds), "builds"),
        figure("bisect_verification_runs_mean", of_64.mean(of_64.verification_runs), "runs"),
        figure("bisect_rounds_mean", plain.mean(plain.rounds), "rounds"),
        figure("bisect_rounds_builds_mean", plain.mean(plain.builds), "builds"),
        figure("bisect_select_ms", select_ms(&mut random)?, "ms"),
        figure("bisect_conclusion_posterior_percent", 100.0 * calibration.posterior(), "%"),
        figure("bisect_conclusion_right_percent", 100.0 * calibration.right(), "%"),
    ])
}

/// The time of a selection among commits that all have a verdict.
fn select_ms(random: &mut Random) -> Result<f64, Box<dyn Error>> {
    let history = History::new(random, SELECT_COMMITS, Some((0.05, 0.5)));
    let mut bisection = Bisection::new(history.question()?)?;
    let commits: Vec<CommitId> = (0..=SELECT_COMMITS).map(commit).collect::<Result<_, _>>()?;
    let rate = |at: usize| if at < SELECT_COMMITS / 2 { 0.2 } else { 0.3 };
    let outcomes: Vec<Outcome> = (0..=SELECT_COMMITS)
        .map(|at| {
            if random.chance(rate(at)) { Outcome::Failed { signature: signature() } } else { Outcome::Passed }
        })
        .collect();
    bisection.known(commits.iter().zip(&outcomes))?;
    const TIMES: u32 = 20;
    let begin = Instant::now();
    let mut planned = 0;
    for _ in 0..TIMES {
        planned += bisection.next(1, &[]).len();
    }
    let ms = begin.elapsed().as_secs_f64() * 1e3 / f64::from(TIMES);
    if planned == 0 {
        return Err(format!("nothing was selected: {:?}", bisection.state()).into());
    }
    Ok(ms)
}
