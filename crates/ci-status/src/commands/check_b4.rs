//! `ci-status check-b4`: answers a check of b4 for a patch.

use std::io::{self, Read as _, Write};

use mail_parser::MessageParser;
use model::{BranchRef, CommitId, patch_message_id};
use regress::builds;
use results::{BranchEntry, CommitResults};
use serde::Serialize;
use stdio::terminal;

use super::{Answer, since, to_json};
use crate::backend::all_branches;
use crate::context::Context;
use crate::problem::Problem;

/// The maximum size of a message, in bytes.
const SIZE_MAX: u64 = 16 << 20;
/// The maximum number of tests that are named.
const TESTS_MAX: usize = 3;
/// The maximum number of tests in the details.
const DETAILS_MAX: usize = 20;

/// The results of a patch.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Checks(Vec<Check>);

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Check {
    tool: &'static str,
    status: CheckStatus,
    summary: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// The tests that broke, one line each.
    #[serde(skip_serializing_if = "String::is_empty")]
    details: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum CheckStatus {
    Pass,
    Warn,
    Fail,
}

/// A patch in a mail.
#[derive(Debug, PartialEq, Eq)]
struct Patch {
    message_id: Option<String>,
    subject: String,
}

/// Reads a mail from standard input.
pub fn run(context: &Context) -> Result<Checks, Problem> {
    let mut message = Vec::new();
    let read = io::stdin().lock().take(SIZE_MAX + 1).read_to_end(&mut message);
    read.map_err(Problem::Input)?;
    match check(context, &message) {
        // What is wrong with the results or the dashboard is no fault of the patch.
        Err(problem) if !matches!(problem, Problem::NoMail) => Ok(Checks(vec![warning(problem.to_string())])),
        checked => checked,
    }
}

fn check(context: &Context, message: &[u8]) -> Result<Checks, Problem> {
    if message.len() as u64 > SIZE_MAX {
        return Err(Problem::NoMail);
    }
    let Some(patch) = patch(message)? else { return Ok(Checks(Vec::new())) };
    let Some((at, commit)) = find(context, &patch)? else {
        return Ok(Checks(vec![warning("no branch of the farm has a commit with this subject".into())]));
    };
    let results = context.backend.commit(&commit)?;
    let judged = match &results {
        Some(results) if !results.entries.is_empty() => judge(context, &at, results)?,
        _ => warning("not tested yet".into()),
    };
    let Check { status, summary, details, .. } = judged;
    let has_jobs = context.backend.snapshot()?.is_some_and(|snapshot| snapshot.has_jobs_of(commit.as_str()));
    let (status, summary) = match status {
        CheckStatus::Pass if has_jobs => (CheckStatus::Warn, format!("tests are running; {summary}")),
        _ => (status, summary),
    };
    let summary = format!("{at} {}: {summary}", commit.short());
    let url = context.address.as_deref().map(|address| {
        let base = address.trim_end_matches('/');
        format!("{}/c/{commit}/", base.strip_suffix("/ci").unwrap_or(base))
    });
    Ok(Checks(vec![Check { tool: TOOL, status, summary, url, details }]))
}

fn warning(summary: String) -> Check {
    Check { tool: TOOL, status: CheckStatus::Warn, summary, url: None, details: String::new() }
}

/// The name of the check.
const TOOL: &str = "ktest";

/// The patch of a mail; `None` if it has none.
fn patch(message: &[u8]) -> Result<Option<Patch>, Problem> {
    let parsed = MessageParser::default().parse(message).ok_or(Problem::NoMail)?;
    let subject = parsed.subject().ok_or(Problem::NoMail)?;
    let body = parsed.body_text(0).unwrap_or_default();
    let has_diff = body.lines().any(|line| line.starts_with("diff --git ") || line.starts_with("--- a/"));
    let message_id = parsed.message_id().map(str::to_owned);
    Ok(has_diff.then(|| Patch { message_id, subject: plain_subject(subject) }))
}

/// A subject as `git am` makes it: without `Re:` and `[PATCH v2 1/3]`.
fn plain_subject(subject: &str) -> String {
    let mut rest = subject.trim();
    loop {
        let before = rest;
        for prefix in ["Re:", "RE:", "re:"] {
            rest = rest.strip_prefix(prefix).unwrap_or(rest).trim_start();
        }
        if let Some((_, after)) = rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            rest = after.trim_start();
        }
        if rest == before {
            return rest.split_whitespace().collect::<Vec<_>>().join(" ");
        }
    }
}

/// The newest commit of the patch, one with results first.
fn find(context: &Context, patch: &Patch) -> Result<Option<(BranchRef, CommitId)>, Problem> {
    let names = all_branches(&*context.backend)?;
    let listings = context.backend.listings(&names);
    let all = names.iter().zip(&listings).flat_map(|(at, list)| list.iter().map(move |entry| (at, entry)));
    let all: Vec<(&BranchRef, &BranchEntry)> = all.collect();
    let of_mail = |entry: &BranchEntry| {
        patch.message_id.is_some() && patch_message_id(&entry.message) == patch.message_id
    };
    let of_subject = |entry: &BranchEntry| {
        let subject = entry.message.trim_start().lines().next().unwrap_or_default();
        !patch.subject.is_empty() && subject.trim() == patch.subject
    };
    let rules: [&dyn Fn(&BranchEntry) -> bool; 2] = [&of_mail, &of_subject];
    for rule in rules {
        let found = all.iter().filter(|(_, entry)| rule(entry));
        let newest = found.max_by_key(|(_, entry)| (entry.counts.total() > 0, entry.authorship.date));
        if let Some((at, entry)) = newest {
            return Ok(Some(((*at).clone(), entry.commit.clone())));
        }
    }
    Ok(None)
}

