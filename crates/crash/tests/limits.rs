//! Where a report begins and ends.

use crash::Report;

/// Lines with the stamps of a task.
fn of_task(task: u32, lines: &[&str]) -> String {
    let stamp = format!("[    5.000000][{:>6}]", format!("T{task}"));
    lines.iter().map(|line| format!("{stamp} {line}\n")).collect()
}

/// `count` lines of another task.
fn others(count: usize) -> String {
    of_task(2, &vec!["usb 1-1: new device"; count])
}

fn report(log: &str) -> Report {
    crash::reports(log).into_iter().next().expect("a report")
}

/// (the line after the frames, whether the report ends there: with this line, or before it).
const ENDS: &[(&str, Option<usize>)] = &[
    ("---[ end trace 0000000000000000 ]---", Some(4)),
    ("Rebooting in 86400 seconds..", Some(4)),
    ("==================================================================", Some(4)),
    ("------------[ cut here ]------------", Some(3)),
    // Not long enough, or with other characters.
    ("=================================================", None),
    ("================================================== x ============", None),
    ("usb 1-1: new device", None),
];

#[test]
fn a_report_ends_at_a_rule_a_reboot_or_the_next_report() {
    for (line, end) in ENDS {
        let log = format!("kernel BUG at fs/x.c:5!\nRIP: 0010:f+0x1/0x2\n g+0x1/0x2\n{line}\nlast");
        assert_eq!(report(&log).end_line, end.unwrap_or(5), "{line}");
    }
    // Before the first frame a rule belongs to the report.
    for line in ["=".repeat(66), "------------[ cut here ]------------".into()] {
        let log = format!("WARNING: suspicious RCU usage\n{line}\nx\n f+0x1/0x2\nlast");
        assert_eq!(report(&log).end_line, 5, "{line}");
    }
}

#[test]
fn a_report_has_at_most_1200_lines() {
    let log = format!("x\nkernel BUG at fs/x.c:5!\n{}", " f+0x1/0x2\n".repeat(1300));
    let found = report(&log);
    assert_eq!((found.start_line, found.end_line, found.frames.len()), (2, 1201, 1199));
}

#[test]
fn lines_of_other_tasks_do_not_separate_a_report() {
    let first = of_task(1, &["BUG: KASAN: use-after-free in snd_x+0x1/0x2"]);
    let rest = of_task(1, &["Read of size 8 at addr ffff888100000000 by task syz/1", " snd_x+0x1/0x2"]);
    let found = report(&format!("{first}{}{rest}", others(60)));
    assert_eq!((found.title.as_str(), found.end_line), ("KASAN: use-after-free Read in snd_x", 63));

    let bug = of_task(1, &["kernel BUG at fs/x.c:5!"]);
    let found = report(&format!("{bug}{}{rest}", others(1300)));
    assert_eq!((found.title.as_str(), found.end_line), ("kernel BUG in snd_x", 1303));
    assert_eq!(found.excerpt(&format!("{bug}{}{rest}", others(1300))).lines().count(), 3);
}
