//! What the farm does for a commit at the moment, from the status snapshot of the daemon.

use std::fmt;
use std::time::Duration;

use model::snapshot::{BatchStatus, ExecutorStatus};
use model::{BuiltKernel, StatusSnapshot};

/// A batch of a commit on an executor. The texts are those of the snapshot, which is not trusted.
#[derive(Debug, Clone, Copy)]
pub struct Activity<'a> {
    /// The executor: `local/0`.
    pub executor: &'a str,
    /// The batch.
    pub batch: &'a BatchStatus,
    /// The time of the page or command, in Unix seconds.
    pub now: i64,
}

/// The batches of a commit: builds first, then in the order of the executors.
#[must_use]
pub fn of_commit<'a>(snapshot: &'a StatusSnapshot, commit: &str, now: i64) -> Vec<Activity<'a>> {
    let of = |executor: &'a ExecutorStatus| {
        let batch = executor.batch.as_ref().filter(|batch| batch.commit == commit)?;
        Some(Activity { executor: &executor.name, batch, now })
    };
    let mut found: Vec<Activity<'_>> = snapshot.executors.iter().filter_map(of).collect();
    // Several batches can wait for the same build: the one that makes progress first.
    found.sort_by_key(|activity| (!activity.is_build(), std::cmp::Reverse(activity.batch.objects)));
    found
}

/// The work that is left for a commit, as far as the snapshot shows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// The number of tests that are queued, or in a batch and without a verdict.
    pub tests: usize,
    /// The estimated time until the kernel is built.
    pub build: Duration,
}

impl Work {
    /// The work for a commit. `past_build`: the time that a recent build took, if it is known; `is_built`: whether a test of the commit
    /// has a verdict.
    #[must_use]
    pub fn of_commit(
        snapshot: &StatusSnapshot,
        commit: &str,
        now: i64,
        (past_build, is_built): (Option<Duration>, bool),
    ) -> Self {
        let pending = snapshot.pending_by_commit.as_ref().and_then(|pending| pending.get(commit)).copied();
        let pending = usize::try_from(pending.unwrap_or(0)).unwrap_or(usize::MAX);
        let running = of_commit(snapshot, commit, now);
        let left =
            |activity: &Activity<'_>| activity.batch.subtests.saturating_sub(activity.batch.done) as usize;
        let tests = running.iter().map(left).fold(pending, usize::saturating_add);
        let build = match running.iter().find(|activity| activity.is_build()) {
            Some(building) => building.build_left(past_build),
            None if is_built || tests == 0 || !running.is_empty() => Duration::ZERO,
            None => past_build.unwrap_or_default(),
        };
        Self { tests, build }
    }
}

impl Activity<'_> {
    /// The estimated rest of its build: as many objects per second as until now, or else as long as the last one.
    fn build_left(&self, past_build: Option<Duration>) -> Duration {
        let spent = Duration::from_secs(self.seconds());
        match (self.batch.objects, self.batch.objects_total) {
            (Some(done @ 1..), Some(total)) => {
                spent.saturating_mul(total.saturating_sub(done)).checked_div(done).unwrap_or_default()
            }
            _ => past_build.unwrap_or_default().saturating_sub(spent),
        }
    }

    /// Whether its kernel is being built.
    #[must_use]
    pub fn is_build(&self) -> bool {
        self.batch.phase == "building"
    }

    /// The kernel.
    #[must_use]
    pub fn kernel(&self) -> &BuiltKernel {
        &self.batch.kernel
    }

    /// How long it has been in its phase, in seconds.
    fn seconds(&self) -> u64 {
        let since = self.batch.phase_started.unwrap_or(self.batch.started);
        u64::try_from(self.now.saturating_sub(since)).unwrap_or(0)
    }
}

