//! `ci-status logs --follow`: a log as it grows, to its end.

use std::io::{self, Read as _, Write};
use std::time::{Duration, Instant};

use super::logs::{Extent, Place};
use crate::problem::Problem;
use crate::source::Source;

/// How often there is a look at what is new.
const PAUSE: Duration = Duration::from_millis(300);
/// How often the test's status is looked at: a finished log may come a moment after the growing one has gone.
const STATUS: Duration = Duration::from_secs(1);
/// How long a test that runs may have no log yet, or none any more.
const PATIENCE: Duration = Duration::from_secs(20);

/// Prints the log from its beginning until the test has ended; a finished one at once.
pub fn run(
    source: &Source,
    commit: &str,
    test: &str,
    extent: Extent,
    out: &mut dyn Write,
) -> Result<(), Problem> {
    let mut place = Place::find(source, commit, test)?;
    let kind = extent.kind();
    let mut offset = 0u64;
    let (mut silent_since, mut looked) = (Instant::now(), Instant::now());
    loop {
        match source.results.growth(&place.commit, &place.key, kind, offset)? {
            Some(bytes) if !bytes.is_empty() => {
                out.write_all(&bytes)?;
                out.flush()?;
                offset += bytes.len() as u64;
                silent_since = Instant::now();
                continue;
            }
            Some(_) => silent_since = Instant::now(),
            None => {
                source.results.refresh();
                let log = source.results.log(&place.commit, &place.key, kind)?;
                if let Some(log) = log.filter(|log| !log.is_live()) {
                    // The finished one begins with what was printed already.
                    let mut rest = log.open()?;
                    io::copy(&mut (&mut *rest).take(offset), &mut io::sink())?;
                    io::copy(&mut rest, out)?;
                    return Ok(out.flush()?);
                }
                if silent_since.elapsed() > PATIENCE || place.status().is_final() && offset == 0 {
                    return Err(place.no_log(kind));
                }
            }
        }
        if looked.elapsed() > STATUS {
            looked = Instant::now();
            source.results.refresh();
            let results = source.results.commit(&place.commit)?;
            place.entry = results.and_then(|results| results.get(&place.key).cloned());
        }
        std::thread::sleep(PAUSE);
    }
}
