//! Marker lines (docs/contract.md): lines in which a test file reports to the runner on the console, and the last line
//! of a status file.
//!
//! The parser takes one line without its newline. A printk time stamp or a `/dev/kmsg` prefix may precede the marker,
//! and the unfinished output of a test may precede the stamp.

use std::fmt;
use std::time::Duration;

use crate::names::SubtestName;
use crate::verdict::{Status, Verdict};

const RULE: &str = "========= ";

/// A line of the protocol between a test file and the runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marker {
    /// `========= TEST   NAME`
    Start(SubtestName),
    /// `========= PASSED NAME in Ns`
    Passed(SubtestName),
    /// `========= FAILED NAME in Ns`
    Failed(SubtestName),
    /// `========= NOTRUN NAME in Ns: REASON`
    NotRun(SubtestName, String),
    /// `WATCHDOG N`: the time limit of the running subtest is now N seconds from now.
    Watchdog(Duration),
    /// `QEMU_MONITOR COMMAND`, unchecked.
    Monitor(String),
    /// `EXPECTED_REBOOT`: the next reset of the VM belongs to the running subtest.
    ExpectedReboot,
    /// `TEST SUCCESS`: the test file ended with success.
    Success,
    /// `TEST FAILED`: the test file ended with a failure.
    Failure,
}

impl Marker {
    /// The marker in a console line, if it has one. The line may have printk stamps, preceded by the output of a
    /// program that did not finish its line.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        Self::parse_text(crash::line::split(line).text)
    }

    /// The marker in a message without stamps.
    #[must_use]
    pub fn parse_text(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some(text) = text.strip_prefix(RULE) {
            return Self::parse_ruled(text);
        }
        if let Some(seconds) = text.strip_prefix("WATCHDOG ") {
            return seconds.trim().parse().ok().map(|s| Self::Watchdog(Duration::from_secs(s)));
        }
        if let Some(command) = text.strip_prefix("QEMU_MONITOR ") {
            return Some(Self::Monitor(command.trim().into()));
        }
        match text {
            "EXPECTED_REBOOT" => Some(Self::ExpectedReboot),
            "TEST SUCCESS" => Some(Self::Success),
            "TEST FAILED" => Some(Self::Failure),
            _ => None,
        }
    }

    /// Whether it starts a subtest or gives its verdict.
    #[must_use]
    pub fn is_verdict_or_start(&self) -> bool {
        matches!(self, Self::Start(_) | Self::Passed(_) | Self::Failed(_) | Self::NotRun(..))
    }

    fn parse_ruled(text: &str) -> Option<Self> {
        let (word, rest) = text.split_once(' ')?;
        let rest = rest.trim_start();
        let (name, tail) = rest.split_once(' ').unwrap_or((rest, ""));
        let name: SubtestName = name.parse().ok()?;
        match word {
            "TEST" => Some(Self::Start(name)),
            "PASSED" => Some(Self::Passed(name)),
            "FAILED" => Some(Self::Failed(name)),
            "NOTRUN" => {
                let reason = tail.split_once(':').map_or("", |(_, reason)| reason.trim());
                Some(Self::NotRun(name, reason.into()))
            }
            _ => None,
        }
    }
}

/// The status line of a verdict, the last line of `status` files and logs: `========= PASSED NAME in Ns`.
#[derive(Debug, Clone, Copy)]
pub struct StatusLine<'a> {
    /// The subtest.
    pub subtest: &'a SubtestName,
    /// Its verdict.
    pub verdict: &'a Verdict,
    /// Its duration, printed in whole seconds.
    pub duration: Duration,
}

impl fmt::Display for StatusLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, seconds) = (self.subtest, self.duration.as_secs());
        match self.verdict {
            Verdict::Passed => write!(f, "{RULE}PASSED {name} in {seconds}s"),
            Verdict::Failed { .. } => write!(f, "{RULE}FAILED {name} in {seconds}s"),
            Verdict::NotRun { reason } => write!(f, "{RULE}NOTRUN {name} in {seconds}s: {reason}"),
            Verdict::FailedToRun { .. } => f.write_str("FAILED TO RUN"),
        }
    }
}

