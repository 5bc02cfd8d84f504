//! `<sha>.capnp`: the results of one commit.

use std::collections::HashMap;
use std::sync::Arc;

use model::{
    CommitId, Conditions, Counts, ExperimentKey, HostName, KernelId, ResultKey, Status, SuiteVersion,
};

use super::{Mark, builder, checked_len, finish, non_empty, open, text, text_words};
use crate::generated::test_results_capnp as schema;
use crate::types::{Attempt, CommitResults, TestEntry, duration, millis_of};

/// An unknown slot or load.
const UNKNOWN: u32 = u32::MAX;

/// The blob of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitBlob {
    /// The results.
    pub results: CommitResults,
    /// The journal records that it includes.
    pub mark: Mark,
}

/// A run, borrowed from one of its attempts.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct RunKey<'a> {
    host: Option<&'a HostName>,
    slot: Option<u32>,
    kernel: Option<&'a KernelId>,
    image: Option<&'a str>,
    suite: Option<&'a SuiteVersion>,
    experiment: Option<ExperimentKey>,
    ran_at: Option<&'a CommitId>,
}

/// The runs that the attempts of a commit have in common, numbered from 1 in order of appearance.
#[derive(Default)]
struct Runs<'a> {
    numbers: HashMap<RunKey<'a>, u32>,
    list: Vec<RunKey<'a>>,
}

impl<'a> Runs<'a> {
    fn number(&mut self, key: RunKey<'a>) -> u32 {
        if key == RunKey::default() {
            return 0;
        }
        let next = u32::try_from(self.list.len() + 1).unwrap_or(0);
        let list = &mut self.list;
        *self.numbers.entry(key).or_insert_with(|| {
            list.push(key);
            next
        })
    }
}

fn run_of(attempt: &Attempt) -> RunKey<'_> {
    RunKey {
        host: attempt.host.as_ref(),
        slot: attempt.slot,
        kernel: attempt.kernel.as_ref(),
        image: attempt.image_hash.as_deref(),
        suite: attempt.conditions.suite.as_ref(),
        experiment: attempt.conditions.experiment,
        ran_at: attempt.ran_at.as_ref(),
    }
}

fn status_code(status: Status) -> schema::Status {
    match status {
        Status::InProgress => schema::Status::Inprogress,
        Status::Passed => schema::Status::Passed,
        Status::Failed | Status::Flaky => schema::Status::Failed,
        Status::NotRun => schema::Status::Notrun,
        Status::FailedToRun => schema::Status::FailedToRun,
        Status::Unknown => schema::Status::Unknown,
    }
}

pub(super) fn status_of(code: Result<schema::Status, capnp::NotInSchema>) -> Status {
    match code {
        Ok(schema::Status::Inprogress) => Status::InProgress,
        Ok(schema::Status::Passed) => Status::Passed,
        Ok(schema::Status::Failed) => Status::Failed,
        Ok(schema::Status::Notrun) => Status::NotRun,
        Ok(schema::Status::FailedToRun) => Status::FailedToRun,
        Ok(schema::Status::Unknown) | Err(_) => Status::Unknown,
    }
}

/// A hash of the names in their order (64-bit FNV-1a), never 0. Commits with equal hashes have the same tests.
pub fn keys_hash<'a>(keys: impl Iterator<Item = &'a ResultKey>) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut feed = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for key in keys {
        key.as_str().bytes().for_each(&mut feed);
        feed(b'\n');
    }
    hash.max(1)
}

