//! What ends a VM early, and what is ignored at the wrong time.

use super::*;

#[test]
fn the_subtests_of_a_vm_are_counted() {
    let mut vm = vm(&["a", "b", "c"]);
    assert_eq!((vm.started(), vm.cut_short()), (0, false));
    for (number, name) in ["a", "b", "c"].iter().enumerate() {
        vm.print(&format!("========= TEST   {name}"), at(2));
        assert_eq!(vm.started() as usize, number + 1);
        end(&mut vm, &format!("========= PASSED {name} in 1s"), at(3));
    }
    vm.print(&init("========= KTEST EXIT 0"), at(4));
    assert!(!vm.cut_short());
}

#[test]
fn a_verdict_of_another_subtest_changes_nothing() {
    let mut vm = vm(&["a", "b"]);
    vm.print("========= TEST   a", at(2));
    for line in ["========= PASSED b in 1s", "========= FAILED b in 1s", "========= NOTRUN b in 0s: x"] {
        assert_eq!(end(&mut vm, line, at(3)), [], "{line}");
        assert_eq!(vm.running().map(|(name, _)| name.as_str()), Some("a"), "{line}");
    }
}

#[test]
fn init_can_fail_only_after_the_boot_and_before_the_first_subtest() {
    let failed = init("ktest: /host/t/tests/a.ktest init failed (exit 1)");
    let mut booting = Supervisor::new([name("a")], LIMITS, without_token(), at(0));
    booting.print(&failed, at(1));
    assert!(matches!(booting.ended(VmEnd::Guest, at(2)).1, VmOutcome::NoBoot { .. }));
    let mut up = vm(&["a"]);
    up.print(&failed, at(2));
    assert!(matches!(up.ended(VmEnd::Guest, at(3)).1, VmOutcome::InitFailed(_)));
    let mut later = vm(&["a"]);
    later.print("========= TEST   a", at(2));
    end(&mut later, "========= PASSED a in 1s", at(3));
    later.print(&failed, at(4));
    later.print(&init("========= KTEST EXIT 0"), at(5));
    assert_eq!(later.ended(VmEnd::Guest, at(6)).1, VmOutcome::Complete);
}

#[test]
fn a_run_that_is_given_up_before_the_first_subtest_has_no_verdicts() {
    let mut up = vm(&["a"]);
    let mut booting = Supervisor::new([name("a")], LIMITS, without_token(), at(0));
    for vm in [&mut up, &mut booting] {
        assert_eq!(vm.give_up("too much output".into()), [Action::Kill]);
        let outcome = vm.ended(VmEnd::Killed, at(3)).1;
        assert_eq!(outcome, VmOutcome::InitFailed("too much output".into()));
    }
}

#[test]
fn qemu_that_dies_after_the_last_subtest_is_no_error() {
    for (subtests, lost) in [(&["a"][..], true), (&["a", "b"], false)] {
        let mut vm = vm(subtests);
        vm.print("========= TEST   a", at(2));
        end(&mut vm, "========= PASSED a in 1s", at(3));
        let outcome = vm.ended(VmEnd::Died("signal 9".into()), at(4)).1;
        assert_eq!(outcome == VmOutcome::Lost, lost, "{outcome:?}");
    }
}

#[test]
fn a_user_keeps_a_vm_that_panicked_while_booting() {
    let mut vm = Supervisor::new([name("a")], TimeLimits::interactive(), without_token(), at(0));
    vm.print("[    1.000000] Kernel panic - not syncing: x", at(1));
    assert_eq!(vm.tick(at(100)), []);
    assert_eq!(vm.deadline(), None);
}

#[test]
fn the_report_of_a_crash_has_a_limited_number_of_lines() {
    let fault = "BUG: unable to handle page fault for address: ffff888000000000";
    for (others, function) in [(0, "ext4_x"), (598, "ext4_x"), (599, "corrupted")] {
        let mut vm = vm(&["a"]);
        vm.print("========= TEST   a", at(2));
        vm.print(&format!("[    3.000000] {fault}"), at(3));
        for _ in 0..others {
            vm.print("[    3.000000] another line", at(3));
        }
        vm.print("[    3.000000] RIP: 0010:ext4_x+0x12/0x340", at(3));
        let shown = show(&end(&mut vm, "========= PASSED a in 1s", at(4)));
        let title = format!("crash=BUG: unable to handle kernel paging request in {function} ");
        assert!(shown.contains(&title), "{others}: {shown}");
    }
}
