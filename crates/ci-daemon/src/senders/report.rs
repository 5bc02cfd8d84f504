//! All that a message says of a finding, read from the results.

use std::collections::BTreeSet;

use config::Config;
use model::{BranchRef, CommitId, Finding, FindingKind, FindingRate, ResultKey, Status};
use notify::{CommitInfo, Report};
use regress::excerpt;
use results::findings::{FindingQuery, RecordedFinding};
use results::{BranchEntry, LogKind, Reader};

use super::address::Addresses;

/// The maximum number of lines of a log in a message.
const LINES_MAX: usize = 30;
/// The maximum number of bytes of a log that are read.
const LOG_MAX: u64 = 16 << 20;
/// The maximum number of older commits with runs that are counted.
const BEFORE_MAX: usize = 100;
/// The maximum number of tests with older runs that are counted.
const BEFORE_TESTS_MAX: usize = 10;
/// The maximum number of findings in which other branches are searched.
const SEARCHED_MAX: usize = 1000;
/// The maximum number of other branches.
const ELSEWHERE_MAX: usize = 5;

/// Reads what a message says of a finding.
pub(super) fn report(reader: &Reader, config: &Config, found: &RecordedFinding) -> Report {
    let finding = &found.finding;
    let listed = finding.branch.as_ref().and_then(|branch| reader.branch(branch).ok().flatten());
    let listed = listed.unwrap_or_default();
    let addresses = Addresses::new(config.top.ci_url.as_deref());
    let shown = shown(finding);
    let log = shown.as_ref().and_then(|(commit, test)| log(reader, finding, commit, test));
    let log = log.unwrap_or_default();
    let commit = |id: &Option<CommitId>| Some(info(&listed, config, finding.branch.as_ref(), id.as_ref()?));
    let config_url = shown.as_ref().and_then(|(commit, test)| {
        let has_file = reader.artifacts(commit, test).ok()?.iter().any(|row| row.name == CONFIG);
        has_file.then(|| addresses.file(commit, test, CONFIG)).flatten()
    });
    Report {
        url: addresses.finding(finding).unwrap_or_default(),
        first_bad: commit(&finding.first_bad),
        last_good: commit(&finding.last_good),
        commit: commit(&finding.commit),
        before: before(reader, finding),
        elsewhere: elsewhere(reader, finding),
        log: log.lines,
        log_url: shown.and_then(|(commit, test)| addresses.log(finding, &commit, &test)).unwrap_or_default(),
        reproduce: log.commands,
        config_url,
        owner: owner(reader, finding),
        finding: finding.clone(),
    }
}

/// The artifact with the configuration of the kernel.
const CONFIG: &str = "kernel.config.br";
/// The artifact with the log of a build.
const BUILD_LOG: &str = "build.log";

/// The test with the log that shows the finding, and its commit.
fn shown(finding: &Finding) -> Option<(CommitId, ResultKey)> {
    let commit = match finding.kind {
        FindingKind::Bisected => finding.first_bad.as_ref().or(finding.commit.as_ref()),
        _ => finding.commit.as_ref().or(finding.first_bad.as_ref()),
    };
    Some((commit?.clone(), finding.tests.first()?.clone()))
}

/// The lines of a log, and the commands that repeat the test.
#[derive(Default)]
struct Excerpt {
    lines: Vec<String>,
    commands: Vec<String>,
}

