//! Stacks of many subsystems, as the consoles of all architectures print them.
//!
//! `stacks.txt` has a kind of report, a stack and the function in the title in each line. A report is made of it for each
//! architecture, in the format of an old and of a new kernel.

/// How an architecture prints registers and stacks.
struct Console {
    name: &'static str,
    /// The line of the instruction pointer.
    pointer: &'static str,
    head: &'static str,
    frame: &'static str,
    /// Whether the stack of a fault begins with the function of the instruction pointer.
    repeats: bool,
    /// The functions that print a stack, those that call a system call, those of a work item, and those of an interrupt.
    dump: &'static str,
    syscall: &'static str,
    work: &'static str,
    interrupt: &'static str,
    /// The first lines of a bad access to an address below the first page, and of one to another address.
    null: &'static str,
    paging: &'static str,
    /// The prefix of a system call.
    prefix: &'static str,
}

const CONSOLES: &[Console] = &[
    Console {
        name: "x86",
        pointer: "RIP: 0010:F+0x12/0x340",
        head: "Call Trace:\n <TASK>",
        frame: " F+0x12/0x340",
        repeats: false,
        dump: "dump_stack_lvl",
        syscall: "do_syscall_x64 do_syscall_64 entry_SYSCALL_64_after_hwframe",
        work: "process_one_work process_scheduled_works worker_thread kthread ret_from_fork ret_from_fork_asm",
        interrupt: "instr_sysvec_apic_timer_interrupt sysvec_apic_timer_interrupt asm_sysvec_apic_timer_interrupt",
        null: "BUG: kernel NULL pointer dereference, address: 0000000000000008\n#PF: supervisor read access in kernel mode\nOops: Oops: 0000 [#1] SMP KASAN",
        paging: "BUG: unable to handle page fault for address: ffffed1012345678\n#PF: supervisor read access in kernel mode\nOops: Oops: 0000 [#1] SMP KASAN",
        prefix: "__x64_sys_",
    },
    Console {
        name: "x86, old",
        pointer: "RIP: 0010:[<ffffffff81234567>]  [<ffffffff81234567>] F+0x12/0x340",
        head: "Call Trace:",
        frame: " [<ffffffff81234567>] F+0x12/0x340",
        repeats: false,
        dump: "dump_stack",
        syscall: "entry_SYSCALL_64_fastpath",
        work: "process_one_work worker_thread kthread ret_from_fork",
        interrupt: "smp_trace_apic_timer_interrupt smp_apic_timer_interrupt apic_timer_interrupt",
        null: "BUG: unable to handle kernel NULL pointer dereference at 0000000000000008\nIP: [<ffffffff81234567>] F+0x12/0x340\nOops: 0000 [#1] SMP KASAN",
        paging: "BUG: unable to handle kernel paging request at ffffed1012345678\nIP: F+0x12/0x340\nOops: 0000 [#1] SMP KASAN",
        prefix: "SyS_",
    },
    Console {
        name: "arm64",
        pointer: "pc : F+0x12/0x340\nlr : another+0x12/0x340\nsp : ffff8000a1b27a50",
        head: "Call trace:",
        frame: " F+0x12/0x340 (P)",
        repeats: true,
        dump: "show_stack dump_stack_lvl dump_stack",
        syscall: "invoke_syscall el0_svc_common do_el0_svc el0_svc el0t_64_sync_handler el0t_64_sync",
        work: "process_one_work process_scheduled_works worker_thread kthread ret_from_fork",
        interrupt: "gic_handle_irq call_on_irq_stack do_interrupt_handler el1_interrupt el1h_64_irq_handler el1h_64_irq",
        null: "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000008\nMem abort info:\n  ESR = 0x0000000096000004\nInternal error: Oops: 0000000096000004 [#1]  SMP",
        paging: "Unable to handle kernel paging request at virtual address dfff800000000003\nKASAN: null-ptr-deref in range [0x0000000000000018-0x000000000000001f]\nMem abort info:\nInternal error: Oops: 0000000096000005 [#1] PREEMPT SMP",
        prefix: "__arm64_sys_",
    },
    Console {
        name: "arm64, old",
        pointer: "PC is at F+0x12/0x340\nLR is at another+0x12/0x340\npc : [<ffff200008123456>] lr : [<ffff200008123456>] pstate: 60000145",
        head: "Call trace:",
        frame: "[<ffff200008123456>] F+0x12/0x340",
        repeats: true,
        dump: "dump_backtrace show_stack dump_stack",
        syscall: "el0_svc_naked",
        work: "process_one_work worker_thread kthread ret_from_fork",
        interrupt: "gic_handle_irq el1_irq",
        null: "Unable to handle kernel NULL pointer dereference at virtual address 00000008\npgd = ffff8000d1b27000\nInternal error: Oops: 96000004 [#1] PREEMPT SMP",
        paging: "Unable to handle kernel paging request at virtual address dead000000000108\nInternal error: Oops: 96000004 [#1] PREEMPT SMP",
        prefix: "SyS_",
    },
    Console {
        name: "arm",
        pointer: "PC is at F+0x12/0x340\nLR is at another+0x12/0x340\npc : [<80512345>]    lr : [<80512399>]    psr: 60000013",
        head: "Call trace: ",
        frame: " F from G+0x12/0x340",
        repeats: true,
        dump: "unwind_backtrace show_stack dump_stack_lvl dump_stack",
        syscall: "ret_fast_syscall",
        work: "process_one_work worker_thread kthread ret_from_fork",
        interrupt: "generic_handle_arch_irq call_with_stack __irq_svc",
        null: "8<--- cut here ---\nUnable to handle kernel NULL pointer dereference at virtual address 00000010 when read\n[00000010] *pgd=80000080004003, *pmd=00000000\nInternal error: Oops: 206 [#1] PREEMPT SMP ARM",
        paging: "8<--- cut here ---\nUnable to handle kernel paging request at virtual address 6b6b6b6b when write\n[6b6b6b6b] *pgd=00000000\nInternal error: Oops: 805 [#1] SMP ARM",
        prefix: "sys_",
    },
    Console {
        name: "arm, old",
        pointer: "PC is at F+0x12/0x340\nLR is at another+0x12/0x340\npc : [<80512345>]    lr : [<80512399>]    psr: 60000013",
        head: "Backtrace: ",
        frame: "[<80512345>] (F) from [<80512399>] (G+0x12/0x340)\n r10:00000000 r9:ec2a8000 r4:00000001",
        repeats: true,
        dump: "unwind_backtrace show_stack dump_stack",
        syscall: "ret_fast_syscall",
        work: "process_one_work worker_thread kthread ret_from_fork",
        interrupt: "gic_handle_irq __irq_svc",
        null: "Unable to handle kernel NULL pointer dereference at virtual address 00000010\npgd = ec2a8000\nInternal error: Oops: 5 [#1] SMP ARM",
        paging: "Unable to handle kernel paging request at virtual address 6b6b6b6b\npgd = c0004000\nInternal error: Oops: 5 [#1] SMP ARM",
        prefix: "SyS_",
    },
    Console {
        name: "riscv",
        pointer: "epc : F+0x12/0x340\n ra : another+0x12/0x340\nepc : ffffffff80123456 ra : ffffffff80123478 sp : ff200000048a3a50",
        head: "Call Trace:",
        frame: "[<ffffffff80123456>] F+0x12/0x340",
        repeats: true,
        dump: "dump_backtrace show_stack dump_stack_lvl dump_stack",
        syscall: "do_trap_ecall_u handle_exception",
        work: "process_one_work worker_thread kthread ret_from_fork_kernel ret_from_fork_kernel_asm",
        interrupt: "handle_riscv_irq call_on_irq_stack",
        null: "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000008\nCurrent syz-executor pgtable: 4K pagesize, 57-bit VAs, pgdp=0x0000000112345000\nOops [#1]",
        paging: "Unable to handle kernel paging request at virtual address dfffffff00000003\nOops [#1]",
        prefix: "__riscv_sys_",
    },
    Console {
        name: "s390x",
        pointer: "Krnl PSW : 0704c00180000000 00000000001a2b3c (F+0x12/0x340)\n           R:0 T:1 IO:1 EX:1 Key:0 M:1 W:0 P:0 AS:3 CC:0 PM:0 RI:0 EA:3",
        head: "Call Trace:",
        frame: " [<00000000001a2b3c>] F+0x12/0x340 ",
        repeats: true,
        dump: "dump_stack_lvl",
        syscall: "__do_syscall system_call",
        work: "process_one_work worker_thread kthread __ret_from_fork ret_from_fork",
        interrupt: "do_ext_irq ext_int_handler",
        null: "Unable to handle kernel pointer dereference in virtual kernel address space\nFailing address: 0000000000000000 TEID: 0000000000000483\nFault in home space mode while using kernel ASCE.\nOops: 0004 ilc:2 [#1] SMP",
        paging: "Unable to handle kernel pointer dereference in virtual kernel address space\nFailing address: 001c000000000000 TEID: 001c000000000803\nOops: 0038 ilc:3 [#1] SMP",
        prefix: "__s390x_sys_",
    },
    Console {
        name: "ppc64",
        pointer: "NIP:  c000000000123456 LR: c000000000123478 CTR: 0000000000000000\nNIP [c000000000123456] F+0x12/0x340\nLR [c000000000123478] another+0x12/0x340",
        head: "Call Trace:",
        frame: "[c00000001a2b3c40] [c000000000123456] F+0x12/0x340 (unreliable)",
        repeats: true,
        dump: "dump_stack_lvl",
        syscall: "system_call_exception system_call_vectored_common",
        work: "process_one_work worker_thread kthread start_kernel_thread",
        interrupt: "timer_interrupt decrementer_common_virt",
        null: "BUG: Kernel NULL pointer dereference on read at 0x00000008\nFaulting instruction address: 0xc000000000123456\nOops: Kernel access of bad area, sig: 11 [#1]\nLE PAGE_SIZE=64K MMU=Radix  SMP NR_CPUS=2048 NUMA PowerNV",
        paging: "BUG: Unable to handle kernel data access on read at 0x6b6b6b6b6b6b6b6b\nFaulting instruction address: 0xc000000000123456\nOops: Kernel access of bad area, sig: 11 [#1]",
        prefix: "sys_",
    },
    Console {
        name: "mips",
        pointer: "epc   : ffffffff80123456 F+0x12/0x340\nra    : ffffffff80123478 another+0x12/0x340",
        head: "Call Trace:",
        frame: "[<ffffffff80123456>] F+0x12/0x340",
        repeats: true,
        dump: "show_stack dump_stack_lvl dump_stack",
        syscall: "syscall_common",
        work: "process_one_work worker_thread kthread ret_from_kernel_thread",
        interrupt: "do_IRQ plat_irq_dispatch handle_int",
        null: "CPU 0 Unable to handle kernel paging request at virtual address 0000000000000008, epc == ffffffff80123456, ra == ffffffff80123478\nOops[#1]:",
        paging: "CPU 1 Unable to handle kernel paging request at virtual address 6b6b6b6b6b6b6b6b, epc == ffffffff80123456, ra == ffffffff80123478\nOops[#1]:",
        prefix: "sys_",
    },
    Console {
        name: "loongarch",
        pointer: "   era: 9000000000123456 F+0x12/0x340\n    ra: 9000000000123478 another+0x12/0x340",
        head: "Call Trace:",
        frame: "[<9000000000123456>] F+0x12/0x340",
        repeats: true,
        dump: "show_stack dump_stack_lvl",
        syscall: "do_syscall handle_syscall",
        work: "process_one_work worker_thread kthread ret_from_kernel_thread_asm",
        interrupt: "do_vint handle_vint",
        null: "CPU 0 Unable to handle kernel paging request at virtual address 0000000000000008, era == 9000000000123456, ra == 9000000000123478\nOops[#1]:",
        paging: "CPU 0 Unable to handle kernel paging request at virtual address 6b6b6b6b6b6b6b6b, era == 9000000000123456, ra == 9000000000123478\nOops[#1]:",
        prefix: "sys_",
    },
];

