//! Compares the titles of a folder of console logs with those that their heads ask for: `titles DIR`.
//!
//! Each file begins with head lines (`TITLE: ...`, `CORRUPTED: Y`...), an empty line, then the log. A file without
//! TITLE holds no crash. The last line printed is `N of M exact`, over the files that are not marked CORRUPTED or
//! SUPPRESSED.

use std::path::Path;
use std::process::ExitCode;

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
    let (mut exact, mut all, mut quiet) = (0, 0, 0);
    for case in paths.iter().filter_map(|path| read(path).ok()) {
        let found = crash::reports(&case.log).into_iter().next().map(|report| report.title);
        match &case.title {
            None if found.is_none() => quiet += 1,
            None => println!("{}: no crash, but found: {}", case.name, found.unwrap_or_default()),
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
    println!("{quiet} logs without a crash are quiet");
    println!("{exact} of {all} exact");
    ExitCode::SUCCESS
}
