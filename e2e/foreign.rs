//! `ci-status` with a dashboard that implements only docs/formats.md, over HTTP and HTTPS.

#![expect(clippy::unwrap_used, reason = "a test reports errors by failing")]

mod plain;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use model::{StatusSnapshot, Verdict};
use plain::{Certificate, PlainDashboard};
use testkit::results_fixture::{ResultsFixture, TestResult, commit_id};

/// Results with only the data that the existing system records: statuses, whole seconds, logs.
fn results() -> tempfile::TempDir {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let fixture = ResultsFixture::new(dir.path());
    let [new, two, one] = ["new", "two", "one"].map(commit_id);
    let listing =
        [(new, "not tested".into()), (two.clone(), "two\n\nFixes: 1".into()), (one.clone(), "one".into())];
    fixture.branch("kmo", "next/ext4", &listing);
    fixture.branch("amy", "next", &listing[1..]);
    let (punch, mount) = ("fs.ext4.basic.punch", "fs.ext4.basic.mount");
    let failed = Verdict::Failed { reason: String::new() };
    let log = "00001 start\n00002 kernel BUG at fs/ext4/inode.c:123!\n00003 end\n";
    fixture
        .test(TestResult::new(&one, punch, Verdict::Passed, 12_000).log("00001 fine\n"))
        .test(TestResult::new(&one, mount, Verdict::NotRun { reason: String::new() }, 0))
        .test(TestResult::new(&two, punch, failed, 3_000).log(log))
        .test(TestResult::new(&two, mount, Verdict::Passed, 1_000));
    fixture.full_log(&two, &[punch, mount], "00000 booting\n00001 start\n");
    fixture.snapshot(&StatusSnapshot { written: 1_700_000_000, ..StatusSnapshot::default() });
    fixture.finish();
    // The existing system has no database, and its blobs lack what ktest-ci records in addition.
    for file in [format!("{one}.capnp"), format!("{two}.capnp"), "results.db".into()] {
        std::fs::remove_file(dir.path().join(file)).unwrap();
    }
    dir
}

/// The output of both streams, and the exit code.
fn run(home: &Path, authorities: Option<&Path>, place: &[&str], words: &str) -> (String, Option<i32>) {
    let mut command = Command::new(cargo_bin("ci-status"));
    command.args(place).args(words.split(' ')).current_dir("/proc/1").stdin(Stdio::null());
    command.env_clear().env("HOME", home);
    if let Some(file) = authorities {
        command.env("SSL_CERT_FILE", file);
    }
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).unwrap(), output.status.code())
}

/// An output without what dashboards with only these views do not have: what each commit broke and fixed, and since when a test
/// fails.
fn without_history((text, code): &(String, Option<i32>)) -> (String, Option<i32>) {
    let is_change = |line: &&str| line.starts_with("    ▼ ") || line.starts_with("    ▲ ");
    let lines: String = text.split_inclusive('\n').filter(|line| !is_change(line)).collect();
    let parts: Vec<&str> = lines.split("\n\n").filter(|part| !part.contains("\n  fails on ")).collect();
    // `since` is the last field of a commit.
    let text = parts.join("\n\n");
    let text = text.split_once(",\"since\":").map(|(before, _)| format!("{before}}}\n")).unwrap_or(text);
    (text, *code)
}

#[test]
fn every_command_works_with_the_documented_formats() {
    let dir = results();
    let dashboard = PlainDashboard::start(dir.path(), None);
    let home = tempfile::tempdir().unwrap();
    let (directory, remote) = (
        format!("--output-dir={}", dir.path().display()),
        format!("--remote=http://127.0.0.1:{}/ci", dashboard.port),
    );
    let [new, two, one] = ["new", "two", "one"].map(|words| commit_id(words).short().to_owned());
    let commands = [
        "branches".into(),
        "log kmo/next".into(),
        "log next/ext4 -n 2 --test punch$".into(),
        "log nowhere".into(),
        format!("show {one}"),
        format!("show {two} --failed"),
        format!("show {new}"),
        "show amy/next".into(),
        "show amy/next --configuration default".into(),
        "show amy/next --configuration defauld".into(),
        "show ffffffff".into(),
        format!("logs {two} punch"),
        format!("logs {two} punch --full"),
        format!("logs {two} punch --follow"),
        format!("logs {two} mount --machine"),
        format!("logs {two} mount"),
        format!("artifacts {two} punch"),
        "history kmo/next/ext4 punch".into(),
        "history amy/next nothing".into(),
        format!("compare {one} {two}"),
        format!("wait {one}"),
        format!("wait {two}"),
        "watch amy/next --once".into(),
    ];
    for words in commands {
        // --user restricts ci-status to JSON views; without blobs, the output is the same.
        for (words, user) in [(words.clone(), None), (format!("{words} --json"), Some("--user=kmo"))] {
            let at = |place| [Some(place), user].into_iter().flatten().collect::<Vec<&str>>();
            let local = run(home.path(), None, &at(&directory), &words);
            let over_http = run(home.path(), None, &at(&remote), &words);
            assert_eq!(without_history(&local), over_http, "ci-status {words}");
            assert!(!local.0.is_empty(), "{words}");
        }
    }
    assert!(run(home.path(), None, &[&remote], "workers").0.starts_with("ci-daemon is not running"));
    // Such a dashboard ignores the parameter.
    let (text, code) = run(home.path(), None, &[&remote], "log kmo/next --configuration default");
    assert!(text.contains("cannot count the tests of a configuration") && code == Some(1), "{text}");
    // ci-status requests the commit as part of a branch.
    let commit = format!("/ci?user=kmo&branch=next%2Fext4&commit={}&format=json", commit_id("two"));
    assert!(dashboard.requests().contains(&commit), "{:?}", dashboard.requests());
}

