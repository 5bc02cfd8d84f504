//! Publishes the durations of tests.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use super::Shared;
use super::pass::{Content, Publication, Subject};
use crate::codec::{self, Mark};
use crate::db::Database;
use crate::durations::DurationTable;
use crate::error::Result;
use crate::reader::Reader;

pub struct Durations {
    shared: Arc<Shared>,
    dirty_since: Option<Instant>,
}

impl Durations {
    /// Reads the durations. If the last writer did not stop cleanly, the published file is out of date.
    pub fn load(db: &Database, reader: &Reader, shared: Arc<Shared>) -> Result<Self> {
        let table = DurationTable::new(db.durations()?);
        let found = reader.durations().unwrap_or_default();
        let current = found.iter().eq(table.entries().values());
        *shared.durations.write().unwrap_or_else(PoisonError::into_inner) = table;
        Ok(Self { shared, dirty_since: (!current).then(Instant::now) })
    }

    pub fn dirty_since(&self) -> Option<Instant> {
        self.dirty_since
    }

    /// Marks the published file as out of date.
    pub fn touch(&mut self) {
        self.dirty_since.get_or_insert_with(Instant::now);
    }

    /// Returns the blob, and marks it as up to date.
    pub fn publication(&mut self, reader: &Reader) -> Publication {
        self.dirty_since = None;
        let table = self.shared.durations.read().unwrap_or_else(PoisonError::into_inner);
        Publication {
            subject: Subject::Durations,
            path: reader.layout.durations(),
            content: Content::Bytes(codec::encode_durations(table.entries().values(), Mark::default())),
        }
    }
}
