//! Imports published files into the database: once those of ci-daemon 0.1 and of the ktest system, and those of a
//! commit that were copied into the directory later.
//!
//! A commit is marked as imported after its attempts have been counted in the database. No file is deleted.

use std::collections::{BTreeMap, BTreeSet};

use model::{BranchRef, CommitId, ResultKey, Status};

use crate::codec::Mark;
use crate::db::{Batch, Database, TreeState};
use crate::directory;
use crate::disk::{Disk, Durable};
use crate::durations::DurationTable;
use crate::error::{Error, Result};
use crate::journal::Record;
use crate::pack_header::{self, Header};
use crate::packs::{Region, packs_of};
use crate::reader::Reader;
use crate::segment::{Recovery, Replay};
use crate::state::CommitState;
use crate::types::TestEntry;

/// The number of tests per transaction.
const GROUP: usize = 20_000;

/// What was imported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// The number of commits.
    pub commits: u64,
    /// The number of tests of all commits.
    pub tests: u64,
    /// The number of attempts of all tests.
    pub attempts: u64,
    /// The number of listings.
    pub branches: u64,
    /// The number of tests with past durations.
    pub durations: u64,
    /// The journal of ci-daemon 0.1.
    pub journal: Recovery,
}

/// A commit that was read from its files.
struct Found {
    commit: CommitId,
    state: CommitState,
    /// Whether the published files may lack results.
    is_unpublished: bool,
    /// Whether it has a directory of another program or an earlier version.
    has_directory: bool,
    /// The files in its packs.
    files: Vec<(Header, Region)>,
}

/// Imports what is not in the database.
pub fn run(db: &mut Database, reader: &Reader, disk: &Disk) -> Result<Imported> {
    let first = !db.is_imported()?;
    let journal = if first { Replay::read(&reader.layout.private())? } else { Replay::default() };
    let mut imported = Imported { journal: journal.recovery, ..Imported::default() };
    commits(db, reader, disk, &journal, &mut imported)?;
    if first {
        durations(db, reader, &journal, &mut imported)?;
        listings(db, reader, &mut imported)?;
        let numbers = [
            imported.commits,
            imported.tests,
            imported.attempts,
            imported.branches,
            imported.durations,
            imported.journal.records as u64,
        ];
        db.write(|batch| batch.imported(fsx::clock::unix_seconds(), numbers))?;
        journal.set_aside(disk)?;
    }
    Ok(imported)
}

fn commits(
    db: &mut Database,
    reader: &Reader,
    disk: &Disk,
    journal: &Replay,
    imported: &mut Imported,
) -> Result<()> {
    let mut records: BTreeMap<&CommitId, Vec<(u64, &Record)>> = BTreeMap::new();
    for numbered in &journal.records {
        records.entry(numbered.record.commit()).or_default().push((numbered.sequence, &numbered.record));
    }
    let known = db.commits()?;
    let mut names: BTreeSet<CommitId> = reader.commits()?.into_iter().collect();
    names.extend(records.keys().map(|commit| (*commit).clone()));
    let mut group = Vec::new();
    for commit in names.into_iter().filter(|commit| !known.contains(commit)) {
        let records = records.get(&commit).map_or(&[][..], Vec::as_slice);
        match read(reader, disk, &commit, journal.epoch, records) {
            Ok(found) => group.push(found),
            // The next start retries.
            Err(error) => tracing::warn!("{error}; the results of commit {commit} are not imported"),
        }
        if group.iter().map(|found: &Found| found.state.entries().len()).sum::<usize>() >= GROUP {
            write(db, reader, &std::mem::take(&mut group), imported)?;
        }
    }
    write(db, reader, &group, imported)
}

/// Imports one commit, if it has files. Returns its results.
pub fn one(
    db: &mut Database,
    reader: &Reader,
    disk: &Disk,
    commit: &CommitId,
) -> Result<Option<CommitState>> {
    if !reader.layout.blob(commit).exists() && !reader.layout.commit(commit).exists() {
        return Ok(None);
    }
    let found = [read(reader, disk, commit, 0, &[])?];
    write(db, reader, &found, &mut Imported::default())?;
    let [found] = found;
    Ok(Some(found.state))
}

fn read(
    reader: &Reader,
    disk: &Disk,
    commit: &CommitId,
    epoch: u64,
    records: &[(u64, &Record)],
) -> Result<Found> {
    let (mut state, mark) = published(reader, disk, commit)?;
    if mark == Mark::default() && !records.is_empty() {
        state.will_be_replayed();
    }
    for (sequence, record) in records {
        // The blob contains the others, but the status files may not.
        if mark.epoch != epoch || mark.sequence < *sequence {
            state.apply(record);
        }
    }
    state.replayed();
    let state = complete(state);
    let has_directory = !state.entries().is_empty() && reader.layout.commit(commit).is_dir();
    let files = packed(reader, commit);
    let is_unpublished = !records.is_empty();
    Ok(Found { commit: commit.clone(), state, is_unpublished, has_directory, files })
}

/// The files in the packs of a commit.
fn packed(reader: &Reader, commit: &CommitId) -> Vec<(Header, Region)> {
    let paths = packs_of(&reader.layout, commit);
    let scanned = (1..).zip(paths).map(|(number, path)| {
        pack_header::scan(&path, number).unwrap_or_else(|error| {
            tracing::warn!("{}: {error}; its files are not imported", path.display());
            Vec::new()
        })
    });
    scanned.flatten().collect()
}

