//! The forms of KTAP, old and new, complete and broken.

use ktap::{CaseResult, Problem, parse};

fn names(text: &str) -> Vec<String> {
    parse(text).flat().iter().map(|flat| flat.path.join("/")).collect()
}

#[test]
fn kunit_with_a_console_around_it() {
    let text = "\
[    0.060000][    T1] printk: console enabled
[    0.060000][    T1] KTAP version 1
[    0.060000][    T1] 1..2
[    0.060001][    T1]     KTAP version 1
[    0.060001][    T1]     # Subtest: time
[    0.060001][    T1]     1..3
[    0.060002][    T1]     ok 1 leap_year
[    0.060002][   T12] usb 1-1: new device
[    0.060003][    T1]     # century: EXPECTATION FAILED at kernel/time/time_test.c:30
[    0.060003][    T1]     Expected 2 == 3
[    0.060004][    T1]     not ok 2 century
[    0.060005][    T1]     ok 3 - zone # SKIP no zones here
[    0.060005][    T1] # time: pass:1 fail:1 skip:1 total:3
[    0.060005][    T1] not ok 1 time
[    0.060006][    T1]     # Subtest: params
[    0.060006][    T1]     1..1
[    0.060006][    T1]         # Subtest: square
[    0.060006][    T1]         ok 1 two
[    0.060006][    T1]         ok 2 three
[    0.060006][    T1]     ok 1 - square
[    0.060006][    T1] ok 2 params
[    0.070000][    T1] Run /init as init process
";
    let document = parse(text);
    assert_eq!(document.problems, []);
    assert_eq!(
        names(text),
        ["time/leap_year", "time/century", "time/zone", "params/square/two", "params/square/three"]
    );
    let flat = document.flat();
    assert_eq!(
        flat[1].case.reason().as_deref(),
        Some("century: EXPECTATION FAILED at kernel/time/time_test.c:30")
    );
    assert!(flat[1].case.diagnostics.contains(&"usb 1-1: new device".to_owned()));
    assert_eq!(flat[2].case.result, CaseResult::Skipped("no zones here".into()));
    assert!(document.failed());
}

#[test]
fn old_kselftest_output_nests_with_hashes() {
    let text = "\
TAP version 13
1..2
# selftests: timers: posix_timers
# TAP version 13
# 1..2
# # a note
# ok 1 set
# not ok 2 reset
# # Totals: pass:1 fail:1 xfail:0 xpass:0 skip:0 error:0
not ok 1 selftests: timers: posix_timers # exit=1
# selftests: timers: nanosleep
ok 2 selftests: timers: nanosleep # SKIP
";
    let document = parse(text);
    assert_eq!(document.problems, []);
    let first = &document.cases[0];
    assert_eq!(first.name, "selftests: timers: posix_timers");
    assert_eq!(first.result, CaseResult::Failed(Some("exit=1".into())));
    assert_eq!(first.cases[1].result, CaseResult::Failed(None));
    assert_eq!(document.cases[1].result, CaseResult::Skipped(String::new()));
}

#[test]
fn expected_failures_do_not_count() {
    let document = parse("KTAP version 1\n1..2\nnot ok 1 a # TODO soon\nnot ok 2 b # XFAIL known\n");
    assert!(!document.failed());
    assert_eq!(document.cases[0].result, CaseResult::ExpectedFailure("soon".into()));
}

#[test]
fn a_crash_cuts_off_the_open_cases() {
    let text = "TAP version 14\n1..2\n    # Subtest: a\n    1..3\n    ok 1 - x\n    # Subtest: b\n    1..1\n    ok 1 - y\nok 2 - b\n";
    let document = parse(text);
    assert_eq!(document.cases[0].result, CaseResult::NoResult);
    assert_eq!(document.cases[0].name, "a");
    assert_eq!(document.cases[1].result, CaseResult::Passed);
    assert_eq!(document.problems, [Problem::Plan { below: "a".into(), planned: 3, seen: 1 }]);
    assert_eq!(names(text), ["a", "a/x", "b/y"]);
}

#[test]
fn a_subtest_after_cases_without_a_name_is_a_group_of_its_own() {
    let text = "TAP version 14\n1..2\n    ok 1 - x\n    # Subtest: b\n    1..1\n    ok 1 - y\nok 2 - b\n";
    assert_eq!(names(text), ["test 1", "test 1/x", "b/y"]);
    assert_eq!(parse(text).cases[0].result, CaseResult::NoResult);
}

#[test]
fn each_document_numbers_its_cases() {
    let document = parse("TAP version 13\nok 1 a\nok 2 b\nTAP version 13\nok 1 c\n");
    assert_eq!((document.problems, document.cases.len()), (vec![], 3));
}

#[test]
fn the_largest_number_is_no_overflow() {
    let document = parse("TAP version 13\nok 18446744073709551615 a\nok 1 b\nok 2 c\n");
    assert_eq!((document.problems.len(), document.cases.len()), (3, 3));
}

#[test]
fn violations_of_the_format_are_reported() {
    assert_eq!(parse("").problems, [Problem::NoHeader]);
    assert_eq!(parse("hello\nworld\n").problems, [Problem::NoHeader]);
    let document = parse("TAP version 13\n1..3\nok 1 a\nok 3 c\n");
    assert_eq!(document.problems, [Problem::Number { case: "c".into(), expected: 2, found: 3 }]);
    let document = parse("TAP version 13\n1..2\nok 1 a\nBail out! no memory\n");
    assert_eq!(document.problems[0], Problem::BailedOut("no memory".into()));
    assert!(document.failed());
    let document = parse("KTAP version 1\n1..0 # SKIP not on this machine\n");
    assert_eq!((document.problems, document.skipped.as_deref()), (vec![], Some("not on this machine")));
}

#[test]
fn a_group_that_ran_nothing_did_not_pass() {
    let document = parse("TAP version 14\n1..1\n    # Subtest: a\n    1..0\nok 1 - a\n");
    assert_eq!(document.cases[0].result, CaseResult::Skipped("no case below it was run".into()));
}

#[test]
fn a_group_that_passed_with_a_failed_case_fails() {
    let document = parse("KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  not ok 1 x\nok 1 g\n");
    assert_eq!(document.cases[0].result, CaseResult::Failed(None));
    assert_eq!(document.cases[0].reason().unwrap(), "x failed");
}

#[test]
fn another_prefix_is_read_from_the_version_line() {
    let text = "guest> TAP version 14\nguest> 1..1\nguest>     # Subtest: a\nguest>     1..1\nguest>     ok 1 - x\nguest> ok 1 - a\n";
    assert_eq!(parse(text).problems, []);
    assert_eq!(names(text), ["a/x"]);
}
