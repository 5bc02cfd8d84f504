//! `ci-status logs`: the log of one test, opened at the failure, or that of the whole VM run it was in.

use std::io::{self, Read as _, Write};

use model::{CommitId, ResultKey, Status};
use results::{LogKind, TestEntry};
use serde::Serialize;

use super::{Answer, to_json};
use crate::excerpt::{Excerpt, excerpt};
use crate::origin::Held;
use crate::problem::Problem;
use crate::select;
use crate::source::Source;

/// The longest log that `--json` gives and that is looked through for the failure, in bytes; of longer ones the
/// beginning is, and it says so.
const READ_MAX: u64 = 64 << 20;

/// Which log, and how much of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// The log of the whole VM run.
    pub machine: bool,
    /// All of it, not only what is around the failure.
    pub full: bool,
}

impl Extent {
    pub(super) fn kind(self) -> LogKind {
        if self.machine { LogKind::Full } else { LogKind::Subtest }
    }
}

/// A test at a commit.
#[derive(Debug)]
pub struct Place {
    /// The commit.
    pub commit: CommitId,
    /// The test.
    pub key: ResultKey,
    /// What is known of it.
    pub entry: Option<TestEntry>,
}

impl Place {
    /// The test that `test` means at the commit that `commit` means.
    pub fn find(source: &Source, commit: &str, test: &str) -> Result<Self, Problem> {
        let commit = select::commit(source, Some(commit))?;
        let results = source.results.commit(&commit)?;
        let entries = results.map(|results| results.entries).unwrap_or_default();
        let keys: Vec<ResultKey> = entries.iter().map(|entry| entry.key.clone()).collect();
        let key = select::test(&keys, test, commit.short())?;
        let entry = entries.into_iter().find(|entry| entry.key == key);
        Ok(Self { commit, key, entry })
    }

    /// Its status.
    pub fn status(&self) -> Status {
        self.entry.as_ref().map_or(Status::Unknown, |entry| entry.status)
    }

    /// Why there is no log.
    pub fn no_log(self, kind: LogKind) -> Problem {
        let (kind, hint) = match kind {
            LogKind::Full => ("log of a VM run", ""),
            LogKind::Subtest => ("log", "; --machine prints that of its VM run, if there was one"),
        };
        let status = match self.entry.as_ref().and_then(|entry| entry.reason.as_deref()) {
            Some(reason) => format!("{}: {reason}", self.status()),
            None => self.status().to_string(),
        };
        Problem::NoLog { key: self.key, commit: self.commit, kind, status, hint }
    }
}

/// A log.
#[derive(Debug)]
pub struct Logs {
    place: Place,
    log: Held,
    extent: Extent,
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
    /// The first line of the part around the failure, from 1, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_line: Option<usize>,
    log: String,
}

/// Finds the log.
pub fn run(source: &Source, commit: &str, test: &str, extent: Extent) -> Result<Logs, Problem> {
    let place = Place::find(source, commit, test)?;
    match source.results.log(&place.commit, &place.key, extent.kind())? {
        // One that is empty for good is none: no machine was started.
        Some(log) if log.is_live() || !log.read(1)?.0.is_empty() => Ok(Logs { place, log, extent }),
        _ => Err(place.no_log(extent.kind())),
    }
}

impl Logs {
    /// The part around the failure, if there is one and not all was asked for.
    fn excerpt(&self, text: &str) -> Option<Excerpt> {
        let failed = self.place.status() == Status::Failed;
        (failed && !self.extent.full).then(|| excerpt(text)).flatten()
    }
}

impl Answer for Logs {
    fn json(&self) -> serde_json::Result<String> {
        let (bytes, complete) = self.log.read(READ_MAX).map_err(serde::ser::Error::custom)?;
        let log = String::from_utf8_lossy(&bytes).into_owned();
        to_json(&LogView {
            commit: self.place.commit.to_string(),
            test: self.place.key.to_string(),
            status: self.place.status(),
            live: self.log.is_live(),
            complete,
            failure_line: self.excerpt(&log).map(|excerpt| excerpt.failure),
            log,
        })
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.place.status() == Status::Failed && !self.extent.full {
            let (bytes, _) = self.log.read(READ_MAX).map_err(io::Error::other)?;
            let text = String::from_utf8_lossy(&bytes);
            if let Some(excerpt) = self.excerpt(&text) {
                return excerpt.write(&text, out);
            }
        }
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