fn log(reader: &Reader, finding: &Finding, commit: &CommitId, test: &ResultKey) -> Option<Excerpt> {
    let checkout = format!("git checkout {}", commit.short());
    let owned = |lines: Vec<&str>| lines.into_iter().map(str::to_owned).collect();
    match finding.kind {
        FindingKind::BuildBroke => {
            let (bytes, _) = reader.open_artifact(commit, test, BUILD_LOG).ok()??.read(LOG_MAX).ok()?;
            let text = String::from_utf8_lossy(&bytes);
            let lines = owned(excerpt::of_build(&text, &finding.signature, LINES_MAX));
            Some(Excerpt { lines, commands: Vec::new() })
        }
        FindingKind::Fixed | FindingKind::BuildFixed | FindingKind::BelievedFixed | FindingKind::Farm => None,
        FindingKind::Broke
        | FindingKind::Bisected
        | FindingKind::FlakyBegan
        | FindingKind::SuspiciousPass => {
            let (bytes, is_whole) = reader.log(commit, test, LogKind::Subtest).ok()??.read(LOG_MAX).ok()?;
            let text = String::from_utf8_lossy(&bytes);
            let lines = owned(excerpt::of_test(&text, LINES_MAX));
            let command = excerpt::command(&text).filter(|_| is_whole);
            let commands = command.map_or(Vec::new(), |command| vec![checkout, command.to_owned()]);
            Some(Excerpt { lines, commands })
        }
    }
}

fn info(listed: &[BranchEntry], config: &Config, branch: Option<&BranchRef>, id: &CommitId) -> CommitInfo {
    let entry = listed.iter().find(|entry| entry.commit == *id);
    let repo = branch.and_then(|branch| config.branch(branch)).map(|branch| &branch.repo);
    let message = entry.map(|entry| entry.message.as_str()).unwrap_or_default();
    let author = entry.map(|entry| entry.authorship.author.as_str()).unwrap_or_default();
    let (name, email) = match author.rsplit_once('<') {
        Some((name, rest)) => (name.trim(), rest.trim_end_matches('>')),
        None => (author, ""),
    };
    CommitInfo {
        id: id.clone(),
        subject: message.trim_start().lines().next().unwrap_or_default().trim().to_owned(),
        author: name.to_owned(),
        email: email.to_owned(),
        message_id: model::patch_message_id(message),
        url: repo.and_then(|repo| config.commit_url(repo)).map(|url| url.of(id)),
    }
}

/// How often the tests failed before their first bad commit; `None` for more than a few tests.
fn before(reader: &Reader, finding: &Finding) -> Option<FindingRate> {
    let (branch, first_bad) = (finding.branch.as_ref()?, finding.first_bad.as_ref()?);
    if finding.tests_total as usize > BEFORE_TESTS_MAX {
        return None;
    }
    let mut rate = FindingRate { failed: 0, runs: 0 };
    for test in &finding.tests {
        let history = reader.history(branch, test).ok()??;
        let at = history.iter().position(|row| row.commit == *first_bad)?;
        for entry in history[at + 1..].iter().filter_map(|row| row.entry.as_ref()).take(BEFORE_MAX) {
            let failed = entry.attempts_in(Status::Failed);
            rate.failed = rate.failed.saturating_add(failed);
            rate.runs = rate.runs.saturating_add(failed).saturating_add(entry.attempts_in(Status::Passed));
        }
    }
    (rate.runs > 0).then_some(rate)
}

/// Other branches with a finding of this kind and signature.
fn elsewhere(reader: &Reader, finding: &Finding) -> Vec<String> {
    if finding.signature.is_empty() || finding.branch.is_none() {
        return Vec::new();
    }
    let query = FindingQuery { most: SEARCHED_MAX, ..FindingQuery::default() };
    let found = reader.findings(&query).into_iter().map(|found| found.finding);
    let is_same = |other: &Finding| other.kind == finding.kind && other.signature == finding.signature;
    let others: BTreeSet<String> = found
        .filter(is_same)
        .filter_map(|other| other.branch)
        .filter(|branch| finding.branch.as_ref() != Some(branch))
        .map(|branch| branch.to_string())
        .collect();
    others.into_iter().take(ELSEWHERE_MAX).collect()
}

fn owner(reader: &Reader, finding: &Finding) -> Option<String> {
    let owners = reader.owners().ok()?;
    Some(owners.of(finding.tests.first()?).first()?.to_string())
}
