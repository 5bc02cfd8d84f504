//! One constructed report of each kind in which the first frames do not name the crash.

/// The title of a log that consists of a first line and frames, with stamps and without.
fn title(lines: &[&str]) -> String {
    let plain = lines.join("\n");
    let stamped: String = lines.iter().map(|line| format!("[   12.345678][  T123] {line}\n")).collect();
    let title = |log: &str| crash::reports(log).into_iter().next().map(|report| report.title);
    assert_eq!(title(&plain), title(&stamped), "{plain}");
    assert!(lines.iter().any(|line| crash::trouble(line).is_some()), "no trouble: {plain}");
    title(&stamped).unwrap_or_default()
}

/// A report with a stack, the innermost function first.
fn with_stack(first: &str, functions: &str) -> String {
    let frames: Vec<String> =
        functions.split_whitespace().map(|name| format!(" {name}+0x12/0x340")).collect();
    let mut lines = vec![first, "CPU: 0 PID: 123 Comm: syz Not tainted 6.1.0 #1", "Call Trace:", " <TASK>"];
    lines.extend(frames.iter().map(String::as_str));
    lines.push("---[ end trace 0000000000000000 ]---");
    title(&lines)
}

/// (stack, title) of hung tasks: functions that wait.
const HUNG: &[(&str, &str)] = &[
    (
        "context_switch __schedule schedule wb_wait_for_completion sync_inodes_sb",
        "INFO: task hung in sync_inodes_sb",
    ),
    (
        "__schedule schedule rwsem_down_write_slowpath down_write super_cache",
        "INFO: task hung in super_cache",
    ),
    (
        "__schedule schedule_timeout __wait_for_common wait_for_completion rcu_barrier ext4_put_super",
        "INFO: task hung in ext4_put_super",
    ),
    (
        "__schedule io_schedule folio_wait_bit_common folio_wait_writeback ext4_writepages",
        "INFO: task hung in ext4_writepages",
    ),
    ("__schedule schedule inode_wait_for_writeback evict", "INFO: task hung in evict"),
    (
        "__schedule schedule down_read blocking_notifier_call_chain netdev_run_todo",
        "INFO: task hung in netdev_run_todo",
    ),
    (
        "__schedule schedule_timeout wait_for_completion __flush_workqueue drain_workqueue nci_close_device",
        "INFO: task hung in nci_close_device",
    ),
    (
        "__schedule schedule __mutex_lock mutex_lock_nested rtnl_lock tun_chr_close",
        "INFO: task hung in rtnl_lock",
    ),
    (
        "__schedule schedule_timeout __wait_rcu_gp synchronize_srcu_expedited kvm_swap",
        "INFO: task hung in synchronize_rcu",
    ),
];

/// (stack, title) of memory leaks: functions that allocate.
const LEAKS: &[(&str, &str)] = &[
    ("kmem_cache_alloc_noprof sk_prot_alloc sk_alloc_x pppox_create", "memory leak in pppox_create"),
    ("__kmalloc_noprof kmemdup_noprof kstrdup hsr_create_self", "memory leak in hsr_create_self"),
];

/// (source line and function, stack, title) of warnings in shared code.
const WARNINGS: &[(&str, &str, &str)] = &[
    (
        "lib/list_debug.c:59 __list_del_entry_valid_or_report",
        "__list_del_entry_valid_or_report list_del_init nilfs_free",
        "BUG: corrupted list in nilfs_free",
    ),
    (
        "lib/refcount.c:28 refcount_warn_saturate",
        "refcount_warn_saturate refcount_sub_and_test sock_put_x",
        "WARNING: refcount bug in sock_put_x",
    ),
    (
        "fs/buffer.c:1177 mark_buffer_dirty",
        "mark_buffer_dirty minix_free_block",
        "WARNING in minix_free_block",
    ),
    ("fs/inode.c:407 drop_nlink", "drop_nlink minix_unlink", "WARNING in minix_unlink"),
    (
        "mm/page_alloc.c:4700 __alloc_pages_noprof",
        "__alloc_pages_noprof alloc_pages_mpol ___kmalloc_large_node __kvmalloc_node_noprof bpf_test_init",
        "WARNING in bpf_test_init",
    ),
    (
        "lib/string_helpers.c:1032 __fortify_report",
        "__fortify_report __fortify_panic hci_sock_x",
        "WARNING in hci_sock_x",
    ),
    (
        "lib/kobject.c:734 kobject_put",
        "kobject_put device_del device_unregister usb_driver_x",
        "WARNING: kobject bug in usb_driver_x",
    ),
];

