//! Read access to the database for readers, in other processes and while the writer writes.
//!
//! Readers do not depend on the database: if there is none of this version, or it cannot be opened, they use the
//! published files.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::VERSION;
use crate::layout::Layout;

/// The time for which a query waits for a lock, which the writer holds only while it opens or closes the database.
const BUSY: Duration = Duration::from_secs(2);
/// The size limit of the page cache of a connection in KB: the pages that a query over 10,000 commits reads again.
const CACHE_KB: i64 = 16 << 10;
/// The maximum number of open connections that are kept for later queries.
const IDLE_MAX: usize = 8;

/// Connections to one database.
#[derive(Debug)]
pub struct ReadPool {
    path: PathBuf,
    log: PathBuf,
    idle: Mutex<Vec<Idle>>,
}

/// The file that a connection was opened for. If a backup is restored, another file has the same path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target {
    device: u64,
    inode: u64,
    /// Whether the file cannot change: no writer has it open, and the last one stopped cleanly.
    unchanging: bool,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    target: Target,
}

impl ReadPool {
    pub fn new(layout: &Layout) -> Self {
        Self { path: layout.database(), log: layout.database_log(), idle: Mutex::default() }
    }

    /// The result of a query; `None` if there is no database of this version, or if the query fails, which is logged.
    pub fn query<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Option<T> {
        let target = self.target()?;
        let idle = self.take(target);
        let connection = match idle {
            Some(connection) => connection,
            None => match open(&self.path, target) {
                Ok(connection) => connection?,
                Err(error) => {
                    tracing::debug!(
                        "{}: cannot open: {error}; reading the published files",
                        self.path.display()
                    );
                    return None;
                }
            },
        };
        match query(&connection) {
            Ok(found) => {
                self.keep(Idle { connection, target });
                Some(found)
            }
            Err(error) => {
                tracing::warn!("{}: cannot read: {error}; reading the published files", self.path.display());
                None
            }
        }
    }

    fn target(&self) -> Option<Target> {
        let data = std::fs::symlink_metadata(&self.path).ok().filter(std::fs::Metadata::is_file)?;
        Some(Target { device: data.dev(), inode: data.ino(), unchanging: !self.log.exists() })
    }

    /// An idle connection to this target. Those to other targets are closed.
    fn take(&self, target: Target) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|idle| idle.target == target);
        idle.pop().map(|idle| idle.connection)
    }

    fn keep(&self, connection: Idle) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }
}

/// A connection; `None` if the schema has another version.
fn open(path: &Path, target: Target) -> rusqlite::Result<Option<Connection>> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    // A file that cannot change needs neither a lock nor shared memory, which a reader may not be able to create.
    let connection = Connection::open_with_flags(uri(path, target.unchanging), flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(32);
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    connection.execute_batch(&format!(
        "PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -{CACHE_KB};"
    ))?;
    Ok((version == VERSION).then_some(connection))
}

/// The path as a URI, in which `%`, `?` and `#` are special.
fn uri(path: &Path, unchanging: bool) -> String {
    let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let option = if unchanging { "?immutable=1" } else { "?mode=ro" };
    format!("file:{path}{option}")
}
