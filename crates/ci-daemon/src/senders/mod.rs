//! Sends findings, by the senders of the configuration.
//!
//! Each sender has a cursor in the database: the newest finding that it has handled. A finding is sent, then the cursor moves, so that a
//! daemon that is killed in between sends the same message again, with the same id; nothing is lost. A sender that fails does not delay
//! others.

mod address;
mod commits;
mod mail_in;
mod message;
mod report;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::{Config, Sender};
use notify::http::SendError;
use notify::rules::{Decision, decide};
use results::findings::{FindingQuery, RecordedFinding, SenderState};
use results::notes::Note;
use results::requests::NotifyRequest;
use results::{Reader, Writer};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use self::commits::SentCommits;
pub(crate) use self::mail_in::read as read_mail;
use self::message::{Recipient, send, test_finding};
use crate::requests;

/// The minimum time between two turns of a sender.
const INTERVAL: Duration = Duration::from_secs(2);
/// The time to the next turn of a sender after its first failure. It doubles with each further one.
const RETRY: Duration = Duration::from_secs(15);
/// The maximum time to the next turn of a sender that fails.
const RETRY_MAX: Duration = Duration::from_secs(1800);
/// The number of failures in sequence after which a sender is a problem of the farm.
const FAILURES: u32 = 3;
/// How often a finding that a receiver refuses is sent.
const REFUSALS_MAX: u32 = 5;
/// The maximum number of findings that are read at a time.
const AT_ONCE: usize = 100;
/// The time for the senders to finish at the end.
const LAST: Duration = Duration::from_secs(60);
/// A finding without a log waits for it for this time, in seconds.
const LOG_WITHIN: i64 = 600;
/// Why such a finding waits.
const NO_LOG: &str = "the log that shows the next finding is not published yet";
/// A day, in seconds.
const DAY: i64 = 24 * 3600;

/// The senders of the farm.
#[derive(Debug, Default)]
pub(crate) struct Senders {
    turns: HashMap<String, Turn>,
    /// The names in the configuration for which [`Senders::forget_others`] was called.
    configured: Option<BTreeSet<String>>,
}

/// A sender and its next turn.
#[derive(Debug, Default)]
struct Turn {
    running: Option<JoinHandle<(Memory, bool)>>,
    due: Option<Instant>,
    failures: u32,
    memory: Memory,
}

/// What a sender remembers from turn to turn.
#[derive(Debug, Default)]
struct Memory {
    /// The finding that was refused, and how often.
    refused: Option<(i64, u32)>,
    /// The statuses of commits that were sent.
    commits: SentCommits,
}

impl Senders {
    /// Starts the turns of the senders that are due.
    pub async fn step(&mut self, writer: &Writer, config: &Arc<Config>, now: i64) {
        self.forget_others(writer, config);
        for sender in &config.senders {
            let turn = self.turns.entry(sender.name.clone()).or_default();
            turn.finish_if_ended().await;
            if turn.running.is_none() && turn.due.is_none_or(|due| due <= Instant::now()) {
                turn.start(writer, config, sender, now);
            }
        }
    }

    /// Drops the senders that are no longer in the configuration.
    fn forget_others(&mut self, writer: &Writer, config: &Config) {
        let names: BTreeSet<String> = config.senders.iter().map(|sender| sender.name.clone()).collect();
        if self.configured.as_ref() == Some(&names) {
            return;
        }
        self.turns.retain(|name, _| names.contains(name));
        for state in writer.reader().senders().into_iter().filter(|state| !names.contains(&state.name)) {
            if let Err(error) = writer.note(Note::SenderRemoved { name: state.name }) {
                tracing::warn!("{error}");
            }
        }
        self.configured = Some(names);
    }

    /// The senders that fail for a while, one line each.
    pub fn problems(&self) -> Vec<String> {
        let failing = self.turns.iter().filter(|(_, turn)| turn.failures >= FAILURES);
        let line = |(name, _): (&String, &Turn)| {
            format!("[notify.{name}] cannot send findings; ci-status notify list shows why")
        };
        let mut lines: Vec<String> = failing.map(line).collect();
        lines.sort();
        lines
    }

    /// One turn of each sender, at the end.
    pub async fn end(&mut self, writer: &Writer, config: &Arc<Config>, now: i64) {
        for sender in &config.senders {
            let turn = self.turns.entry(sender.name.clone()).or_default();
            turn.wait().await;
            turn.start(writer, config, sender, now);
        }
        let all = async {
            for turn in self.turns.values_mut() {
                turn.wait().await;
            }
        };
        if tokio::time::timeout(LAST, all).await.is_err() {
            tracing::warn!("not all findings are sent; the next daemon sends them");
        }
    }
}

