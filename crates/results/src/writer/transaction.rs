//! The changes of one transaction: applied in memory and in the database, and taken back in memory if it fails.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use model::{CommitId, ResultKey};

use super::Shared;
use super::command::Reply;
use super::commits::{Change, Commits};
use super::packs::{FileName, Stored};
use crate::db::{Batch, Facets};
use crate::error::Error;
use crate::journal::Record;
use crate::layout::LogKind;
use crate::types::{Recorded, TestDuration};

/// A change that waits for its transaction.
pub enum Write {
    Record(Record, Reply<Option<Recorded>>),
    File(Stored),
}

impl Write {
    pub fn commit(&self) -> &CommitId {
        match self {
            Self::Record(record, _) => record.commit(),
            Self::File(file) => &file.commit,
        }
    }

    pub fn refuse(self, text: &str) {
        let error = Err(Error::Write(text.into()));
        match self {
            Self::Record(_, reply) => drop(reply.send(error.map(|()| None))),
            Self::File(file) => drop(file.reply.send(error)),
        }
    }
}

/// The change of a record to a commit, and the test and its former durations if they changed.
#[derive(Default)]
pub struct Applied {
    pub change: Option<Change>,
    pub duration: Option<(ResultKey, Option<TestDuration>)>,
}

/// Applies changes in memory and in a transaction. `changes` has those of a failed transaction, too.
pub fn apply(
    batch: &mut Batch<'_>,
    commits: &mut Commits,
    shared: &Shared,
    writes: &[Write],
    changes: &mut Vec<Applied>,
) -> rusqlite::Result<()> {
    let mut table = shared.durations.write().unwrap_or_else(PoisonError::into_inner);
    let (mut changed, mut facets) = (BTreeSet::new(), Facets::default());
    for write in writes {
        let record = match write {
            Write::Record(record, _) => record,
            Write::File(file) => {
                apply_file(batch, commits, file, changes)?;
                continue;
            }
        };
        let (change, result) = commits.apply(batch, &mut facets, record);
        changes.push(Applied { change, duration: None });
        result?;
        changed.insert(record.commit());
        if let Some((new, old)) = table.apply(record) {
            if let Some(applied) = changes.last_mut() {
                applied.duration = Some((new.test.clone(), old));
            }
            batch.duration(new)?;
        }
    }
    batch.facets(&facets)?;
    commits.sums(batch, changed.into_iter())
}

/// Adds a file to its tests, and the size of a log to its attempts.
fn apply_file(
    batch: &mut Batch<'_>,
    commits: &mut Commits,
    file: &Stored,
    changes: &mut Vec<Applied>,
) -> rusqlite::Result<()> {
    let Stored { commit, owners, name, region, plain_bytes, .. } = file;
    for (key, attempt) in owners {
        if let FileName::Log(kind) = name {
            let record = Record::Log {
                commit: commit.clone(),
                key: key.clone(),
                attempt: *attempt,
                full: *kind == LogKind::Full,
                bytes: *plain_bytes,
            };
            // The size of a log changes no count.
            let (change, result) = commits.apply(batch, &mut Facets::default(), &record);
            changes.push(Applied { change, duration: None });
            result?;
        }
        batch.file(commit, key, *attempt, name.as_str(), *region, *plain_bytes)?;
    }
    Ok(())
}
