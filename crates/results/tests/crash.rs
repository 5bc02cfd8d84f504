//! Injects a crash or a full disk at each step of a run that uses every operation of the store, reopens the store, and
//! compares it with a simple model: it contains each acknowledged record exactly once, and nothing that was not
//! recorded.
//!
//! `RESULTS_CRASHES=1000` sets the number of crashes (default: one or two per step).

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::{CommitId, ResultKey, Status, StatusSnapshot, Verdict};
use results::disk::{FaultInjector, Step, StepResult};
use results::{LogKind, PlainFile, Reader, TestEntry, Tuning, VerdictRecord, Writer};
use tempfile::TempDir;

/// The fault that starts at step `at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The process is killed: all later steps fail, and what was written remains.
    Kill,
    /// The power fails: what was not synced may be lost.
    Power,
    /// The disk is full for N steps.
    Full(usize),
}

#[derive(Debug)]
struct Faults {
    fault: Fault,
    at: usize,
    seen: AtomicUsize,
    struck: AtomicBool,
    files: Mutex<Files>,
}

/// The state that a power failure may lose.
#[derive(Debug, Default)]
struct Files {
    /// The bytes written since the last sync, by file. Files that are not in the map are synced.
    unsynced: HashMap<PathBuf, usize>,
    /// The end of the log of the database before an unacknowledged transaction.
    unacknowledged: Option<usize>,
    /// The database and its log at the time of the fault.
    database: Option<(PathBuf, [Vec<u8>; 2])>,
}

/// The write-ahead log of a database.
fn log_of(database: &Path) -> PathBuf {
    database.with_extension("db-wal")
}

/// The end of the transactions in the log of a database. What follows them is of an earlier use of the log.
/// <https://sqlite.org/fileformat2.html#walformat>
fn log_end(database: &Path) -> usize {
    let log = std::fs::read(log_of(database)).unwrap_or_default();
    let Some(header) = log.get(..32) else { return 0 };
    let (page, salts) = (u32::from_be_bytes(header[8..12].try_into().unwrap()) as usize, &header[16..24]);
    let frames = log[32..].chunks_exact(24 + page).take_while(|frame| &frame[8..16] == salts && page > 0);
    if page == 0 { 0 } else { 32 + frames.count() * (24 + page) }
}

impl Faults {
    fn new(fault: Fault, at: usize) -> Arc<Self> {
        let (seen, struck, files) = Default::default();
        Arc::new(Self { fault, at, seen, struck, files })
    }

    fn note(&self, step: Step<'_>) {
        let unsynced = &mut self.files.lock().unwrap().unsynced;
        match step {
            Step::Write(path, len) => *unsynced.entry(path.into()).or_default() += len,
            Step::Sync(path) => drop(unsynced.remove(path)),
            Step::SyncAll => unsynced.clear(),
            Step::Rename(from, to) => {
                let taken = unsynced.remove(from);
                unsynced.remove(to);
                if let Some(len) = taken {
                    unsynced.insert(to.into(), len);
                }
            }
            Step::Remove(path) => unsynced.retain(|file, _| !file.starts_with(path)),
            Step::Commit(_) | Step::Committed(_) => {}
            Step::Create(_) | Step::Link(_) | Step::MakeDir(_) => {}
        }
    }

    /// Keeps the database as it is: when the store is dropped, SQLite completes it.
    fn keep_database(&self) {
        if let Some((path, content)) = &mut self.files.lock().unwrap().database {
            *content = [&*path, &log_of(path)].map(|file| std::fs::read(file).unwrap_or_default());
        }
    }

    /// Takes the database back to the time of the fault.
    fn restore_database(&self) {
        if let Some((path, [database, log])) = &self.files.lock().unwrap().database {
            std::fs::write(path, database).unwrap();
            std::fs::write(log_of(path), log).unwrap();
        }
    }

