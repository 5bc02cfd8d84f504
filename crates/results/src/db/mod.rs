//! `results.db`, the authoritative copy of the results: SQLite with a write-ahead log and one writer.
//!
//! [`Database::write`] is one transaction. If it returns `Ok`, its changes survive a power failure; if it fails, none
//! of them is made.

mod attempt;
mod batch;
mod builds;
mod copy;
mod crashes;
mod directories;
mod facets;
mod files;
pub mod findings;
pub mod flaky;
pub mod history;
pub mod inherit;
mod log;
mod notes;
pub mod past;
pub mod patch;
mod query;
mod read;
pub mod recent;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{CommitId, ExperimentKey, ResultKey, TrustDomain};
use rusqlite::{Connection, OpenFlags};

pub use batch::Batch;
pub use builds::builds;
use copy::Progress;
pub use directories::{TreeState, tests_of};
pub use facets::Facets;
pub use files::{files_named, files_of};
pub use log::LogWriter;
pub use query::stored_commit;
pub use read::ReadPool;

use crate::disk::{Disk, Step};
use crate::error::{Error, Result};
use crate::layout::Layout;

/// The version of the schema, in `user_version`.
const VERSION: i64 = 13;
/// Entry N is the step from version N to N + 1.
const MIGRATIONS: [&str; 13] = [
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
    include_str!("schema/7.sql"),
    include_str!("schema/8.sql"),
    include_str!("schema/9.sql"),
    include_str!("schema/10.sql"),
    include_str!("schema/11.sql"),
    include_str!("schema/12.sql"),
    include_str!("schema/13.sql"),
];
const VIEWS: &str = include_str!("schema/views.sql");
/// `application_id`: "ktst".
const APPLICATION: i64 = 0x6b74_7374;
/// The time for which the writer waits for a lock of another process; no process holds one for long.
const BUSY: Duration = Duration::from_secs(30);
/// The size limit of the write-ahead log after a checkpoint.
const WAL_LIMIT: i64 = 64 << 20;

/// The numbers of known rows.
#[derive(Debug, Default)]
struct Ids {
    commits: HashMap<CommitId, KnownCommit>,
    tests: HashMap<ResultKey, i64>,
    /// The last one of them: several changes of a record are of the same test.
    last_test: Option<(ResultKey, i64)>,
    /// The tests with known parts.
    parts: HashSet<i64>,
    crashes: HashMap<String, i64>,
    hosts: HashMap<String, i64>,
    kernels: HashMap<String, i64>,
    images: HashMap<String, i64>,
    suites: HashMap<String, i64>,
    /// Rows of `experiment` that are known.
    experiments: HashSet<(i64, ExperimentKey)>,
    /// The rows of `tested` that are known.
    tested: HashSet<(i64, TrustDomain)>,
    /// The rows of `unpublished` that this process added.
    unpublished: HashSet<i64>,
}

/// A row of `commit_`.
#[derive(Debug, Clone, Copy)]
struct KnownCommit {
    id: i64,
    has_results: bool,
    /// See the schema.
    in_history: i64,
}

/// The database, open for writing.
#[derive(Debug)]
pub struct Database {
    connection: Connection,
    path: PathBuf,
    disk: Disk,
    ids: Ids,
    progress: Progress,
    /// Whether transactions are not synced.
    is_relaxed: bool,
}

impl Database {
    /// Opens the database. Creates it if it is missing, and checks it if the last writer did not stop cleanly.
    /// `copy_rows` is the number of attempts that are copied together to the table in the order of tests, and `log_bytes`
    /// the size to which the write-ahead log is allocated.
    pub fn open(layout: &Layout, disk: Disk, copy_rows: u64, log_bytes: u64) -> Result<Self> {
        let path = layout.database();
        let error = |doing| Error::database(doing, &path);
        let interrupted = log::has_transactions(&layout.database_log());
        disk.step(Step::Create(&path)).map_err(Error::io("open", &path))?;
        let connection = Connection::open(&path).map_err(error("open"))?;
        connection.busy_timeout(BUSY).map_err(error("open"))?;
        let version = version(&connection, &path)?;
        connection
            .execute_batch(&format!(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF; \
                 PRAGMA cache_size = -65536; PRAGMA wal_autocheckpoint = 16384; PRAGMA journal_size_limit = {WAL_LIMIT};"
            ))
            .map_err(error("open"))?;
        if interrupted && version > 0 {
            check(&connection, &path)?;
        }
        migrate(&connection, version).map_err(error("create"))?;
        connection.set_prepared_statement_cache_capacity(64);
        if version == 0 {
            // Syncs the name of the new file.
            disk.sync_dir(layout.dir()).map_err(Error::io("sync", layout.dir()))?;
        }
        let progress = Self::progress(&connection, copy_rows).map_err(error("read"))?;
        log::allocate(&connection, &layout.database_log(), log_bytes).map_err(error("open"))?;
        Ok(Self { connection, path, disk, ids: Ids::default(), progress, is_relaxed: false })
    }