fn estimate(message: &str, entries: &[&TestEntry], runs: &Runs<'_>) -> usize {
    let attempt_words = |attempt: &Attempt| {
        let words = |text: &Option<String>| text.as_ref().map_or(0, |text| text_words(text));
        words(&attempt.reason) + words(&attempt.crash)
    };
    let count = entries.len();
    let entries: usize = entries
        .iter()
        .map(|entry| {
            let others: usize = entry.others.iter().map(|other| 11 + attempt_words(other)).sum();
            15 + text_words(entry.key.as_str())
                + attempt_words(&entry.decisive)
                + if others > 0 { others + 1 } else { 0 }
        })
        .sum();
    let runs: usize = runs
        .list
        .iter()
        .map(|RunKey { host, slot: _, kernel, image, suite, experiment, ran_at }| {
            7 + host.map_or(0, |host| text_words(host.as_str()))
                + kernel.map_or(0, |kernel| text_words(kernel.as_str()))
                + image.map_or(0, text_words)
                + suite.map_or(0, |suite| text_words(suite.commit.as_str()) + text_words(suite.name.as_str()))
                + experiment.map_or(0, |experiment| text_words(&experiment.to_string()))
                + ran_at.map_or(0, |commit| text_words(commit.as_str()))
        })
        .sum();
    256 + entries + runs + count + text_words(message)
}

/// Encodes a blob. The entries must be sorted by key, without duplicate keys.
#[must_use]
pub fn encode_commit(results: &CommitResults, mark: Mark) -> Vec<u8> {
    let entries: Vec<&TestEntry> = results.entries.iter().collect();
    encode_entries(&results.commit, &results.message, &entries, mark)
}

/// Like [`encode_commit`], with borrowed entries.
pub(crate) fn encode_entries(
    commit: &CommitId,
    message: &str,
    entries: &[&TestEntry],
    mark: Mark,
) -> Vec<u8> {
    let mut runs = Runs::default();
    let entry_runs: Vec<(u32, Vec<u32>)> = entries
        .iter()
        .map(|entry| {
            let own = runs.number(run_of(&entry.decisive));
            (own, entry.others.iter().map(|other| runs.number(run_of(other))).collect())
        })
        .collect();

    let mut blob = builder(estimate(message, entries, &runs));
    let mut root = blob.init_root::<schema::test_results::Builder<'_>>();
    root.set_message(message);
    root.set_commit_id(commit.as_str());
    root.set_epoch(mark.epoch);
    root.set_sequence(mark.sequence);
    let counts: Counts = entries.iter().map(|entry| entry.status()).collect();
    root.set_passed(counts.passed);
    root.set_failed(counts.failed + counts.flaky);
    root.set_flaky(counts.flaky);
    root.set_notrun(counts.notrun);
    root.set_failed_to_run(counts.failed_to_run);
    root.set_inprogress(counts.inprogress);
    root.set_unknown(counts.unknown);
    root.set_total_ms(millis_of(entries.iter().map(|entry| entry.decisive.duration).sum()));
    root.set_keys_hash(keys_hash(entries.iter().map(|entry| &entry.key)));
    let statuses: Vec<u8> = entries.iter().map(|entry| entry.status() as u8).collect();
    root.set_statuses(&statuses);

    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let mut durations = root.reborrow().init_durations_ms(count);
    for (at, entry) in (0..count).zip(entries) {
        durations.set(at, u32::try_from(entry.decisive.duration.as_millis()).unwrap_or(u32::MAX));
    }
    let mut list = root.reborrow().init_runs(u32::try_from(runs.list.len()).unwrap_or(0));
    for (at, run) in (0..).zip(&runs.list) {
        encode_run(list.reborrow().get(at), run);
    }
    let mut list = root.init_entries(count);
    for ((at, entry), (run, other_runs)) in (0..count).zip(entries).zip(&entry_runs) {
        encode_entry(list.reborrow().get(at), entry, *run, other_runs);
    }
    finish(&blob)
}

