//! `ci-daemon check`: known failures that have no effect any longer, those that pass, and those that no test has.

use std::collections::BTreeSet;

use config::{Branch, Config};
use gitio::Repo;
use model::{ResultKey, Status};
use results::{CommitResults, Reader, TestEntry};
use testfile::known_issues::{Circumstances, KnownIssue, KnownIssues, oldest, variant_of};

use crate::known_failures::{entries_about, units_by_prefix, version_of};
use crate::plan::{Unit, units_of};

/// The number of newest commits of a branch among which one with results is looked for.
const NEWEST: usize = 50;

/// Lists the files that are not valid, the entries that are over, and those with tests that pass. Reads the published
/// results, and the kernel version of the tips in `linux_repo`. `now` is in Unix seconds.
pub async fn problems(config: &Config, now: i64) -> Vec<String> {
    let (issues, errors) = KnownIssues::load_all(&config.top.ktest_dir, &KnownIssues::default());
    let mut problems: Vec<String> = errors.iter().map(ToString::to_string).collect();
    if issues.iter().next().is_none() {
        return problems;
    }
    let kernel_version = oldest_version(config).await.unwrap_or_default();
    let at = Circumstances { kernel_version: &kernel_version, now };
    let over = issues.iter().filter_map(|issue| Some((issue, issue.expired(at)?)));
    problems.extend(over.map(|(issue, why)| format!("{}: {}: {why}", issue.place, issue.test)));
    if let Ok(reader) = Reader::open(&config.top.output_dir) {
        let passing = passing(config, &issues, &reader);
        let is_listed = |issue: &&KnownIssue| {
            passing.iter().any(|problem| problem.starts_with(&format!("{}: ", issue.place)))
        };
        let unused = unused(config, &issues, &reader);
        let unused = unused.into_iter().filter(|issue| issue.expired(at).is_none() && !is_listed(issue));
        problems.extend(unused.map(|issue| {
            format!(
                "{}: {}: no such failure at the newest {NEWEST} commits of a branch",
                issue.place, issue.test
            )
        }));
        problems.extend(passing);
    }
    problems
}

/// The version of the oldest kernel at the tip of a branch: what is over for it is over for all. `None` if the version of
/// a branch is not known.
async fn oldest_version(config: &Config) -> Option<String> {
    let repo = Repo::open(&config.top.linux_repo).ok()?;
    let mut versions = Vec::new();
    for branch in config.all_branches().filter(|branch| branch.repo.is_linux()) {
        let tip = repo.resolve(&branch.local_ref()).ok()?;
        versions.push(version_of(&config.top.linux_repo, &tip).await?);
    }
    oldest(versions)
}

/// The entries with tests that all pass at the newest commit of a branch that has results.
fn passing(config: &Config, issues: &KnownIssues, reader: &Reader) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for branch in config.all_branches() {
        let Some(results) = newest_results(reader, branch) else { continue };
        let units: Vec<Unit> = config.groups_of(branch).flat_map(units_of).collect();
        for issue in issues.iter() {
            let statuses: Vec<Status> =
                units.iter().flat_map(|unit| statuses(issue, unit, &results)).collect();
            if !statuses.is_empty() && statuses.iter().all(|status| *status == Status::Passed) {
                let (place, test, commit) = (&issue.place, &issue.test, results.commit.short());
                found.insert(format!("{place}: {test}: passes on {} at {commit}", branch.name));
            }
        }
    }
    found
}

/// The entries that are about no failure at the newest tested commits of the branches.
fn unused<'a>(config: &Config, issues: &'a KnownIssues, reader: &Reader) -> Vec<&'a KnownIssue> {
    let mut used = BTreeSet::new();
    for branch in config.all_branches() {
        let units = units_by_prefix(std::iter::once(branch), config);
        let name = branch.name.to_string();
        let commits = reader.branch(&branch.name).ok().flatten().unwrap_or_default();
        let newest = commits.into_iter().filter(|entry| entry.counts.total() > 0).take(NEWEST);
        for results in newest.filter_map(|entry| reader.commit(&entry.commit).ok().flatten()) {
            let about = |entry: &TestEntry| entries_about(issues, &[&name], &units, entry);
            used.extend(results.entries.iter().flat_map(about));
        }
    }
    issues.iter().filter(|issue| !used.contains(issue.place.as_str())).collect()
}

fn newest_results(reader: &Reader, branch: &Branch) -> Option<CommitResults> {
    let commits = reader.branch(&branch.name).ok()??;
    let newest = commits.iter().take(NEWEST).find(|entry| entry.counts.total() > 0)?;
    reader.commit(&newest.commit).ok()?
}

