//! Findings of a branch.

use model::{CommitId, Finding, FindingKind, FindingRate};
use results::findings::{Mark, MarkKind};

use crate::results_fixture::ResultsFixture;

/// Records three findings: at the commit `bad` a test broke, at `fixed` it passes again, and a disk of the farm is full.
/// `branch` is `user/branch`. They become durable with the next verdict.
pub fn found(fixture: &ResultsFixture, branch: &str, [fixed, bad, good]: [&CommitId; 3], at: i64) {
    let finding = |kind: FindingKind, number: u64, signature: &str| Finding {
        id: format!("{number:016x}"),
        kind,
        branch: Some(branch.parse().expect("a branch")),
        commit: Some(bad.clone()),
        tests: vec!["fs.ext4.basic.punch".parse().expect("a result key")],
        tests_total: 12,
        signature: signature.into(),
        first_bad: Some(bad.clone()),
        last_good: Some(good.clone()),
        rate: Some(FindingRate { failed: 5, runs: 5 }),
        at,
    };
    let broke = finding(FindingKind::Broke, 0xb0, "kernel BUG in <ext4_ext_remove_space> & \u{202e}more");
    let again = Finding {
        commit: Some(fixed.clone()),
        rate: None,
        ..finding(FindingKind::Fixed, 0xf1, "kernel BUG")
    };
    let disk = Finding {
        branch: None,
        commit: None,
        tests: Vec::new(),
        tests_total: 0,
        first_bad: None,
        last_good: None,
        rate: None,
        ..finding(FindingKind::Farm, 0xfa, "the disk of farm1 is full")
    };
    let mark =
        Mark { what: MarkKind::Fix("ext4: lock the punch".into()), at, account: "mira@example.org".into() };
    fixture.findings(branch, vec![broke, again], Some(mark));
    fixture.findings("elsewhere", vec![disk], None);
}
