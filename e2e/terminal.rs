//! `ci-status` on a pseudo-terminal (script of util-linux): colors, pager, live view.

#![expect(clippy::print_stderr, reason = "a test reports what it skips and measures")]
#![expect(clippy::unwrap_used, reason = "a test reports errors by failing")]

#[path = "../crates/ci-status/tests/common/mod.rs"]
mod common;

use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use assert_cmd::cargo::cargo_bin;

/// Keys to type after a text has appeared.
struct Keystrokes<'a> {
    after: &'a str,
    keys: &'a str,
}

/// The output of a `ci-status` command on a terminal with 70 columns and `rows` rows, and its exit code.
fn on_terminal(
    results: &Path,
    rows: u16,
    variables: &[(&str, &str)],
    words: &str,
    typed: Option<Keystrokes<'_>>,
) -> (String, Option<i32>) {
    let line = format!("stty cols 70 rows {rows} && exec {} {words}", cargo_bin("ci-status").display());
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]).current_dir("/proc/1");
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", results).env("TERM", "xterm");
    command.env("KTEST_CI_OUTPUT_DIR", results).envs(variables.iter().copied());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // The terminal must stay open while the command runs.
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (mut seen, mut buffer, mut typed) = (Vec::new(), [0; 4096], typed);
    loop {
        match stdout.read(&mut buffer).unwrap() {
            0 => break,
            count => seen.extend_from_slice(&buffer[..count]),
        }
        let appeared = |typed: &mut Keystrokes<'_>| String::from_utf8_lossy(&seen).contains(typed.after);
        if let Some(typed) = typed.take_if(appeared) {
            stdin.write_all(typed.keys.as_bytes()).unwrap();
        }
    }
    let code = child.wait().unwrap().code();
    drop(stdin);
    (String::from_utf8_lossy(&seen).into_owned(), code)
}

/// Whether script is installed.
fn terminals() -> bool {
    let there = Command::new("script").arg("--version").output().is_ok();
    if !there {
        eprintln!("SKIPPED: script is not installed");
    }
    there
}

#[test]
fn colors_and_pager_require_a_terminal() {
    if !terminals() {
        return;
    }
    let dir = common::results();
    let on = |rows, variables: &[(&str, &str)], words| on_terminal(dir.path(), rows, variables, words, None);
    let (text, code) = on(20, &[], "log kmo/next");
    assert!(text.contains("\u{1b}[33mb5e2a390b3a4") && code == Some(0), "{text:?}");
    assert!(!on(20, &[("NO_COLOR", "1")], "log kmo/next").0.contains('\u{1b}'));
    // Output that does not fit is shown in the pager.
    let pager = dir.path().join("pager");
    std::fs::write(&pager, "#!/bin/sh\necho \"paged $1: $(wc -l) lines, LESS=$LESS\"\n").unwrap();
    std::fs::set_permissions(&pager, Permissions::from_mode(0o755)).unwrap();
    let pager = format!("{} -x", pager.display());
    let paged = |rows, words| on(rows, &[("PAGER", &pager)], words);
    assert!(!paged(20, "log kmo/next").0.contains("paged"));
    assert_eq!(paged(5, "log kmo/next"), ("paged -x: 8 lines, LESS=-RX\r\n".into(), Some(0)));
    assert!(!paged(5, "log kmo/next --no-pager").0.contains("paged"));
    assert!(!paged(5, "log kmo/next --json").0.contains("paged"));
    // Without the pager, the output is printed.
    let (text, code) = on(5, &[("PAGER", "/nonexistent/less")], "log kmo/next");
    assert_eq!((text.lines().count(), code), (8, Some(0)), "{text:?}");
}

#[test]
fn a_live_view_restores_the_terminal() {
    if !terminals() {
        return;
    }
    let dir = common::results();
    for (keys, variables) in [("q", &[][..]), ("\u{3}", &[("NO_COLOR", "1")][..])] {
        let typed = Keystrokes { after: "\u{1b}[?2026l", keys };
        let (text, code) = on_terminal(dir.path(), 6, variables, "watch kmo/next", Some(typed));
        let shown = text.split_once("\u{1b}[?1049h").and_then(|(_, rest)| rest.split_once("\u{1b}[?1049l"));
        let (shown, _) = shown.unwrap_or_else(|| panic!("{text:?}"));
        // A frame that fits the terminal, with colors only if enabled.
        let frame = shown.split("\u{1b}[?2026l").next().unwrap();
        assert!(frame.contains("kmo/next") && frame.contains("b5e2a390b3a4"), "{frame:?}");
        assert_eq!(frame.matches("\r\n").count(), 5, "{frame:?}");
        assert_eq!(frame.contains("\u{1b}[33m"), variables.is_empty(), "{frame:?}");
        assert!(text.contains("\u{1b}[?25h") && code == Some(0), "{code:?} {text:?}");
    }
}
