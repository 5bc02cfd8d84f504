//! What the daemon would do, without doing it: `ci-daemon check` and `ci-daemon plan`.

use std::fmt;
use std::path::Path;

use config::{Config, ConfigError};
use results::Reader;
use serde::Serialize;

use crate::plan::{History, Job, Planner};
use crate::scout::{Scout, View, listing_store};
use crate::wants;

/// What a configuration asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The files it is read from.
    pub files: Vec<String>,
    /// Where results go.
    pub output_dir: String,
    /// The branches.
    pub branches: Vec<BranchReport>,
    /// How many batches run on this machine at a time.
    pub slots: usize,
    /// What will not be done, and why.
    pub problems: Vec<String>,
}

/// What is asked for about a branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BranchReport {
    /// Whose.
    pub user: String,
    /// Its name.
    pub branch: String,
    /// Where it is fetched from.
    pub from: String,
    /// The test files.
    pub tests: usize,
    /// The most commits that a group wants.
    pub max_commits: u32,
    /// Nothing older than this is tested.
    pub base: Option<String>,
}

impl Report {
    /// The report on a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let branch = |branch: &config::Branch| BranchReport {
            user: branch.user.clone(),
            branch: branch.name.clone(),
            from: format!("{} {}", branch.remote, branch.git_ref),
            tests: config.tests_of(branch).len(),
            max_commits: config.groups_of(branch).map(|group| group.max_commits).max().unwrap_or(0),
            base: branch.base.as_ref().map(ToString::to_string),
        };
        let mut problems = wants::left_out(config);
        for (path, key) in [(&config.linux_repo, "linux_repo"), (&config.ktest_dir, "ktest_dir")] {
            if !path.is_dir() {
                problems.push(format!("{key}: {}: no such folder", path.display()));
            }
        }
        let mut missing: Vec<String> = Vec::new();
        for test in config.all_branches().flat_map(|branch| config.tests_of(branch)) {
            let file = config.ktest_dir.join("tests").join(test.file());
            if !file.is_file() {
                missing.push(format!("{}: no such test file", file.display()));
            }
        }
        missing.sort();
        missing.dedup();
        problems.extend(missing);
        Self {
            files: config.files.iter().map(|file| file.display().to_string()).collect(),
            output_dir: config.output_dir.display().to_string(),
            branches: config.all_branches().map(branch).collect(),
            slots: wants::slots(config).len(),
            problems,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: the configuration is valid", self.files.join(", "))?;
        writeln!(f, "results go to {}, {} batches at a time", self.output_dir, self.slots)?;
        for branch in &self.branches {
            let base = branch.base.as_ref().map_or(String::new(), |base| format!(" down to {base}"));
            writeln!(
                f,
                "branch {}/{}: {} test files on the newest {} commits{base} of {}",
                branch.user, branch.branch, branch.tests, branch.max_commits, branch.from
            )?;
        }
        for problem in &self.problems {
            writeln!(f, "but: {problem}")?;
        }
        Ok(())
    }
}

/// The next `n` jobs, as a daemon that starts now would run them. Fetches and lists like the daemon, writes no results.
pub async fn plan(config: &Path, n: usize) -> Result<(View, Vec<Job>), ConfigError> {
    let mut scout = Scout::new(config, &listing_store())?;
    let view = scout.cycle_once(crate::cli::PATIENCE).await;
    let reader = Reader::open(&view.config.output_dir).ok();
    let durations = reader.as_ref().and_then(|reader| reader.durations().ok()).unwrap_or_default();
    let history = durations
        .into_iter()
        .map(|of| (of.test, History { mean: of.mean, passed: of.passed, failed: of.failed }));
    let mut planner = Planner::new();
    planner.update(&wants::input(&view, history.collect()));
    let mut verdicts = |commit: &model::CommitId, keys: &[model::ResultKey], each: &mut dyn FnMut(u32)| {
        let Some(reader) = &reader else { return Ok(()) };
        let Some(results) = reader.commit(commit).map_err(|error| error.to_string())? else { return Ok(()) };
        let done = |key| results.get(key).is_some_and(|entry| entry.status.is_final());
        (0u32..).zip(keys).filter(|(_, key)| done(key)).for_each(|(at, _)| each(at));
        Ok(())
    };
    let jobs = planner.peek(n, &mut verdicts);
    Ok((view, jobs))
}

