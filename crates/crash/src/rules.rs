//! The table of crashes: the first line of each kind of crash, and its title.
//!
//! A rule matches a message (`line`, a regular expression from its start) and, if it has `near`, the text around it. The
//! first rule that matches decides, so special rules come before general ones. In titles `{1}` is a group of `line`,
//! `{access}` is a group of `near`, and `{fn}` is the guilty function: group `f` of `line`, else group `f` of `near`, else a
//! frame of the stack.

use std::sync::LazyLock;

use regex::Regex;

use crate::families::Noise;
use crate::trouble::TroubleKind;

/// How the guilty function is found in the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Search {
    /// The first frame that is not skipped.
    First(Noise),
    /// The function that keeps a task from ending a grace period ([`crate::stall`]).
    Stall,
    /// The function that keeps a processor busy ([`crate::stall`]).
    Lockup,
    /// Like `First(Usual)`, after the line that contains these words.
    After(&'static str),
    /// Like `First(Usual)`, in the first block of the lock dependency chain, else in the whole report.
    Chain,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub kind: TroubleKind,
    pub line: &'static str,
    pub near: Option<&'static str>,
    pub title: &'static str,
    pub search: Search,
}

const USUAL: Search = Search::First(Noise::Usual);
const WAITING: Search = Search::First(Noise::Waiting);
const CONTEXT: Search = Search::First(Noise::Context);
const OBJECT: Search = Search::First(Noise::Object);
const ALLOCATING: Search = Search::First(Noise::Allocating);

const fn row(kind: TroubleKind, line: &'static str, title: &'static str) -> Row {
    Row { kind, line, near: None, title, search: USUAL }
}

const fn near(kind: TroubleKind, line: &'static str, near: &'static str, title: &'static str) -> Row {
    Row { kind, line, near: Some(near), title, search: USUAL }
}

const fn with(row: Row, search: Search) -> Row {
    Row { search, ..row }
}

/// The first line of a boot.
pub(crate) const REBOOT: &str = r"Linux version \d+\.\d+";

/// `WARNING:` of WARN() in a source file, in the old and the new format.
macro_rules! warn_at {
    ($file:literal) => {
        concat!(
            r"WARNING: (?:CPU: \d+ PID: \d+ at (?:\S*/)?",
            $file,
            r":|(?:\[.*\] )?(?:\S*/)?",
            $file,
            r":\d+ at )"
        )
    };
}

/// `at: f+0x1/0x2`: where a lock was taken, in lockdep reports.
macro_rules! at {
    ($before:literal) => {
        concat!($before, r"[^\n]*\n[^\n]*,? at: (?:\[<[0-9a-f]+>\] )*(?P<f>[\w.]+)(?:\+0x| [\w./-]+:\d+)")
    };
}

