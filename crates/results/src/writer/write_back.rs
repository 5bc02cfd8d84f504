//! Writing the write-ahead log back to the database, so that no verdict waits for it.

use std::sync::mpsc::{Receiver, Sender};

use super::command::Command;
use crate::db::LogWriter;

/// Writes the log back on each request.
pub fn write_back_loop(log: &LogWriter, queue: &Receiver<()>, engine: &Sender<Command>) {
    for () in queue {
        let pages = log.write_back().unwrap_or_else(|error| {
            tracing::warn!("{error}");
            0
        });
        if engine.send(Command::WrittenBack { pages }).is_err() {
            return;
        }
    }
}
