//! A farm in a temporary directory: a real git repository, test files, a fake `ktest`, and the real daemon.

#![expect(clippy::unwrap_used, reason = "an error of the setup fails the test")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use model::{CommitId, StatusSnapshot};
use results::Reader;
use results::bisections::BisectionRecord;
use results::claims::ClaimRecord;
use rustix::process::{Pid, Signal, kill_process};
use spawn::{Child, Cmd, Exit, Stream};
use tempfile::TempDir;
use testkit::ScratchRepo;

const FAKE_KTEST: &str = include_str!("fake-ktest.bash");
/// The name of the test that runs the daemon.
pub const DAEMON: &str = "the_daemon_itself";
const ARGS: &str = "CI_DAEMON_TEST_ARGS";

/// Runs the daemon, if this process was started for that.
pub fn act_as_the_daemon() {
    if let Ok(args) = std::env::var(ARGS) {
        let args = std::iter::once("ci-daemon").chain(args.split('\n')).map(Into::into);
        std::process::exit(ci_daemon::cli::main_from(args).into());
    }
}

pub struct Farm {
    dir: TempDir,
    pub repo: ScratchRepo,
    pub linux: ScratchRepo,
}

impl Farm {
    /// A farm with the configuration [`Farm::config`], and a repository without commits.
    pub fn new() -> Self {
        let linux = ScratchRepo::new();
        linux.commit("unrelated", &[("mode", "")]);
        let farm = Self { dir: tempfile::tempdir().unwrap(), repo: ScratchRepo::new(), linux };
        farm.write("fake/ktest", FAKE_KTEST, 0o755);
        farm.test_file("t/one", "a b c");
        farm.test_file("t/two", "x generic/001");
        farm.configure(&farm.config(""));
        farm
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn test_file(&self, name: &str, subtests: &str) {
        let script = format!("#!/bin/bash\n[[ $1 = list-tests ]] && echo {subtests}\n");
        self.write(&format!("kt/tests/{name}.ktest"), &script, 0o755);
    }

    pub fn config(&self, more: &str) -> String {
        let confirm = if more.contains("confirm_failures") { "" } else { "confirm_failures = 0\n" };
        format!(
            "{confirm}linux_repo = {linux:?}\noutput_dir = \"data\"\nktest_dir = \"kt\"\nuser = \"u\"\npoll = 3600\n{more}\n\
             [test_group.g]\ntests = [\"t/one.ktest\", \"t/two.ktest\"]\n\
             [branch.next]\nremote = {remote:?}\nref = \"master\"\ntest_groups = [\"g\"]\n",
            linux = self.linux.url(),
            remote = self.repo.url(),
        )
    }

    pub fn configure(&self, text: &str) {
        self.write("ci.toml", text, 0o644);
    }

    /// Makes every subtest fail, or lets them pass again.
    pub fn break_all(&self, broken: bool) {
        if broken {
            self.write("fake/broken", "", 0o644);
        } else {
            std::fs::remove_file(self.path("fake/broken")).unwrap();
        }
    }

    /// Sets the duration of each subtest.
    pub fn delay(&self, seconds: &str) {
        self.write("fake/delay", seconds, 0o644);
    }

    /// Sets what runs depend on.
    pub fn experiment(&self, key: &str) {
        self.write("fake/experiment", key, 0o644);
    }

    /// Prevents subtests from ending, or lets them end.
    pub fn hold(&self, held: bool) {
        if held {
            self.write("fake/hold", "", 0o644);
        } else {
            std::fs::remove_file(self.path("fake/hold")).unwrap();
        }
    }

    pub fn commit(&self, message: &str, mode: &str) -> CommitId {
        self.repo.commit(message, &[("mode", mode), ("message", message)])
    }

    /// Writes a request as `ci-status rerun` does.
    pub fn ask_rerun(&self, commit: &CommitId, key: &str) {
        let text = format!(r#"{{"version":1,"rerun":{{"commit":"{commit}","key":"{key}"}}}}"#);
        self.write("data/requests/.new", &text, 0o644);
        let directory = self.path("data/requests");
        std::fs::rename(directory.join(".new"), directory.join(format!("{key}.json"))).unwrap();
    }

    /// Writes a request as `ci-status bisect` does. The branch is `u/next`.
    pub fn ask_bisect(&self, key: &str, range: Option<(&CommitId, &CommitId)>) {
        let range = range
            .map_or(String::new(), |(base, head)| format!(r#","range":{{"base":"{base}","head":"{head}"}}"#));
        let text = format!(
            r#"{{"version":1,"bisect":{{"branch":{{"user":"u","branch":"next"}},"key":"{key}"{range}}}}}"#
        );
        self.write("data/requests/.bisect", &text, 0o644);
        let directory = self.path("data/requests");
        std::fs::rename(directory.join(".bisect"), directory.join("bisect.json")).unwrap();
    }

    /// Writes a request as `ci-status believe` does. The branch is `u/next`.
    pub fn ask_believe(&self, key: &str, confidence: u8) {
        let branch = r#"{"user":"u","branch":"next"}"#;
        let text = format!(
            r#"{{"version":1,"believe":{{"branch":{branch},"key":"{key}","confidence":{confidence}}}}}"#
        );
        self.write("data/requests/.believe", &text, 0o644);
        let directory = self.path("data/requests");
        std::fs::rename(directory.join(".believe"), directory.join("believe.json")).unwrap();
    }

    /// The records of the claims.
    pub fn claims(&self) -> Vec<ClaimRecord> {
        let found = results::claims::list(&self.path("data"));
        assert!(found.problems.is_empty(), "{:?}", found.problems);
        found.records
    }

    /// The records of the bisections.
    pub fn bisections(&self) -> Vec<BisectionRecord> {
        let found = results::bisections::list(&self.path("data"));
        assert_eq!(found.problems, [""; 0]);
        found.records
    }

    /// The requests that are not finished.
    pub fn requests(&self) -> usize {
        let files =
            ["data/requests", "data/requests/taken"].map(|directory| std::fs::read_dir(self.path(directory)));
        let files = files.into_iter().flatten().flatten().filter_map(Result::ok);
        files.filter(|entry| entry.path().is_file()).count()
    }

    /// The statuses of the attempts, by number.
    pub fn attempts(&self, commit: &CommitId, key: &str) -> Vec<String> {
        let Ok(Some(results)) = self.reader().commit(commit) else { return Vec::new() };
        let Some(entry) = results.get(&key.parse().unwrap()) else { return Vec::new() };
        let others = entry.others.iter().map(|other| format!("{} {}", other.number, other.status));
        std::iter::once(format!("{} {}", entry.decisive.number, entry.decisive.status))
            .chain(others)
            .collect()
    }

    /// Starts the daemon.
    pub fn start(&self, args: &[&str]) -> Daemon {
        self.start_with(&self.path("fake/ktest"), args)
    }

    /// Starts the daemon with this `ktest`.
    pub fn start_with(&self, ktest: &Path, args: &[&str]) -> Daemon {
        let mut all = vec!["--config".to_owned(), self.path("ci.toml").display().to_string()];
        all.extend(["--ktest".to_owned(), ktest.display().to_string()]);
        all.extend(args.iter().map(ToString::to_string));
        // CI_DAEMON_TEST_LOUD=1 shows the log of the daemon.
        let loud = std::env::var_os("CI_DAEMON_TEST_LOUD").is_some();
        let output = if loud { Stream::Inherit } else { Stream::Null };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut cmd = Cmd::new(std::env::current_exe().unwrap())
            .args(["--exact", DAEMON, "--ignored", "--nocapture", "--test-threads=1"])
            .env(ARGS, all.join("\n"))
            .streams(Stream::Null, output, output);
        // A test can listen here for the notifications to the service manager.
        let notify = self.path("notify");
        if notify.exists() {
            cmd = cmd.env("NOTIFY_SOCKET", notify);
        }
        let child = runtime.block_on(async { cmd.start().unwrap() });
        Daemon { runtime, child }
    }

    /// Runs the daemon until nothing is left to do.
    pub fn once(&self) {
        assert_eq!(self.start(&["--once"]).wait(), Exit::Code(0));
    }

    /// The same, if branches of the configuration cannot be read.
    pub fn once_with_unreadable_branches(&self) {
        assert_eq!(self.start(&["--once"]).wait(), Exit::Code(3));
    }

    /// Lets `linux.git` use the objects of another repository.
    pub fn borrow_objects(&self, of: &str) {
        let dir = self.path("linux.git");
        self.repo.git(["init", "-q", "--bare", &dir.display().to_string()]);
        self.write("linux.git/objects/info/alternates", &format!("{of}/objects\n"), 0o644);
    }

    /// The newest commits of a branch of a repository.
    pub fn commits_of(&self, repo: &str, branch: &str, n: usize) -> Vec<CommitId> {
        let (dir, n) = (format!("--git-dir={repo}"), format!("-{n}"));
        let list = self.repo.git([&dir, "rev-list", &n, branch]);
        list.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// The repository that the daemon fetches into.
    pub fn linux(&self) -> &Path {
        self.linux.path()
    }

    pub fn reader(&self) -> Reader {
        Reader::open(self.path("data")).unwrap()
    }

    /// The statuses of a commit, by key: `t.one.a` to `Passed`.
    pub fn statuses(&self, commit: &CommitId) -> BTreeMap<String, String> {
        let Ok(Some(results)) = Reader::open(self.path("data")).and_then(|reader| reader.commit(commit))
        else {
            return BTreeMap::new();
        };
        results
            .entries
            .iter()
            .map(|entry| (entry.key.to_string(), entry.decisive.status.to_string()))
            .collect()
    }

    /// The statuses as one line: `5 Passed, 1 Failed`.
    pub fn tally(&self, commit: &CommitId) -> String {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for status in self.statuses(commit).into_values() {
            *counts.entry(status).or_default() += 1;
        }
        counts.iter().map(|(status, n)| format!("{n} {status}")).collect::<Vec<_>>().join(", ")
    }

    /// The subtests that were started, in order: commit, test file, subtest.
    pub fn ran(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("fake/ran")).unwrap_or_default();
        text.lines().map(Into::into).collect()
    }

    /// The number of starts of each subtest, by commit and key.
    pub fn starts(&self) -> BTreeMap<String, u32> {
        let mut starts = BTreeMap::new();
        for line in self.ran() {
            let words: Vec<&str> = line.split(' ').collect();
            let key = format!("{}.{}", words[1], words[2]).replace('/', ".");
            *starts.entry(format!("{} {key}", words[0])).or_default() += 1;
        }
        starts
    }

    pub fn snapshot(&self) -> StatusSnapshot {
        let reader = Reader::open(self.path("data")).ok();
        reader.and_then(|reader| reader.snapshot().unwrap()).unwrap_or_default()
    }
}

pub struct Daemon {
    runtime: tokio::runtime::Runtime,
    child: Child,
}

impl Daemon {
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Waits until the process exits.
    pub fn wait(self) -> Exit {
        self.wait_for(Duration::from_secs(90))
    }

    /// Waits until the process exits, but at most for this time.
    pub fn wait_for(mut self, time: Duration) -> Exit {
        let wait = async { tokio::time::timeout(time, self.child.wait()).await };
        self.runtime.block_on(wait).expect("the daemon ends in time").unwrap()
    }
}

/// Waits until the condition is true.
pub fn until(name: &str, condition: impl FnMut() -> bool) {
    until_within(Duration::from_secs(60), name, condition);
}

/// Waits until the condition is true, but at most for this time.
pub fn until_within(time: Duration, name: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < time, "timed out: {name}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process with that command line is running.
pub fn runs(path: &Path) -> bool {
    let path = path.display().to_string();
    std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(&path) && !line.contains(DAEMON)
    })
}