/// A kind of report.
struct Kind {
    name: &'static str,
    /// The first lines; `F` is the innermost function and `AT` the source line.
    first: &'static str,
    /// The functions that print the report, before the stack; `DUMP` are those of the architecture.
    printers: &'static str,
    /// Whether the report has the registers.
    registers: bool,
    title: &'static str,
    /// The architectures that print it, by the start of their name.
    only: &'static str,
}

const KINDS: &[Kind] = &[
    Kind { name: "null", first: "", printers: "", registers: true, title: "", only: "" },
    Kind { name: "paging", first: "", printers: "", registers: true, title: "", only: "" },
    Kind {
        name: "gpf",
        first: "Oops: general protection fault, probably for non-canonical address 0xdffffc0000000003: 0000 [#1] SMP KASAN\nKASAN: null-ptr-deref in range [0x0000000000000018-0x000000000000001f]",
        printers: "",
        registers: true,
        title: "general protection fault in ",
        only: "x86",
    },
    Kind {
        name: "divide",
        first: "Oops: divide error: 0000 [#1] SMP KASAN",
        printers: "",
        registers: true,
        title: "divide error in ",
        only: "x86",
    },
    Kind {
        name: "bug",
        first: "------------[ cut here ]------------\nkernel BUG at AT!",
        printers: "",
        registers: true,
        title: "kernel BUG in ",
        only: "",
    },
    Kind {
        name: "warn",
        first: "------------[ cut here ]------------\nWARNING: CPU: 1 PID: 5432 at AT F+0x12/0x340",
        printers: "",
        registers: true,
        title: "WARNING in ",
        only: "",
    },
    Kind {
        name: "warn",
        first: "------------[ cut here ]------------\nsome condition\nWARNING: AT at F+0x12/0x340, CPU#1: syz.0.17/5432",
        printers: "",
        registers: true,
        title: "WARNING in ",
        only: "",
    },
    Kind {
        name: "warn",
        first: "------------[ cut here ]------------\nWARNING: CPU: 1 PID: 5432 at AT F+0x12/0x340()",
        printers: "DUMP warn_slowpath_common warn_slowpath_null",
        registers: false,
        title: "WARNING in ",
        only: "",
    },
    Kind {
        name: "kasan",
        first: "==================================================================\nBUG: KASAN: slab-use-after-free in F+0x12/0x340\nRead of size 8 at addr ffff888012345678 by task syz.0.17/5432\n",
        printers: "DUMP print_address_description print_report kasan_report __asan_report_load8_noabort",
        registers: false,
        title: "KASAN: slab-use-after-free Read in ",
        only: "",
    },
    Kind {
        name: "ubsan",
        first: "------------[ cut here ]------------\nUBSAN: shift-out-of-bounds in AT:12\nshift exponent 64 is too large for 32-bit type 'int'",
        printers: "DUMP ubsan_epilogue __ubsan_handle_shift_out_of_bounds",
        registers: false,
        title: "UBSAN: shift-out-of-bounds in ",
        only: "",
    },
    Kind {
        name: "kmsan",
        first: "=====================================================\nBUG: KMSAN: uninit-value in F+0x12/0x340",
        printers: "",
        registers: false,
        title: "KMSAN: uninit-value in ",
        only: "x86",
    },
    Kind {
        name: "hung",
        first: "INFO: task syz.0.17:5432 blocked for more than 143 seconds.\n      Not tainted 6.12.0-syzkaller #0\n\"echo 0 > /proc/sys/kernel/hung_task_timeout_secs\" disables this message.\ntask:syz.0.17        state:D stack:25560 pid:5432  tgid:5432  ppid:5300   flags:0x00004004",
        printers: "",
        registers: false,
        title: "INFO: task hung in ",
        only: "",
    },
    Kind {
        name: "hung",
        first: "INFO: task syz-executor0:5432 blocked for more than 120 seconds.\n      Not tainted 4.14.0+ #7\n\"echo 0 > /proc/sys/kernel/hung_task_timeout_secs\" disables this message.\nsyz-executor0   D27416  5432   4100 0x00000004",
        printers: "",
        registers: false,
        title: "INFO: task hung in ",
        only: "",
    },
    Kind {
        name: "sleep",
        first: "BUG: sleeping function called from invalid context at AT\nin_atomic(): 1, irqs_disabled(): 0, non_block: 0, pid: 5432, name: syz.0.17\npreempt_count: 1, expected: 0\n2 locks held by syz.0.17/5432:\n #0: ffff888012345678 (&lock->key){+.+.}-{3:3}, at: another+0x12/0x340",
        printers: "DUMP __might_resched",
        registers: false,
        title: "BUG: sleeping function called from invalid context in ",
        only: "",
    },
    Kind {
        name: "rcu",
        first: "=============================\nWARNING: suspicious RCU usage\n6.12.0 #0 Not tainted\n-----------------------------\nAT suspicious rcu_dereference_check() usage!\n\nother info that might help us debug this:\n\nrcu_scheduler_active = 2, debug_locks = 1\n1 lock held by syz.0.17/5432:\n #0: ffff888012345678 (&lock->key){+.+.}-{3:3}, at: another+0x12/0x340\n\nstack backtrace:",
        printers: "DUMP lockdep_rcu_suspicious",
        registers: false,
        title: "WARNING: suspicious RCU usage in ",
        only: "",
    },
    Kind {
        name: "spin",
        first: "BUG: spinlock recursion on CPU#1, syz.0.17/5432\n lock: 0xffff888012345678, .magic: dead4ead, .owner: syz.0.17/5432, .owner_cpu: 1",
        printers: "DUMP spin_dump do_raw_spin_lock",
        registers: false,
        title: "BUG: spinlock recursion in ",
        only: "",
    },
    Kind {
        name: "key",
        first: "INFO: trying to register non-static key.\nThe code is fine but needs lockdep annotation, or maybe\nyou didn't initialize this object before use?\nturning off the locking correctness validator.",
        printers: "DUMP assign_lock_key register_lock_class __lock_acquire lock_acquire",
        registers: false,
        title: "INFO: trying to register non-static key in ",
        only: "",
    },
    Kind {
        name: "soft",
        first: "watchdog: BUG: soft lockup - CPU#1 stuck for 123s! [syz.0.17:5432]\nModules linked in:",
        printers: "",
        registers: true,
        title: "BUG: soft lockup in ",
        only: "",
    },
    Kind {
        name: "leak",
        first: "BUG: memory leak\nunreferenced object 0xffff888012345678 (size 64):\n  comm \"syz.0.17\", pid 5432, jiffies 4294948000\n  hex dump (first 32 bytes):\n    00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  ................\n  backtrace (crc 12345678):",
        printers: "",
        registers: false,
        title: "memory leak in ",
        only: "x86",
    },
];

