//! Recognizes the console lines that start kernel trouble.
//!
//! The supervisor calls it for each line while the log grows; a report with a title starts only at such a line. The
//! rules follow the list in docs/contract.md; the first rule that matches gives the kind.

use std::fmt;

use crate::stamp::split;

/// The kind of bug that the kernel reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TroubleKind {
    /// `Kernel panic`: the kernel stopped.
    Panic,
    /// `kernel BUG at`.
    KernelBug,
    /// A KASAN or KFENCE report.
    Kasan,
    /// A KCSAN report.
    Kcsan,
    /// A KMSAN report.
    Kmsan,
    /// A UBSAN report.
    Ubsan,
    /// A kmemleak or other memory leak report.
    Leak,
    /// lockdep: a possible deadlock, an inconsistent lock state.
    Lockdep,
    /// `suspicious RCU usage`.
    Rcu,
    /// A task that is blocked for too long.
    HungTask,
    /// A processor that is stuck: a soft or hard lockup, an RCU stall.
    Lockup,
    /// A general protection fault.
    Gpf,
    /// An oops: a bad address, a double fault, an internal error.
    Oops,
    /// `BUG:` of any other sort.
    Bug,
    /// A `WARNING:`.
    Warning,
}

/// Each kind with its name, in the order of the enum.
const KINDS: [(TroubleKind, &str); 15] = [
    (TroubleKind::Panic, "kernel panic"),
    (TroubleKind::KernelBug, "kernel BUG"),
    (TroubleKind::Kasan, "KASAN report"),
    (TroubleKind::Kcsan, "KCSAN report"),
    (TroubleKind::Kmsan, "KMSAN report"),
    (TroubleKind::Ubsan, "UBSAN report"),
    (TroubleKind::Leak, "memory leak"),
    (TroubleKind::Lockdep, "lockdep report"),
    (TroubleKind::Rcu, "suspicious RCU usage"),
    (TroubleKind::HungTask, "hung task"),
    (TroubleKind::Lockup, "lockup"),
    (TroubleKind::Gpf, "general protection fault"),
    (TroubleKind::Oops, "oops"),
    (TroubleKind::Bug, "BUG"),
    (TroubleKind::Warning, "WARNING"),
];

impl fmt::Display for TroubleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(KINDS[*self as usize].1)
    }
}

impl TroubleKind {
    /// Whether the stacks in its reports have no header line (`Call Trace:`).
    pub(crate) fn headless(self) -> bool {
        matches!(self, Self::Kasan | Self::Kcsan | Self::Kmsan | Self::Leak)
    }
}

/// The start of kernel trouble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What it reports.
    pub kind: TroubleKind,
    /// The kernel stopped and prints nothing further.
    pub fatal: bool,
    /// The kernel's message, without its stamps.
    pub text: String,
}

/// Where in the message a rule looks for its words.
enum Position {
    Start,
    Anywhere,
}

use Position::{Anywhere, Start};

