//! Is this console line the beginning of kernel trouble? One line at a time, for supervision while the log grows.
//!
//! What counts is the list of the test contract. The order of the rules matters: the first that fits names the kind.

use std::fmt;

use crate::prefix::strip;

/// What the kernel complains about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `Kernel panic`: the machine is gone.
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
    /// A processor that is stuck: soft or hard lockup, RCU stall.
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

/// (kind, what people call it).
const KINDS: [(Kind, &str); 15] = [
    (Kind::Panic, "kernel panic"),
    (Kind::KernelBug, "kernel BUG"),
    (Kind::Kasan, "KASAN report"),
    (Kind::Kcsan, "KCSAN report"),
    (Kind::Kmsan, "KMSAN report"),
    (Kind::Ubsan, "UBSAN report"),
    (Kind::Leak, "memory leak"),
    (Kind::Lockdep, "lockdep report"),
    (Kind::Rcu, "suspicious RCU usage"),
    (Kind::HungTask, "hung task"),
    (Kind::Lockup, "lockup"),
    (Kind::Gpf, "general protection fault"),
    (Kind::Oops, "oops"),
    (Kind::Bug, "BUG"),
    (Kind::Warning, "WARNING"),
];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(KINDS[*self as usize].1)
    }
}

impl Kind {
    /// Whether its report shows stacks without a head line (`Call Trace:`) before them.
    pub(crate) fn headless(self) -> bool {
        matches!(self, Self::Kasan | Self::Kcsan | Self::Kmsan | Self::Leak)
    }
}

/// The beginning of kernel trouble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What it is.
    pub kind: Kind,
    /// A panic: nothing more will come from this kernel.
    pub fatal: bool,
    /// The line without its printk prefix.
    pub text: String,
}

/// Where in the line the words of a rule must stand.
enum At {
    Start,
    Anywhere,
}

/// The rules: the first that fits decides.
const RULES: &[(At, &str, Kind)] = &[
    (At::Start, "Kernel panic - not syncing", Kind::Panic),
    (At::Start, "kernel BUG at ", Kind::KernelBug),
    (At::Start, "BUG: KASAN: ", Kind::Kasan),
    (At::Start, "KASAN: ", Kind::Kasan),
    (At::Start, "BUG: KFENCE: ", Kind::Kasan),
    (At::Start, "BUG: KCSAN: ", Kind::Kcsan),
    (At::Start, "BUG: KMSAN: ", Kind::Kmsan),
    (At::Start, "UBSAN: ", Kind::Ubsan),
    (At::Start, "BUG: memory leak", Kind::Leak),
    (At::Start, "BUG: soft lockup", Kind::Lockup),
    (At::Start, "watchdog: BUG: soft lockup", Kind::Lockup),
    (At::Start, "NMI watchdog: BUG: soft lockup", Kind::Lockup),
    (At::Anywhere, "Watchdog detected hard LOCKUP", Kind::Lockup),
    (At::Start, "BUG: workqueue lockup", Kind::Lockup),
    (At::Anywhere, " detected stall", Kind::Lockup),
    (At::Anywhere, " detected expedited stall", Kind::Lockup),
    (At::Anywhere, "self-detected stall on CPU", Kind::Lockup),
    (At::Start, "INFO: task ", Kind::HungTask),
    (At::Start, "INFO: trying to register non-static key", Kind::Lockdep),
    (At::Start, "WARNING: possible circular locking dependency", Kind::Lockdep),
    (At::Start, "WARNING: possible recursive locking", Kind::Lockdep),
    (At::Start, "WARNING: possible irq lock inversion", Kind::Lockdep),
    (At::Start, "WARNING: inconsistent lock state", Kind::Lockdep),
    (At::Start, "WARNING: bad unlock balance", Kind::Lockdep),
    (At::Start, "WARNING: held lock freed", Kind::Lockdep),
    (At::Start, "WARNING: Nested lock was not taken", Kind::Lockdep),
    (At::Start, "WARNING: lock held when returning to user space", Kind::Lockdep),
    (At::Anywhere, "still has locks held!", Kind::Lockdep),
    (At::Anywhere, "-unsafe lock order detected", Kind::Lockdep),
    (At::Start, "WARNING: suspicious RCU usage", Kind::Rcu),
    (At::Anywhere, "possible circular locking dependency detected", Kind::Lockdep),
    (At::Anywhere, "possible recursive locking detected", Kind::Lockdep),
    (At::Anywhere, "inconsistent lock state ]", Kind::Lockdep),
    (At::Anywhere, "suspicious RCU usage", Kind::Rcu),
    (At::Start, "general protection fault", Kind::Gpf),
    (At::Start, "Oops: general protection fault", Kind::Gpf),
    (At::Start, "traps: PANIC: double fault", Kind::Oops),
    (At::Start, "PANIC: double fault", Kind::Oops),
    (At::Start, "Oops: ", Kind::Oops),
    (At::Start, "Oops - ", Kind::Oops),
    (At::Start, "Oops[", Kind::Oops),
    (At::Start, "Internal error: ", Kind::Oops),
    (At::Start, "Unable to handle kernel ", Kind::Oops),
    (At::Start, "Unhandled fault: ", Kind::Oops),
    (At::Start, "Insufficient stack space to handle exception", Kind::Oops),
    (At::Start, "kernel stack overflow", Kind::Oops),
    (At::Start, "stack segment: ", Kind::Oops),
    (At::Start, "[ BUG: ", Kind::Lockdep),
    (At::Start, "divide error: ", Kind::Oops),
    (At::Start, "invalid opcode: ", Kind::Oops),
    (At::Start, "BUG: unable to handle ", Kind::Oops),
    (At::Start, "BUG: ", Kind::Bug),
    (At::Start, "BUG ", Kind::Bug),
    (At::Start, "CFI failure at ", Kind::Bug),
    (At::Start, "WARNING: ", Kind::Warning),
];

