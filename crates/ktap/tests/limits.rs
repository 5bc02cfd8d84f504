//! Levels that end early, and the limits of the parser.

use ktap::{CaseResult, Document, Problem, parse};

fn names(document: &Document) -> Vec<String> {
    document.flat().iter().map(|flat| flat.path.join("/")).collect()
}

#[test]
fn results_and_the_version_belong_together() {
    for text in ["ok 1 a\n", "TAP version 13\n", "TAP version 13\n# a note\n"] {
        assert_eq!(parse(text).problems, [Problem::NoHeader], "{text}");
    }
    assert_eq!(parse("TAP version 13\n1..0 # SKIP nothing\n").problems, []);
    let nested = parse("KTAP version 1\n1..1\n    1..0 # SKIP not all\nok 1 a\n");
    assert_eq!((nested.skipped, nested.problems), (None, vec![]));
}

#[test]
fn a_whole_output_can_be_indented() {
    let document = parse("a note\n    KTAP version 1\n    1..1\n    ok 1 a\n");
    assert_eq!((names(&document), &document.problems), (vec!["a".to_owned()], &vec![]));
    assert_eq!(document.cases[0].diagnostics, Vec::<String>::new());
    // Lines with a smaller indent are at the same level.
    let document = parse("    KTAP version 1\n1..3\nok 1 a\n    ok 2 b\n# Subtest: c\nok 3 c\n");
    assert_eq!((names(&document), document.problems), (["a", "b", "c"].map(String::from).to_vec(), vec![]));
}

#[test]
fn deeper_levels_end_with_the_level_above() {
    let deep = "    # Subtest: a\n    1..1\n        # Subtest: deep\n        1..1\n        ok 1 x\n";
    for next in [
        "    # Subtest: b\n    1..1\n    ok 1 y\nok 2 b\n",
        "    KTAP version 1\n    # Subtest: b\n    1..1\n    ok 1 y\nok 2 b\n",
    ] {
        let document = parse(&format!("KTAP version 1\n1..2\n{deep}{next}"));
        let deep = &document.cases[0].cases[0];
        assert_eq!((deep.name.as_str(), &deep.result), ("deep", &CaseResult::NoResult), "{next}");
        assert_eq!(document.cases[0].result, CaseResult::NoResult, "{next}");
        assert_eq!(names(&document), ["a/deep", "a/deep/x", "b/y"], "{next}");
        assert_eq!(document.problems, [], "{next}");
    }
    // A result closes its own level; the level in it has none.
    let document = parse(&format!("KTAP version 1\n1..1\n{deep}not ok 1 a\n"));
    assert_eq!(names(&document), ["a/deep", "a/deep/x"]);
    assert_eq!(document.cases[0].cases[0].result, CaseResult::NoResult);
    // A plan can precede the name.
    let document =
        parse("KTAP version 1\n1..1\n    KTAP version 1\n    1..1\n    # Subtest: a\n    ok 1 x\nok 1 a\n");
    assert_eq!((names(&document), document.problems), (vec!["a/x".to_owned()], vec![]));
}

#[test]
fn suites_at_the_outermost_level_have_no_result() {
    let document = parse("KTAP version 1\n1..2\n# Subtest: a\nok 1 x\n# Subtest: b\nok 2 y\n");
    assert_eq!((names(&document), document.problems), (["x", "y"].map(String::from).to_vec(), vec![]));
}

#[test]
fn a_directive_begins_a_word() {
    let document = parse("TAP version 13\n1..3\nok 1 c# SKIP lang\nok 2 # SKIP why\nok 3 d#\n");
    let found: Vec<_> = document.cases.iter().map(|case| (case.name.as_str(), &case.result)).collect();
    let skipped = CaseResult::Skipped("why".into());
    assert_eq!(
        found,
        [("c# SKIP lang", &CaseResult::Passed), ("test 2", &skipped), ("d#", &CaseResult::Passed)]
    );
}

#[test]
fn levels_cases_diagnostics_and_problems_are_limited() {
    let nested = |levels: usize| {
        let lines = (0..levels).map(|level| format!("{}# Subtest: s{level}\n", "    ".repeat(level)));
        parse(&format!("KTAP version 1\n{}", lines.collect::<String>())).problems
    };
    let too_deep = Problem::TooMuch("levels");
    assert!(!nested(32).contains(&too_deep));
    assert!(nested(33).contains(&too_deep));

    let lines = (1..=100_003).map(|number| format!("ok {number} c{number}\n"));
    let many = parse(&format!("TAP version 13\n{}", lines.collect::<String>()));
    assert_eq!(many.problems, [Problem::TooMuch("cases")]);
    let last = many.cases.last().map(|case| case.name.as_str());
    assert_eq!((many.cases.len(), last), (100_000, Some("c100000")));

    // A character is not cut.
    let long = parse(&format!("TAP version 13\n1..1\nok 1 {}\n", "é".repeat(2000)));
    assert_eq!(long.cases[0].name.len(), 2042);

    let noisy = parse(&format!("TAP version 13\n1..1\n{}ok 1 a\n", "noise\n".repeat(1001)));
    assert_eq!(noisy.cases[0].diagnostics.len(), 1000);

    let lines = (1..=150).map(|number| format!("ok {} c{number}\n", 2 * number));
    let wrong = parse(&format!("TAP version 13\n{}", lines.collect::<String>()));
    assert_eq!((wrong.problems.len(), wrong.cases.len()), (100, 150));
}

#[test]
fn problems_are_explained() {
    let plan = |below: &str| Problem::Plan { below: below.into(), planned: 3, seen: 1 };
    for (problem, text) in [
        (Problem::NoHeader, "no line `KTAP version 1` or `TAP version 13`"),
        (plan(""), "3 cases planned, 1 seen"),
        (plan("a"), "a: 3 cases planned, 1 seen"),
        (Problem::Number { case: "c".into(), expected: 2, found: 3 }, "c: number 3 instead of 2"),
        (Problem::BailedOut("no memory".into()), "bailed out: no memory"),
        (Problem::TooMuch("cases"), "too many cases; the rest is ignored"),
    ] {
        assert_eq!(problem.to_string(), text);
    }
}