#[rustfmt::skip]
pub(crate) const TABLE: &[Row] = &[
    // KASAN (mm/kasan/report.c).
    row(TroubleKind::Kasan, r"BUG: KASAN: double-free or invalid-free in (?P<f>[\w.]+)", "KASAN: invalid-free in {fn}"),
    row(TroubleKind::Kasan, r"BUG: KASAN: ((?:double|invalid)-free) in (?P<f>[\w.]+)", "KASAN: {1} in {fn}"),
    near(TroubleKind::Kasan, r"BUG: KASAN: ([a-z-]+) (?:in|on) (?P<f>[\w.]+)", r"(?P<access>Read|Write) (?:of size|at addr)", "KASAN: {1} {access} in {fn}"),
    near(TroubleKind::Kasan, r"BUG: KASAN: ([a-z-]+) (?:in|on) ", r"(?P<access>Read|Write) (?:of size|at addr)", "KASAN: {1} {access} in {fn}"),
    row(TroubleKind::Kasan, r"BUG: KASAN: ([a-z-]+)(?: in (?P<f>[\w.]+))?", "KASAN: {1} in {fn}"),
    // KFENCE (mm/kfence/report.c), KMSAN (mm/kmsan/report.c), KCSAN (kernel/kcsan/report.c).
    row(TroubleKind::Kasan, r"BUG: KFENCE: (out-of-bounds (?:read|write)|use-after-free (?:read|write)|invalid (?:read|write|free)|memory corruption)(?: in (?P<f>[\w.]+))?", "KFENCE: {1} in {fn}"),
    row(TroubleKind::Kmsan, r"BUG: KMSAN: ([a-z-]+) in (?P<f>[\w.]+)", "KMSAN: {1} in {fn}"),
    row(TroubleKind::Kcsan, r"BUG: KCSAN: ((?:assert: )?[a-z-]+) in ([\w.]+) / ([\w.]+)", "KCSAN: {1} in {f2} / {f3}"),
    row(TroubleKind::Kcsan, r"BUG: KCSAN: ((?:assert: )?[a-z-]+) in (?P<f>[\w.]+)", "KCSAN: {1} in {fn}"),
    // UBSAN (lib/ubsan.c).
    row(TroubleKind::Ubsan, r"UBSAN: Undefined behaviour in ", "UBSAN: undefined-behaviour in {fn}"),
    row(TroubleKind::Ubsan, r"UBSAN: ([a-z-]+) in ", "UBSAN: {1} in {fn}"),
    // Memory leaks (mm/kmemleak.c).
    with(row(TroubleKind::Leak, r"(?:.*)BUG: memory leak$", "memory leak in {fn}"), ALLOCATING),
    with(row(TroubleKind::Leak, r"unreferenced object 0x[0-9a-f]+ \(size \d+\)", "memory leak in {fn}"), ALLOCATING),

    // Lockups and stalls (kernel/watchdog.c, kernel/rcu/tree_stall.h).
    with(row(TroubleKind::Lockup, r"(?:NMI )?(?:watchdog: )?BUG: soft lockup", "BUG: soft lockup in {fn}"), Search::Lockup),
    with(row(TroubleKind::Lockup, r"(?:NMI )?(?:watchdog: )?(?:CPU ?\d+:? )?(?:Watchdog detected |self-detected )?[hH]ard LOCKUP", "BUG: hard lockup in {fn}"), Search::Lockup),
    row(TroubleKind::Lockup, r"BUG: workqueue lockup", "BUG: workqueue lockup"),
    with(row(TroubleKind::Lockup, r"(?:rcu: )?INFO: (?:\w+ )?(?:self-)?detected (?:expedited )?stalls? on", "INFO: rcu detected stall in {fn}"), Search::Stall),
    with(row(TroubleKind::Lockup, r"(?:rcu: )?INFO: \w+ detected (?:expedited )?stalls", "INFO: rcu detected stall in {fn}"), Search::Stall),
    // Hung tasks (kernel/hung_task.c).
    with(row(TroubleKind::HungTask, r"INFO: task .+ (?:blocked|is blocked) (?:in I/O wait )?for more than \d+ seconds", "INFO: task hung in {fn}"), WAITING),
    // The name of a task may contain a newline: then the words are on the second line.
    with(row(TroubleKind::HungTask, r".*:\d+ (?:is )?blocked (?:in I/O wait )?for more than \d+ seconds", "INFO: task hung in {fn}"), WAITING),
    with(row(TroubleKind::HungTask, r"INFO: task .+ can't die for more than \d+ seconds", "INFO: task can't die in {fn}"), WAITING),

    // Lockdep (kernel/locking/lockdep.c).
    with(near(TroubleKind::Lockdep, r"(?:WARNING|\[ INFO): possible (?:circular locking dependency|recursive locking) detected", at!("is trying to acquire lock:"), "possible deadlock in {fn}"), Search::Chain),
    with(row(TroubleKind::Lockdep, r"(?:WARNING|\[ INFO): \S+-safe -> \S+-unsafe lock order detected", "possible deadlock in {fn}"), Search::After("-irq-safe at:")),
    near(TroubleKind::Lockdep, r"(?:WARNING|\[ INFO): (?:possible )?(?:irq lock inversion dependency|\w+-safe -> \w+-unsafe lock order|.* lock order) detected", at!("(?:is trying to acquire|just changed the state of lock):?"), "possible deadlock in {fn}"),
    with(row(TroubleKind::Lockdep, r"(?:WARNING|\[ INFO): possible (?:circular locking dependency|recursive locking|irq lock inversion dependency) detected", "possible deadlock in {fn}"), Search::Chain),
    near(TroubleKind::Lockdep, r"(?:WARNING: |\[ INFO: )inconsistent lock state", at!(r"takes:"), "inconsistent lock state in {fn}"),
    row(TroubleKind::Lockdep, r"(?:WARNING: |\[ INFO: )inconsistent lock state", "inconsistent lock state in {fn}"),
    near(TroubleKind::Lockdep, r"(\[ BUG|WARNING): bad unlock balance detected", r"is trying to release lock[^\n]*at:\s*\n?[^\n]*?(?:\[<[0-9a-f]+>\] )?(?P<f>[\w.]+)\+0x", "{1}: bad unlock balance in {fn}"),
    row(TroubleKind::Lockdep, r"(\[ BUG|WARNING): bad unlock balance detected", "{1}: bad unlock balance in {fn}"),
    row(TroubleKind::Lockdep, r"(\[ BUG|WARNING): bad contention detected", "{1}: bad contention detected in {fn}"),
    near(TroubleKind::Lockdep, r"(\[ BUG|WARNING): held lock freed", r", at: (?:\[<[0-9a-f]+>\] )?(?P<f>[\w.]+)\+0x", "{1}: held lock freed in {fn}"),
    row(TroubleKind::Lockdep, r"(\[ BUG|WARNING): held lock freed", "{1}: held lock freed in {fn}"),
    near(TroubleKind::Lockdep, r"(\[ BUG|WARNING): lock held when returning to user space", r"#0: [^\n]*, at: (?:\[<[0-9a-f]+>\] )?(?P<f>[\w.]+)\+0x", "{1}: lock held when returning to user space in {fn}"),
    row(TroubleKind::Lockdep, r"(\[ BUG|WARNING): lock held when returning to user space", "{1}: lock held when returning to user space in {fn}"),
    near(TroubleKind::Lockdep, r"(\[ BUG|WARNING): \S+ still has locks held", r"#0: [^\n]*, at: (?:\[<[0-9a-f]+>\] )?(?P<f>[\w.]+)\+0x", "{1}: still has locks held in {fn}"),
    row(TroubleKind::Lockdep, r"(\[ BUG|WARNING): \S+ still has locks held", "{1}: still has locks held in {fn}"),
    near(TroubleKind::Lockdep, r"(?:\[ BUG|WARNING): Nested lock was not taken", at!("is trying to lock:"), "WARNING: nested lock was not taken in {fn}"),
    row(TroubleKind::Lockdep, r"(?:\[ BUG|WARNING): Nested lock was not taken", "WARNING: nested lock was not taken in {fn}"),
    row(TroubleKind::Lockdep, r"\[ BUG: Invalid wait context", "WARNING: locking bug in {fn}"),
    row(TroubleKind::Rcu, r"(WARNING|\[ INFO): suspicious RCU usage", "{1}: suspicious RCU usage in {fn}"),
    row(TroubleKind::Lockdep, r"INFO: trying to register non-static key", "INFO: trying to register non-static key in {fn}"),
    row(TroubleKind::Lockdep, r"BUG: (MAX_\w+ too low!?)", "BUG: {1}"),
    // Atomic context and preemption (kernel/sched/core.c, lib/smp_processor_id.c).
    with(row(TroubleKind::Bug, r"BUG: scheduling while atomic", "BUG: scheduling while atomic in {fn}"), WAITING),
    row(TroubleKind::Bug, r"BUG: sleeping function called from invalid context", "BUG: sleeping function called from invalid context in {fn}"),
    with(near(TroubleKind::Bug, r"BUG: using ([\w()]+) in preemptible", r"caller is (?:\[<[0-9a-f]+>\] )?(?P<f>[\w.]+)\+0x", "BUG: using {1} in preemptible code in {fn}"), CONTEXT),
    row(TroubleKind::Bug, r"BUG: using ([\w()]+) in preemptible", "BUG: using {1} in preemptible code in {fn}"),
    near(TroubleKind::Bug, r"BUG: workqueue leaked (?:lock or atomic|atomic, lock or RCU)", r"(?:last function: |workfn=)(?P<f>[\w.]+)", "BUG: workqueue leaked lock or atomic in {fn}"),
    row(TroubleKind::Bug, r"BUG: workqueue leaked (?:lock or atomic|atomic, lock or RCU)", "BUG: workqueue leaked lock or atomic in {fn}"),
    // Spin locks (kernel/locking/spinlock_debug.c).
    row(TroubleKind::Lockdep, r"BUG: ((?:spin|rw)lock [a-z -]+?)(?: on CPU|,|$)", "BUG: {1} in {fn}"),

    // Stacks.
    with(row(TroubleKind::Oops, r"BUG: (?:\w+ )?stack guard page was hit ", "BUG: stack guard page was hit in {fn}"), Search::Stall),
    with(row(TroubleKind::Oops, r"Insufficient stack space to handle exception", "kernel stack overflow in {fn}"), Search::Stall),
    with(row(TroubleKind::Oops, r"kernel stack overflow", "kernel stack overflow in {fn}"), Search::Stall),
    row(TroubleKind::Oops, r"(?:traps: )?PANIC: double fault", "PANIC: double fault in {fn}"),
    row(TroubleKind::Oops, r"(?:Oops: )?double fault: ", "PANIC: double fault in {fn}"),

    // Bad addresses (arch/*/mm/fault.c).
    row(TroubleKind::Oops, r"BUG: unable to handle kernel (paging request|NULL pointer dereference|access to user memory)", "BUG: unable to handle kernel {1} in {fn}"),
    row(TroubleKind::Oops, r"BUG: Kernel (NULL pointer dereference)", "BUG: unable to handle kernel {1} in {fn}"),
    row(TroubleKind::Oops, r"BUG: unable to handle page fault", "BUG: unable to handle kernel paging request in {fn}"),
    row(TroubleKind::Oops, r"BUG: kernel (NULL pointer dereference)", "BUG: unable to handle kernel {1} in {fn}"),
    row(TroubleKind::Oops, r"(?:CPU \d+ )?Unable to handle kernel (paging request|NULL pointer dereference|access to user memory|pointer dereference|execution of user memory|read from unreadable memory|write to read-only memory|execute from non-executable memory|unexecutable memory access)", "BUG: unable to handle kernel {1} in {fn}"),
    row(TroubleKind::Oops, r"BUG: Unable to handle kernel (?:data access|instruction fetch)", "BUG: unable to handle kernel paging request in {fn}"),
    row(TroubleKind::Oops, r"Unhandled fault: ", "Unhandled fault in {fn}"),

    // BUG() and WARN() in shared code: named by the file or by the surrounding messages.
    near(TroubleKind::KernelBug, r"kernel BUG at \S*rust/helpers/bug\.c", r"rust_kernel: panicked at [^\n]*\n(?P<message>[^\n]+)", "{message} in {fn}"),
    row(TroubleKind::KernelBug, r"kernel BUG at (?:\S*/)?lib/list_debug\.c", "BUG: corrupted list in {fn}"),
    row(TroubleKind::KernelBug, r"kernel BUG at (?:\S*/)?mm/usercopy\.c", "BUG: bad usercopy in {fn}"),
    row(TroubleKind::KernelBug, r"kernel BUG at |Kernel bug detected\[#", "kernel BUG in {fn}"),
    row(TroubleKind::Warning, warn_at!(r"lib/list_debug\.c"), "BUG: corrupted list in {fn}"),
    row(TroubleKind::Warning, warn_at!(r"lib/refcount\.c"), "WARNING: refcount bug in {fn}"),
    row(TroubleKind::Warning, warn_at!(r"include/linux/refcount\.h"), "WARNING: refcount bug in {fn}"),
    with(row(TroubleKind::Warning, warn_at!(r"lib/debugobjects\.c"), "WARNING: ODEBUG bug in {fn}"), OBJECT),
    row(TroubleKind::Warning, warn_at!(r"lib/kobject\.c"), "WARNING: kobject bug in {fn}"),
    row(TroubleKind::Warning, warn_at!(r"fs/proc/generic\.c"), "WARNING: proc registration bug in {fn}"),
    row(TroubleKind::Warning, warn_at!(r"mm/usercopy\.c"), "WARNING: bad usercopy in {fn}"),
    row(TroubleKind::Warning, warn_at!(r"mm/(?:slab_common|slab|slub|util)\.c"), "WARNING: kmalloc bug in {fn}"),
    row(TroubleKind::Warning, warn_at!(r"mm/vmalloc\.c"), "WARNING: zero-size vmalloc in {fn}"),
    row(TroubleKind::Warning, warn_at!(r"kernel/locking/lockdep\.c"), "WARNING: locking bug in {fn}"),
    row(TroubleKind::Warning, warn_at!(r"kernel/locking/(?:mutex|rwsem|rtmutex)\S*\.c"), "WARNING: locking bug in {fn}"),
    row(TroubleKind::Warning, warn_at!(r"drivers/usb/core/urb\.c"), "WARNING in {fn}/usb_submit_urb"),
    row(TroubleKind::Warning, r"WARNING: CPU: \d+ PID: \d+ at \S+ (?P<f>[\w.]+)\+0x", "WARNING in {fn}"),
    row(TroubleKind::Warning, r"WARNING: (?:\[.*\] )?\S+:\d+ at (?P<f>[\w.]+)\+0x[^,]*, CPU#", "WARNING in {fn}"),
    row(TroubleKind::Warning, r"WARNING: (?:CPU: |at |(?:\[.*\] )?\S+:\d+ at )", "WARNING in {fn}"),
    row(TroubleKind::Warning, r"WARNING: kernel stack (regs|frame pointer) (?:at\s+\S+ )?(?:in \S+ )?has bad", "WARNING: kernel stack {1} has bad value"),
    row(TroubleKind::Warning, r"[\w-]+ [\w.:-]+: (WARNING: [^\n]{8,})", "{1}"),

    // Memory management (mm).
    with(near(TroubleKind::Bug, r"BUG: Bad page state in process", "page last allocated via", "BUG: Bad page state in {fn}"), Search::After("page last allocated via")),
    row(TroubleKind::Bug, r"BUG: Bad page state in process", "BUG: Bad page state in {fn}"),
    row(TroubleKind::Bug, r"BUG: (Bad (?:page map|rss-counter state|page cache|swap file entry))", "BUG: {1}"),
    row(TroubleKind::Bug, r"BUG [\w-]+ \([^)]*\): ((?:Left |Right |kmalloc )?(?:Redzone|Poison|Padding|Object padding) overwritten|Object already free|Freepointer corrupt|Freechain corrupt)", "BUG: {1} in {fn}"),
    row(TroubleKind::Bug, r"BUG: Dentry .+ still in use", "BUG: Dentry still in use in unmount"),
    row(TroubleKind::Bug, r"VFS: Close: file count is (?:0|zero)", "VFS: Close: file count is zero (use-after-free)"),
    row(TroubleKind::Bug, r"unregister_netdevice: waiting for ", "unregister_netdevice: waiting for DEV to become free"),

    // Control flow integrity (kernel/cfi.c).
    row(TroubleKind::Bug, r"CFI failure at (?P<f>[\w.]+)\+0x", "CFI failure in {fn}"),

    // Faults of the processor.
    row(TroubleKind::Gpf, r"(?:Oops: )?(?:segment-related )?general protection fault", "general protection fault in {fn}"),
    row(TroubleKind::Oops, r"(?:Oops: )?(divide error|stack segment|int3|invalid opcode|alignment check|segment not present)(?: fault)?: [0-9a-f]{4} \[#", "{trap} in {fn}"),
    row(TroubleKind::Oops, r"Internal error: ", "Internal error in {fn}"),
    row(TroubleKind::Oops, r"Oops(?:: | - |\[#| \[#)", "Oops in {fn}"),

    // The secure world of Android devices (drivers/trusty).
    row(TroubleKind::Bug, r"trusty: .*ASSERT FAILED at \([^)]*\): (.+)", "trusty: ASSERT FAILED: {text1}"),
    row(TroubleKind::Bug, r"trusty: panic \(caller [^)]*\): (.+)", "trusty: panic: {text1}"),

    // A reboot, only if the log contains an earlier boot ([`crate::report`] checks this).
    row(TroubleKind::Oops, REBOOT, "unexpected kernel reboot"),

    // Panics come last, because most of them follow a report with more information.
    row(TroubleKind::Panic, r"Kernel panic - not syncing: (?:stack-protector: )?Kernel stack is corrupted in: (?:(?P<f>[A-Za-z_][\w.]*)\+0x)?", "kernel panic: stack is corrupted in {fn}"),
    with(row(TroubleKind::Panic, r"Kernel panic - not syncing: corrupted stack end", "kernel panic: corrupted stack end in {fn}"), Search::Stall),
    row(TroubleKind::Panic, r"Kernel panic - not syncing: (Attempted to kill init!)", "kernel panic: {1}"),
    row(TroubleKind::Panic, r"Kernel panic - not syncing: (panic_on_warn set)", "kernel panic: {1}"),
    row(TroubleKind::Panic, r"Kernel panic - not syncing: (.+)", "kernel panic: {text1}"),
    row(TroubleKind::Lockdep, r"(?:WARNING: |\[ BUG: )lock held at task exit time", "BUG: lock held at task exit time in {fn}"),
    row(TroubleKind::Bug, r"BUG: assuming (atomic|non migratable) context", "BUG: assuming {1} context in {fn}"),
    row(TroubleKind::Bug, r"BUG: ([A-Z][\w -]+)", "BUG: {text1}"),
    row(TroubleKind::Bug, r"BUG: (.+)", "BUG: {text1}"),
    row(TroubleKind::Bug, r"VFS: Busy inodes after unmount", "VFS: Busy inodes after unmount (use-after-free)"),
    // Any other fault of x86 and s390, and of MIPS and LoongArch.
    row(TroubleKind::Oops, r"([A-Za-z][\w ,/-]*): [0-9a-f]{4,16} (?:ilc:\d )?\[#\d+\]", "{1} in {fn}"),
    row(TroubleKind::Oops, r"([A-Za-z][\w ,-]*)!?\[#\d+\]:", "{1} in {fn}"),
];

/// A compiled row.
pub(crate) struct Rule {
    pub row: &'static Row,
    pub line: Regex,
    pub near: Option<Regex>,
}

pub(crate) static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let ready = |row: &'static Row| Rule {
        row,
        line: Regex::new(&format!("^(?:{})", row.line)).expect("the table's lines are regular expressions"),
        near: row
            .near
            .map(|near| Regex::new(near).expect("the table's surroundings are regular expressions")),
    };
    TABLE.iter().map(ready).collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        for rule in RULES.iter() {
            let names: Vec<&str> = rule.line.capture_names().flatten().collect();
            assert!(names.iter().all(|name| *name == "f"), "{}", rule.row.line);
            for number in 1..=3 {
                let used = [format!("{{{number}}}"), format!("{{f{number}}}"), format!("{{text{number}}}")];
                if used.iter().any(|group| rule.row.title.contains(group.as_str())) {
                    assert!(rule.line.captures_len() > number, "{}", rule.row.line);
                }
            }
            assert!(!rule.line.is_match(""), "{}", rule.row.line);
        }
    }
}
