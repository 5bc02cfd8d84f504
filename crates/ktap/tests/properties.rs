//! Random trees, printed in the format of each producer, are parsed to the same tree. Any other text is parsed without
//! a panic.

use ktap::{Case, CaseResult, parse};
use proptest::prelude::*;

#[derive(Debug, Clone)]
struct Tree {
    name: String,
    result: CaseResult,
    notes: Vec<String>,
    below: Vec<Tree>,
}

fn leaf() -> impl Strategy<Value = Tree> {
    let result = prop_oneof![
        4 => Just(CaseResult::Passed),
        1 => Just(CaseResult::Failed(None)),
        1 => "[a-z][a-z ]{0,10}[a-z]".prop_map(CaseResult::Skipped),
        1 => "[a-z][a-z ]{0,10}[a-z]".prop_map(CaseResult::ExpectedFailure),
    ];
    let notes = proptest::collection::vec("[a-z]{3,9}: [a-z =!]{0,20}[a-z]", 0..3);
    ("[a-z][a-z_.:]{0,12}", result, notes).prop_map(|(name, result, notes)| Tree {
        name,
        result,
        notes,
        below: Vec::new(),
    })
}

fn trees() -> impl Strategy<Value = Vec<Tree>> {
    let tree = leaf().prop_recursive(3, 24, 4, |inner| {
        (leaf(), proptest::collection::vec(inner, 1..4)).prop_map(|(mut tree, below)| {
            let bad = below.iter().any(|tree| matches!(tree.result, CaseResult::Failed(_)));
            tree.result = if bad { CaseResult::Failed(None) } else { CaseResult::Passed };
            tree.below = below;
            tree.notes.clear();
            tree
        })
    });
    proptest::collection::vec(tree, 1..5)
}

#[derive(Debug, Clone, Copy)]
enum Style {
    /// The format of the KTAP specification.
    Plain,
    /// The format of old versions of KUnit.
    KunitOld,
    /// The format in which the kselftest runner prints the output of its programs.
    Kselftest,
}

fn print(trees: &[Tree], style: Style, before: &str, out: &mut String) {
    let number = trees.len();
    let nested = !before.is_empty();
    if !nested || !matches!(style, Style::KunitOld) {
        out.push_str(&format!(
            "{before}{}TAP version 1\n",
            if matches!(style, Style::Kselftest) { "" } else { "K" }
        ));
    }
    out.push_str(&format!("{before}1..{number}\n"));
    for (at, tree) in trees.iter().enumerate() {
        if !tree.below.is_empty() {
            let deeper = match style {
                Style::Plain => format!("{before}  "),
                Style::KunitOld => format!("{before}    "),
                Style::Kselftest => format!("{before}# "),
            };
            if !matches!(style, Style::Kselftest) {
                out.push_str(&format!("{deeper}# Subtest: {}\n", tree.name));
            }
            print(&tree.below, style, &deeper, out);
        }
        for note in &tree.notes {
            out.push_str(&format!("{before}# {note}\n"));
        }
        let (word, tail) = match &tree.result {
            CaseResult::Passed => ("ok", String::new()),
            CaseResult::Skipped(reason) => ("ok", format!(" # SKIP {reason}")),
            CaseResult::ExpectedFailure(reason) => ("not ok", format!(" # XFAIL {reason}")),
            CaseResult::Failed(_) | CaseResult::NoResult => ("not ok", String::new()),
        };
        let dash = if matches!(style, Style::KunitOld) { "- " } else { "" };
        out.push_str(&format!("{before}{word} {} {dash}{}{tail}\n", at + 1, tree.name));
    }
}

fn same(trees: &[Tree], cases: &[Case], notes: bool) -> Result<(), TestCaseError> {
    prop_assert_eq!(trees.len(), cases.len());
    for (tree, case) in trees.iter().zip(cases) {
        prop_assert_eq!(&tree.name, &case.name);
        prop_assert_eq!(&tree.result, &case.result);
        if notes {
            prop_assert_eq!(&tree.notes, &case.diagnostics);
        }
        same(&tree.below, &case.cases, notes)?;
    }
    Ok(())
}

proptest! {
    #[test]
    fn printed_trees_are_read_back(trees in trees(), stamped: bool) {
        for style in [Style::Plain, Style::KunitOld, Style::Kselftest] {
            let mut text = String::new();
            print(&trees, style, "", &mut text);
            if stamped {
                text = text.lines().map(|line| format!("[    1.234567][   T99] {line}\n")).collect();
            }
            let document = parse(&text);
            prop_assert_eq!(&document.problems, &[], "{:?}\n{}", style, text);
            // With `# ` prefixes, diagnostics of an inner and of an outer case look the same.
            same(&trees, &document.cases, !matches!(style, Style::Kselftest))?;
        }
    }

    #[test]
    fn broken_text_is_read_without_panic(
        parts in proptest::collection::vec(
            prop_oneof![
                Just("ok "), Just("not ok "), Just("1"), Just("- "), Just("# "), Just("#"), Just("SKIP"), Just("TODO "),
                Just("\n"), Just("    "), Just("\t"), Just("1..2"), Just("1..18446744073709551615"), Just("KTAP version 1"),
                Just("TAP version 13"), Just("# Subtest: x"), Just("Bail out!"), Just("[   1.2]"), Just("<6>"), Just("\u{e9}"),
                Just("18446744073709551615"), Just("\r\n"), Just("\0"),
            ],
            0..80,
        )
    ) {
        let text = parts.concat();
        let document = parse(&text);
        // Each failure is reported, at least by the name of its case.
        let reported = document.flat().iter().any(|flat| flat.case.result.is_bad());
        prop_assert!(!document.failed() || reported || !document.problems.is_empty());
    }

    #[test]
    fn any_text_is_read_without_panic(text in "\\PC{0,200}") {
        let _ = parse(&text);
    }
}
