//! Simulates the farm in virtual time: the planner and the scheduler of the daemon, with subtests that take their expected
//! duration. Pure.
//!
//! The forecast is for a daemon that starts now. It assumes that every host can run every job and that no batch fails.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::fmt;
use std::time::Duration;

use jobkit::core::{BatchEnd, BatchId, Claim, Effect, ExecutorId, Grant, JobId, Scheduler};
use jobkit::{ChoirConfig, ExecutorSpec, JobSpec};
use model::{BranchRef, CommitId, ResultKey, UserName};
use serde::Serialize;

use crate::plan::window::Window;
use crate::plan::{Input, JobRef, PlannedJob, Unit, Verdicts, units_of};

/// The simulated farm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimulatedFarm {
    /// The number of slots.
    pub slots: usize,
    /// The size of the window.
    pub window: usize,
    /// The maximum expected test time of a batch.
    pub budget: Duration,
    /// The minimum expected test time of a batch that is cut smaller.
    pub batch_min: Duration,
    /// Time of a batch in addition to its subtests: checkout, boot, shutdown.
    pub boot: Duration,
    /// Time to build the kernel of a commit.
    pub build: Duration,
    /// Continue until every commit is tested, not only the tips.
    pub all: bool,
}

/// The result of a simulation. Times are relative to now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    /// The number of slots.
    pub slots: usize,
    /// The branches.
    pub branches: Vec<BranchForecast>,
    /// The number of jobs that ran.
    pub jobs: usize,
    /// The time at which every commit is tested, in seconds; only with `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all_s: Option<u64>,
}

/// The forecast for the tip of a branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BranchForecast {
    /// Its owner and its name.
    #[serde(flatten)]
    pub name: BranchRef,
    /// Its tip; `None` if it has no commits to test.
    pub commit: Option<CommitId>,
    /// The number of subtests of the tip without a verdict.
    pub left: usize,
    /// The time of the first new verdict of the tip, in seconds.
    pub first_s: Option<u64>,
    /// The time at which the tip is completely tested, in seconds; 0 if it is already.
    pub tip_s: Option<u64>,
    /// The time before which the tip cannot be tested.
    #[serde(flatten)]
    pub floor: Option<Floor>,
}

/// The time before which a tip cannot be tested, in any order of its subtests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Floor {
    /// In seconds, with the boot and the build.
    pub floor_s: u64,
    /// The longest subtest, if it is the reason. If `None`, the reason is the number of slots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest: Option<ResultKey>,
    /// The expected duration of the longest subtest, in seconds.
    pub longest_s: u64,
}

/// The work that is left for a tip.
#[derive(Debug, Default)]
struct Work {
    total: Duration,
    /// The longest subtest, its duration, and its duration with a build of the kernel.
    longest: Option<(Duration, Duration, ResultKey)>,
    /// Whether no subtest runs on a kernel of the store.
    all_built: bool,
}

impl Work {
    fn add(&mut self, key: &ResultKey, cost: Duration, build: Option<Duration>) {
        self.all_built = build.is_some() && (self.all_built || self.longest.is_none());
        self.total += cost;
        let with_build = cost + build.unwrap_or_default();
        if self.longest.as_ref().is_none_or(|(_, longest, _)| with_build > *longest) {
            self.longest = Some((cost, with_build, key.clone()));
        }
    }

    /// Each slot that does something boots at least once.
    fn floor(self, farm: &SimulatedFarm, slots_max: Option<usize>) -> Option<Floor> {
        let (longest, with_build, key) = self.longest?;
        let slots = farm.slots.min(slots_max.unwrap_or(usize::MAX)).clamp(1, u32::MAX as usize);
        let shared = self.total / u32::try_from(slots).unwrap_or(u32::MAX);
        let shared = shared + if self.all_built { farm.build } else { Duration::ZERO };
        let seconds = |time: Duration| millis(time).div_ceil(1000);
        Some(Floor {
            floor_s: seconds(farm.boot + with_build.max(shared)),
            longest: (with_build >= shared).then_some(key),
            longest_s: seconds(longest),
        })
    }
}