/// (first line, stack, title) of other reports.
const OTHERS: &[(&str, &str, &str)] = &[
    (
        "BUG: spinlock recursion on CPU#0, syz/123",
        "dump_stack_lvl spin_dump do_raw_spin_lock _raw_spin_lock task_rq_lock sched_setattr",
        "BUG: spinlock recursion in sched_setattr",
    ),
    (
        "BUG: rwlock recursion on CPU#1, syz/123",
        "dump_stack rwlock_bug do_raw_write_lock _raw_write_lock_bh neigh_update_x",
        "BUG: rwlock recursion in neigh_update_x",
    ),
    (
        "BUG: KASAN: slab-use-after-free in sysfs_remove_file_ns+0x12/0x340",
        "dump_stack_lvl print_report kasan_report sysfs_remove_file_ns device_del input_x_disconnect",
        "KASAN: slab-use-after-free in input_x_disconnect",
    ),
    (
        "BUG: KASAN: slab-out-of-bounds in crc32c_le_base+0x12/0x340",
        "dump_stack_lvl kasan_report crc32c_le_base chksum_update ext4_x_csum_verify",
        "KASAN: slab-out-of-bounds in ext4_x_csum_verify",
    ),
    (
        "BUG: KASAN: use-after-free in filemap_get_folio+0x12/0x340",
        "kasan_report filemap_get_entry __filemap_get_folio pagecache_get_page hfs_bnode_x",
        "KASAN: use-after-free in hfs_bnode_x",
    ),
    (
        "general protection fault, probably for non-canonical address 0xdffffc0000000000: 0000 [#1]",
        "bpf_prog_6deef7357e7b4530 bpf_dispatcher_nop_func xdp_run",
        "general protection fault in xdp_run",
    ),
];

#[test]
fn shared_helpers_are_skipped() {
    for (stack, title) in HUNG {
        assert_eq!(
            with_stack("INFO: task syz:123 blocked for more than 143 seconds.", stack),
            *title,
            "{stack}"
        );
    }
    for (stack, title) in LEAKS {
        assert_eq!(with_stack("BUG: memory leak", stack), *title, "{stack}");
    }
    for (position, stack, title) in WARNINGS {
        let first = format!("WARNING: CPU: 0 PID: 123 at {position}+0x12/0x340");
        assert_eq!(with_stack(&first, stack), *title, "{stack}");
    }
    for (first, stack, title) in OTHERS {
        assert_eq!(with_stack(first, stack), *title, "{first}: {stack}");
    }
}

#[test]
fn entry_functions_are_named_by_the_system_call() {
    let rcu = "WARNING: suspicious RCU usage";
    for (functions, wanted) in [
        ("lockdep_rcu_suspicious __se_sys_bpf do_syscall_64", "sys_bpf"),
        ("lockdep_rcu_suspicious __do_sys_bpf do_syscall_64", "sys_bpf"),
        ("lockdep_rcu_suspicious __ia32_compat_sys_ioctl do_fast_syscall_32", "compat_sys_ioctl"),
        ("lockdep_rcu_suspicious __arm64_sys_bpf invoke_syscall el0_svc", "sys_bpf"),
        ("el1h_64_sync_handler el1h_64_sync el1_abort do_mem_abort hfs_x", "hfs_x"),
        ("__dabt_svc vector_swi hfs_x", "hfs_x"),
        ("asm_sysvec_apic_timer_interrupt sysvec_apic_timer_interrupt irqentry_exit hfs_x", "hfs_x"),
    ] {
        let wanted = format!("WARNING: suspicious RCU usage in {wanted}");
        assert_eq!(with_stack(rcu, functions), wanted, "{functions}");
    }
    let by_address = "BUG: KASAN: use-after-free in 0xffffffffa0001234";
    assert_eq!(with_stack(by_address, "kasan_report hfs_x"), "KASAN: use-after-free in hfs_x");
}

