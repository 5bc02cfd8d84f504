//! Writing the write-ahead log back to the database, so that no verdict waits for it.

use std::sync::mpsc::{Receiver, Sender};

use super::command::Command;
use crate::db::LogWriter;

/// Writes the log back on each request.
pub fn write_back_loop(log: &LogWriter, queue: &Receiver<()>, engine: &Sender<Command>) {
    for () in queue {
        if let Err(error) = log.write_back() {
            tracing::warn!("{error}");
        }
        if engine.send(Command::WrittenBack).is_err() {
            return;
        }
    }
}