/// The remaining jobs of the tips, and the branches that wait for each job.
#[derive(Debug, Default)]
struct Tips {
    waiting: HashMap<JobRef, Vec<usize>>,
    branches: Vec<BranchForecast>,
}

impl Tips {
    fn new(
        input: &Input,
        verdicts: &mut dyn Verdicts,
        share: &dyn Fn(&UserName) -> Share,
        farm: &SimulatedFarm,
    ) -> results::Result<Self> {
        // `Verdicts::of` needs a list that only grows.
        let mut keys: Vec<ResultKey> = Vec::new();
        let mut numbers: HashMap<ResultKey, u32> = HashMap::new();
        let mut tips = Self::default();
        for (at, branch) in input.branches.iter().enumerate() {
            let commit = branch.commits.first().cloned();
            let (mut left, mut work) = (0, Work::default());
            if let Some(commit) = &commit {
                let mut wanted = BTreeMap::new();
                for unit in branch.groups.iter().flat_map(|group| units_of(group)) {
                    let unit_keys = keys_of(&unit, input);
                    let costs = input.costs(unit_keys.iter());
                    let build = unit.kernel.is_none().then_some(farm.build);
                    for (key, cost) in unit_keys.into_iter().zip(costs) {
                        let number = *numbers.entry(key.clone()).or_insert_with(|| {
                            keys.push(key);
                            u32::try_from(keys.len() - 1).expect("fewer than 2^32 keys")
                        });
                        wanted.entry(number).or_insert((cost, build));
                    }
                }
                verdicts.of(commit, &keys, &mut |number| {
                    wanted.remove(&number);
                })?;
                left = wanted.len();
                for (number, (cost, build)) in wanted {
                    let job = JobRef { commit: commit.clone(), key: keys[number as usize].clone() };
                    work.add(&job.key, cost, build);
                    tips.waiting.entry(job).or_default().push(at);
                }
            }
            let done = (left == 0 && commit.is_some()).then_some(0);
            let name = BranchRef::clone(&branch.name);
            let floor = work.floor(farm, share(&branch.name.user).slots_max);
            tips.branches.push(BranchForecast { name, commit, left, first_s: None, tip_s: done, floor });
        }
        Ok(tips)
    }

    fn job_ends(&mut self, job: &JobRef, at_ms: u64) {
        let at_s = at_ms.div_ceil(1000);
        for branch in self.waiting.remove(job).unwrap_or_default() {
            let branch = &mut self.branches[branch];
            branch.first_s = Some(branch.first_s.map_or(at_s, |first| first.min(at_s)));
            branch.tip_s = Some(branch.tip_s.map_or(at_s, |last| last.max(at_s)));
        }
    }
}

/// The result keys of a test file's subtests.
fn keys_of(unit: &Unit, input: &Input) -> Vec<ResultKey> {
    let listing = input.listings.get(&(unit.test.clone(), unit.env.clone()));
    let subtests = listing.iter().flat_map(|listing| listing.iter());
    let key = |subtest| ResultKey::new(&unit.test, unit.kernel.as_ref(), &unit.env, subtest).ok();
    subtests.filter_map(key).collect()
}

struct Simulation<'a> {
    farm: SimulatedFarm,
    window: Window,
    scheduler: Scheduler,
    share: &'a dyn Fn(&UserName) -> Share,
    jobs: HashMap<JobId, PlannedJob>,
    running: HashMap<BatchId, (ExecutorId, Vec<JobId>)>,
    events: BinaryHeap<Reverse<(u64, BatchId)>>,
    /// The time at which the kernel of each commit will be built.
    built: HashMap<CommitId, u64>,
    tips: Tips,
    now: u64,
    ran: usize,
}

/// A user's share of the farm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// The fair-share weight.
    pub weight: f64,
    /// The maximum number of slots at a time.
    pub slots_max: Option<usize>,
}

