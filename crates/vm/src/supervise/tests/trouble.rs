//! Which subtest kernel trouble belongs to, and what is only a copy of it.

use super::*;

const WARNING: &str = "WARNING: CPU: 0 PID: 1 at fs/x.c:1 f+0x1/0x2";

fn with_token() -> Protocol {
    Protocol { library: LibraryLines::Token, ..without_token() }
}

/// A VM whose library has the token and writes to `/dev/kmsg`. Subtest a runs since 20 s.
fn kmsg_vm() -> Supervisor {
    let mut vm = Supervisor::new(["a", "b"].map(name), LIMITS, with_token(), at(0));
    vm.print(&init(UP), at(5));
    assert_eq!(show(&vm.print(&kmsg(20, "========= TEST   a"), at(21))), "Started(\"a\")");
    vm
}

fn kmsg(seconds: u64, line: &str) -> String {
    format!("[{seconds:5}.000000] {}", init(line))
}

#[test]
fn a_copy_of_old_kernel_messages_is_no_trouble() {
    for copy in [
        format!("[    1.000000] {WARNING}"),
        format!("<4>[   18.500000][  T77] {WARNING}"),
        format!("dmesg: [    1.000000] {WARNING}"),
        format!("[   21.000000] [    1.000000] {WARNING}"),
        "[    0.500000] Kernel panic - not syncing: x".into(),
        "[   12.000000] BUG: KASAN: use-after-free in f+0x1/0x2".into(),
        "[    3.000000] Oops: 0000 [#1] PREEMPT SMP".into(),
    ] {
        let mut vm = kmsg_vm();
        vm.print(&copy, at(22));
        vm.print(&kmsg(23, "========= PASSED a in 3s"), at(23));
        vm.print(&copy, at(23));
        let shown = show(&vm.settle(at(24)));
        assert!(shown.starts_with("a Passed"), "{copy}: {shown}");
        assert!(vm.deadline().is_some_and(|deadline| deadline > at(60)), "{copy}");
    }
}

/// The messages of `dmesg` on the host, and those of a program about a kernel.
#[test]
fn without_a_vm_no_line_is_kernel_trouble() {
    for line in [
        WARNING,
        "BUG: a program's own",
        "[   21.000000] BUG: KASAN: use-after-free in f+0x1/0x2",
        "<3>[   21.000000][  T12] INFO: task worker:123 blocked for more than 120 seconds.",
        "40%[   21.000000] Kernel panic - not syncing: x",
    ] {
        let vm = || Supervisor::new(["a", "b"].map(name), LIMITS, with_token(), at(0));
        for (mut vm, wanted) in [(vm(), "a Failed"), (vm().without_kernel(), "a Passed")] {
            vm.print(&init(UP), at(5));
            vm.print(&init("========= TEST   a"), at(20));
            vm.print(line, at(21));
            let mut actions = vm.print(&init("========= PASSED a in 1s"), at(22));
            actions.extend(vm.print(line, at(22)));
            actions.extend(vm.print(&init("========= KTEST EXIT 0"), at(23)));
            actions.extend(vm.ended(VmEnd::Guest, at(24)).0);
            let shown = show(&actions);
            assert!(shown.starts_with(wanted), "{line}: {shown}");
        }
    }
}

#[test]
fn the_reason_of_a_run_that_ends_early_names_what_ended() {
    for (mut vm, reason) in [
        (kmsg_vm(), "the guest powered off or reset while it ran"),
        (kmsg_vm().without_kernel(), "run-tests ended while it ran"),
    ] {
        let (actions, outcome) = vm.ended(VmEnd::Guest, at(22));
        let Action::Finished(finished) = &actions[0] else { unreachable!() };
        assert_eq!((finished.verdict.reason(), outcome), (Some(reason), VmOutcome::Lost));
    }
}

