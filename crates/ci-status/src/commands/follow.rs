//! `ci-status logs --follow`: prints a log while it grows, until the test ends.

use std::io::{self, Read as _, Write};
use std::time::{Duration, Instant};

use super::logs::{LogOptions, TestAtCommit};
use crate::context::Context;
use crate::problem::Problem;

/// The time between two reads.
const PAUSE: Duration = Duration::from_millis(300);
/// The interval between two reads of the status: the finished log may appear a moment after the growing one is removed.
const STATUS: Duration = Duration::from_secs(1);
/// The time for which a running test may have no log.
const LOG_TIMEOUT: Duration = Duration::from_secs(20);

/// Prints the log from the start until the test ends; the complete log if it has already ended.
pub fn run(
    context: &Context,
    commit: &str,
    test: &str,
    options: LogOptions,
    out: &mut dyn Write,
) -> Result<(), Problem> {
    let mut found = TestAtCommit::find(context, commit, test)?;
    let kind = options.kind();
    let mut offset = 0u64;
    let (mut silent_since, mut looked) = (Instant::now(), Instant::now());
    loop {
        match context.backend.growth(&found.commit, &found.key, kind, offset)? {
            Some(bytes) if !bytes.is_empty() => {
                out.write_all(&bytes)?;
                out.flush()?;
                offset += bytes.len() as u64;
                silent_since = Instant::now();
                continue;
            }
            Some(_) => silent_since = Instant::now(),
            None => {
                context.backend.refresh();
                let log = context.backend.log(&found.commit, &found.key, kind)?;
                if let Some(log) = log.filter(|log| !log.is_live()) {
                    // The finished log starts with the part that was already printed.
                    let mut rest = log.open()?;
                    io::copy(&mut (&mut *rest).take(offset), &mut io::sink())?;
                    io::copy(&mut rest, out)?;
                    return Ok(out.flush()?);
                }
                if silent_since.elapsed() > LOG_TIMEOUT || found.status().is_final() && offset == 0 {
                    return Err(found.no_log(kind));
                }
            }
        }
        if looked.elapsed() > STATUS {
            looked = Instant::now();
            context.backend.refresh();
            let results = context.backend.commit(&found.commit)?;
            found.entry = results.and_then(|results| results.get(&found.key).cloned());
        }
        std::thread::sleep(PAUSE);
    }
}