fn encode_run(mut out: schema::run::Builder<'_>, run: &RunKey<'_>) {
    if let Some(host) = run.host {
        out.set_host(host.as_str());
    }
    out.set_slot(run.slot.unwrap_or(UNKNOWN));
    if let Some(kernel) = run.kernel {
        out.set_kernel(kernel.as_str());
    }
    if let Some(image) = run.image {
        out.set_image_hash(image);
    }
    if let Some(suite) = run.suite {
        out.set_suite(suite.to_string());
    }
    if let Some(experiment) = run.experiment {
        out.set_experiment(experiment.to_string());
    }
    if let Some(commit) = run.ran_at {
        out.set_inherited_from(commit.as_str());
    }
}

fn encode_entry(mut out: schema::test_result::Builder<'_>, entry: &TestEntry, run: u32, other_runs: &[u32]) {
    let TestEntry { key, decisive, others } = entry;
    out.set_name(key.as_str());
    out.set_duration(decisive.duration.as_secs());
    out.set_status(status_code(decisive.status));
    out.set_starttime(decisive.started.unwrap_or(0));
    out.set_duration_ms(millis_of(decisive.duration));
    if let Some(reason) = &decisive.reason {
        out.set_reason(reason.as_str());
    }
    if let Some(crash) = &decisive.crash {
        out.set_crash(crash.as_str());
    }
    out.set_run(run);
    out.set_attempt(decisive.number);
    out.set_log_bytes(decisive.log_bytes);
    out.set_full_log_bytes(decisive.full_log_bytes);
    out.set_load(decisive.conditions.load.unwrap_or(UNKNOWN));
    out.set_alone(alone_code(decisive.conditions.alone));
    if others.is_empty() {
        return;
    }
    let mut list = out.init_others(u32::try_from(others.len()).unwrap_or(u32::MAX));
    for ((at, other), run) in (0..).zip(others).zip(other_runs) {
        encode_other(list.reborrow().get(at), other, *run);
    }
}

fn encode_other(mut out: schema::attempt::Builder<'_>, other: &Attempt, run: u32) {
    out.set_number(other.number);
    out.set_status(status_code(other.status));
    out.set_starttime(other.started.unwrap_or(0));
    out.set_duration_ms(millis_of(other.duration));
    if let Some(reason) = &other.reason {
        out.set_reason(reason.as_str());
    }
    if let Some(crash) = &other.crash {
        out.set_crash(crash.as_str());
    }
    out.set_run(run);
    out.set_log_bytes(other.log_bytes);
    out.set_full_log_bytes(other.full_log_bytes);
    out.set_load(other.conditions.load.unwrap_or(UNKNOWN));
    out.set_alone(alone_code(other.conditions.alone));
}

/// A run of [`Runs`], decoded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    pub host: Option<HostName>,
    pub slot: Option<u32>,
    pub kernel: Option<KernelId>,
    pub image_hash: Option<Arc<str>>,
    pub suite: Option<SuiteVersion>,
    pub experiment: Option<ExperimentKey>,
    pub ran_at: Option<CommitId>,
}

impl Run {
    pub(super) fn decode(run: schema::run::Reader<'_>) -> capnp::Result<Self> {
        Ok(Self {
            host: non_empty(run.get_host()?).and_then(|host| host.parse().ok()),
            slot: known(run.get_slot()),
            kernel: non_empty(run.get_kernel()?).and_then(|kernel| kernel.parse().ok()),
            image_hash: non_empty(run.get_image_hash()?).map(Into::into),
            suite: non_empty(run.get_suite()?).and_then(|suite| suite.parse().ok()),
            experiment: non_empty(run.get_experiment()?).and_then(|experiment| experiment.parse().ok()),
            ran_at: non_empty(run.get_inherited_from()?).and_then(|commit| commit.parse().ok()),
        })
    }
}