#[test]
fn trouble_of_this_moment_counts_whatever_was_copied_before() {
    for trouble in [
        format!("[   20.500000] {WARNING}"),
        format!("[  900.000000] {WARNING}"),
        WARNING.to_owned(),
        format!("[    1.000000] unfinished[   21.000000] {WARNING}"),
    ] {
        let mut vm = kmsg_vm();
        for copy in ["[    1.000000] BUG: x", "[  900.000000] EXT4-fs: old", "[  901.000000] ktest/0 x"] {
            vm.print(copy, at(22));
        }
        vm.print(&trouble, at(22));
        let shown = show(&end(&mut vm, &kmsg(23, "========= PASSED a in 3s"), at(23)));
        assert!(shown.starts_with("a Failed"), "{trouble}: {shown}");
    }
}

#[test]
fn without_stamps_or_a_marker_with_one_each_trouble_counts() {
    let mut vm = vm(&["a"]);
    vm.print("========= TEST   a", at(50));
    vm.print(&format!("[    1.000000] {WARNING}"), at(51));
    assert!(show(&end(&mut vm, "========= PASSED a in 1s", at(52))).starts_with("a Failed"));
}

#[test]
fn trouble_between_two_subtests_is_that_of_the_first() {
    let mut vm = kmsg_vm();
    vm.print(&kmsg(23, "========= PASSED a in 3s"), at(23));
    assert_eq!(vm.running(), None);
    vm.print(&format!("[   23.100000] {WARNING}"), at(24));
    vm.print("[   23.200000] Call Trace:", at(24));
    let actions = vm.print(&kmsg(25, "========= TEST   b"), at(25));
    let [Action::Finished(a), Action::Started(_)] = actions.as_slice() else { panic!("{actions:?}") };
    let reason = a.verdict.reason().unwrap();
    assert!(reason.contains("WARNING") && reason.ends_with(" (after it ended)"), "{reason}");
    assert!(a.crash.as_ref().is_some_and(|title| title.contains("WARNING")), "{:?}", a.crash);
    assert_eq!(a.duration, at(2));
    let log = String::from_utf8(a.log.clone()).unwrap();
    assert!(log.contains(WARNING) && log.contains("Call Trace:"), "{log}");
    assert!(log.ends_with("========= FAILED a in 2s\n"), "{log}");
    // It is not that of the second.
    assert!(show(&end(&mut vm, &kmsg(26, "========= PASSED b in 1s"), at(26))).starts_with("b Passed"));
}

#[test]
fn trouble_after_the_last_subtest_is_that_of_the_last() {
    for when in 0..2 {
        let mut vm = kmsg_vm();
        vm.print(&kmsg(23, "========= NOTRUN a in 3s: no"), at(23));
        let exit = || init("========= KTEST EXIT 0");
        if when == 0 {
            vm.print(&exit(), at(23));
        }
        vm.print(&format!("[   23.500000] {WARNING}"), at(24));
        if when == 1 {
            vm.print(&exit(), at(24));
        }
        let (actions, outcome) = vm.ended(VmEnd::Guest, at(25));
        assert!(show(&actions).starts_with("a Failed"), "{}", show(&actions));
        assert_eq!(outcome, VmOutcome::Complete);
    }
}

#[test]
fn trouble_after_a_failure_keeps_its_reason() {
    let mut vm = kmsg_vm();
    vm.print("x.ktest:3: failed (exit 1): f", at(22));
    vm.print(&kmsg(23, "========= FAILED a in 3s"), at(23));
    vm.print(&format!("[   23.100000] {WARNING}"), at(24));
    let actions = vm.settle(at(25));
    let [Action::Finished(a)] = actions.as_slice() else { panic!("{actions:?}") };
    let reason = a.verdict.reason().unwrap();
    assert!(reason.starts_with("x.ktest:3: failed (exit 1): f; ") && reason.contains("WARNING"), "{reason}");
    // Trouble while it ran is the cause, and all of its report is read.
    let mut vm = kmsg_vm();
    vm.print(&format!("[   22.000000] {WARNING}"), at(22));
    vm.print(&kmsg(23, "========= FAILED a in 3s"), at(23));
    let shown = show(&vm.settle(at(24)));
    assert!(shown.contains("WARNING") && !shown.contains("after it ended"), "{shown}");
}