/// The functions of a stack: `SYS_f`, and the groups of the architecture.
fn functions(console: &Console, stack: &str) -> Vec<String> {
    let group = |name: &str| match name {
        "DUMP" => console.dump.to_owned(),
        "SYSCALL" => console.syscall.to_owned(),
        "WORK" => console.work.to_owned(),
        "IRQ" => console.interrupt.to_owned(),
        _ => name.strip_prefix("SYS_").map_or(name.to_owned(), |call| format!("{}{call}", console.prefix)),
    };
    stack.split(' ').map(group).collect::<Vec<_>>().join(" ").split_whitespace().map(str::to_owned).collect()
}

fn report(console: &Console, kind: &Kind, at: &str, stack: &str) -> String {
    let own = functions(console, stack);
    let first = match kind.name {
        "null" => console.null,
        "paging" => console.paging,
        _ => kind.first,
    };
    let first = first.replace("F+", &format!("{}+", own[0])).replace("AT", at);
    let mut trace = if kind.registers {
        own[usize::from(!console.repeats)..].to_vec()
    } else {
        let mut printers = functions(console, kind.printers);
        printers.extend(own.iter().cloned());
        printers
    };
    trace.push("outermost".to_owned());
    let mut lines = vec![first, "CPU: 1 UID: 0 PID: 5432 Comm: syz.0.17 Not tainted 6.12.0 #1".to_owned()];
    if kind.registers {
        lines.push(console.pointer.replace("F+", &format!("{}+", own[0])));
    }
    lines.push(if kind.name == "leak" { String::new() } else { console.head.to_owned() });
    for pair in trace.windows(2) {
        lines.push(console.frame.replace("G+", &format!("{}+", pair[1])).replace('F', &pair[0]));
    }
    lines.push("---[ end trace 0000000000000000 ]---".to_owned());
    lines.join("\n")
}

