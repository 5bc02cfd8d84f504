//! What the hosts did in the last day: tests, and slot time by what it was used for. Pure. Counted in hours, from the start of the
//! daemon on.

use std::collections::{BTreeMap, VecDeque};

use model::HostReport;
use model::snapshot::HostStatus;

/// The number of hours that are kept, the current one included.
const HOURS: usize = 24;
/// The maximum time in seconds between two samples that counts: after a longer one, the machine was suspended.
const INTERVAL_MAX: i64 = 60;

/// What a slot is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotUse {
    /// A kernel is built, found or downloaded.
    Building,
    /// A VM boots.
    Booting,
    /// Subtests run.
    Testing,
    /// Nothing.
    Idle,
    /// Its executor is not usable.
    Broken,
}

/// What a host did in an hour.
#[derive(Debug, Clone, Copy, Default)]
struct Hour {
    /// The hour, counted from 1970.
    number: i64,
    tests: u64,
    building_s: u64,
    booting_s: u64,
    testing_s: u64,
    idle_s: u64,
}

#[derive(Debug, Default)]
struct Host {
    /// The oldest first.
    hours: VecDeque<Hour>,
    /// The load of the last verdict in percent, and its time.
    load: Option<(u32, i64)>,
    /// The newest report, and its time.
    report: Option<(HostReport, i64)>,
}

/// What the hosts did.
#[derive(Debug, Default)]
pub struct HostActivity {
    hosts: BTreeMap<String, Host>,
    begun: Option<i64>,
    sampled: i64,
}

impl HostActivity {
    /// Counts the time since the last sample for the slots of hosts. Hosts without slots are forgotten. `now` in Unix seconds.
    pub fn sample<'a>(&mut self, slots: impl IntoIterator<Item = (&'a str, SlotUse)>, now: i64) {
        self.begun.get_or_insert(now);
        let seconds = now - std::mem::replace(&mut self.sampled, now);
        let seconds = if (0..=INTERVAL_MAX).contains(&seconds) { seconds.unsigned_abs() } else { 0 };
        let mut before = std::mem::take(&mut self.hosts);
        for (name, slot) in slots {
            let known = |hosts: &mut BTreeMap<String, Host>| hosts.remove(name).unwrap_or_default();
            let host = self.hosts.entry(name.into()).or_insert_with(|| known(&mut before));
            let hour = host.hour(now);
            match slot {
                SlotUse::Building => hour.building_s += seconds,
                SlotUse::Booting => hour.booting_s += seconds,
                SlotUse::Testing => hour.testing_s += seconds,
                SlotUse::Idle => hour.idle_s += seconds,
                SlotUse::Broken => {}
            }
        }
    }

    /// Counts a verdict, with the load of the host if it is known.
    pub fn verdict(&mut self, host: &str, load: Option<u32>, now: i64) {
        let host = self.hosts.entry(host.into()).or_default();
        host.hour(now).tests += 1;
        host.load = load.map(|load| (load, now)).or(host.load);
    }

    /// Keeps the report of a host.
    pub fn report(&mut self, host: &str, report: HostReport, now: i64) {
        let host = self.hosts.entry(host.into()).or_default();
        host.load = report.load.map(|load| (load, now)).or(host.load);
        host.report = Some((report, now));
    }

    /// The status of the hosts. `now` in Unix seconds.
    #[must_use]
    pub fn status(&self, now: i64) -> Vec<HostStatus> {
        let oldest = now.div_euclid(3600) - HOURS as i64 + 1;
        let since = self.begun.unwrap_or(now).max(oldest * 3600);
        let status = |(name, host): (&String, &Host)| {
            let hours: Vec<&Hour> = host.hours.iter().filter(|hour| hour.number >= oldest).collect();
            let sum = |value: fn(&Hour) -> u64| hours.iter().map(|hour| value(hour)).sum();
            HostStatus {
                name: name.clone(),
                since,
                tests: sum(|hour| hour.tests),
                building_s: sum(|hour| hour.building_s),
                booting_s: sum(|hour| hour.booting_s),
                testing_s: sum(|hour| hour.testing_s),
                idle_s: sum(|hour| hour.idle_s),
                load: host.load.map(|(load, _)| load),
                load_at: host.load.map(|(_, at)| at),
                report: host.report.map(|(report, _)| report),
                reported: host.report.map(|(_, at)| at),
            }
        };
        self.hosts.iter().map(status).collect()
    }
}

impl Host {
    fn hour(&mut self, now: i64) -> &mut Hour {
        let number = now.div_euclid(3600);
        if self.hours.back().is_none_or(|hour| hour.number < number) {
            if self.hours.len() == HOURS {
                self.hours.pop_front();
            }
            self.hours.push_back(Hour { number, ..Hour::default() });
        }
        let last = self.hours.len() - 1;
        &mut self.hours[last]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    #[test]
    fn slot_time_is_counted_by_its_use() {
        let mut activity = HostActivity::default();
        let slots = [("a", SlotUse::Building), ("a", SlotUse::Testing), ("b", SlotUse::Idle)];
        activity.sample(slots, 1000);
        activity.sample(slots, 1002);
        activity.verdict("a", Some(150), 1003);
        activity.verdict("a", None, 1003);
        activity.sample([("a", SlotUse::Booting), ("a", SlotUse::Broken), ("b", SlotUse::Idle)], 1005);
        let [a, b] = activity.status(1005).try_into().unwrap();
        assert_eq!((a.building_s, a.booting_s, a.testing_s, a.idle_s), (2, 3, 2, 0));
        assert_eq!(
            (a.name.as_str(), a.since, a.tests, a.load, a.load_at),
            ("a", 1000, 2, Some(150), Some(1003))
        );
        assert_eq!((b.idle_s, b.tests, b.load), (5, 0, None));
        let report = HostReport { load: Some(20), memory_total: Some(64), ..HostReport::default() };
        activity.report("b", report, 1006);
        activity.report("a", HostReport::default(), 1006);
        let [a, b] = activity.status(1007).try_into().unwrap();
        assert_eq!((a.load, a.reported, b.load, b.report), (Some(150), Some(1006), Some(20), Some(report)));
        // The machine was suspended, and the clock was set back.
        activity.sample(slots, 1005 + 10_000);
        activity.sample(slots, 5);
        assert_eq!(activity.status(1005)[1].idle_s, 5);
        // A host that is no longer configured.
        activity.sample([("b", SlotUse::Idle)], 7);
        assert_eq!(activity.status(7).len(), 1);
    }

    #[test]
    fn a_day_is_kept() {
        let mut activity = HostActivity::default();
        activity.sample([("a", SlotUse::Idle)], 0);
        for hour in 0..100 {
            activity.verdict("a", None, hour * HOUR + 1);
        }
        let now = 99 * HOUR + 1800;
        let [host] = activity.status(now).try_into().unwrap();
        assert_eq!((host.tests, host.since), (24, 76 * HOUR));
        // Nothing happened since.
        assert_eq!(activity.status(now + 12 * HOUR)[0].tests, 12);
        assert_eq!(activity.status(now + 48 * HOUR)[0].tests, 0);
    }
}
