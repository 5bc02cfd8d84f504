//! Invalid files in `users_dir`: each disables only its user, and is reported with its line.

#![expect(clippy::unwrap_used, reason = "a test reports errors by failing")]

use std::path::Path;

use spawn::Exit;

use super::support::{Daemon, Farm, until};

/// The name of an invalid file, its content, and what the message contains after the path.
fn odd_files() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let branch = |more: &str| format!("[branch.b]\nremote = \"/nowhere\"\ntest_groups = [\"g\"]\n{more}\n");
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("unknown-key.toml", text("\ncolour = 1\n"), ":2: "),
        ("unknown-branch-key.toml", branch("colour = 1").into_bytes(), ":4: "),
        ("unknown-group-key.toml", text("[test_group.q]\ntests = [\"t/one.ktest\"]\ncolour = 1\n"), ":3: "),
        ("main-key.toml", text("output_dir = \"/etc\"\n"), ":1: "),
        ("wrong-type.toml", text("[test_group.q]\ntests = 7\n"), ":2: "),
        ("wrong-section.toml", text("branch = [1, 2]\n"), ":1: "),
        ("duplicate-key.toml", branch("ref = \"a\"\nref = \"b\"").into_bytes(), ":5: "),
        ("group-twice.toml", text("[test_group.q]\ntests = []\n[test_group.q]\ntests = []\n"), ":3: "),
        ("both-names.toml", text("[branch]\n[branches]\n"), ":2: "),
        ("no-remote.toml", text("[branch.b]\ntest_groups = [\"g\"]\n"), ":1: "),
        ("no-such-group.toml", text("[branch.b]\nremote = \"/x\"\ntest_groups = [\"zzz\"]\n"), ":3: "),
        ("bad-test.toml", text("[test_group.q]\ntests = [\"../../etc/[*.ktest\"]\n"), ":2: "),
        ("bad-ref.toml", branch("ref = \"a..b\"").into_bytes(), ":4: "),
        ("bad-branch.toml", text("[branch.\"a b\"]\nremote = \"/x\"\ntest_groups = [\"g\"]\n"), ":1: "),
        ("huge-number.toml", branch("max_commits = 99999999999999999999").into_bytes(), ":4: "),
        ("syntax.toml", text("[branch\n"), ":1: "),
        ("bytes.toml", b"\n# a\xff\xfe\n[branch.b]\n".to_vec(), ":2: "),
        ("nul.toml", b"a = 1\0\n".to_vec(), ":1: "),
        ("sixteen.toml", b"\xff\xfe[\0b\0]\0".to_vec(), ":1: "),
        ("huge.toml", [b"# ".as_slice(), &vec![b'x'; 20 << 20]].concat(), ": "),
        ("deep.toml", format!("a = {}", "[".repeat(100_000)).into_bytes(), ":1: "),
        ("nested.json5", "[".repeat(100_000).into_bytes(), ""),
        ("open.json5", text("{\n  branch: {\n"), ":"),
        ("twice.json5", text("{\n  branch: {},\n  branch: {}\n}"), ":"),
        ("list.json5", text("[]"), ":"),
        // A half-written file, or one on a full disk.
        ("empty.toml", text(""), ": the file is empty"),
        ("bad name.toml", text(""), ""),
        ("-x.toml", text(""), ""),
    ]
}

/// Files without problems.
const VALID: [(&str, &[u8]); 3] = [
    ("comment.toml", b"# nothing yet\n"),
    ("bom.toml", b"\xef\xbb\xbf# with a byte order mark\r\n"),
    ("README", b"not a configuration"),
];

fn write(farm: &Farm, name: &str, content: &[u8]) {
    let users = farm.path("users");
    std::fs::create_dir_all(&users).unwrap();
    std::fs::write(users.join(name), content).unwrap();
}

fn farm() -> Farm {
    let farm = Farm::new();
    let users = "users_dir = \"users\"\n[users]\nallow_remotes = [\"/*\"]\n";
    farm.configure(&farm.config(users));
    let amy =
        format!("[branch.mine]\nremote = {:?}\nref = \"amy\"\ntest_groups = [\"g\"]\n", farm.repo.url());
    write(&farm, "amy.toml", amy.as_bytes());
    farm
}

fn names_all(problems: &[String], users: &Path) {
    for (name, _, place) in odd_files() {
        let wanted = format!("{}{place}", users.join(name).display());
        let path = format!("{}:", users.join(name).display());
        let found = problems.iter().find(|problem| problem.contains(&path)).map_or("", String::as_str);
        assert!(found.contains(&wanted), "{name}: {found:?}, not {wanted}: {problems:#?}");
        assert!(found.len() < 600 && !found.contains(|c: char| c.is_control()), "{found}");
    }
    for (name, _) in VALID {
        assert!(
            !problems.iter().any(|problem| problem.contains(&format!("/{name}"))),
            "{name}: {problems:#?}"
        );
    }
}

#[test]
fn an_invalid_users_file_disables_only_that_user() {
    let farm = farm();
    for (name, content, _) in odd_files() {
        write(&farm, name, &content);
    }
    for (name, content) in VALID {
        write(&farm, name, content);
    }
    std::fs::create_dir(farm.path("users/folder.toml")).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", farm.path("users/link.toml")).unwrap();
    let main = farm.commit("of the main file", "");
    farm.repo.switch("amy");
    let amy = farm.commit("of amy", "");
    let daemon: Daemon = farm.start(&[]);
    until("both are tested", || farm.tally(&main) == "5 Passed" && farm.tally(&amy) == "5 Passed");
    let problems = farm.snapshot().problems;
    names_all(&problems, &farm.path("users"));
    for name in ["folder.toml", "link.toml"] {
        assert!(problems.iter().any(|problem| problem.contains(name)), "{name}: {problems:#?}");
    }
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.wait(), Exit::Code(0));
}

#[test]
fn a_file_that_becomes_invalid_keeps_the_results_of_its_user() {
    let farm = farm();
    farm.commit("of the main file", "");
    farm.repo.switch("amy");
    let amy = farm.commit("of amy", "");
    let daemon = farm.start(&[]);
    until("it is tested", || farm.tally(&amy) == "5 Passed");
    write(&farm, "amy.toml", b"[branch.mine]\ncolour = 1\n");
    daemon.signal(rustix::process::Signal::USR1);
    until("the problem is shown", || {
        farm.snapshot().problems.iter().any(|problem| problem.contains("amy.toml:2: "))
    });
    farm.repo.switch("master");
    let main = farm.commit("a push", "");
    daemon.signal(rustix::process::Signal::USR1);
    until("the other branch is tested", || farm.tally(&main) == "5 Passed");
    assert_eq!(farm.tally(&amy), "5 Passed");
    let listed = farm.reader().users().unwrap();
    assert!(format!("{listed:?}").contains("mine"), "{listed:?}");
    daemon.signal(rustix::process::Signal::TERM);
    assert_eq!(daemon.wait(), Exit::Code(0));
}
