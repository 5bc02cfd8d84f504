//! The executors, indexed by the classes of jobs that they can take.
//!
//! Executors with the same host, tags and amounts share a profile. A class lists the profiles with waiting executors,
//! so the time to find an executor for a job does not depend on their number.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::hash::{NumberMap, NumberSet};
use super::health::Health;
use super::{BatchId, ClassId, ExecutorId, GroupId, ProfileId};
use crate::config::ms;
use crate::needs::Needs;
use crate::spec::ExecutorSpec;
use crate::state::ExecutorState;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: Arc<str>,
    pub(super) host: Arc<str>,
    pub(super) profile: ProfileId,
    /// In ms.
    pub(super) budget: u64,
    pub(super) health: Health,
    pub(super) batch: Option<BatchId>,
    /// Whether it has claimed a batch and is waiting.
    pub(super) waiting: bool,
    /// Its position among the executors of its profile that are ready for a batch.
    ticket: Option<u64>,
    /// Whether it was removed and no longer takes batches.
    pub(super) leaving: bool,
    /// Whether its body has returned.
    pub(super) gone: bool,
    pub(super) state: ExecutorState,
    pub(super) since: u64,
    pub(super) problem: Option<Arc<str>>,
    usable: bool,
    /// Whether its last batch failed and it is not quarantined.
    failing: bool,
}

impl Member {
    /// Derives the state from its batch and health.
    pub(super) fn settle(&mut self, now: u64) {
        let state = match self.health.pause {
            _ if self.batch.is_some() => ExecutorState::Busy,
            Some(_) if self.health.quarantined() => ExecutorState::Quarantined,
            Some(_) => ExecutorState::BackingOff,
            None => ExecutorState::Idle,
        };
        if state != self.state {
            debug_assert!(self.state.may_become(state), "{} -> {state}", self.state);
            self.state = state;
            self.since = now;
        }
    }
}

type ProfileKey = (Arc<str>, BTreeMap<String, String>, BTreeMap<String, u64>);

#[derive(Debug)]
struct Profile {
    key: ProfileKey,
    members: usize,
    /// The classes that its members can take.
    classes: Arc<Vec<ClassId>>,
    waiting: BTreeSet<(u64, ExecutorId)>,
    usable: usize,
}

#[derive(Debug)]
struct Class {
    needs: Needs,
    /// The profiles with waiting executors.
    waiting: BTreeSet<ProfileId>,
    /// The profile that was served last.
    cursor: ProfileId,
    /// The number of usable executors, by host.
    hosts: HashMap<Arc<str>, usize>,
    usable: usize,
}

#[derive(Debug, Default)]
pub(super) struct Roster {
    members: NumberMap<ExecutorId, Member>,
    profiles: NumberMap<ProfileId, Profile>,
    profile_ids: HashMap<ProfileKey, ProfileId>,
    classes: NumberMap<ClassId, Class>,
    class_ids: HashMap<Needs, ClassId>,
    /// The number of failing executors, by host.
    failing: HashMap<Arc<str>, usize>,
    /// The waiting executors whose pause applies only to some groups.
    open: BTreeSet<ExecutorId>,
    next: u64,
    sweep_at: usize,
}

