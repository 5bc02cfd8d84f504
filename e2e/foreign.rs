//! `ci-status` over a dashboard that has nothing but what formats.md says, by HTTP and by HTTPS.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod plain;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use model::{StatusSnapshot, Verdict};
use plain::{Certificate, PlainDashboard};
use testkit::results_fixture::{ResultsFixture, TestResult, commit_id};

/// Results of which no more is known than the existing system writes down: statuses, whole seconds, logs.
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
    for commit in [one, two] {
        std::fs::remove_file(dir.path().join(format!("{commit}.capnp"))).unwrap();
    }
    dir
}

/// What is printed, on both streams, and the exit code.
fn said(home: &Path, authorities: Option<&Path>, place: &[&str], words: &str) -> (String, Option<i32>) {
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

#[test]
fn every_command_over_what_formats_md_says() {
    let dir = results();
    let dashboard = PlainDashboard::start(dir.path(), None);
    let home = tempfile::tempdir().unwrap();
    let (folder, remote) = (
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
        // JSON alone, which is what --user means, makes no difference here: there are no blobs.
        for (words, user) in [(words.clone(), None), (format!("{words} --json"), Some("--user=kmo"))] {
            let at = |place| [Some(place), user].into_iter().flatten().collect::<Vec<&str>>();
            let here = said(home.path(), None, &at(&folder), &words);
            let there = said(home.path(), None, &at(&remote), &words);
            assert_eq!(here, there, "ci-status {words}");
            assert!(!here.0.is_empty(), "{words}");
        }
    }
    assert!(said(home.path(), None, &[&remote], "workers").0.starts_with("ci-daemon does not run"));
    // It was asked as a branch's commit, as such dashboards have it.
    let commit = format!("/ci?user=kmo&branch=next%2Fext4&commit={}&format=json", commit_id("two"));
    assert!(dashboard.asked().contains(&commit), "{:?}", dashboard.asked());
}

/// Certificates by an authority of the test's own.
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

    /// A server with a certificate for these names that holds for so many days.
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
fn over_https_with_a_certificate_that_is_checked() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("SKIPPED: openssl is not installed");
        return;
    }
    let (dir, home, authority) = (results(), tempfile::tempdir().unwrap(), Authority::new());
    let names = "DNS:localhost,IP:127.0.0.1";
    // This one ends as it begins.
    let expired = authority.server(dir.path(), "expired", names, 0);
    let good = authority.server(dir.path(), "good", names, 1);
    let other = authority.server(dir.path(), "other", "DNS:ci.example.org", 1);
    // Certificates know whole seconds: the last one of `expired` is over after this.
    std::thread::sleep(Duration::from_millis(1100));
    let ask = |server: &PlainDashboard, authorities: &str, words: &str| {
        let remote = format!("--remote=https://127.0.0.1:{}", server.port);
        said(home.path(), Some(&authority.file(authorities)), &[&remote], words)
    };
    let folder = format!("--output-dir={}", dir.path().display());
    for words in ["branches", "log amy/next --json", "show amy/next", "logs amy/next punch"] {
        let here = said(home.path(), None, &[&folder], words);
        assert_eq!(ask(&good, "ca.pem", words), here, "{words}");
        assert_eq!(here.1, Some(0), "{words}");
    }
    for (server, authorities, why) in [
        (&good, "stranger.pem", "SSL_CERT_FILE"),
        (&expired, "ca.pem", "the certificate has expired"),
        (&other, "ca.pem", "ci.example.org; give the address"),
    ] {
        let (text, code) = ask(server, authorities, "branches");
        assert!(text.starts_with("ci-status: https://127.0.0.1:") && text.contains(why), "{text}");
        assert_eq!((text.lines().count(), code), (1, Some(1)), "{text}");
    }
    // Plain HTTP where TLS is spoken.
    let (text, code) =
        said(home.path(), None, &[&format!("--remote=http://127.0.0.1:{}", good.port)], "branches");
    assert!(text.starts_with("ci-status: http://") && code == Some(1), "{text}");
}