/// The jobs as a table; the first three columns say why they are in this order.
#[must_use]
pub fn table(jobs: &[Job]) -> String {
    if jobs.is_empty() {
        return "nothing is left to do\n".into();
    }
    let rows: Vec<[String; 7]> = jobs
        .iter()
        .map(|job| {
            [
                job.value.to_string(),
                job.age.to_string(),
                job.nice().to_string(),
                format!("{}/{}", job.user, job.branch),
                job.commit.short().into(),
                job.key.to_string(),
                format!("{:.0} s", job.cost.as_secs_f64()),
            ]
        })
        .collect();
    let head = ["value", "= age", "+ nice", "branch", "commit", "test", "takes"].map(String::from);
    let mut widths = [0; 7];
    for row in std::iter::once(&head).chain(&rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&head).chain(&rows) {
        let cells = row.iter().zip(widths).enumerate().map(|(at, (cell, width))| match at {
            0..3 | 6 => format!("{cell:>width$}"),
            _ => format!("{cell:<width$}"),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use testkit::ScratchRepo;

    use super::*;

    #[tokio::test]
    async fn what_a_farm_would_do() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        let (linux, remote) = (ScratchRepo::new(), ScratchRepo::new());
        linux.commit("other", &[]);
        for subject in ["one", "two"] {
            remote.commit(subject, &[]);
        }
        let text = format!(
            r#"
linux_repo = {linux:?}
output_dir = "out"
ktest_dir = "kt"
user = "kmo"
[test_group.fs]
tests = ["fs/a.ktest"]
[test_group.slow]
tests = ["slow.ktest", "gone.ktest"]
nice = 1
max_commits = 1
[test_group.store]
tests = ["fs/a.ktest"]
kernels = ["debian/trixie"]
[branch.next]
remote = {remote:?}
ref = "master"
test_groups = ["slow", "fs", "store"]
[host.local]
slots = 3
[host.farm1]
kind = "ssh"
arch = "aarch64"
"#,
            linux = linux.url(),
            remote = remote.url()
        );
        let path = dir.join("ci.toml");
        std::fs::write(&path, text).unwrap();
        for (name, subtests) in [("fs/a", "x generic/001"), ("slow", "z")] {
            let file = dir.join(format!("kt/tests/{name}.ktest"));
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, format!("#!/bin/bash\necho {subtests}\n")).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let hide =
            |text: String| text.replace(&dir.display().to_string(), "DIR").replace(remote.url(), "REMOTE");
        let report = Report::new(&config::load(&path).unwrap());
        insta::assert_snapshot!(hide(report.to_string()), @r#"
        DIR/ci.toml: the configuration is valid
        results go to DIR/out, 3 batches at a time
        branch kmo/next: 3 test files on the newest 50 commits of REMOTE master
        but: host farm1: kind = "ssh" is not driven yet, it gets no work
        but: test group store: kernels = [...] of the store are not run yet, it gets no jobs
        but: DIR/kt/tests/gone.ktest: no such test file
        "#);
        let (view, jobs) = plan(&path, 10).await.unwrap();
        assert_eq!(view.problems.len(), 1, "{:?}", view.problems);
        insta::assert_snapshot!(table(&jobs), @"
        value  = age  + nice  branch    commit        test              takes
            0      0       0  kmo/next  c1168c9d3867  fs.a.x             30 s
            0      0       0  kmo/next  c1168c9d3867  fs.a.generic.001   30 s
            1      0       1  kmo/next  c1168c9d3867  slow.z             30 s
            1      1       0  kmo/next  2bdda0765399  fs.a.x             30 s
            1      1       0  kmo/next  2bdda0765399  fs.a.generic.001   30 s
        ");
        assert_eq!(table(&[]), "nothing is left to do\n");
    }
}