#[test]
fn a_deadlock_is_named_by_the_function_that_takes_the_lock_or_by_the_chain() {
    let report = |function: &str| {
        title(&[
            "WARNING: possible circular locking dependency detected",
            "syz/123 is trying to acquire lock:",
            &format!("ffff88801 (&tree->lock){{+.+.}}-{{3:3}}, at: {function}+0x12/0x340"),
            "",
            "but task is already holding lock:",
            "ffff88802 (&sb->lock){+.+.}-{3:3}, at: hfs_get_block+0x1/0x2",
            "which lock already depends on the new lock.",
            "the existing dependency chain (in reverse order) is:",
            "-> #1 (&sb->lock){+.+.}-{3:3}:",
            "       lock_acquire+0x1/0x2",
            "       __mutex_lock+0x1/0x2",
            "       hfs_extend_file+0x1/0x2",
            "-> #0 (&tree->lock){+.+.}-{3:3}:",
            "       hfs_find_init+0x1/0x2",
            "stack backtrace:",
            "Call Trace:",
            " dump_stack_lvl+0x1/0x2",
            " hfs_other+0x1/0x2",
        ])
    };
    assert_eq!(report("hfs_find_init"), "possible deadlock in hfs_find_init");
    assert_eq!(report("process_one_work"), "possible deadlock in hfs_extend_file");
    assert_eq!(report("__flush_work"), "possible deadlock in hfs_extend_file");
    // A decoded report has a line for each inlined function.
    let decoded = title(&[
        "WARNING: possible circular locking dependency detected",
        "syz/123 is trying to acquire lock:",
        "ffff88801 (&tree->lock){+.+.}-{2:2}, at: spin_lock include/linux/spinlock.h:351 [inline]",
        "ffff88801 (&tree->lock){+.+.}-{2:2}, at: hfs_find_init+0x12/0x340 fs/hfs/bfind.c:30",
        "",
        "but task is already holding lock:",
        "ffff88802 (&sb->lock){+.+.}-{3:3}, at: hfs_get_block+0x1/0x2",
        "the existing dependency chain (in reverse order) is:",
        "-> #1 (&sb->lock){+.+.}-{3:3}:",
        "       hfs_extend_file+0x1/0x2",
    ]);
    assert_eq!(decoded, "possible deadlock in hfs_find_init");
    let alone = title(&[
        "WARNING: possible recursive locking detected",
        "syz/123 is trying to acquire lock:",
        "ffff88801 (&tree->lock){+.+.}-{3:3}, at: flush_workqueue+0x12/0x340",
    ]);
    assert_eq!(alone, "possible deadlock in flush_workqueue");
}

#[test]
fn a_stack_that_a_line_announces_names_the_report() {
    let bad_page = title(&[
        "BUG: Bad page state in process cat  pfn:12345",
        "page last free pid 12 tgid 12 stack trace:",
        " free_unref_page+0x1/0x2",
        " hfs_free+0x1/0x2",
        "page last allocated via order 0, migratetype Movable, pid 12",
        " prep_new_page+0x1/0x2",
        " hfs_allocate+0x1/0x2",
    ]);
    assert_eq!(bad_page, "BUG: Bad page state in hfs_allocate");
    let order = title(&[
        "WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected",
        "and this task is already holding:",
        " hfs_holder+0x1/0x2",
        "... which became SOFTIRQ-irq-safe at:",
        "  lock_acquire+0x1/0x2",
        "  hfs_interrupt+0x1/0x2",
        "... which became SOFTIRQ-irq-unsafe at:",
        "  hfs_process+0x1/0x2",
    ]);
    assert_eq!(order, "possible deadlock in hfs_interrupt");
}

