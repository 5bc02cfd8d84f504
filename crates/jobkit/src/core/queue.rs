//! The pending jobs, and which one is next for an executor that can take certain classes.
//!
//! A class is a distinct set of needs. A lane contains the jobs that can share a batch: those with the same group,
//! class, batch key and failure history. Each class orders its groups by usage per weight and, within a group, the
//! lanes by their first job. So the next job is found in O(classes) and taken in O(log n).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::cut::{self, SharedWork};
use super::hash::NumberMap;
use super::share::Decay;
use super::{ClassId, ExecutorId, GroupId, JobId, LaneId};
use crate::config::{ChoirConfig, ms};

/// The position of a job in its group: its order; jobs that fill a batch before others, longest first; its number.
pub(super) type QueueOrder = (i64, Reverse<u64>, JobId);

/// The position of a group, by usage per weight. The bit patterns of non-negative floats have the same order as the
/// floats.
type Score = (u64, GroupId);

/// The infrastructure errors of a job, shared by the jobs that failed together.
#[derive(Debug)]
pub(super) struct FailureHistory {
    pub(super) id: u64,
    /// The executors and hosts on which it failed.
    pub(super) failed_on: Vec<(ExecutorId, Arc<str>)>,
    /// Errors on healthy executors.
    pub(super) attempts: u32,
    /// All errors.
    pub(super) failures: u32,
    /// Whether it must run alone in its batch.
    pub(super) alone: bool,
    /// The time until which it waits for other hosts (ms).
    pub(super) until: u64,
}

/// Whether an executor can take jobs of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaneAccess {
    /// Yes.
    Allowed,
    /// Only if there is no other lane.
    Fallback,
    /// No.
    Denied,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct LaneKey {
    group: GroupId,
    class: ClassId,
    key: Arc<str>,
    past: u64,
}

#[derive(Debug)]
pub(super) struct QueueLane {
    key: LaneKey,
    pub(super) past: Option<Arc<FailureHistory>>,
    /// The jobs and their costs in ms; never empty.
    jobs: BTreeMap<QueueOrder, u64>,
}

#[derive(Debug)]
struct Class {
    groups: BTreeSet<Score>,
    heads: NumberMap<GroupId, BTreeMap<QueueOrder, LaneId>>,
    pending: usize,
    /// The total cost of its pending jobs, in ms.
    cost: u64,
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: Arc<str>,
    pub(super) weight: f64,
    /// Stored usage, see [`Decay`].
    usage: f64,
    score: u64,
    pub(super) pending: usize,
    pub(super) running: usize,
    /// The total cost of its pending jobs, in ms.
    cost: u64,
    /// The number of running batches, and its limit.
    batches: usize,
    batches_max: usize,
    /// The classes of its pending jobs.
    classes: BTreeSet<ClassId>,
}

/// The jobs of one batch, taken from a lane.
#[derive(Debug)]
pub(super) struct TakenJobs {
    pub(super) group: GroupId,
    pub(super) key: Arc<str>,
    pub(super) jobs: Vec<JobId>,
    pub(super) cost: u64,
}

#[derive(Debug)]
pub(super) struct Queue {
    decay: Decay,
    max_batch: usize,
    /// The minimum cost of a batch that is cut below the budget, in ms.
    batch_min: Option<u64>,
    pending: usize,
    groups: NumberMap<GroupId, Group>,
    group_names: HashMap<Arc<str>, GroupId>,
    classes: NumberMap<ClassId, Class>,
    lanes: NumberMap<LaneId, QueueLane>,
    lane_ids: HashMap<LaneKey, LaneId>,
    next: u64,
    sweep_at: usize,
}

impl Group {
    fn is_full(&self) -> bool {
        self.batches >= self.batches_max
    }
}

impl QueueLane {
    pub(super) fn class(&self) -> ClassId {
        self.key.class
    }
}

impl Queue {
    pub(super) fn new(config: &ChoirConfig) -> Self {
        Self {
            decay: Decay::new(ms(config.usage_half_life)),
            max_batch: config.max_batch_jobs.max(1),
            batch_min: config.batch_min.map(ms),
            pending: 0,
            groups: NumberMap::default(),
            group_names: HashMap::new(),
            classes: NumberMap::default(),
            lanes: NumberMap::default(),
            lane_ids: HashMap::new(),
            next: 0,
            sweep_at: 1024,
        }
    }

    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    pub(super) fn pending_of(&self, class: ClassId) -> usize {
        self.classes.get(&class).map_or(0, |class| class.pending)
    }

