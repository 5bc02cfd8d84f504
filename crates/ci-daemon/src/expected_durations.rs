//! The expected durations of subtests, read in the background: with many subtests this takes seconds.

use std::collections::{BTreeSet, HashMap};
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

/// The expected durations as last read, by result key.
#[derive(Debug, Default)]
pub struct ExpectedDurations {
    last: Arc<Mutex<Arc<HashMap<ResultKey, Duration>>>>,
    begun: Option<Instant>,
}

impl ExpectedDurations {
    /// The durations as last read; none until they have been read once. Starts reading if they are old.
    pub fn newest(&mut self, reader: Reader, config: &Arc<Config>) -> Arc<HashMap<ResultKey, Duration>> {
        if self.begun.is_none_or(|begun| begun.elapsed() > AGE_MAX) {
            self.begun = Some(Instant::now());
            let (last, config) = (Arc::clone(&self.last), Arc::clone(config));
            let update = move || {
                let durations = Arc::new(read(&reader, &config));
                *last.lock().unwrap_or_else(PoisonError::into_inner) = durations;
            };
            let thread = std::thread::Builder::new().name("expected durations".into()).spawn(update);
            if let Err(error) = thread {
                tracing::warn!("the expected durations cannot be read: {error}");
            }
        }
        Arc::clone(&self.last.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The expected durations of all subtests that ran. Takes seconds for 100,000 subtests.
pub fn read(reader: &Reader, config: &Config) -> HashMap<ResultKey, Duration> {
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
