//! Records the commands of an answer to a mail.

use std::path::{Path, PathBuf};

use config::{Config, SenderKind};
use notify::mail_in::{ReadError, read as read_message};
use results::Reader;
use results::findings::Mark;
use results::requests::{NotifyRequest, RequestKind, submit};

/// Why the commands of a mail are not recorded.
#[derive(Debug, thiserror::Error)]
pub enum MailInError {
    /// It is no answer of a person.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Others send mails, too.
    #[error(
        "{0} may not send commands; add the address to senders = [...] of a [notify.NAME] with kind = \"mail\""
    )]
    Sender(String),
    /// It answers another mail.
    #[error("it answers no mail of this farm: In-Reply-To and References have no ktest-ID@HOST")]
    NoFinding,
    /// The finding is not one of this farm.
    #[error("no finding has the id {0}; is this the farm that sent the mail?")]
    UnknownFinding(String),
    /// The request cannot be written.
    #[error("{}: the request cannot be written: {error}", path.display())]
    Submit {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The results cannot be read.
    #[error(transparent)]
    Results(#[from] results::Error),
}

impl MailInError {
    /// The code of sysexits(3), which mail servers know.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Read(_) | Self::NoFinding | Self::UnknownFinding(_) => 65,
            Self::Sender(_) => 67,
            Self::Submit { .. } | Self::Results(_) => 1,
        }
    }
}

/// What is recorded, and the lines that are no command.
#[derive(Debug, Default)]
pub struct MailIn {
    /// The finding.
    pub finding: String,
    /// The commands that are requested.
    pub commands: Vec<String>,
    /// The lines that are no command, with what is wrong.
    pub errors: Vec<String>,
}

/// Reads a message, and requests what it says of a finding. `now` in Unix seconds.
pub fn read(config: &Config, message: &[u8], now: i64) -> Result<MailIn, MailInError> {
    let received = read_message(message, now)?;
    if !may_send(config, &received.from) {
        return Err(MailInError::Sender(received.from));
    }
    let id = received.finding.ok_or(MailInError::NoFinding)?;
    let reader = Reader::open(&config.top.output_dir)?;
    let found = reader.finding(&id).ok_or(MailInError::UnknownFinding(id))?;
    let mut result =
        MailIn { finding: found.finding.id.clone(), errors: received.errors, ..MailIn::default() };
    for what in received.commands {
        result.commands.push(what.to_string());
        let mark = Mark { what, at: now, account: received.from.clone() };
        request(&config.top.output_dir, &found.finding.id, mark)?;
    }
    Ok(result)
}

fn request(output_dir: &Path, finding: &str, mark: Mark) -> Result<(), MailInError> {
    let request = NotifyRequest::Mark { finding: finding.into(), mark };
    submit(output_dir, RequestKind::Notify(request), None)
        .map(drop)
        .map_err(|error| MailInError::Submit { path: output_dir.into(), error })
}

/// Whether a sender of mails accepts commands from an address.
fn may_send(config: &Config, address: &str) -> bool {
    config.senders.iter().any(|sender| match &sender.kind {
        SenderKind::Mail(mail) => mail.senders.iter().any(|allowed| mailbox(allowed) == address),
        _ => false,
    })
}

/// The address of `Kim <kim@example.org>`, in lower case.
fn mailbox(text: &str) -> String {
    let address = text.rsplit_once('<').map_or(text, |(_, rest)| rest.trim_end_matches('>'));
    address.trim().to_ascii_lowercase()
}
