//! Compares the titles found in a directory of console logs with those in their headers: `titles DIR`.
//!
//! Each file has header lines (`TITLE: ...`, `CORRUPTED: Y`, ...), an empty line, then the log. A file without TITLE
//! contains no crash. Each log is also read in pieces, cut at random positions. The last line printed is `N of M
//! exact`, over the files that are not marked CORRUPTED or SUPPRESSED. The exit code is 1 if less than 90 % are exact,
//! if a log without a crash has a title, or if a piece causes a panic.

#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a program for developers")]

use std::panic::catch_unwind;
use std::path::Path;
use std::process::ExitCode;

/// The number of pieces of each log.
const CUTS: usize = 20;

struct Case {
    name: String,
    title: Option<String>,
    doubtful: bool,
    log: String,
}

fn read(path: &Path) -> std::io::Result<Case> {
    let bytes = std::fs::read(path)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, log) = match text.split_once("\n\n") {
        _ if text.starts_with('\n') => ("", text.as_str()),
        Some(parts) => parts,
        None => (text.as_str(), ""),
    };
    let log = log.split("\nREPORT:\n").next().unwrap_or(log);
    let field =
        |key: &str| head.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim().to_owned());
    Ok(Case {
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        title: field("TITLE:"),
        doubtful: field("CORRUPTED:").is_some() || field("SUPPRESSED:").is_some(),
        log: log.to_owned(),
    })
}

/// The number of random pieces of a log that cause a panic. The random sequence is fixed, so that failures are
/// reproducible.
fn panics(log: &str, random: &mut impl FnMut(usize) -> usize) -> usize {
    let panicked = |_: &usize| {
        let (a, b) = (random(log.len()), random(log.len()));
        let text = String::from_utf8_lossy(&log.as_bytes()[a.min(b)..a.max(b)]).into_owned();
        catch_unwind(|| {
            text.split('\n').for_each(|line| drop(crash::trouble(line)));
            crash::reports(&text).iter().for_each(|report| drop(report.excerpt(&text)));
        })
        .is_err()
    };
    (0..CUTS).filter(panicked).count()
}

/// Marsaglia's xorshift.
fn generator() -> impl FnMut(usize) -> usize {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    move |limit| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % (limit as u64 + 1)).unwrap_or(0)
    }
}

fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1) else {
        eprintln!("usage: titles DIR");
        return ExitCode::from(2);
    };
    let listing = match std::fs::read_dir(&dir) {
        Ok(listing) => listing,
        Err(error) => {
            eprintln!("{}: {error}", Path::new(&dir).display());
            return ExitCode::from(2);
        }
    };
    let mut paths: Vec<_> = listing.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.sort_by_key(|path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()));
    let (mut exact, mut all, mut quiet, mut loud, mut panicked, mut pieces) = (0, 0, 0, 0, 0, 0);
    let mut random = generator();
    for case in paths.iter().filter_map(|path| read(path).ok()) {
        panicked += panics(&case.log, &mut random);
        pieces += CUTS;
        let found = crash::reports(&case.log).into_iter().next().map(|report| report.title);
        match &case.title {
            None if found.is_none() => quiet += 1,
            None => {
                loud += 1;
                println!("{}: no crash in it, found: {}", case.name, found.unwrap_or_default());
            }
            Some(_) if case.doubtful => {}
            Some(title) => {
                all += 1;
                if found.as_ref() == Some(title) {
                    exact += 1;
                } else {
                    println!(
                        "{}: {title}\n{:>width$}  {}",
                        case.name,
                        "",
                        found.as_deref().unwrap_or("-"),
                        width = case.name.len()
                    );
                }
            }
        }
    }
    println!("{panicked} panics in {pieces} random pieces of the logs");
    println!("{quiet} of {} logs without a crash have no title", quiet + loud);
    println!("{exact} of {all} exact");
    let good = all > 0 && exact * 10 >= all * 9 && loud == 0 && panicked == 0;
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