#[test]
fn stalls_and_lockups() {
    let stall = "rcu: INFO: rcu_preempt self-detected stall on CPU";
    let report = [
        "dump_stack",
        "rcu_dump_cpu_stacks",
        "tick_sched_timer",
        "__hrtimer_run_queues",
        "hrtimer_interrupt",
    ];
    let reported = |stack: &str| {
        format!("{} sysvec_apic_timer_interrupt asm_sysvec_apic_timer_interrupt {stack}", report.join(" "))
    };
    for (stack, wanted) in [
        ("hlist_x sk_lookup_x netlink_x_dump netlink_dump netlink_recvmsg do_syscall_64", "netlink_x_dump"),
        ("find_x ext4_x_write vfs_write ksys_write do_syscall_64", "ext4_x_write"),
        ("spin_x loop_x process_one_work worker_thread kthread", "loop_x"),
        ("spin_x x_timer call_timer_fn __do_softirq", "x_timer"),
        ("spin_x do_exit __x64_sys_exit_group do_syscall_64", "sys_exit_group"),
    ] {
        assert_eq!(
            with_stack(stall, &reported(stack)),
            format!("INFO: rcu detected stall in {wanted}"),
            "{stack}"
        );
    }
    let by_another = title(&[
        "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
        "rcu: RCU grace-period kthread stack dump:",
        "Call Trace:",
        " __schedule+0x1/0x2",
        " schedule_timeout+0x1/0x2",
        " rcu_gp_fqs_loop+0x1/0x2",
        " rcu_gp_kthread+0x1/0x2",
        " kthread+0x1/0x2",
        " ret_from_fork+0x1/0x2",
        "Task dump for CPU 1:",
        "Call Trace:",
        " find_x+0x1/0x2",
        " ext4_x_ioctl+0x1/0x2",
        " vfs_ioctl+0x1/0x2",
        " do_syscall_64+0x1/0x2",
    ]);
    assert_eq!(by_another, "INFO: rcu detected stall in ext4_x_ioctl");
    let lockup = title(&[
        "watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [syz:123]",
        "RIP: 0010:csd_lock_wait+0x1/0x2",
        "Call Trace:",
        " smp_call_function_many_cond+0x1/0x2",
        " on_each_cpu_cond_mask+0x1/0x2",
    ]);
    assert!(lockup.starts_with("BUG: soft lockup in "), "{lockup}");
}

