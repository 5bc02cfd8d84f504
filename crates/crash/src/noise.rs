//! Which functions never name a crash.
//!
//! A title names the first function of a stack that is not in the table of [`crate::families`]: a function with many
//! callers does not identify a bug.

use std::sync::LazyLock;

use crate::families::{FAMILIES, Family, Noise};
use crate::names::Names;
use crate::title::canonical;

/// The rows of all families, with the family of each row.
static TABLE: LazyLock<(Names, Vec<&'static Family>)> = LazyLock::new(|| {
    let rows = || FAMILIES.iter().flat_map(|family| family.rows.iter().map(move |row| (*row, family)));
    (Names::new(rows().map(|(row, _)| row)), rows().map(|(_, family)| family).collect())
});

/// Functions that name a hung task although they wait: what they wait for is known, and is the same for all callers.
const NAMED_WAITS: [&str; 2] = ["rtnl_lock", "synchronize_rcu"];

/// The reason why a function (without the suffixes of compiler passes) is skipped in reports of this sort.
pub(crate) fn reason_to_skip(function: &str, noise: Noise) -> Option<&'static str> {
    if noise == Noise::Waiting && NAMED_WAITS.contains(&canonical(function)) {
        return None;
    }
    let (names, families) = &*TABLE;
    let families = names.rows(function).map(|index| families[index]);
    families
        .filter(|family| match family.reports {
            Noise::Usual => true,
            Noise::Entry => noise != Noise::Context,
            reports => reports == noise,
        })
        .map(|family| family.reason)
        .next()
}

/// Whether a function does not identify the cause in reports of this sort.
pub(crate) fn is_noise(function: &str, noise: Noise) -> bool {
    reason_to_skip(function, noise).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Functions that are skipped, and the reason.
    const SHARED: &[(&str, Noise, &str)] = &[
        ("filemap_fdatawait_range", Noise::Waiting, "waits"),
        ("__rwsem_down_write_failed_common", Noise::Waiting, "takes"),
        ("rcu_barrier", Noise::Waiting, "waits"),
        ("folio_wait_bit_common", Noise::Waiting, "waits"),
        ("__wait_on_freeing_inode", Noise::Waiting, "waits"),
        ("blocking_notifier_call_chain", Noise::Waiting, "queues"),
        ("__flush_workqueue", Noise::Waiting, "queues"),
        ("task_rq_lock", Noise::Usual, "takes"),
        ("lock_sock_nested", Noise::Usual, "takes"),
        ("__list_del_entry_valid_or_report", Noise::Usual, "checks objects"),
        ("refcount_warn_saturate", Noise::Usual, "checks objects"),
        ("rcuref_put_slowpath", Noise::Usual, "checks objects"),
        ("list_del_init_careful", Noise::Usual, "checks objects"),
        ("__put_user_nocheck_4", Noise::Usual, "copies"),
        ("clear_page_erms", Noise::Usual, "copies"),
        ("virt_to_head_page", Noise::Usual, "is one operation"),
        ("get_unaligned_be32", Noise::Usual, "is one operation"),
        ("cpumask_next_wrap", Noise::Usual, "is one operation"),
        ("arch_spin_trylock", Noise::Usual, "takes"),
        ("folio_try_get_rcu", Noise::Usual, "allocates"),
        ("vsscanf", Noise::Usual, "prints"),
        ("call_rwsem_down_read_failed", Noise::Usual, "takes"),
        ("do_write_seqcount_begin", Noise::Usual, "takes"),
        ("trace_preempt_off", Noise::Usual, "takes"),
        ("perf_trace_lock_acquire", Noise::Usual, "takes"),
        ("sized_strscpy", Noise::Usual, "copies"),
        ("crc32c_le_base", Noise::Usual, "copies"),
        ("find_get_entries", Noise::Usual, "handles"),
        ("__filemap_get_folio", Noise::Usual, "handles"),
        ("mark_buffer_dirty", Noise::Usual, "handles"),
        ("drop_nlink", Noise::Usual, "handles"),
        ("kobject_put", Noise::Usual, "registers"),
        ("sysfs_remove_group", Noise::Usual, "registers"),
        ("device_del", Noise::Usual, "registers"),
        ("__fortify_report", Noise::Usual, "asserts"),
        ("assfail", Noise::Usual, "asserts"),
        ("__alloc_frozen_pages_noprof", Noise::Usual, "allocates"),
        ("__kvmalloc_node_noprof", Noise::Usual, "allocates"),
        ("__pi_memcpy", Noise::Usual, "copies"),
        ("csd_lock_wait", Noise::Usual, "takes"),
        ("el1h_64_sync_handler", Noise::Usual, "enters"),
        ("__dabt_svc", Noise::Usual, "enters"),
        ("ret_from_fork_asm", Noise::Usual, "queues"),
        ("irqentry_enter", Noise::Usual, "enters"),
        ("bpf_prog_6deef7357e7b4530", Noise::Usual, "has no name"),
        ("print_trailer", Noise::Usual, "allocates"),
        ("check_pad_bytes", Noise::Usual, "allocates"),
        ("alloc_from_pcs_bulk", Noise::Usual, "allocates"),
        ("__pcs_replace_empty_main", Noise::Usual, "allocates"),
        ("rcu_free_sheaf", Noise::Usual, "allocates"),
        ("find_held_lock", Noise::Usual, "takes"),
        ("add_chain_block", Noise::Usual, "takes"),
        ("check_usage_forwards", Noise::Usual, "takes"),
        ("downgrade_write", Noise::Usual, "takes"),
        ("__enter_from_kernel_mode", Noise::Usual, "enters"),
        ("sk_prot_alloc", Noise::Allocating, "allocates"),
        ("security_inode_alloc", Noise::Allocating, "allocates"),
    ];

    /// One function of each kind that subsystems share, and some that a title may name.
    #[test]
    fn shared_functions_are_skipped_for_a_reason() {
        for (function, noise, reason) in SHARED {
            let noise = *noise;
            let found = reason_to_skip(function, noise);
            assert!(found.is_some_and(|found| found.starts_with(reason)), "{function}: {found:?}");
        }
        for function in [
            "ext4_find_extent",
            "rtnl_lock",
            "synchronize_rcu",
            "console_device",
            "clear_page",
            "jbd2_journal_commit_transaction",
            "filemap_fault",
            "input_unregister_device",
            "kernfs_fop_open",
            "blkdev_put",
            "exit_aio",
            "free_netdev",
            "__fput",
            "usb_hub_create_port_device",
            "unregister_netdevice_notifier",
            // Names that begin like those of shared functions.
            "page_to_skb",
            "__get_user_pages",
            "clear_page_dirty_for_io",
            "copy_page_range",
            "list_add_event",
            "device_add_disk",
            "memcpy_extent_buffer",
            "find_first_extent_bit",
            "find_or_create_cached_dir",
            "static_key_slow_inc",
            "pcpu_freelist_pop",
            "bpf_trampoline_link_prog",
            "folio_clear_dirty_for_io",
            "btrfs_error_commit_super",
            "trylock_super",
            "walk_down_tree",
            "blk_mq_sched_dispatch_requests",
        ] {
            assert_eq!(reason_to_skip(function, Noise::Waiting), None, "{function}");
        }
        for function in ["perf_trace_destroy", "perf_trace_init"] {
            assert_eq!(reason_to_skip(function, Noise::Usual), None, "{function}");
        }
    }
}
