//! Which frames of a report are searched for its title.

use crash::Report;

fn report(lines: &[&str]) -> Report {
    crash::reports(&lines.join("\n")).into_iter().next().expect("a report")
}

fn title(lines: &[&str]) -> String {
    report(lines).title
}

/// Lines before the stack of an earlier event.
const EARLIER: &[&str] = &[
    "Allocated by task 123:",
    "Freed by task 123:",
    "Last potentially related work creation:",
    "Uninit was stored to memory at:",
    "Local variable ----x@f created at:",
    "allocated by task 123 on cpu 0 at 5.1s:",
    "freed by task 123 on cpu 0 at 5.1s:",
    "which lock already depends on the new lock.",
    "the existing dependency chain (in reverse order) is:",
    "other info that might help us debug this:",
    "but task is already holding lock:",
    "{HARDIRQ-ON-W} state was registered at:",
    "hardirqs last  enabled at (5): _raw_spin_unlock_irq",
    "softirqs last disabled at (5): irq_exit",
    "kfence-#5 [0xffff-0xffff, size=32, cache=x] allocated by task 123:",
];

#[test]
fn the_outermost_function_is_not_one_of_an_earlier_event() {
    for (line, outermost) in
        EARLIER.iter().map(|line| (line, "ret_from_fork")).chain([(&"x", "worker_thread")])
    {
        let found = title(&[
            "BUG: KASAN: use-after-free in memcpy+0x1/0x2",
            "Read of size 8 at addr ffff888100000000 by task syz/1",
            " memcpy+0x1/0x2",
            " kthread+0x1/0x2",
            " ret_from_fork+0x1/0x2",
            line,
            " kfree+0x1/0x2",
            " worker_thread+0x1/0x2",
        ]);
        assert_eq!(found, format!("KASAN: use-after-free Read in {outermost}"), "{line}");
    }
}

#[test]
fn an_earlier_event_names_a_crash_without_another_name() {
    let lines = [
        "BUG: KASAN: use-after-free in memcpy+0x1/0x2",
        " memcpy+0x1/0x2",
        " ret_from_fork+0x1/0x2",
        "Freed by task 123:",
        " kfree+0x1/0x2",
        " ? snd_unsure+0x1/0x2",
        " snd_free+0x1/0x2",
    ];
    assert_eq!(title(&lines), "KASAN: use-after-free in snd_free");
}

#[test]
fn a_stack_begins_at_its_head() {
    let rcu = "WARNING: suspicious RCU usage";
    let other = " snd_other+0x1/0x2";
    for head in ["Call Trace:", "Call trace:", "stack backtrace:", "Backtrace: "] {
        let found = title(&[rcu, other, head, " dump_stack+0x1/0x2", " snd_x+0x1/0x2"]);
        assert_eq!(found, "WARNING: suspicious RCU usage in snd_x", "{head}");
    }
    assert_eq!(title(&[rcu, other, " snd_x+0x1/0x2"]), "WARNING: suspicious RCU usage in snd_other");
    // Without a head, the outermost of shared functions.
    assert_eq!(title(&[rcu, " kfree+0x1/0x2"]), "WARNING: suspicious RCU usage in kfree");
    // The instruction pointer counts before the head, the stack of a detector has none.
    let fault = ["kernel BUG at fs/x.c:5!", "RIP: 0010:snd_x+0x1/0x2", "Call Trace:", " snd_y+0x1/0x2"];
    assert_eq!(title(&fault), "kernel BUG in snd_x");
    let detector =
        ["BUG: KASAN: use-after-free in memcpy+0x1/0x2", " snd_x+0x1/0x2", "Call Trace:", " snd_y+0x1/0x2"];
    assert_eq!(title(&detector), "KASAN: use-after-free in snd_x");
    // The stack of a processor counts after locks that it held.
    let held = [rcu, "other info that might help us debug this:", other, "CPU: 0 PID: 1", " snd_x+0x1/0x2"];
    assert_eq!(title(&held), "WARNING: suspicious RCU usage in snd_x");
}

fn functions(lines: &[&str]) -> Vec<String> {
    report(lines).frames.into_iter().map(|frame| frame.function).collect()
}

#[test]
fn callers_on_the_lines_of_their_callees() {
    let rcu = "WARNING: suspicious RCU usage";
    let ab = "[<80512345>] (a) from [<80512399>] (b+0x12/0x340)";
    let bc = "[<80512345>] (b) from [<80512399>] (c+0x12/0x340)";
    let xy = "[<80512345>] (x) from [<80512399>] (y+0x12/0x340)";
    assert_eq!(functions(&[rcu, ab, bc, "end"]), ["a", "b", "c"]);
    assert_eq!(functions(&[rcu, ab, xy, "end"]), ["a", "b", "x", "y"]);
    // A caller before the head of the stack does not count either.
    let found = title(&[
        rcu,
        ab,
        "",
        "Backtrace: ",
        "[<80512345>] (dump_stack) from [<80512399>] (y+0x12/0x340)",
        "",
    ]);
    assert_eq!(found, "WARNING: suspicious RCU usage in y");
}

#[test]
fn a_shared_function_is_better_than_none_and_an_address_is_not() {
    for (function, name) in [
        ("kfree+0x1/0x2", "kfree"),
        ("address", "corrupted"),
        ("ffffffff81234567", "corrupted"),
        ("0xffffffff81234567", "corrupted"),
    ] {
        let found = report(&[&format!("BUG: KASAN: invalid-free in {function}"), "Modules linked in:"]);
        assert_eq!(found.title, format!("KASAN: invalid-free in {name}"));
        assert_eq!(found.corrupted, name == "corrupted");
    }
}
