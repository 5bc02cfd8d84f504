//! Each command's output as text and as JSON, its help and its errors.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::path::{Path, PathBuf};

use common::{NOW, commits, failed, results};
use insta::assert_snapshot;
use model::{StatusSnapshot, Verdict};
use tempfile::TempDir;
use testkit::ScratchRepo;
use testkit::results_fixture::{ResultsFixture, TestResult, commit_id};

/// What a command prints, without colours, or how it fails.
fn output(folder: &Path, dir: &Path, arguments: &str) -> String {
    let arguments =
        ["ci-status", "--output-dir", dir.to_str().unwrap()].into_iter().chain(arguments.split(' '));
    let mut out = Vec::new();
    match ci_status::cli::answer(arguments, folder.to_owned(), NOW, &mut out) {
        Ok(_) => anstream::adapter::strip_str(&String::from_utf8(out).unwrap()).to_string(),
        Err(error) => format!("error: {error:#}").replace(folder.to_str().unwrap(), "[FOLDER]"),
    }
}

fn run(dir: &TempDir, arguments: &str) -> String {
    // No checkout is above it.
    output(Path::new("/proc/1"), dir.path(), arguments)
}

#[test]
fn branches() {
    let dir = results();
    assert_snapshot!(run(&dir, "branches"), @r"
    amy/next          2 commits  c2de0ed96e37  1 failed  ext4: be clever�[2J
    kmo/ext4/testing  1 commit   61254269674c  2 passed  ext4: tidy up
    kmo/next          5 commits  b5e2a390b3a4  testing   ext4: fix hole punching
    ");
    assert_snapshot!(run(&dir, "branches --json"), @r#"[{"user":"amy","branches":["next"]},{"user":"kmo","branches":["ext4/testing","next"]}]"#);
    assert_snapshot!(run(&dir, "branches --user amy --json"), @r#"[{"user":"amy","branches":["next"]}]"#);
}

#[test]
fn log() {
    let dir = results();
    assert_snapshot!(run(&dir, "log kmo/next"), @r"
    commit        passed  failed  not run  failed to run  in progress    time  kmo/next
    bac67f8f0ad9       -       -        -              -            -       -  ext4: not tested yet
    b5e2a390b3a4       1       0        0              0            1  3m 12s  ext4: fix hole punching
    17120b1d55f6       0       0        0              3            0     0 s  ext4: break the build
    c2de0ed96e37       1       1        0              0            0   4.1 s  ext4: be clever�[2J
    61254269674c       2       0        1              0            0  13.2 s  ext4: tidy up
    ");
    assert_snapshot!(run(&dir, "log --user kmo next -n 2 --test punch$"), @r"
    commit        passed  failed    time  kmo/next
    bac67f8f0ad9       -       -       -  ext4: not tested yet
    b5e2a390b3a4       1       0  3m 12s  ext4: fix hole punching
    and 3 older commits (-n 5)
    ");
    assert_snapshot!(run(&dir, "log ext4 --json"), @r#"[{"commit":"61254269674c99fed74c8a9374bda7d8bac7b943","message":"ext4: tidy up","passed":2,"failed":0,"notrun":1,"failed_to_run":0,"inprogress":0,"unknown":0,"duration":13,"duration_ms":13245}]"#);
}

#[test]
fn show() {
    let dir = results();
    let [four, three, two, _] = commits().map(|commit| commit.short().to_owned());
    assert_snapshot!(run(&dir, &format!("show {two}")), @r"
    commit c2de0ed96e376b348778e76c3c45636dbfcb9864
        ext4: be clever�[2J

    1 failed, 1 passed in 4.1 s

    Failed  fs.ext4.basic.punch   3.2 s  BUG in ext4_punch_hole; kernel BUG at fs/ext4/inode.c:123!; failed 1 of 2 runs
    Passed  fs.ext4.basic.mount  950 ms
    ");
    assert_snapshot!(run(&dir, &format!("show {three} --failed --test mount")), @r"
    commit 17120b1d55f6aa45afc605ab6e7f930d5bca4046
        ext4: break the build

    3 failed to run; 1 of them shown

    Failed to run  fs.ext4.basic.mount  0 s  fs/ext4/inode.c:9: error: expected ';'
    ");
    assert_snapshot!(run(&dir, &format!("show {four} --failed")), @r"
    commit b5e2a390b3a477edbed154be484d99fe0b8924c9
        ext4: fix hole punching

    1 in progress, 1 passed; 0 of them shown
    ");
    assert_snapshot!(run(&dir, &format!("show {}", commit_id("five"))), @r"
    commit bac67f8f0ad96bc87a0f7675c9a771714acdadb7
        ext4: not tested yet

    no results yet
    ");
    assert_snapshot!(run(&dir, "show kmo/next --json"), @r#"{"commit":"b5e2a390b3a477edbed154be484d99fe0b8924c9","message":"ext4: fix hole punching\n\nFixes: 123","tests":[{"name":"fs.ext4.basic.mount","status":"In progress","duration":0,"duration_ms":0,"started":1700000090,"host":"local","slot":0},{"name":"fs.ext4.basic.punch","status":"Passed","duration":192,"duration_ms":192000}]}"#);
    assert_snapshot!(run(&dir, &format!("show {two} --json --test punch")), @r#"{"commit":"c2de0ed96e376b348778e76c3c45636dbfcb9864","message":"ext4: be clever\u001b[2J","tests":[{"name":"fs.ext4.basic.punch","status":"Failed","duration":3,"duration_ms":3200,"started":1700000000,"reason":"kernel BUG at fs/ext4/inode.c:123!","crash":"BUG in ext4_punch_hole","host":"farm1","slot":2,"log_bytes":53,"full_log_bytes":26,"other_attempts":[{"attempt":2,"status":"Passed","duration_ms":3100}]}]}"#);
}

#[test]
fn logs() {
    let dir = results();
    let [four, three, two, _] = commits().map(|commit| commit.short().to_owned());
    assert_snapshot!(run(&dir, &format!("logs {two} punch")), @r"
    00001 start
    00002 kernel BUG at fs/ext4/inode.c:123!
    ");
    assert_snapshot!(run(&dir, &format!("logs {two} mount --machine")), @r"
    00000 booting
    00001 start
    ");
    assert_snapshot!(run(&dir, &format!("logs {four} mount --json")), @r#"{"commit":"b5e2a390b3a477edbed154be484d99fe0b8924c9","test":"fs.ext4.basic.mount","status":"In progress","live":true,"complete":true,"log":"00001 \u001b[31mmounting\n"}"#);
    assert_snapshot!(run(&dir, &format!("logs {three} mount")), @"error: fs.ext4.basic.mount at 17120b1d55f6 has no log (Failed to run: fs/ext4/inode.c:9: error: expected ';'); --machine prints that of its VM run, if there was one");
    assert_snapshot!(run(&dir, &format!("logs {two} fs.ext4")), @r#"error: "fs.ext4" is several tests; say which: fs.ext4.basic.mount, fs.ext4.basic.punch"#);
}

#[test]
fn a_failed_test_s_log_opens_at_the_failure() {
    let (dir, commit) = (tempfile::tempdir().unwrap(), commit_id("one"));
    let fixture = ResultsFixture::new(dir.path());
    fixture.branch("kmo", "next", &[(commit.clone(), "one".into())]);
    let words =
        |from: usize, to: usize| (from..to).map(|line| format!("{line:05} word\n")).collect::<String>();
    let log = format!(
        "{}00400 [   12.000000] kernel BUG at fs/ext4/inode.c:123!\n{}",
        words(0, 400),
        words(401, 900)
    );
    let result = |key| TestResult::new(&commit, key, failed("kernel BUG"), 3);
    fixture.test(result("a.punch").log(log));
    fixture.test(TestResult::new(&commit, "a.mount", Verdict::Passed, 3).log(words(0, 500)));
    fixture.finish();
    let text = run(&dir, "logs kmo/next punch");
    assert!(text.starts_with("[... 385 lines above; --full prints all ...]\n00385 word\n"), "{text}");
    assert!(text.contains("kernel BUG at") && text.ends_with("below; --full prints all ...]\n"), "{text}");
    assert_eq!(run(&dir, "logs kmo/next punch --full").lines().count(), 900);
    assert_eq!(run(&dir, "logs kmo/next mount").lines().count(), 500);
    assert!(run(&dir, "logs kmo/next punch --json").contains(r#""failure_line":401,"#));
}

#[test]
fn an_empty_log_is_none() {
    let (dir, commit) = (tempfile::tempdir().unwrap(), commit_id("one"));
    let fixture = ResultsFixture::new(dir.path());
    fixture.branch("kmo", "next", &[(commit.clone(), "one".into())]);
    let unbuilt = Verdict::FailedToRun { reason: "no build".into() };
    fixture.test(TestResult::new(&commit, "a.punch", unbuilt, 0).log("cc: error\n"));
    fixture.full_log(&commit, &["a.punch"], "");
    fixture.finish();
    assert_eq!(run(&dir, "logs kmo/next punch"), "cc: error\n");
    assert_snapshot!(run(&dir, "logs kmo/next punch --machine"), @"error: a.punch at 61254269674c has no log of a VM run (Failed to run: no build)");
}

#[test]
fn a_log_is_followed_to_its_end() {
    let (dir, commit) = (tempfile::tempdir().unwrap(), commit_id("one"));
    let fixture = ResultsFixture::new(dir.path());
    fixture.branch("kmo", "next", &[(commit.clone(), "one".into())]);
    fixture.running(&commit, "a.punch", NOW, "00001 one\n");
    fixture.publish();
    let path = dir.path().to_owned();
    let follower =
        std::thread::spawn(move || output(Path::new("/proc/1"), &path, "logs kmo/next punch --follow"));
    let live = dir.path().join(format!("{commit}/a.punch/log"));
    std::thread::sleep(std::time::Duration::from_millis(400));
    std::fs::write(&live, "00001 one\n00002 two\n").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(400));
    let whole = "00001 one\n00002 two\n00003 three\n========= PASSED punch in 3s\n";
    fixture.test(TestResult::new(&commit, "a.punch", Verdict::Passed, 3).log(whole));
    assert_eq!(follower.join().unwrap(), whole);
    fixture.finish();
}

#[test]
fn artifacts() {
    let dir = results();
    let [.., two, _] = commits().map(|commit| commit.short().to_owned());
    assert_snapshot!("artifacts", run(&dir, &format!("artifacts {two} punch")));
    assert_snapshot!("artifacts_json", run(&dir, &format!("artifacts {two} punch log.br --json")));
    assert_snapshot!("artifacts_missing", run(&dir, &format!("artifacts {two} punch vmcore")));
    let to = tempfile::tempdir().unwrap();
    let place = to.path().display();
    run(&dir, &format!("artifacts {two} punch status --to {place}"));
    let copied = std::fs::read_to_string(to.path().join("fs.ext4.basic.punch/status")).unwrap();
    assert_eq!(copied, "========= FAILED fs.ext4.basic.punch in 3s\n");
}

#[test]
fn wait() {
    let dir = results();
    let [four, three, two, one] = commits().map(|commit| commit.short().to_owned());
    assert_snapshot!("wait_passed", run(&dir, &format!("wait {one}")));
    assert_snapshot!("wait_failed", run(&dir, &format!("wait {two}")));
    assert_snapshot!("wait_unbuilt_json", run(&dir, &format!("wait {three} --json")));
    assert_snapshot!("wait_limit", run(&dir, &format!("wait {four} --limit 1ms")));
    assert_snapshot!("wait_hopeless", run(&dir, "wait kmo/next --limit 1ms"));
}

#[test]
fn watch() {
    let dir = results();
    assert_snapshot!("watch", run(&dir, "watch kmo/next --once"));
    assert_snapshot!("watch_json", run(&dir, "watch amy/next --once --json"));
}

#[test]
fn rerun_leaves_a_request_that_the_daemon_takes() {
    let dir = results();
    let [.., two, _] = commits().map(|commit| commit.to_string());
    let folder = dir.path().join("requests");
    let requests = || -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let taker = {
        let folder = folder.clone();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(std::time::Duration::from_millis(20));
                let entries = std::fs::read_dir(&folder).into_iter().flatten();
                let mut paths = entries.map(|entry| entry.unwrap().path());
                let json = paths.find(|path| path.extension().is_some_and(|end| end == "json"));
                if let Some(path) = json {
                    let text = std::fs::read_to_string(&path).unwrap();
                    std::fs::remove_file(path).unwrap();
                    return text;
                }
            }
        })
    };
    assert_snapshot!("rerun", run(&dir, &format!("rerun {two} punch")));
    let request = format!(r#"{{"version":1,"rerun":{{"commit":"{two}","key":"fs.ext4.basic.punch"}}}}"#);
    assert_eq!(taker.join().unwrap(), request);
    // Nobody takes it: no daemon has run here for a while.
    let fixture = ResultsFixture::new(dir.path());
    fixture.snapshot(&StatusSnapshot { written: 1, ..StatusSnapshot::default() });
    fixture.finish();
    let text = run(&dir, &format!("rerun {two} punch --json"));
    let [file] = requests().try_into().unwrap();
    assert!(text.contains(r#""taken":false,"request":""#) && text.contains(file.to_str().unwrap()), "{text}");
}

#[test]
fn completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(run(&results(), &format!("completions {shell}")).contains("history"), "{shell}");
    }
}

#[test]
fn workers() {
    let dir = results();
    assert_snapshot!(run(&dir, "workers"), @r"
    local/0  busy         b5e2a390b3a4           fs/ext4/basic  1/3  testing  1m 01s ago  mount
    local/1  idle
    farm1/0  quarantined  no answer since 10:00
    12 jobs wait: kmo 12
    amy/next: last fetch failed: no route to host
    disk is full
    ");
    let json: StatusSnapshot = serde_json::from_str(&run(&dir, "workers --json")).unwrap();
    assert_eq!(Some(json), results::Reader::open(dir.path()).unwrap().snapshot().unwrap());
}

#[test]
fn history() {
    let dir = results();
    assert_snapshot!(run(&dir, "history kmo/next punch"), @r"
    fs.ext4.basic.punch on kmo/next: passes since b5e2a390b3a4 (ext4: fix hole punching); failed at c2de0ed96e37 (ext4: be clever�[2J); one commit between them was not judged

    bac67f8f0ad9  -                   -  ext4: not tested yet
    b5e2a390b3a4  Passed         3m 12s  ext4: fix hole punching
    17120b1d55f6  Failed to run     0 s  ext4: break the build    fs/ext4/inode.c:9: error: expected ';'
    c2de0ed96e37  Failed          3.2 s  ext4: be clever�[2J      BUG in ext4_punch_hole; kernel BUG at fs/ext4/inode.c:123!; failed 1 of 2 runs
    61254269674c  Passed         12.3 s  ext4: tidy up
    ");
    assert_snapshot!(run(&dir, "history amy/next punch"), @r"
    fs.ext4.basic.punch on amy/next: fails since c2de0ed96e37 (ext4: be clever�[2J); passed at 61254269674c (ext4: tidy up)

    c2de0ed96e37  Failed   3.2 s  ext4: be clever�[2J  BUG in ext4_punch_hole; kernel BUG at fs/ext4/inode.c:123!; failed 1 of 2 runs
    61254269674c  Passed  12.3 s  ext4: tidy up
    ");
    assert_snapshot!(run(&dir, "history amy/next mount --json"), @r#"[{"commit":"c2de0ed96e376b348778e76c3c45636dbfcb9864","message":"ext4: be clever\u001b[2J","test":{"name":"fs.ext4.basic.mount","status":"Passed","duration":0,"duration_ms":950,"full_log_bytes":26}},{"commit":"61254269674c99fed74c8a9374bda7d8bac7b943","message":"ext4: tidy up","test":{"name":"fs.ext4.basic.mount","status":"Passed","duration":0,"duration_ms":900}}]"#);
}

#[test]
fn compare() {
    let dir = results();
    let [four, three, two, one] = commits().map(|commit| commit.short().to_owned());
    assert_snapshot!(run(&dir, &format!("compare {one} {two}")), @r"
    from 61254269674c to c2de0ed96e37

    newly failing: 1
      fs.ext4.basic.punch  kernel BUG at fs/ext4/inode.c:123!

    not comparable: 1
      fs.ext4.basic.xattr  Not run -> no result  no attr tools

    1 the same
    ");
    assert_snapshot!(run(&dir, &format!("compare {two} {three}")), @r"
    from c2de0ed96e37 to 17120b1d55f6

    not comparable: 3
      fs.ext4.basic.mount  Passed -> Failed to run     fs/ext4/inode.c:9: error: expected ';'
      fs.ext4.basic.punch  Failed -> Failed to run     fs/ext4/inode.c:9: error: expected ';'
      fs.ext4.basic.xattr  no result -> Failed to run  fs/ext4/inode.c:9: error: expected ';'

    0 the same
    ");
    assert_snapshot!(run(&dir, &format!("compare {two} {four} --json")), @r#"{"a":"c2de0ed96e376b348778e76c3c45636dbfcb9864","b":"b5e2a390b3a477edbed154be484d99fe0b8924c9","newly_failing":[],"newly_passing":[{"name":"fs.ext4.basic.punch","a":"Failed","b":"Passed","reason":"kernel BUG at fs/ext4/inode.c:123!"}],"still_failing":[],"not_comparable":[{"name":"fs.ext4.basic.mount","a":"Passed","b":"In progress"}],"same":0}"#);
}

#[test]
fn errors() {
    let dir = results();
    assert_snapshot!(run(&dir, "log"), @"error: say which branch: this is no checkout to take it from ([FOLDER]: cannot open it as a git repository: neither it nor a directory above it is one)");
    assert_snapshot!(run(&dir, "log next"), @r#"error: "next" is several branches; say which: amy/next, kmo/next"#);
    assert_snapshot!(run(&dir, "log nxt"), @r#"error: no branch "nxt"; there are amy/next, kmo/ext4/testing, kmo/next"#);
    assert_snapshot!(run(&dir, "log kmo/next --test ("), @r#"error: --test "(" is no regular expression: unclosed group"#);
    assert_snapshot!(run(&dir, "show ffffffff"), @r#"error: no results for "ffffffff"; give a commit's first digits (at least 4) or a branch (ci-status branches lists them)"#);
    assert_snapshot!(run(&dir, "branches --user bob"), @r#"error: user "bob" has no branches; there are the users amy, kmo"#);
    assert_snapshot!(run(&dir, "show"), @"error: say which commit: this is no checkout to take it from ([FOLDER]: cannot open it as a git repository: neither it nor a directory above it is one)");
    assert_snapshot!(run(&dir, "history amy/next nothing"), @r#"error: no test "nothing" at amy/next; there are fs.ext4.basic.mount, fs.ext4.basic.punch"#);
    let empty = tempfile::tempdir().unwrap();
    assert_snapshot!(run(&empty, "branches"), @"error: no branch has results yet; ci-daemon lists a branch once it has fetched it");
    assert_snapshot!(run(&empty, "workers"), @"error: no ci-daemon has run there yet; start it with ci-daemon");
    assert_snapshot!(output(Path::new("/proc/1"), Path::new("/nonexistent"), "branches"), @"error: /nonexistent: no results here; set output_dir (or --output-dir) to the folder ci-daemon writes to");
}

#[test]
fn in_a_checkout_head_is_meant() {
    let repo = ScratchRepo::new();
    let old = repo.commit("one", &[("a", "1")]);
    let tip = repo.commit("two", &[("a", "2")]);
    let branch = repo.git(["symbolic-ref", "--short", "HEAD"]).trim().to_owned();
    let dir = tempfile::tempdir().unwrap();
    let fixture = ResultsFixture::new(dir.path());
    fixture.branch("kmo", &branch, &[(tip.clone(), "two".into()), (old.clone(), "one".into())]);
    fixture.test(TestResult::new(&old, "boot.boots", Verdict::Passed, 1000));
    fixture.finish();
    let folder: PathBuf = repo.path().into();
    let run = |arguments: &str| output(&folder, dir.path(), arguments);
    assert!(run("log").contains(tip.short()));
    assert!(run("show").starts_with(&format!("commit {tip}\n    two\n\nno results yet")));
    assert!(run("show HEAD~1").contains("1 passed"));
    repo.commit("three", &[("a", "3")]);
    assert!(run("show").starts_with("error: no results for HEAD ("));
    repo.git(["checkout", "--detach", "-q"]);
    assert_eq!(run("log"), "error: say which branch: the checkout's HEAD is on none");
}

#[test]
fn help() {
    let mut command = ci_status::cli::command().term_width(110);
    assert_snapshot!(command.render_help());
    let mut text = String::new();
    for sub in [
        "branches",
        "log",
        "show",
        "logs",
        "artifacts",
        "workers",
        "history",
        "compare",
        "wait",
        "watch",
        "rerun",
        "completions",
    ] {
        let help = command.find_subcommand_mut(sub).unwrap().clone().term_width(110).render_help();
        text.push_str(&format!("$ ci-status {sub} --help\n{help}\n"));
    }
    assert_snapshot!("help_of_commands", text);
}

#[test]
fn tests_that_seem_to_test_nothing_any_more_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = ResultsFixture::new(dir.path());
    let [new, old] = ["new", "old"].map(commit_id);
    fixture.branch("kmo", "next", &[(new.clone(), "new".into()), (old.clone(), "old".into())]);
    for key in ["fs.x.long", "fs.x.gone", "fs.x.quota"] {
        fixture.test(TestResult::new(&old, key, Verdict::Passed, 40_000));
    }
    fixture.test(TestResult::new(&new, "fs.x.long", Verdict::Passed, 900));
    fixture.test(TestResult::new(&new, "fs.x.quota", Verdict::NotRun { reason: "no tools".into() }, 0));
    fixture.finish();
    let list = "to look at, they may test nothing any more: 3
  fs.x.gone   had a verdict before, is listed no more
  fs.x.long   passed in 0.9 s, took 40.0 s before
  fs.x.quota  passed before, not run now: no tools
";
    let show = run(&dir, &format!("show {new}"));
    assert!(show.ends_with(list), "{show}");
    assert!(!run(&dir, &format!("show {old}")).contains("to look at"));
    let compare = run(&dir, &format!("compare {old} {new}"));
    assert!(compare.contains(list), "{compare}");
    for line in [format!("show {new} --json"), format!("compare {old} {new} --json")] {
        let json: serde_json::Value = serde_json::from_str(&run(&dir, &line)).unwrap();
        let words: Vec<_> = json["suspicious"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["suspicion"].as_str().unwrap())
            .collect();
        assert_eq!(words, ["vanished", "collapsed", "stopped applying"], "{line}");
    }
}
