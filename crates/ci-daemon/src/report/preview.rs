//! Dry runs of the daemon: `ci-daemon check`, `ci-daemon plan` and `ci-daemon simulate`.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use config::{Config, ConfigError, Sender, SenderKind};
use model::{BranchRef, CommitId, ResultKey, UserName};
use results::Reader;
use serde::Serialize;

use super::simulate::{self, Forecast, SlotCount};
use crate::executor::placement;
use crate::past_runs;
use crate::plan::{self, Input, Niceness, PlannedJob, Planner, Verdicts, from_view};
use crate::watch::fetch_loop::{FetchLoop, View, listing_store};

/// The summary of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Its files.
    pub files: Vec<String>,
    /// The directory of the results.
    pub output_dir: String,
    /// The branches.
    pub branches: Vec<BranchReport>,
    /// The senders of findings, one line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub senders: Vec<String>,
    /// The number of slots on all hosts.
    pub slots: usize,
    /// The problems.
    pub problems: Vec<String>,
}

/// The summary of a branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BranchReport {
    /// Its owner and its name.
    #[serde(flatten)]
    pub name: BranchRef,
    /// The remote and the ref.
    pub from: String,
    /// The number of test files.
    pub tests: usize,
    /// The maximum number of commits over its groups.
    pub max_commits: u32,
    /// The commit at which the branch ends, if configured.
    pub base: Option<String>,
}

impl Report {
    /// Summarizes a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let branch = |branch: &config::Branch| BranchReport {
            name: branch.name.clone(),
            from: format!("{} {}", branch.remote, branch.git_ref),
            tests: config.tests_of(branch).len(),
            max_commits: config.groups_of(branch).map(|group| group.max_commits).max().unwrap_or(0),
            base: branch.base.as_ref().map(ToString::to_string),
        };
        let mut problems = placement::unserved(config);
        for (path, key) in [(&config.top.linux_repo, "linux_repo"), (&config.top.ktest_dir, "ktest_dir")] {
            if !path.is_dir() {
                problems.push(format!("{key}: {}: no such directory", path.display()));
            }
        }
        let mut missing: Vec<String> = Vec::new();
        for test in config.all_branches().flat_map(|branch| config.tests_of(branch)) {
            let file = config.top.ktest_dir.join("tests").join(test.file());
            if !file.is_file() {
                missing.push(format!("{}: no such test file", file.display()));
            }
        }
        missing.sort();
        missing.dedup();
        problems.extend(missing);
        problems.extend(config.senders.iter().filter_map(|sender| unused_pattern(config, sender)));
        Self {
            senders: config.senders.iter().map(sender_line).collect(),
            files: config.files.iter().map(|file| file.display().to_string()).collect(),
            output_dir: config.top.output_dir.display().to_string(),
            branches: config.all_branches().map(branch).collect(),
            slots: placement::slots(config).len(),
            problems,
        }
    }
}

/// `mail kernel-list to list@example.org, first to kim@example.org`
fn sender_line(sender: &Sender) -> String {
    let name = &sender.name;
    match &sender.kind {
        SenderKind::Mail(mail) => {
            let first = mail.operator.as_ref();
            let first = first.map_or(String::new(), |to| format!(", first to {}", to.join(", ")));
            format!("mail {name} to {}{first}", mail.to.join(", "))
        }
        // The query can have a secret.
        SenderKind::Webhook { url, .. } => {
            format!("webhook {name} to {}", url.split('?').next().unwrap_or_default())
        }
        SenderKind::Forge(forge) => format!("commit statuses {name} to {} of {}", forge.project, forge.url),
        SenderKind::Kcidb { url, origin, .. } => format!("kcidb {name} to {url} as {origin}"),
        SenderKind::Command(argv) => format!("command {name}: {}", argv.join(" ")),
    }
}