impl Roster {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn get(&self, id: ExecutorId) -> Option<&Member> {
        self.members.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ExecutorId) -> Option<&mut Member> {
        self.members.get_mut(&id)
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (ExecutorId, &Member)> {
        self.members.iter().map(|(id, member)| (*id, member))
    }

    pub(super) fn add(&mut self, spec: &ExecutorSpec, now: u64) -> ExecutorId {
        let id = ExecutorId(self.number());
        let host: Arc<str> = spec.host.as_str().into();
        let profile = self.profile(&host, spec);
        self.profiles.get_mut(&profile).expect("just made").members += 1;
        let member = Member {
            name: spec.name.as_str().into(),
            host,
            profile,
            budget: ms(spec.budget),
            health: Health::default(),
            batch: None,
            waiting: false,
            ticket: None,
            leaving: false,
            gone: false,
            state: ExecutorState::Idle,
            since: now,
            problem: None,
            usable: false,
            failing: false,
        };
        self.members.insert(id, member);
        self.refresh(id);
        id
    }

    fn profile(&mut self, host: &Arc<str>, spec: &ExecutorSpec) -> ProfileId {
        let key = (Arc::clone(host), spec.tags.clone(), spec.amounts.clone());
        if let Some(&id) = self.profile_ids.get(&key) {
            return id;
        }
        let id = ProfileId(self.number());
        let mut classes: Vec<ClassId> = self
            .classes
            .iter()
            .filter(|(_, class)| class.needs.met_by(&key.1, &key.2))
            .map(|(class, _)| *class)
            .collect();
        classes.sort_unstable();
        self.profile_ids.insert(key.clone(), id);
        let profile =
            Profile { key, members: 0, classes: Arc::new(classes), waiting: BTreeSet::new(), usable: 0 };
        self.profiles.insert(id, profile);
        id
    }

    pub(super) fn delete(&mut self, id: ExecutorId) {
        if let Some(member) = self.members.get_mut(&id) {
            member.leaving = true;
            self.refresh(id);
            let member = self.members.remove(&id).expect("just seen");
            let profile = self.profiles.get_mut(&member.profile).expect("a member's profile is there");
            profile.members -= 1;
            if profile.members == 0 {
                let profile = self.profiles.remove(&member.profile).expect("just seen");
                self.profile_ids.remove(&profile.key);
            }
        }
    }

    /// The class for these needs. `in_use` returns the classes to keep when unused ones are deleted.
    pub(super) fn class(&mut self, needs: &Needs, in_use: impl FnOnce() -> NumberSet<ClassId>) -> ClassId {
        if let Some(&id) = self.class_ids.get(needs) {
            return id;
        }
        if self.classes.len() >= self.sweep_at.max(256) {
            self.delete_unused_classes(&in_use());
        }
        let id = ClassId(self.number());
        let mut class = Class {
            needs: needs.clone(),
            waiting: BTreeSet::new(),
            cursor: ProfileId(0),
            hosts: HashMap::new(),
            usable: 0,
        };
        for (profile_id, profile) in &mut self.profiles {
            if !needs.met_by(&profile.key.1, &profile.key.2) {
                continue;
            }
            Arc::make_mut(&mut profile.classes).push(id);
            if !profile.waiting.is_empty() {
                class.waiting.insert(*profile_id);
            }
            if profile.usable > 0 {
                class.usable += profile.usable;
                *class.hosts.entry(Arc::clone(&profile.key.0)).or_default() += profile.usable;
            }
        }
        self.classes.insert(id, class);
        self.class_ids.insert(needs.clone(), id);
        id
    }

    fn delete_unused_classes(&mut self, in_use: &NumberSet<ClassId>) {
        self.classes.retain(|id, _| in_use.contains(id));
        let classes = &self.classes;
        self.class_ids.retain(|_, id| classes.contains_key(id));
        for profile in self.profiles.values_mut() {
            if profile.classes.iter().any(|id| !classes.contains_key(id)) {
                Arc::make_mut(&mut profile.classes).retain(|id| classes.contains_key(id));
            }
        }
        self.sweep_at = self.classes.len() * 2;
    }

    pub(super) fn classes(&self) -> impl Iterator<Item = (ClassId, &Needs, usize)> {
        self.classes.iter().map(|(id, class)| (*id, &class.needs, class.usable))
    }

    /// The classes that members of a profile can take.
    pub(super) fn classes_of(&self, profile: ProfileId) -> Arc<Vec<ClassId>> {
        Arc::clone(&self.profiles[&profile].classes)
    }

    /// The numbers of usable executors and their hosts for a class.
    pub(super) fn takers(&self, class: ClassId) -> (usize, usize) {
        self.classes.get(&class).map_or((0, 0), |class| (class.usable, class.hosts.len()))
    }

    /// Whether a host has usable executors for a class.
    pub(super) fn host_can(&self, class: ClassId, host: &str) -> bool {
        self.classes.get(&class).is_some_and(|class| class.hosts.contains_key(host))
    }

    /// Whether an executor exists and is neither removed nor quarantined.
    pub(super) fn usable(&self, id: ExecutorId) -> bool {
        self.members.get(&id).is_some_and(|member| member.usable)
    }

    /// Whether neither the executor nor its host has failures.
    pub(super) fn is_healthy(&self, id: ExecutorId) -> bool {
        self.members
            .get(&id)
            .is_none_or(|member| member.health.failures == 0 && !self.failing.contains_key(&member.host))
    }

    /// The waiting executors of a class whose pause does not apply to a group.
    pub(super) fn open_to(&self, class: ClassId, group: GroupId) -> Vec<ExecutorId> {
        let fits = |id: &&ExecutorId| {
            self.members.get(id).is_some_and(|member| {
                self.profiles[&member.profile].classes.contains(&class) && !member.health.suspects(group)
            })
        };
        self.open.iter().filter(fits).copied().collect()
    }

    /// Updates the indices after a change of a member.
    pub(super) fn refresh(&mut self, id: ExecutorId) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let profile = self.profiles.get_mut(&member.profile).expect("a member's profile is there");
        let failing = !member.leaving && !member.health.quarantined() && member.health.failures > 0;
        if failing != member.failing {
            member.failing = failing;
            count(&mut self.failing, &member.host, failing);
        }
        let usable = !member.leaving && !member.health.quarantined();
        if usable != member.usable {
            member.usable = usable;
            if usable {
                profile.usable += 1;
            } else {
                profile.usable -= 1;
            }
            for class in profile.classes.iter() {
                self.classes.get_mut(class).expect("a profile's class is there").count(&member.host, usable);
            }
        }
        let claims = member.waiting && !member.leaving && member.batch.is_none();
        if claims && member.health.is_open_to_others() {
            self.open.insert(id);
        } else {
            self.open.remove(&id);
        }
        let ready = claims && member.health.pause.is_none();
        if ready == member.ticket.is_some() {
            return;
        }
        let others = profile.waiting.len();
        if let Some(ticket) = member.ticket.take() {
            profile.waiting.remove(&(ticket, id));
        } else {
            self.next += 1;
            member.ticket = Some(self.next);
            profile.waiting.insert((self.next, id));
        }
        if others > 0 && !profile.waiting.is_empty() {
            return;
        }
        for class in profile.classes.iter() {
            let waiting = &mut self.classes.get_mut(class).expect("a profile's class is there").waiting;
            if profile.waiting.is_empty() {
                waiting.remove(&member.profile);
            } else {
                waiting.insert(member.profile);
            }
        }
    }

