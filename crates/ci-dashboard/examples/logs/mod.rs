//! Logs for sample results.

/// The output of a parallel make around an error.
pub fn build_log(error: &str) -> String {
    let objects = |from: usize, to: usize| -> String {
        (from..to).map(|number| format!("  CC      fs/ext4/part{number}.o\n")).collect()
    };
    let mut log = String::from("  HOSTCC  scripts/basic/fixdep\n  SYNC    include/config/auto.conf.cmd\n");
    log.push_str(&objects(0, 400));
    let file = error.split(':').next().unwrap_or_default();
    log.push_str(&format!(
        "{file}: In function 'ext4_init_acl':\n{error}\n  143 |         ext4_set_acl_inline(handle, inode);\n"
    ));
    log.push_str("      |         ^~~~~~~~~~~~~~~~~~~\n");
    log.push_str(&objects(400, 404));
    log.push_str(&format!(
        "make[4]: *** [scripts/Makefile.build:287: {}.o] Error 1\n",
        file.trim_end_matches(".c")
    ));
    log.push_str("make[3]: *** [scripts/Makefile.build:544: fs/ext4] Error 2\nmake[3]: *** Waiting for unfinished jobs....\n");
    log.push_str(&objects(404, 450));
    log.push_str(
        "make[2]: *** [scripts/Makefile.build:544: fs] Error 2\nmake: *** [Makefile:2011: .] Error 2\n",
    );
    log
}

/// The line after that of a `BUG()`.
pub const OPCODE: &str = "Oops: invalid opcode: 0000 [#1] PREEMPT SMP NOPTI";

/// A crash report that begins with these lines, in a function.
pub fn crash_report(head: &[&str], function: &str) -> impl Iterator<Item = String> {
    let head: Vec<String> = head.iter().map(|line| line.replace("{}", function)).collect();
    let rest = [
        "CPU: 2 PID: 812 Comm: fallocate Not tainted 6.1.27-ktest #1",
        "Hardware name: QEMU Standard PC (Q35 + ICH9, 2009), BIOS 1.16.2",
        "RIP: 0010:{}+0x11c4/0x15a0",
        "Code: 48 89 df e8 0c 41 ff ff 0f 0b 48 8b 7c 24 10 e8 5e 3d f1 ff eb c8",
        "RSP: 0018:ffffc900017c7b10 EFLAGS: 00010246",
        "RAX: 0000000000000000 RBX: ffff888106c1a000 RCX: 0000000000000001",
        "Call Trace:",
        " <TASK>",
        " {}+0x11c4/0x15a0",
        " ext4_punch_hole+0x3d1/0x560",
        " ext4_fallocate+0x17e/0x9c0",
        " vfs_fallocate+0x14b/0x330",
        " __x64_sys_fallocate+0x40/0x70",
        " do_syscall_64+0x3a/0x90",
        " entry_SYSCALL_64_after_hwframe+0x63/0xcd",
        " </TASK>",
        "Modules linked in:",
        "---[ end trace 0000000000000000 ]---",
    ];
    let rest = rest.map(|line| line.replace("{}", function));
    head.into_iter().chain(rest)
}
