//! Senders of the state of each commit: commit statuses of forges, and KCIDB.
//!
//! What was sent is kept in memory. After a restart it is sent again, which has no effect at the receiver: statuses and results have ids.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use config::{Branch, Config, ForgeKind, ForgeSettings, Secret, Sender, SenderKind};
use model::{BuiltKernel, CommitId, FindingKind, Status, StatusSnapshot};
use notify::forge::{self, CommitStatus, Forge, State};
use notify::http::{self, SendError};
use notify::kcidb;
use results::findings::SenderState;
use results::{Attempt, BranchEntry, Reader, TestEntry, Writer};

use super::address::Addresses;
use super::{record, state};

/// The number of newest commits of a branch with a status.
const COMMITS_MAX: usize = 20;
/// The time limit of a request.
const TIME: Duration = Duration::from_secs(30);
/// The name of the check at a forge.
const CONTEXT: &str = "ktest";

/// What was sent of each commit.
#[derive(Debug, Default)]
pub(super) struct SentCommits(HashMap<CommitId, SentCommit>);

#[derive(Debug, Clone)]
struct SentCommit {
    /// What the message depended on.
    state: String,
    digest: String,
}

/// Sends the states of commits that changed. Returns whether nothing failed.
pub(super) fn turn(
    writer: &Writer,
    config: &Config,
    sender: &Sender,
    sent: &mut SentCommits,
    now: i64,
) -> bool {
    let reader = writer.reader();
    let Some(before) = state(writer, &reader, sender, now) else { return false };
    let error = send_changed(&reader, config, sender, sent).err().map(|error| error.to_string());
    if let Some(error) = &error {
        tracing::warn!(sender = sender.name, "the state of a commit is not sent: {error}");
    }
    let is_well = error.is_none();
    if before.error != error {
        record(writer, &SenderState { error, at: now, ..before }, None);
    }
    is_well
}

fn send_changed(
    reader: &Reader,
    config: &Config,
    sender: &Sender,
    sent: &mut SentCommits,
) -> Result<(), SendError> {
    let unreadable = |error: &dyn std::fmt::Display| SendError::Later(error.to_string());
    // Without it, a commit that is being tested looks as if it were done.
    let snapshot = reader.snapshot().map_err(|error| unreadable(&error))?;
    let snapshot = snapshot.ok_or_else(|| unreadable(&"there is no status snapshot yet"))?;
    let mut newest: HashMap<CommitId, SentCommit> = HashMap::new();
    let (mut result, mut failures) = (Ok(()), 0);
    for branch in config.all_branches().filter(|branch| is_of(sender, branch)) {
        let listed = reader.branch(&branch.name).map_err(|error| unreadable(&error))?.unwrap_or_default();
        for entry in listed.iter().take(COMMITS_MAX).rev() {
            let old = sent.0.remove(&entry.commit).or_else(|| newest.get(&entry.commit).cloned());
            let state = state_of(reader, sender, &snapshot, entry);
            if failures >= FAILURES_MAX || old.as_ref().is_some_and(|old| old.state == state) {
                newest.extend(old.map(|old| (entry.commit.clone(), old)));
                continue;
            }
            let message = match Message::of(reader, config, sender, &snapshot, (branch, entry)) {
                Ok(message) => message,
                Err(error) => {
                    (failures, result) = (failures + 1, Err(error));
                    newest.extend(old.map(|old| (entry.commit.clone(), old)));
                    continue;
                }
            };
            let digest = message.as_ref().map(|message| message.digest.clone()).unwrap_or_default();
            let is_same = old.as_ref().is_some_and(|old| old.digest == digest);
            let outcome = match message.filter(|_| !is_same) {
                Some(message) => message.send(sender),
                None => Ok(()),
            };
            let is_later = matches!(outcome, Err(SendError::Later(_)));
            // One commit that is not accepted does not stop the others, and is not sent again until it changes.
            failures = if is_later { failures + 1 } else { 0 };
            result = outcome.and(result);
            let new = if is_later { old } else { Some(SentCommit { state, digest }) };
            newest.extend(new.map(|new| (entry.commit.clone(), new)));
        }
    }
    sent.0 = newest;
    result
}

/// What a message about a commit depends on; cheap to find.
fn state_of(reader: &Reader, sender: &Sender, snapshot: &StatusSnapshot, entry: &BranchEntry) -> String {
    let findings = match &sender.kind {
        SenderKind::Kcidb { .. } => reader.findings_at(&entry.commit).len(),
        _ => 0,
    };
    format!("{} {:?} {findings}", snapshot.has_jobs_of(entry.commit.as_str()), entry.counts)
}