/// (first line, stack, title) of faults and of reports of the detectors.
const FAULTS: &[(&str, &str, &str)] = &[
    ("watchdog: CPU 1 Hard LOCKUP", "snd_x", "BUG: hard lockup in snd_x"),
    (
        "BUG: workqueue leaked atomic, lock or RCU: kworker/0:1[9] preempt=0x1 lock=0->1 RCU=0->0 workfn=snd_x",
        "process_one_work",
        "BUG: workqueue leaked lock or atomic in snd_x",
    ),
    ("divide error: 0000 [#1] PREEMPT SMP KASAN PTI", "snd_x", "divide error in snd_x"),
    ("Oops: divide error: 0000 [#1] SMP", "snd_x", "divide error in snd_x"),
    ("alignment check: 0000 [#1] SMP", "snd_x", "alignment check in snd_x"),
    (
        "segment-related general protection fault: beec [#2] PREEMPT",
        "snd_x",
        "general protection fault in snd_x",
    ),
    (
        "Unhandled fault: synchronous external abort (0x210) at 0xb6f00000",
        "snd_x",
        "Unhandled fault in snd_x",
    ),
    (
        "Internal error: synchronous external abort: 0000000096000210 [#1] SMP",
        "snd_x",
        "Internal error in snd_x",
    ),
    (
        "BUG: KASAN: double-free in kfree+0x1/0x2",
        "kasan_report_invalid_free kfree snd_x",
        "KASAN: double-free in snd_x",
    ),
    (
        "BUG: KASAN: invalid-free in kfree+0x1/0x2",
        "kasan_report_invalid_free kfree snd_x",
        "KASAN: invalid-free in snd_x",
    ),
    (
        "BUG: KASAN: double-free or invalid-free in kfree+0x1/0x2",
        "kfree snd_x",
        "KASAN: invalid-free in snd_x",
    ),
    ("BUG: KCSAN: assert: race in f1 / f2", "f1", "KCSAN: assert: race in f1 / f2"),
    ("BUG: KCSAN: data-race in f1 / f2", "f1", "KCSAN: data-race in f1 / f2"),
    (
        "BUG: KMSAN: uninit-value in irqentry_exit+0x1/0x2",
        "irqentry_exit sysvec_apic_timer_interrupt snd_x",
        "KMSAN: uninit-value in snd_x",
    ),
    (
        "BUG: TASK stack guard page was hit at ffffc90000 (stack is ffffc9000)",
        "snd_x",
        "BUG: stack guard page was hit in snd_x",
    ),
    (
        "Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: snd_x+0x1/0x2",
        "panic",
        "kernel panic: stack is corrupted in snd_x",
    ),
    (
        "Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: ffffffff81234567",
        "dump_stack panic __stack_chk_fail snd_x",
        "kernel panic: stack is corrupted in snd_x",
    ),
    (
        "WARNING: CPU: 0 PID: 1 at lib/debugobjects.c:505 debug_print_object+0x1/0x2",
        "debug_print_object debug_check_no_obj_freed kfree snd_x_free",
        "WARNING: ODEBUG bug in snd_x_free",
    ),
    (
        "BUG: non-zero pgtables_bytes on freeing mm: 4096",
        "f",
        "BUG: non-zero pgtables_bytes on freeing mm: NUM",
    ),
    (
        "unregister_netdevice: waiting for lo to become free. Usage count = 2",
        "f",
        "unregister_netdevice: waiting for DEV to become free",
    ),
    (
        "VFS: Busy inodes after unmount of vdb. Self-destruct in 5 seconds.",
        "f",
        "VFS: Busy inodes after unmount (use-after-free)",
    ),
];

#[test]
fn faults_and_detectors() {
    for (first, stack, title) in FAULTS {
        assert_eq!(with_stack(first, stack), *title, "{first}");
    }
}

/// (position and function in the first line, stack, title): helpers that no table of names contains, in shared source
/// files, and functions that a warning in a header is inlined into.
const HELPERS: &[(&str, &str, &str)] = &[
    ("lib/percpu_x.c:7 x_verify", "x_verify snd_x", "WARNING in snd_x"),
    (
        "/build/linux/lib/kobject.c:734 kobject_x",
        "kobject_x kobject_y snd_x",
        "WARNING: kobject bug in snd_x",
    ),
    ("fs/sysfs/group.c:278 x_verify", "x_verify sysfs_x_verify snd_x", "WARNING in snd_x"),
    ("kernel/locking/mutex.c:582 x_verify.constprop.0", "x_verify snd_x", "WARNING: locking bug in snd_x"),
    ("mm/page_owner.c:9 foo_verify", "foo_verify foo_next snd_x", "WARNING in foo_next"),
    ("mm/page_owner.c:9 mm_verify", "mm_verify mm_next snd_x", "WARNING in mm_next"),
    ("drivers/base/power/sysfs.c:9 __x_verify", "__x_verify x_next snd_x", "WARNING in x_next"),
    ("include/linux/skbuff.h:2069 snd_x", "snd_x snd_y", "WARNING in snd_x"),
    ("lib/iov_iter.c:555 iov_x_revert", "iov_x_revert snd_x", "WARNING in iov_x_revert"),
    ("sound/lib/list_x.c:5 snd_x", "snd_x snd_y", "WARNING in snd_x"),
];

#[test]
fn a_warning_in_a_shared_source_file_is_about_the_caller() {
    for (position, stack, title) in HELPERS {
        let old = format!("WARNING: CPU: 0 PID: 123 at {position}+0x12/0x340");
        assert_eq!(with_stack(&old, stack), *title, "{old}");
        let (file, function) = position.split_once(' ').unwrap();
        let new = format!("WARNING: {file} at {function}+0x12/0x340, CPU#0: syz/123");
        assert_eq!(with_stack(&new, stack), *title, "{new}");
    }
}

