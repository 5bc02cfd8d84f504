//! Which frame names a stall or a lockup.

const STALL: &str = "rcu: INFO: rcu_preempt self-detected stall on CPU";
const LOCKUP: &str = "watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [syz:123]";

/// The function in the title of a report. A `!` before a function is the instruction pointer.
fn named(first: &str, stack: &str) -> String {
    let frame = |name: &str| match name.strip_prefix('!') {
        Some(name) => format!("RIP: 0010:{name}+0x12/0x340"),
        None => format!(" {name}+0x12/0x340"),
    };
    let frames = stack.split_whitespace().map(frame).collect::<Vec<_>>().join("\n");
    let title = crash::reports(&format!("{first}\n{frames}")).remove(0).title;
    title.rsplit(' ').next().unwrap_or_default().to_owned()
}

/// (stack of a stall, function in the title).
const STALLS: &[(&str, &str)] = &[
    // Without an interrupt the stack begins at the instruction pointer, else at its first frame.
    ("snd_a !snd_b snd_c", "snd_b"),
    ("snd_a snd_b", "snd_a"),
    // After the interrupt that reported the stall; its entry can have several frames, up to four apart.
    ("snd_a gic_handle_irq snd_b snd_c", "snd_b"),
    ("gic_handle_irq x_irq __irq_svc snd_b", "snd_b"),
    ("gic_handle_irq x1 x2 x3 __irq_svc snd_b", "snd_b"),
    ("gic_handle_irq x1 x2 x3 x4 __irq_svc snd_b", "x1"),
    ("gic_handle_irq __irq_svc x2 x3 x4 el1_irq snd_b", "snd_b"),
    ("snd_a !snd_b gic_handle_irq snd_c", "snd_c"),
    ("snd_a sysvec_reschedule_ipi asm_sysvec_reschedule_ipi snd_b snd_c", "snd_b"),
    ("snd_a common_interrupt asm_common_interrupt snd_b snd_c", "snd_b"),
    ("snd_a instr_sysvec_irq_work sysvec_irq_work asm_sysvec_irq_work snd_b", "snd_b"),
    // The entry of a second interrupt is not part of the first one.
    ("gic_handle_irq !snd_b __irq_svc snd_c", "snd_b"),
    // The innermost function with a dispatcher as its caller. A dispatcher that another one calls is not it.
    ("snd_a snd_b vfs_write ksys_write do_syscall_64", "snd_b"),
    ("snd_a kfree vfs_write ksys_write do_syscall_64", "snd_a"),
    ("vfs_write do_syscall_64 snd_a", "vfs_write"),
    ("vfs_write vfs_ioctl snd_x process_one_work worker_thread", "snd_x"),
    ("snd_a snd_b", "snd_a"),
    // A processor that waits for another one.
    (
        "csd_lock_wait smp_call_function_many_cond on_each_cpu_mask snd_x process_one_work",
        "smp_call_function",
    ),
    // The thread of grace periods only waits.
    ("schedule rcu_gp_fqs_loop rcu_gp_kthread kthread ret_from_fork snd_a snd_b process_one_work", "snd_b"),
    ("schedule rcu_gp_fqs_loop rcu_gp_kthread snd_a snd_b process_one_work", "snd_b"),
    ("rcu_gp_kthread kthread ret_from_fork", "rcu_gp_kthread"),
];

/// (stack of a lockup, function in the title).
const LOCKUPS: &[(&str, &str)] = &[
    // The instruction pointer, if the trace does not begin with the interrupt.
    ("!snd_a snd_b gic_handle_irq snd_c", "snd_a"),
    ("gic_handle_irq snd_a !snd_b snd_c", "snd_a"),
    ("!gic_handle_irq snd_a", "snd_a"),
    ("snd_a !snd_b snd_c", "snd_b"),
    ("snd_a gic_handle_irq snd_b", "snd_b"),
    ("!csd_lock_wait smp_call_function_single snd_x vfs_ioctl", "smp_call_function"),
    ("!snd_a snd_b vfs_ioctl", "snd_b"),
];

#[test]
fn a_stall_is_named_by_the_loop_and_not_by_who_reported_it() {
    for (stack, name) in STALLS {
        assert_eq!(named(STALL, stack), *name, "{stack}");
    }
    for (stack, name) in LOCKUPS {
        assert_eq!(named(LOCKUP, stack), *name, "{stack}");
    }
}