/// The problem of a sender with a pattern that matches no branch.
fn unused_pattern(config: &Config, sender: &Sender) -> Option<String> {
    let has_branch = |pattern: &&glob::Pattern| {
        config.all_branches().any(|branch| pattern.matches(&branch.name.to_string()))
    };
    let unused = sender.branches.iter().find(|pattern| !has_branch(pattern))?;
    Some(format!("[notify.{}]: branches: {:?} matches no branch USER/BRANCH", sender.name, unused.as_str()))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: the configuration is valid", self.files.join(", "))?;
        writeln!(f, "results in {}; at most {} batches at a time", self.output_dir, self.slots)?;
        for branch in &self.branches {
            let base = branch.base.as_ref().map_or(String::new(), |base| format!(" down to {base}"));
            writeln!(
                f,
                "branch {}: {} test files on the newest {} commits{base} of {}",
                branch.name, branch.tests, branch.max_commits, branch.from
            )?;
        }
        for sender in &self.senders {
            writeln!(f, "{}", stdio::terminal::line(sender))?;
        }
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        Ok(())
    }
}

/// The maximum wait for slow remotes.
const FETCH_WAIT: Duration = Duration::from_secs(60);

/// The input of a dry run.
struct DryRun {
    view: View,
    input: Input,
    reader: Option<Reader>,
}

/// Fetches and lists as the daemon does. Does not write results.
async fn dry_run(config: &Path) -> Result<DryRun, ConfigError> {
    let mut fetch_loop = FetchLoop::new(config, &listing_store())?;
    let view = fetch_loop.cycle_once(FETCH_WAIT).await;
    let reader = Reader::open(&view.config.top.output_dir).ok();
    let durations = reader.as_ref().and_then(|reader| reader.durations().ok()).unwrap_or_default();
    let expected =
        reader.as_ref().map(|reader| past_runs::durations(reader, &view.config)).unwrap_or_default();
    let input = from_view::input(&view, plan::histories(durations, &expected));
    Ok(DryRun { view, input, reader })
}

/// The published verdicts.
struct Published<'a>(Option<&'a Reader>);

impl Verdicts for Published<'_> {
    fn of(
        &mut self,
        commit: &CommitId,
        keys: &[ResultKey],
        each: &mut dyn FnMut(u32),
    ) -> results::Result<()> {
        let Some(reader) = self.0 else { return Ok(()) };
        let Some(results) = reader.commit(commit)? else { return Ok(()) };
        let done = |key| results.get(key).is_some_and(|entry| entry.decisive.status.is_final());
        (0u32..).zip(keys).filter(|(_, key)| done(key)).for_each(|(at, _)| each(at));
        Ok(())
    }
}

/// The next `n` jobs of a daemon that starts now, with the parts of their niceness.
pub async fn plan(config: &Path, n: usize) -> Result<(View, Vec<(PlannedJob, Niceness)>), ConfigError> {
    let DryRun { view, input, reader } = dry_run(config).await?;
    let mut planner = Planner::new();
    planner.update(&input);
    let jobs = planner.peek(n, &mut Published(reader.as_ref()));
    let niceness = |job: &PlannedJob| {
        let group = view.config.test_group(&job.branch.user, &job.group);
        group.map(|group| Niceness::of(input.history.get(&job.key), group)).unwrap_or_default()
    };
    let with_niceness = |job: PlannedJob| {
        let parts = niceness(&job);
        (job, parts)
    };
    let jobs = jobs.into_iter().map(with_niceness).collect();
    Ok((view, jobs))
}

/// The options of a simulation.
#[derive(Debug, Clone, Copy)]
pub struct SimulationOptions {
    /// Simulate this number of slots too.
    pub slots: Option<SlotCount>,
    /// Time of a batch in addition to its subtests.
    pub boot: Duration,
    /// Time to build the kernel of a commit.
    pub build: Duration,
    /// Continue until every commit is tested.
    pub all: bool,
}

/// Forecasts for the current slots, and for those of the options.
pub async fn simulate(config: &Path, options: &SimulationOptions) -> anyhow::Result<(View, Vec<Forecast>)> {
    let DryRun { view, input, reader } = dry_run(config).await?;
    let config = &view.config;
    let now = if config.hosts.is_empty() { 1 } else { config.slots() as usize };
    let more = options.slots.map(|slots| slots.of(now)).filter(|slots| *slots != now);
    let mut forecasts = Vec::new();
    for slots in std::iter::once(now).chain(more) {
        let farm = simulate::SimulatedFarm {
            slots,
            window: config.top.window,
            budget: config.top.subtest_duration_max,
            batch_min: config.top.batch_duration_min,
            boot: options.boot,
            build: options.build,
            all: options.all,
        };
        let mut published = Published(reader.as_ref());
        let share = |user: &UserName| simulate::Share {
            weight: config.weight(user),
            slots_max: config.max_workers(user),
        };
        let forecast = simulate::simulate(&input, &mut published, &share, farm)?;
        forecasts.push(forecast);
    }
    Ok((view, forecasts))
}

