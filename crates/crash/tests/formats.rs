//! The formats of reports: each kind of report, as several architectures and kernel versions print it.
//!
//! `formats.txt` contains the reports without stamps. Each is read in all the forms in which a console shows it.

/// The forms in which a console shows a report: a name, the text before the first line, before each line, and after the
/// report.
const CONSOLES: [(&str, &str, &str, &str); 12] = [
    ("no stamps", "", "", ""),
    ("no stamps, a serial port", "", "", "\r"),
    ("stamps", "", "[   12.345678] ", ""),
    ("callers", "", "[   12.345678][  T123] ", ""),
    ("an interrupt", "", "<4>[12345.678901][    C1] ", "\r"),
    ("a clock", "", "00012 [   12.345678] ", ""),
    ("behind a prompt", "guest login: ", "", ""),
    ("behind what it overwrites", "10%\r20%\r", "", "\r"),
    ("behind colours", "\u{1b}[2J\u{1b}[1;31m", "", ""),
    ("callers behind dots", "..........", "[  T123] ", ""),
    ("levels behind a percentage", "at work: 40%", "<4>[   12.345678] ", ""),
    ("behind an unfinished line", "at work: \u{1b}[1m40%\u{1b}[0m", "[   12.345678][  T123] ", ""),
];

fn titles(log: &str) -> Vec<String> {
    crash::reports(log).into_iter().map(|report| report.title).collect()
}

#[test]
fn each_report_has_its_title_on_each_console() {
    for report in include_str!("formats.txt").split("\n=====\n") {
        let (title, lines) = report.split_once('\n').expect("a title and a report");
        for (console, first, before, behind) in CONSOLES {
            let lines = lines.lines().map(|line| format!("{before}{line}{behind}\n"));
            let log: String = [first.to_owned()].into_iter().chain(lines).collect();
            assert_eq!(titles(&log), [title], "{console}:\n{log}");
            assert!(log.lines().any(|line| crash::trouble(line).is_some()), "{console}:\n{log}");
        }
    }
}

#[test]
fn a_report_that_is_cut_off_keeps_its_kind() {
    for report in include_str!("formats.txt").split("\n=====\n") {
        let (title, lines) = report.split_once('\n').expect("a title and a report");
        let kind = title.split_once(" in ").map_or(title, |(kind, _)| kind);
        let first = lines.lines().position(|line| crash::trouble(line).is_some()).expect("trouble");
        let log: String =
            lines.lines().take(first + 1).map(|line| format!("[   12.345678] {line}\n")).collect();
        let found = titles(&log);
        let same = |found: &String| found.split(' ').next() == kind.split(' ').next();
        assert!(found.first().is_some_and(same), "{found:?} for {title}");
    }
}

#[test]
fn the_lines_of_two_processors_are_two_reports() {
    let reports: Vec<&str> = include_str!("formats.txt").split("\n=====\n").collect();
    for pair in reports.windows(2) {
        let lines = |report: &str, caller: &str| -> Vec<String> {
            report.lines().skip(1).map(|line| format!("[   12.345678][{caller:>5}] {line}\n")).collect()
        };
        let (a, b) = (lines(pair[0], "C0"), lines(pair[1], "T77"));
        let both: String =
            (0..a.len().max(b.len())).flat_map(|at| [a.get(at), b.get(at)]).flatten().cloned().collect();
        let mut wanted =
            [pair[0], pair[1]].map(|report| report.lines().next().unwrap_or_default().to_owned());
        let mut found = titles(&both);
        // A panic belongs to the report before it.
        if found.len() == 1 && pair.iter().any(|report| report.starts_with("kernel panic")) {
            continue;
        }
        wanted.sort();
        found.sort();
        assert_eq!(found, wanted, "{both}");
    }
}
