//! The functions around a stalled task or a stuck processor.
//!
//! The innermost function depends on when the timer interrupted the loop. The function that generic code called through
//! a pointer is always the same: an ioctl, the receive function of a protocol, a work item. The title therefore names
//! the innermost function with a dispatcher as its caller.

use std::sync::LazyLock;

use crate::names::Names;

/// Functions that call subsystems through pointers.
#[rustfmt::skip]
const DISPATCHERS: &[&str] = &[
    "deferred work: process_one_work call_timer_fn expire_timers hrtimer_run_queues hrtimer_run_softirq run_timers tasklet_action* tasklet_hrtimer_trampoline rcu_do_batch task_work_run kthread flush_smp_call_function_queue irq_work_run_list irq_work_single handle_irq_event_percpu irq_thread_fn smpboot_thread_fn do_one_initcall",
    "packets: netif_receive_skb(_core|_one_core|_list_core)? netif_receive_skb_list_ptype deliver_(skb|ptype_list_skb) napi_poll dev_gro_receive",
    "netlink: rtnetlink_rcv_msg genl_rcv_msg genl_family_rcv_msg* nfnetlink_rcv_msg netlink_dump xfrm_user_rcv_msg sock_diag_rcv_msg",
    "files: vfs_ioctl do_vfs_ioctl file_ioctl vfs_(read|write) new_sync_(read|write) do_iter_(read|write|readv_writev) do_iter_readv_writev do_loop_readv_writev vfs_(iter_read|iter_write|fsync_range|fallocate|llseek|poll|getxattr|statfs) call_(read|write)_iter do_dentry_open fput call_mmap mmap_region do_fault do_splice_(from|to) splice_direct_to_actor iterate_dir (ia32_)?compat_(sys|SyS)_ioctl (*_)?(sys|SyS|ksys|se_sys|do_sys)_ioctl blkdev_ioctl full_proxy_* direct_entry lkdtm_do_action",
    "sockets: sock_(ioctl|do_ioctl|close|release|common_setsockopt|common_getsockopt) sk_backlog_rcv release_sock",
    "devices: really_probe usb_hcd_giveback_urb device_release kobject_cleanup",
    "system calls: do_syscall_(64|x64) do_syscall_32_irqs_on do_int80_syscall_32 do_fast_syscall_32 entry_SYSCALL_* entry_SYSENTER_* entry_INT80_* system_call_fastpath tracesys* ret_fast_syscall sys_trace_return invoke_syscall el0_svc_(common|naked|handler) do_el0_svc el0_svc system_call system_call_exception do_trap_ecall_u ret_from_syscall* do_syscall syscall_common handle_sys(64|call)?",
];

/// The interrupt that reported the stall; the frames before it belong to the report.
#[rustfmt::skip]
const INTERRUPTS: &[&str] = &[
    "arch/x86: ((asm|trace|smp|sysvec)_)?(trace_|sysvec_)?(apic_timer_interrupt*|call_function_single*|call_function_interrupt|reschedule_interrupt|irq_work_interrupt) (asm_|instr_)?sysvec_* (asm_)?common_interrupt do_IRQ ret_from_intr asm_exc_nmi end_repeat_nmi nmi_restore handle_irq",
    "other architectures: gic_handle_irq irq_svc el1h?_(64_)?irq* arch_timer_handler_* handle_arch_irq riscv_intc_irq decrementer_common* timer_interrupt do_irq_async ret_from_exception ret_from_irq do_(ext|io)_irq ext_int_handler io_int_handler handle_riscv_irq plat_irq_dispatch handle_int except_vec_vi_end do_vint handle_vint handle_loongarch_irq",
];

static DISPATCHER_NAMES: LazyLock<Names> = LazyLock::new(|| Names::new(DISPATCHERS.iter().copied()));
static INTERRUPT_NAMES: LazyLock<Names> = LazyLock::new(|| Names::new(INTERRUPTS.iter().copied()));

/// Whether `function` is a dispatcher.
pub(crate) fn is_dispatcher(function: &str) -> bool {
    DISPATCHER_NAMES.contains(function)
}

/// Whether `function` is the entry of an interrupt that reports stalls.
pub(crate) fn is_interrupt(function: &str) -> bool {
    INTERRUPT_NAMES.contains(function)
}
