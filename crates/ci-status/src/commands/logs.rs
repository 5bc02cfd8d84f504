//! `ci-status logs`: the log of one test, or of the whole VM run it was in.

use std::io::{self, Read, Write};

use model::{CommitId, ResultKey, Status};
use results::{Log, LogKind};
use serde::Serialize;

use super::{Answer, to_json};
use crate::problem::Problem;
use crate::select;
use crate::source::Source;

/// The longest log that `--json` gives, in bytes; longer ones are cut and say so.
const JSON_MAX: u64 = 64 << 20;

/// A log.
#[derive(Debug)]
pub struct Logs {
    commit: CommitId,
    key: ResultKey,
    status: Status,
    log: Log,
}

#[derive(Serialize)]
struct LogView {
    commit: String,
    test: String,
    status: Status,
    /// Whether the test still runs and the log grows.
    live: bool,
    /// Whether `log` is all there is.
    complete: bool,
    log: String,
}

/// Finds the log of the test that `test` means at the commit that `commit` means.
pub fn run(source: &Source, commit: &str, test: &str, full: bool) -> Result<Logs, Problem> {
    let commit = select::commit(source, Some(commit))?;
    let results = source.reader.commit(&commit)?;
    let entries = results.map(|results| results.entries).unwrap_or_default();
    let keys: Vec<ResultKey> = entries.iter().map(|entry| entry.key.clone()).collect();
    let key = select::test(&keys, test, commit.short())?;
    let entry = entries.iter().find(|entry| entry.key == key);
    let status = entry.map_or(Status::Unknown, |entry| entry.status);
    let (kind, name, hint) = if full {
        (LogKind::Full, "log of a VM run", "")
    } else {
        (LogKind::Subtest, "log", "; --full prints that of its VM run, if there was one")
    };
    match source.reader.log(&commit, &key, kind)? {
        Some(log) => Ok(Logs { commit, key, status, log }),
        None => {
            let reason = entry.and_then(|entry| entry.reason.as_deref());
            let status = match reason {
                Some(reason) => format!("{status}: {reason}"),
                None => status.to_string(),
            };
            Err(Problem::NoLog { key, commit, kind: name, status, hint })
        }
    }
}

impl Answer for Logs {
    fn json(&self) -> serde_json::Result<String> {
        let (bytes, complete) = self.log.read(JSON_MAX).map_err(serde::ser::Error::custom)?;
        to_json(&LogView {
            commit: self.commit.to_string(),
            test: self.key.to_string(),
            status: self.status,
            live: self.log.is_live(),
            complete,
            log: String::from_utf8_lossy(&bytes).into_owned(),
        })
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut log = self.log.open().map_err(io::Error::other)?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            match log.read(&mut buffer)? {
                0 => return Ok(()),
                count => out.write_all(&buffer[..count])?,
            }
        }
    }
}
