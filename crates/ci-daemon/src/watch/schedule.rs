//! Decides which branches are fetched next. Pure.
//!
//! A fetch that hangs must not delay the others, so there are permits for three kinds of branches: those with a
//! quick last fetch, new ones, and those with a slow or failed last fetch. A fetch that takes longer than [`SLOW`]
//! releases its permit and continues; until it ends, new branches of the same host are treated as slow. No user gets
//! more than a share of the permits, and users with fewer running fetches come first. The limits in total do not apply
//! to the first fetch of a user, so that users cannot exhaust them for others.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use model::{BranchRef, SuiteName, UserName};
use tokio::time::Instant;

/// A fetch that takes longer is slow.
pub(crate) const SLOW: Duration = Duration::from_secs(2);
/// The number of permits for quick branches, and for new ones.
const PERMITS: usize = 8;
/// The number of permits for branches that were slow or failed the last time, per user and in total.
const SLOW_PERMITS: usize = 2;
const SLOW_TOTAL: usize = 16;
/// The maximum number of fetches without a permit, per user and in total.
const OVERDUE_PER_USER: usize = 32;
const OVERDUE: usize = 64;

/// What is fetched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FetchedRef {
    /// A branch.
    Branch(BranchRef),
    /// The source of a test suite. It is treated like a branch of a user of its own.
    Suite(SuiteName),
}

impl FetchedRef {
    fn user(&self) -> Option<&UserName> {
        match self {
            Self::Branch(branch) => Some(&branch.user),
            Self::Suite(_) => None,
        }
    }
}

/// The result of the last fetch of a branch. A branch without one is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Quick,
    New,
    Slow,
}

#[derive(Debug)]
struct Running {
    since: Instant,
    kind: Kind,
}

/// The waiting and running fetches, and the results of the last ones.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    waiting: VecDeque<FetchedRef>,
    running: BTreeMap<FetchedRef, Running>,
    /// Whether the last fetch was quick.
    last: BTreeMap<FetchedRef, bool>,
    /// The host of each branch with a waiting or running fetch.
    hosts: BTreeMap<FetchedRef, String>,
}

impl Schedule {
    /// Adds a fetch of a branch that has no waiting or running fetch. `host` is the host of its remote.
    pub(crate) fn add(&mut self, branch: FetchedRef, host: &str) {
        if !self.running.contains_key(&branch) && !self.waiting.contains(&branch) {
            self.hosts.insert(branch.clone(), host.to_owned());
            self.waiting.push_back(branch);
        }
    }

    /// Removes branches that are no longer configured. Their running fetches continue.
    pub(crate) fn retain(&mut self, wanted: impl Fn(&FetchedRef) -> bool) {
        self.waiting.retain(|branch| wanted(branch));
        let running = &self.running;
        self.hosts.retain(|branch, _| wanted(branch) || running.contains_key(branch));
        self.last.retain(|branch, _| wanted(branch));
    }

    /// Whether no fetch is waiting or running.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Whether only slow fetches are left.
    pub(crate) fn only_slow_left(&self, now: Instant) -> bool {
        self.waiting.iter().all(|branch| self.kind(branch, now) == Kind::Slow)
            && self.running.values().all(|running| running.kind == Kind::Slow || is_overdue(running, now))
    }

    /// Starts the next fetch if there is a permit for it. At most `per_user` fetches of one user have a permit. Quick
    /// branches come first, then new ones. Of each kind, those of the user with the fewest running fetches come first, and
    /// then those that were added first.
    pub(crate) fn start(&mut self, now: Instant, per_user: usize) -> Option<FetchedRef> {
        let startable =
            |branch: &FetchedRef| self.has_permit(branch.user(), self.kind(branch, now), now, per_user);
        let candidates = self.waiting.iter().enumerate().filter(|(_, branch)| startable(branch));
        let running = |user| self.running.keys().filter(|branch| branch.user() == user).count();
        let (kind, _, at) =
            candidates.map(|(at, branch)| (self.kind(branch, now), running(branch.user()), at)).min()?;
        let branch = self.waiting.remove(at)?;
        self.running.insert(branch.clone(), Running { since: now, kind });
        Some(branch)
    }

    /// A fetch has ended.
    pub(crate) fn ended(&mut self, branch: &FetchedRef, now: Instant, succeeded: bool) {
        let Some(running) = self.running.remove(branch) else { return };
        self.hosts.remove(branch);
        self.last.insert(branch.clone(), succeeded && !is_overdue(&running, now));
    }

    /// The time when a running fetch will release its permit, if another one waits.
    pub(crate) fn next_overdue(&self, now: Instant) -> Option<Instant> {
        if self.waiting.is_empty() {
            return None;
        }
        let running = self.running.values().filter(|running| !is_overdue(running, now));
        running.map(|running| running.since + SLOW).min()
    }