    /// Truncates each file that was not synced: some to zero length, some within the unsynced bytes. An unacknowledged
    /// transaction may be lost partly or completely.
    fn cut_power(&self, seed: usize) {
        let files = self.files.lock().unwrap();
        if let (Some((path, _)), Some(before)) = (&files.database, files.unacknowledged) {
            let (mut log, end) = (std::fs::read(log_of(path)).unwrap(), log_end(path));
            let lost = [end.saturating_sub(before), end.saturating_sub(before) / 2, 0][seed % 3];
            log[end - lost..end].fill(0);
            std::fs::write(log_of(path), log).unwrap();
        }
        for (number, (path, len)) in files.unsynced.iter().enumerate() {
            let Ok(file) = std::fs::OpenOptions::new().write(true).open(path) else { continue };
            let all = file.metadata().unwrap().len();
            let lost = [*len, *len / 2, 0][(seed + number) % 3] as u64;
            file.set_len(all.saturating_sub(lost)).unwrap();
        }
    }
}

impl FaultInjector for Faults {
    fn result(&self, step: Step<'_>) -> StepResult {
        let number = self.seen.fetch_add(1, Ordering::SeqCst);
        let (faults, error) = match self.fault {
            Fault::Kill | Fault::Power => (number >= self.at, io::Error::other("stopped")),
            Fault::Full(steps) => {
                let takes_room = matches!(
                    step,
                    Step::Create(_) | Step::Write(..) | Step::MakeDir(_) | Step::Sync(_) | Step::Commit(_)
                );
                let full = takes_room && (self.at..self.at + steps).contains(&number);
                (full, io::Error::from(io::ErrorKind::StorageFull))
            }
        };
        if !faults {
            if let Step::Commit(path) = step {
                // One that is not durable may be lost together with an earlier one.
                let files = &mut self.files.lock().unwrap();
                files.unacknowledged.get_or_insert_with(|| log_end(path));
                // Another thread may have met the fault meanwhile, and have kept the database.
                files.database.get_or_insert_with(|| (path.into(), Default::default()));
            }
            if let Step::Committed(_) = step {
                self.files.lock().unwrap().unacknowledged = None;
            }
            self.note(step);
            return StepResult::Proceed;
        }
        // Only the first write is partial; all later steps fail completely.
        let first = !self.struck.swap(true, Ordering::SeqCst);
        if first {
            self.keep_database();
        }
        let done = match step {
            Step::Write(path, len) if first => {
                let done = [0, len / 2, len][number % 3];
                self.note(Step::Write(path, done));
                done
            }
            _ => 0,
        };
        StepResult::Fail(error, done)
    }
}

/// The submitted records and those that were acknowledged. Each record has a unique duration, which identifies it.
#[derive(Debug, Default)]
struct Oracle {
    offered: BTreeMap<(CommitId, ResultKey), Vec<Offer>>,
    logs: Vec<(CommitId, ResultKey, u32, String)>,
    branches: HashMap<String, Vec<CommitId>>,
    refused: usize,
}

/// A record's duration and status, and whether it was acknowledged.
type Offer = (Duration, Status, bool);

fn commit(digit: char) -> CommitId {
    digit.to_string().repeat(40).parse().unwrap()
}

fn key(number: usize) -> ResultKey {
    format!("fs.ext4.basic.t{number}").parse().unwrap()
}

fn verdict(number: usize) -> Verdict {
    match number % 4 {
        0 => Verdict::FailedToRun { reason: "no VM".into() },
        1 => Verdict::Failed { reason: "a reason".into() },
        _ => Verdict::Passed,
    }
}

impl Oracle {
    async fn record(
        &mut self,
        writer: &Writer,
        commit: &CommitId,
        test: usize,
        number: usize,
    ) -> Option<u32> {
        let (key, verdict) = (key(test), verdict(number));
        let duration = Duration::from_millis(1000 + number as u64);
        let (status, at) = (verdict.status(), (commit.clone(), key.clone()));
        let recorded = writer.record(VerdictRecord::new(commit.clone(), key, verdict, duration)).await;
        self.offered.entry(at).or_default().push((duration, status, recorded.is_ok()));
        self.refused += usize::from(recorded.is_err());
        recorded.ok().map(|recorded| recorded.attempt)
    }

