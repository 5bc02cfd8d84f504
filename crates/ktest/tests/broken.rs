//! Runs the test files in `broken/`, each of which has one deliberate error, and compares the reports that their author
//! gets.
//!
//! A report is one line with the error and its location. It precedes the build of a kernel.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};

use kernel::KernelSource;
use ktest::report::{Reporter, Style};
use ktest::run::{KernelFrom, RunRequest, run};
use model::{AccelChoice, RunOrder, TestOrder};

const KERNEL: &str = "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 0\nEXTRAVERSION =\n";

fn request(file: &Path, place: &Path) -> RunRequest {
    let test = TestOrder {
        out: place.join("out"),
        arch: Some(model::Arch::X86_64),
        ..TestOrder::new(file.to_string_lossy())
    };
    let order = RunOrder { accel: AccelChoice::Tcg, no_sandbox: true, jobs: Some(1), ..test.into() };
    let kernel = KernelFrom::Source(KernelSource::WorkingTree(place.join("kernel")));
    RunRequest { order, ..RunRequest::new(file, kernel, place.join("cache")) }
}

/// The report of `ktest run`, and the verdict that the farm records for the file's subtest.
async fn report(name: &str, place: &Path) -> String {
    let file = place.join("tests").join(name);
    let plain = run(&request(&file, place), &mut Reporter::new(Style::Silent)).await;
    let said = match plain {
        Ok(summary) => format!("{:?}", summary.verdicts),
        Err(error) => error.to_string(),
    };
    let mut farm = request(&file, place);
    farm.order.events = true;
    farm.subtests = vec!["one".parse().unwrap()];
    let recorded = match run(&farm, &mut Reporter::new(Style::Silent)).await {
        Ok(summary) => summary
            .verdicts
            .iter()
            .map(|(subtest, verdict)| {
                format!("{subtest}: {}: {}", verdict.status().label(), verdict.reason().unwrap_or(""))
            })
            .collect::<Vec<_>>()
            .join("; "),
        Err(error) => error.to_string(),
    };
    let farm = if recorded == said { "the same".to_owned() } else { recorded };
    let text = format!("{name}\n  run:  {said}\n  farm: {farm}\n");
    text.replace(&place.display().to_string(), "DIR")
}

#[tokio::test]
async fn each_error_has_its_report() {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let temp = tempfile::tempdir().unwrap();
    let place = temp.path().canonicalize().unwrap();
    std::fs::create_dir_all(place.join("tests")).unwrap();
    std::fs::create_dir_all(place.join("kernel")).unwrap();
    std::fs::write(place.join("kernel/Makefile"), KERNEL).unwrap();
    std::fs::write(place.join("kernel/Kconfig"), "").unwrap();
    let mut names: Vec<String> = std::fs::read_dir(&corpus)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".ktest"))
        .collect();
    names.sort();
    let mut all = String::new();
    for name in &names {
        std::fs::copy(corpus.join(name), place.join("tests").join(name)).unwrap();
        let report = report(name, &place).await;
        assert_eq!(report.lines().count(), 3, "one line each:\n{report}");
        all += &report;
    }
    // Versions of bash count lines differently.
    insta::with_settings!({filters => vec![(r"line \d+", "line N")]}, { insta::assert_snapshot!(all) });
}
