//! Functions that never name a crash: what reports it, what merely carries it out for a caller, and what waits.
//!
//! Each entry is a regular expression for a whole name, compiler suffixes removed. The lists follow the kernel's
//! sources by area; a function that many callers share says nothing about whose bug it is.

use std::sync::LazyLock;

use regex::{RegexSet, RegexSetBuilder};

/// Never guilty, whatever happened.
const ALWAYS: &[&str] = &[
    // lib/dump_stack.c, kernel/panic.c, lib/bug.c, arch/*/kernel/{traps,stacktrace,dumpstack,unwind}*.c
    r"_?_?dump_stack(_lvl)?|show_stack|show_regs|show_trace\w*|__show_trace|dump_backtrace|unwind_backtrace",
    r"(nmi_)?panic|oops_(begin|end|exit)|(add|get|test)_taint|print_tainted|die|__die\w*|die_kernel_fault|die_addr",
    r"__warn\w*|warn_slowpath\w*|warn_bogus\w*|report_bug(_entry)?|check_panic_on_warn|fixup_bug|handle_bug|bug_handler",
    r"do_error_trap|do_trap\w*|do_invalid_op|invalid_op|do_ud2|asm_exc_\w+|exc_\w+|do_general_protection",
    r"general_protection|page_fault|do_page_fault|__do_page_fault|async_page_fault|do_async_page_fault|trace_page_fault",
    r"no_context|bad_area\w*|pgtable_bad|spurious_\w*fault|page_fault_oops|kernelmode_fixup_or_oops",
    r"error_code|common_interrupt\w*|asm_common_interrupt|ret_from_exception|error_entry|math_error|do_divide_error|divide_error",
    r"stack_segment|do_stack_segment|double_fault|do_double_fault|do_int3|int3|do_debug|debug|nmi|do_nmi|default_do_nmi|nmi_handle",
    r"(arch_|save_|stack_trace_|stack_depot_)?stack_?walk\w*|stack_trace_save\w*|save_stack\w*|__save_stack_trace|save_trace|stack_depot_save\w*",
    r"unwind_next_frame|__read_once_word_nocheck|walk_stackframe|unwind_frame|notify_die|notifier_call_chain|kmsg_dump\w*|v?printk\w*|__printk_safe\w*|va_format|dev_v?printk\w*|__dev_printk|_dev_(emerg|alert|crit|err|warn|notice|info)|__dynamic_\w+|__netdev_printk|netdev_(emerg|alert|crit|err|warn|notice|info)|_printk|_printk_deferred",
    // arm, arm64, riscv, powerpc entry code
    r"el[01][ht]?_\w+|handle_bad_stack|__bad_stack|panic_bad_stack|brk_handler|call_break_hook|do_debug_exception|do_mem_abort|do_bad_area|do_translation_fault",
    r"__do_kernel_fault|do_DataAbort|do_PrefetchAbort|__dabt_(svc|usr|invalid)|__pabt_svc|__und_svc|do_undefinstr|arm_notify_die",
    r"handle_exception|do_trap_\w+|handle_(program_check|page_fault)\w*|program_check_\w+|do_bad_IRQ|bad_page_fault|__bad_page_fault",
    r"die_kernel_fault|do_alignment\w*|do_sea|arm64_notify_die|__arm_smccc_\w+|psci_\w+|call_on_irq_stack|do_interrupt_handler|handle_bad_stack",
    // mm/kasan, mm/kfence, mm/kmsan, kernel/kcsan, lib/ubsan.c, mm/kmemleak.c, kernel/kcov.c
    r"kasan_\w+|__kasan_\w+|__asan_\w+|__hwasan_\w+|hwasan_\w+|check_memory_region\w*|memory_is_\w+|check_region_inline|__kasan_check_\w+",
    r"print_(address_description|error_description|report|memory_metadata)|end_report|start_report|report_(access|suppressed)|object_err|slab_err",
    r"kfence_\w+|__kfence_\w+|kmsan_\w+|__kmsan_\w+|_*msan_\w+|kcsan_\w+|__kcsan_\w+|__tsan_\w+|check_access|print_report",
    r"ubsan_\w+|__ubsan_\w+|handle_overflow|val_to_string|kmemleak_\w+|create_object|__sanitizer_\w+|write_comp_data|__gcov_\w+",
    // lib/debugobjects.c, lib/refcount.c, lib/list_debug.c, lib/kref
    r"debug_(print_object|object\w*|check_no_obj\w*|deactivate|timer_deactivate|work_\w+|rcu_head_\w+|hrtimer_\w+)|__debug_\w+|debug_assert_init",
    r"refcount_\w+|__refcount_\w+|kref_(get|put|sub)\w*|__list_(add|del)\w*|list_(add|del|move|splice)\w*|hlist_\w+|plist_\w+|__hlist_\w+",
    // The memory primitives of lib/ and arch/*/lib.
    r"_?_?(mem(cpy|set|move|cmp|chr|scan|zero)|str(n|l|s)?(cpy|cat|cmp|len|nlen|chr|rchr|str|pbrk|casecmp|ncasecmp|dup|sep|scpy)\w*)\w*",
    r"mem(cpy|set|move)_(orig|erms|fast_string)|rep_(movs|stos)\w*|clear_page\w+|copy_page\w+|csum_partial\w*|do_csum|crc\w+_(le|be)",
    r"\w*copy_(to|from|in)_(user|iter)\w*|_copy_\w+|raw_copy_\w+|__arch_copy\w*|__copy_\w+|instrument_\w+|put_user\w*|get_user\w*|__(get|put)_user\w*|clear_user\w*|__clear_user",
    r"_?_?usercopy_\w+|__check_(heap_object|object_size)|check_(stack|kernel_text|page_span|heap)_\w+|report_usercopy|skip_memcpy|skcipher_\w*memcpy\w*",
    r"READ_ONCE\w*|WRITE_ONCE\w*|__read_once_size\w*|__write_once_size\w*|read_word_at_a_time|load_unaligned_zeropad",
    // Atomics and bits.
    r"(arch_|raw_|instrument_|generic_)*atomic\w*_\w+|(arch_|raw_|generic_|instrument_)*_*(test|set|clear|change)(_and_(set|clear|change))?_bit\w*|arch_(test|set|clear)\w*",
    r"(constant|variable)_test_bit|cmpxchg\w*|xchg\w*|native_\w+|arch_local_\w+|arch_static_\w+|static_key_\w+|__ffs\w*|hweight\w*|_find_(next|first)_\w*bit",
    // Locks (kernel/locking, lib/locking).
    r"_*raw_(spin|read|write)_\w+|_*(spin|read|write)_(try)?(un)?lock\w*|do_raw_\w+|queued_(spin|read|write)_\w+|pv_queued_\w+|__pv_queued\w*|native_queued_\w+",
    r"lock_acquire\w*|lock_release\w*|__lock_(acquire|release|\w*pin\w*)|lock_(acquired|contended|set_class|downgrade|is_held\w*|pin_lock\w*|unpin_lock)|lockdep_\w+|__lockdep_\w+|validate_chain",
    r"register_lock_class|check_(prev_add|prevs_add|noncircular|deadlock|irq_usage|usage|wait_context|flags|no_locks\w*)|mark_(lock|usage|held_locks|lock_irq)|hlock_class|look_up_lock_class|assign_lock_key",
    r"print_(circular_bug|deadlock_bug|unlock_imbalance_bug|usage_bug|bad_irq_dependency|irq\w*|lock_\w+|freed_lock_bug|held_locks\w*|kernel_ident|collision|lock_invalid_wait_context|shortest_lock\w*)\w*",
    r"spin_(bug|dump)|rwlock_bug|debug_spin_\w+|debug_(write|read|mutex|check_no_locks\w*|show_all_locks|locks_off|locks_free)\w*",
    r"_*mutex_(lock|unlock|trylock)\w*|__mutex_\w+|mutex_\w*waiter\w*|mutex_(optimistic|can|is)\w+|ww_mutex_\w+|_*(down|up)_(read|write|trylock|interruptible|killable|timeout)\w*|_*down(_\w*)?|_*up|rwsem_\w+|__rwsem_\w+|rwbase_\w+|rt_mutex_\w+|__rt_mutex\w*|rt_(spin|read|write)_\w+|percpu_(down|up)_\w+|__percpu_(down|up)_\w+",
    r"seqcount_\w+|read_seq\w+|write_seq\w+|lock_sock_nested_fast|local_bh_\w+|__local_bh_\w+|preempt_\w+|__preempt_\w+|__might_(sleep|fault|resched)|___might_sleep|might_\w+|debug_smp_processor_id|check_preemption_disabled|__this_cpu_preempt_check|this_cpu_\w+|__schedule_bug",
    r"rcu_(read_(un)?lock\w*|lock_\w+|lockdep_\w+|note_\w+|dereference\w*|is_watching|assign_\w+)|rcu_dynticks_\w+|lockdep_rcu_suspicious|trace_(hardirqs|softirqs|lock|irq|contention|sched|kmem|mm|kfree|kmalloc)\w*|tracer_\w+|perf_trace_\w+|trace_event_\w+|__traceiter_\w+|ftrace_\w+|__fentry__|do_perf_trace_\w+",
    // The allocators.
    r"\w*k[mz]alloc\w*|___?kmalloc\w*|\w*kmem_cache\w*|_*kv?free\w*|k[vz]?(zalloc|calloc|realloc|memdup|strdup|asprintf|vasprintf)\w*|_*v[mz]alloc\w*|vfree\w*|__vunmap|_*vmalloc\w*|kv[mz]?alloc\w*|kvmalloc\w*|memdup_user\w*|strndup_user|vmemdup_user",
    r"_*slab_\w+|_*slob_\w+|___?slab_\w+|__slab_(alloc|free)\w*|cache_(alloc|free|grow)\w*|____?cache_(alloc|free)\w*|allocate_slab|new_slab\w*|___cache_free|do_slab_free|check_object|check_slab|free_debug_processing|alloc_debug_processing|free_to_partial\w*|qlink_free|qlist_\w+|quarantine_\w+|fixup_\w*free\w*|free_block|cache_flusharray|setup_object\w*|init_object|check_bytes_and_report|alloc_single_from_\w*",
    r"_*alloc_pages\w*|_*get_free_pages?\w*|get_zeroed_page|get_page_from_freelist|prep_(new|compound)_page|_*free_(pages?|unref_page|pcppages|one_page|hot_cold_page)\w*|rmqueue\w*|post_alloc_hook|kernel_init_(free_)?pages|__page_frag_\w+|page_frag_\w+|free_(large|nonslab)_\w+|__free_slab|__folio_put\w*|folio_put\w*|put_page\w*|free_pages_and\w*|should_fail\w*|__should_fail\w*|fail_\w+|kernel_map_pages|poison_\w+|debug_pagealloc\w*|arch_free_page|bad_page\w*|free_page_is_bad|free_pages_(check|prepare)\w*|check_new_page\w*|check_free_page\w*|free_tail_page\w*|kfree_\w*skbmem|__alloc_frozen\w*|get_page\w*|try_get_\w*|page_ref_\w*",
    // Data structures and helpers of lib/ and include/linux.
    r"_*rb_(\w*)|rbtree_\w+|timerqueue_(init|iterate|add_node)\w*|rhashtable_\w+|__rhashtable_\w+|rht_\w+|rhltable_\w+|radix_tree_\w+|__radix_\w+|xa_\w+|__xa_\w+|xas_\w+|idr_\w+|ida_\w+|list_lru_\w+|__list_lru_\w+|klist_\w+|llist_\w+|mas_\w+|mt_\w+|interval_tree_\w+|percpu_ref_\w+|percpu_counter_\w+|__percpu_counter_\w+|ref_tracker_\w+|sbitmap_\w+|kfifo_\w+|__kfifo_\w+|mtree_\w+|__mt_\w+|sg_(alloc|free|init|copy|miter|next|nents|last)\w*|__sg_\w+|sgl_\w+|mempool_\w+|_*alloc_percpu\w*|free_percpu\w*|pcpu_\w+",
    r"v?s(n|cn)?printf|string(_nocheck|_valid)?|string_escape\w*|hex_string|hex2bin|bin2hex|hex_to_bin|seq_(v|b)?printf|seq_(putc|puts|put_\w+|write|path|file_path|dentry|escape\w*|hex_dump)|__stack_chk_fail|k(strndup|size)|v?calloc|strim|skip_spaces|st[rp]n?cpy\w*|bcmp|hex_dump_to_buffer|print_hex_dump\w*|pointer|format_decode|number|bitmap_\w+|__bitmap_\w+|find_(next|first|last)_\w*bit\w*|_*sort\w*|crc\d+\w*|__crc\w+|fortify_panic|__fortify_panic|skb_(panic|over_panic|under_panic|pull|push|put|trim)\w*|__skb_(pull|push|put|trim)\w*|__seqprop_\w+|seqprop_\w+|_?atomic_dec_and_\w+|iput(_final)?|d?put|fast_dput|dget\w*|__dget\w*|dput_to_list|lockref_\w+|__x86_indirect_thunk_\w+|__x86_return_thunk|__switch_to\w*|rust_helper_\w+|_RNv\w*(panicking|begin_unwind)\w*|core::panicking::\w+|rust_begin_unwind",
    r"_?compound_head|page_folio|(folio_)?unlock_page|folio_unlock|folio_(test|set|clear|trylock|alloc|get|put)\w*|filemap_alloc_folio\w*|__filemap_get_folio\w*|pagecache_get_page|__page_cache_alloc|__?(set|reset)_page_owner|page_pool_alloc\w*|__page_pool_alloc\w*|alloc_page(s|_)\w*|page_to_\w+|virt_to_\w+|__phys_addr\w*|__virt_to_phys\w*|phys_to_\w+|do_tag_check_fault|_new_vmalloc_restore\w*",
    r"(xts|ecb|cbc|ctr|gcm|ccm|lrw|cmac|hmac|ghash|drbg|essiv|adiantum)_\w+|aes_\w+|aesni_\w+|aesti_\w+|crypto_\w+|cipher_crypt_\w+|skcipher_\w+|(rng|hash|aead)_set(key|authsize|entropy)|shash_\w+|ahash_\w+|sha(1|256|512)_\w+|blake2\w+|chacha\w*|poly1305\w*|siphash\w*|__siphash\w*|jhash\w*|xxh\d+\w*",
    // kobjects, sysfs and the driver core.
    r"_*kobject_\w+|_*kset_\w+|sysfs_\w+|__sysfs_\w+|kernfs_(remove|get|put|new|find|create|add|next|drain|activate|link|unlink)\w*|__kernfs_\w+|device_(del|add|register|unregister|initialize|create|destroy|remove_file|release|remove_groups|add_groups|remove_attrs)\w*|(put|get)_device|dpm_sysfs_\w+|i2c_del_adapter|proc_register|proc_(create|mkdir|symlink)\w*|_?remove_proc_\w+|unregister_netdev\w*|rollback_registered\w*|get_device_parent|cleanup_glue_dir",
    // kernel/workqueue.c, kernel/time, kernel/kthread.c, kernel/sched/{wait,completion,swait}.c, kernel/rcu/srcutree.c.
    r"_*queue_(work|delayed_work)\w*|insert_work|mod_delayed_work\w*|schedule_(work|delayed_work)\w*|(__)?flush_(work|workqueue|delayed_work)\w*|(__)?drain_workqueue|destroy_workqueue|work_is_static_object|cancel_(work|delayed_work)\w*|__cancel_\w+|get_work_\w+|set_work_\w+|process_one_work|process_scheduled_works|worker_thread|kthread|kthread_(stop|park|unpark|should|create|queue|flush|cancel)\w*|__kthread_\w+|ret_from_(fork|kernel_thread)\w*",
    r"init_timer_key|(add|mod|del)_timer\w*|timer_(delete|shutdown|reduce|pending|fixup|is_static)\w*|__timer_delete\w*|__mod_timer|__del_timer\w*|_*try_to_del_timer\w*|sk_(stop|reset)_timer\w*|lock_timer_base|detach_(if_pending|timer)|do_init_timer|hrtimer_(start|cancel|try_to_cancel|init|active|forward)\w*",
    r"__wake_up\w*|wake_up(_\w+)?|complete(_all|_done|_on_\w+)?|swake_\w+|(autoremove|default|woken)_wake_function|__init_waitqueue_head|cleanup_srcu_struct|(__)?srcu_\w+|reacquire_held_locks|(__)?(lock|release)_sock\w*|task_blocks_on_rt_mutex|wait_for_completion\w*",
    // drivers/usb/core: what drivers call.
    r"usb_(submit_urb|kill_urb|unlink_urb|poison_urb|free_urb|kill_anchored_urbs|start_wait_urb|bulk_msg|control_msg|interrupt_msg|internal_control_msg|hcd_submit_urb|hcd_map_urb\w*)\w*",
];

