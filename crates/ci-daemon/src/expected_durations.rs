//! The expected durations of subtests, read in the background: with many subtests this takes seconds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use config::Config;
use model::ResultKey;
use results::Reader;

use crate::plan::expected;

/// The time after which they are read again.
const AGE_MAX: Duration = Duration::from_secs(1800);

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
            let read = move || {
                let durations = Arc::new(expected::durations(&reader, &config));
                *last.lock().unwrap_or_else(PoisonError::into_inner) = durations;
            };
            let thread = std::thread::Builder::new().name("expected durations".into()).spawn(read);
            if let Err(error) = thread {
                tracing::warn!("the expected durations cannot be read: {error}");
            }
        }
        Arc::clone(&self.last.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
