//! The pages in a real browser: node runs `e2e/browser` with realistic results. This process acts as the daemon: on
//! request, it writes the verdict of the running test.

#![expect(clippy::print_stderr, reason = "a test reports what it skips and measures")]
#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::{CommitId, Verdict};
use results::pushes::{Mark, Push, PushedCommit, Pushes};
use spawn::{Cmd, Limits};
use testkit::results_fixture::{ResultsFixture, TestResult, commit_id};

/// The time limit for all browser tests on a slow machine, in seconds.
const TIMEOUT_SECONDS: u64 = 240;

fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    names
        .iter()
        .find_map(|name| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file()))
}

/// The programs and directories for a browser test.
struct Browser {
    tests: PathBuf,
    node: PathBuf,
    chromium: PathBuf,
    program: PathBuf,
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Browser {
    /// Returns `None` and prints a message if a program is not installed.
    fn find() -> Option<Self> {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../e2e/browser").canonicalize().unwrap();
        let skipped = |reason: &str| {
            common::skipped(reason);
            None
        };
        let Some(node) = on_path(&["node"]) else {
            return skipped("no page is tested in a browser: node is not installed");
        };
        let Some(chromium) = on_path(&["chromium", "chromium-browser", "google-chrome"]) else {
            return skipped(
                "no page is tested in a browser: Chromium is not installed; run: apt-get install chromium",
            );
        };
        if !tests.join("node_modules/playwright-core").is_dir() {
            return skipped(
                "no page is tested in a browser: e2e/browser/node_modules is missing; run: scripts/setup test",
            );
        }
        let program = common::example("ci-dashboard")?;
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        Some(Self { tests, node, chromium, program, dir, runtime })
    }

    fn results(&self) -> PathBuf {
        self.dir.path().join("results")
    }

    fn run(&self, cmd: &Cmd, seconds: u64) -> spawn::Output {
        self.runtime.block_on(cmd.output(Limits::seconds(seconds))).unwrap()
    }

    /// Runs a file of browser tests while `daemon` runs, which signals when it is ready and continues until the end.
    fn drive(&self, file: &str, running: &CommitId, daemon: impl FnOnce(Stage) + Send + 'static) {
        let over = Arc::new(AtomicBool::new(false));
        let stage = Stage { dir: self.dir.path().into(), over: Arc::clone(&over) };
        let daemon = std::thread::spawn(move || daemon(stage));
        while !daemon.is_finished() && !self.dir.path().join("ready").exists() {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(!daemon.is_finished(), "the results are written");
        std::fs::write(self.dir.path().join("ci.toml"), CONFIG).unwrap();
        let began = Instant::now();
        let cmd = Cmd::new(&self.node)
            .args(["--test", "--test-reporter=spec"])
            .arg(self.tests.join(file))
            .dir(&self.tests)
            .env("KTEST_DASHBOARD", &self.program)
            .env("KTEST_CHROMIUM", &self.chromium)
            .env("KTEST_RESULTS", self.results())
            .env("KTEST_SCRATCH", self.dir.path())
            .env("KTEST_CONFIG", self.dir.path().join("ci.toml"))
            .env("KTEST_RUNNING", running.as_str())
            .env("KTEST_SHOTS", self.tests.join("../../target/browser"));
        let output = self.run(&cmd, TIMEOUT_SECONDS);
        over.store(true, Ordering::Relaxed);
        daemon.join().unwrap();
        let text = output.text();
        assert!(output.exit.success(), "{text}\n{}", output.error_line());
        eprintln!("the browser tests took {:.1} s", began.elapsed().as_secs_f32());
    }
}

/// The files through which the browser test and the simulated daemon communicate.
struct Stage {
    dir: PathBuf,
    over: Arc<AtomicBool>,
}

impl Stage {
    /// Adds a running test, and writes its verdict on request.
    fn live(&self, fixture: &ResultsFixture, running: &CommitId) {
        fixture.running(running, LIVE, 1_790_000_000, "00000 ========= TEST   live\n00001 first line\n");
        fixture.publish();
        let mark = self.dir.join("finish");
        std::fs::write(self.dir.join("ready"), "").unwrap();
        while !self.over.load(Ordering::Relaxed) {
            if mark.exists() {
                std::fs::remove_file(&mark).unwrap();
                let log = "00000 ========= TEST   live\n00009 the end\n00009 ========= PASSED live in 9s\n";
                fixture.test(TestResult::new(running, LIVE, Verdict::Passed, 9_000).log(log));
                fixture.publish();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The configuration of the dashboard: which part of a key is the test file, and where commits are on the web.
const CONFIG: &str = r#"linux_repo = "linux.git"
output_dir = "results"
ktest_dir = "ktest"
user = "mira"
commit_url = "https://git.example.org/linux.git/commit/?id={commit}"
[test_group.ext4]
tests = ["fs/ext4/basic.ktest", "boot.ktest"]
[branch.ext4-testing]
remote = "https://git.example.org/linux.git"
test_groups = ["ext4"]
"#;

/// The test that runs while the pages are displayed.
const LIVE: &str = "fs.ext4.basic.live";

#[test]
fn in_a_browser() {
    let Some(browser) = Browser::find() else { return };
    let Some(fixture) = common::example("fixture") else { return };
    let filled = browser.run(&Cmd::new(fixture).arg(browser.results()), 60);
    assert!(filled.exit.success(), "{}", filled.error_line());
    browser.drive("dashboard.test.mjs", &commit_id(RUNNING), |stage| {
        let fixture = ResultsFixture::new(&stage.dir.join("results"));
        hostile(&fixture);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        testkit::pushed(&fixture, "mira", "rebased", i64::try_from(now).unwrap() - 300);
        stage.live(&fixture, &commit_id(RUNNING));
        fixture.finish();
    });
}

#[test]
#[ignore = "needs the results of a demo run: DEMO_DATA=$PWD/target/demo/ci-data"]
fn over_a_demo_run() {
    let Some(browser) = Browser::find() else { return };
    let data = std::env::var_os("DEMO_DATA").expect("DEMO_DATA is the directory of the demo's results");
    let copied = browser.run(&Cmd::new("cp").arg("-a").arg(data).arg(browser.results()), 60);
    assert!(copied.exit.success(), "{}", copied.error_line());
    let listed =
        results::Reader::open(browser.results()).unwrap().branch(&"demo/demo".parse().unwrap()).unwrap();
    let tip = listed.expect("the demo's branch").remove(0).commit;
    let running = tip.clone();
    browser.drive("demo.test.mjs", &tip, move |stage| {
        let fixture = ResultsFixture::new(&stage.dir.join("results"));
        stage.live(&fixture, &running);
        fixture.finish();
    });
}

/// The subject of the commit that the fixture leaves partly tested.
const RUNNING: &str = "ext4: keep the journal credits of a truncate in one place";

/// Adds hostile names to the results.
fn hostile(fixture: &ResultsFixture) {
    let script = "<script>window.hit=1</script>\"><img src=x onerror=window.hit=1>";
    let evil = commit_id("evil");
    let message = format!("{script} \u{202e}gnp.exe\n\n{script}\n");
    fixture.branch("evil", &format!("b/{script}"), &[(evil.clone(), message.clone())]);
    fixture.authors(&[(
        &evil,
        "\" onload=window.hit=1 \u{202e}&lt;script&gt; <\"><img src=x onerror=window.hit=1>",
        1,
    )]);
    let pair = PushedCommit { mark: Mark::New, old: None, new: Some(evil.clone()), subject: message };
    let mut pushes = Pushes::new(evil.clone());
    pushes.add(Push {
        at: 1,
        old: commit_id("old"),
        new: evil.clone(),
        pairs: vec![pair],
        unchanged: 0,
        is_cut: false,
        problem: Some(script.into()),
    });
    fixture.pushes("evil", &format!("b/{script}"), &pushes);
    let reason = format!("{script} \u{202e}reversed");
    fixture.test(
        TestResult::new(&evil, "t.<script>alert(1)<script>", Verdict::Failed { reason }, 10)
            .crash(script)
            .log(format!("{script}\nBUG: {script}\n========= FAILED x in 1s\n")),
    );
}
