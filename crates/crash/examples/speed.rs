//! Measures how long it takes to find the crashes in logs: `speed FILE...` prints the size, reports and time for each
//! file.

#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a program for developers")]

use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let mut failed = false;
    for path in std::env::args_os().skip(1) {
        match std::fs::read(&path) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                let start = Instant::now();
                let reports = crash::reports(&text).len();
                let whole = start.elapsed();
                let start = Instant::now();
                let lines = text.lines().filter(|line| crash::trouble(line).is_some()).count();
                println!(
                    "{}: {} bytes: {reports} reports in {} ms; {lines} lines of trouble in {} ms",
                    path.to_string_lossy(),
                    bytes.len(),
                    whole.as_millis(),
                    start.elapsed().as_millis()
                );
            }
            Err(error) => {
                eprintln!("{}: {error}", path.to_string_lossy());
                failed = true;
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