/// The title of a bad access on an architecture.
fn bad_access(console: &Console, kind: &Kind) -> &'static str {
    match (console.name, kind.name) {
        ("s390x", _) => "BUG: unable to handle kernel pointer dereference in ",
        ("mips" | "loongarch", _) | (_, "paging") => "BUG: unable to handle kernel paging request in ",
        _ => "BUG: unable to handle kernel NULL pointer dereference in ",
    }
}

#[test]
fn each_stack_has_its_title_on_each_architecture() {
    let (mut wrong, mut all) = (String::new(), 0);
    for line in include_str!("stacks.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (left, wanted) = line.split_once(" => ").expect("a stack and a title");
        let (name, stack) = left.split_once(": ").expect("a kind and a stack");
        let (name, at) = name.split_once(' ').unwrap_or((name, "net/core/foo.c:123"));
        let kinds: Vec<&Kind> = KINDS.iter().filter(|kind| kind.name == name).collect();
        assert!(!kinds.is_empty(), "{line}");
        for (kind, console) in
            kinds.iter().flat_map(|kind| CONSOLES.iter().map(move |console| (kind, console)))
        {
            if !console.name.starts_with(kind.only) {
                continue;
            }
            let log = report(console, kind, at, stack);
            let start = if kind.title.is_empty() { bad_access(console, kind) } else { kind.title };
            // Without the wrapper of the architecture, the call has the name in the source.
            let call = if matches!(console.prefix, "sys_" | "SyS_") { "" } else { "sys_" };
            let wanted = wanted.replace("SYS_", call);
            let wanted = if wanted.contains(' ') { wanted } else { format!("{start}{wanted}") };
            let found = crash::reports(&log).into_iter().next().map(|report| report.title);
            all += 1;
            if found.as_ref() != Some(&wanted) {
                wrong.push_str(&format!("{line}\n    {}: {found:?} instead of {wanted}\n", console.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}{} of {all} are wrong", wrong.lines().count() / 2);
}
