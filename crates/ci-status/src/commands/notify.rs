//! `ci-status notify`: the senders of findings, and what they send.
//!
//! A request is a file on the machine of the daemon, which sends.

use std::io::{self, Write};
use std::path::PathBuf;

use model::Status;
use results::findings::SenderState;
use results::requests::{NotifyRequest, RequestKind, RequestState};
use serde::Serialize;
use stdio::terminal;

use super::rerun::{request_path, state, submit, wait_while};
use super::{Answer, to_json};
use crate::args::Notify;
use crate::context::Context;
use crate::problem::Problem;
use crate::text::{self, Cell, Table};

/// Runs a subcommand.
pub fn run(context: &Context, command: &Notify) -> Result<Box<dyn Answer>, Problem> {
    let Some(directory) = context.backend.directory() else { return Err(Problem::NotifyIsLocal) };
    let reader = results::Reader::open(directory)?;
    Ok(match command {
        Notify::List => Box::new(list(&reader, context.now)),
        Notify::Send { id, sender } => {
            let found = reader.finding(id).ok_or_else(|| Problem::NoFinding(id.clone()))?;
            let request = NotifyRequest::Send { finding: found.finding.id, sender: sender.clone() };
            Box::new(requested(context, &reader, request, sender.as_deref())?)
        }
        Notify::Test { sender } => {
            let request = NotifyRequest::Test { sender: sender.clone() };
            Box::new(requested(context, &reader, request, Some(sender))?)
        }
    })
}

/// The senders of the farm.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Senders {
    rows: Vec<SenderRow>,
    #[serde(skip)]
    now: i64,
}

#[derive(Debug, Serialize)]
struct SenderRow {
    #[serde(flatten)]
    state: SenderState,
    /// The number of findings that it has not handled.
    waiting: i64,
    /// The number of findings that it sent in the past 24 h.
    sent_24h: u32,
}

fn list(reader: &results::Reader, now: i64) -> Senders {
    let newest = reader.newest_finding().unwrap_or(0);
    let row = |state: SenderState| SenderRow {
        waiting: newest.saturating_sub(state.handled).max(0),
        sent_24h: reader.sent_since(&state.name, now.saturating_sub(24 * 3600)),
        state,
    };
    Senders { rows: reader.senders().into_iter().map(row).collect(), now }
}

impl Answer for Senders {
    fn json(&self) -> serde_json::Result<String> {
        to_json(self)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.rows.is_empty() {
            return writeln!(
                out,
                "no sender: add [notify.NAME] to the configuration of ci-daemon; docs/notifications.md describes it"
            );
        }
        let mut table = Table::default();
        for row in &self.rows {
            let waiting =
                if row.waiting == 0 { "up to date".into() } else { format!("{} to go", row.waiting) };
            let error = row.state.error.as_deref().map(terminal::line).unwrap_or_default();
            table.row([
                Cell::left(&row.state.name),
                Cell::left(waiting),
                Cell::left(format_args!("{} sent in 24 h", row.sent_24h)),
                Cell::left(text::ago(row.state.at, self.now)).styled(text::FAINT),
                Cell::left(error).styled(text::style(Status::FailedToRun)),
            ]);
        }
        write!(out, "{table}")
    }
}

/// A request that was written.
#[derive(Debug, Serialize)]
struct Requested {
    /// Whether the daemon has handled it.
    done: bool,
    /// The senders, with their errors.
    senders: Vec<SenderState>,
    /// The request file, if it was not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<PathBuf>,
}

fn requested(
    context: &Context,
    reader: &results::Reader,
    request: NotifyRequest,
    sender: Option<&str>,
) -> Result<Requested, Problem> {
    if let Some(name) = sender {
        let known: Vec<String> = reader.senders().into_iter().map(|state| state.name).collect();
        if !known.iter().any(|known| known == name) {
            let nearest = config::nearest(name, known.iter().map(String::as_str));
            return Err(Problem::NoSender { name: name.into(), nearest });
        }
    }
    let before = reader.senders();
    let file = submit(context, RequestKind::Notify(request))?;
    let waits = state(context, &file)? == RequestState::Waiting;
    let end = if waits { RequestState::Waiting } else { wait_while(context, &file, RequestState::Taken)? };
    let mut senders = reader.senders();
    senders.retain(|state| match sender {
        Some(name) => state.name == name,
        None => !before.contains(state),
    });
    Ok(Requested {
        done: end == RequestState::Ended,
        senders,
        request: waits.then(|| request_path(context, &file)),
    })
}

impl Answer for Requested {
    fn json(&self) -> serde_json::Result<String> {
        to_json(self)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if let Some(path) = &self.request {
            let path = terminal::line(&path.display().to_string());
            return writeln!(out, "requested; ci-daemon has not taken {path} yet");
        }
        if !self.done {
            return writeln!(out, "ci-daemon still sends; ci-status notify list shows the result");
        }
        if self.senders.is_empty() {
            return writeln!(out, "no sender takes it; give the name of one");
        }
        for state in &self.senders {
            match &state.error {
                Some(error) => writeln!(out, "{}: {}", state.name, terminal::line(error))?,
                None => writeln!(out, "{}: sent", state.name)?,
            }
        }
        Ok(())
    }

    fn exit_code(&self) -> u8 {
        u8::from(self.senders.iter().any(|state| state.error.is_some()))
    }
}