    /// One transaction.
    pub fn write<T>(&mut self, change: impl FnOnce(&mut Batch<'_>) -> rusqlite::Result<T>) -> Result<T> {
        let result = self.transaction(change);
        if result.is_err() {
            self.ids = Ids::default();
            if !self.connection.is_autocommit() {
                let _ = self.connection.execute_batch("ROLLBACK");
            }
        }
        result
    }

    fn transaction<T>(&mut self, change: impl FnOnce(&mut Batch<'_>) -> rusqlite::Result<T>) -> Result<T> {
        let Self { connection, path, disk, ids, progress, is_relaxed } = self;
        let error = || Error::database("write", path);
        connection.execute_batch("BEGIN IMMEDIATE").map_err(error())?;
        let mut batch = Batch::new(connection, ids, progress);
        let value =
            change(&mut batch).and_then(|value| batch.count_crashes().map(|()| value)).map_err(error())?;
        disk.step(Step::Commit(path)).map_err(Error::io("write", path))?;
        connection.execute_batch("COMMIT").map_err(error())?;
        if !*is_relaxed {
            disk.step(Step::Committed(path)).map_err(Error::io("write", path))?;
        }
        Ok(value)
    }

    fn error(&self) -> impl FnOnce(rusqlite::Error) -> Error {
        Error::database("read", &self.path)
    }
}

impl Drop for Database {
    /// Empties the write-ahead log, so that the next writer detects a clean stop. Without readers, SQLite also removes
    /// the log.
    fn drop(&mut self) {
        if let Err(error) = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            tracing::warn!("{}: cannot write the log back: {error}", self.path.display());
        }
    }
}

/// The version of the schema. It is an error if the file is not a database of this or an older version.
fn version(connection: &Connection, path: &Path) -> Result<i64> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let error = || Error::database("read", path);
    let (version, application) =
        (number("user_version").map_err(error())?, number("application_id").map_err(error())?);
    if version > VERSION {
        return Err(Error::Newer { path: path.into(), found: version, known: VERSION });
    }
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(error())?;
    if application != APPLICATION && tables > 0 {
        return Err(Error::damaged(path, "it is the database of another program"));
    }
    Ok(version.max(0))
}

/// Takes all steps to the current version in one transaction.
fn migrate(connection: &Connection, version: i64) -> rusqlite::Result<()> {
    if version == VERSION {
        return Ok(());
    }
    let steps = MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(0)).copied().collect::<String>();
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; DROP VIEW IF EXISTS verdict; {steps} {VIEWS} \
         PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; COMMIT;"
    ))
}

/// Runs `PRAGMA quick_check`, after the last writer did not stop cleanly.
fn check(connection: &Connection, path: &Path) -> Result<()> {
    let first: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(Error::database("check", path))?;
    if first == "ok" { Ok(()) } else { Err(Error::damaged(path, first)) }
}

/// Copies the database of the results in `output_dir` to a new file. A writer may be writing at the same time.
pub fn backup(output_dir: &Path, to: &Path) -> Result<()> {
    let path = Layout::new(output_dir).database();
    if !path.exists() {
        return Err(Error::damaged(&path, "there is no such file; a ci-daemon creates it"));
    }
    // `VACUUM INTO` accepts an existing empty file.
    let file = std::fs::File::create_new(to).map_err(Error::io("create", to))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&path, flags).map_err(Error::database("open", &path))?;
    connection.busy_timeout(BUSY).map_err(Error::database("open", &path))?;
    version(&connection, &path)?;
    let name = to.to_str().ok_or_else(|| Error::damaged(to, "the name is not UTF-8"))?;
    let result = connection.execute("VACUUM INTO ?1", [name]).map_err(Error::database("back up", &path));
    if let Err(error) = result {
        let _ = std::fs::remove_file(to);
        return Err(error);
    }
    file.sync_all().map_err(Error::io("sync", to))
}