/// The statuses of the tests of a unit that an entry is about.
fn statuses(issue: &KnownIssue, unit: &Unit, results: &CommitResults) -> Vec<Status> {
    let prefix = ResultKey::file_prefix(&unit.test, unit.kernel.as_ref(), &unit.env) + ".";
    let variant = variant_of(unit.env.iter());
    let of_issue = results.entries.iter().filter(|entry| {
        let subtest = entry.key.as_str().strip_prefix(&prefix);
        subtest.is_some_and(|subtest| issue.is_about(&format!("{}.{subtest}", unit.test.dotted()), variant))
    });
    of_issue.map(|entry| entry.decisive.status).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use model::{CommitId, Verdict};
    use results::{VerdictRecord, Writer};
    use testkit::ScratchRepo;

    use super::*;

    const NOW: i64 = 1_796_000_000; // 2026-11-30
    const CONFIG: &str = r#"
linux_repo = "LINUX"
output_dir = "out"
ktest_dir = "kt"
user = "kmo"
[test_group.g]
tests = ["fs/a.ktest"]
[test_group.small]
tests = ["fs/a.ktest"]
env = { ktest_xfstests_variant = "1k" }
[branch.next]
remote = "REMOTE"
test_groups = ["g", "small"]
"#;
    const ISSUES: &str = r#"
[[issue]]
test = "fs.a.fixed"
variant = "default"
reason = "was a bug"
[[issue]]
test = "fs.a.*"
variant = "1k"
reason = "no space"
[[issue]]
test = "fs.a.old"
reason = "is a bug"
until = "2026-01-01"
[[issue]]
test = "fs.a.old"
reason = "is fixed"
until = "6.12"
[[issue]]
test = "fs.a.old"
failure = "1"
reason = "has another reason"
[[issue]]
test = "fs.gone.*"
reason = "is gone"
"#;

    async fn record(writer: &Writer, commit: &CommitId, key: &str, verdict: Verdict) {
        let record =
            VerdictRecord::new(commit.clone(), key.parse().unwrap(), verdict, std::time::Duration::ZERO);
        writer.record(record).await.unwrap();
    }

    async fn results(out: &Path, commit: &CommitId) {
        let writer = Writer::open(out).unwrap();
        writer.set_branch(&"kmo/next".parse().unwrap(), vec![(commit.clone(), "one".into())]).await.unwrap();
        let known = || Verdict::NotRun { reason: "known failure: no space; it failed: 1".into() };
        record(&writer, commit, "fs.a.fixed", Verdict::Passed).await;
        record(&writer, commit, "fs.a.old", known()).await;
        record(&writer, commit, "fs.a@ktest_xfstests_variant=1k.fixed", known()).await;
        record(&writer, commit, "fs.a@ktest_xfstests_variant=1k.old", Verdict::Passed).await;
        writer.close().await.unwrap();
    }

    #[tokio::test]
    async fn entries_that_are_over_or_pass_are_listed() {
        let temp = tempfile::tempdir().unwrap();
        let linux = ScratchRepo::new();
        let makefile =
            |level: &str| format!("VERSION = 6\nPATCHLEVEL = {level}\nSUBLEVEL = 0\nEXTRAVERSION =\n");
        let old = linux.commit("old", &[("Makefile", &makefile("11"))]);
        let new = linux.commit("new", &[("Makefile", &makefile("12"))]);
        let text = CONFIG.replace("LINUX", linux.url()).replace("REMOTE", linux.url());
        std::fs::write(temp.path().join("ci.toml"), text).unwrap();
        let config = config::load(&temp.path().join("ci.toml")).unwrap();
        let dir = temp.path().join("kt/tests/fs");
        std::fs::create_dir_all(&dir).unwrap();
        assert_eq!(problems(&config, NOW).await, Vec::<String>::new(), "no entries");
        std::fs::write(dir.join("known-issues.toml"), ISSUES).unwrap();
        results(&temp.path().join("out"), &new).await;
        let shown = |problems: Vec<String>| {
            let hide = |text: String| text.replace(&format!("{}/known-issues.toml", dir.display()), "F");
            problems.into_iter().map(hide).collect::<Vec<_>>()
        };
        let day = "F:10: fs.a.old: until = \"2026-01-01\" is over";
        let passes = format!("F:2: fs.a.fixed: passes on kmo/next at {}", new.short());
        linux.git(&["update-ref", "refs/ktest/kmo/next", old.as_str()]);
        let gone = "F:22: fs.gone.*: no such failure at the newest 50 commits of a branch";
        assert_eq!(shown(problems(&config, NOW).await), [day, gone, &passes]);
        linux.git(&["update-ref", "refs/ktest/kmo/next", new.as_str()]);
        let kernel = "F:14: fs.a.old: until = \"6.12\" is over";
        assert_eq!(shown(problems(&config, NOW).await), [day, kernel, gone, &passes]);
        std::fs::write(dir.join("known-issues.toml"), "[[issue]]\n").unwrap();
        assert_eq!(shown(problems(&config, NOW).await), ["F:1: missing field `test`"]);
    }
}
