//! The write-ahead log: its size on disk, and writing it back to the database.

use std::cell::Cell;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::{BUSY, Database};
use crate::error::{Error, Result};

/// The size of the log, in pages of 4 KB with a header, at which it is written back.
const WRITE_BACK: i32 = 4000;
/// The size at which verdicts wait until it is written back.
const URGENT: i32 = 64 << 10;
/// The maximum number of pages that are written back between two transactions.
const REST_MAX: i32 = 128;
/// The maximum number of times that the log is written back on one request: while it is, transactions are added.
const PASSES_MAX: usize = 4;

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
    /// Writes the log back as far as readers allow it. Returns the number of pages of the log that are in the database.
    pub fn write_back(&self) -> Result<i32> {
        let Self { connection, path } = self;
        let error = || Error::database("write back the log of", path);
        let mut done = write_back(connection).map_err(error())?;
        for _ in 1..PASSES_MAX {
            let before = done;
            done = write_back(connection).map_err(error())?;
            if done - before <= REST_MAX {
                break;
            }
        }
        Ok(done)
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

    /// Handles the end of [`LogWriter::write_back`]: writes back the transactions that were added in the meantime, unless
    /// they are many in a log that is not too large. New verdicts start at its beginning only if nothing is left. Until
    /// the next transaction, the log is not large.
    pub fn write_back_rest(&self, done: i32) -> Result<()> {
        let pages = PAGES.replace(0);
        let rest = pages - done;
        if rest <= 0 || rest > REST_MAX && pages < URGENT {
            return Ok(());
        }
        write_back(&self.connection).map(drop).map_err(Error::database("write back the log of", &self.path))
    }
}

/// Writes the log back as far as readers allow it. Returns the number of its pages that are in the database.
fn write_back(connection: &Connection) -> rusqlite::Result<i32> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(2))
}

/// Fills an empty log with zeros, which SQLite takes for an empty log. A sync of a file that does not grow writes no
/// metadata, so that it neither waits for other files nor for the journal of the file system.
pub(super) fn allocate(connection: &Connection, log: &Path, bytes: u64) -> rusqlite::Result<()> {
    // Readers are not waited for.
    connection.busy_timeout(std::time::Duration::ZERO)?;
    let is_busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    connection.busy_timeout(BUSY)?;
    let fill = || {
        let mut file = std::fs::OpenOptions::new().write(true).open(log)?;
        if is_busy || file.metadata()?.len() > 0 {
            return Ok(());
        }
        let zeros = vec![0; 1 << 20];
        let result = (0..bytes.div_ceil(zeros.len() as u64)).try_for_each(|_| file.write_all(&zeros));
        result.and_then(|()| file.sync_all()).or_else(|error| file.set_len(0).and(Err(error)))
    };
    fill().unwrap_or_else(|error: std::io::Error| {
        // It only makes verdicts slower.
        tracing::warn!("{}: cannot be allocated: {error}", log.display());
    });
    Ok(())
}

/// Whether a log has transactions.
pub(super) fn has_transactions(log: &Path) -> bool {
    let mut magic = [0; 4];
    let read = std::fs::File::open(log).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut magic));
    read.is_ok() && magic != [0; 4]
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::layout::Layout;

    #[test]
    fn an_allocated_log_is_empty_and_does_not_grow() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, bytes) = (Layout::new(dir.path()), 1 << 20);
        let log = layout.database_log();
        let disk = || Disk::new(dir.path().join("tmp"), None);
        for round in 0..3 {
            let mut db = Database::open(&layout, disk(), 100, bytes).unwrap();
            assert_eq!((log.metadata().unwrap().len(), has_transactions(&log)), (bytes, false), "{round}");
            for next in 0..50 {
                db.write(|batch| batch.run("UPDATE history_copy SET next_test = ?1", [next])).unwrap();
            }
            assert_eq!((log.metadata().unwrap().len(), has_transactions(&log)), (bytes, true), "{round}");
            // A copy as after a power failure: its log has the transactions.
            let copy = tempfile::tempdir().unwrap();
            for file in [layout.database(), log.clone()] {
                std::fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
            }
            let copied = Database::open(&Layout::new(copy.path()), disk(), 100, bytes).unwrap();
            assert_eq!(copied.progress.next_test, 49);
            drop(db);
            assert!(!has_transactions(&log) && log.metadata().map_or(0, |data| data.len()) == 0, "{round}");
        }
    }

    #[test]
    fn a_log_is_written_back_once() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new(dir.path().join("tmp"), None);
        let mut db = Database::open(&Layout::new(dir.path()), disk, 100, 0).unwrap();
        db.write_back_on_request().unwrap();
        PAGES.set(WRITE_BACK);
        assert!(Database::log_is_large());
        db.write_back_rest(WRITE_BACK).unwrap();
        assert!(!Database::log_is_large(), "the log would be written back again and again");
        db.write(|batch| batch.run("UPDATE history_copy SET next_test = 1", [])).unwrap();
        assert!(PAGES.get() > 0);
    }
}
