//! The pages in a real browser: `e2e/browser` is driven by node over results that look like real life, while this
//! process plays the daemon: on request it gives the running test its verdict.

#![expect(clippy::unwrap_used, reason = "a test")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use model::Verdict;
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

#[test]
fn in_a_browser() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../e2e/browser").canonicalize().unwrap();
    let Some(node) = on_path(&["node"]) else {
        return common::skipped("node is not installed, so no page was opened in a browser");
    };
    let Some(chromium) = on_path(&["chromium", "chromium-browser", "google-chrome"]) else {
        return common::skipped(
            "there is no Chromium, so no page was opened in a browser; apt-get install chromium",
        );
    };
    if !tests.join("node_modules/playwright-core").is_dir() {
        return common::skipped("e2e/browser/node_modules is not there; run: scripts/setup test");
    }
    let (Some(program), Some(fixture)) = (common::example("ci-dashboard"), common::example("fixture")) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let results = dir.path().join("results");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let run = |cmd: &Cmd, seconds| runtime.block_on(cmd.output(Limits::seconds(seconds))).unwrap();
    let filled = run(&Cmd::new(fixture).arg(&results), 60);
    assert!(filled.exit.success(), "{}", filled.complaint());

    let over = Arc::new(AtomicBool::new(false));
    let daemon = {
        let (over, results, mark) = (Arc::clone(&over), results.clone(), dir.path().join("finish"));
        std::thread::spawn(move || play_daemon(&results, &mark, &over))
    };
    while !daemon.is_finished() && !dir.path().join("ready").exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!daemon.is_finished(), "the hostile results are written");
    let began = Instant::now();
    let cmd = Cmd::new(node)
        .args(["--test", "--test-reporter=spec"])
        .arg(tests.join("dashboard.test.mjs"))
        .dir(&tests)
        .env("KTEST_DASHBOARD", program)
        .env("KTEST_CHROMIUM", chromium)
        .env("KTEST_RESULTS", &results)
        .env("KTEST_SCRATCH", dir.path())
        .env("KTEST_RUNNING", commit_id(RUNNING).as_str())
        .env("KTEST_SHOTS", tests.join("../../target/browser"));
    let output = run(&cmd, PATIENCE);
    over.store(true, Ordering::Relaxed);
    daemon.join().unwrap();
    let said = output.text();
    assert!(output.exit.success(), "{said}\n{}", output.complaint());
    eprintln!("all was seen in a browser in {:.1} s", began.elapsed().as_secs_f32());
}

/// The subject of the commit that the fixture leaves half tested.
const RUNNING: &str = "ext4: keep the journal credits of a truncate in one place";

/// Hostile names beside the others; then, once somebody asks, the verdict of a test that runs.
fn play_daemon(results: &Path, mark: &Path, over: &AtomicBool) {
    let fixture = ResultsFixture::new(results);
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
    let running = commit_id(RUNNING);
    fixture.running(
        &running,
        "fs.ext4.basic.live",
        1_790_000_000,
        "00000 ========= TEST   live\n00001 first line\n",
    );
    fixture.publish();
    std::fs::write(mark.with_file_name("ready"), "").unwrap();
    while !over.load(Ordering::Relaxed) {
        if mark.exists() {
            std::fs::remove_file(mark).unwrap();
            let log = "00000 ========= TEST   live\n00009 the end\n00009 ========= PASSED live in 9s\n";
            fixture.test(TestResult::new(&running, "fs.ext4.basic.live", Verdict::Passed, 9_000).log(log));
            fixture.publish();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    fixture.finish();
}