    /// The groups with pending jobs of a class that are not at their limit of batches.
    pub(super) fn groups_of(&self, class: ClassId) -> impl Iterator<Item = GroupId> {
        let scores = self.classes.get(&class).into_iter().flat_map(|class| &class.groups);
        let open = |group: &GroupId| self.groups.get(group).is_some_and(|group| !group.is_full());
        scores.map(|(_, group)| *group).filter(open)
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    pub(super) fn group_name(&self, id: GroupId) -> Arc<str> {
        self.groups.get(&id).map_or_else(|| "".into(), |group| Arc::clone(&group.name))
    }

    /// The decayed usage of a group in ms.
    pub(super) fn usage(&self, group: &Group, now: u64) -> f64 {
        self.decay.as_of(group.usage, now)
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The group with that name, created if necessary. Sets its weight and its limit of batches.
    pub(super) fn group(
        &mut self,
        name: &str,
        (weight, batches_max): (f64, Option<usize>),
        now: u64,
    ) -> GroupId {
        let batches_max = batches_max.unwrap_or(usize::MAX);
        let weight = if weight > 0.0 { weight.clamp(1e-6, 1e6) } else { 1.0 };
        let Some(&id) = self.group_names.get(name) else {
            if self.groups.len() >= self.sweep_at {
                self.sweep(now);
            }
            let id = GroupId(self.number());
            let name: Arc<str> = name.into();
            let group = Group {
                name: Arc::clone(&name),
                weight,
                usage: 0.0,
                score: 0,
                pending: 0,
                running: 0,
                cost: 0,
                batches: 0,
                batches_max,
                classes: BTreeSet::new(),
            };
            self.groups.insert(id, group);
            self.group_names.insert(name, id);
            return id;
        };
        let group = self.groups.get_mut(&id).expect("a named group exists");
        group.batches_max = batches_max;
        if group.weight.to_bits() != weight.to_bits() {
            group.weight = weight;
            self.rescore(id);
        }
        id
    }

    /// Deletes the groups without jobs and with a usage below 1 ms.
    fn sweep(&mut self, now: u64) {
        let decay = &self.decay;
        self.groups.retain(|_, group| {
            group.pending + group.running + group.batches > 0 || decay.as_of(group.usage, now) >= 1.0
        });
        let groups = &self.groups;
        self.group_names.retain(|_, id| groups.contains_key(id));
        self.sweep_at = self.groups.len() * 2 + 1024;
    }

    fn rescore(&mut self, id: GroupId) {
        let group = self.groups.get_mut(&id).expect("a group with jobs exists");
        let score = (group.usage.max(0.0) / group.weight).to_bits();
        for class in &group.classes {
            let groups = &mut self.classes.get_mut(class).expect("a class with jobs exists").groups;
            groups.remove(&(group.score, id));
            groups.insert((score, id));
        }
        group.score = score;
    }

    /// Adds `used` ms of usage at `at`. A negative value subtracts.
    pub(super) fn charge(&mut self, id: GroupId, used: f64, at: u64) {
        let worth = self.decay.worth(at);
        if let Some(group) = self.groups.get_mut(&id) {
            group.usage = (group.usage + used * worth).max(0.0);
            self.rescore(id);
        }
    }

    /// Rescales stored usage to keep it in range. Call it with every new time.
    pub(super) fn keep_scale(&mut self, now: u64) {
        let Some(factor) = self.decay.rebase(now) else { return };
        let ids: Vec<GroupId> = self.groups.keys().copied().collect();
        for id in ids {
            self.groups.get_mut(&id).expect("just listed").usage *= factor;
            self.rescore(id);
        }
        self.sweep(now);
    }

    /// Adjusts the number of running jobs of a group.
    pub(super) fn count_running(&mut self, id: GroupId, more: usize, less: usize) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.running = group.running + more - less;
        }
    }