#[test]
fn frames_before_the_problem_belong_to_the_report() {
    for (first, stack, title) in [
        (
            "WARNING: CPU: 0 PID: 123 at lib/refcount.c:28 refcount_warn_saturate+0x12/0x340",
            "x_print x_report refcount_warn_saturate snd_x",
            "WARNING: refcount bug in snd_x",
        ),
        (
            "BUG: KASAN: double-free in kfree+0x12/0x340",
            "x_print x_report kfree snd_x",
            "KASAN: double-free in snd_x",
        ),
        (
            "BUG: KASAN: invalid-access in kfree+0x12/0x340",
            "x_print x_report kfree.part.0 snd_x",
            "KASAN: invalid-access in snd_x",
        ),
        // The function is not in the stack.
        ("BUG: KASAN: double-free in kfree+0x12/0x340", "x_free snd_x", "KASAN: double-free in x_free"),
    ] {
        assert_eq!(with_stack(first, stack), title, "{first}");
    }
    // Only a frame of the report's own stack that the unwinder is sure of.
    let double_free = |frames: &str| {
        let frames = frames.split(',').map(|frame| format!(" {frame}+0x1/0x2")).collect::<Vec<_>>();
        let own = ["Call Trace:", &frames[1], &frames[2], &frames[3], &frames[4]];
        let lines = ["BUG: KASAN: double-free in kfree+0x1/0x2", "Freed by task 1:", &frames[0]];
        title(&[lines.as_slice(), &own].concat())
    };
    assert_eq!(double_free("kfree,? kfree,x_print,kfree,snd_x"), "KASAN: double-free in snd_x");
    assert_eq!(double_free("kfree,x_print,x_report,kfree,snd_x"), "KASAN: double-free in snd_x");
    let fault = |first: &str, pointer: &str| {
        let pointer = format!("RIP: 0010:{pointer}+0x12/0x340");
        title(&[first, "Call Trace:", " x_print+0x1/0x2", &pointer, " memset+0x1/0x2", " snd_x+0x1/0x2"])
    };
    for first in [
        "BUG: unable to handle page fault for address: ffffc90000000000",
        "general protection fault: 0000 [#1] SMP",
        "kernel BUG at lib/x.c:5!",
    ] {
        let kind = match &first[..3] {
            "BUG" => "BUG: unable to handle kernel paging request",
            "gen" => "general protection fault",
            _ => "kernel BUG",
        };
        assert_eq!(fault(first, "memset_orig"), format!("{kind} in snd_x"));
        assert_eq!(fault(first, "snd_pcm_x"), format!("{kind} in snd_pcm_x"));
    }
    // A BUG() in a shared source file is about the caller, one in a header is in the function that contains it.
    assert_eq!(fault("kernel BUG at mm/slub.c:9!", "x_verify"), "kernel BUG in snd_x");
    assert_eq!(fault("kernel BUG at include/linux/x.h:9!", "x_verify"), "kernel BUG in x_verify");
    assert_eq!(fault("kernel BUG at net/core/skbuff.c:9!", "skb_x"), "kernel BUG in skb_x");
    let hung = "INFO: task syz:123 blocked for more than 143 seconds.";
    assert_eq!(with_stack(hung, "x_switch x_pick schedule snd_x schedule_x"), "INFO: task hung in snd_x");
    let ubsan = "UBSAN: array-index-out-of-bounds in fs/x.c:5:6";
    let handled = "x_print x_epilogue __ubsan_handle_out_of_bounds snd_x";
    assert_eq!(with_stack(ubsan, handled), "UBSAN: array-index-out-of-bounds in snd_x");
    // An interrupted function has not caused the report.
    let lockdep = "WARNING: suspicious RCU usage";
    assert_eq!(fault(lockdep, "snd_pcm_x"), "WARNING: suspicious RCU usage in x_print");
}