impl Turn {
    fn start(&mut self, writer: &Writer, config: &Arc<Config>, sender: &Sender, now: i64) {
        let (writer, config, sender) = (writer.clone(), Arc::clone(config), sender.clone());
        let mut memory = std::mem::take(&mut self.memory);
        self.running = Some(tokio::task::spawn_blocking(move || {
            let is_well = turn(&writer, &config, &sender, &mut memory, now);
            (memory, is_well)
        }));
    }

    async fn finish_if_ended(&mut self) {
        if self.running.as_ref().is_some_and(JoinHandle::is_finished) {
            self.wait().await;
        }
    }

    async fn wait(&mut self) {
        let Some(running) = self.running.take() else { return };
        let (memory, is_well) = running.await.unwrap_or_default();
        self.memory = memory;
        self.failures = if is_well { 0 } else { self.failures.saturating_add(1) };
        let pause = match self.failures {
            0 => INTERVAL,
            count => RETRY.saturating_mul(1 << (count - 1).min(10)).min(RETRY_MAX),
        };
        self.due = Some(Instant::now() + pause);
    }
}

/// Sends what a sender has not sent. Returns whether nothing failed.
fn turn(writer: &Writer, config: &Config, sender: &Sender, memory: &mut Memory, now: i64) -> bool {
    let reader = writer.reader();
    if sender.takes_commits() {
        return commits::turn(writer, config, sender, &mut memory.commits, now);
    }
    let Some(mut state) = state(writer, &reader, sender, now) else { return false };
    loop {
        let query = FindingQuery {
            after: state.handled,
            most: AT_ONCE,
            oldest_first: true,
            ..FindingQuery::default()
        };
        let found = reader.findings(&query);
        let is_last = found.len() < AT_ONCE;
        let before = state.clone();
        for found in found {
            match handle(&reader, config, sender, &found, memory, now) {
                Handled::Sent => {
                    state = SenderState { handled: found.n, at: now, error: None, ..state };
                    if !record(writer, &state, Some(found.n)) {
                        return false;
                    }
                }
                Handled::LeftOut => state = SenderState { handled: found.n, error: None, ..state },
                Handled::Waits(why) => {
                    state.error = Some(why);
                    return keep(writer, &before, &state);
                }
                Handled::Failed(error) => {
                    tracing::warn!(
                        sender = sender.name,
                        id = found.finding.id,
                        "a finding is not sent: {error}"
                    );
                    state.error = Some(error);
                    keep(writer, &before, &state);
                    return false;
                }
            }
        }
        if is_last {
            return keep(writer, &before, &state);
        }
    }
}

/// How far a sender is. A new one begins with the findings to come.
fn state(writer: &Writer, reader: &Reader, sender: &Sender, now: i64) -> Option<SenderState> {
    if let Some(state) = reader.sender(&sender.name)? {
        return Some(state);
    }
    let handled = reader.newest_finding()?;
    let state = SenderState { name: sender.name.clone(), handled, at: now, error: None };
    record(writer, &state, None).then_some(state)
}

/// What became of a finding.
enum Handled {
    Sent,
    LeftOut,
    Waits(String),
    Failed(String),
}

fn handle(
    reader: &Reader,
    config: &Config,
    sender: &Sender,
    found: &RecordedFinding,
    memory: &mut Memory,
    now: i64,
) -> Handled {
    let today = reader.sent_since(&sender.name, now.saturating_sub(DAY));
    match decide(&message::rule(sender), found, today, now) {
        Decision::Send => {}
        Decision::LeaveOut(_) => return Handled::LeftOut,
        Decision::Wait(why) => return Handled::Waits(why.into()),
    }
    if message::was_sent_for_another_branch(reader, sender, found) {
        return Handled::LeftOut;
    }
    let id = &found.finding.id;
    match send(reader, config, sender, found, Recipient::Configured, now) {
        Ok(true) => {
            tracing::info!(sender = sender.name, id, "finding sent");
            Handled::Sent
        }
        // The log of a run is published after its verdict.
        Ok(false) if now.saturating_sub(found.finding.at) < LOG_WITHIN => Handled::Waits(NO_LOG.into()),
        Ok(false) => {
            tracing::warn!(sender = sender.name, id, "finding not sent: no log shows it");
            Handled::LeftOut
        }
        Err(SendError::Later(error)) => Handled::Failed(error),
        Err(SendError::Refused(error)) => {
            let count = memory.refused.filter(|(n, _)| *n == found.n).map_or(0, |(_, count)| count) + 1;
            memory.refused = Some((found.n, count));
            if count < REFUSALS_MAX {
                return Handled::Failed(error);
            }
            tracing::error!(
                sender = sender.name,
                id,
                "finding left out, it was refused {count} times: {error}"
            );
            Handled::LeftOut
        }
    }
}