    /// Uses every operation, in an order in which the store loads, publishes and replaces blobs, and rotates and
    /// removes segments.
    async fn run(&mut self, writer: &Writer, scratch: &Path) {
        let (a, b) = (commit('a'), commit('b'));
        let listing = |commits: &[&CommitId]| {
            commits
                .iter()
                .map(|commit| ((*commit).clone(), format!("subject of {commit}")))
                .collect::<Vec<_>>()
        };
        if writer.set_branch(&"u/one".parse().unwrap(), listing(&[&a])).await.is_ok() {
            self.branches.insert("one".into(), vec![a.clone()]);
        }
        let mut number = 0;
        for round in 0..3 {
            let _ = writer.in_progress(&a, vec![key(round), key(7)], 5, None, None);
            for test in 0..4 {
                for commit in [&a, &b] {
                    let attempt = self.record(writer, commit, test, number).await;
                    number += 1;
                    if let (Some(attempt), 0) = (attempt, test) {
                        let text = format!("log of {number}\n");
                        std::fs::write(scratch, &text).unwrap();
                        let key = key(test);
                        if writer
                            .publish_log(
                                commit,
                                &key,
                                attempt,
                                LogKind::Subtest,
                                PlainFile::open(scratch).unwrap(),
                            )
                            .await
                            .is_ok()
                        {
                            self.logs.push((commit.clone(), key, attempt, text));
                        }
                    }
                }
            }
            let _ = writer.flush().await;
            // Verdicts are copied in the order of tests meanwhile.
            tokio::time::sleep(Duration::from_millis(8)).await;
            if writer.set_branch(&"u/two".parse().unwrap(), listing(&[&b, &a])).await.is_ok() {
                self.branches.insert("two".into(), vec![b.clone(), a.clone()]);
            }
            let _ = writer.write_snapshot(&StatusSnapshot::default());
        }
    }

    fn check(&self, writer: &Writer, context: &str) {
        let reader = writer.reader();
        let mut ran: BTreeMap<ResultKey, u64> = BTreeMap::new();
        let mut found = 0;
        let listed = listed(&reader);
        for commit in reader.commits().unwrap() {
            for entry in &reader.commit(&commit).unwrap().unwrap().entries {
                let attempts = attempts(entry);
                found += self.check_attempts(&commit, &entry.key, &attempts, context);
                let runs = attempts.iter().filter(|(_, _, status)| *status != Status::FailedToRun).count();
                *ran.entry(entry.key.clone()).or_default() += runs as u64;
                check_verdict(writer, &commit, entry, context);
                if listed.contains(&commit) {
                    check_directory(&reader, &commit, entry, context);
                }
                check_packs(&reader, &commit, &entry.key, context);
            }
        }
        let acknowledged =
            self.offered.values().flatten().filter(|(_, _, acknowledged)| *acknowledged).count();
        assert!(found >= acknowledged, "{context}: {found} of {acknowledged}");
        // Each run counts once in the durations, even if its record was replayed.
        let durations: BTreeMap<ResultKey, u64> =
            reader.durations().unwrap().into_iter().map(|entry| (entry.test, entry.nr)).collect();
        ran.retain(|_, runs| *runs > 0);
        assert_eq!(durations, ran, "{context}");
        check_derived(&reader.output_dir().join("results.db"), context);
        self.check_branches(&reader, context);
        self.check_logs(&reader, context);
    }

    /// Checks that the attempts are a subsequence of the submitted records and contain all acknowledged ones. Returns
    /// their number.
    fn check_attempts(
        &self,
        commit: &CommitId,
        key: &ResultKey,
        attempts: &[(u32, Duration, Status)],
        context: &str,
    ) -> usize {
        let nothing = Vec::new();
        let offered = self.offered.get(&(commit.clone(), key.clone())).unwrap_or(&nothing);
        let mut rest = attempts.iter().map(|(_, duration, status)| (*duration, *status)).peekable();
        for (duration, status, acknowledged) in offered {
            if rest.next_if_eq(&(*duration, *status)).is_none() {
                assert!(!acknowledged, "{context}: {duration:?} of {key} at {commit} is lost");
            }
        }
        assert_eq!(rest.next(), None, "{context}: {attempts:?} of {key} at {commit}");
        attempts.len()
    }

    fn check_branches(&self, reader: &Reader, context: &str) {
        for (branch, commits) in &self.branches {
            let entries = reader.branch(&format!("u/{branch}").parse().unwrap()).unwrap().unwrap();
            let listed: Vec<_> = entries.iter().map(|entry| entry.commit.clone()).collect();
            assert_eq!(&listed, commits, "{context}");
            for entry in entries {
                let counts = reader.commit(&entry.commit).unwrap().map(|results| results.counts());
                assert_eq!(entry.counts, counts.unwrap_or_default(), "{context}");
            }
        }
    }

