//! Runs a real program compiled with --coverage, reads its data with the compiler's gcov, and merges the result.

#![expect(clippy::print_stderr, reason = "a test reports what it skips and measures")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use coverage::{Coverage, FileCoverage, Function, Totals};
use proptest::prelude::*;

const MAIN: &str = "\
#include \"b.h\"
static int never(int a)
{
	return a + 1;
}
int main(int argc, char **argv)
{
	(void)argv;
	for (int i = 0; i < 3; i++)
		argc += twice(i);
	if (argc > 100)
		return never(argc);
	return 0;
}
";

fn run(dir: &Path, program: &str, args: &[&str]) -> Option<String> {
    match Command::new(program).args(args).current_dir(dir).output() {
        Ok(output) => {
            assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8(output.stdout).unwrap())
        }
        Err(error) => {
            eprintln!("skipped: {program}: {error}");
            None
        }
    }
}

#[test]
fn a_program_that_ran() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    for directory in ["src/fs", "obj/fs"] {
        std::fs::create_dir_all(dir.join(directory)).unwrap();
    }
    std::fs::write(dir.join("src/fs/a.c"), MAIN).unwrap();
    std::fs::write(dir.join("src/fs/b.h"), "static inline int twice(int a)\n{\n\treturn 2 * a;\n}\n")
        .unwrap();
    let obj = dir.join("obj");
    let source = dir.join("src/fs/a.c").display().to_string();
    let built = run(&obj, "gcc", &["--coverage", "-O0", "-c", &source, "-o", "fs/a.o"])
        .and_then(|_| run(&obj, "gcc", &["--coverage", "fs/a.o", "-o", "a"]))
        .and_then(|_| run(&obj, "./a", &[]))
        .and_then(|_| run(&obj, "gcov", &["--json-format", "--stdout", "fs/a.gcda"]));
    let Some(json) = built else { return };
    let document = json.lines().next().unwrap();
    assert_eq!(coverage::data_file(document), Some("fs/a.gcda".into()));
    let root = coverage::source_root(document, Path::new("fs/a")).unwrap();
    assert_eq!(root, dir.join("src"));
    let mut coverage = Coverage::default();
    let name = |file: &Path| Some(file.strip_prefix(&root).ok()?.to_str()?.to_owned());
    coverage.add_gcov(document, name).unwrap();
    assert_eq!(coverage.files.keys().collect::<Vec<_>>(), ["fs/a.c", "fs/b.h"]);
    let main = &coverage.files["fs/a.c"];
    assert_eq!(main.functions["main"], Function { line: 6, calls: 1 });
    assert_eq!(main.functions["never"], Function { line: 2, calls: 0 });
    assert_eq!(main.lines[&10], 3);
    assert_eq!(main.missed(), [2..=4, 12..=12]);
    assert_eq!(coverage.files["fs/b.h"].functions["twice"].calls, 3);
    // Adding the same data twice doubles the counts and leaves the number of lines unchanged.
    let once = coverage.totals();
    coverage.add_gcov(document, name).unwrap();
    assert_eq!((coverage.totals(), coverage.files["fs/a.c"].lines[&10]), (once, 6));
    assert_eq!(coverage.to_string().parse::<Coverage>(), Ok(coverage));
}

#[test]
fn errors_of_a_tracefile_are_one_line() {
    let error = |text: &str| text.parse::<Coverage>().unwrap_err().to_string();
    assert_eq!(error("DA:1,2"), "line 1 of the tracefile: it is outside of an SF record");
    assert_eq!(error("TN:\nSF:a\nDA:x,2\n"), "line 3 of the tracefile: it has no number");
    assert_eq!(error("SF:a\n"), "line 1 of the tracefile: the file ends before end_of_record");
    assert!(Coverage::default().add_gcov("hello", |_| None).is_err());
    // lcov records that are skipped.
    let text = "TN:x\nSF:a.c\nFN:3,f\nFNDA:2,f\nBRDA:1,0,0,1\nDA:3,2,abc\nLF:9\nend_of_record\n";
    let totals = Totals { lines: 1, lines_hit: 1, functions: 1, functions_hit: 1 };
    assert_eq!(text.parse::<Coverage>().unwrap().totals(), totals);
}

fn some() -> impl Strategy<Value = Coverage> {
    let lines = proptest::collection::btree_map(1_u32..9, 0_u64..3, 0..6);
    let functions = proptest::collection::btree_map("[fg]", (1_u32..9, 0_u64..3), 0..3);
    let file = (lines, functions).prop_map(|(lines, functions)| FileCoverage {
        lines,
        functions: functions
            .into_iter()
            .map(|(name, (line, calls))| (name, Function { line, calls }))
            .collect(),
    });
    proptest::collection::btree_map("[ab]\\.c", file, 0..3)
        .prop_map(|files: BTreeMap<String, FileCoverage>| Coverage { files })
}

proptest! {
    #[test]
    fn merging_is_independent_of_the_order(a in some(), b in some(), c in some()) {
        let merged = |parts: [&Coverage; 3]| {
            let mut all = Coverage::default();
            parts.into_iter().for_each(|part| all.merge(part.clone()));
            all
        };
        let all = merged([&a, &b, &c]);
        prop_assert_eq!(&all, &merged([&c, &a, &b]));
        prop_assert_eq!(all.to_string().parse::<Coverage>().unwrap(), all.clone());
        for file in all.files.values() {
            let missed: Vec<u32> = file.lines.iter().filter(|(_, count)| **count == 0).map(|(line, _)| *line).collect();
            let is_missed = |line: &u32| file.missed().iter().any(|stretch| stretch.contains(line));
            prop_assert!(missed.iter().all(is_missed));
            prop_assert!(file.lines.iter().filter(|(_, count)| **count > 0).all(|(line, _)| !is_missed(line)));
        }
    }
}
