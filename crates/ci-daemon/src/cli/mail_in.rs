//! `ci-daemon mail-in`: records the commands of an answer to a mail.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use fsx::clock::unix_seconds;
use stdio::terminal;

use crate::log::{LogFormat, log_to_stderr};
use crate::senders;

pub(super) const HELP: &str = "\
The lines that count begin with #ktest, of a mail that answers one of this farm, from an address in senders = [...]
of a [notify.NAME]:
  #ktest fix: SUBJECT OF THE COMMIT     the commit with this subject fixes it
  #ktest dup: ID                        it is the finding with this id
  #ktest invalid                        it is no fault of the kernel
  #ktest flaky                          the test is flaky
  #ktest mute 7d                        nothing is sent about it for 7 days

Examples:
  ci-daemon mail-in < message                                   read one message
  |/usr/bin/ci-daemon --config /etc/ktest-ci.toml mail-in       a line of /etc/aliases or ~/.forward

A From: can be forged: let the mail server check it (DKIM, SPF) before.
Exit codes: 0 recorded, or the message has no command; 1 an error; 67 the sender may not; 65 no answer to a mail of this farm.";

/// Records the commands of the message on standard input. The exit codes are those of sysexits(3), which mail servers know.
pub(super) fn run(config: Option<&Path>) -> Result<u8> {
    log_to_stderr("warn", None, LogFormat::Text);
    let config = config::load(&config::find(config)?)?;
    let mut message = Vec::new();
    let limit = notify::mail_in::SIZE_MAX as u64 + 1;
    std::io::stdin().lock().take(limit).read_to_end(&mut message).context("standard input")?;
    let read = match senders::read_mail(&config, &message, unix_seconds()) {
        Ok(read) => read,
        Err(error) => {
            stdio::error("ci-daemon", &error);
            return Ok(error.exit_code());
        }
    };
    for command in &read.commands {
        stdio::line(format_args!("finding {}: {}", read.finding, terminal::line(command)))?;
    }
    for error in &read.errors {
        stdio::error("ci-daemon", terminal::line(error));
    }
    Ok(u8::from(!read.errors.is_empty()))
}