    /// The number of profiles with executors that wait for a class.
    pub(super) fn waiting_profiles(&self, class: ClassId) -> usize {
        self.classes.get(&class).map_or(0, |class| class.waiting.len())
    }

    /// The first waiting members of the next profile for a class, round robin, so that the hosts are loaded evenly.
    pub(super) fn next_waiting(&mut self, class: ClassId, most: usize) -> Vec<ExecutorId> {
        let Some(class) = self.classes.get_mut(&class) else { return Vec::new() };
        let after = (std::ops::Bound::Excluded(class.cursor), std::ops::Bound::Unbounded);
        let Some(&profile) = class.waiting.range(after).next().or(class.waiting.first()) else {
            return Vec::new();
        };
        class.cursor = profile;
        self.profiles[&profile].waiting.iter().take(most).map(|(_, id)| *id).collect()
    }
}

impl Class {
    fn count(&mut self, host: &Arc<str>, more: bool) {
        if more {
            self.usable += 1;
        } else {
            self.usable -= 1;
        }
        count(&mut self.hosts, host, more);
    }
}

/// Increments or decrements a count. A count of zero is deleted.
fn count(counts: &mut HashMap<Arc<str>, usize>, host: &Arc<str>, more: bool) {
    if more {
        *counts.entry(Arc::clone(host)).or_default() += 1;
        return;
    }
    let left = counts.get_mut(host).expect("it was counted");
    *left -= 1;
    if *left == 0 {
        counts.remove(host);
    }
}