/// Not guilty of a hung task: what waits for whom it waits.
const WAITING: &[&str] = &[
    r"_*schedule\w*|context_switch|io_schedule\w*|wait_(for|on)_\w*|_*wait_for_\w+|do_wait_(for_common|intr\w*)|__wait_(on|event|rcu)\w*|out_of_line_wait\w*|bit_wait\w*|prepare_to_wait\w*|do_wait_common|wait_event\w*|do_nanosleep|hrtimer_nanosleep\w*|msleep\w*|usleep\w*|freezer\w*|try_to_freeze|__refrigerator|sleep_on\w*|swait_\w+|prepare_to_swait\w*|__switch_to|ldsem_\w+|__ldsem_\w+|console_lock|tty_ldisc_lock\w*|usb_start_wait_urb",
    r"__io_wait\w*|lock_page\w*|__lock_page\w*|folio_(lock|wait)\w*|__folio_lock\w*|folio_wait_\w*|wait_on_page\w*|lock_buffer|__lock_buffer|lock_sock\w*|__lock_sock|lock_mount|do_lock_mount|rpc_wait_\w+|__rpc_execute|p9_client_rpc|p9_virtio_request|jbd2_log_wait_\w+|blk_(execute_rq|mq_freeze_queue_wait)\w*|submit_bio_wait|__synchronize_hardirq|request_wait_answer|(__)?fuse_(simple_)?request\w*|(__)?fuse_request_send\w*|coredump_wait|inode_wait_for_writeback|__inode_wait_for_writeback|wb_wait_for_completion|preempt_schedule\w*",
];

