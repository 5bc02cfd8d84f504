//! The failures of a run, printed at its end: the last lines of the log, its path, and the command that repeats the subtest.

use std::fmt::{self, Write as _};
use std::path::Path;

use model::Status;
use model::marker::Marker;
use model::run_order::AGAIN;

use super::record::{Record, SubtestRecord, end_of};

/// The maximum number of failures that are printed.
const FAILURES_MAX: usize = 5;
/// The number of lines of each log.
const LINES: usize = 8;
/// The beginning of a line that the run added to a log, after the time stamp.
const NOTE: &str = "ktest: ";

/// Displays the failures of a run; `out` is its output directory as the user gave it.
pub(crate) struct Failures<'a> {
    pub(crate) record: &'a Record,
    pub(crate) out: &'a Path,
}

impl fmt::Display for Failures<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = |subtest: &&SubtestRecord| subtest.verdict.status() == Status::Failed;
        let failed: Vec<&SubtestRecord> = self.record.subtests.iter().filter(failed).collect();
        // In a repeated run, a log is that of the last attempt.
        let mut shown: Vec<&SubtestRecord> = Vec::new();
        for subtest in failed.iter().rev() {
            if shown.iter().all(|other| other.subtest != subtest.subtest) {
                shown.push(subtest);
            }
        }
        shown.reverse();
        let style = super::verdict_style(Status::Failed);
        for subtest in shown.iter().take(FAILURES_MAX) {
            let log = subtest.dir.join("log");
            let text = end_of(&self.record.out, &log).unwrap_or_default();
            writeln!(f, "\n{style}{}{style:#}: {}", subtest.subtest, subtest.verdict.reason().unwrap_or(""))?;
            f.write_str(&last_lines(&text))?;
            writeln!(f, "  log:   {}", self.out.join(&log).display())?;
            if let Some(command) = command(&text) {
                writeln!(f, "  again: {command}")?;
            }
        }
        let more = shown.len().saturating_sub(FAILURES_MAX);
        if more > 0 { writeln!(f, "\nand {more} more failures") } else { Ok(()) }
    }
}

/// A line without the time stamp of the run.
fn content(line: &str) -> &str {
    line.split_once(' ')
        .filter(|(stamp, _)| stamp.bytes().all(|b| b.is_ascii_digit()))
        .map_or(line, |(_, text)| text)
}

/// The last lines that the guest printed, indented.
fn last_lines(log: &str) -> String {
    let printed = log.lines().filter(|line| {
        let text = content(line);
        !text.trim().is_empty() && !text.starts_with(NOTE) && Marker::parse(line).is_none()
    });
    let lines: Vec<&str> = printed.collect();
    let mut out = String::new();
    for line in &lines[lines.len().saturating_sub(LINES)..] {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "    {}", stdio::terminal::line(&line.replace('\t', "    ")));
    }
    out
}

/// The command that repeats the subtest.
fn command(log: &str) -> Option<String> {
    // The run adds its note after the output of the guest, which therefore cannot replace it.
    let mut notes = log
        .lines()
        .filter_map(|line| content(line).strip_prefix(NOTE)?.strip_prefix(AGAIN)?.strip_prefix(": "));
    notes.next_back().map(stdio::terminal::line)
}

#[cfg(test)]
mod tests {
    use model::{Event, Verdict};

    use super::*;

    #[test]
    fn the_end_of_a_log_without_notes() {
        let lines: String = (0..20).map(|n| format!("{n:05} line {n}\n")).collect();
        let log = format!(
            "{lines}00021 \u{1b}[2Jred\n00021 ktest: to run it again: ktest run -k /l x.ktest a\n00022 ========= FAILED a in 1s\n"
        );
        let last = last_lines(&log);
        assert_eq!(last.lines().count(), LINES);
        assert!(last.starts_with("    00013 line 13\n"), "{last}");
        assert!(last.ends_with("    00021 \u{fffd}[2Jred\n"), "{last}");
        assert_eq!(command(&log).unwrap(), "ktest run -k /l x.ktest a");
        assert_eq!(command("ktest: other\n"), None);
    }

    #[test]
    fn each_failure_has_its_log_and_command() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Record { out: dir.path().into(), ..Record::default() };
        for (name, verdict) in [("a", Some("files differ")), ("b", None), ("a", Some("files differ again"))] {
            let verdict = match verdict {
                Some(reason) => Verdict::Failed { reason: reason.into() },
                None => Verdict::Passed,
            };
            let place = format!("out/fs.x.{name}");
            std::fs::create_dir_all(dir.path().join(&place)).unwrap();
            std::fs::write(
                dir.path().join(&place).join("log"),
                "00001 ========= TEST   a\n00002 diff\n00002 ktest: to run it again: ktest run x.ktest a\n00003 ========= FAILED a in 3s\n",
            )
            .unwrap();
            record.event(&Event::Verdict {
                subtest: name.parse().unwrap(),
                verdict,
                duration_ms: 1,
                crash: None,
                source: None,
                dir: place.into(),
                conditions: model::Conditions::default(),
            });
        }
        let text = Failures { record: &record, out: Path::new("ktest-out") }.to_string();
        let style = super::super::verdict_style(Status::Failed);
        let text = text.replace(&style.to_string(), "").replace(&format!("{style:#}"), "");
        insta::assert_snapshot!(text, @r"
        a: files differ again
            00002 diff
          log:   ktest-out/out/fs.x.a/log
          again: ktest run x.ktest a
        ");
    }
}
