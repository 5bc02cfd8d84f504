//! Crashes as the kernel reports them.

use super::logs::{OPCODE, crash_report};

/// How the reports of a kind of crash begin.
const KINDS: [&[&str]; 8] = [
    &[
        "BUG: KASAN: slab-use-after-free in {}+0x11c4/0x15a0",
        "Read of size 8 at addr ffff888106c1a018 by task fallocate/812",
    ],
    &["------------[ cut here ]------------", "kernel BUG at fs/ext4/extents.c:3211!", OPCODE],
    &[
        "------------[ cut here ]------------",
        "WARNING: CPU: 2 PID: 812 at fs/ext4/inode.c:3211 {}+0x11c4/0x15a0",
    ],
    &[
        "Oops: general protection fault, probably for non-canonical address 0xdffffc0000000005: 0000 [#1] PREEMPT SMP KASAN",
        "KASAN: null-ptr-deref in range [0x0000000000000028-0x000000000000002f]",
    ],
    &[
        "BUG: kernel NULL pointer dereference, address: 0000000000000018",
        "#PF: supervisor read access in kernel mode",
        "#PF: error_code(0x0000) - not-present page",
        "Oops: 0000 [#1] PREEMPT SMP NOPTI",
    ],
    &[
        "BUG: KASAN: slab-out-of-bounds in {}+0x11c4/0x15a0",
        "Write of size 4 at addr ffff888106c1a018 by task fallocate/812",
    ],
    &["BUG: sleeping function called from invalid context at fs/ext4/inode.c:3211"],
    &["INFO: task fallocate:812 blocked for more than 120 seconds."],
];
/// The functions that crash.
const FUNCTIONS: [&str; 12] = [
    "ext4_ext_remove_space",
    "ext4_orphan_cleanup",
    "ext4_xattr_set_handle",
    "ext4_mb_find_by_goal",
    "ext4_da_write_end",
    "ext4_convert_inline_data",
    "ext4_find_extent",
    "ext4_journal_check_start",
    "ext4_rename2",
    "ext4_quota_off",
    "jbd2_journal_commit_transaction",
    "mb_free_blocks",
];

/// A crash: its title, and the log of the test that it hit.
pub struct Oops {
    pub title: String,
    pub log: String,
}

impl Oops {
    /// One of each kind in each function.
    pub fn all() -> Vec<Self> {
        let functions = FUNCTIONS.iter();
        functions.flat_map(|function| KINDS.iter().map(move |head| Self::new(head, function))).collect()
    }

    fn new(head: &[&str], function: &str) -> Self {
        let mut log = String::from("00000 ========= TEST   oops\n");
        let before = (0..4_000).map(|step| format!("fallocate: step {step} of 4000"));
        for (line, text) in before.chain(crash_report(head, function)).enumerate() {
            log.push_str(&format!("{:05} [{:12.6}] {text}\n", line / 100, line as f64 / 100.0));
        }
        log.push_str("00041 ========= FAILED oops in 41s\n");
        let title = crash::reports(&log).remove(0).title;
        Self { title, log }
    }
}
