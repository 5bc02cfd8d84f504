//! `ci-status logs`: the log of one test, opened at the failure, or the log of its whole VM run.

use std::io::{self, Read as _, Write};

use model::{CommitId, ResultKey, Status};
use results::{LogKind, TestEntry};
use serde::Serialize;

use super::{Answer, to_json};
use crate::backend::LogContent;
use crate::context::Context;
use crate::excerpt::{Excerpt, excerpt};
use crate::problem::Problem;
use crate::select;

/// The size limit of a log for `--json` and for the search for the failure, in bytes. Longer logs are cut, which is
/// reported in `complete`.
const READ_MAX: u64 = 64 << 20;

/// Which log to print, and how much of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// The log of the whole VM run.
    pub machine: bool,
    /// Print the complete log, not only the part around the failure.
    pub full: bool,
}

impl LogOptions {
    pub(super) fn kind(self) -> LogKind {
        if self.machine { LogKind::Full } else { LogKind::Subtest }
    }
}

/// A test at a commit.
#[derive(Debug)]
pub struct TestAtCommit {
    /// The commit.
    pub commit: CommitId,
    /// The test.
    pub key: ResultKey,
    /// Its result, if it has one.
    pub entry: Option<TestEntry>,
}

impl TestAtCommit {
    /// The test `test` at the commit `commit`, both as the user specified them.
    pub fn find(context: &Context, commit: &str, test: &str) -> Result<Self, Problem> {
        let commit = select::commit(context, Some(commit))?;
        let results = context.backend.commit(&commit)?;
        let entries = results.map(|results| results.entries).unwrap_or_default();
        let keys: Vec<ResultKey> = entries.iter().map(|entry| entry.key.clone()).collect();
        let key = select::test(&keys, test, commit.short())?;
        let entry = entries.into_iter().find(|entry| entry.key == key);
        Ok(Self { commit, key, entry })
    }

    /// Its status.
    pub fn status(&self) -> Status {
        self.entry.as_ref().map_or(Status::Unknown, TestEntry::status)
    }

    /// The error for a test without a log.
    pub fn no_log(self, kind: LogKind) -> Problem {
        let (kind, hint) = match kind {
            LogKind::Full => ("VM log", ""),
            LogKind::Subtest => ("log", "; --machine prints the log of its VM run"),
        };
        let status = match self.entry.as_ref().and_then(|entry| entry.decisive.reason.as_deref()) {
            Some(reason) => format!("{}: {reason}", self.status()),
            None => self.status().to_string(),
        };
        Problem::NoLog { key: self.key, commit: self.commit, kind, status, hint }
    }
}

/// A log.
#[derive(Debug)]
pub struct Logs {
    found: TestAtCommit,
    log: LogContent,
    options: LogOptions,
}

#[derive(Serialize)]
struct LogView {
    commit: String,
    test: String,
    status: Status,
    /// Whether the test is still running and the log grows.
    live: bool,
    /// Whether `log` is the complete log.
    complete: bool,
    /// The line of the failure, counted from 1, if one was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_line: Option<usize>,
    log: String,
}

/// Finds the log.
pub fn run(context: &Context, commit: &str, test: &str, options: LogOptions) -> Result<Logs, Problem> {
    let found = TestAtCommit::find(context, commit, test)?;
    match context.backend.log(&found.commit, &found.key, options.kind())? {
        // An empty finished log is treated as missing, because no VM was started.
        Some(log) if log.is_live() || !log.read(1)?.0.is_empty() => Ok(Logs { found, log, options }),
        _ => Err(found.no_log(options.kind())),
    }
}

impl Logs {
    /// The part around the failure, unless the complete log is printed.
    fn excerpt(&self, text: &str) -> Option<Excerpt> {
        let has_failure = self.found.status().has_failure();
        (has_failure && !self.options.full).then(|| excerpt(text)).flatten()
    }
}

impl Answer for Logs {
    fn json(&self) -> serde_json::Result<String> {
        let (bytes, complete) = self.log.read(READ_MAX).map_err(serde::ser::Error::custom)?;
        let log = String::from_utf8_lossy(&bytes).into_owned();
        to_json(&LogView {
            commit: self.found.commit.to_string(),
            test: self.found.key.to_string(),
            status: self.found.status(),
            live: self.log.is_live(),
            complete,
            failure_line: self.excerpt(&log).map(|excerpt| excerpt.failure),
            log,
        })
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.found.status().has_failure() && !self.options.full {
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