/// The number of failures in sequence after which a turn ends.
const FAILURES_MAX: u32 = 3;

/// Whether the sender sends the commits of a branch.
fn is_of(sender: &Sender, branch: &Branch) -> bool {
    let name = branch.name.to_string();
    sender.branches.is_empty() || sender.branches.iter().any(|pattern| pattern.matches(&name))
}

/// What a receiver is sent of a commit.
struct Message {
    request: http::HttpRequest,
    /// Equal for messages that change nothing at the receiver.
    digest: String,
}

impl Message {
    /// `None` if there is nothing to send.
    fn of(
        reader: &Reader,
        config: &Config,
        sender: &Sender,
        snapshot: &StatusSnapshot,
        (branch, entry): (&Branch, &BranchEntry),
    ) -> Result<Option<Self>, SendError> {
        let has_jobs = snapshot.has_jobs_of(entry.commit.as_str());
        let addresses = Addresses::new(config.top.ci_url.as_deref());
        Ok(match &sender.kind {
            SenderKind::Forge(settings) => status(reader, &addresses, entry, has_jobs).map(|status| Self {
                // GitLab refuses a status with the state that the commit has.
                digest: match settings.forge {
                    ForgeKind::GitLab => format!("{:?}", status.state),
                    _ => format!("{:?} {}", status.state, status.description),
                },
                request: request(settings, &status),
            }),
            SenderKind::Kcidb { url, origin, token } if !has_jobs && entry.counts.total() > 0 => {
                let commit = commit(reader, &addresses, branch, entry)?;
                if commit.builds.is_empty() {
                    return Ok(None);
                }
                let issues = issues(reader, &addresses, &commit);
                let token = token.as_ref().map(|Secret(token)| token.as_str());
                let request = kcidb::request(url, token, &kcidb::body(origin, &[commit], &issues));
                let digest = format!("{:?} {}", entry.counts, issues.len());
                Some(Self { request, digest })
            }
            _ => None,
        })
    }

    fn send(&self, sender: &Sender) -> Result<(), SendError> {
        let is_gitlab = matches!(&sender.kind, SenderKind::Forge(forge) if forge.forge == ForgeKind::GitLab);
        match http::send(&self.request, TIME) {
            // The commit has this state already: an earlier daemon sent it.
            Err(SendError::Refused(error)) if is_gitlab && error.contains("Cannot transition") => Ok(()),
            result => result,
        }
    }
}

/// Sends nothing that stays, to check the settings.
pub(super) fn test(sender: &Sender) -> Result<(), SendError> {
    let request = match &sender.kind {
        SenderKind::Kcidb { url, origin, token } => {
            let token = token.as_ref().map(|Secret(token)| token.as_str());
            kcidb::request(url, token, &kcidb::body(origin, &[], &[]))
        }
        SenderKind::Forge(settings) => {
            let Secret(token) = &settings.token;
            forge::check(kind(settings), &settings.url, &settings.project, token)
        }
        _ => return Ok(()),
    };
    http::send(&request, TIME)
}

fn kind(settings: &ForgeSettings) -> Forge {
    match settings.forge {
        ForgeKind::GitHub => Forge::GitHub,
        ForgeKind::GitLab => Forge::GitLab,
        ForgeKind::Forgejo => Forge::Forgejo,
    }
}

fn request(settings: &ForgeSettings, status: &CommitStatus) -> http::HttpRequest {
    let Secret(token) = &settings.token;
    forge::request(kind(settings), &settings.url, &settings.project, token, status)
}

/// The status of a commit; `None` if it has neither results nor jobs.
fn status(
    reader: &Reader,
    addresses: &Addresses<'_>,
    entry: &BranchEntry,
    has_jobs: bool,
) -> Option<CommitStatus> {
    let counts = &entry.counts;
    if counts.total() == 0 && !has_jobs {
        return None;
    }
    let results = reader.commit(&entry.commit).ok().flatten();
    let build = results.as_ref().and_then(regress::builds::view);
    let error = build.and_then(|build| build.failed.into_iter().next()).map(|failed| failed.error);
    // An infrastructure error and tests that do not apply prove nothing.
    let state = match (&error, counts.failed, has_jobs) {
        (Some(_), ..) | (None, 1.., _) => State::Failure,
        (None, 0, false) if counts.passed > 0 && counts.failed_to_run == 0 => State::Success,
        (None, 0, _) => State::Pending,
    };
    let mut count = format!("{} failed, {} passed", counts.failed, counts.passed);
    if counts.failed_to_run > 0 {
        count.push_str(&format!(", {} failed to run", counts.failed_to_run));
    }
    let description = match error {
        Some(error) => format!("the build failed: {error}"),
        None if has_jobs => format!("running: {count}"),
        None => count,
    };
    Some(CommitStatus {
        commit: entry.commit.clone(),
        state,
        target_url: addresses.commit(&entry.commit).unwrap_or_default(),
        description,
        context: CONTEXT.into(),
    })
}

