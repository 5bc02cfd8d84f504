//! What the runs so far say about the next ones, read in the background: with many subtests this takes seconds.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use config::Config;
use model::{HostName, ResultKey};
use results::Reader;

use crate::plan::expected::{HostClass, RUNS, expected};

/// The time after which they are read again.
const AGE_MAX: Duration = Duration::from_secs(1800);
/// The maximum number of runs that are read per subtest.
const READ_MAX: usize = 100;

/// What is known from the runs so far. It is nothing until they have been read once.
#[derive(Debug, Clone, Default)]
pub struct PastRuns {
    /// The expected durations, by result key.
    pub durations: Arc<HashMap<ResultKey, Duration>>,
    /// The tests that fail only under load.
    pub fail_under_load: Arc<HashSet<ResultKey>>,
}

/// Reads the past runs from time to time.
#[derive(Debug, Default)]
pub struct PastRunsReader {
    last: Arc<Mutex<PastRuns>>,
    begun: Option<Instant>,
}

impl PastRunsReader {
    /// The past runs as last read. Starts reading if they are old.
    pub fn newest(&mut self, reader: Reader, config: &Arc<Config>) -> PastRuns {
        if self.begun.is_none_or(|begun| begun.elapsed() > AGE_MAX) {
            self.begun = Some(Instant::now());
            let (last, config) = (Arc::clone(&self.last), Arc::clone(config));
            let update = move || {
                let runs = PastRuns {
                    durations: Arc::new(durations(&reader, &config)),
                    fail_under_load: Arc::new(fail_under_load(&reader, &config)),
                };
                *last.lock().unwrap_or_else(PoisonError::into_inner) = runs;
            };
            let thread = std::thread::Builder::new().name("past runs".into()).spawn(update);
            if let Err(error) = thread {
                tracing::warn!("the past runs cannot be read: {error}");
            }
        }
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The expected durations of all subtests that ran. Takes seconds for 100,000 subtests.
pub fn durations(reader: &Reader, config: &Config) -> HashMap<ResultKey, Duration> {
    let class_of: HashMap<&HostName, HostClass> =
        config.hosts.values().map(|host| (&host.name, Some((host.kind, host.arch)))).collect();
    let classes = class_of.values().collect::<BTreeSet<_>>().len().max(1);
    let mut durations = HashMap::new();
    reader.recent_runs((RUNS * classes).min(READ_MAX), &mut |key, runs| {
        if let Some(expected) = expected(runs, &class_of) {
            durations.insert(key, expected);
        }
    });
    durations
}

/// The tests that fail only under load on a branch.
fn fail_under_load(reader: &Reader, config: &Config) -> HashSet<ResultKey> {
    let mut tests = HashSet::new();
    for branch in config.all_branches() {
        match reader.flaky(&branch.name) {
            Ok(found) => tests.extend(
                found
                    .into_iter()
                    .flatten()
                    .filter(|test| test.flaky.load.fails_only_under_load())
                    .map(|test| test.key),
            ),
            Err(error) => tracing::warn!("the flaky tests of {} cannot be read: {error}", branch.name),
        }
    }
    tests
}

#[cfg(test)]
mod tests {
    use model::{CommitId, Conditions, Verdict};
    use results::{VerdictRecord, Writer};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_test_that_passes_alone_and_fails_next_to_others_fails_under_load() {
        let dir = tempfile::tempdir().unwrap();
        let writer = Writer::open(dir.path()).unwrap();
        let commit: CommitId = "1".repeat(40).parse().unwrap();
        let config = format!(
            "linux_repo = {0:?}\noutput_dir = {0:?}\nktest_dir = {0:?}\nuser = \"u\"\n\
             [test_group.g]\ntests = [\"f.ktest\"]\n[branch.next]\nremote = \"/r\"\ntest_groups = [\"g\"]\n",
            dir.path()
        );
        std::fs::write(dir.path().join("ci.toml"), config).unwrap();
        let config = config::load(&dir.path().join("ci.toml")).unwrap();
        writer.set_branch(&"u/next".parse().unwrap(), vec![(commit.clone(), "one".into())]).await.unwrap();
        let record = |key: &str, fails: bool, alone: bool| {
            let verdict = if fails { Verdict::Failed { reason: "slow".into() } } else { Verdict::Passed };
            let conditions = Conditions { alone: Some(alone), ..Conditions::default() };
            let key = key.parse().unwrap();
            VerdictRecord { conditions, ..VerdictRecord::new(commit.clone(), key, verdict, Duration::ZERO) }
        };
        for _ in 0..4 {
            writer.record(record("f.load", true, false)).await.unwrap();
            writer.record(record("f.load", false, true)).await.unwrap();
            writer.record(record("f.flaky", true, false)).await.unwrap();
            writer.record(record("f.flaky", false, false)).await.unwrap();
        }
        writer.flush().await.unwrap();
        assert_eq!(fail_under_load(&writer.reader(), &config), ["f.load".parse().unwrap()].into());
        writer.close().await.unwrap();
    }
}