/// Not guilty of a leak: what allocates on behalf of a caller.
const ALLOCATING: &[&str] = &[
    r"\w*alloc\w*_skb\w*|_*alloc_skb\w*|skb_(clone|copy|expand\w*)|pskb_\w+|__build_skb\w*|build_skb\w*|sk_(prot_)?alloc|(__)?alloc_percpu\w*|pcpu_\w+|\w*mempool_\w+|bio_alloc\w*|alloc_(inode|file\w*|empty_file\w*|bprm|pid|vfsmnt|netdev\w*|etherdev\w*|workqueue\w*)|__alloc_file|idr_\w+|radix_tree_\w+|xas_\w+|ida_\w+|sock_(alloc\w*|wmalloc|rmalloc|omalloc)|__sock_create|prepare_(creds|kernel_cred)|security_\w+|lsm_\w+|getname\w*|d_alloc\w*|__d_alloc|dup_task_struct|devm_\w+|kobject_\w+|kstrdup\w*|kasprintf|kvasprintf\w*|bpf_map_area_alloc|usb_alloc_\w+|posix_acl_\w*|seq_(open\w*|buf_alloc)|single_open\w*|__seq_open\w*|sget_userns|alloc_super|percpu_ref_init|__percpu_\w+|call_usermodehelper_setup|(__)?fput\w*",
];

/// Which lists a rule believes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noise {
    /// What is never guilty.
    Usual,
    /// That, and what waits.
    Waiting,
    /// That, and what allocates.
    Allocating,
}

struct Sets {
    always: RegexSet,
    waiting: RegexSet,
    allocating: RegexSet,
}

static SETS: LazyLock<Sets> = LazyLock::new(|| {
    let set = |patterns: &[&str]| {
        let whole = patterns.iter().map(|pattern| format!("^(?:{pattern})$"));
        // Function names are ASCII; Unicode's classes would only make the automaton large.
        RegexSetBuilder::new(whole).unicode(false).build().expect("the lists are regular expressions")
    };
    Sets { always: set(ALWAYS), waiting: set(WAITING), allocating: set(ALLOCATING) }
});

/// Whether a function (compiler suffixes removed) says nothing about whose bug it is.
pub(crate) fn is_noise(function: &str, noise: Noise) -> bool {
    SETS.always.is_match(function)
        || match noise {
            Noise::Usual => false,
            Noise::Waiting => SETS.waiting.is_match(function),
            Noise::Allocating => SETS.allocating.is_match(function),
        }
}