/// Decodes the blob of `commit`. The entries are sorted; if a key occurs twice, the first entry is kept.
pub fn decode_commit(commit: &CommitId, bytes: &[u8]) -> capnp::Result<CommitBlob> {
    let mut rest = bytes;
    let message = open(&mut rest)?;
    let root: schema::test_results::Reader<'_> = message.get_root()?;
    let list = root.get_runs()?;
    let mut runs = Vec::new();
    for at in 0..checked_len(list.len(), bytes.len())? {
        runs.push(Run::decode(list.get(at))?);
    }
    let list = root.get_entries()?;
    let count = checked_len(list.len(), bytes.len())?;
    let mut entries = Vec::with_capacity(count as usize);
    for at in 0..count {
        // A damaged entry must not hide the others.
        if let Ok(Some(entry)) = decode_entry(list.get(at), &runs, bytes.len()) {
            entries.push(entry);
        }
    }
    if !entries.is_sorted_by(|a: &TestEntry, b| a.key < b.key) {
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        entries.dedup_by(|later, first| later.key == first.key);
    }
    let results = CommitResults { commit: commit.clone(), message: text(root.get_message()?), entries };
    let mark = Mark { epoch: root.get_epoch(), sequence: root.get_sequence() };
    Ok(CommitBlob { results, mark })
}

pub(super) fn decode_entry(
    entry: schema::test_result::Reader<'_>,
    runs: &[Run],
    bytes: usize,
) -> capnp::Result<Option<TestEntry>> {
    let Ok(key) = entry.get_name()?.to_str().unwrap_or("").parse::<ResultKey>() else { return Ok(None) };
    let run = run_at(runs, entry.get_run());
    let list = entry.get_others()?;
    let mut others = Vec::new();
    for at in 0..checked_len(list.len(), bytes)? {
        others.push(decode_attempt(list.get(at), runs)?);
    }
    let decisive = Attempt {
        number: entry.get_attempt().max(1),
        status: status_of(entry.get_status()),
        duration: duration(entry.get_duration_ms(), entry.get_duration()),
        started: (entry.get_starttime() != 0).then_some(entry.get_starttime()),
        reason: non_empty(entry.get_reason()?),
        crash: non_empty(entry.get_crash()?),
        host: run.host,
        slot: run.slot,
        kernel: run.kernel,
        image_hash: run.image_hash,
        log_bytes: entry.get_log_bytes(),
        full_log_bytes: entry.get_full_log_bytes(),
        conditions: Conditions {
            suite: run.suite,
            experiment: run.experiment,
            load: known(entry.get_load()),
            alone: alone_of(entry.get_alone()),
        },
        ran_at: run.ran_at,
    };
    Ok(Some(TestEntry { key, decisive, others }))
}

fn decode_attempt(attempt: schema::attempt::Reader<'_>, runs: &[Run]) -> capnp::Result<Attempt> {
    let run = run_at(runs, attempt.get_run());
    Ok(Attempt {
        number: attempt.get_number(),
        status: status_of(attempt.get_status()),
        duration: duration(attempt.get_duration_ms(), 0),
        started: (attempt.get_starttime() != 0).then_some(attempt.get_starttime()),
        reason: non_empty(attempt.get_reason()?),
        crash: non_empty(attempt.get_crash()?),
        host: run.host,
        slot: run.slot,
        kernel: run.kernel,
        image_hash: run.image_hash,
        log_bytes: attempt.get_log_bytes(),
        full_log_bytes: attempt.get_full_log_bytes(),
        conditions: Conditions {
            suite: run.suite,
            experiment: run.experiment,
            load: known(attempt.get_load()),
            alone: alone_of(attempt.get_alone()),
        },
        ran_at: run.ran_at,
    })
}

fn alone_code(alone: Option<bool>) -> u8 {
    alone.map_or(0, |alone| if alone { 2 } else { 1 })
}

fn alone_of(code: u8) -> Option<bool> {
    match code {
        1 => Some(false),
        2 => Some(true),
        _ => None,
    }
}

fn known(number: u32) -> Option<u32> {
    (number != UNKNOWN).then_some(number)
}

fn run_at(runs: &[Run], number: u32) -> Run {
    (number as usize).checked_sub(1).and_then(|at| runs.get(at)).cloned().unwrap_or_default()
}