    fn kind(&self, branch: &FetchedRef, now: Instant) -> Kind {
        match self.last.get(branch) {
            Some(true) => Kind::Quick,
            None if self.is_host_slow(branch, now) => Kind::Slow,
            None => Kind::New,
            Some(false) => Kind::Slow,
        }
    }

    /// Whether another fetch from the host of a branch is overdue.
    fn is_host_slow(&self, branch: &FetchedRef, now: Instant) -> bool {
        let host = self.hosts.get(branch);
        let mut overdue = self.running.iter().filter(|(_, running)| is_overdue(running, now));
        overdue.any(|(other, _)| host.is_some() && self.hosts.get(other) == host)
    }

    /// Slow fetches keep their permits, so that their number is limited by the permits. The others release them, up
    /// to the limits for fetches without a permit.
    fn has_permit(&self, user: Option<&UserName>, kind: Kind, now: Instant, per_user: usize) -> bool {
        let of_user = |branch: &FetchedRef| branch.user() == user;
        if kind == Kind::Slow {
            let slow = self.running.iter().filter(|(_, running)| running.kind == Kind::Slow);
            let own = slow.clone().filter(|(branch, _)| of_user(branch)).count();
            return own < SLOW_PERMITS.min(per_user) && (own == 0 || slow.count() < SLOW_TOTAL);
        }
        let fast = self.running.iter().filter(|(_, running)| running.kind != Kind::Slow);
        let overdue = fast.clone().filter(|(_, running)| is_overdue(running, now));
        let (overdue_all, overdue_own) =
            (overdue.clone().count(), overdue.filter(|(branch, _)| of_user(branch)).count());
        // Fetches beyond the limits occupy permits again. Quick branches always have their permits.
        let beyond =
            |count: usize, most: usize| if kind == Kind::New { count.saturating_sub(most) } else { 0 };
        let active = fast.filter(|(_, running)| !is_overdue(running, now));
        let same = active.clone().filter(|(_, running)| running.kind == kind).count();
        let own = active.filter(|(branch, running)| running.kind == kind && of_user(branch)).count();
        let beyond_all = if overdue_own == 0 { 0 } else { beyond(overdue_all, OVERDUE) };
        same + beyond_all < PERMITS && own + beyond(overdue_own, OVERDUE_PER_USER) < per_user
    }
}

