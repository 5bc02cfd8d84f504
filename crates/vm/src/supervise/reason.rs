//! Finds the console line that explains a failure.

use crash::line::split;

use crate::console::CappedLog;

/// The number of last lines that are searched for the reason of a failure.
const SEARCHED_LINES: usize = 200;
/// The maximum length of the reason of a failed subtest, in characters.
const FAILURE_CHARS: usize = 300;
/// The maximum length of the reason of a failed `init`, in characters.
const INIT_CHARS: usize = 400;

/// The reason of a subtest that printed FAILED: the last `FILE:LINE: failed ...` of the shell library, or the first line
/// of the trap of another library, or what precedes it if the subtest ended on purpose, or else the last line that was not
/// printed by the kernel.
pub(super) fn failure(log: &CappedLog) -> String {
    let lines: Vec<String> = log.lines_reversed().take(SEARCHED_LINES).collect();
    let library = lines.iter().map(|line| split(line).text.trim()).find(|text| {
        text.split_once(": failed")
            .is_some_and(|(position, _)| position.contains(".ktest:") && !position.contains(' '))
    });
    let program = || {
        let mut texts = lines.iter().map(|line| program_text(line).trim());
        texts.find(|text| !text.is_empty() && !text.starts_with("=========")).map(str::to_owned)
    };
    let reason = library.map(str::to_owned).or_else(|| trapped(log)).or_else(program);
    let reason = reason.unwrap_or_else(|| "the subtest printed FAILED without a reason".into());
    reason.chars().take(FAILURE_CHARS).collect()
}

/// The reason of a failure that a trap reported: its first line, or, if this names no command that failed but the end of
/// the subtest, the message before it.
fn trapped(log: &CappedLog) -> Option<String> {
    let (mut first, mut named, mut last, mut searched) = (None, None, None, 0);
    for line in log.lines_reversed() {
        let text = program_text(&line).trim_end();
        if let Some(trap) = trap(&line) {
            (first, named, last, searched) = (Some(trap.to_owned()), None, None, 0);
        } else if first.is_some() && searched < SEARCHED_LINES {
            searched += 1;
            if named.is_none()
                && ["FAILED", "FAIL:", "ERROR", "TEST FAILED"].iter().any(|word| text.starts_with(word))
            {
                named = Some(text.to_owned());
            }
            // What a program printed is indented below the message.
            let is_message = !text.is_empty() && !text.starts_with([' ', '\t', '=']) && text != "output was:";
            if last.is_none() && is_message {
                last = Some(text.to_owned());
            }
        }
    }
    let first = first?;
    let message = if ends_on_purpose(&first) { named.or(last) } else { None };
    Some(message.unwrap_or(first))
}

/// Whether the command of a trap's line ends a subtest after a message: `return 1`, or the library's call of the subtest in
/// which an `exit` was reached.
fn ends_on_purpose(trap: &str) -> bool {
    let command =
        trap.split_once(" from: ").map_or("", |(_, command)| command.trim_end_matches(", exiting").trim());
    let mut words = command.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some("return" | "exit"), Some(status), None) => status.bytes().all(|byte| byte.is_ascii_digit()),
        (Some("return" | "exit"), None, _) => true,
        _ => command.starts_with("( set -e; run_test "),
    }
}

/// The message `Error N at FILE LINE from: COMMAND` in a console line. The trap of the existing library prints one in each
/// shell that ends because of an error; the first is that of the command which failed.
pub(super) fn trap(line: &str) -> Option<&str> {
    let text = program_text(line);
    let text = text[text.find("Error ")?..].trim();
    let (status, rest) = text.strip_prefix("Error ")?.split_once(" at ")?;
    let (place, _command) = rest.split_once(" from: ")?;
    let (_file, line) = place.rsplit_once(' ')?;
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (number(status) && number(line)).then_some(text)
}

/// The part of a console line that was not printed by the kernel.
fn program_text(line: &str) -> &str {
    let line = split(line);
    if line.is_kernel() { line.before } else { line.text }
}

