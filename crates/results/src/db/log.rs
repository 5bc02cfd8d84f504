//! The write-ahead log: its size, and writing it back to the database.

use std::cell::Cell;
use std::path::PathBuf;

use rusqlite::Connection;

use super::{BUSY, Database};
use crate::error::{Error, Result};

/// The size of the log, in pages, at which it is written back.
const WRITE_BACK: i32 = 16 << 10;
/// The size at which verdicts wait until it is written back.
const URGENT: i32 = 64 << 10;

thread_local! {
    /// The size of the log in pages after the last transaction of this thread.
    static PAGES: Cell<i32> = const { Cell::new(0) };
}

/// Writes the log back while the writer writes.
#[derive(Debug)]
pub struct LogWriter {
    connection: Connection,
    path: PathBuf,
}

impl LogWriter {
    /// Writes the log back as far as readers allow it.
    pub fn write_back(&self) -> Result<()> {
        let Self { connection, path } = self;
        write_back(connection).map_err(Error::database("write back the log of", path))
    }
}

impl Database {
    /// From now on, the log is written back only on request. To be called on the thread that writes.
    pub fn write_back_on_request(&self) -> Result<()> {
        let error = Error::database("open", &self.path);
        self.connection.execute_batch("PRAGMA wal_autocheckpoint = 0").map_err(error)?;
        self.connection.wal_hook(Some(|_, pages| {
            PAGES.set(pages);
            Ok(())
        }));
        Ok(())
    }

    /// A second connection to write the log back.
    pub fn log_writer(&self) -> Result<LogWriter> {
        let error = || Error::database("open", &self.path);
        let connection = Connection::open(&self.path).map_err(error())?;
        connection.busy_timeout(BUSY).map_err(error())?;
        Ok(LogWriter { connection, path: self.path.clone() })
    }

    /// Whether the log is to be written back.
    pub fn log_is_large() -> bool {
        PAGES.get() >= WRITE_BACK
    }

    /// Handles the end of [`LogWriter::write_back`]: writes back the rest of a log that became too large. New verdicts start
    /// at its beginning only if nothing is left. Until the next transaction, the log is not large.
    pub fn write_back_rest(&self) -> Result<()> {
        if PAGES.replace(0) < URGENT {
            return Ok(());
        }
        write_back(&self.connection).map_err(Error::database("write back the log of", &self.path))
    }
}

fn write_back(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::layout::Layout;

    #[test]
    fn a_log_is_written_back_once() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new(dir.path().join("tmp"), None);
        let mut db = Database::open(&Layout::new(dir.path()), disk, 100).unwrap();
        db.write_back_on_request().unwrap();
        PAGES.set(WRITE_BACK);
        assert!(Database::log_is_large());
        db.write_back_rest().unwrap();
        assert!(!Database::log_is_large(), "the log would be written back again and again");
        db.write(|batch| batch.run("UPDATE history_copy SET next_test = 1", [])).unwrap();
        assert!(PAGES.get() > 0);
    }
}