#[test]
fn a_panic_between_two_subtests_is_that_of_the_first() {
    let mut vm = kmsg_vm();
    vm.print(&kmsg(23, "========= PASSED a in 3s"), at(23));
    vm.print("[   24.000000] Kernel panic - not syncing: x", at(24));
    assert_eq!(vm.deadline(), Some(at(27)));
    assert_eq!(vm.running(), None);
    assert_eq!(vm.tick(at(27)), [Action::Kill]);
    let (actions, outcome) = vm.ended(VmEnd::Killed, at(27));
    assert!(show(&actions).starts_with("a Failed { reason: \"kernel panic: x"), "{}", show(&actions));
    assert_eq!(outcome, VmOutcome::Lost);
}

#[test]
fn trouble_before_the_first_subtest_is_reported() {
    let mut vm = Supervisor::new(["a", "b"].map(name), LIMITS, with_token(), at(0));
    vm.print(&format!("[    1.000000] {WARNING}"), at(1));
    vm.print(&init(UP), at(5));
    assert!(vm.boot_trouble().is_some_and(|title| title.contains("WARNING")));
    // `init` of the file runs now.
    vm.print("[   10.000000] BUG: sleeping function called from invalid context at x.c:1", at(10));
    vm.print(&kmsg(20, "========= TEST   a"), at(20));
    let actions = end(&mut vm, &kmsg(21, "========= PASSED a in 1s"), at(21));
    let [Action::Finished(a)] = actions.as_slice() else { panic!("{actions:?}") };
    let reason = a.verdict.reason().unwrap();
    assert!(reason.contains("BUG: sleeping") && reason.ends_with(" (before it began)"), "{reason}");
    assert!(String::from_utf8_lossy(&a.log).contains("BUG: sleeping"));
    vm.print(&kmsg(22, "========= TEST   b"), at(22));
    assert!(show(&end(&mut vm, &kmsg(23, "========= PASSED b in 1s"), at(23))).starts_with("b Passed"));
}

#[test]
fn a_verdict_that_was_printed_stands_however_the_vm_ends() {
    let ended = || {
        let mut vm = kmsg_vm();
        vm.print(&kmsg(23, "========= PASSED a in 3s"), at(23));
        vm
    };
    let mut died = ended();
    let (actions, outcome) = died.ended(VmEnd::Died("killed by signal 9".into()), at(24));
    assert!(show(&actions).starts_with("a Passed"));
    assert_eq!(outcome, VmOutcome::Infrastructure("killed by signal 9".into()));
    let mut given_up = ended();
    assert_eq!(given_up.give_up("too much".into()), [Action::Kill]);
    assert!(show(&given_up.ended(VmEnd::Killed, at(24)).0).starts_with("a Passed"));
    let mut given_up_late = ended();
    given_up_late.print(&init("========= KTEST EXIT 0"), at(23));
    assert_eq!(given_up_late.give_up("too much".into()), [Action::Kill]);
    assert!(show(&given_up_late.ended(VmEnd::Killed, at(24)).0).starts_with("a Passed"));
    let mut silent = ended();
    assert_eq!(silent.tick(at(200)), [Action::Kill]);
    assert!(show(&silent.ended(VmEnd::Killed, at(200)).0).starts_with("a Passed"));
    let mut interactive = Supervisor::new([name("a")], TimeLimits::interactive(), without_token(), at(0));
    interactive.print(&init(UP), at(1));
    interactive.print("========= TEST   a", at(2));
    interactive.print("========= PASSED a in 0s", at(3));
    assert!(show(&interactive.print(&init("========= KTEST EXIT 0"), at(3))).starts_with("a Passed"));
    assert_eq!(interactive.ended(VmEnd::Guest, at(9)), (vec![], VmOutcome::Complete));
}