/// A certificate authority for the test.
struct Authority {
    dir: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let this = Self { dir: tempfile::tempdir().unwrap() };
        for name in ["ca", "stranger"] {
            this.openssl(&format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.pem \
                 -subj /CN={name} -days 2 -addext basicConstraints=critical,CA:TRUE"
            ));
        }
        this
    }

    fn openssl(&self, words: &str) {
        let output =
            Command::new("openssl").args(words.split_whitespace()).current_dir(self.dir.path()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A server with a certificate for these names, valid for `days`.
    fn server(&self, results: &Path, name: &str, names: &str, days: u32) -> PlainDashboard {
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name} \
             -addext subjectAltName={names}"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -copy_extensions copy -days {days} \
             -out {name}.pem"
        ));
        let (chain, key) = (self.file(&format!("{name}.pem")), self.file(&format!("{name}.key")));
        PlainDashboard::start(results, Some(Certificate { chain: &chain, key: &key }))
    }
}

#[test]
fn https_certificates_are_verified() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("SKIPPED: openssl is not installed");
        return;
    }
    let (dir, home, authority) = (results(), tempfile::tempdir().unwrap(), Authority::new());
    let names = "DNS:localhost,IP:127.0.0.1";
    // Expires immediately.
    let expired = authority.server(dir.path(), "expired", names, 0);
    let good = authority.server(dir.path(), "good", names, 1);
    let other = authority.server(dir.path(), "other", "DNS:ci.example.org", 1);
    // The times in certificates have a resolution of one second.
    std::thread::sleep(Duration::from_millis(1100));
    let ask = |server: &PlainDashboard, authorities: &str, words: &str| {
        let remote = format!("--remote=https://127.0.0.1:{}", server.port);
        run(home.path(), Some(&authority.file(authorities)), &[&remote], words)
    };
    let directory = format!("--output-dir={}", dir.path().display());
    for words in ["branches", "log amy/next --json", "show amy/next", "logs amy/next punch"] {
        let local = run(home.path(), None, &[&directory], words);
        assert_eq!(ask(&good, "ca.pem", words), without_history(&local), "{words}");
        assert_eq!(local.1, Some(0), "{words}");
    }
    for (server, authorities, reason) in [
        (&good, "stranger.pem", "SSL_CERT_FILE"),
        (&expired, "ca.pem", "the certificate has expired"),
        (&other, "ca.pem", "ci.example.org; use the address"),
    ] {
        let (text, code) = ask(server, authorities, "branches");
        assert!(text.starts_with("ci-status: https://127.0.0.1:") && text.contains(reason), "{text}");
        assert_eq!((text.lines().count(), code), (1, Some(1)), "{text}");
    }
    // Plain HTTP to a TLS port.
    let (text, code) =
        run(home.path(), None, &[&format!("--remote=http://127.0.0.1:{}", good.port)], "branches");
    assert!(text.starts_with("ci-status: http://") && code == Some(1), "{text}");
}

/// The directories are there when the command ends: a web server may read them before a daemon runs.
#[test]
fn an_import_writes_the_directories_of_commits_that_have_only_blobs() {
    let dir = tempfile::tempdir().unwrap();
    let (out, users) = (dir.path().join("out"), dir.path().join("users"));
    for made in [&out, &users] {
        std::fs::create_dir(made).unwrap();
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/results/tests/golden");
    // The commits of the listing.
    let commits = ["0123456789abcdef0123456789abcdef01234567", "76543210fedcba9876543210fedcba9876543210"];
    for commit in commits {
        std::fs::copy(golden.join("commit.bin"), out.join(format!("{commit}.capnp"))).unwrap();
    }
    std::fs::copy(golden.join("branch.bin"), out.join("branch.kmo.bcachefs-testing.capnp")).unwrap();
    let config = format!(
        "output_dir = {out:?}\nlinux_repo = {dir:?}\nktest_dir = {dir:?}\nusers_dir = {users:?}\n",
        dir = dir.path()
    );
    std::fs::write(dir.path().join("ci.toml"), config).unwrap();
    let import = Command::new(cargo_bin("ci-daemon"))
        .args(["import", "--config"])
        .arg(dir.path().join("ci.toml"))
        .output()
        .unwrap();
    assert!(import.status.success(), "{}", String::from_utf8_lossy(&import.stderr));
    let tests = |commit: &str| out.join(commit).read_dir().unwrap().count();
    assert_eq!(commits.map(tests), [6, 6]);
}
