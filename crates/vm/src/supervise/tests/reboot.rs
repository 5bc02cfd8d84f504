//! A subtest that resets its guest.

use super::*;

/// A VM with a subtest that has announced a reset.
fn announced() -> Supervisor {
    let mut vm = vm(&["a", "b", "c"]);
    vm.allow_reboots(2);
    vm.print("========= TEST   a", at(2));
    assert_eq!(end(&mut vm, "========= PASSED a in 0s", at(3)).len(), 1);
    vm.print("========= TEST   b", at(4));
    assert_eq!(vm.print("EXPECTED_REBOOT", at(5)), []);
    vm
}

#[test]
fn a_subtest_continues_after_the_reset_that_it_announced() {
    let mut vm = announced();
    assert_eq!(vm.ended(VmEnd::Guest, at(6)), (vec![], VmOutcome::Rebooting));
    assert_eq!(vm.remaining(&["a", "b", "c"].map(name)), ["b", "c"].map(name));
    // This boot warns, as every boot of this kernel may.
    assert_eq!(vm.print("[    0.100000] WARNING: CPU: 0 PID: 1 at kernel/x.c:1 x+0x1/0x2", at(7)), []);
    assert_eq!(vm.deadline(), Some(at(66)));
    assert_eq!(vm.print(&init(UP), at(20)), [Action::GuestUp]);
    assert_eq!(vm.deadline(), Some(at(120)));
    assert_eq!(vm.print("========= TEST   b", at(21)), []);
    let finished = show(&end(&mut vm, "========= PASSED b in 17s", at(22)));
    assert_eq!(finished, "b Passed | 00022 ========= PASSED b in 18s");
}

#[test]
fn other_resets_are_failures() {
    // A second one, which was not announced.
    let mut vm = announced();
    vm.ended(VmEnd::Guest, at(6));
    vm.print(&init(UP), at(20));
    let (actions, outcome) = vm.ended(VmEnd::Guest, at(21));
    assert!(show(&actions).contains("the guest powered off or reset while it ran"), "{}", show(&actions));
    assert_eq!(outcome, VmOutcome::Lost);
    // The runner ended the VM.
    let (actions, outcome) = announced().ended(VmEnd::Killed, at(6));
    assert_eq!((actions.len(), outcome), (1, VmOutcome::Lost));
    // A VM in which no subtest may reset the guest.
    let mut vm = announced();
    vm.allow_reboots(0);
    vm.print("EXPECTED_REBOOT", at(5));
    assert_eq!(vm.ended(VmEnd::Guest, at(6)).1, VmOutcome::Lost);
    // Much later.
    let mut vm = announced();
    assert_eq!(vm.ended(VmEnd::Guest, at(306)).1, VmOutcome::Lost);
    // Too many.
    let mut vm = announced();
    for second in [6, 8] {
        assert_eq!(vm.ended(VmEnd::Guest, at(second)).1, VmOutcome::Rebooting);
        vm.print(&init(UP), at(second + 1));
        vm.print("EXPECTED_REBOOT", at(second + 1));
    }
    assert_eq!(vm.ended(VmEnd::Guest, at(10)).1, VmOutcome::Lost);
}

#[test]
fn a_guest_that_does_not_boot_again_fails_the_subtest() {
    let mut vm = announced();
    vm.ended(VmEnd::Guest, at(6));
    assert_eq!(vm.tick(at(66)), [Action::Kill]);
    let finished = show(&vm.ended(VmEnd::Killed, at(67)).0);
    assert!(finished.contains("the guest did not boot again within 60 s"), "{finished}");

    let mut vm = announced();
    vm.ended(VmEnd::Guest, at(6));
    vm.print("[    1.000000] Kernel panic - not syncing: VFS: no root", at(8));
    let finished = show(&vm.ended(VmEnd::Guest, at(9)).0);
    assert!(finished.starts_with("b Failed"), "{finished}");
}