/// The reason of a failed `init`: the message of the test file if there is one, or else the `message` of the guest, which
/// contains the file and its exit code.
pub(super) fn init_failure(message: &str, file_message: Option<&str>) -> String {
    let path = message.split(" init failed").next().unwrap_or_default();
    let file = path.rsplit('/').next().unwrap_or(path);
    let own = |text: &&str| !file.is_empty() && (text.contains(&format!("{file}:")) || trap(text).is_some());
    match file_message.filter(own) {
        Some(text) => format!("init failed: {}", text.chars().take(INIT_CHARS).collect::<String>()),
        None => message.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: &[&str]) -> CappedLog {
        let mut log = CappedLog::new(1 << 20);
        lines.iter().for_each(|line| log.line(&format!("00012 {line}")));
        log
    }

    #[test]
    fn a_message_far_before_the_trap_is_not_the_reason() {
        let trap = "Error 1 at /host/t/tests/fs/mine.ktest 10 from: return 1, exiting";
        for (between, reason) in [(SEARCHED_LINES - 1, "FAILED: it"), (SEARCHED_LINES, trap)] {
            let output = vec![" output of a program"; between];
            let lines: Vec<&str> = ["FAILED: it"].into_iter().chain(output).chain([trap]).collect();
            assert_eq!(failure(&log(&lines)), reason, "{between} lines");
        }
    }

    #[test]
    fn the_first_trap_is_that_of_the_command_which_failed() {
        let inner = "Error 32 at /host/t/tests/fs/mine.ktest 10 from: mount /dev/vdb /mnt, exiting";
        let outer = "Error 1 at /host/t/tests/prelude.sh 843 from: ( set -e; run_test $i ), exiting";
        let many = vec!["more output"; 2 * SEARCHED_LINES];
        let with_output: Vec<&str> = [inner].into_iter().chain(many).chain([outer]).collect();
        for lines in
            [&[inner, outer][..], &["noise", inner, "umount: busy", outer, "last words"], &with_output]
        {
            assert_eq!(failure(&log(lines)), inner);
        }
        // A program may not have finished its line, and the kernel may write into it.
        let unfinished = format!("checking... {inner}");
        assert_eq!(failure(&log(&[&unfinished, outer])), inner);
        let interrupted = format!("{inner}[   12.000000] a message of the kernel");
        assert_eq!(failure(&log(&[&interrupted, outer])), inner);
    }

    #[test]
    fn a_subtest_that_ends_on_purpose_says_why() {
        let returned = "Error 1 at /host/t/tests/prelude.sh 814 from: return 1, exiting";
        let outer = "Error 1 at /host/t/tests/prelude.sh 843 from: ( set -e; run_test $i ), exiting";
        let message = "ERROR: no extent formed to corrupt";
        assert_eq!(failure(&log(&["noise", message, returned, outer])), message);
        let without_status = returned.replace("return 1", "return");
        assert_eq!(failure(&log(&["noise", message, &without_status, outer])), message);
        // `exit` runs no trap in the shell that it ends.
        let failed = "FAILED: 'x' present in output of 'list'";
        assert_eq!(
            failure(&log(&["noise", failed, "output was:", "\tx", "[    1.000000] kernel", outer])),
            failed
        );
        let mismatch = "Mismatch for /sys/fs/x: got 1, want 0";
        assert_eq!(failure(&log(&["========= TEST   a", mismatch, outer])), mismatch);
        // Without a message, and with a command that failed.
        assert_eq!(failure(&log(&["========= TEST   a", "", outer])), outer);
        let command = "Error 1 at /host/t/tests/a.ktest 5 from: return_code 1, exiting";
        assert_eq!(failure(&log(&["FAILED: earlier", command, outer])), command);
    }

    #[test]
    fn other_lines_are_no_traps() {
        for text in [
            "Error 5 at sector 8",
            "Error at /x 1 from: y",
            "Error x at /x 1 from: y",
            "Error 1 at /x from: y",
            "[   12.000000] Error 1 at /x 1 from: y",
        ] {
            assert_eq!(trap(text), None, "{text}");
        }
        assert_eq!(failure(&log(&["Error 5 at sector 8", "the last line"])), "the last line");
        for other in ["mount: failed (exit 3)", "see tests/a.ktest:4: failed (exit 1)"] {
            assert_eq!(failure(&log(&[other, "the last line"])), "the last line");
        }
        // A library with its own format takes precedence.
        let own = "tests/a.ktest:4: failed (exit 1): false";
        assert_eq!(failure(&log(&["Error 1 at /x 1 from: y", own])), own);
    }
}