/// Whether the commit broke something.
fn judge(context: &Context, at: &BranchRef, results: &CommitResults) -> Result<Check, Problem> {
    let check = |status, summary, details| Check { tool: TOOL, status, summary, url: None, details };
    if let Some(failed) = builds::view(results).and_then(|build| build.failed.into_iter().next()) {
        let summary = format!("the build failed: {}", terminal::line(&failed.error));
        return Ok(check(CheckStatus::Fail, summary, String::new()));
    }
    let rows = since::of_commit(context, Some(at), results)?;
    let (own, earlier): (Vec<_>, Vec<_>) =
        rows.iter().partition(|row| row.first_bad.commit == results.commit && row.last_good.is_some());
    let counts = results.counts().words_with(|_, words| words);
    if own.is_empty() {
        let known = if earlier.is_empty() { "" } else { "; nothing that passed before" };
        return Ok(check(CheckStatus::Pass, format!("{counts}{known}"), String::new()));
    }
    let mut names: Vec<&str> = own.iter().take(TESTS_MAX).map(|row| row.name.as_str()).collect();
    let more = own.len().saturating_sub(TESTS_MAX);
    let rest = format!("and {more} more");
    if more > 0 {
        names.push(&rest);
    }
    let (status, word) = match own.iter().all(|row| row.untested_between == 0) {
        true => (CheckStatus::Fail, "broke"),
        false => (CheckStatus::Warn, "this commit or an untested one before it broke"),
    };
    let summary = format!("{word} {}; {counts}", terminal::line(&names.join(", ")));
    let reasons: Vec<String> =
        own.iter().take(DETAILS_MAX).filter_map(|row| reason(results, &row.name)).collect();
    Ok(check(status, summary, reasons.join("\n")))
}

/// `fs.ext4.basic.punch: kernel BUG in ext4_punch_hole`
fn reason(results: &CommitResults, name: &str) -> Option<String> {
    let decisive = &results.get(&name.parse().ok()?)?.decisive;
    let reason = decisive.crash.as_deref().or(decisive.reason.as_deref()).unwrap_or_default();
    Some(terminal::line(&format!("{name}: {reason}")))
}

impl Answer for Checks {
    fn json(&self) -> serde_json::Result<String> {
        to_json(self)
    }

    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let json = self.json().map_err(io::Error::other)?;
        writeln!(out, "{}", terminal::json(&json))
    }
}

#[cfg(test)]
mod tests {
    use model::Verdict;
    use testkit::results_fixture::{ResultsFixture, TestResult, commit_id};

    use super::*;
    use crate::context::ResultsLocation;

    #[test]
    fn a_subject_is_that_of_the_commit() {
        for (subject, plain) in [
            ("[PATCH v2 1/3] ext4: lock it", "ext4: lock it"),
            ("Re: [RFC][PATCH] ext4: lock  it", "ext4: lock it"),
            ("ext4: [x] y", "ext4: [x] y"),
            ("[PATCH", "[PATCH"),
        ] {
            assert_eq!(plain_subject(subject), plain);
        }
    }

    #[test]
    fn a_patch_has_the_results_of_its_commit() {
        let dir = tempfile::tempdir().unwrap();
        let fixture = ResultsFixture::new(dir.path());
        let [new, bad, good] = ["new", "bad", "good"].map(commit_id);
        let named = |id: &CommitId, message: &str| (id.clone(), message.to_owned());
        fixture.branch(
            "kmo",
            "next",
            &[
                named(&new, "x: untested"),
                named(&bad, "x: break it\n\nLink: https://lore.kernel.org/r/1@b.c\n"),
                named(&good, "x: prepare"),
            ],
        );
        fixture.test(TestResult::new(&good, "fs.a.x", Verdict::Passed, 100));
        let failed = Verdict::Failed { reason: "lost 3 of 8".into() };
        fixture.test(TestResult::new(&bad, "fs.a.x", failed.clone(), 100));
        fixture.test(TestResult::new(&bad, "fs.a.x", failed, 100));
        fixture.finish();
        let location =
            ResultsLocation { output_dir: Some(dir.path()), local: true, ..ResultsLocation::default() };
        let context = Context::open(&location, dir.path().into(), 0).unwrap();
        let of = |id: &str, subject: &str| {
            let mail =
                format!("From: a@b.c\nMessage-ID: <{id}>\nSubject: [PATCH] {subject}\n\n--- a/x\n+++ b/x\n");
            let Checks(checks) = check(&context, mail.as_bytes()).unwrap();
            (checks[0].status, format!("{} {}", checks[0].summary, checks[0].details))
        };
        // By the mail, then by the subject.
        let (status, text) = of("1@b.c", "another subject");
        assert_eq!(status, CheckStatus::Fail);
        assert!(text.contains("broke fs.a.x; 1 failed") && text.contains("fs.a.x: lost 3 of 8"), "{text}");
        assert_eq!(of("2@b.c", "x: prepare").0, CheckStatus::Pass);
        assert_eq!(of("2@b.c", "x: untested").0, CheckStatus::Warn);
        assert!(of("2@b.c", "y: unknown").1.contains("no branch"));
    }

    #[test]
    fn only_a_mail_with_a_diff_is_a_patch() {
        let mail = |body: &str| {
            let text = format!("From: a@b.c\nMessage-ID: <1@b.c>\nSubject: [PATCH] x: y\n\n{body}\n");
            patch(text.as_bytes()).unwrap()
        };
        assert_eq!(mail("cover letter"), None);
        let expected = Patch { message_id: Some("1@b.c".into()), subject: "x: y".into() };
        assert_eq!(mail("---\ndiff --git a/x b/x\n--- a/x\n+++ b/x"), Some(expected));
        assert!(patch(b"").is_err());
    }
}