/// The results of a commit for KCIDB. A kernel without a result of its own is left out: an infrastructure error says nothing of it.
fn commit(
    reader: &Reader,
    addresses: &Addresses<'_>,
    branch: &Branch,
    entry: &BranchEntry,
) -> Result<kcidb::Commit, SendError> {
    let results = reader.commit(&entry.commit).map_err(|error| SendError::Later(error.to_string()))?;
    let entries = results.map(|results| results.entries).unwrap_or_default();
    let mut builds: BTreeMap<BuiltKernel, kcidb::Build> = BTreeMap::new();
    let recorded = reader.builds(&entry.commit);
    for test in &entries {
        let Some(kernel) = BuiltKernel::of_key(test.key.as_str()) else { continue };
        let build = builds.entry(kernel.clone()).or_insert_with(|| {
            let of_kernel = recorded.iter().find(|build| build.kernel == kernel);
            kcidb::Build {
                arch: if kernel.arch.is_empty() { HOST_ARCH.into() } else { kernel.arch.clone() },
                config: kernel.flavor.clone(),
                started: of_kernel.map(|build| build.started),
                duration: of_kernel.map(|build| build.duration),
                error: None,
                log_url: addresses.build(&entry.commit),
                tests: Vec::new(),
            }
        });
        match test.decisive.reason.as_deref().and_then(model::build_error) {
            Some(error) => build.error = Some(error.to_owned()),
            None => build
                .tests
                .extend(attempts(test).map(|attempt| result(addresses, &entry.commit, test, attempt))),
        }
    }
    builds.retain(|_, build| build.error.is_some() || build.tests.iter().any(kcidb::Test::is_result));
    let started = entries.iter().filter_map(|test| test.decisive.started).min();
    Ok(kcidb::Commit {
        id: entry.commit.clone(),
        git_url: public_url(branch.remote.as_ref()),
        git_branch: Some(branch.git_ref.to_string()),
        tree: branch.name.to_string(),
        subject: entry.message.trim_start().lines().next().unwrap_or_default().to_owned(),
        started,
        builds: builds.into_values().collect(),
    })
}

/// The address of a remote that others can fetch from, without an account.
fn public_url(remote: &str) -> Option<String> {
    let rest = remote.strip_prefix("https://").or_else(|| remote.strip_prefix("git://"))?;
    let host = rest.split('/').next()?;
    (!host.contains('@')).then(|| remote.to_owned())
}

/// The architecture of this machine, as in the kernel.
const HOST_ARCH: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };

fn attempts(test: &TestEntry) -> impl Iterator<Item = &Attempt> {
    std::iter::once(&test.decisive).chain(&test.others)
}

fn result(addresses: &Addresses<'_>, commit: &CommitId, test: &TestEntry, attempt: &Attempt) -> kcidb::Test {
    kcidb::Test {
        name: test.key.to_string(),
        attempt: attempt.number,
        status: attempt.status,
        reason: attempt.crash.clone().or_else(|| attempt.reason.clone()),
        started: attempt.started,
        duration: (attempt.status != Status::NotRun).then_some(attempt.duration),
        log_url: addresses.test(commit, &test.key),
        host: attempt.host.as_ref().map(ToString::to_string),
    }
}

/// The findings at a commit, with the failures of their tests.
fn issues(reader: &Reader, addresses: &Addresses<'_>, commit: &kcidb::Commit) -> Vec<kcidb::Issue> {
    let found = reader.findings_at(&commit.id).into_iter().map(|found| found.finding);
    let broke = found.filter(|finding| finding.kind == FindingKind::Broke);
    let issue = |finding: model::Finding| {
        let hits = commit.builds.iter().flat_map(|build| {
            let is_hit = |test: &&kcidb::Test| {
                let is_named = finding.tests.iter().any(|key| key.as_str() == test.name);
                is_named && test.status == Status::Failed && build.error.is_none()
            };
            let hit = |test: &kcidb::Test| (commit.id.clone(), build.clone(), test.clone());
            build.tests.iter().filter(is_hit).map(hit).collect::<Vec<_>>()
        });
        kcidb::Issue {
            id: finding.id.clone(),
            signature: finding.signature.clone(),
            url: addresses.finding(&finding),
            hits: hits.collect(),
        }
    };
    broke.map(issue).collect()
}