/// Formats the jobs as a table. The first columns explain the order.
#[must_use]
pub fn table(jobs: &[(PlannedJob, Niceness)]) -> String {
    if jobs.is_empty() {
        return "nothing is left to do\n".into();
    }
    let rows: Vec<[String; 8]> = jobs
        .iter()
        .map(|(job, niceness)| {
            [
                job.value.to_string(),
                job.age.to_string(),
                job.nice().to_string(),
                job.branch.to_string(),
                job.commit.short().into(),
                job.key.to_string(),
                format!("{:.0} s", job.cost.as_secs_f64()),
                niceness.to_string(),
            ]
        })
        .collect();
    let head = ["value", "= age", "+ nice", "branch", "commit", "test", "cost", "niceness"].map(String::from);
    let mut widths = [0; 8];
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
    text.push_str(
        "The lowest value runs first; at equal values, the newer commit. Fair share orders the jobs of different users.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use testkit::ScratchRepo;

    use super::*;

    /// Writes a configuration and two test files to `dir`. Returns the path of the configuration.
    fn write_farm(dir: &Path, linux: &ScratchRepo, remote: &ScratchRepo) -> PathBuf {
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
        path
    }

    #[tokio::test]
    async fn check_plan_and_simulate() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        let (linux, remote) = (ScratchRepo::new(), ScratchRepo::new());
        linux.commit("other", &[]);
        for subject in ["one", "two"] {
            remote.commit(subject, &[]);
        }
        let path = write_farm(dir, &linux, &remote);
        let hide =
            |text: String| text.replace(&dir.display().to_string(), "DIR").replace(remote.url(), "REMOTE");
        let report = Report::new(&config::load(&path).unwrap());
        insta::assert_snapshot!(hide(report.to_string()), @r#"
        DIR/ci.toml: the configuration is valid
        results in DIR/out; at most 4 batches at a time
        branch kmo/next: 3 test files on the newest 50 commits of REMOTE master
        problem: DIR/kt/tests/gone.ktest: no such test file
        "#);
        let (view, jobs) = plan(&path, 10).await.unwrap();
        assert_eq!(view.problems.len(), 1, "{:?}", view.problems);
        insta::assert_snapshot!(table(&jobs), @"
        value  = age  + nice  branch    commit        test                            cost  niceness
            0      0       0  kmo/next  c1168c9d3867  fs.a.x                          30 s
            0      0       0  kmo/next  c1168c9d3867  fs.a.generic.001                30 s
            0      0       0  kmo/next  c1168c9d3867  fs.a@debian_trixie.x            30 s
            0      0       0  kmo/next  c1168c9d3867  fs.a@debian_trixie.generic.001  30 s
            1      0       1  kmo/next  c1168c9d3867  slow.z                          30 s  group +1
            1      1       0  kmo/next  2bdda0765399  fs.a.x                          30 s
            1      1       0  kmo/next  2bdda0765399  fs.a.generic.001                30 s
            1      1       0  kmo/next  2bdda0765399  fs.a@debian_trixie.x            30 s
            1      1       0  kmo/next  2bdda0765399  fs.a@debian_trixie.generic.001  30 s
        The lowest value runs first; at equal values, the newer commit. Fair share orders the jobs of different users.
        ");
        assert_eq!(table(&[]), "nothing is left to do\n");
        let options = SimulationOptions {
            slots: Some(SlotCount::Additional(1)),
            boot: Duration::from_secs(10),
            build: Duration::from_secs(60),
            all: false,
        };
        let (_, forecasts) = simulate(&path, &options).await.unwrap();
        // Kernels from the store are not built.
        assert_eq!(forecasts.iter().map(|forecast| forecast.slots).collect::<Vec<_>>(), [4, 5]);
        assert!(forecasts.iter().all(|forecast| forecast.branches[0].left == 5));
    }
}