/// `building 6 min on local/0 (1,840 of 2,900 objects)`, `testing 40 s on local/0 (3 of 26 tests)`.
impl fmt::Display for Activity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = |text: &str| text.chars().take(60).collect::<String>();
        let batch = self.batch;
        let phase = if batch.phase.is_empty() { "starting".into() } else { cut(&batch.phase) };
        write!(f, "{phase} {} on {}", Short(self.seconds()), cut(self.executor))?;
        match (batch.objects, batch.objects_total) {
            (Some(done), Some(total)) => write!(f, " ({} of {} objects)", Thousands(done), Thousands(total)),
            (Some(done), None) => write!(f, " ({} objects)", Thousands(done)),
            (None, _) if phase == "testing" => write!(f, " ({} of {} tests)", batch.done, batch.subtests),
            (None, _) => Ok(()),
        }
    }
}

/// `40 s`, `6 min`, `2 h 5 min`.
struct Short(u64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            seconds @ 0..120 => write!(f, "{seconds} s"),
            seconds @ 120..7200 => write!(f, "{} min", seconds / 60),
            seconds => write!(f, "{} h {} min", seconds / 3600, seconds % 3600 / 60),
        }
    }
}

/// `1,840`.
struct Thousands(u32);

impl fmt::Display for Thousands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            small @ 0..1000 => write!(f, "{small}"),
            large => write!(f, "{},{:03}", Self(large / 1000), large % 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::too_many_lines, reason = "one snapshot for all cases")]
    fn activities_in_words() {
        let batch = |phase: &str, objects: Option<u32>, total: Option<u32>| BatchStatus {
            commit: "c".into(),
            phase: phase.into(),
            subtests: 26,
            done: 3,
            started: 100,
            phase_started: Some(640),
            objects,
            objects_total: total,
            ..BatchStatus::default()
        };
        let executor = |name: &str, batch: BatchStatus| ExecutorStatus {
            name: name.into(),
            batch: Some(batch),
            ..ExecutorStatus::default()
        };
        let other = BatchStatus { commit: "d".into(), ..batch("testing", None, None) };
        let old = BatchStatus { phase_started: None, phase: String::new(), ..batch("", None, None) };
        let snapshot = StatusSnapshot {
            executors: vec![
                executor("a/0", batch("testing", None, None)),
                executor("a/1", other),
                executor("a/2", batch("building", None, None)),
                executor("a/3", batch("building", Some(1840), Some(1_002_900))),
                executor("a/4", batch("building", Some(12), None)),
                executor("a/5", old),
                ExecutorStatus::default(),
            ],
            ..StatusSnapshot::default()
        };
        let words: Vec<String> = of_commit(&snapshot, "c", 1000).iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            [
                "building 6 min on a/3 (1,840 of 1,002,900 objects)",
                "building 6 min on a/4 (12 objects)",
                "building 6 min on a/2",
                "testing 6 min on a/0 (3 of 26 tests)",
                "starting 15 min on a/5",
            ]
        );
        assert_eq!(Short(9000).to_string(), "2 h 30 min");
        // 100 of 200 objects took 360 s; the second batch waits for the same kernel.
        let half = |phase: &str| batch(phase, Some(100), Some(200));
        let mut snapshot = StatusSnapshot {
            executors: vec![
                executor("a/0", half("building")),
                executor("a/1", batch("building", None, None)),
            ],
            pending_by_commit: Some([("c".to_owned(), 40), ("d".to_owned(), 7)].into()),
            ..StatusSnapshot::default()
        };
        let past = Some(Duration::from_secs(500));
        let work = |snapshot: &StatusSnapshot, commit: &str, is_built| {
            let Work { tests, build } = Work::of_commit(snapshot, commit, 1000, (past, is_built));
            (tests, build.as_secs())
        };
        assert_eq!(work(&snapshot, "c", false), (40 + 23 + 23, 360));
        assert_eq!(work(&snapshot, "d", false), (7, 500), "it is queued, and its kernel is not built");
        assert_eq!(work(&snapshot, "d", true), (7, 0));
        assert_eq!(work(&snapshot, "e", false), (0, 0));
        assert_eq!(["c", "d", "e"].map(|commit| snapshot.is_active(commit)), [true, true, false]);
        snapshot.executors.truncate(0);
        snapshot.executors.push(executor("a/1", batch("building", None, None)));
        assert_eq!(work(&snapshot, "c", false), (63, 140), "as long as the last build");
    }
}