    fn check_logs(&self, reader: &Reader, context: &str) {
        for (commit, key, attempt, text) in &self.logs {
            let entry = reader.entry(commit, key).unwrap().unwrap();
            let log = reader.attempt_log(commit, &entry, *attempt, LogKind::Subtest).unwrap();
            let log = log.unwrap_or_else(|| panic!("{context}: no log of attempt {attempt} of {key}"));
            assert_eq!(String::from_utf8(log.read(1000).unwrap().0).unwrap(), *text, "{context}");
        }
    }
}

/// Checks that the rows in the order of tests and the counts of verdicts are those of the attempts.
fn check_derived(database: &Path, context: &str) {
    let connection = rusqlite::Connection::open(database).unwrap();
    for (derived, expected) in [
        (
            "SELECT test, commit_, n, decisive, status, duration_ms, log_bytes FROM history UNION ALL \
             SELECT test, commit_, n, decisive, status, a.duration_ms, log_bytes FROM attempt a JOIN commit_ c ON c.id = commit_ \
             WHERE in_history = 0 OR in_history = 1 AND test >= (SELECT next_test FROM history_copy) ORDER BY 1, 2, 3",
            "SELECT test, commit_, n, decisive, status, duration_ms, log_bytes FROM attempt ORDER BY 1, 2, 3",
        ),
        (
            "SELECT commit_, status, tests, 0, 0, 0, 0 FROM facet ORDER BY 1, 2",
            "SELECT commit_, status, count(*), 0, 0, 0, 0 FROM attempt WHERE decisive = 1 GROUP BY 1, 2 ORDER BY 1, 2",
        ),
    ] {
        let rows = |sql: &str| -> Vec<[i64; 7]> {
            let mut select = connection.prepare(sql).unwrap();
            let row = |row: &rusqlite::Row<'_>| {
                let mut numbers = [0; 7];
                for (at, number) in numbers.iter_mut().enumerate() {
                    *number = row.get(at)?;
                }
                Ok(numbers)
            };
            select.query_map([], row).unwrap().map(Result::unwrap).collect()
        };
        assert_eq!(rows(derived), rows(expected), "{context}");
    }
}

/// All attempts of a test in the order of their numbers.
fn attempts(entry: &TestEntry) -> Vec<(u32, Duration, Status)> {
    let all = entry.others.iter().chain([&entry.decisive]);
    let mut attempts: Vec<_> =
        all.map(|attempt| (attempt.number, attempt.duration, attempt.status)).collect();
    attempts.sort_unstable();
    attempts
}

/// The commits that any branch lists.
fn listed(reader: &Reader) -> BTreeSet<CommitId> {
    let mut listed = BTreeSet::new();
    for (user, branches) in reader.users().unwrap() {
        for branch in branches {
            let entries = reader.branch(&model::BranchRef::new(&user, &branch)).unwrap().unwrap();
            listed.extend(entries.into_iter().map(|entry| entry.commit));
        }
    }
    listed
}

/// Checks that the first attempt that ran is decisive.
fn check_verdict(writer: &Writer, commit: &CommitId, entry: &TestEntry, context: &str) {
    let decisive = (entry.decisive.number, entry.decisive.status);
    assert_ne!(decisive.1, Status::InProgress, "{context}");
    let attempts = attempts(entry);
    let first = attempts.iter().find(|(_, _, status)| *status != Status::FailedToRun);
    let (number, _, status) = first.unwrap_or(&attempts[0]);
    assert_eq!((*number, *status), decisive, "{context}: {attempts:?}");
    assert!(writer.has_verdict(commit, &entry.key).unwrap(), "{context}");
}

/// Checks that every file that the database names is complete.
fn check_packs(reader: &Reader, commit: &CommitId, key: &ResultKey, context: &str) {
    for row in reader.packed_files(commit, key) {
        let file = reader.packed(commit, key, &row.name).unwrap();
        let bytes = file.bytes().unwrap_or_else(|error| panic!("{context}: {error}"));
        brotli::BrotliDecompress(&mut bytes.as_slice(), &mut Vec::new()).unwrap();
    }
}