/// Whether `line` begins kernel trouble; its printk prefix may be there or not.
#[must_use]
pub fn trouble(line: &str) -> Option<Trouble> {
    let text = strip(line).text.trim_start();
    let (.., kind) = RULES.iter().find(|(at, words, _)| match at {
        At::Start => text.starts_with(words),
        At::Anywhere => text.contains(words),
    })?;
    let believed = match kind {
        Kind::HungTask => text.contains(" blocked "),
        // mm/slub.c puts the cache's name between: `BUG kmalloc-64 (Not tainted): Poison overwritten`.
        Kind::Bug if text.starts_with("BUG ") => {
            let words = [" overwritten", "Object already free", "Freepointer corrupt", "Freechain corrupt"];
            text.contains("ainted") && words.iter().any(|words| text.contains(words))
        }
        // Programs warn too (lvm, mkfs), and drivers of what is merely old; WARN() and lockdep have their own form.
        Kind::Warning => {
            let words = ["CPU: ", ", CPU#", "kernel stack"];
            text.starts_with("WARNING: at ") || words.iter().any(|words| text.contains(words))
        }
        _ => true,
    };
    if !believed {
        return None;
    }
    Some(Trouble { kind: *kind, fatal: *kind == Kind::Panic, text: text.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_the_contract() {
        for (line, kind) in [
            ("[   12.3456] kernel BUG at fs/ext4/inode.c:123!", Kind::KernelBug),
            ("[ 1.2345][ T1] BUG: kernel NULL pointer dereference, address: 0000000000000008", Kind::Bug),
            ("BUG: unable to handle page fault for address: ffff888000000000", Kind::Oops),
            ("WARNING: CPU: 0 PID: 1 at fs/inode.c:300 drop_nlink+0x25/0x30", Kind::Warning),
            ("WARNING: fs/inode.c:300 at drop_nlink+0x25/0x30, CPU#0: rm/1", Kind::Warning),
            ("[    1.234567] WARNING: at fs/inode.c:300 drop_nlink+0x25/0x30()", Kind::Warning),
            ("[    1.234567] WARNING: bad unlock balance detected!", Kind::Lockdep),
            ("Oops: 0002 [#1] PREEMPT SMP", Kind::Oops),
            ("general protection fault, probably for non-canonical address 0xdffffc0000000000", Kind::Gpf),
            ("Internal error: Oops: 0000000096000004 [#1] SMP", Kind::Oops),
            ("BUG: KASAN: slab-use-after-free in f+0x1/0x2", Kind::Kasan),
            ("BUG: KCSAN: data-race in f / g", Kind::Kcsan),
            ("BUG: KMSAN: uninit-value in f+0x1/0x2", Kind::Kmsan),
            ("UBSAN: array-index-out-of-bounds in fs/a.c:1:2", Kind::Ubsan),
            ("WARNING: possible circular locking dependency detected", Kind::Lockdep),
            ("[ INFO: possible recursive locking detected ]", Kind::Lockdep),
            ("WARNING: suspicious RCU usage", Kind::Rcu),
            ("INFO: task kworker/0:1:12 blocked for more than 143 seconds.", Kind::HungTask),
            ("watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [x:1]", Kind::Lockup),
            ("watchdog: Watchdog detected hard LOCKUP on cpu 0", Kind::Lockup),
            ("rcu: INFO: rcu_preempt self-detected stall on CPU", Kind::Lockup),
            ("watchdog: CPU3: Watchdog detected hard LOCKUP on cpu 4", Kind::Lockup),
            ("rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-.... }", Kind::Lockup),
            ("INFO: rcu_tasks detected stalls on tasks:", Kind::Lockup),
            ("[   12.3456] BUG kmalloc-64 (Not tainted): Right Redzone overwritten", Kind::Bug),
            ("BUG: sleeping function called from invalid context at mm/a.c:1", Kind::Bug),
            ("BUG: scheduling while atomic: cat/12/0x00000002", Kind::Bug),
            ("CFI failure at f+0x1/0x2 (target: g+0x0/0x2; expected type: 0x1234)", Kind::Bug),
            ("WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected", Kind::Lockdep),
            ("WARNING: possible irq lock inversion dependency detected", Kind::Lockdep),
            ("WARNING: inconsistent lock state", Kind::Lockdep),
            ("WARNING: held lock freed!", Kind::Lockdep),
            ("WARNING: lock held when returning to user space!", Kind::Lockdep),
            ("WARNING: cat/12 still has locks held!", Kind::Lockdep),
            ("[ BUG: Invalid wait context ]", Kind::Lockdep),
            ("INFO: trying to register non-static key.", Kind::Lockdep),
            ("Kernel panic - not syncing: Fatal exception", Kind::Panic),
        ] {
            let found = trouble(line).map(|trouble| (trouble.kind, trouble.fatal));
            assert_eq!(found, Some((kind, kind == Kind::Panic)), "{line}");
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
        for (at, (kind, _)) in KINDS.iter().enumerate() {
            assert_eq!(*kind as usize, at);
        }
    }
}