/// The status in a `status` file, written by this system or by the existing one.
#[must_use]
pub fn status_of_file(text: &str) -> Status {
    let line = text.trim_end().lines().next_back().unwrap_or("").trim();
    match Marker::parse(line) {
        Some(Marker::Passed(_)) => return Status::Passed,
        Some(Marker::Failed(_) | Marker::Failure) => return Status::Failed,
        Some(Marker::NotRun(..)) => return Status::NotRun,
        _ => {}
    }
    let text = crash::line::split(line).text;
    match text.strip_prefix(RULE).unwrap_or(text).trim() {
        "IN PROGRESS" => Status::InProgress,
        "FAILED TO RUN" | "NOT STARTED" => Status::FailedToRun,
        _ => Status::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_contract() {
        let name = |text: &str| text.parse::<SubtestName>().unwrap();
        for (line, marker) in [
            ("========= TEST   punch", Some(Marker::Start(name("punch")))),
            ("[   12.345678] ========= TEST   generic/001", Some(Marker::Start(name("generic/001")))),
            ("<6>[    1.2][  T77] ========= PASSED a in 3s", Some(Marker::Passed(name("a")))),
            ("========= FAILED a in 3s\r", Some(Marker::Failed(name("a")))),
            (
                "========= NOTRUN a in 0s: no mkfs: xfs",
                Some(Marker::NotRun(name("a"), "no mkfs: xfs".into())),
            ),
            ("========= NOTRUN a", Some(Marker::NotRun(name("a"), String::new()))),
            ("WATCHDOG 90", Some(Marker::Watchdog(Duration::from_secs(90)))),
            ("[    5.1] WATCHDOG 90", Some(Marker::Watchdog(Duration::from_secs(90)))),
            ("WATCHDOG never", None),
            ("QEMU_MONITOR device_del vd1", Some(Marker::Monitor("device_del vd1".into()))),
            ("EXPECTED_REBOOT", Some(Marker::ExpectedReboot)),
            ("EXPECTED_REBOOT soon", None),
            ("TEST SUCCESS", Some(Marker::Success)),
            ("[    9.9] TEST FAILED", Some(Marker::Failure)),
            ("the log says ========= PASSED a in 3s", None),
            ("========= PASSED", None),
            ("no newline[   12.345678] ========= PASSED a in 3s", Some(Marker::Passed(name("a")))),
            ("x[1.0] y[   12.345678][  T7] WATCHDOG 9", Some(Marker::Watchdog(Duration::from_secs(9)))),
            ("x[1.0] ========= PASSED a in 3s", None),
            ("[   12.345678] the log says ========= PASSED a in 3s", None),
            ("TEST SUCCESSFUL", None),
        ] {
            assert_eq!(Marker::parse(line), marker, "{line}");
        }
    }

    #[test]
    fn status_files_read_back() {
        let subtest = "a/b".parse().unwrap();
        for verdict in [
            Verdict::Passed,
            Verdict::Failed { reason: "x".into() },
            Verdict::NotRun { reason: "y".into() },
            Verdict::FailedToRun { reason: "z".into() },
        ] {
            let line =
                StatusLine { subtest: &subtest, verdict: &verdict, duration: Duration::from_millis(2900) };
            assert_eq!(status_of_file(&line.to_string()), verdict.status());
        }
        assert_eq!(status_of_file("IN PROGRESS\n"), Status::InProgress);
        assert_eq!(status_of_file("TEST FAILED\n"), Status::Failed);
        assert_eq!(status_of_file("========= NOT STARTED\n"), Status::FailedToRun);
        assert_eq!(status_of_file(""), Status::Unknown);
        assert_eq!(status_of_file("PASSED?"), Status::Unknown);
    }

    proptest::proptest! {
        #[test]
        fn no_line_panics(line in "\\PC{0,80}") {
            let _ = Marker::parse(&line);
            let _ = status_of_file(&line);
        }
    }
}
