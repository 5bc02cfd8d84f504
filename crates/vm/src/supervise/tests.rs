use std::sync::LazyLock;

use super::*;

mod copies;
mod limits;
mod reboot;
mod trouble;

const LIMITS: TimeLimits = TimeLimits {
    boot: Duration::from_secs(60),
    subtest: Duration::from_secs(100),
    shutdown: Duration::from_secs(10),
    watchdog_scale: 4,
    interactive: false,
};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn name(text: &str) -> SubtestName {
    text.parse().unwrap()
}

fn vm(subtests: &[&str]) -> Supervisor {
    let mut vm = Supervisor::new(subtests.iter().map(|text| name(text)), LIMITS, without_token(), at(0));
    assert_eq!(vm.print(&init(UP), at(1)), [Action::GuestUp]);
    vm
}

/// Prints a line on the console of a VM.
trait Console {
    fn print(&mut self, line: &str, now: Duration) -> Vec<Action>;
}

impl Console for Supervisor {
    fn print(&mut self, line: &str, now: Duration) -> Vec<Action> {
        let line = self.read(line);
        self.line(&line, now)
    }
}

/// Prints the line that ends a subtest: its verdict is reported when the next one begins or the VM ends.
fn end(vm: &mut Supervisor, line: &str, now: Duration) -> Vec<Action> {
    assert_eq!(vm.print(line, now), []);
    vm.settle(now)
}

/// The token for tests of libraries without a token.
static TOKEN: LazyLock<Token> = LazyLock::new(Token::random);

/// A library without a token. Only lines of the guest's init have it.
fn without_token() -> Protocol {
    Protocol { token: TOKEN.clone(), library: LibraryLines::Output }
}

/// A line as the guest's init prints it.
fn init(line: &str) -> String {
    format!("ktest/{} {line}", TOKEN.as_str())
}