/// Records a state that differs.
fn keep(writer: &Writer, before: &SenderState, state: &SenderState) -> bool {
    before == state || record(writer, state, None)
}

/// Records how far a sender is, durably.
fn record(writer: &Writer, state: &SenderState, sent: Option<i64>) -> bool {
    let noted = writer.note(Note::Sender { state: state.clone(), sent });
    let written = noted.and_then(|()| Handle::current().block_on(writer.flush()));
    if let Err(error) = &written {
        tracing::error!(sender = state.name, "its state is not recorded: {error}");
    }
    written.is_ok()
}

/// Carries out a request in the background, and removes its file.
pub(crate) fn begin_request(
    writer: &Writer,
    config: &Arc<Config>,
    notify: NotifyRequest,
    file: PathBuf,
    now: i64,
) {
    let (writer, config) = (writer.clone(), Arc::clone(config));
    tokio::task::spawn_blocking(move || {
        if let Err(error) = request(&writer, &config, &notify, now) {
            tracing::warn!("request refused: {error}");
        }
        requests::finish(&file);
    });
}

/// Carries out a request. The error is one line.
fn request(writer: &Writer, config: &Config, request: &NotifyRequest, now: i64) -> Result<(), String> {
    let reader = writer.reader();
    match request {
        NotifyRequest::Mark { finding, mark } => {
            let found = reader.finding(finding).ok_or_else(|| format!("no finding {finding:?}"))?;
            let note = Note::Mark { finding: found.finding.id, mark: mark.clone() };
            let noted = writer.note(note).and_then(|()| Handle::current().block_on(writer.flush()));
            noted.map_err(|error| error.to_string())
        }
        NotifyRequest::Test { sender } => {
            let sender = named(config, sender)?;
            let found = RecordedFinding { n: 0, finding: test_finding(sender, now), marks: Vec::new() };
            let result = match sender.takes_commits() {
                true => commits::test(sender),
                false => send(&reader, config, sender, &found, Recipient::Configured, now).map(drop),
            };
            noted_result(writer, &reader, sender, None, result, now)
        }
        NotifyRequest::Send { finding, sender } => {
            let found = reader.finding(finding).ok_or_else(|| format!("no finding {finding:?}"))?;
            let chosen: Vec<&Sender> = match sender {
                Some(name) => vec![named(config, name)?],
                None => {
                    let takes = |sender: &&Sender| message::takes(sender, &found.finding);
                    config.senders.iter().filter(takes).collect()
                }
            };
            let mut errors = Vec::new();
            for sender in chosen.into_iter().filter(|sender| !sender.takes_commits()) {
                let result = send(&reader, config, sender, &found, Recipient::List, now);
                let result = result.and_then(|sent| match sent {
                    true => Ok(()),
                    false => Err(SendError::Refused("no log shows the failure".into())),
                });
                errors.extend(noted_result(writer, &reader, sender, Some(found.n), result, now).err());
            }
            if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
        }
    }
}

fn named<'a>(config: &'a Config, name: &str) -> Result<&'a Sender, String> {
    let found = config.senders.iter().find(|sender| sender.name == name);
    found.ok_or_else(|| format!("the configuration has no sender {name:?}"))
}

/// Records the result of a message that was requested.
fn noted_result(
    writer: &Writer,
    reader: &Reader,
    sender: &Sender,
    sent: Option<i64>,
    result: Result<(), SendError>,
    now: i64,
) -> Result<(), String> {
    let error = result.err().map(|error| error.to_string());
    if let Some(state) = state(writer, reader, sender, now) {
        let state = SenderState { error: error.clone(), at: now, ..state };
        record(writer, &state, sent.filter(|_| error.is_none()));
    }
    match error {
        Some(error) => Err(format!("{}: {error}", sender.name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