/// Checks that the directory of a test of a listed commit has its status and its logs.
fn check_directory(reader: &Reader, commit: &CommitId, entry: &TestEntry, context: &str) {
    let dir = reader.output_dir().join(commit.as_str()).join(entry.key.as_str());
    let status = std::fs::read_to_string(dir.join("status"));
    let status = status.unwrap_or_else(|error| panic!("{context}: {}: {error}", dir.display()));
    assert_eq!(model::marker::status_of_file(&status), entry.decisive.status, "{context}: {status:?}");
    for row in reader.packed_files(commit, &entry.key) {
        let packed = reader.packed(commit, &entry.key, &row.name).unwrap().bytes().unwrap();
        let found = std::fs::read(dir.join(&row.name)).ok();
        assert!(found.as_ref() == Some(&packed), "{context}: {} of {} at {commit}", row.name, entry.key);
    }
}

fn directory() -> TempDir {
    // In memory, because the test is about the order of the steps.
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// One run with one fault. Returns whether the fault was reached.
async fn run_with_fault(fault: Fault, at: usize) -> bool {
    let (dir, scratch) = (directory(), directory());
    let output = dir.path().join("results");
    let faults = Faults::new(fault, at);
    let context = format!("{fault:?} at step {at}");
    let mut oracle = Oracle::default();
    // A small checkpoint interval, so that some checkpoints are made during the run.
    let tuning = Tuning {
        faults: Some(Arc::clone(&faults) as Arc<dyn FaultInjector>),
        checkpoint_records: 5,
        copy_rows: 8,
        log_bytes: 1 << 20,
        ..Tuning::default()
    };
    if let Ok(writer) = Writer::open_with(&output, tuning) {
        oracle.run(&writer, &scratch.path().join("log")).await;
        if matches!(fault, Fault::Full(_)) {
            // The same process continues without errors when there is free space again.
            writer.clear_stale_in_progress().await.unwrap();
            let mut number = 100;
            while oracle.record(&writer, &commit('a'), 9, number).await.is_none() {
                number += 1;
            }
            let mut tries = 0;
            while writer.flush().await.is_err() {
                tries += 1;
                assert!(tries < 100, "{context}: {:?}", writer.problems());
            }
            writer.directories_written().await.unwrap();
            oracle.check(&writer, &context);
            assert_eq!(writer.problems(), [""; 0], "{context}");
        }
        tokio::task::spawn_blocking(move || drop(writer)).await.unwrap();
    }
    if matches!(fault, Fault::Kill | Fault::Power) && faults.struck.load(Ordering::SeqCst) {
        faults.restore_database();
    }
    if fault == Fault::Power {
        faults.cut_power(at);
    }
    // A reader can read everything.
    if output.exists() {
        let reader = Reader::open(&output).unwrap();
        for commit in reader.commits().unwrap() {
            reader.commit(&commit).unwrap_or_else(|error| panic!("{context}: {error}"));
        }
    }
    let writer = Writer::open(&output).unwrap_or_else(|error| panic!("{context}: {error}"));
    writer.clear_stale_in_progress().await.unwrap();
    writer.flush().await.unwrap();
    writer.directories_written().await.unwrap();
    oracle.check(&writer, &context);
    faults.struck.load(Ordering::SeqCst)
}

/// Injects the fault at each step, or `RESULTS_CRASHES` times. Returns the number of faults.
async fn inject_at_each_step(fault: Fault, step: usize) -> usize {
    let wanted = std::env::var("RESULTS_CRASHES").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut faults = 0;
    loop {
        let mut at = 0;
        while run_with_fault(fault, at).await {
            faults += 1;
            at += step;
        }
        if faults >= wanted {
            return faults;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_step_loses_nothing_acknowledged() {
    let faults = inject_at_each_step(Fault::Kill, 1).await;
    println!("killed {faults} times");
    assert!(faults > 100, "{faults}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_failure_at_any_step_loses_nothing_acknowledged() {
    let faults = inject_at_each_step(Fault::Power, 1).await;
    println!("without power {faults} times");
    assert!(faults > 100, "{faults}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_causes_errors_until_space_is_freed() {
    let faults = inject_at_each_step(Fault::Full(3), 3).await;
    println!("full {faults} times");
    assert!(faults > 30, "{faults}");
}