/// Runs the farm in virtual time. `share` returns the share of a user.
pub fn simulate(
    input: &Input,
    verdicts: &mut dyn Verdicts,
    share: &dyn Fn(&UserName) -> Share,
    farm: SimulatedFarm,
) -> results::Result<Forecast> {
    let tips = Tips::new(input, verdicts, share, &farm)?;
    let mut window = Window::new(farm.window);
    window.update(input, farm.window);
    let config =
        ChoirConfig { window: farm.window, batch_min: Some(farm.batch_min), ..ChoirConfig::default() };
    let mut simulation = Simulation {
        farm,
        window,
        scheduler: Scheduler::new(&config),
        share,
        jobs: HashMap::new(),
        running: HashMap::new(),
        events: BinaryHeap::new(),
        built: HashMap::new(),
        tips,
        now: 0,
        ran: 0,
    };
    simulation.run(verdicts);
    let all_s = farm.all.then_some(simulation.now.div_ceil(1000));
    Ok(Forecast { slots: farm.slots, branches: simulation.tips.branches, jobs: simulation.ran, all_s })
}

impl Simulation<'_> {
    fn run(&mut self, verdicts: &mut dyn Verdicts) {
        self.refill(verdicts);
        let spec =
            |slot| ExecutorSpec { budget: self.farm.budget, ..ExecutorSpec::new(format!("slot {slot}")) };
        let specs: Vec<ExecutorSpec> = (0..self.farm.slots).map(spec).collect();
        // The size of a batch depends on the number of executors.
        let executors: Vec<ExecutorId> =
            specs.iter().map(|spec| self.scheduler.add_executor(spec, 0)).collect();
        executors.into_iter().for_each(|executor| self.claim(executor));
        self.settle();
        while let Some(Reverse((at, batch))) = self.events.pop() {
            self.now = at;
            let Some((executor, jobs)) = self.running.remove(&batch) else { continue };
            for job in &jobs {
                self.scheduler.done(batch, *job);
                if let Some(job) = self.jobs.remove(job) {
                    self.window.set_done(&job.name());
                }
            }
            self.scheduler.end_batch(batch, BatchEnd::Finished, self.now);
            if !self.farm.all && self.tips.waiting.is_empty() {
                return;
            }
            self.refill(verdicts);
            self.claim(executor);
            self.settle();
        }
    }

    fn refill(&mut self, verdicts: &mut dyn Verdicts) {
        for job in self.window.refill(self.scheduler.pending(), verdicts) {
            let share = (self.share)(&job.branch.user);
            let spec = JobSpec {
                batch_key: job.batch_key(),
                cost: job.cost,
                group: job.branch.user.to_string(),
                weight: share.weight,
                executors_max: share.slots_max,
                order: job.value,
                ..JobSpec::new("", ())
            };
            let id = self.scheduler.submit(&spec, self.now);
            self.jobs.insert(id, job);
        }
    }

    fn claim(&mut self, executor: ExecutorId) {
        if let Claim::Granted(grant) = self.scheduler.claim(executor, self.now) {
            self.granted(grant);
        }
    }

    fn granted(&mut self, grant: Grant) {
        let first = grant.jobs.first().and_then(|id| self.jobs.get(id));
        // Further batches of the commit wait for its kernel.
        let ready = first.filter(|job| job.unit.kernel.is_none()).map_or(self.now, |job| {
            let built = self.now + millis(self.farm.build);
            *self.built.entry(job.commit.clone()).or_insert(built)
        });
        let mut at = self.now.max(ready) + millis(self.farm.boot);
        for job in grant.jobs.iter().filter_map(|id| self.jobs.get(id)) {
            at += millis(job.cost);
            self.tips.job_ends(&job.name(), at);
            self.ran += 1;
        }
        self.events.push(Reverse((at, grant.batch)));
        self.running.insert(grant.batch, (grant.executor, grant.jobs));
    }

    fn settle(&mut self) {
        self.scheduler.dispatch(self.now);
        for effect in self.scheduler.take_effects() {
            if let Effect::Granted(grant) = effect {
                self.granted(grant);
            }
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 4)
}