fn is_overdue(running: &Running, now: Instant) -> bool {
    now.duration_since(running.since) >= SLOW
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch(name: &str) -> FetchedRef {
        FetchedRef::Branch(name.parse().unwrap())
    }

    /// A schedule with branches of these names. The last fetches of `quick` were quick, those of `slow` were slow.
    fn schedule(new: &[&str], quick: &[&str], slow: &[&str]) -> Schedule {
        let mut schedule = Schedule::default();
        for (names, quick) in [(quick, true), (slow, false)] {
            schedule.last.extend(names.iter().map(|name| (branch(name), quick)));
        }
        for name in [slow, new, quick].concat() {
            schedule.add(branch(name), name);
        }
        schedule
    }

    fn started(schedule: &mut Schedule, now: Instant, per_user: usize) -> String {
        let started: Vec<_> = std::iter::from_fn(|| schedule.start(now, per_user)).collect();
        let names = started.iter().map(|name| match name {
            FetchedRef::Branch(branch) => branch.to_string(),
            FetchedRef::Suite(suite) => suite.to_string(),
        });
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn quick_branches_come_first_and_slow_ones_have_separate_permits() {
        let now = Instant::now();
        for (new, quick, slow, per_user, expected) in [
            (vec![], vec![], vec![], 8, ""),
            (vec!["u/new"], vec!["u/quick"], vec!["u/slow"], 8, "u/quick u/new u/slow"),
            (vec![], vec![], vec!["u/a", "u/b", "u/c"], 8, "u/a u/b"),
            (vec!["u/a", "u/b", "v/a"], vec![], vec![], 1, "u/a v/a"),
            (vec!["u/a", "u/b"], vec!["u/c"], vec!["u/d", "u/e"], 1, "u/c u/a u/d"),
        ] {
            let mut schedule = schedule(&new, &quick, &slow);
            assert_eq!(started(&mut schedule, now, per_user), expected, "{new:?} {quick:?} {slow:?}");
        }
    }

    #[test]
    fn a_slow_fetch_releases_its_permit_once() {
        let now = Instant::now();
        let names: Vec<String> = (0..9).map(|number| format!("u/b{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut schedule = schedule(&names, &[], &[]);
        assert_eq!(started(&mut schedule, now, 8).split(' ').count(), 8);
        assert_eq!(schedule.next_overdue(now), Some(now + SLOW));
        assert_eq!(started(&mut schedule, now + SLOW, 8), "u/b8");
        assert_eq!(schedule.next_overdue(now + SLOW), None, "nothing waits");
        // It was slow, so it is treated as slow the next time.
        schedule.ended(&branch("u/b0"), now + SLOW, true);
        schedule.add(branch("u/b0"), "b0");
        assert_eq!(schedule.kind(&branch("u/b0"), now + SLOW), Kind::Slow);
        assert_eq!(started(&mut schedule, now + SLOW, 8), "u/b0");
        schedule.ended(&branch("u/b0"), now + SLOW, true);
        assert_eq!(schedule.kind(&branch("u/b0"), now + SLOW), Kind::Quick);
        schedule.ended(&branch("u/b8"), now + SLOW, false);
        assert_eq!(schedule.kind(&branch("u/b8"), now + SLOW), Kind::Slow);
    }

    #[test]
    fn fifty_hanging_branches_do_not_delay_quick_branches_and_other_users() {
        let began = Instant::now();
        let hanging: Vec<String> = (0..50).map(|number| format!("u/hangs{number}")).collect();
        let mut schedule = Schedule::default();
        schedule.last.insert(branch("u/quick"), true);
        hanging.iter().for_each(|name| schedule.add(branch(name), name));
        for seconds in 0..120 {
            let now = began + Duration::from_secs(seconds);
            started(&mut schedule, now, 4);
            assert!(schedule.running.len() <= PERMITS + OVERDUE_PER_USER, "{}", schedule.running.len());
            for name in ["u/quick", "v/new"] {
                schedule.add(branch(name), name);
                assert_eq!(started(&mut schedule, now, 4), name, "after {seconds} s");
                schedule.ended(&branch(name), now, true);
                schedule.last.insert(branch("u/quick"), true);
                schedule.last.remove(&branch("v/new"));
            }
        }
        let now = began + Duration::from_secs(120);
        for name in &hanging {
            schedule.ended(&branch(name), now, false);
        }
        // The next time, they have the two permits for slow branches.
        hanging.iter().for_each(|name| schedule.add(branch(name), name));
        started(&mut schedule, now, 8);
        let slow = schedule.running.values().filter(|running| running.kind == Kind::Slow).count();
        assert_eq!(slow, SLOW_PERMITS);
    }

    #[test]
    fn users_with_hanging_remotes_together_do_not_delay_others() {
        let began = Instant::now();
        let users = 5;
        let hanging: Vec<String> =
            (0..users * 50).map(|number| format!("bad{}/hangs{number}", number % users)).collect();
        let mut schedule = Schedule::default();
        for round in 0..3 {
            let began = began + Duration::from_secs(round * 1000);
            hanging.iter().for_each(|name| schedule.add(branch(name), name));
            for seconds in (0..240).step_by(9) {
                let now = began + Duration::from_secs(seconds);
                started(&mut schedule, now, 4);
                assert!(schedule.running.len() <= OVERDUE + SLOW_TOTAL + 2 * PERMITS);
                for (name, quick) in [("me/quick", Some(true)), ("me/new", None), ("me/failed", Some(false))]
                {
                    schedule.last.remove(&branch(name));
                    schedule.last.extend(quick.map(|quick| (branch(name), quick)));
                    schedule.add(branch(name), name);
                    // A permit of another user is released after two seconds.
                    let began = started(&mut schedule, now, 4).contains(name)
                        || started(&mut schedule, now + SLOW, 4).contains(name);
                    assert!(began, "{name} in round {round} after {seconds} s");
                    schedule.ended(&branch(name), now, true);
                }
            }
            for name in &hanging {
                schedule.ended(&branch(name), began + Duration::from_secs(240), false);
            }
        }
    }

    #[test]
    fn new_branches_of_a_host_that_hangs_wait_for_the_permits_of_slow_ones() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        for number in 0..50 {
            schedule.add(branch(&format!("u/hangs{number}")), "hangs.example.org");
        }
        schedule.add(branch("u/new"), "git.example.org");
        assert_eq!(started(&mut schedule, now, 4), "u/hangs0 u/hangs1 u/hangs2 u/hangs3");
        assert_eq!(started(&mut schedule, now + SLOW, 4), "u/new u/hangs4 u/hangs5");
        assert!(!schedule.only_slow_left(now + SLOW));
        schedule.ended(&branch("u/new"), now + SLOW, true);
        assert!(schedule.only_slow_left(now + SLOW));
    }

    #[test]
    fn suites_do_not_wait_for_the_branches_of_users() {
        let now = Instant::now();
        let mut schedule = schedule(&["u/a", "u/b"], &[], &[]);
        schedule.add(FetchedRef::Suite("xfstests".parse().unwrap()), "git.example.org");
        assert_eq!(started(&mut schedule, now, 1), "u/a xfstests");
    }

    #[test]
    fn removed_branches_are_dropped() {
        let now = Instant::now();
        let mut schedule = schedule(&["u/a", "u/b"], &[], &["u/c"]);
        schedule.retain(|name| *name == branch("u/a"));
        schedule.add(branch("u/a"), "a");
        assert_eq!(started(&mut schedule, now, 8), "u/a");
        assert!(schedule.last.is_empty() && !schedule.is_idle());
        schedule.ended(&branch("u/a"), now, true);
        assert!(schedule.is_idle() && schedule.only_slow_left(now));
    }
}
