//! What a test prints of the protocol of its own boot changes nothing.

use super::*;

/// A line of the library in the kernel's log, at this second and with this number.
fn message(number: u32, line: &str) -> String {
    format!("[{number:5}.000000] ktest/{}.{number} {line}", TOKEN.as_str())
}

/// Subtest a has ended after it printed this message, and b runs since 30 s.
fn second(said: &str) -> Supervisor {
    let protocol = Protocol { library: LibraryLines::Token, ..without_token() };
    let mut vm = Supervisor::new(["a", "b", "c"].map(name), LIMITS, protocol, at(0));
    vm.allow_reboots(1);
    vm.print(&init(UP), at(5));
    vm.print(&message(20, "========= TEST   a"), at(20));
    vm.print(&message(21, said), at(21));
    vm.print(&message(22, "========= PASSED a in 2s"), at(22));
    assert_eq!(vm.print(&message(30, "========= TEST   b"), at(30)).len(), 2);
    vm
}

/// How a test prints a line of the kernel's log again.
fn copies(line: &str) -> [String; 12] {
    let (stamp, bare) = line.split_once("] ").unwrap();
    let seconds = stamp.trim_start_matches(['[', ' ']);
    [
        line.to_owned(),
        format!("{line}\r"),
        bare.to_owned(),
        format!("<1>{line}"),
        format!("user  :alert : {line}"),
        format!("[Sun Nov 29 16:22:34 2026] {bare}"),
        format!("9,405,{seconds},-;{bare}"),
        format!("Nov 29 16:22:34 ktest kernel: {bare}"),
        // Written to the kernel's log.
        format!("[   31.000000] {line}"),
        format!("[   31.000000] {bare}"),
        format!("[   31.000000] a copy: {line}"),
        // Behind half a line.
        format!("40%{line}"),
    ]
}

#[test]
fn the_log_of_the_same_boot_changes_nothing() {
    for said in [
        "WATCHDOG 1",
        "QEMU_MONITOR device_del vd1",
        "EXPECTED_REBOOT",
        "========= KTAP CASE x/y skip not built",
        "========= KTAP GROUP x",
    ] {
        for copy in copies(&message(21, said)) {
            let mut vm = second(said);
            let deadline = vm.deadline();
            assert_eq!(vm.print(&copy, at(31)), [], "{copy}");
            assert_eq!(vm.deadline(), deadline, "{copy}");
            for line in [message(20, "========= TEST   a"), message(22, "========= PASSED a in 2s")] {
                assert_eq!(vm.print(&line, at(32)), [], "{copy}");
            }
            assert_eq!(vm.running().map(|(name, _)| name.as_str()), Some("b"), "{copy}");
            let mut restarted = second(said);
            restarted.print(&copy, at(31));
            assert_eq!(restarted.ended(VmEnd::Guest, at(32)).1, VmOutcome::Lost, "{copy}");
            let shown = show(&end(&mut vm, &message(33, "========= PASSED b in 3s"), at(33)));
            assert!(shown.starts_with("b Passed"), "{copy}: {shown}");
        }
    }
}

#[test]
fn a_shell_that_traces_its_commands_changes_nothing() {
    let token = format!("ktest/{}", TOKEN.as_str());
    for (said, number) in
        [("WATCHDOG 1", 31), ("QEMU_MONITOR device_del vd1", 31), ("========= FAILED b in 1s", 31)]
    {
        let mut vm = second("WATCHDOG 50");
        for trace in [
            format!("+ local 'line={token}.{number} {said}'"),
            format!("++ printf '<1>%s\\n' '{token}.{number} {said}'"),
            format!("+ local line={token}.{number} {said}"),
        ] {
            let deadline = vm.deadline();
            assert_eq!(vm.print(&trace, at(31)), [], "{trace}");
            assert_eq!(vm.deadline(), deadline, "{trace}");
        }
        // The line itself counts.
        let before = (vm.deadline(), vm.running().is_some());
        let actions = vm.print(&message(number, said), at(31));
        assert!(!actions.is_empty() || before != (vm.deadline(), vm.running().is_some()), "{said}");
    }
}

#[test]
fn kernel_trouble_behind_a_copy_that_is_cut_off_counts() {
    let old = message(21, "WATCHDOG 50");
    for cut in (0..=old.len()).filter(|cut| old.is_char_boundary(*cut)) {
        let mut vm = second("WATCHDOG 50");
        vm.print(&format!("{}[   31.000000] BUG: x", &old[..cut]), at(31));
        let shown = show(&end(&mut vm, &message(32, "========= PASSED b in 1s"), at(32)));
        assert!(shown.starts_with("b Failed"), "{cut}: {shown}");
    }
}

#[test]
fn a_verdict_behind_half_a_line_or_a_copy_counts() {
    let old = message(21, "WATCHDOG 50");
    for before in ["40%", "guest login: ", &old, &old[..30], "\u{1b}[1m", "[    3.000000] of another boot"] {
        let mut vm = second("WATCHDOG 50");
        let line = format!("{before}{}", message(32, "========= PASSED b in 1s"));
        let shown = show(&end(&mut vm, &line, at(32)));
        assert!(shown.starts_with("b Passed"), "{before}: {shown}");
    }
}

#[test]
fn a_kernel_without_stamps_prints_behind_half_a_line() {
    let protocol = Protocol { library: LibraryLines::Token, ..without_token() };
    let mut vm = Supervisor::new(["a"].map(name), LIMITS, protocol.clone(), at(0));
    vm.print(&init(UP), at(5));
    let line = |number: u32, line: &str| format!("40%ktest/{}.{number} {line}", TOKEN.as_str());
    assert_eq!(vm.print(&line(1, "========= TEST   a"), at(6)).len(), 1);
    vm.print(&line(2, "WATCHDOG 50"), at(7));
    let deadline = vm.deadline();
    vm.print(&line(2, "WATCHDOG 50"), at(17));
    assert_eq!(vm.deadline(), deadline);
    // Programs on the host print no messages of a kernel, and the library ends an unfinished line.
    let mut host = Supervisor::new(["a"].map(name), LIMITS, protocol, at(0)).without_kernel();
    host.print(&init(UP), at(5));
    assert_eq!(host.print(&line(1, "========= TEST   a"), at(6)), []);
}
