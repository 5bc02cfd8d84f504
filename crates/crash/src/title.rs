//! The spelling of titles: function names without the additions of compilers and architectures, and placeholders for
//! numbers and addresses, so that equal crashes have equal titles.
//!
//! Titles follow the conventions of syzbot, as far as its public titles show them:
//!
//! - `KIND in FUNCTION`. The function is the first one in the report's own stack that [`crate::families`] does not
//!   skip. If all are skipped, it is the outermost one; without a stack, the title ends with `in corrupted`.
//! - Detectors keep their prefix and the kind of bug (`KASAN: slab-use-after-free Read in f`); the access is in the
//!   title if the report has it. KCSAN titles name both functions, as the first line does. A double-free is an
//!   invalid-free for kernels that do not distinguish them.
//! - A bad address has one spelling for all architectures: `BUG: unable to handle kernel NULL pointer dereference in
//!   f`, `... paging request in f`. Other faults keep the processor's words (`divide error in f`), or are `Internal
//!   error` (arm).
//! - `kernel BUG in f` and `WARNING in f`, except in shared code, where the kind of bug is known: `BUG: corrupted
//!   list`, `WARNING: refcount bug`, `kobject bug`, `ODEBUG bug`, `kmalloc bug`, `locking bug`, `bad usercopy`.
//! - Lockdep: `possible deadlock` for all lock orders, named by the function that takes the lock; `inconsistent lock
//!   state`; `WARNING` or `BUG` as the kernel version prints it.
//! - Tasks that wait: `INFO: task hung in f`, where f is the first function that does not wait itself, except
//!   `rtnl_lock` and `synchronize_rcu`. Stalls and lockups name the function that generic code called through a pointer
//!   ([`crate::stall`]).
//! - System calls are named without their wrappers; `SyS_f` of old kernels is `f`.
//! - A panic has its message as the title, but only if no report precedes it. Numbers are replaced with `NUM`,
//!   addresses with `ADDR`, and network devices with `DEV`.

use std::sync::LazyLock;

use regex::Regex;

/// A function without the suffixes of compiler passes: `f.part.0.cold` is `f`.
pub(crate) fn plain(function: &str) -> &str {
    let mut name = function;
    if name.starts_with('<') || name.contains("::") {
        return name;
    }
    if let Some(dot) = name.find('.').filter(|dot| *dot > 0) {
        name = &name[..dot];
    }
    name
}

/// The name of a function that is common to all architectures and versions: a system call without its wrappers, one
/// name for all ways to wait for RCU, and one for all ways to call another processor.
pub(crate) fn canonical(function: &str) -> &str {
    let name = plain(function);
    // The wrappers of a system call (include/linux/syscalls.h), outermost first: __x64_sys_f, __se_sys_f, __do_sys_f.
    for prefix in ["__se_", "__do_"] {
        if let Some(rest) = name.strip_prefix(prefix)
            && (rest.starts_with("sys_") || rest.starts_with("compat_sys_"))
        {
            return rest;
        }
    }
    for prefix in ["__x64_", "__ia32_", "__arm64_", "__arm_", "__s390x_", "__s390_", "__riscv_", "__powerpc_"]
    {
        if let Some(rest) = name.strip_prefix(prefix)
            && (rest.starts_with("sys_") || rest.starts_with("compat_sys_"))
        {
            return rest;
        }
    }
    for prefix in ["SyS_", "SYSC_", "compat_SyS_", "C_SYSC_", "ksys_", "sys_"] {
        if let Some(rest) = name.strip_prefix(prefix)
            && !rest.is_empty()
        {
            return rest;
        }
    }
    match name {
        "synchronize_sched"
        | "synchronize_rcu_expedited"
        | "synchronize_rcu_bh"
        | "synchronize_sched_expedited"
        | "__synchronize_srcu"
        | "synchronize_srcu"
        | "synchronize_srcu_expedited"
        | "synchronize_rcu_tasks" => "synchronize_rcu",
        "smp_call_function_single"
        | "smp_call_function_many"
        | "smp_call_function_many_cond"
        | "smp_call_function_any" => "smp_call_function",
        _ => name,
    }
}

struct Replace {
    pattern: Regex,
    with: &'static str,
}

static REPLACE: LazyLock<Vec<Replace>> = LazyLock::new(|| {
    let table = [
        (r"\b0x[0-9a-fA-F]+\b", "ADDR"),
        (r"\b(?:[0-9a-f]{16}|[0-9a-f]{8})\b", "ADDR"),
        (
            r"\b(?:lo|(?:eth|wlan|tun|tap|veth|dummy|bond|team|bridge|ip6?tnl|sit|gre|vcan|can|syz_tun|netdevsim|wg|macvlan|ipvlan|macvtap|hsr|vxlan|batadv|nlmon|caif|ifb|vti|ip6?gre|erspan|ip6_vti|teql|gretap|erspan|rose|bpq|ax|nr)\d+)\b",
            "DEV",
        ),
        (r"\b\d+(?:\.\d+)*\b", "NUM"),
    ];
    let ready =
        |(pattern, with)| Replace { pattern: Regex::new(pattern).expect("a regular expression"), with };
    table.into_iter().map(ready).collect()
});

/// Free text of a message, generalized for use in a title.
pub(crate) fn general(text: &str) -> String {
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for replace in REPLACE.iter() {
        text = replace.pattern.replace_all(&text, replace.with).into_owned();
    }
    let mut end = text.len().min(120);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (from, to) in [
            ("f.part.0.cold.5", "f"),
            ("__x64_sys_mount", "sys_mount"),
            ("__se_sys_mount", "sys_mount"),
            ("__do_sys_mount", "sys_mount"),
            ("__se_compat_sys_ioctl", "compat_sys_ioctl"),
            ("SyS_rmdir", "rmdir"),
            ("ksys_mount.isra.1", "mount"),
            ("synchronize_sched", "synchronize_rcu"),
            ("smp_call_function_many_cond", "smp_call_function"),
            (".f.g", ".f.g"),
            ("core::fmt::write.llvm.1", "core::fmt::write.llvm.1"),
            ("<f>.g", "<f>.g"),
            ("sys_", "sys_"),
            ("<a::B as c::D>::mmap", "<a::B as c::D>::mmap"),
        ] {
            assert_eq!(canonical(from), to);
        }
        assert_eq!(general("unknown-block(8,1) at 0xffff8880 ..."), "unknown-block(NUM,NUM) at ADDR ...");
        assert_eq!(general("waiting for eth0 to become free"), "waiting for DEV to become free");
        let text = "x".repeat(119);
        assert_eq!(general(&format!("{text}\u{e4}")), text, "cut before a character");
    }
}