/// The rules: the first one that matches decides.
const RULES: &[(Position, &str, TroubleKind)] = &[
    (Start, "Kernel panic - not syncing", TroubleKind::Panic),
    (Start, "kernel BUG at ", TroubleKind::KernelBug),
    (Start, "BUG: KASAN: ", TroubleKind::Kasan),
    (Start, "KASAN: ", TroubleKind::Kasan),
    (Start, "BUG: KFENCE: ", TroubleKind::Kasan),
    (Start, "BUG: KCSAN: ", TroubleKind::Kcsan),
    (Start, "BUG: KMSAN: ", TroubleKind::Kmsan),
    (Start, "UBSAN: ", TroubleKind::Ubsan),
    (Start, "BUG: memory leak", TroubleKind::Leak),
    (Start, "unreferenced object 0x", TroubleKind::Leak),
    (Start, "BUG: soft lockup", TroubleKind::Lockup),
    (Start, "watchdog: BUG: soft lockup", TroubleKind::Lockup),
    (Start, "NMI watchdog: BUG: soft lockup", TroubleKind::Lockup),
    (Anywhere, "Watchdog detected hard LOCKUP", TroubleKind::Lockup),
    // PowerPC (arch/powerpc/kernel/watchdog.c).
    (Anywhere, " self-detected hard LOCKUP", TroubleKind::Lockup),
    (Anywhere, " Hard LOCKUP", TroubleKind::Lockup),
    (Start, "BUG: workqueue lockup", TroubleKind::Lockup),
    (Anywhere, " detected stall", TroubleKind::Lockup),
    (Anywhere, " detected expedited stall", TroubleKind::Lockup),
    (Anywhere, "self-detected stall on CPU", TroubleKind::Lockup),
    (Start, "INFO: task ", TroubleKind::HungTask),
    (Anywhere, " blocked for more than ", TroubleKind::HungTask),
    (Anywhere, " blocked in I/O wait for more than ", TroubleKind::HungTask),
    (Start, "INFO: trying to register non-static key", TroubleKind::Lockdep),
    (Start, "WARNING: possible circular locking dependency", TroubleKind::Lockdep),
    (Start, "WARNING: possible recursive locking", TroubleKind::Lockdep),
    (Start, "WARNING: possible irq lock inversion", TroubleKind::Lockdep),
    (Start, "WARNING: inconsistent lock state", TroubleKind::Lockdep),
    (Start, "WARNING: bad unlock balance", TroubleKind::Lockdep),
    (Start, "WARNING: bad contention detected", TroubleKind::Lockdep),
    (Start, "WARNING: held lock freed", TroubleKind::Lockdep),
    (Start, "WARNING: Nested lock was not taken", TroubleKind::Lockdep),
    (Start, "WARNING: lock held when returning to user space", TroubleKind::Lockdep),
    (Start, "WARNING: suspicious RCU usage", TroubleKind::Rcu),
    (Start, "[ INFO: suspicious RCU usage", TroubleKind::Rcu),
    (Start, "INFO: suspicious RCU usage", TroubleKind::Rcu),
    (Start, "[ INFO: possible ", TroubleKind::Lockdep),
    (Start, "[ INFO: inconsistent lock state ]", TroubleKind::Lockdep),
    (Anywhere, " still has locks held!", TroubleKind::Lockdep),
    (Anywhere, " lock order detected", TroubleKind::Lockdep),
    (Start, "general protection fault", TroubleKind::Gpf),
    (Start, "Oops: general protection fault", TroubleKind::Gpf),
    (Start, "traps: PANIC: double fault", TroubleKind::Oops),
    (Start, "PANIC: double fault", TroubleKind::Oops),
    (Start, "Oops: ", TroubleKind::Oops),
    (Start, "Oops - ", TroubleKind::Oops),
    (Start, "Oops[", TroubleKind::Oops),
    (Start, "Internal error: ", TroubleKind::Oops),
    (Start, "Unable to handle kernel ", TroubleKind::Oops),
    (Start, "Unhandled fault: ", TroubleKind::Oops),
    (Start, "Unhandled prefetch abort: ", TroubleKind::Oops),
    (Start, "Insufficient stack space to handle exception", TroubleKind::Oops),
    (Start, "kernel stack overflow", TroubleKind::Oops),
    (Start, "[ BUG: ", TroubleKind::Lockdep),
    (Start, "BUG: unable to handle ", TroubleKind::Oops),
    (Start, "BUG: ", TroubleKind::Bug),
    (Start, "BUG ", TroubleKind::Bug),
    (Start, "CFI failure at ", TroubleKind::Bug),
    (Start, "VFS: Busy inodes after unmount", TroubleKind::Bug),
    (Start, "VFS: Close: file count is ", TroubleKind::Bug),
    (Start, "unregister_netdevice: waiting for ", TroubleKind::Bug),
    (Start, "WARNING: ", TroubleKind::Warning),
    (Start, "trusty: ", TroubleKind::Bug),
];

/// Whether a console line starts kernel trouble, and which.
#[must_use]
pub fn trouble(line: &str) -> Option<Trouble> {
    trouble_in(split(line).text)
}

/// Whether a message, as found by [`split`], starts kernel trouble.
pub(crate) fn trouble_in(message: &str) -> Option<Trouble> {
    let text = message.trim_start();
    let fits = |position: &Position, words: &str| match position {
        Start => text.starts_with(words),
        Anywhere => text.contains(words),
    };
    let rule = RULES.iter().find(|(position, words, kind)| fits(position, words) && holds(*kind, text));
    let kind = rule.map(|(.., kind)| *kind);
    let kind = kind.or_else(|| die_header(text)).or_else(|| numbered_fault(text));
    let kind = kind.or_else(|| unspaced_header(text)).or_else(|| device_warning(text))?;
    Some(Trouble { kind, fatal: kind == TroubleKind::Panic, text: text.into() })
}