/// The actions as short text; for a log, its last line.
fn show(actions: &[Action]) -> String {
    let one = |action: &Action| match action {
        Action::Finished(f) => {
            let log = String::from_utf8(f.log.clone()).unwrap();
            let status = log.lines().next_back().unwrap().to_string();
            let crash = f.crash.as_ref().map(|c| format!(" crash={c}")).unwrap_or_default();
            format!("{} {:?}{crash} | {status}", f.subtest, f.verdict)
        }
        other => format!("{other:?}"),
    };
    actions.iter().map(one).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_successful_run() {
    let mut vm = vm(&["a", "b", "c"]);
    assert_eq!(show(&vm.print("========= TEST   a", at(2))), "Started(\"a\")");
    assert!(vm.print("hello", at(3)).is_empty());
    assert_eq!(
        show(&end(&mut vm, "[  3.1] ========= PASSED a in 1s", at(4))),
        "a Passed | 00004 ========= PASSED a in 2s"
    );
    vm.print("========= TEST   b", at(5));
    vm.print("tests/x.ktest:12: failed (exit 1): mount /dev/vdb /mnt", at(5));
    vm.print("[   6.000000] EXT4-fs: whatever", at(6));
    assert_eq!(
        show(&end(&mut vm, "========= FAILED b in 1s", at(6))),
        "b Failed { reason: \"tests/x.ktest:12: failed (exit 1): mount /dev/vdb /mnt\" } | 00006 ========= FAILED b in 1s"
    );
    vm.print("========= TEST   c", at(7));
    assert_eq!(
        show(&end(&mut vm, "========= NOTRUN c in 0s: no mkfs.xfs", at(7))),
        "c NotRun { reason: \"no mkfs.xfs\" } | 00007 ========= NOTRUN c in 0s: no mkfs.xfs"
    );
    assert_eq!((vm.runs_tests(), vm.exit_status()), (true, None));
    assert!(vm.print(&init("========= KTEST EXIT 1"), at(8)).is_empty());
    assert_eq!((vm.runs_tests(), vm.exit_status()), (false, Some(1)));
    assert_eq!(vm.ended(VmEnd::Guest, at(9)), (vec![], VmOutcome::Complete));
}

#[test]
fn the_reason_of_a_failure() {
    for (lines, reason) in [
        (
            &[
                "[    6.000000] tests/a.ktest:22: failed (exit 32): mount x y",
                "mount: dmesg(1) may tell more",
            ][..],
            "tests/a.ktest:22: failed (exit 32): mount x y",
        ),
        (&["first", "last", "[    6.000000] EXT4-fs (vdb): unmounting"], "last"),
        (&["[    6.000000] EXT4-fs (vdb): unmounting"], "the subtest printed FAILED without a reason"),
    ] {
        let mut vm = vm(&["a"]);
        vm.print("========= TEST   a", at(2));
        for line in lines {
            vm.print(line, at(3));
        }
        let actions = end(&mut vm, "========= FAILED a in 1s", at(4));
        let Action::Finished(finished) = &actions[0] else { unreachable!() };
        assert_eq!(finished.verdict.reason(), Some(reason));
    }
}

#[test]
fn a_requested_ktap_case_gives_the_verdict() {
    let mut vm = vm(&["a", "b", "c"]);
    vm.print("[    1.000000] ========= KTAP BEGIN grp", at(2));
    for line in ["TAP version 13", "1..3", "not ok 1 send", "ok 2 send", "# BUG: of the test", "ok 3 recv"] {
        assert!(vm.print(&format!("[    1.000000] KTAP| {line}"), at(2)).is_empty());
    }
    vm.print("[    1.000000] ========= KTAP END", at(2));
    for (subtest, request, shown) in [
        ("a", "CASE grp/send skip x", "a Failed { reason: \"not ok\" } | 00004 ========= FAILED a in 1s"),
        ("b", "CASE grp/recv skip x", "b Passed | 00004 ========= PASSED b in 1s"),
        (
            "c",
            "CASE grp/none skip not built",
            "c NotRun { reason: \"not built\" } | 00004 ========= NOTRUN c in 1s: not built",
        ),
    ] {
        vm.print(&format!("========= TEST   {subtest}"), at(3));
        vm.print(&format!("========= KTAP {request}"), at(3));
        assert_eq!(show(&end(&mut vm, &format!("========= PASSED {subtest} in 0s"), at(4))), shown);
    }
}

#[test]
fn trouble_after_an_unfinished_line_counts() {
    for (line, crash) in [
        ("at work: 40%[   81.050000] INFO: task w:123 blocked for more than 120 seconds.", "INFO: task"),
        ("40%[   81.050000] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [w:123]", "soft lockup"),
        (
            "guest login: [   81.050000] BUG: workqueue lockup - pool cpus=0 stuck for 30s!",
            "workqueue lockup",
        ),
    ] {
        let mut vm = vm(&["a"]);
        vm.print("========= TEST   a", at(2));
        vm.print(line, at(3));
        let shown = show(&end(&mut vm, "========= PASSED a in 1s", at(4)));
        assert!(shown.starts_with("a Failed") && shown.contains(crash), "{line}: {shown}");
    }
    let mut panics = vm(&["a"]);
    panics.print("========= TEST   a", at(2));
    panics.print("........[   81.050000] Kernel panic - not syncing: x", at(3));
    assert_eq!(panics.deadline(), Some(at(6)));
}

#[test]
fn kernel_trouble_overrides_passed() {
    let mut vm = vm(&["a"]);
    vm.print("========= TEST   a", at(2));
    vm.print("[   3.000000] BUG: sleeping function called from invalid context at x.c:1", at(3));
    let shown = show(&end(&mut vm, "========= PASSED a in 1s", at(4)));
    assert!(
        shown.starts_with("a Failed { reason: \"BUG: sleeping function called from invalid context"),
        "{shown}"
    );
    assert!(shown.contains("crash=BUG: sleeping"), "{shown}");
    assert!(shown.ends_with("00004 ========= FAILED a in 2s"), "{shown}");
}

#[test]
fn a_panic_is_fatal_at_once() {
    let mut vm = vm(&["a", "b"]);
    vm.print("========= TEST   a", at(2));
    vm.print("[   3.000000] Kernel panic - not syncing: sysrq triggered crash", at(3));
    assert_eq!(vm.deadline(), Some(at(6)));
    assert_eq!(vm.print("========= PASSED a in 0s", at(3)), []);
    assert_eq!(vm.tick(at(5)), []);
    assert_eq!(vm.tick(at(6)), [Action::Kill]);
    let (actions, ending) = vm.ended(VmEnd::Killed, at(6));
    assert!(
        show(&actions).starts_with("a Failed { reason: \"kernel panic: sysrq triggered crash\" }"),
        "{}",
        show(&actions)
    );
    assert_eq!(ending, VmOutcome::Lost);
}

#[test]
fn the_last_line_of_a_panic_shortens_the_wait() {
    let mut vm = vm(&["a"]);
    vm.print("========= TEST   a", at(2));
    vm.print("Rebooting in 10 seconds..", at(2));
    assert_eq!((vm.deadline(), vm.has_crashed()), (Some(at(102)), false));
    vm.print("[   3.000000] Kernel panic - not syncing: sysrq triggered crash", at(3));
    assert_eq!((vm.deadline(), vm.has_crashed()), (Some(at(6)), true));
    vm.print("[   3.100000] Rebooting in 10 seconds..", at(4));
    assert_eq!(vm.deadline(), Some(at(4) + LAST_LINES));
    assert_eq!(vm.tick(at(5)), [Action::Kill]);
    assert!(vm.has_crashed());

    let mut boots = Supervisor::new([name("a")], LIMITS, without_token(), at(0));
    boots.print("[    0.500000] Kernel panic - not syncing: VFS: Unable to mount root fs", at(1));
    boots.print(
        "[    0.500000] ---[ end Kernel panic - not syncing: VFS: Unable to mount root fs ]---",
        at(1),
    );
    assert_eq!((boots.deadline(), boots.has_crashed()), (Some(at(1) + LAST_LINES), true));
}

#[test]
fn only_crashes_and_hangs_leave_a_core() {
    let mut hangs = vm(&["a"]);
    hangs.print("========= TEST   a", at(2));
    assert_eq!((hangs.tick(at(102)), hangs.has_crashed()), (vec![Action::Sysrq('w')], true));
    let mut writes = vm(&["a"]);
    writes.print("========= TEST   a", at(2));
    assert_eq!((writes.give_up("too much".into()), writes.has_crashed()), (vec![Action::Kill], false));
    let mut stays = vm(&["a"]);
    end(&mut stays, "========= NOTRUN a", at(2));
    assert_eq!((stays.tick(at(500)), stays.has_crashed()), (vec![Action::Kill], false));
}

#[test]
fn time_limits_and_watchdog() {
    let mut vm = vm(&["a", "b"]);
    vm.print("========= TEST   a", at(10));
    assert_eq!(vm.deadline(), Some(at(110)));
    vm.print("WATCHDOG 5", at(11));
    assert_eq!(vm.deadline(), Some(at(31)));
    assert_eq!(vm.tick(at(31)), [Action::Sysrq('w')]);
    vm.print("[   31.000000] task:sh state:D", at(31));
    assert_eq!((vm.deadline(), vm.tick(at(33))), (Some(at(34)), vec![]));
    assert_eq!(vm.tick(at(34)), [Action::Kill]);
    let (actions, ending) = vm.ended(VmEnd::Killed, at(34));
    assert_eq!(
        show(&actions),
        "a Failed { reason: \"timed out after 20 s\" } | 00034 ========= FAILED a in 24s"
    );
    assert_eq!(ending, VmOutcome::Lost);
}

#[test]
fn the_default_limit_applies_again_to_the_next_subtest() {
    let mut vm = vm(&["a", "b"]);
    vm.print("========= TEST   a", at(10));
    vm.print("WATCHDOG 1000", at(10));
    vm.print("========= PASSED a in 0s", at(20));
    vm.print("========= TEST   b", at(20));
    assert_eq!(vm.deadline(), Some(at(120)));
}

#[test]
fn a_subtest_that_ends_without_a_verdict_fails() {
    let mut vm1 = vm(&["a", "b"]);
    vm1.print("========= TEST   a", at(2));
    assert_eq!(
        show(&end(&mut vm1, &init("========= KTEST EXIT 7"), at(3))),
        "a Failed { reason: \"ended without a verdict: run-tests exited with status 7\" } | 00003 ========= FAILED a in 1s"
    );
    assert!(vm1.cut_short());
    assert_eq!(vm1.ended(VmEnd::Guest, at(4)).1, VmOutcome::Complete);

    let mut vm2 = vm(&["a", "b"]);
    vm2.print("========= TEST   a", at(2));
    let shown = show(&vm2.print("========= TEST   b", at(3)));
    assert!(shown.starts_with("a Failed { reason: \"ended without a verdict: b started\" }"), "{shown}");
    assert!(shown.ends_with("Started(\"b\")"), "{shown}");
}

#[test]
fn an_unrequested_subtest_gets_no_verdict() {
    let mut vm = vm(&["a"]);
    assert_eq!(vm.print("========= TEST   other", at(2)), []);
    assert_eq!(vm.print("========= PASSED other in 0s", at(2)), []);
    assert_eq!(vm.print("========= PASSED a in 0s", at(2)), [], "it never started");
    vm.print("========= TEST   a", at(3));
    vm.print("========= PASSED a in 0s", at(3));
    assert_eq!(vm.print("========= TEST   a", at(4)), [], "once is enough");
}

#[test]
fn a_vm_that_dies_by_itself_is_not_a_test_failure() {
    let mut vm = vm(&["a"]);
    vm.print("========= TEST   a", at(2));
    assert_eq!(
        vm.ended(VmEnd::Died("killed by signal 9".into()), at(3)),
        (vec![], VmOutcome::Infrastructure("killed by signal 9".into()))
    );
}

#[test]
fn a_guest_that_resets_is_a_test_failure() {
    let mut vm = vm(&["a"]);
    vm.print("========= TEST   a", at(2));
    let (actions, ending) = vm.ended(VmEnd::Guest, at(3));
    assert!(show(&actions).contains("powered off or reset while it ran"));
    assert_eq!(ending, VmOutcome::Lost);
}

#[test]
fn boots_that_fail() {
    let mut silent = Supervisor::new([name("a")], LIMITS, without_token(), at(0));
    assert_eq!(silent.tick(at(59)), []);
    assert_eq!(silent.tick(at(60)), [Action::Kill]);
    let ending = silent.ended(VmEnd::Killed, at(60)).1;
    assert_eq!(
        ending,
        VmOutcome::NoBoot { reason: "the guest did not boot within 60 s".into(), crashed: false }
    );

    let mut panics = Supervisor::new([name("a")], LIMITS, without_token(), at(0));
    panics.print("[    0.500000] Kernel panic - not syncing: VFS: Unable to mount root fs", at(1));
    assert_eq!(panics.tick(at(4)), [Action::Kill]);
    let VmOutcome::NoBoot { reason, crashed: true } = panics.ended(VmEnd::Killed, at(4)).1 else {
        unreachable!()
    };
    assert!(reason.starts_with("the kernel crashed while booting: "), "{reason}");

    let mut dead = Supervisor::new([name("a")], LIMITS, without_token(), at(0));
    let ending = dead.ended(VmEnd::Died("QEMU ended with exit code 1: no such file".into()), at(1)).1;
    assert_eq!(ending, VmOutcome::Infrastructure("QEMU ended with exit code 1: no such file".into()));
}

#[test]
fn init_that_fails() {
    let mut vm = vm(&["a"]);
    vm.print(&init("ktest: fs/x.ktest init failed (exit 3)"), at(2));
    assert_eq!(
        vm.ended(VmEnd::Guest, at(3)).1,
        VmOutcome::InitFailed("fs/x.ktest init failed (exit 3)".into())
    );
}

#[test]
fn init_that_prints_a_reason() {
    let mut own_file = vm(&["a"]);
    own_file.print("x.ktest: persistent memory /dev/pmem0 is missing", at(2));
    own_file.print("[    1.0] random: crng init done", at(2));
    own_file.print(&init("ktest: /host/t/fs/x.ktest init failed (exit 2)"), at(2));
    let why = "init failed: x.ktest: persistent memory /dev/pmem0 is missing";
    assert_eq!(own_file.ended(VmEnd::Guest, at(3)).1, VmOutcome::InitFailed(why.into()));
    let mut other_file = vm(&["a"]);
    other_file.print("other.ktest: no", at(2));
    other_file.print(&init("ktest: fs/x.ktest init failed (exit 2)"), at(2));
    assert_eq!(
        other_file.ended(VmEnd::Guest, at(3)).1,
        VmOutcome::InitFailed("fs/x.ktest init failed (exit 2)".into())
    );
}

#[test]
fn a_silent_shutdown_is_cut_off() {
    let mut vm = vm(&["a"]);
    vm.print("========= TEST   a", at(2));
    vm.print("========= PASSED a in 0s", at(3));
    vm.print(&init("========= KTEST EXIT 0"), at(3));
    assert_eq!(vm.tick(at(13)), [Action::Kill]);
    assert_eq!(vm.ended(VmEnd::Killed, at(13)).1, VmOutcome::Complete);
}

proptest::proptest! {
    /// For any console output, each subtest that starts gets exactly one verdict.
    #[test]
    fn one_verdict_each(script in proptest::collection::vec(0usize..14, 0..40), end in 0usize..3) {
        let (exit, failed, up) =
            (init("========= KTEST EXIT 0"), init("ktest: f init failed (exit 1)"), init(UP));
        let lines = [
            "========= TEST   a", "========= TEST   b", "========= TEST   c", "========= PASSED a in 0s",
            "========= FAILED b in 0s", "========= NOTRUN c in 0s: no", "========= PASSED b in 0s", "WATCHDOG 3",
            "[   1.000000] WARNING: CPU: 0", "[    1.0] Kernel panic - not syncing: x", &exit,
            &failed, "rubbish", &up,
        ];
        let mut vm = Supervisor::new(["a", "b", "c"].map(name), LIMITS, without_token(), at(0));
        let mut actions = vm.print(&init(UP), at(1));
        for (step, line) in script.iter().enumerate() {
            actions.extend(vm.print(lines[*line], at(2 + step as u64)));
            actions.extend(vm.tick(at(2 + step as u64)));
        }
        let end = [VmEnd::Guest, VmEnd::Killed, VmEnd::Died("gone".into())][end].clone();
        let (last, ending) = vm.ended(end, at(1000));
        actions.extend(last);
        let mut started = BTreeSet::new();
        let mut finished = BTreeSet::new();
        for action in &actions {
            match action {
                Action::Started(name) => proptest::prop_assert!(started.insert(name.clone())),
                Action::Finished(f) => proptest::prop_assert!(finished.insert(f.subtest.clone())),
                _ => {}
            }
        }
        proptest::prop_assert!(finished.is_subset(&started));
        let missing = started.len() - finished.len();
        proptest::prop_assert!(missing == 0 || (missing == 1 && matches!(ending, VmOutcome::Infrastructure(_) | VmOutcome::InitFailed(_))));
    }
}

#[test]
fn an_interactive_vm_has_no_limits() {
    let mut vm = Supervisor::new([name("a"), name("b")], TimeLimits::interactive(), without_token(), at(0));
    vm.print(&init(UP), at(1));
    vm.print("========= TEST   a", at(2));
    vm.print("WATCHDOG 1", at(3));
    assert!(vm.tick(at(1_000_000)).is_empty());
    vm.print("Kernel panic - not syncing: Fatal exception", at(1_000_001));
    // The verdict follows the panic's report, and the VM keeps running.
    let shown = show(&vm.tick(at(1_000_010)));
    assert!(shown.starts_with("a Failed") && !shown.contains("Kill"), "{shown}");
    assert!(vm.tick(at(2_000_000)).is_empty());
}

#[test]
fn a_line_without_the_token_of_the_boot_changes_nothing() {
    let token = Token::random();
    let mark = |text: &str| format!("[    1.000000] ktest/{} {text}", token.as_str());
    let mut vm = Supervisor::new(
        [name("a"), name("b")],
        LIMITS,
        Protocol { token: token.clone(), library: LibraryLines::Token },
        at(0),
    );
    assert!(vm.print(UP, at(1)).is_empty());
    assert_eq!(vm.print(&mark(UP), at(1)), [Action::GuestUp]);
    assert!(vm.print("[    2.000000] ========= TEST   a", at(2)).is_empty());
    assert_eq!(show(&vm.print(&mark("========= TEST   a"), at(2))), "Started(\"a\")");
    for line in [
        "========= PASSED a in 3s",
        "[    3.000000] ========= PASSED a in 3s",
        "00003 [    3.000000] ========= FAILED a in 3s",
        "========= TEST   b",
        "========= KTEST EXIT 0",
        "ktest: f.ktest init failed (exit 1)",
        "TEST SUCCESS",
        "WATCHDOG 1",
        "QEMU_MONITOR device_del vd1",
        "========= KTAP CASE x skip",
    ] {
        assert!(vm.print(line, at(3)).is_empty(), "{line}");
    }
    assert_eq!(vm.deadline(), Some(at(102)));
    let finished = format!("100 %{}", mark("========= FAILED a in 1s"));
    assert!(show(&end(&mut vm, &finished, at(4))).ends_with("| 00004 ========= FAILED a in 2s"));
    // Kernel trouble needs no token.
    vm.print(&mark("========= TEST   b"), at(5));
    vm.print("[    5.000000] WARNING: CPU: 0 PID: 1 at fs/x.c:1 f+0x1/0x2", at(5));
    assert!(show(&end(&mut vm, &mark("========= PASSED b in 0s"), at(6))).starts_with("b Failed"));
    vm.print(&mark("========= KTEST EXIT 1"), at(7));
    assert_eq!(vm.ended(VmEnd::Guest, at(8)), (vec![], VmOutcome::Complete));
}

/// A library that writes its markers to the console has no token, but the log of another run has the clock of that run.
#[test]
fn the_log_of_another_run_changes_nothing_for_a_library_without_a_token() {
    let mut vm = vm(&["a", "b"]);
    vm.print("========= TEST   a", at(2));
    for line in
        ["00012 ========= PASSED a in 1s", "00013 ========= TEST   b", "00014 [   20.5] ========= PASSED a"]
    {
        assert_eq!(vm.print(line, at(3)), [], "{line}");
        assert_eq!(vm.running().map(|(name, _)| name.as_str()), Some("a"), "{line}");
    }
    vm.print("00013 ========= KTAP CASE x/y skip not built", at(3));
    let shown = show(&end(&mut vm, "========= PASSED a in 1s", at(4)));
    assert!(shown.starts_with("a Passed"), "{shown}");
}

#[test]
fn markers_through_kmsg_of_another_boot_change_nothing() {
    let protocol = Protocol { library: LibraryLines::Kmsg, ..without_token() };
    let mut vm = Supervisor::new([name("a"), name("b")], LIMITS, protocol, at(0));
    vm.print("[    0.000000] Linux version 6.1", at(1));
    vm.print(&init(UP), at(5));
    assert_eq!(show(&vm.print("[   20.000000] ========= TEST   a", at(21))), "Started(\"a\")");
    for line in [
        "========= PASSED a in 1s",
        "00012 [   20.500000] ========= PASSED a in 1s",
        "[    3.000000] ========= PASSED a in 1s",
        "[  900.000000] ========= TEST   b",
    ] {
        assert_eq!(vm.print(line, at(22)), [], "{line}");
        assert_eq!(vm.running().map(|(name, _)| name.as_str()), Some("a"), "{line}");
    }
    let shown = show(&end(&mut vm, "[   22.000000] ========= FAILED a in 1s", at(23)));
    assert!(shown.starts_with("a Failed"), "{shown}");
    // A line of the guest's init has the token and no stamp.
    assert_eq!(show(&vm.print(&init("========= TEST   b"), at(24))), "Started(\"b\")");
}

#[test]
fn markers_of_a_library_without_a_token_count_and_those_of_init_do_not() {
    let token = Token::random();
    let mut vm = Supervisor::new(
        [name("a")],
        LIMITS,
        Protocol { token: token.clone(), library: LibraryLines::Kmsg },
        at(0),
    );
    vm.print(&format!("ktest/{} {UP}", token.as_str()), at(1));
    assert_eq!(show(&vm.print("[    2.000000] ========= TEST   a", at(2))), "Started(\"a\")");
    assert!(vm.print("========= KTEST EXIT 0", at(3)).is_empty());
    assert!(vm.print("========= PASSED a in 0s", at(3)).is_empty());
    assert!(show(&end(&mut vm, "[    4.000000] ========= PASSED a in 3s", at(4))).starts_with("a Passed"));
}
