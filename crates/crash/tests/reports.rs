//! Reports of small logs.

/// The titles, with the lines of each report.
fn titles(log: &str) -> Vec<(String, usize, usize)> {
    crash::reports(log).into_iter().map(|report| (report.title, report.start_line, report.end_line)).collect()
}

#[test]
fn interleaved_reports_of_two_processors_are_separated() {
    let log = "\
[    5.000000][    T1] systemd[1]: hello
[    5.100000][  T100] ------------[ cut here ]------------
[    5.100001][  T100] WARNING: CPU: 0 PID: 100 at fs/ext4/inode.c:10 ext4_write_begin+0x1/0x2
[    5.100002][  T200] BUG: kernel NULL pointer dereference, address: 0000000000000008
[    5.100003][  T100] RIP: 0010:ext4_write_begin+0x1/0x2
[    5.100004][  T200] #PF: supervisor read access in kernel mode
[    5.100005][  T100] Call Trace:
[    5.100006][  T200] Oops: 0000 [#1] PREEMPT SMP
[    5.100007][  T200] RIP: 0010:xfs_trans_alloc+0x1/0x2 [xfs]
[    5.100008][  T100]  generic_perform_write+0x1/0x2
[    5.100009][  T200] Call Trace:
[    5.100010][  T200]  xfs_create+0x1/0x2 [xfs]
[    5.100011][  T100] ---[ end trace 0000000000000000 ]---
[    5.100012][  T200] ---[ end trace 0000000000000000 ]---
[    5.100013][  T200] Kernel panic - not syncing: Fatal exception
";
    let reports = crash::reports(log);
    let titles: Vec<_> = reports.iter().map(|report| (report.title.as_str(), report.fatal)).collect();
    assert_eq!(
        titles,
        [
            ("WARNING in ext4_write_begin", false),
            ("BUG: unable to handle kernel NULL pointer dereference in xfs_trans_alloc", true)
        ]
    );
    assert_eq!(reports[1].frames.len(), 2);
    assert_eq!(reports[1].frames[0].module.as_deref(), Some("xfs"));
    assert_eq!(reports[1].excerpt(log).lines().count(), 7);
    assert!(!reports[1].excerpt(log).contains("ext4"));
}

#[test]
fn reports_of_lkdtm() {
    for (log, title) in [
        (
            "[   3.1] lkdtm: Performing direct entry BUG\n[   3.2] ------------[ cut here ]------------\n[   3.222] kernel BUG at drivers/misc/lkdtm/bugs.c:76!\n[   3.333] invalid opcode: 0000 [#1] PREEMPT SMP\n[   3.444] RIP: 0010:lkdtm_BUG+0x5/0x10\n[   3.555] Call Trace:\n[   3.666]  <TASK>\n[   3.777]  direct_entry+0x1/0x2\n",
            "kernel BUG in lkdtm_BUG",
        ),
        (
            "[   3.111] INFO: task cat:123 blocked for more than 120 seconds.\n[   3.222] Call Trace:\n[   3.333]  <TASK>\n[   3.444]  __schedule+0x1/0x2\n[   3.444]  schedule+0x1/0x2\n[   3.555]  lkdtm_HUNG_TASK+0x1/0x2\n",
            "INFO: task hung in lkdtm_HUNG_TASK",
        ),
        (
            "[   3.111] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [cat:123]\n[   3.222] RIP: 0010:lkdtm_SOFTLOCKUP+0x1/0x2\n[   3.333] Call Trace:\n[   3.444]  direct_entry+0x1/0x2\n[   3.555]  full_proxy_write+0x1/0x2\n",
            "BUG: soft lockup in lkdtm_SOFTLOCKUP",
        ),
        (
            "[   3.111] BUG: KASAN: slab-out-of-bounds in lkdtm_SLAB_LINEAR_OVERFLOW+0x1/0x2\n[   3.222] Write of size 4 at addr ffff888100000000 by task cat/123\n[   3.333] Call Trace:\n[   3.444]  dump_stack_lvl+0x1/0x2\n",
            "KASAN: slab-out-of-bounds Write in lkdtm_SLAB_LINEAR_OVERFLOW",
        ),
        (
            "[   3.111] BUG: unable to handle page fault for address: ffffc90000000000\n[   3.222] RIP: 0010:memset_orig+0x1/0x2\n[   3.333] Call Trace:\n[   3.444]  lkdtm_ACCESS_NULL+0x1/0x2\n",
            "BUG: unable to handle kernel paging request in lkdtm_ACCESS_NULL",
        ),
        (
            "[   3.111] Kernel panic - not syncing: dumptest\n[   3.222] CPU: 0 PID: 1\n",
            "kernel panic: dumptest",
        ),
    ] {
        let reports = crash::reports(log);
        assert_eq!(reports.iter().map(|report| report.title.as_str()).collect::<Vec<_>>(), [title]);
    }
}

#[test]
fn a_report_with_its_source_lines() {
    let log = "\
00003 [    5.100000][  T100] BUG: kernel NULL pointer dereference, address: 0000000000000008
00003 [    5.100001][  T200] another caller
00003 [    5.100002][  T100] RIP: 0010:ext4_punch_hole+0x1f/0x3b0
00003 [    5.100003][  T100] Call Trace:
00003 [    5.100004][  T100]  <TASK>
00003 [    5.100005][  T100]  ? ext4_fallocate+0x9/0x10
00003 [    5.100006][  T100]  vfs_fallocate+0x10/0x20
00003 [    5.100007][  T100] ---[ end trace 0000000000000000 ]---
";
    let source = |function: &str, file: &str, line| crash::SourceLine {
        function: function.into(),
        file: file.into(),
        line,
    };
    let locate = |frame: &crash::Frame| match (frame.function.as_str(), frame.offset) {
        ("ext4_punch_hole", Some((0x1f, Some(0x3b0)))) => {
            vec![source("ext4_sb", "fs/ext4/ext4.h", 7), source("ext4_punch_hole", "fs/ext4/inode.c", 4012)]
        }
        ("vfs_fallocate", Some((0x10, Some(0x20)))) => vec![source("vfs_fallocate", "fs/open.c", 320)],
        _ => vec![],
    };
    let reports = crash::reports(log);
    let decoded = reports[0].decoded(log, locate);
    assert_eq!(
        decoded,
        "\
BUG: kernel NULL pointer dereference, address: 0000000000000008
ext4_sb fs/ext4/ext4.h:7 [inline]
RIP: 0010:ext4_punch_hole+0x1f/0x3b0 fs/ext4/inode.c:4012
Call Trace:
 <TASK>
 ? ext4_fallocate+0x9/0x10
 vfs_fallocate+0x10/0x20 fs/open.c:320
---[ end trace 0000000000000000 ]---
"
    );
    assert_eq!(reports[0].guilty_frame, Some(0));
    // The decoded report has the same title, and now also the source line.
    let again = crash::reports(&decoded);
    assert_eq!(again[0].title, reports[0].title);
    let guilty = again[0].guilty_frame.map(|at| again[0].frames[at].source.clone());
    assert_eq!(guilty, Some(again[0].source.clone()));
    assert_eq!(again[0].source, Some(("fs/ext4/inode.c".into(), 4012)));
}

#[test]
fn only_frames_without_source_lines_and_with_an_offset_are_decoded() {
    let log = "kernel BUG at fs/x.c:5!\n    f+0x1/0x2\n g+0x1/0x2 fs/g.c:3\n inner fs/g.h:4 [inline]\n h from i+0x1/0x2\n";
    let locate = |frame: &crash::Frame| {
        ["inlined", frame.function.as_str()]
            .map(|function| crash::SourceLine { function: function.into(), file: "fs/a.c".into(), line: 9 })
            .to_vec()
    };
    let decoded = crash::reports(log)[0].decoded(log, locate);
    assert_eq!(
        decoded.trim_end(),
        log.trim_end().replace("    f+0x1/0x2", "    inlined fs/a.c:9 [inline]\n    f+0x1/0x2 fs/a.c:9")
    );
}

/// The formats of kernels from 6.1 on.
#[test]
fn formats_of_current_kernels() {
    let stack =
        "[    3.222] RIP: 0010:ext4_x+0x1/0x2\n[    3.333] Call Trace:\n[    3.444]  vfs_write+0x1/0x2\n";
    for (line, title) in [
        ("WARNING: CPU: 0 PID: 1 at fs/ext4/x.c:1 ext4_x+0x1/0x2", "WARNING in ext4_x"),
        ("WARNING: fs/ext4/x.c:1 at ext4_x+0x1/0x2, CPU#0: cat/1", "WARNING in ext4_x"),
        ("WARNING: [ret < 0] fs/ext4/x.c:1 at ext4_x+0x1/0x2, CPU#0: cat/1", "WARNING in ext4_x"),
        ("UBSAN: array-index-out-of-bounds in fs/ext4/x.c:1:2", "UBSAN: array-index-out-of-bounds in ext4_x"),
        ("UBSAN: shift-out-of-bounds in fs/ext4/x.c:1:2", "UBSAN: shift-out-of-bounds in ext4_x"),
        ("BUG: KCSAN: data-race in ext4_x / ext4_y", "KCSAN: data-race in ext4_x / ext4_y"),
        ("BUG: KCSAN: assert: race in ext4_x+0x1/0x2", "KCSAN: assert: race in ext4_x"),
        ("BUG: KFENCE: use-after-free read in ext4_x+0x1/0x2", "KFENCE: use-after-free read in ext4_x"),
        ("watchdog: CPU3: Watchdog detected hard LOCKUP on cpu 4", "BUG: hard lockup in ext4_x"),
        ("watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [cat:1]", "BUG: soft lockup in ext4_x"),
        ("rcu: INFO: rcu_preempt self-detected stall on CPU", "INFO: rcu detected stall in ext4_x"),
        (
            "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-.... }",
            "INFO: rcu detected stall in ext4_x",
        ),
        ("INFO: task cat:1 blocked for more than 122 seconds.", "INFO: task hung in ext4_x"),
        ("INFO: task cat:1 blocked in I/O wait for more than 122 seconds.", "INFO: task hung in ext4_x"),
        (
            "Oops: general protection fault, probably for non-canonical address 0xdffffc0000000000: 0000 [#1]",
            "general protection fault in ext4_x",
        ),
        ("Oops: divide error: 0000 [#1] SMP", "divide error in ext4_x"),
        (
            "BUG kmalloc-64 (Not tainted): Right Redzone overwritten",
            "BUG: Right Redzone overwritten in ext4_x",
        ),
        ("CFI failure at ext4_x+0x1/0x2 (target: g+0x0/0x2; expected type: 0x1234)", "CFI failure in ext4_x"),
        ("[ BUG: Invalid wait context ]", "WARNING: locking bug in ext4_x"),
        ("WARNING: suspicious RCU usage", "WARNING: suspicious RCU usage in ext4_x"),
    ] {
        let log = format!("[    3.111] {line}\n{stack}");
        assert_eq!(titles(&log).first().map(|(title, ..)| title.as_str()), Some(title), "{line}");
        assert!(crash::trouble(line).is_some(), "{line}");
    }
}

#[test]
fn titles_of_trouble_that_its_first_line_does_not_show() {
    for (first, title) in [
        // The name of a task contains a newline.
        ("INFO: task a\nb:12 blocked for more than 143 seconds.", "INFO: task hung in ext4_x"),
        ("INFO: task a\n:12 blocked in I/O wait for more than 143 seconds.", "INFO: task hung in ext4_x"),
        ("INFO: task a:1\nb c:12 is blocked for more than 143 seconds.", "INFO: task hung in ext4_x"),
        // x86 before 6.10: any words, an error code and a number.
        ("stack segment: 0000 [#1] PREEMPT SMP", "stack segment fault in ext4_x"),
        ("coprocessor segment overrun: 0000 [#3] SMP", "coprocessor segment overrun in ext4_x"),
        ("x87 FPU floating-point error: 0000 [#1] SMP", "x87 FPU floating-point error in ext4_x"),
        ("[ INFO: possible irq lock inversion dependency detected ]", "possible deadlock in ext4_x"),
        ("VFS: Busy inodes after unmount of sda", "VFS: Busy inodes after unmount (use-after-free)"),
        (
            "unregister_netdevice: waiting for syz_tun to become free",
            "unregister_netdevice: waiting for DEV to become free",
        ),
    ] {
        let log = format!("{first}\nCall Trace:\n mutex_lock+0x1/0x2\n ext4_x+0x1/0x2");
        assert_eq!(crash::reports(&log)[0].title, title, "{first}");
        assert!(first.lines().any(|line| crash::trouble(line).is_some()), "{first}");
    }
}

#[test]
fn torn_and_short_logs_are_marked_corrupted() {
    let reports = crash::reports("[   3.111] BUG: KASAN: slab-out-of-bo");
    assert_eq!(reports[0].title, "KASAN: slab-out-of-bo in corrupted");
    assert!(reports[0].corrupted);
    assert_eq!(titles(""), []);
    assert_eq!(titles("\n\n\n"), []);
}

#[test]
fn a_report_is_corrupted_only_if_its_title_lacks_a_function() {
    for (log, corrupted, guilty) in [
        ("kernel BUG at fs/x.c:5!\nRIP: 0010:f+0x1/0x2", false, Some("f")),
        ("kernel BUG at fs/x.c:5!", true, None),
        ("BUG: workqueue lockup - pool cpus=0\n f+0x1/0x2", false, None),
    ] {
        let report = crash::reports(log).remove(0);
        assert_eq!((report.corrupted, report.guilty.as_deref()), (corrupted, guilty), "{log}");
    }
}

#[test]
fn a_report_is_fatal_if_the_kernel_panicked() {
    let bug = "kernel BUG at fs/x.c:5!\nRIP: 0010:f+0x1/0x2";
    let panic = "Kernel panic - not syncing: Fatal exception";
    for (log, fatal) in [
        (bug.to_owned(), false),
        (format!("{bug}\n{panic}"), true),
        (format!("{bug}\n---[ end trace 0 ]---\n{panic}"), true),
        (panic.to_owned(), true),
    ] {
        let reports = crash::reports(&log);
        assert_eq!(reports.iter().map(|report| report.fatal).collect::<Vec<_>>(), [fatal], "{log}");
    }
}

#[test]
fn the_second_report_of_a_log_has_its_own_lines() {
    let one = "[   3.111] WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1/0x2\n[   3.222]  g+0x1/0x2\n[   3.333] ---[ end trace 0 ]---\n";
    let log = format!("{one}[   4.111] ordinary\n{}", one.replace("f+", "h+"));
    assert_eq!(titles(&log), [("WARNING in f".to_owned(), 1, 3), ("WARNING in h".to_owned(), 5, 7)]);
}

proptest::proptest! {
    #[test]
    fn no_log_panics(log in "((\\[ {0,3}[0-9]{1,2}\\.[0-9]{6}\\](\\[ *[TC][0-9]{1,2}\\])? )?(BUG: |WARNING: |KASAN: |INFO: task |RIP: 0010:|in |at: |Call Trace:| f\\+0x1/0x2|\\(f\\) from |<|é){0,5}\n){0,12}") {
        for report in crash::reports(&log) {
            proptest::prop_assert!(report.start_line <= report.end_line);
            let _ = report.excerpt(&log);
        }
    }
}

#[test]
fn a_second_boot_is_an_unexpected_reboot() {
    let boot = "[    0.000000] Linux version 6.1.0 (x@y)\n[    2.000000] Run /init as init process\n";
    assert_eq!(crash::reports(boot), []);
    let again = crash::reports(&format!("{boot}{boot}"));
    assert_eq!(
        again.iter().map(|report| report.title.as_str()).collect::<Vec<_>>(),
        ["unexpected kernel reboot"]
    );
    assert_eq!(crash::reports(&format!("{boot}[    3.100000] reboot: Restarting system\n{boot}")), []);
}

#[test]
fn a_stack_of_shared_functions_is_named_by_the_outermost() {
    let log = "WARNING: CPU: 1 PID: 4090 at arch/riscv/mm/physaddr.c:16 __warn+0x44/0x5c\nCall Trace:\n [<ffffffe002141ec4>] show_stack+0x32/0x3e\n [<ffffffe000201bae>] ret_from_exception+0x0/0x10\n";
    assert_eq!(crash::reports(log)[0].title, "WARNING in ret_from_exception");
}

#[test]
fn a_decoded_trace_has_the_title_of_a_plain_one() {
    let plain = "\
WARNING: CPU: 0 PID: 6668 at arch/arm64/mm/fault.c:374 __do_kernel_fault+0x158/0x1c0
Call trace:
 __do_kernel_fault+0x158/0x1c0
 el1h_64_sync+0x64/0x68
 nfc_llcp_unregister_device+0x34/0x10c
---[ end trace 0000000000000000 ]---
";
    let inlined = " el1h_64_sync+0x64/0x68\n nfc_llcp_find_local net/nfc/llcp_core.c:286 [inline]\n";
    let decoded = plain.replace(" el1h_64_sync+0x64/0x68\n", inlined);
    for log in [plain, &decoded] {
        assert_eq!(titles(log)[0].0, "WARNING in nfc_llcp_unregister_device");
    }
}

#[test]
fn a_wrapper_that_sets_a_key_does_not_name_the_crash() {
    let log = "\
BUG: KMSAN: uninit-value in crypto_rng_reset+0x193/0x250
 crypto_rng_reset+0x193/0x250
 rng_setkey+0x52/0x70
 alg_setkey+0x265/0x3b0
";
    assert_eq!(titles(log)[0].0, "KMSAN: uninit-value in alg_setkey");
}
