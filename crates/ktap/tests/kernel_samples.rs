//! The KTAP samples of a kernel tree: `$KTEST_KERNEL_SOURCE`, or the directory of a Debian source package. The expected
//! results are those of the tree's own parser tests.

#![expect(clippy::print_stderr, reason = "a test reports what it skips and measures")]

use std::path::PathBuf;

use ktap::{CaseResult, Document, Problem};

fn samples() -> Option<PathBuf> {
    let sources = ["/usr/src/linux", "/usr/src/linux-source-6.1", "/usr/src/linux-source-6.12"];
    let named = std::env::var_os("KTEST_KERNEL_SOURCE").map(PathBuf::from);
    let dirs = named.into_iter().chain(sources.iter().map(PathBuf::from));
    let found = dirs.map(|dir| dir.join("tools/testing/kunit/test_data")).find(|dir| dir.is_dir());
    if found.is_none() {
        eprintln!("skipped: no kernel source tree; set KTEST_KERNEL_SOURCE");
    }
    found
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
    without: usize,
}

fn counts(document: &Document) -> Counts {
    let mut counts = Counts::default();
    for flat in document.flat() {
        match flat.case.result {
            CaseResult::Passed | CaseResult::ExpectedFailure(_) => counts.passed += 1,
            CaseResult::Failed(_) => counts.failed += 1,
            CaseResult::Skipped(_) => counts.skipped += 1,
            CaseResult::NoResult => counts.without += 1,
        }
    }
    counts
}

/// The numbers of passed, failed and skipped cases and of cases without a result, and whether a problem is reported.
const WANTED: &[(&str, [usize; 4], bool)] = &[
    ("test_config_printk_time", [10, 0, 0, 0], false),
    ("test_interrupted_tap_output", [10, 0, 0, 0], false),
    ("test_is_test_passed-all_passed", [10, 0, 0, 0], false),
    ("test_is_test_passed-all_passed_nested", [7, 0, 0, 0], false),
    ("test_is_test_passed-failure", [9, 1, 0, 0], false),
    ("test_is_test_passed-kselftest", [4, 0, 0, 0], false),
    ("test_is_test_passed-missing_plan", [10, 0, 0, 0], false),
    ("test_is_test_passed-no_tests_no_plan", [0, 0, 1, 0], false),
    ("test_is_test_passed-no_tests_run_no_header", [0, 0, 0, 0], true),
    ("test_is_test_passed-no_tests_run_with_header", [0, 0, 0, 0], true),
    ("test_kernel_panic_interrupt", [8, 0, 0, 1], true),
    ("test_multiple_prefixes", [10, 0, 0, 0], false),
    ("test_parse_subtest_header", [1, 0, 0, 0], false),
    ("test_pound_no_prefix", [10, 0, 0, 0], false),
    ("test_pound_sign", [10, 0, 0, 0], false),
    ("test_skip_all_tests", [0, 0, 5, 0], false),
    ("test_skip_tests", [4, 0, 1, 0], false),
    ("test_strip_hyphen", [2, 0, 0, 0], false),
];

#[test]
fn each_sample_has_the_results_of_the_kernel_parser() {
    let Some(dir) = samples() else { return };
    for (name, [passed, failed, skipped, without], problem) in WANTED {
        let path = dir.join(format!("{name}.log"));
        let Ok(bytes) = std::fs::read(&path) else {
            eprintln!("skipped: {name}: not in this tree");
            continue;
        };
        let document = ktap::parse(&String::from_utf8_lossy(&bytes));
        let wanted = Counts { passed: *passed, failed: *failed, skipped: *skipped, without: *without };
        assert_eq!(counts(&document), wanted, "{name}: {document:#?}");
        let unsound = document.problems.iter().any(|problem| {
            matches!(problem, Problem::NoHeader | Problem::Plan { .. } | Problem::BailedOut(_))
        });
        assert_eq!(unsound, *problem, "{name}: {:?}", document.problems);
    }
}

#[test]
fn a_sample_is_read_wherever_it_is_cut() {
    let Some(dir) = samples() else { return };
    for entry in std::fs::read_dir(dir).unwrap() {
        let text = String::from_utf8_lossy(&std::fs::read(entry.unwrap().path()).unwrap()).into_owned();
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)).step_by(7) {
            let whole = ktap::parse(&text).flat().len();
            assert!(ktap::parse(&text[..end]).flat().len() <= whole + 1);
        }
    }
}
