//! How well the tables of names generalize, measured on a corpus of logs with known titles: how many logs need a row or
//! a name, and how many titles stay correct without the entries that only one log needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::names::measure::without;

/// The logs with a reliable title in the directory `$KTEST_CRASH_LOGS`: name, title and log.
fn corpus() -> Vec<(String, String, String)> {
    let Some(dir) = std::env::var_os("KTEST_CRASH_LOGS") else {
        eprintln!("skipped: KTEST_CRASH_LOGS=DIR is not set");
        return Vec::new();
    };
    let entries = std::fs::read_dir(dir).expect("the directory of logs");
    let read = |path: PathBuf| {
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        let (head, log) = text.split_once("\n\n")?;
        let title = head.lines().find_map(|line| line.strip_prefix("TITLE: "))?;
        let doubtful = head.contains("CORRUPTED: ") || head.contains("SUPPRESSED: ");
        let log = log.split("\nREPORT:\n").next()?;
        let name = path.file_name()?.to_string_lossy().into_owned();
        (!doubtful).then(|| (name, title.to_owned(), log.to_owned()))
    };
    let mut logs: Vec<_> = entries.filter_map(|entry| read(entry.unwrap().path())).collect();
    logs.sort();
    logs
}

fn title(log: &str) -> Option<String> {
    crate::reports(log).into_iter().next().map(|report| report.title)
}

/// A log with the rows and names that its title needs: without one of them, the title differs.
struct Titled {
    file: String,
    log: String,
    wanted: String,
    needs: BTreeSet<&'static str>,
}

/// The logs with the correct title, and the total number of logs.
fn titled() -> (Vec<Titled>, usize) {
    let logs = corpus();
    let all = logs.len();
    let measured = logs.into_iter().filter_map(|(file, wanted, log)| {
        let (found, used) = without(&BTreeSet::new(), || title(&log));
        let needed = |entry: &&'static str| without(&BTreeSet::from([*entry]), || title(&log)).0 != found;
        let needs = used.into_iter().filter(needed).collect();
        (found.as_deref() == Some(&wanted)).then_some(Titled { file, log, wanted, needs })
    });
    (measured.collect(), all)
}

/// Whether an entry is a row, which represents source files, and not a name.
fn is_row(entry: &str) -> bool {
    entry.contains(": ")
}

/// The number of logs that keep their title without the rows, or names, that logs of no other group need.
fn kept<'l, G: Ord>(
    logs: &'l [Titled],
    rows: bool,
    group: impl Fn(usize, &'l Titled) -> G,
    print: bool,
) -> usize {
    kept_of(logs, rows, group, |_| true, print)
}

/// The same for the logs that `counts` selects.
fn kept_of<'l, G: Ord>(
    logs: &'l [Titled],
    rows: bool,
    group: impl Fn(usize, &'l Titled) -> G,
    counts: impl Fn(usize) -> bool,
    print: bool,
) -> usize {
    let needs = |log: &'l Titled| log.needs.iter().copied().filter(move |entry| is_row(entry) == rows);
    let mut groups: BTreeMap<&str, BTreeSet<G>> = BTreeMap::new();
    for (at, log) in logs.iter().enumerate() {
        for entry in needs(log) {
            groups.entry(entry).or_default().insert(group(at, log));
        }
    }
    let keeps = |(_, log): &(usize, &'l Titled)| {
        let own = needs(log).filter(|entry| groups[entry].len() == 1).collect();
        let found = without(&own, || title(&log.log)).0.unwrap_or_default();
        if print && found != log.wanted {
            println!("{}: {}\n  without {own:?}: {found}", log.file, log.wanted);
        }
        found == log.wanted
    };
    logs.iter().enumerate().filter(|(at, _)| counts(*at)).filter(keeps).count()
}

/// The part of a title before the function.
fn kind(title: &str) -> &str {
    title.split_once(" in ").map_or(title, |(kind, _)| kind)
}

#[test]
fn titles_without_what_one_log_needs() {
    let (logs, all) = titled();
    println!("{} of {all} exact", logs.len());
    for (rows, level, least) in [(true, "rows", 95), (false, "names", 80)] {
        let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
        let needed = logs.iter().flat_map(|log| &log.needs).filter(|entry| is_row(entry) == rows);
        needed.for_each(|entry| *uses.entry(entry).or_default() += 1);
        let count = |least, most| uses.values().filter(|uses| (least..=most).contains(*uses)).count();
        println!(
            "{level} that 1 log needs: {}, 2: {}, 3 or more: {}",
            count(1, 1),
            count(2, 2),
            count(3, usize::MAX)
        );
        let one = kept(&logs, rows, |at, _| at, true);
        println!("without the {level} that only this log needs: {one} of {}", logs.len());
        for half in 0..2 {
            let (kept, all) = (kept_of(&logs, rows, |at, _| at % 2, |at| at % 2 == half, false), logs.len());
            println!("  ... only its half, half {half}: {kept} of {}", (all + 1 - half) / 2);
        }
        println!("  ... only its fold, of 5: {}", kept(&logs, rows, |at, _| at % 5, false));
        println!("  ... only its kind of crash: {}", kept(&logs, rows, |_, log| kind(&log.wanted), false));
        assert!(one * 100 >= logs.len() * least, "{one} of {}", logs.len());
    }
}
