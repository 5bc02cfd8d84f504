//! Tests on a corpus of real crash logs in the directory `$KTEST_CRASH_LOGS`. If it is not set, the tests print that
//! they are skipped.

#![expect(clippy::print_stderr, reason = "a test reports what it skips and measures")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

struct Case {
    name: String,
    title: Option<String>,
    doubtful: bool,
    log: String,
}

fn corpus() -> Vec<Case> {
    let Some(dir) = std::env::var_os("KTEST_CRASH_LOGS") else {
        eprintln!("skipped: KTEST_CRASH_LOGS=DIR is not set");
        return Vec::new();
    };
    std::fs::read_dir(dir).unwrap().map(|entry| read(&entry.unwrap().path())).collect()
}

fn read(path: &Path) -> Case {
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    let (head, log) = if text.starts_with('\n') {
        ("", text.as_str())
    } else {
        text.split_once("\n\n").unwrap_or((&text, ""))
    };
    let field =
        |key: &str| head.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim().to_owned());
    Case {
        name: path.file_name().unwrap().to_string_lossy().into_owned(),
        title: field("TITLE:"),
        doubtful: field("CORRUPTED:").is_some() || field("SUPPRESSED:").is_some(),
        log: log.split("\nREPORT:\n").next().unwrap_or("").to_owned(),
    }
}

#[test]
fn titles_are_exact_and_quiet_logs_have_none() {
    let (mut exact, mut all) = (0, 0);
    for case in corpus() {
        let found = crash::reports(&case.log).into_iter().next();
        match case.title {
            None => assert_eq!(found.map(|report| report.title), None, "{}", case.name),
            Some(title) if !case.doubtful => {
                all += 1;
                exact += usize::from(found.is_some_and(|report| report.title == title));
            }
            Some(_) => {}
        }
    }
    assert!(exact * 100 >= all * 97, "{exact} of {all}");
}

/// Titles of messages that are not printed by a kernel, or of a boot without a crash.
const NO_TROUBLE: [&str; 3] = ["SYZFAIL: ", "go runtime error", "unexpected kernel reboot"];

#[test]
fn every_log_with_a_kernel_title_has_trouble_and_quiet_logs_have_none() {
    for case in corpus() {
        let first = case.log.lines().find_map(crash::trouble);
        match case.title {
            None => assert_eq!(first, None, "{}", case.name),
            Some(title) if case.doubtful || NO_TROUBLE.iter().any(|start| title.starts_with(start)) => {}
            Some(title) => assert!(first.is_some(), "{}: {title}: no line is trouble", case.name),
        }
    }
}

#[test]
fn logs_cut_anywhere_cause_no_panic() {
    // The random sequence is fixed, so that failures are reproducible.
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = move |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % (limit as u64 + 1)).unwrap()
    };
    for case in corpus() {
        for _ in 0..4 {
            let (a, b) = (random(case.log.len()), random(case.log.len()));
            let bytes = &case.log.as_bytes()[a.min(b)..a.max(b)];
            let text = String::from_utf8_lossy(bytes);
            for report in crash::reports(&text) {
                assert!(!report.title.is_empty() && report.start_line <= report.end_line, "{}", case.name);
                assert!(report.end_line <= text.split('\n').count(), "{}", case.name);
            }
        }
    }
}
