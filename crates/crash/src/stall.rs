//! The functions around a stalled task or a stuck processor.
//!
//! The innermost function depends on when the timer interrupted the loop. The function that generic code called through a
//! pointer is always the same: an ioctl, a protocol's receive function, a work item. The title therefore has the
//! innermost function whose caller is a dispatcher.

use std::sync::LazyLock;

use regex::{RegexSet, RegexSetBuilder};

/// Functions that call subsystems through pointers, whole names.
const DISPATCHERS: &[&str] = &[
    // Deferred work.
    r"process_one_work|call_timer_fn|expire_timers|__hrtimer_run_queues|hrtimer_run_softirq|__run_timers|tasklet_action\w*|__tasklet_hrtimer_trampoline|rcu_do_batch|task_work_run|kthread|flush_smp_call_function_queue|irq_work_run_list|irq_work_single|__handle_irq_event_percpu|irq_thread_fn|smpboot_thread_fn|do_one_initcall",
    // Packets.
    r"__netif_receive_skb(_core|_one_core|_list_core)?|__netif_receive_skb_list_ptype|deliver_(skb|ptype_list_skb)|napi_poll|__napi_poll|dev_gro_receive",
    // Netlink.
    r"rtnetlink_rcv_msg|genl_rcv_msg|genl_family_rcv_msg\w*|nfnetlink_rcv_msg|netlink_dump|xfrm_user_rcv_msg|sock_diag_rcv_msg",
    // Files.
    r"vfs_ioctl|do_vfs_ioctl|file_ioctl|__vfs_(read|write)|new_sync_(read|write)|do_iter_(read|write|readv_writev)|do_iter_readv_writev|do_loop_readv_writev|vfs_(read|write|iter_read|iter_write|fsync_range|fallocate|llseek|poll|getxattr|statfs)|call_(read|write)_iter|do_dentry_open|__fput|call_mmap|mmap_region|__mmap_region|__do_fault|do_splice_(from|to)|splice_direct_to_actor|iterate_dir|(__ia32_)?compat_(sys|SyS)_ioctl|(__\w+_|__)?(sys|SyS|ksys|se_sys|do_sys)_ioctl|blkdev_ioctl",
    r"full_proxy_\w+|direct_entry|lkdtm_do_action",
    // Sockets.
    r"sock_(ioctl|do_ioctl|close|release|common_setsockopt|common_getsockopt)|__sock_release|sk_backlog_rcv|__release_sock",
    // Devices.
    r"really_probe|usb_hcd_giveback_urb|__usb_hcd_giveback_urb|device_release|kobject_cleanup",
    // System calls.
    r"do_syscall_(64|x64)|do_syscall_32_irqs_on|do_int80_syscall_32|do_fast_syscall_32|__do_fast_syscall_32|entry_SYSCALL_\w+|entry_SYSENTER_\w+|entry_INT80_\w+|system_call_fastpath|tracesys\w*|ret_fast_syscall|__sys_trace_return|invoke_syscall|__invoke_syscall|el0_svc_(common|naked|handler)|do_el0_svc|el0_svc|system_call|system_call_exception|do_trap_ecall_u|ret_from_syscall\w*",
];

/// The interrupt that reported the stall; the frames before it belong to the report.
const INTERRUPTS: &[&str] = &[
    r"(asm_|trace_|smp_|sysvec_|asm_sysvec_|smp_trace_)*(apic_timer_interrupt\w*|call_function_single\w*|call_function_interrupt|reschedule_interrupt|irq_work_interrupt)",
    r"gic_handle_irq|__irq_svc|el1h?_(64_)?irq\w*|arch_timer_handler_\w+|handle_arch_irq|do_IRQ|ret_from_intr|asm_exc_nmi|end_repeat_nmi|nmi_restore|riscv_intc_irq|decrementer_common\w*|timer_interrupt|handle_irq|do_irq_async|ret_from_exception|ret_from_irq",
];

struct Sets {
    dispatchers: RegexSet,
    interrupts: RegexSet,
}

static SETS: LazyLock<Sets> = LazyLock::new(|| {
    let set = |patterns: &[&str]| {
        let whole = patterns.iter().map(|pattern| format!("^(?:{pattern})$"));
        RegexSetBuilder::new(whole).unicode(false).build().expect("the lists are regular expressions")
    };
    Sets { dispatchers: set(DISPATCHERS), interrupts: set(INTERRUPTS) }
});

/// Whether `function` calls subsystems through pointers.
pub(crate) fn is_dispatcher(function: &str) -> bool {
    SETS.dispatchers.is_match(function)
}

/// Whether `function` is the entry of an interrupt that reports stalls.
pub(crate) fn is_interrupt(function: &str) -> bool {
    SETS.interrupts.is_match(function)
}