/// A number of slots: `8`, or `+4` for four additional ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotCount {
    /// This number.
    Exactly(usize),
    /// This number of additional slots.
    Additional(usize),
}

impl SlotCount {
    /// The number of slots, given the current number `now`.
    #[must_use]
    pub fn of(self, now: usize) -> usize {
        match self {
            Self::Exactly(slots) => slots,
            Self::Additional(slots) => now.saturating_add(slots),
        }
    }
}

/// The text is not a number of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("give a number of slots from 1 to 100000, or +N for N additional ones")]
pub struct SlotCountError;

impl std::str::FromStr for SlotCount {
    type Err = SlotCountError;
    fn from_str(text: &str) -> Result<Self, SlotCountError> {
        let number = |text: &str| match text.parse::<usize>() {
            Ok(number @ 1..=100_000) => Ok(number),
            _ => Err(SlotCountError),
        };
        text.strip_prefix('+')
            .map_or_else(|| number(text).map(Self::Exactly), |more| number(more).map(Self::Additional))
    }
}

/// Formats the forecasts as a table.
#[derive(Debug)]
pub struct Table<'a>(pub &'a [Forecast]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        let mut head = ["branch", "tip", "left"].map(str::to_owned).to_vec();
        for forecast in self.0 {
            let slots = format!("{} slot{}", forecast.slots, if forecast.slots == 1 { "" } else { "s" });
            head.extend([format!("first verdict, {slots}"), format!("tip tested, {slots}")]);
            for (at, branch) in forecast.branches.iter().enumerate() {
                let row = rows.entry(at).or_insert_with(|| {
                    let tip = branch.commit.as_ref().map_or("-".into(), |commit| commit.short().to_owned());
                    vec![branch.name.to_string(), tip, branch.left.to_string()]
                });
                let first = branch.first_s.map_or("-".into(), |s| format!("in {}", Span(s)));
                let tip = match branch.tip_s {
                    None => "-".into(),
                    Some(0) => "already".into(),
                    Some(s) => format!("in {}", Span(s)),
                };
                row.extend([first, tip]);
            }
            if let Some(all) = forecast.all_s {
                let row = rows
                    .entry(usize::MAX)
                    .or_insert_with(|| vec!["all commits".into(), "-".into(), forecast.jobs.to_string()]);
                row.extend(["-".into(), format!("in {}", Span(all))]);
            }
        }
        let rows: Vec<&Vec<String>> = std::iter::once(&head).chain(rows.values()).collect();
        let width = |at: usize| {
            rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        for row in &rows {
            let cells: Vec<String> = row
                .iter()
                .enumerate()
                .map(|(at, cell)| format!("{cell:<width$}", width = width(at)))
                .collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        self.0.iter().try_for_each(|forecast| forecast.write_floors(f))
    }
}

impl Forecast {
    /// Names the subtests that take so long that more slots do not help.
    fn write_floors(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.slots == 1 { "" } else { "s" };
        for branch in &self.branches {
            if let Some(Floor { floor_s, longest: Some(key), longest_s }) = &branch.floor {
                let name = &branch.name;
                writeln!(
                    f,
                    "{name}, {} slot{plural}: cannot be below {floor_s} s: {key} takes {longest_s} s",
                    self.slots
                )?;
            }
        }
        Ok(())
    }
}

/// Seconds, rounded for display: `45 s`, `12 min`, `3 h 20 min`, `4 d 3 h`.
#[derive(Debug, Clone, Copy)]
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.0.div_ceil(60);
        match self.0 {
            0..=99 => write!(f, "{} s", self.0),
            100..=7199 => write!(f, "{minutes} min"),
            7200..=172_799 => write!(f, "{} h {} min", minutes / 60, minutes % 60),
            _ => write!(f, "{} d {} h", minutes / 1440, minutes % 1440 / 60),
        }
    }
}

#[cfg(test)]
mod tests;
