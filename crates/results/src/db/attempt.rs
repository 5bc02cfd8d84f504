//! Reading rows of attempts.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use model::{CommitId, Conditions, ExperimentKey, HostName, KernelId, SuiteVersion};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Result, Row};

use super::query::{duration, number, status};
use crate::types::Attempt;

/// The columns of `attempt a` that [`attempt`] reads, as the first ones of a query.
macro_rules! columns {
    () => {
        "a.n, a.decisive, a.status, a.started, a.duration_ms, a.reason, a.crash, a.host, a.slot, a.kernel, a.image, \
         a.log_bytes, a.full_log_bytes, a.suite, a.experiment, a.load, a.ran_at, a.alone"
    };
}
pub(super) use columns;
/// The number of these columns: the index of the first one after them.
pub(super) const COLUMNS: usize = 18;

/// The names of these columns.
macro_rules! names {
    () => {
        "n, decisive, status, started, duration_ms, reason, crash, host, slot, kernel, image, log_bytes, full_log_bytes, \
         suite, experiment, load, ran_at, alone"
    };
}
pub(super) use names;

/// A cache of names: each name is read and parsed once.
pub(super) struct NameTable<'a, T> {
    select: CachedStatement<'a>,
    parse: fn(&str) -> Option<T>,
    known: HashMap<i64, Option<T>>,
    /// The last one: neighboring rows often have the same names.
    last: Option<(i64, Option<T>)>,
}

impl<'a, T: Clone> NameTable<'a, T> {
    pub(super) fn new(
        connection: &'a Connection,
        select: &str,
        parse: fn(&str) -> Option<T>,
    ) -> Result<Self> {
        Ok(Self { select: connection.prepare_cached(select)?, parse, known: HashMap::new(), last: None })
    }

    pub(super) fn get(&mut self, id: Option<i64>) -> Result<Option<T>> {
        let Some(id) = id else { return Ok(None) };
        if let Some((_, name)) = self.last.as_ref().filter(|(last, _)| *last == id) {
            return Ok(name.clone());
        }
        let name = match self.known.get(&id) {
            Some(name) => name.clone(),
            None => {
                let parse = |row: &Row<'_>| Ok((self.parse)(row.get_ref(0)?.as_str()?));
                let name = self.select.query_row([id], parse).optional()?.flatten();
                self.known.entry(id).or_insert(name).clone()
            }
        };
        self.last = Some((id, name.clone()));
        Ok(name)
    }
}

/// The parser of a name that is valid in all rows that this version wrote.
pub(super) fn parse<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// An experiment key as a column.
pub(super) fn bits(key: ExperimentKey) -> i64 {
    key.bits().cast_signed()
}

fn experiment(bits: i64) -> ExperimentKey {
    ExperimentKey::from_bits(bits.cast_unsigned())
}

/// The names that attempts refer to.
pub(super) struct Names<'a> {
    pub(super) crash: NameTable<'a, String>,
    pub(super) host: NameTable<'a, HostName>,
    kernel: NameTable<'a, KernelId>,
    image: NameTable<'a, Arc<str>>,
    suite: NameTable<'a, SuiteVersion>,
    commit: NameTable<'a, CommitId>,
}

impl<'a> Names<'a> {
    pub(super) fn new(connection: &'a Connection) -> Result<Self> {
        Ok(Self {
            crash: NameTable::new(connection, "SELECT title FROM crash WHERE id = ?1", parse)?,
            host: NameTable::new(connection, "SELECT name FROM host WHERE id = ?1", parse)?,
            kernel: NameTable::new(connection, "SELECT name FROM kernel WHERE id = ?1", parse)?,
            image: NameTable::new(connection, "SELECT name FROM image WHERE id = ?1", |text| {
                Some(text.into())
            })?,
            suite: NameTable::new(connection, "SELECT name FROM suite WHERE id = ?1", parse)?,
            commit: NameTable::new(connection, "SELECT sha FROM commit_ WHERE id = ?1", parse)?,
        })
    }
}

/// Whether the attempt gives the verdict, and the attempt.
pub(super) fn attempt(row: &Row<'_>, names: &mut Names<'_>) -> Result<(bool, Attempt)> {
    let attempt = Attempt {
        number: row.get(0)?,
        status: status(row, 2)?,
        started: row.get(3)?,
        duration: duration(row, 4)?,
        reason: row.get(5)?,
        crash: names.crash.get(row.get(6)?)?,
        host: names.host.get(row.get(7)?)?,
        slot: row.get(8)?,
        kernel: names.kernel.get(row.get(9)?)?,
        image_hash: names.image.get(row.get(10)?)?,
        log_bytes: number(row, 11)?,
        full_log_bytes: number(row, 12)?,
        conditions: Conditions {
            suite: names.suite.get(row.get(13)?)?,
            experiment: row.get::<_, Option<i64>>(14)?.map(experiment),
            load: row.get(15)?,
            alone: row.get(17)?,
        },
        ran_at: names.commit.get(row.get(16)?)?,
    };
    Ok((row.get(1)?, attempt))
}