    /// Records that a batch of the group started.
    pub(super) fn begin_batch(&mut self, id: GroupId) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.batches += 1;
        }
    }

    /// Records that a batch of the group ended. Returns the classes with jobs that may run now.
    pub(super) fn end_batch(&mut self, id: GroupId) -> Vec<ClassId> {
        let Some(group) = self.groups.get_mut(&id) else { return Vec::new() };
        let was_full = group.is_full();
        group.batches -= 1;
        if was_full { group.classes.iter().copied().collect() } else { Vec::new() }
    }

    /// Whether the group has pending jobs of the class.
    pub(super) fn has_jobs_of(&self, group: GroupId, class: ClassId) -> bool {
        self.groups.get(&group).is_some_and(|group| group.classes.contains(&class))
    }

    /// The position of a job in its group. If batches are cut, jobs that fill one are placed first, longest first: the
    /// others fill the gaps at the end.
    pub(super) fn place(&self, order: i64, cost: u64, job: JobId) -> QueueOrder {
        let fills = self.batch_min.is_some_and(|least| cost >= least);
        (order, Reverse(if fills { cost } else { 0 }), job)
    }

    /// Adds a job. Returns its lane.
    pub(super) fn push(
        &mut self,
        place: QueueOrder,
        cost: u64,
        group: GroupId,
        class: ClassId,
        key: &Arc<str>,
        past: Option<&Arc<FailureHistory>>,
    ) -> LaneId {
        let lane_key = LaneKey { group, class, key: Arc::clone(key), past: past.map_or(0, |past| past.id) };
        self.pending += 1;
        let of_group = self.groups.get_mut(&group).expect("the job's group exists");
        of_group.pending += 1;
        of_group.cost = of_group.cost.saturating_add(cost);
        let new = LaneId(self.next + 1);
        let id = *self.lane_ids.entry(lane_key.clone()).or_insert(new);
        if id == new {
            self.next += 1;
            self.lanes.insert(id, QueueLane { key: lane_key, past: past.cloned(), jobs: BTreeMap::new() });
        }
        let of_class = self.class_entry(class);
        of_class.pending += 1;
        of_class.cost = of_class.cost.saturating_add(cost);
        self.edit(id, |jobs| {
            jobs.insert(place, cost);
        });
        id
    }

    fn class_entry(&mut self, class: ClassId) -> &mut Class {
        self.classes.entry(class).or_insert_with(|| Class {
            groups: BTreeSet::new(),
            heads: NumberMap::default(),
            pending: 0,
            cost: 0,
        })
    }

    /// Removes one job.
    pub(super) fn remove(&mut self, lane: LaneId, place: QueueOrder) {
        let QueueLane { key: LaneKey { group, class, .. }, .. } = &self.lanes[&lane];
        let (group, class) = (*group, *class);
        let cost = self.edit(lane, |jobs| jobs.remove(&place).expect("a pending job is in its lane"));
        self.count_taken(group, class, 1, cost);
    }

    fn count_taken(&mut self, group: GroupId, class: ClassId, jobs: usize, cost: u64) {
        self.pending -= jobs;
        let of_group = self.groups.get_mut(&group).expect("the job's group exists");
        of_group.pending -= jobs;
        of_group.cost = of_group.cost.saturating_sub(cost);
        let entry = self.classes.get_mut(&class).expect("the job's class exists");
        entry.pending -= jobs;
        entry.cost = entry.cost.saturating_sub(cost);
        if entry.pending == 0 {
            self.classes.remove(&class);
        }
    }

    /// Changes the jobs of a lane and updates the order of the lanes. Deletes the lane if it becomes empty.
    fn edit<R>(&mut self, id: LaneId, change: impl FnOnce(&mut BTreeMap<QueueOrder, u64>) -> R) -> R {
        let lane = self.lanes.get_mut(&id).expect("the lane exists");
        let before = lane.jobs.first_key_value().map(|(place, _)| *place);
        let result = change(&mut lane.jobs);
        let after = lane.jobs.first_key_value().map(|(place, _)| *place);
        if before == after {
            return result;
        }
        let (group_id, class_id) = (lane.key.group, lane.key.class);
        let class = self.classes.get_mut(&class_id).expect("the lane's class exists");
        let heads = class.heads.entry(group_id).or_default();
        if let Some(before) = before {
            heads.remove(&before);
        }
        if let Some(after) = after {
            heads.insert(after, id);
        }
        let empty = heads.is_empty();
        let group = self.groups.get_mut(&group_id).expect("the lane's group exists");
        if empty {
            class.heads.remove(&group_id);
            class.groups.remove(&(group.score, group_id));
            group.classes.remove(&class_id);
        } else if group.classes.insert(class_id) {
            class.groups.insert((group.score, group_id));
        }
        if after.is_none() {
            let lane = self.lanes.remove(&id).expect("the lane exists");
            self.lane_ids.remove(&lane.key);
        }
        result
    }

    /// The lane with the next job of these classes: the first lane, in order, of the group with the least usage per
    /// weight. Fallback lanes come last. A group at its limit of batches, or for which `may` is false, is skipped.
    pub(super) fn pick(
        &self,
        classes: &[ClassId],
        may: impl Fn(GroupId) -> bool,
        judge: impl Fn(&QueueLane) -> LaneAccess,
    ) -> Option<LaneId> {
        let mut best: Option<(bool, Score, QueueOrder, LaneId)> = None;
        for class in classes.iter().filter_map(|id| self.classes.get(id)) {
            if let Some(found) = self.pick_in(class, &may, &judge)
                && best.is_none_or(|best| found < best)
            {
                best = Some(found);
            }
        }
        best.map(|(.., lane)| lane)
    }

    fn pick_in(
        &self,
        class: &Class,
        may: &impl Fn(GroupId) -> bool,
        judge: &impl Fn(&QueueLane) -> LaneAccess,
    ) -> Option<(bool, Score, QueueOrder, LaneId)> {
        let mut fallback = None;
        let full = |score: &Score| self.groups.get(&score.1).is_some_and(Group::is_full);
        for &score in class.groups.iter().filter(|score| !full(score) && may(score.1)) {
            for (&place, &id) in &class.heads[&score.1] {
                match judge(&self.lanes[&id]) {
                    LaneAccess::Allowed => return Some((false, score, place, id)),
                    LaneAccess::Fallback => fallback = fallback.or(Some((true, score, place, id))),
                    LaneAccess::Denied => {}
                }
            }
        }
        fallback
    }

    pub(super) fn class_of(&self, lane: LaneId) -> ClassId {
        self.lanes[&lane].class()
    }

    /// The cost of the next batch of a lane for an executor with this budget, which can take these classes. `takers` is the
    /// number of executors that can take the lane.
    pub(super) fn batch_cost(&self, lane: LaneId, classes: &[ClassId], takers: usize, budget: u64) -> u64 {
        let Some(least) = self.batch_min else { return budget };
        let of_classes = classes.iter().filter_map(|class| self.classes.get(class)).map(|class| class.cost);
        let all = SharedWork { cost: of_classes.fold(0, u64::saturating_add), executors: takers };
        let group = &self.groups[&self.lanes[&lane].key.group];
        let of_group = SharedWork { cost: group.cost, executors: takers.min(group.batches_max) };
        cut::target([all, of_group], least, budget)
    }

    /// Takes the first jobs of a lane: at least one, then as many as fit the intended cost. They are returned in the order of
    /// submission within each order.
    pub(super) fn take(&mut self, id: LaneId, target: u64) -> TakenJobs {
        let lane = &self.lanes[&id];
        let most = if lane.past.as_ref().is_some_and(|past| past.alone) { 1 } else { self.max_batch };
        let (group, class, key) = (lane.key.group, lane.key.class, Arc::clone(&lane.key.key));
        let (count, cost) = cut::count(lane.jobs.values().copied(), target, most);
        let mut places: Vec<QueueOrder> = self.edit(id, |pending| {
            let taken = std::iter::from_fn(|| pending.pop_first()).take(count);
            taken.map(|(place, _)| place).collect()
        });
        places.sort_unstable_by_key(|(order, _, job)| (*order, *job));
        self.count_taken(group, class, count, cost);
        TakenJobs { group, key, jobs: places.into_iter().map(|(.., job)| job).collect(), cost }
    }
}