/// The header of a fault on x86 and s390 (die() in arch/*/kernel/dumpstack.c): the fault, its error code and the number of the
/// oops, as in `divide error: 0000 [#1] PREEMPT SMP`.
fn die_header(text: &str) -> Option<TroubleKind> {
    let (words, number) = text.split_once(" [#")?;
    let (fault, code) = words.rsplit_once(": ")?;
    let numbered = number.split_once(']').is_some_and(|(digits, _)| digits.parse::<u32>().is_ok());
    // s390 adds the length of the instruction (arch/s390/kernel/dumpstack.c): `illegal operation: 0001 ilc:1 [#1] SMP`.
    let code = code.split_once(" ilc:").map_or(code, |(code, _)| code);
    let coded = code.len() >= 4 && code.bytes().all(|byte| byte.is_ascii_hexdigit());
    let worded = fault.starts_with(|c: char| c.is_ascii_alphabetic())
        && fault.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" -_,:/".contains(&byte));
    let gpf = fault.contains("general protection fault");
    (numbered && coded && worded).then_some(if gpf { TroubleKind::Gpf } else { TroubleKind::Oops })
}

/// The header of a fault on MIPS and LoongArch (die() in arch/*/kernel/traps.c), as in `Kernel bug detected[#1]:`.
fn unspaced_header(text: &str) -> Option<TroubleKind> {
    let (fault, number) = text.trim_end().strip_suffix("]:")?.split_once("[#")?;
    let numbered = number.parse::<u32>().is_ok();
    let worded = fault.starts_with(|c: char| c.is_ascii_alphabetic())
        && fault.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" -_,!".contains(&byte));
    let of_kernel = ["kernel", "Kernel"].iter().any(|word| fault.contains(word));
    let bug = fault == "Kernel bug detected";
    (numbered && worded && of_kernel).then_some(if bug { TroubleKind::KernelBug } else { TroubleKind::Oops })
}

/// A bad address on MIPS and LoongArch: `CPU 0 Unable to handle kernel paging request at virtual address 00000008`.
fn numbered_fault(text: &str) -> Option<TroubleKind> {
    let (number, fault) = text.strip_prefix("CPU ")?.split_once(' ')?;
    let numbered = number.bytes().all(|byte| byte.is_ascii_digit());
    (numbered && fault.starts_with("Unable to handle kernel ")).then_some(TroubleKind::Oops)
}

/// A warning that a driver prints for a device on a bus: `usb 5-1: WARNING: firmware is too old`.
fn device_warning(text: &str) -> Option<TroubleKind> {
    let (device, _) = text.split_once(": WARNING: ")?;
    let (driver, address) = device.split_once(' ')?;
    let on_bus = address.starts_with(|c: char| c.is_ascii_digit())
        && address.contains(['-', ':'])
        && address.bytes().all(|byte| byte.is_ascii_hexdigit() || b"-:.".contains(&byte));
    let named = driver.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    (on_bus && named && !driver.is_empty()).then_some(TroubleKind::Warning)
}

/// Whether the rest of a message has the form of its kind. The words of some rules are also printed by programs, and by
/// messages that do not report a bug.
fn holds(kind: TroubleKind, text: &str) -> bool {
    match kind {
        TroubleKind::HungTask => is_hung_task(text),
        // A shell that traces its commands, and scripts that search the log, print these words too.
        TroubleKind::Lockdep if !text.starts_with("INFO: ") => {
            ["WARNING: ", "[ INFO: ", "[ BUG: "].iter().any(|start| text.starts_with(start))
        }
        TroubleKind::Lockup if text.contains(" stall") => {
            text.trim_start_matches("rcu: ").starts_with("INFO: ") && text.contains("rcu")
        }
        TroubleKind::Kasan | TroubleKind::Ubsan => text.contains(" in ") || text.starts_with("BUG: "),
        TroubleKind::Bug if text.starts_with("BUG ") => is_slab_bug(text),
        // The secure world of Android devices reports through its driver; most of its messages are not bugs.
        TroubleKind::Bug if text.starts_with("trusty: ") => {
            ["trusty: panic ", "ASSERT FAILED at "].iter().any(|words| text.contains(words))
        }
        TroubleKind::Warning => is_warn(text),
        _ => true,
    }
}

