//! The pages in a real browser: `e2e/browser` is driven by node over results that look like real life, while this
//! process plays the daemon: on request it gives the running test its verdict.

#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use model::{CommitId, Verdict};
use spawn::{Cmd, Limits};
use testkit::results_fixture::{ResultsFixture, TestResult, commit_id};

/// Longer than all of it takes on a slow machine.
const PATIENCE: u64 = 240;

fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    names
        .iter()
        .find_map(|name| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file()))
}

/// What a browser test needs; `None`, and a visible word, where something is not installed.
struct Browser {
    tests: PathBuf,
    node: PathBuf,
    chromium: PathBuf,
    program: PathBuf,
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Browser {
    fn find() -> Option<Self> {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../e2e/browser").canonicalize().unwrap();
        let skipped = |why: &str| {
            common::skipped(why);
            None
        };
        let Some(node) = on_path(&["node"]) else {
            return skipped("node is not installed, so no page was opened in a browser");
        };
        let Some(chromium) = on_path(&["chromium", "chromium-browser", "google-chrome"]) else {
            return skipped(
                "there is no Chromium, so no page was opened in a browser; apt-get install chromium",
            );
        };
        if !tests.join("node_modules/playwright-core").is_dir() {
            return skipped("e2e/browser/node_modules is not there; run: scripts/setup test");
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

    /// Drives the browser through a file of tests, while `daemon` is played: it says when it is ready, and goes on
    /// until all is over.
    fn drive(&self, file: &str, running: &CommitId, daemon: impl FnOnce(Stage) + Send + 'static) {
        let over = Arc::new(AtomicBool::new(false));
        let stage = Stage { dir: self.dir.path().into(), over: Arc::clone(&over) };
        let daemon = std::thread::spawn(move || daemon(stage));
        while !daemon.is_finished() && !self.dir.path().join("ready").exists() {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(!daemon.is_finished(), "the results are written");
        let began = Instant::now();
        let cmd = Cmd::new(&self.node)
            .args(["--test", "--test-reporter=spec"])
            .arg(self.tests.join(file))
            .dir(&self.tests)
            .env("KTEST_DASHBOARD", &self.program)
            .env("KTEST_CHROMIUM", &self.chromium)
            .env("KTEST_RESULTS", self.results())
            .env("KTEST_SCRATCH", self.dir.path())
            .env("KTEST_RUNNING", running.as_str())
            .env("KTEST_SHOTS", self.tests.join("../../target/browser"));
        let output = self.run(&cmd, PATIENCE);
        over.store(true, Ordering::Relaxed);
        daemon.join().unwrap();
        let said = output.text();
        assert!(output.exit.success(), "{said}\n{}", output.complaint());
        eprintln!("all was seen in a browser in {:.1} s", began.elapsed().as_secs_f32());
    }
}

/// Where the daemon is played.
struct Stage {
    dir: PathBuf,
    over: Arc<AtomicBool>,
}

impl Stage {
    /// A test runs; then, once somebody asks, it has its verdict.
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

/// The test that runs while one looks.
const LIVE: &str = "fs.ext4.basic.live";

#[test]
fn in_a_browser() {
    let Some(browser) = Browser::find() else { return };
    let Some(fixture) = common::example("fixture") else { return };
    let filled = browser.run(&Cmd::new(fixture).arg(browser.results()), 60);
    assert!(filled.exit.success(), "{}", filled.complaint());
    browser.drive("dashboard.test.mjs", &commit_id(RUNNING), |stage| {
        let fixture = ResultsFixture::new(&stage.dir.join("results"));
        hostile(&fixture);
        stage.live(&fixture, &commit_id(RUNNING));
        fixture.finish();
    });
}

#[test]
#[ignore = "needs the results of a demo run: DEMO_DATA=$PWD/target/demo/ci-data"]
fn over_a_demo_run() {
    let Some(browser) = Browser::find() else { return };
    let data = std::env::var_os("DEMO_DATA").expect("DEMO_DATA says where the demo left its results");
    let copied = browser.run(&Cmd::new("cp").arg("-a").arg(data).arg(browser.results()), 60);
    assert!(copied.exit.success(), "{}", copied.complaint());
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

/// The subject of the commit that the fixture leaves half tested.
const RUNNING: &str = "ext4: keep the journal credits of a truncate in one place";

/// Hostile names beside the others.
fn hostile(fixture: &ResultsFixture) {
    let script = "<script>window.hit=1</script>\"><img src=x onerror=window.hit=1>";
    let evil = commit_id("evil");
    let message = format!("{script} \u{202e}gnp.exe\n\n{script}\n");
    fixture.branch("evil", &format!("b/{script}"), &[(evil.clone(), message)]);
    let reason = format!("{script} \u{202e}reversed");
    fixture.test(
        TestResult::new(&evil, "t.<script>alert(1)<script>", Verdict::Failed { reason }, 10)
            .crash(script)
            .log(format!("{script}\nBUG: {script}\n========= FAILED x in 1s\n")),
    );
}
