//! The text, the JSON, the help and the errors of each command.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::path::{Path, PathBuf};

use common::{NOW, commits, failed, results};
use insta::assert_snapshot;
use model::{StatusSnapshot, Verdict};
use tempfile::TempDir;
use testkit::ScratchRepo;
use testkit::results_fixture::{ResultsFixture, TestResult, commit_id};

/// The output of a command without colors, or its error.
fn output(directory: &Path, dir: &Path, arguments: &str) -> String {
    let arguments =
        ["ci-status", "--output-dir", dir.to_str().unwrap()].into_iter().chain(arguments.split(' '));
    let mut out = Vec::new();
    match ci_status::cli::answer(arguments, directory.to_owned(), NOW, &mut out) {
        Ok(_) => anstream::adapter::strip_str(&String::from_utf8(out).unwrap()).to_string(),
        Err(error) => format!("error: {error:#}").replace(directory.to_str().unwrap(), "[FOLDER]"),
    }
}

fn run(dir: &TempDir, arguments: &str) -> String {
    // A directory outside of any checkout.
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
    commit        passed  failed  not run  in progress    time  kmo/next
    bac67f8f0ad9       -       -        -            -       -  ext4: not tested yet
    b5e2a390b3a4       1       0        0            1  3m 12s  (fixed the build) ext4: fix hole punching
        ▲ passes again: fs.ext4.basic.punch
    17120b1d55f6       -       -        -            -       -  (broke the build) ext4: break the build
    c2de0ed96e37       1       1        0            0   4.1 s  ext4: be clever�[2J
        ▼ broke: fs.ext4.basic.punch
    61254269674c       2       0        1            0  13.2 s  ext4: tidy up
    ");
    assert_snapshot!(run(&dir, "log --user kmo next -n 2 --test punch$"), @r"
    commit        passed  failed    time  kmo/next
    bac67f8f0ad9       -       -       -  ext4: not tested yet
    b5e2a390b3a4       1       0  3m 12s  (fixed the build) ext4: fix hole punching
        ▲ passes again: fs.ext4.basic.punch
    3 older commits not shown (-n 5 shows all)
    ");
    assert_snapshot!(run(&dir, "log ext4 --json"), @r#"[{"commit":"61254269674c99fed74c8a9374bda7d8bac7b943","message":"ext4: tidy up","passed":2,"failed":0,"notrun":1,"failed_to_run":0,"inprogress":0,"unknown":0,"duration":13,"duration_ms":13245,"author":"<amy@example.org>","date":1699910100}]"#);
}

#[test]
fn crashes_and_addresses() {
    let dir = results();
    assert_snapshot!(run(&dir, "crashes kmo/next"), @r"
    BUG in ext4_punch_hole  no longer seen, 1 hit
        first at c2de0ed96e37 ext4: be clever�[2J
        Eve [2J �, 3 d ago
        fs.ext4.basic.punch
    ");
    assert_snapshot!(run(&dir, "crashes ext4/testing"), @"no test of kmo/ext4/testing crashed the kernel");
    let config = dir.path().join("ci.toml");
    let text = format!(
        "linux_repo = \"l\"\noutput_dir = {:?}\nktest_dir = \"k\"\nuser = \"kmo\"\nci_url = \"https://ci.example.org/a/ci\"\n",
        dir.path()
    );
    std::fs::write(&config, text).unwrap();
    let [_, _, two, _] = commits();
    for (arguments, address) in [
        ("open".to_owned(), "/a/ci".to_owned()),
        ("open kmo/next".into(), "/a/ci?user=kmo&branch=next".into()),
        (format!("open {two}"), format!("/a/ci?commit={two}")),
        (format!("open {} punch", two.short()), format!("/a/c/{two}/fs.ext4.basic.punch/#failure")),
    ] {
        let words =
            ["ci-status", "--config", config.to_str().unwrap()].into_iter().chain(arguments.split(' '));
        let mut out = Vec::new();
        ci_status::cli::answer(words, "/".into(), NOW, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), format!("https://ci.example.org{address}\n"));
    }
}

#[test]
fn show() {
    let dir = results();
    let [four, three, two, _] = commits().map(|commit| commit.short().to_owned());
    assert_snapshot!(run(&dir, &format!("show {two}")), @r"
    commit c2de0ed96e376b348778e76c3c45636dbfcb9864
        ext4: be clever�[2J
        Eve [2J �, 3 d ago

    1 failed, 1 passed in 4.1 s

    fs.ext4.basic.punch
      fails on 1 commit; first bad commit c2de0ed96e37 ext4: be clever�[2J
        Eve [2J �, 3 d ago
      last good commit 61254269674c ext4: tidy up
      to reproduce: ktest run -k . fs/ext4/basic.ktest punch

    Failed  fs.ext4.basic.punch   3.2 s  BUG in ext4_punch_hole; kernel BUG at fs/ext4/inode.c:123!; failed 2 of 2 runs
    Passed  fs.ext4.basic.mount  950 ms
    ");
    assert_snapshot!(run(&dir, &format!("show {three} --failed --test mount")), @r"
    commit 17120b1d55f6aa45afc605ab6e7f930d5bca4046
        ext4: break the build

    build failed; 1 shown

    Failed to run  fs.ext4.basic.mount  0 s  kernel does not build: fs/ext4/inode.c:9: error: expected ';'
    ");
    assert_snapshot!(run(&dir, &format!("show {four} --failed")), @r"
    commit b5e2a390b3a477edbed154be484d99fe0b8924c9
        ext4: fix hole punching
        Kim, 1h 23m ago

    1 in progress, 1 passed; 0 shown
    ");
    assert_snapshot!(run(&dir, &format!("show {}", commit_id("five"))), @r"
    commit bac67f8f0ad96bc87a0f7675c9a771714acdadb7
        ext4: not tested yet

    no results yet
    ");
    assert_snapshot!(run(&dir, "show kmo/next --json"), @r#"{"commit":"b5e2a390b3a477edbed154be484d99fe0b8924c9","message":"ext4: fix hole punching\n\nFixes: 123","author":"Kim <kim@example.org>","date":1699995100,"tests":[{"name":"fs.ext4.basic.mount","status":"In progress","duration":0,"duration_ms":0,"started":1700000090,"host":"local","slot":0},{"name":"fs.ext4.basic.punch","status":"Passed","duration":192,"duration_ms":192000}]}"#);
    assert_snapshot!(run(&dir, &format!("show {two} --json --test punch")), @r#"{"commit":"c2de0ed96e376b348778e76c3c45636dbfcb9864","message":"ext4: be clever\u001b[2J","author":"Eve [2J \u202e<eve@example.org>","date":1699740900,"tests":[{"name":"fs.ext4.basic.punch","status":"Failed","duration":3,"duration_ms":3200,"started":1700000000,"reason":"kernel BUG at fs/ext4/inode.c:123!","crash":"BUG in ext4_punch_hole","host":"farm1","slot":2,"log_bytes":161,"full_log_bytes":26,"other_attempts":[{"attempt":2,"status":"Failed","duration_ms":3100,"reason":"kernel BUG at fs/ext4/inode.c:123!"}]}],"since":[{"name":"fs.ext4.basic.punch","first_bad":{"commit":"c2de0ed96e376b348778e76c3c45636dbfcb9864","subject":"ext4: be clever\u001b[2J","author":"Eve [2J \u202e<eve@example.org>","date":1699740900},"last_good":{"commit":"61254269674c99fed74c8a9374bda7d8bac7b943","subject":"ext4: tidy up","author":"<amy@example.org>","date":1699910100},"untested_between":0,"commits":1}]}"#);
}

#[test]
fn logs() {
    let dir = results();
    let [four, three, two, _] = commits().map(|commit| commit.short().to_owned());
    assert_snapshot!(run(&dir, &format!("logs {two} punch")), @r"
    00001 start
    00002 kernel BUG at fs/ext4/inode.c:123!
    00003 ktest: to run it again, in a clone of the kernel repository: ktest run -k . fs/ext4/basic.ktest punch
    ");
    assert_snapshot!(run(&dir, &format!("logs {two} mount --machine")), @r"
    00000 booting
    00001 start
    ");
    assert_snapshot!(run(&dir, &format!("logs {four} mount --json")), @r#"{"commit":"b5e2a390b3a477edbed154be484d99fe0b8924c9","test":"fs.ext4.basic.mount","status":"In progress","live":true,"complete":true,"log":"00001 \u001b[31mmounting\n"}"#);
    assert_snapshot!(run(&dir, &format!("logs {three} mount")), @"error: fs.ext4.basic.mount at 17120b1d55f6 has no log (Failed to run: kernel does not build: fs/ext4/inode.c:9: error: expected ';'); --machine prints the log of its VM run");
    assert_snapshot!(run(&dir, &format!("logs {two} fs.ext4")), @r#"error: "fs.ext4" matches several tests; give one of: fs.ext4.basic.mount, fs.ext4.basic.punch"#);
}

#[test]
fn the_log_of_a_failed_test_opens_at_the_failure() {
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
fn an_empty_log_is_treated_as_missing() {
    let (dir, commit) = (tempfile::tempdir().unwrap(), commit_id("one"));
    let fixture = ResultsFixture::new(dir.path());
    fixture.branch("kmo", "next", &[(commit.clone(), "one".into())]);
    let unbuilt = Verdict::FailedToRun { reason: "no build".into() };
    fixture.test(TestResult::new(&commit, "a.punch", unbuilt, 0).log("cc: error\n"));
    fixture.full_log(&commit, &["a.punch"], "");
    fixture.finish();
    assert_eq!(run(&dir, "logs kmo/next punch"), "cc: error\n");
    assert_snapshot!(run(&dir, "logs kmo/next punch --machine"), @"error: a.punch at 61254269674c has no VM log (Failed to run: no build)");
}

#[test]
fn a_log_is_followed_until_it_ends() {
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
fn rerun_writes_a_request_that_the_daemon_takes() {
    let dir = results();
    let [.., two, _] = commits().map(|commit| commit.to_string());
    let directory = dir.path().join("requests");
    let requests = || -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&directory).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let taker = {
        let directory = directory.clone();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(std::time::Duration::from_millis(20));
                let entries = std::fs::read_dir(&directory).into_iter().flatten();
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
    // No daemon takes it: the last one stopped long ago.
    let fixture = ResultsFixture::new(dir.path());
    fixture.snapshot(&StatusSnapshot { written: 1, ..StatusSnapshot::default() });
    fixture.finish();
    let text = run(&dir, &format!("rerun {two} punch --json"));
    let [file] = requests().try_into().unwrap();
    assert!(text.contains(r#""taken":false,"request":""#) && text.contains(file.to_str().unwrap()), "{text}");
}

#[test]
fn a_branch_option_is_the_default_and_selects_commits() {
    let dir = results();
    assert_eq!(run(&dir, "log -b amy/next"), run(&dir, "log amy/next"));
    assert_eq!(run(&dir, "show -b amy/next"), run(&dir, "show amy/next"));
    let [_, three, two, _] = commits();
    assert_eq!(
        run(&dir, &format!("show -b kmo/next {}", &two.as_str()[..7])),
        run(&dir, &format!("show {two}"))
    );
    // A commit of another branch is found nevertheless.
    assert_eq!(run(&dir, &format!("show -b amy/next {three}")), run(&dir, &format!("show {three}")));
    assert!(run(&dir, "show -b nowhere abcd").starts_with("error: no branch \"nowhere\""));
}

#[test]
fn options_of_the_existing_client() {
    let dir = results();
    for verb in ["pull-config", "push-config"] {
        let text = run(&dir, verb);
        assert!(text.contains("users_dir") && text.contains("ci-daemon check"), "{text}");
    }
    let remote = run(&dir, "--remote=http://127.0.0.1:1/ci log next");
    assert_eq!(run(&dir, "--dashboard http://127.0.0.1:1/ci log next"), remote);
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
    local/0  busy         b5e2a390b3a4           fs/ext4/basic  1/3  testing for 1m 01s  mount
    local/1  idle
    farm1/0  quarantined  no answer since 10:00
    12 tests queued (kmo 12)
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
    fs.ext4.basic.punch on kmo/next: fixed? 1 of 5 runs; passes since b5e2a390b3a4 (ext4: fix hole punching); last failure at c2de0ed96e37 (ext4: be clever�[2J); 1 untested commit in between

    bac67f8f0ad9  -                   -  ext4: not tested yet
    b5e2a390b3a4  Passed         3m 12s  ext4: fix hole punching
    17120b1d55f6  Failed to run     0 s  ext4: break the build    kernel does not build: fs/ext4/inode.c:9: error: expected ';'
    c2de0ed96e37  Failed          3.2 s  ext4: be clever�[2J      BUG in ext4_punch_hole; kernel BUG at fs/ext4/inode.c:123!; failed 2 of 2 runs
    61254269674c  Passed         12.3 s  ext4: tidy up
    ");
    assert_snapshot!(run(&dir, "history amy/next punch"), @r"
    fs.ext4.basic.punch on amy/next: fails; first bad commit c2de0ed96e37 (ext4: be clever�[2J); last good commit 61254269674c (ext4: tidy up)

    c2de0ed96e37  Failed   3.2 s  ext4: be clever�[2J  BUG in ext4_punch_hole; kernel BUG at fs/ext4/inode.c:123!; failed 2 of 2 runs
    61254269674c  Passed  12.3 s  ext4: tidy up
    ");
    assert_snapshot!(run(&dir, "history amy/next mount --json"), @r#"[{"commit":"c2de0ed96e376b348778e76c3c45636dbfcb9864","message":"ext4: be clever\u001b[2J","author":"Eve [2J \u202e<eve@example.org>","date":1699740900,"test":{"name":"fs.ext4.basic.mount","status":"Passed","duration":0,"duration_ms":950,"full_log_bytes":26}},{"commit":"61254269674c99fed74c8a9374bda7d8bac7b943","message":"ext4: tidy up","author":"<amy@example.org>","date":1699910100,"test":{"name":"fs.ext4.basic.mount","status":"Passed","duration":0,"duration_ms":900}}]"#);
}

#[test]
fn compare() {
    let dir = results();
    let [four, three, two, one] = commits().map(|commit| commit.short().to_owned());
    assert_snapshot!(run(&dir, &format!("compare {one} {two}")), @r"
    from 61254269674c to c2de0ed96e37

    1 broke
      fs.ext4.basic.punch  BUG in ext4_punch_hole; kernel BUG at fs/ext4/inode.c:123!; failed 2 of 2 runs

    1 only in the base
      fs.ext4.basic.xattr  Not run -> no result  no attr tools

    1 test without a difference
    ");
    assert_snapshot!(run(&dir, &format!("compare {two} {three}")), @r"
    from c2de0ed96e37 to 17120b1d55f6

    3 not run: the kernel does not build
      fs.ext4.basic.mount  kernel does not build: fs/ext4/inode.c:9: error: expected ';'

    0 tests without a difference
    ");
    assert_snapshot!(run(&dir, &format!("compare {two} {four} --json")), @r#"{"base":{"commit":"c2de0ed96e376b348778e76c3c45636dbfcb9864","message":"ext4: be clever\u001b[2J","author":"Eve [2J \u202e<eve@example.org>","date":1699740900,"passed":1,"failed":1,"notrun":0,"failed_to_run":0,"inprogress":0,"unknown":0},"head":{"commit":"b5e2a390b3a477edbed154be484d99fe0b8924c9","message":"ext4: fix hole punching\n\nFixes: 123","author":"Kim <kim@example.org>","date":1699995100,"passed":1,"failed":0,"notrun":0,"failed_to_run":0,"inprogress":1,"unknown":0},"alike":1,"changes":[{"name":"fs.ext4.basic.punch","change":"fixed","base":"Failed","head":"Passed","reason":"kernel BUG at fs/ext4/inode.c:123!","crash":"BUG in ext4_punch_hole","fix":{"state":"unproven","passes":1,"needed":5,"failed":1,"runs":1}}]}"#);
}

#[test]
fn errors() {
    let dir = results();
    assert_snapshot!(run(&dir, "log"), @"error: no BRANCH given and [FOLDER] is not inside a git checkout; branches: amy/next, kmo/ext4/testing, kmo/next");
    assert_snapshot!(run(&dir, "log next"), @r#"error: "next" matches several branches; give one of: amy/next, kmo/next"#);
    assert_snapshot!(run(&dir, "log nxt"), @r#"error: no branch "nxt"; did you mean one of: amy/next, kmo/next?"#);
    assert_snapshot!(run(&dir, "log kmo/next --test ("), @r#"error: --test "(" is not a regular expression: unclosed group"#);
    assert_snapshot!(run(&dir, "show ffffffff"), @r#"error: no results for "ffffffff"; give the first digits of a commit (at least 4) or a branch (ci-status branches lists them)"#);
    assert_snapshot!(run(&dir, "branches --user bob"), @r#"error: no user "bob"; users: amy, kmo"#);
    assert_snapshot!(run(&dir, "show"), @"error: no SHA given and [FOLDER] is not inside a git checkout; branches: amy/next, kmo/ext4/testing, kmo/next");
    assert_snapshot!(run(&dir, "history amy/next nothing"), @r#"error: no test "nothing" at amy/next; tests: fs.ext4.basic.mount, fs.ext4.basic.punch"#);
    let empty = tempfile::tempdir().unwrap();
    assert_snapshot!(run(&empty, "branches"), @"error: no branch has results yet; ci-daemon lists a branch after its first fetch");
    assert_snapshot!(run(&empty, "workers"), @"error: no ci-daemon has written here yet; start ci-daemon");
    assert_snapshot!(output(Path::new("/proc/1"), Path::new("/nonexistent"), "branches"), @"error: /nonexistent: no results here; set output_dir (or --output-dir) to the directory that ci-daemon writes to");
}

#[test]
fn in_a_checkout_the_default_is_head() {
    let repo = ScratchRepo::new();
    let old = repo.commit("one", &[("a", "1")]);
    let tip = repo.commit("two", &[("a", "2")]);
    let branch = repo.git(["symbolic-ref", "--short", "HEAD"]).trim().to_owned();
    let dir = tempfile::tempdir().unwrap();
    let fixture = ResultsFixture::new(dir.path());
    fixture.branch("kmo", &branch, &[(tip.clone(), "two".into()), (old.clone(), "one".into())]);
    fixture.test(TestResult::new(&old, "boot.boots", Verdict::Passed, 1000));
    fixture.finish();
    let directory: PathBuf = repo.path().into();
    let run = |arguments: &str| output(&directory, dir.path(), arguments);
    assert!(run("log").contains(tip.short()));
    assert!(run("show").starts_with(&format!("commit {tip}\n    two\n\nno results yet")));
    assert!(run("show HEAD~1").contains("1 passed"));
    repo.commit("three", &[("a", "3")]);
    assert!(run("show").starts_with("error: no results for HEAD ("));
    repo.git(["checkout", "--detach", "-q"]);
    assert_eq!(
        run("log"),
        "error: no BRANCH given and HEAD of the checkout is detached; give a branch (ci-status branches lists them)"
    );
}

#[test]
fn help() {
    let mut command = ci_status::cli::command().term_width(110);
    assert_snapshot!(command.render_long_help());
    let mut text = String::new();
    for sub in [
        "branches",
        "log",
        "show",
        "logs",
        "artifacts",
        "workers",
        "history",
        "range-diff",
        "compare",
        "wait",
        "watch",
        "rerun",
        "bisect",
        "believe",
        "completions",
    ] {
        let help = command.find_subcommand_mut(sub).unwrap().clone().term_width(110).render_long_help();
        text.push_str(&format!("$ ci-status {sub} --help\n{help}\n"));
    }
    assert_snapshot!("help_of_commands", text);
}

#[test]
fn suspicious_passes_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = ResultsFixture::new(dir.path());
    let subjects = ["new", "old", "4", "3", "2", "1"];
    let commits = subjects.map(|subject| (commit_id(subject), subject.to_owned()));
    let [new, old] = [&commits[0].0, &commits[1].0];
    fixture.branch("kmo", "next", &commits);
    for (commit, _) in &commits[1..] {
        for key in ["fs.x.long", "fs.x.gone", "fs.x.quota"] {
            fixture.test(TestResult::new(commit, key, Verdict::Passed, 40_000));
        }
    }
    fixture.test(TestResult::new(new, "fs.x.long", Verdict::Passed, 900));
    fixture.test(TestResult::new(new, "fs.x.quota", Verdict::NotRun { reason: "no tools".into() }, 0));
    fixture.finish();
    let list = "3 suspicious passes, may no longer test anything
  fs.x.gone   no longer listed by its test file
  fs.x.long   passed in 0.9 s, median of the 5 passes before: 40.0 s
  fs.x.quota  skipped, passed before: no tools
";
    let show = run(&dir, &format!("show {new}"));
    assert!(show.ends_with(list), "{show}");
    assert!(!run(&dir, &format!("show {old}")).contains("suspicious"));
    let compare = run(&dir, &format!("compare {old} {new}"));
    assert!(compare.contains(list), "{compare}");
    for line in [format!("show {new} --json"), format!("compare {old} {new} --json")] {
        let json: serde_json::Value = serde_json::from_str(&run(&dir, &line)).unwrap();
        let suspicions: Vec<_> = json["suspicious"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["suspicion"].as_str().unwrap())
            .collect();
        assert_eq!(suspicions, ["vanished", "collapsed", "stopped applying"], "{line}");
    }
}

#[test]
fn bisections_are_requested_and_listed() {
    let dir = results();
    let [four, three, two, one] = &commits();
    assert_snapshot!(run(&dir, "bisect"), @"no bisections; ci-status bisect TEST requests one");
    let punch = "error: fs.ext4.basic.punch is not bisected";
    let newer = format!("{} is newer than {}; give the older commit first", two.short(), one.short());
    for (arguments, reason) in [
        (
            "nothing -b kmo/next".into(),
            "error: no test \"nothing\" at kmo/next; tests: fs.ext4.basic.mount, fs.ext4.basic.punch".into(),
        ),
        (
            "mount -b kmo/next".into(),
            "error: fs.ext4.basic.mount is not bisected: no commit of the branch fails; for a test that is only flaky, give BASE..HEAD".into(),
        ),
        (
            format!("punch {two} -b kmo/next"),
            format!("{punch}: \"{two}\" is not a range; give BASE..HEAD, for example 3f2a9c..f7da08"),
        ),
        (format!("punch {two}..{one} -b kmo/next"), format!("{punch}: {newer}")),
        (
            format!("punch {two}..{two} -b kmo/next"),
            format!("{punch}: base and head are the same commit, {}", two.short()),
        ),
        (format!("punch {one}..{four} -b kmo/next"), format!("{punch}: it has no failure at {}", four.short())),
        (
            format!("punch {one}..{three} -b amy/next"),
            format!("{punch}: {} is not among the commits of the branch", three.short()),
        ),
        ("punch nowhere..HEAD -b kmo/next".into(), format!("{punch}: no commit \"nowhere\" on the branch")),
        ("--cancel x".into(), "error: no bisection \"x\" is running; ci-status bisect lists them".into()),
    ] {
        let arguments: String = arguments;
        let reason: String = reason;
        assert_eq!(run(&dir, &format!("bisect {arguments}")), reason);
    }
    assert!(!dir.path().join("requests").exists());
    // No daemon takes it: the last one stopped long ago.
    let fixture = ResultsFixture::new(dir.path());
    fixture.snapshot(&StatusSnapshot { written: 1, ..StatusSnapshot::default() });
    fixture.finish();
    let text = run(&dir, &format!("bisect punch {}..{} -b kmo/next", one.short(), two.short()));
    assert!(
        text.starts_with("bisection of fs.ext4.basic.punch is requested; ci-daemon has not taken "),
        "{text}"
    );
    let request = std::fs::read_dir(dir.path().join("requests")).unwrap().next().unwrap().unwrap();
    assert_eq!(
        std::fs::read_to_string(request.path()).unwrap(),
        format!(
            r#"{{"version":1,"bisect":{{"branch":{{"user":"kmo","branch":"next"}},"key":"fs.ext4.basic.punch","range":{{"base":"{one}","head":"{two}"}}}}}}"#
        )
    );
    std::fs::remove_file(request.path()).unwrap();
    assert!(run(&dir, "bisect punch -b kmo/next --json").contains(r#""taken":false"#));
}

#[test]
fn claims_are_requested_and_listed() {
    let dir = results();
    let [four, _, two, one] = &commits();
    assert_snapshot!(run(&dir, "believe"), @"no claims; ci-status believe TEST requests runs");
    let reason = "no commit before the tip of the branch fails, or the tip fails";
    for (arguments, error) in [
        ("mount kmo/next", format!("error: fs.ext4.basic.mount is not run: {reason}")),
        ("punch amy/next", format!("error: fs.ext4.basic.punch is not run: {reason}")),
        ("--cancel x", "error: no claim \"x\" is running; ci-status believe lists them".into()),
    ] {
        assert_eq!(run(&dir, &format!("believe {arguments}")), error);
    }
    assert!(!dir.path().join("requests").exists());
    // No daemon takes it: the last one stopped long ago.
    let fixture = ResultsFixture::new(dir.path());
    fixture.snapshot(&StatusSnapshot { written: 1, ..StatusSnapshot::default() });
    fixture.finish();
    let text = run(&dir, "believe punch kmo/next --confidence 99 --wait");
    assert!(
        text.starts_with("runs of fs.ext4.basic.punch are requested; ci-daemon has not taken "),
        "{text}"
    );
    let request = std::fs::read_dir(dir.path().join("requests")).unwrap().next().unwrap().unwrap();
    let branch = r#"{"user":"kmo","branch":"next"}"#;
    assert_eq!(
        std::fs::read_to_string(request.path()).unwrap(),
        format!(
            r#"{{"version":1,"believe":{{"branch":{branch},"key":"fs.ext4.basic.punch","confidence":99}}}}"#
        )
    );
    let fix = r#"{"state":"unproven","passes":2,"needed":3,"failed":2,"runs":2}"#;
    for (commit, state, begun, more) in [
        (four, "running", 3, ""),
        (two, "not_fixed", 2, r#","failed_run":7,"reason":"lost 3 files","requested_by":"kmo""#),
        (one, "fixed", 1, ""),
    ] {
        let test: model::ResultKey = "fs.ext4.basic.punch".parse().unwrap();
        let id = results::claims::id(&test, commit);
        let record = format!(
            r#"{{"id":"{id}","test":"{test}","branch":{branch},"commit":"{commit}","begun":{begun},"confidence":95,"state":"{state}","fix":{fix},"runs":7{more}}}"#
        );
        results::claims::write(dir.path(), &id, &record).unwrap();
    }
    assert_snapshot!(run(&dir, "believe"), @r"
    b5e2a390b3a4-2f620148  running    fs.ext4.basic.punch  kmo/next  2 of 3 runs                               the farm
    c2de0ed96e37-2f620148  not fixed  fs.ext4.basic.punch  kmo/next  not fixed: failed in run 7: lost 3 files  by kmo
    61254269674c-2f620148  fixed      fs.ext4.basic.punch  kmo/next  fixed: 2 passes, 95 % confidence          the farm
    ");
    let json: serde_json::Value = serde_json::from_str(&run(&dir, "believe --json")).unwrap();
    assert_eq!(json[0]["fix"]["needed"], 3);
}