/// `INFO: task NAME:ID blocked for more than N seconds.` The name may contain a newline: then the line starts in the
/// middle of the name.
fn is_hung_task(text: &str) -> bool {
    let Some((task, rest)) = text.split_once(" for more than ") else { return false };
    let task = task.strip_suffix(" in I/O wait").unwrap_or(task);
    let Some(task) = task.strip_suffix(" blocked").or_else(|| task.strip_suffix(" can't die")) else {
        return false;
    };
    let id = task.strip_suffix(" is").unwrap_or(task).rsplit_once(':').map(|(_, id)| id);
    starts_with_digit(rest)
        && rest.contains(" seconds")
        && id.is_some_and(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The formats of WARN() and of the unwinder. Programs (lvm, mkfs) and drivers print warnings too.
fn is_warn(text: &str) -> bool {
    let rest = text.strip_prefix("WARNING: ").unwrap_or(text);
    let old = rest.strip_prefix("at ").is_some_and(|place| place.contains(':'));
    let usual =
        rest.strip_prefix("CPU: ").is_some_and(|rest| starts_with_digit(rest) && rest.contains(" PID: "));
    let new = rest
        .split_once(", CPU#")
        .is_some_and(|(place, cpu)| starts_with_digit(cpu) && place.contains(" at "));
    old || usual || new || rest.starts_with("kernel stack ")
}

/// `BUG kmalloc-64 (Not tainted): Poison overwritten`. `slab_bug` in mm/slub.c prints each of its messages in this
/// form, with the name of the cache, which may contain blanks, and the taint. KASAN before 4.8 prints a part of its own
/// report with it.
fn is_slab_bug(text: &str) -> bool {
    let Some((cache, rest)) = text.trim_start_matches("BUG ").split_once(" (") else { return false };
    let Some((taint, message)) = rest.split_once("): ") else { return false };
    let of_kasan = message.is_empty() || message == "kasan: bad access detected";
    !cache.is_empty() && (taint == "Not tainted" || taint.starts_with("Tainted: ")) && !of_kasan
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines that begin trouble, with its kind.
    const TROUBLE: &[(&str, TroubleKind)] = &[
        ("[   12.3456] kernel BUG at fs/ext4/inode.c:123!", TroubleKind::KernelBug),
        ("[ 1.2345][ T1] BUG: kernel NULL pointer dereference, address: 0000000000000008", TroubleKind::Bug),
        ("BUG: unable to handle page fault for address: ffff888000000000", TroubleKind::Oops),
        ("WARNING: CPU: 0 PID: 1 at fs/inode.c:300 drop_nlink+0x25/0x30", TroubleKind::Warning),
        ("WARNING: fs/inode.c:300 at drop_nlink+0x25/0x30, CPU#0: rm/1", TroubleKind::Warning),
        ("[    1.234567] WARNING: at fs/inode.c:300 drop_nlink+0x25/0x30()", TroubleKind::Warning),
        ("[    1.234567] WARNING: bad unlock balance detected!", TroubleKind::Lockdep),
        ("Oops: 0002 [#1] PREEMPT SMP", TroubleKind::Oops),
        ("general protection fault, probably for non-canonical address 0xdffffc0000000000", TroubleKind::Gpf),
        ("Internal error: Oops: 0000000096000004 [#1] SMP", TroubleKind::Oops),
        ("BUG: KASAN: slab-use-after-free in f+0x1/0x2", TroubleKind::Kasan),
        // Cut off.
        ("BUG: KASAN: slab-use-after-free", TroubleKind::Kasan),
        ("BUG: KCSAN: data-race in f / g", TroubleKind::Kcsan),
        ("BUG: KMSAN: uninit-value in f+0x1/0x2", TroubleKind::Kmsan),
        ("UBSAN: array-index-out-of-bounds in fs/a.c:1:2", TroubleKind::Ubsan),
        ("WARNING: possible circular locking dependency detected", TroubleKind::Lockdep),
        ("[ INFO: possible recursive locking detected ]", TroubleKind::Lockdep),
        ("WARNING: suspicious RCU usage", TroubleKind::Rcu),
        ("INFO: task kworker/0:1:12 blocked for more than 143 seconds.", TroubleKind::HungTask),
        ("watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [x:1]", TroubleKind::Lockup),
        ("watchdog: Watchdog detected hard LOCKUP on cpu 0", TroubleKind::Lockup),
        ("rcu: INFO: rcu_preempt self-detected stall on CPU", TroubleKind::Lockup),
        ("watchdog: CPU 1 self-detected hard LOCKUP @ f+0x1/0x2", TroubleKind::Lockup),
        ("watchdog: CPU 1 Hard LOCKUP", TroubleKind::Lockup),
        ("watchdog: CPU3: Watchdog detected hard LOCKUP on cpu 4", TroubleKind::Lockup),
        ("rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-.... }", TroubleKind::Lockup),
        ("INFO: rcu_tasks detected stalls on tasks:", TroubleKind::Lockup),
        ("[   12.3456] BUG kmalloc-64 (Not tainted): Right Redzone overwritten", TroubleKind::Bug),
        ("BUG: sleeping function called from invalid context at mm/a.c:1", TroubleKind::Bug),
        ("BUG: scheduling while atomic: cat/12/0x00000002", TroubleKind::Bug),
        ("CFI failure at f+0x1/0x2 (target: g+0x0/0x2; expected type: 0x1234)", TroubleKind::Bug),
        (
            "CPU 1 Unable to handle kernel paging request at virtual address 6b6b6b6b, epc == 1",
            TroubleKind::Oops,
        ),
        ("Kernel bug detected[#1]:", TroubleKind::KernelBug),
        ("do_cpu invoked from kernel context![#12]:", TroubleKind::Oops),
        ("illegal operation: 0001 ilc:1 [#1] SMP", TroubleKind::Oops),
        ("WARNING: bad contention detected!", TroubleKind::Lockdep),
        ("WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected", TroubleKind::Lockdep),
        ("WARNING: possible irq lock inversion dependency detected", TroubleKind::Lockdep),
        ("WARNING: inconsistent lock state", TroubleKind::Lockdep),
        ("WARNING: held lock freed!", TroubleKind::Lockdep),
        ("WARNING: lock held when returning to user space!", TroubleKind::Lockdep),
        ("WARNING: cat/12 still has locks held!", TroubleKind::Lockdep),
        ("[ BUG: Invalid wait context ]", TroubleKind::Lockdep),
        ("[ INFO: possible irq lock inversion dependency detected ]", TroubleKind::Lockdep),
        ("divide error: 0000 [#1] PREEMPT SMP KASAN PTI", TroubleKind::Oops),
        ("segment-related general protection fault: beec [#2] PREEMPT SMP KASAN PTI", TroubleKind::Gpf),
        ("alignment check: 0000 [#1] SMP", TroubleKind::Oops),
        ("coprocessor segment overrun: 0000 [#3]", TroubleKind::Oops),
        ("b:12 blocked for more than 143 seconds.", TroubleKind::HungTask),
        ("unregister_netdevice: waiting for lo to become free. Usage count = 2", TroubleKind::Bug),
        ("usb 5-1: WARNING: ath10k USB support is incomplete", TroubleKind::Warning),
        ("VFS: Busy inodes after unmount of vdb. Self-destruct in 5 seconds.", TroubleKind::Bug),
        (
            "at work: 40%[   81.050000] INFO: task worker:123 blocked for more than 120 seconds.",
            TroubleKind::HungTask,
        ),
        ("40%[   81.050000] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [w:1]", TroubleKind::Lockup),
        ("40%[   81.050000] BUG: workqueue lockup - pool cpus=0 stuck for 30s!", TroubleKind::Lockup),
        ("guest login: [   81.050000] Kernel panic - not syncing: x", TroubleKind::Panic),
        ("guest login: BUG: using smp_processor_id() in preemptible [00000000] code: x/1", TroubleKind::Bug),
        ("INFO: trying to register non-static key.", TroubleKind::Lockdep),
        ("Kernel panic - not syncing: Fatal exception", TroubleKind::Panic),
        ("INFO: task x:12 can't die for more than 143 seconds.", TroubleKind::HungTask),
        ("INFO: task x:12 blocked in I/O wait for more than 143 seconds.", TroubleKind::HungTask),
        ("INFO: task x:12 is blocked for more than 143 seconds.", TroubleKind::HungTask),
        ("WARNING: kernel stack frame pointer at ffff in x:1 has bad value 0000", TroubleKind::Warning),
        ("trusty: panic (caller 0x1234): failed", TroubleKind::Bug),
        ("trusty: com.android.x: ASSERT FAILED at (a.c:1): x", TroubleKind::Bug),
        ("INFO: suspicious RCU usage", TroubleKind::Rcu),
        ("[ INFO: suspicious RCU usage. ]", TroubleKind::Rcu),
        ("[ INFO: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected ]", TroubleKind::Lockdep),
        ("[ BUG: cat/12 still has locks held! ]", TroubleKind::Lockdep),
        ("KASAN: null-ptr-deref in range [0x0-0x7]", TroubleKind::Kasan),
        ("divide error: 0000 [#1]", TroubleKind::Oops),
        ("BUG kmalloc-64 (Tainted: G    B  ): Object already free", TroubleKind::Bug),
        (
            "BUG a_cache (Not tainted): Objects remaining in a_cache on __kmem_cache_shutdown()",
            TroubleKind::Bug,
        ),
        (
            "BUG dentry (Tainted: G        W         ): Wrong object count. Counter is 12 but counted were 13",
            TroubleKind::Bug,
        ),
        ("BUG a cache (Not tainted): Invalid object pointer 0x00000000deadbeef", TroubleKind::Bug),
        ("BUG kmalloc-8 (Tainted: [W]=WARN ): Freelist Pointer check fails", TroubleKind::Bug),
        (
            "INFO: rcu_sched self-detected stall on CPU { 0}  (t=2100 jiffies g=1 c=1 q=1)",
            TroubleKind::Lockup,
        ),
    ];

    #[test]
    fn the_list_of_the_contract() {
        for (line, kind) in TROUBLE {
            let found = trouble(line).map(|trouble| (trouble.kind, trouble.fatal));
            assert_eq!(found, Some((*kind, *kind == TroubleKind::Panic)), "{line}");
        }
    }

    #[test]
    fn ordinary_lines() {
        for line in [
            "",
            "debug: BUG_ON is on",
            "BUG reports go to the list",
            "echo 'BUG: x'",
            "INFO: task done",
            "the queue is blocked for more than it can bear",
            "commit 0000 [#12]",
            "see: beef [#issue]",
            "see: 12 [#1]",
            "see: text [#1]",
            "1st result: 0000 [#1]",
            "a (note): 0000 [#1]",
            "see: 0000 [#]",
            "see: 0000 [#1",
            "Kernel (see #2) rebuilt[#1]:",
            "#2 kernel[#1]:",
            "UBSAN: 3 tests on 2 processors",
            "KASAN: is on and runs",
            "usb x-1: WARNING: no address of a bus",
            "usb 5: WARNING: no address of a bus",
            "usb 5-x: WARNING: no address of a bus",
            "usb(1) 5-1: WARNING: no driver",
            " 5-1: WARNING: no driver",
            "INFO: task x:12 blocked for more than a minute, 60 seconds",
            "INFO: task x:12 blocked for more than 10 minutes",
            "INFO: task x: blocked for more than 10 seconds",
            "INFO: task x:1b blocked for more than 10 seconds",
            "WARNING: at home",
            "WARNING: CPU: x PID: 12",
            "WARNING: CPU: 0 is slow",
            "WARNING: a.c:1 at f+0x1/0x2, CPU#x",
            "WARNING: f+0x1/0x2, CPU#1",
            "BUG kmalloc-64 (Not tainted)",
            "BUG kmalloc-64 (Untainted): Poison overwritten",
            "BUG (Not tainted): Poison overwritten",
            "BUG tracker (see #12): Poison overwritten",
            "BUG kmalloc-64: Poison overwritten",
            "trusty: ASSERT",
            "INFO: rcu_preempt stalls are detected",
            "INFO: sound detected stalls",
            "rcu: rcu_preempt detected stalls on CPUs/tasks:",
            "mke2fs 1.47.0: WARNING: the device is in use",
            "========= FAILED a in 3s",
            "sysrq: Show Blocked State",
            "random: crng init done",
            "+ echo WARNING: x",
            "[  144.274089][T11803] WARNING: The mand mount option has been deprecated and",
            "[   36.852785][ T3615] traps: test[3615] general protection fault ip:7feb96eb56a1 sp:20000fd0 error:0",
            "WARNING: ext4 signature detected on /dev/vdb at offset 1080. Wipe it? [y/n]",
        ] {
            assert_eq!(trouble(line), None, "{line}");
        }
    }

    #[test]
    fn the_table_is_in_enum_order() {
        for (at, (kind, words)) in KINDS.iter().enumerate() {
            assert_eq!((*kind as usize, kind.to_string().as_str()), (at, *words));
        }
        assert!(TroubleKind::Kasan.headless() && !TroubleKind::Oops.headless());
    }
}
