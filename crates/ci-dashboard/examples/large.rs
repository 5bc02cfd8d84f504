//! Writes a large results directory for measurements: `--example large -- DIR COMMITS TESTS`. It has one branch,
//! `u/big`; tests fail in stretches, about one in 300 at a time.

#![expect(clippy::print_stderr, reason = "a program for developers")]

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use model::{CommitId, ResultKey, Status};
use results::{CommitResults, TestEntry};
use testkit::results_fixture::{ResultsFixture, commit_id, kernel_id, write_blob};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some(dir), Some(commits), Some(tests)) = (
        arguments.first(),
        arguments.get(1).and_then(|number| number.parse::<usize>().ok()),
        arguments.get(2).and_then(|number| number.parse::<usize>().ok()),
    ) else {
        eprintln!("usage: large DIR COMMITS TESTS");
        return ExitCode::from(2);
    };
    match fill(Path::new(dir), commits, tests) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{dir}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the results.
pub fn fill(dir: &Path, commits: usize, tests: usize) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut keys: Vec<ResultKey> = (0..tests)
        .map(|test| {
            let (file, subtest) = (test / 100, test % 100);
            format!("fs.ext4.suite{file:02}.generic.{subtest:03}").parse().expect("a result key")
        })
        .collect();
    keys.sort();
    let ids: Vec<CommitId> = (0..commits).map(|row| commit_id(&format!("large {row}"))).collect();
    let mut listing = Vec::new();
    for (row, commit) in ids.iter().enumerate() {
        let message = format!("ext4: change number {row} of the large branch\n\nIt changes one thing.\n");
        listing.push((commit.clone(), message.clone()));
        let entries = keys.iter().enumerate().map(|(test, key)| entry(row, test, key, commit)).collect();
        write_blob(dir, &CommitResults { commit: commit.clone(), message, entries });
    }
    let fixture = ResultsFixture::new(dir);
    fixture.branch("u", "big", &listing);
    fixture.finish();
    Ok(())
}

fn entry(row: usize, test: usize, key: &ResultKey, commit: &CommitId) -> TestEntry {
    // Each test has its own period; most never reach their failing commits.
    let noise = test.wrapping_mul(2_654_435_761) >> 7;
    let failing = noise.is_multiple_of(29) && (row + noise % 400) % 400 < 40;
    let status = if failing {
        Status::Failed
    } else if noise.is_multiple_of(41) {
        Status::NotRun
    } else {
        Status::Passed
    };
    let mut entry = TestEntry::new(key.clone(), status);
    entry.decisive.duration = Duration::from_millis(900 + (noise % 5000) as u64);
    entry.decisive.started = Some(1_700_000_000 - 600 * i64::try_from(row).unwrap_or(0));
    entry.decisive.reason = match status {
        Status::Failed => Some("fsck found errors: Inode 12, i_blocks is 16, should be 8".into()),
        Status::NotRun => Some("no quotacheck in the image".into()),
        _ => None,
    };
    entry.decisive.host = "farm1".parse().ok();
    entry.decisive.slot = Some(u32::try_from(test % 16).unwrap_or(0));
    entry.decisive.kernel = Some(kernel_id(commit.short()));
    entry.decisive.log_bytes = 4000;
    entry
}