/// The results of a commit, from its blob or else from its directory.
fn published(reader: &Reader, disk: &Disk, commit: &CommitId) -> Result<(CommitState, Mark)> {
    let damaged = match reader.blob(commit) {
        Ok(Some(blob)) => return Ok((CommitState::new(blob.results), blob.mark)),
        Ok(None) => None,
        Err(error @ Error::Damaged { .. }) => Some(error),
        Err(error) => return Err(error),
    };
    let directory = directory::read(&reader.layout, commit)?;
    if let Some(error) = damaged {
        // Keep the damaged file for an inspection.
        tracing::warn!(
            "{error}; kept as .store/damaged.{commit}.capnp, the files in the directory of the commit are used"
        );
        let path = reader.layout.blob(commit);
        let kept = reader.layout.private().join(format!("damaged.{commit}.capnp"));
        disk.rename(&path, &kept, Durable::No).map_err(Error::io("set aside", &path))?;
    }
    Ok((directory.map_or_else(CommitState::empty, CommitState::new), Mark::default()))
}

/// Removes running tests, and makes the numbers of attempts unique.
fn complete(mut state: CommitState) -> CommitState {
    for key in state.running() {
        state.restore(&key, None);
    }
    let mixed: Vec<TestEntry> =
        state.entries().values().filter(|entry| has_duplicate_numbers(entry)).cloned().collect();
    for mut entry in mixed {
        let mut numbers = BTreeSet::from([entry.decisive.number]);
        for other in &mut entry.others {
            while !numbers.insert(other.number) {
                other.number = numbers.last().map_or(1, |last| last.saturating_add(1));
            }
        }
        state.restore(&entry.key.clone(), Some(entry));
    }
    state
}

fn has_duplicate_numbers(entry: &TestEntry) -> bool {
    let mut numbers = BTreeSet::from([entry.decisive.number]);
    !entry.others.iter().all(|other| numbers.insert(other.number))
}

fn write(db: &mut Database, reader: &Reader, group: &[Found], imported: &mut Imported) -> Result<()> {
    if group.is_empty() {
        return Ok(());
    }
    db.write(|batch| group.iter().try_for_each(|found| add(batch, found)))?;
    for found in group {
        let entries = found.state.entries();
        let attempts: usize = entries.values().map(|entry| entry.others.len() + 1).sum();
        let expected = (entries.len() as u64, attempts as u64);
        let counted = db.count(&found.commit)?;
        if counted != expected {
            return Err(Error::damaged(
                &reader.layout.database(),
                format_args!(
                    "{} of {} tests and {} of {} attempts of commit {} were imported",
                    counted.0, expected.0, counted.1, expected.1, found.commit
                ),
            ));
        }
        imported.commits += 1;
        imported.tests += counted.0;
        imported.attempts += counted.1;
    }
    // From here on, the commit is imported.
    db.write(|batch| {
        group.iter().try_for_each(|Found { commit, state, .. }| {
            batch.count_facets(commit)?;
            batch.sums(commit, state.counts(), state.duration())
        })
    })
}

fn add(batch: &mut Batch<'_>, found: &Found) -> rusqlite::Result<()> {
    let Found { commit, state, is_unpublished, has_directory, files } = found;
    for entry in state.entries().values() {
        batch.entry(commit, entry)?;
    }
    if !state.message.is_empty() {
        batch.message(commit, &state.message)?;
    }
    for (Header { file, plain_bytes, owners, .. }, region) in files {
        let ran = |(key, n): &&(ResultKey, u32)| {
            state.entries().get(key).is_some_and(|entry| *n == 0 || entry.attempt(*n).is_some())
        };
        for (key, n) in owners.iter().filter(ran) {
            batch.file(commit, key, *n, file, *region, *plain_bytes)?;
        }
    }
    if *has_directory {
        batch.tree(commit, Some(TreeState::Kept))?;
    }
    if *is_unpublished { Ok(()) } else { batch.published(commit) }
}

fn durations(db: &mut Database, reader: &Reader, journal: &Replay, imported: &mut Imported) -> Result<()> {
    let blob = reader.durations_blob().unwrap_or_else(|error| {
        tracing::warn!("{error}; the mean durations are counted from zero");
        crate::codec::DurationsBlob::default()
    });
    let mark = blob.mark;
    let mut table = DurationTable::new(blob.entries);
    for numbered in &journal.records {
        if mark.epoch != journal.epoch || mark.sequence < numbered.sequence {
            table.apply(&numbered.record);
        }
    }
    imported.durations = table.entries().len() as u64;
    db.write(|batch| table.entries().values().try_for_each(|entry| batch.duration(entry)))
}

fn listings(db: &mut Database, reader: &Reader, imported: &mut Imported) -> Result<()> {
    for (user, branches) in reader.users()? {
        for branch in branches {
            let name = BranchRef::new(&user, &branch);
            match reader.branch(&name) {
                Ok(Some(entries)) => {
                    let commits: Vec<_> =
                        entries.into_iter().map(|entry| (entry.commit, entry.message)).collect();
                    db.write(|batch| batch.listing(&name, &[], &commits))?;
                    imported.branches += 1;
                }
                Ok(None) => {}
                Err(error) => tracing::warn!("{error}; the daemon writes it again when it next fetches"),
            }
        }
    }
    Ok(())
}

/// The tests of a commit that are running according to its published files.
pub fn running(reader: &Reader, commit: &CommitId) -> BTreeSet<ResultKey> {
    // Unreadable results have no running tests.
    let results = reader.commit(commit).ok().flatten();
    let entries = results.into_iter().flat_map(|results| results.entries);
    entries.filter(|entry| entry.decisive.status == Status::InProgress).map(|entry| entry.key).collect()
}
