//! Functions that never name a crash, with the reason why each family is passed over.
//!
//! A title names the first function of a stack that is not in this table. A function that many callers share does not
//! identify a bug. Each entry is a regular expression for whole names, with the suffixes of compiler passes removed.

use std::sync::LazyLock;

use regex::{RegexSet, RegexSetBuilder};

use crate::title::canonical;

/// The reports for which a family is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noise {
    /// All reports.
    Usual,
    /// Reports of tasks that wait, in addition to [`Noise::Usual`].
    Waiting,
    /// Reports of memory leaks, in addition to [`Noise::Usual`].
    Allocating,
    /// Reports of the object debugger, in addition to [`Noise::Usual`].
    Object,
}

/// Functions with a reason in common.
struct Family {
    /// Why they are passed over, as the end of "a function that ...".
    reason: &'static str,
    reports: Noise,
    names: &'static [&'static str],
}

const FAMILIES: &[Family] = &[
    Family {
        reason: "prints the report (lib/dump_stack.c, kernel/panic.c, lib/bug.c, arch/*/kernel/traps.c)",
        reports: Noise::Usual,
        names: &[
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
            r"__bug_\w+|bug_at|handle_BUG|do_undef\w*|undef_\w+|__asan_report\w*|report_(fault|illegal)\w*|early_fixup_exception|aarch64_\w+_brk|reserved_fault_brk_handler|cfi_\w+|__cfi_\w+|__ubsan_handle_cfi\w*|hw_break\w*|show_(fault|opcodes|code)\w*",
            r"__warn_printk|warn_printk|__report_bug|machine_kexec|crash_kexec|__crash_kexec|do_coredump_print|vpanic|panic_\w+|_?trace_panic\w*|vprintk_\w+|devkmsg_\w+|_?dev_printk\w*|dev_vprintk_emit|netif_(emerg|alert|crit|err|warn|notice|info)",
            r"_?prb_\w+|record_print_text|printk_sprint|info_print_\w+|nbcon_\w+|vscnprintf|(ip[46]|ip6_compressed|mac_address|uuid|hex|escaped|bitmap|bitmap_list|symbol|resource|device_node|fwnode|flags|gfp|error|widen|fourcc|time|rtc)_(addr_)?string\w*|(file_)?dentry_name|bdev_name|restricted_pointer|special_hex_number|address_val|netdev_bits|put_dec\w*",
        ],
    },
    Family {
        reason: "enters the kernel or handles the fault (arch/*/kernel/entry*)",
        reports: Noise::Usual,
        names: &[
            r"el[01][ht]?_\w+|handle_bad_stack|__bad_stack|panic_bad_stack|brk_handler|call_break_hook|do_debug_exception|do_mem_abort|do_bad_area|do_translation_fault",
            r"__do_kernel_fault|do_DataAbort|do_PrefetchAbort|__dabt_(svc|usr|invalid)|__pabt_svc|__und_svc|do_undefinstr|arm_notify_die",
            r"handle_exception|do_trap_\w+|handle_(program_check|page_fault)\w*|program_check_\w+|do_bad_IRQ|bad_page_fault|__bad_page_fault",
            r"die_kernel_fault|do_alignment\w*|do_sea|arm64_notify_die|__arm_smccc_\w+|psci_\w+|call_on_irq_stack|do_interrupt_handler|handle_bad_stack",
            r"do_el0_svc\w*|_?_?invoke_syscall|vector_(swi|irq|dabt|pabt|und|fiq)|ret_(fast|slow)_syscall|__irq_(svc|usr)|__sys_trace\w*|(do_)?el[01]\w*_(abort|undef|sync|irq|error|pc|sp|dbg|da|ia|brk64|fpac|bti)\w*|bad_el0_sync|do_sp_pc_abort|do_serror|arm64_serror_panic|do_cp15instr|do_sysinstr|do_tag_recovery",
            r"(asm_)?sysvec_\w+|irqentry_(enter|exit)\w*|irq_enter\w*|instrumentation_(begin|end)|asm_(common_interrupt|call_\w+|load_gs_index)|__?common_interrupt|handle_irq(_event\w*)?|call_irq_handler|run_(irq|sys)\w*_on_irqstack\w*|(smp_)?apic_timer_interrupt|__?sysvec_\w+|fred_(entry|sysvec|intx|hwexc|extint)\w*|asm_fred_\w+|xen_(hvm|pv)_\w+|paravirt_\w+|restore_regs\w*|swapgs_\w+|page_fault_\w+",
        ],
    },
    Family {
        reason: "is the detector itself (mm/kasan, mm/kfence, mm/kmsan, kernel/kcsan, lib/ubsan.c, mm/kmemleak.c, kernel/kcov.c)",
        reports: Noise::Usual,
        names: &[
            r"kasan_\w+|__kasan_\w+|__asan_\w+|__hwasan_\w+|hwasan_\w+|check_memory_region\w*|memory_is_\w+|check_region_inline|__kasan_check_\w+",
            r"print_(address_description|error_description|report|memory_metadata)|end_report|start_report|report_(access|suppressed)|object_err|slab_err",
            r"kfence_\w+|__kfence_\w+|kmsan_\w+|__kmsan_\w+|_*msan_\w+|kcsan_\w+|__kcsan_\w+|__tsan_\w+|check_access|print_report",
            r"ubsan_\w+|__ubsan_\w+|handle_overflow|val_to_string|kmemleak_\w+|create_object|__sanitizer_\w+|write_comp_data|__gcov_\w+",
            r"\w*kasan\w*|\w*kmemleak\w*|__no_sanitize\w*|__msan\w*|\w*kcsan\w*|__sancov\w*|__sanitizer\w*|poison_shadow\w*|unpoison_\w+|kmsan\w*|check_canary\w*",
            r"bpf_prog_[0-9a-f]{16}\w*|bpf_(dispatcher|trampoline)_\w+|address|0x[0-9a-f]+|[0-9a-f]{8,16}",
        ],
    },
    Family {
        reason: "checks objects for all subsystems (lib/debugobjects.c, lib/refcount.c, lib/list_debug.c)",
        reports: Noise::Usual,
        names: &[
            r"debug_(print_object|object\w*|check_no_obj\w*|deactivate|timer_deactivate|work_\w+|rcu_head_\w+|hrtimer_\w+)|__debug_\w+|debug_assert_init",
            r"refcount_\w+|__refcount_\w+|kref_(get|put|sub)\w*|__list_(add|del)\w*|list_(add|del|move|splice)\w*|hlist_\w+|plist_\w+|__hlist_\w+",
            r"\w*debug_(object|check_no_obj|assert|print_object)\w*|(destroy|init)_(timer|hrtimer|work|rcu_head)_on_stack\w*|__init_(work|timer|swait\w*)|init_(timer|work)_\w+|_*call_rcu\w*|kvfree_call_rcu|kfree_rcu\w*|call_srcu|__?call_srcu|rcu_segcblist\w*|__list_(cut|splice)\w*|hlist_(add|del|bl)\w*|\w*list_(add|del|replace|move|splice|swap|rotate|cut|first|last|empty)\w*_(valid\w*|rcu|init|or_report|tail|entry)|list_(replace|swap|rotate|cut)\w*|get_(unless_zero|not_zero)\w*",
        ],
    },
    Family {
        reason: "copies or compares memory for its caller (lib, arch/*/lib)",
        reports: Noise::Usual,
        names: &[
            r"_?_?(mem(cpy|set|move|cmp|chr|scan|zero)|str(n|l|s)?(cpy|cat|cmp|len|nlen|chr|rchr|str|pbrk|casecmp|ncasecmp|dup|sep|scpy)\w*)\w*",
            r"mem(cpy|set|move)_(orig|erms|fast_string)|rep_(movs|stos)\w*|clear_page\w+|copy_page\w+|csum_partial\w*|do_csum|crc\w+_(le|be)",
            r"\w*copy_(to|from|in)_(user|iter)\w*|_copy_\w+|raw_copy_\w+|__arch_copy\w*|__copy_\w+|instrument_\w+|put_user\w*|get_user\w*|__(get|put)_user\w*|clear_user\w*|__clear_user",
            r"_?_?usercopy_\w+|__check_(heap_object|object_size)|check_(stack|kernel_text|page_span|heap)_\w+|report_usercopy|skip_memcpy|skcipher_\w*memcpy\w*",
            r"READ_ONCE\w*|WRITE_ONCE\w*|__read_once_size\w*|__write_once_size\w*|read_word_at_a_time|load_unaligned_zeropad",
            r"_*(sized_)?strscpy\w*|strnstr|strreplace|strspn|strcspn|match_(string|token|strdup|int)\w*|sysfs_streq|kstrto\w+|_?parse_integer\w*|simple_strto\w+|memparse|copy_(page|mc|highpage|user|folio|struct)\w*|copy_(to|from)_kernel_nofault|__?probe_kernel_\w+|csum_\w+|ip_(fast_csum|compute_csum)|chksum_\w+|adler32\w*|zlib_adler\w*|libcrc32c|crc_?(t10dif|ccitt|itu|7|8|16|32|64)\w*|md5_\w+|sha(1|2|3|224|256|384|512)\w*_(update|final|finup|base|init|transform|block)\w*|hash_(long|64|32|ptr)|full_name_hash|hashlen_string|memweight|memcat_p|memdup_\w+|iov_iter_(advance_)?copy\w*|copyin|copyout\w*|copy_(from|to)_iter\w*|fault_in_\w+|iov_iter_fault_in_\w+|strncpy_from_user\w*|do_strncpy_from_user|strnlen_user\w*|do_strnlen_user|user_access_\w+|__?put_user_\w+|__?get_user_\w+",
        ],
    },
    Family {
        reason: "is one atomic or bit operation",
        reports: Noise::Usual,
        names: &[
            r"(arch_|raw_|instrument_|generic_)*atomic\w*_\w+|(arch_|raw_|generic_|instrument_)*_*(test|set|clear|change)(_and_(set|clear|change))?_bit\w*|arch_(test|set|clear)\w*",
            r"(constant|variable)_test_bit|cmpxchg\w*|xchg\w*|native_\w+|arch_local_\w+|arch_static_\w+|static_key_\w+|__ffs\w*|hweight\w*|_find_(next|first)_\w*bit",
        ],
    },
    Family {
        reason: "takes, releases or checks a lock for its caller (kernel/locking)",
        reports: Noise::Usual,
        names: &[
            r"_*raw_(spin|read|write)_\w+|_*(spin|read|write)_(try)?(un)?lock\w*|do_raw_\w+|queued_(spin|read|write)_\w+|pv_queued_\w+|__pv_queued\w*|native_queued_\w+",
            r"lock_acquire\w*|lock_release\w*|__lock_(acquire|release|\w*pin\w*)|lock_(acquired|contended|set_class|downgrade|is_held\w*|pin_lock\w*|unpin_lock)|lockdep_\w+|__lockdep_\w+|validate_chain",
            r"register_lock_class|check_(prev_add|prevs_add|noncircular|deadlock|irq_usage|usage|wait_context|flags|no_locks\w*)|mark_(lock|usage|held_locks|lock_irq)|hlock_class|look_up_lock_class|assign_lock_key",
            r"print_(circular_bug|deadlock_bug|unlock_imbalance_bug|usage_bug|bad_irq_dependency|irq\w*|lock_\w+|freed_lock_bug|held_locks\w*|kernel_ident|collision|lock_invalid_wait_context|shortest_lock\w*)\w*",
            r"spin_(bug|dump)|rwlock_bug|debug_spin_\w+|debug_(write|read|mutex|check_no_locks\w*|show_all_locks|locks_off|locks_free)\w*",
            r"_*mutex_(lock|unlock|trylock)\w*|__mutex_\w+|mutex_\w*waiter\w*|mutex_(optimistic|can|is)\w+|ww_mutex_\w+|_*(down|up)_(read|write|trylock|interruptible|killable|timeout)\w*|_*down(_\w*)?|_*up|rwsem_\w+|__rwsem_\w+|rwbase_\w+|rt_mutex_\w+|__rt_mutex\w*|rt_(spin|read|write)_\w+|percpu_(down|up)_\w+|__percpu_(down|up)_\w+",
            r"seqcount_\w+|read_seq\w+|write_seq\w+|lock_sock_nested_fast|local_bh_\w+|__local_bh_\w+|preempt_\w+|__preempt_\w+|__might_(sleep|fault|resched)|___might_sleep|might_\w+|debug_smp_processor_id|check_preemption_disabled|__this_cpu_preempt_check|this_cpu_\w+|__schedule_bug",
            r"rcu_(read_(un)?lock\w*|lock_\w+|lockdep_\w+|note_\w+|dereference\w*|is_watching|assign_\w+)|rcu_dynticks_\w+|lockdep_rcu_suspicious|trace_(hardirqs|softirqs|lock|irq|contention|sched|kmem|mm|kfree|kmalloc)\w*|tracer_\w+|perf_trace_\w+|trace_event_\w+|__traceiter_\w+|ftrace_\w+|__fentry__|do_perf_trace_\w+",
            r"_*(task_rq|rq|double_rq|double|this_rq)_(un)?lock\w*|raw_spin_rq_\w+|(un)?lock_hrtimer_base\w*|lock_timer\w*|osq_\w+|owner_on_cpu|__ww_\w+|rtlock_\w+|rtmutex_\w+|__rtlock\w*|__rt_(read|write|spin)\w*|rwlock_\w+|(bit|bh)_spin_\w+|hlist_bl_(un)?lock|lockref_\w+|semaphore_\w+|_*down_common|write_seqlock\w*|read_seqlock\w*|class_\w+_(con|de)structor|__lockdep\w*|lock_is_held\w*|rcu_read_(lock|unlock)\w*|(un)?lock_page_memcg|bh_(un)?lock_sock\w*|lock_sock\w*|(un)?lock_task_sighand\w*|__lock_task_sighand|__cond_resched\w*|cond_resched\w*|_cond_resched|__cant_\w+|cant_\w+|lru_add_drain_lock|local_lock_\w+|trylock_\w+|mcs_spin_\w+",
            r"add_(lock_to_list|chain_cache\w*)|lookup_chain_cache\w*|alloc_list_entry|graph_(un)?lock|debug_rt_mutex_\w+|(try_to_take|task_blocks_on)_rt_\w+|remove_waiter|(mark_)?wakeup_next_waiter",
        ],
    },
    Family {
        reason: "allocates or frees memory for its caller (mm)",
        reports: Noise::Usual,
        names: &[
            r"\w*k[mz]alloc\w*|___?kmalloc\w*|\w*kmem_cache\w*|_*kv?free\w*|k[vz]?(zalloc|calloc|realloc|memdup|strdup|asprintf|vasprintf)\w*|_*v[mz]alloc\w*|vfree\w*|__vunmap|_*vmalloc\w*|kv[mz]?alloc\w*|kvmalloc\w*|memdup_user\w*|strndup_user|vmemdup_user",
            r"_*slab_\w+|_*slob_\w+|___?slab_\w+|__slab_(alloc|free)\w*|cache_(alloc|free|grow)\w*|____?cache_(alloc|free)\w*|allocate_slab|new_slab\w*|___cache_free|do_slab_free|check_object|check_slab|free_debug_processing|alloc_debug_processing|free_to_partial\w*|qlink_free|qlist_\w+|quarantine_\w+|fixup_\w*free\w*|free_block|cache_flusharray|setup_object\w*|init_object|check_bytes_and_report|alloc_single_from_\w*",
            r"_*alloc_pages\w*|_*get_free_pages?\w*|get_zeroed_page|get_page_from_freelist|prep_(new|compound)_page|_*free_(pages?|unref_page|pcppages|one_page|hot_cold_page)\w*|rmqueue\w*|post_alloc_hook|kernel_init_(free_)?pages|__page_frag_\w+|page_frag_\w+|free_(large|nonslab)_\w+|__free_slab|__folio_put\w*|folio_put\w*|put_page\w*|free_pages_and\w*|should_fail\w*|__should_fail\w*|fail_\w+|kernel_map_pages|poison_\w+|debug_pagealloc\w*|arch_free_page|bad_page\w*|free_page_is_bad|free_pages_(check|prepare)\w*|check_new_page\w*|check_free_page\w*|free_tail_page\w*|kfree_\w*skbmem|__alloc_frozen\w*|get_page\w*|try_get_\w*|page_ref_\w*",
            r"\w*(k|v|kv)(m|z|c|re|mem)?alloc\w*(_noprof)?|_*alloc_(frozen_)?pages\w*|___kmalloc_large\w*|__?alloc_(contig|bulk)\w*|alloc_(pages|page|slab_obj|fair)\w*|warn_alloc\w*|__vmalloc_area\w*|\w*kmem_cache\w*|_*(mempool|page_frag)_\w+|free_(unref|frozen|large)\w*|__free_frozen\w*|__free_contig\w*|slab_\w+|__slab_\w+|memcg_slab\w*|kfree_(sensitive|const|bulk|skb_\w*mem)\w*|kzfree|kvfree\w*|__put_page|put_(page|devmap)\w*|free_page_and_swap\w*|check_heap_object",
            r"__rmqueue\w*|page_owner_\w+|split_(page|free_page)\w*|want_init_\w+|kernel_init_\w*pages|set_page_refcounted|alloc_pages_bulk\w*",
        ],
    },
    Family {
        reason: "is a data structure or a helper of lib and include/linux",
        reports: Noise::Usual,
        names: &[
            r"_*rb_(\w*)|rbtree_\w+|timerqueue_(init|iterate|add_node)\w*|rhashtable_\w+|__rhashtable_\w+|rht_\w+|rhltable_\w+|radix_tree_\w+|__radix_\w+|xa_\w+|__xa_\w+|xas_\w+|idr_\w+|ida_\w+|list_lru_\w+|__list_lru_\w+|klist_\w+|llist_\w+|mas_\w+|mt_\w+|interval_tree_\w+|percpu_ref_\w+|percpu_counter_\w+|__percpu_counter_\w+|ref_tracker_\w+|sbitmap_\w+|kfifo_\w+|__kfifo_\w+|mtree_\w+|__mt_\w+|sg_(alloc|free|init|copy|miter|next|nents|last)\w*|__sg_\w+|sgl_\w+|mempool_\w+|_*alloc_percpu\w*|free_percpu\w*|pcpu_\w+",
            r"v?s(n|cn)?printf|string(_nocheck|_valid)?|string_escape\w*|hex_string|hex2bin|bin2hex|hex_to_bin|seq_(v|b)?printf|seq_(putc|puts|put_\w+|write|path|file_path|dentry|escape\w*|hex_dump)|__stack_chk_fail|k(strndup|size)|v?calloc|strim|skip_spaces|st[rp]n?cpy\w*|bcmp|hex_dump_to_buffer|print_hex_dump\w*|pointer|format_decode|number|bitmap_\w+|__bitmap_\w+|find_(next|first|last)_\w*bit\w*|_*sort\w*|crc\d+\w*|__crc\w+|fortify_panic|__fortify_panic|skb_(panic|over_panic|under_panic|pull|push|put|trim)\w*|__skb_(pull|push|put|trim)\w*|__seqprop_\w+|seqprop_\w+|_?atomic_dec_and_\w+|iput(_final)?|d?put|fast_dput|dget\w*|__dget\w*|dput_to_list|lockref_\w+|__x86_indirect_thunk_\w+|__x86_return_thunk|__switch_to\w*|rust_helper_\w+|_RNv\w*(panicking|begin_unwind)\w*|core::panicking::\w+|rust_begin_unwind",
            r"_?compound_head|page_folio|(folio_)?unlock_page|folio_unlock|folio_(test|set|clear|trylock|alloc|get|put)\w*|filemap_alloc_folio\w*|__filemap_get_folio\w*|pagecache_get_page|__page_cache_alloc|__?(set|reset)_page_owner|page_pool_alloc\w*|__page_pool_alloc\w*|alloc_page(s|_)\w*|page_to_\w+|virt_to_\w+|__phys_addr\w*|__virt_to_phys\w*|phys_to_\w+|do_tag_check_fault|_new_vmalloc_restore\w*",
            r"(xts|ecb|cbc|ctr|gcm|ccm|lrw|cmac|hmac|ghash|drbg|essiv|adiantum)_\w+|aes_\w+|aesni_\w+|aesti_\w+|crypto_\w+|cipher_crypt_\w+|skcipher_\w+|(rng|hash|aead)_set(key|authsize|entropy)|shash_\w+|ahash_\w+|sha(1|256|512)_\w+|blake2\w+|chacha\w*|poly1305\w*|siphash\w*|__siphash\w*|jhash\w*|xxh\d+\w*",
            r"mt?ree_\w+|mas_\w+|maple_\w+|rhash\w+|bucket_table_\w+|__rht\w*|xas?_\w+|find_(next|first|last|nth)_\w+|__find_nth\w*|(lru|dlm)?_?ida?_(alloc|free|remove|destroy|get|simple)\w*|bit(map|s)_\w+|find_bit\w*|_*percpu_(ref|counter|rwsem)_\w+|seq_buf_\w+|trace_seq_\w+|page_ext_\w+|lookup_page_ext",
            r"(x|zs|z)?assfail|asswarn|assertfail|btrfs_assertfail|xfs_(asserts?_\w+|assert_\w+|error_report|corruption_error|hex_dump|force_shutdown|do_force_shutdown)|(gfs2|lm)_(assert\w*|consist\w*|withdraw|io_error\w*)\w*|reiserfs_(panic|error|warning|abort)|__reiserfs_\w+|_*ext4_(error|warning|abort|msg|std_error|grp_locked_error)\w*|__?btrfs_(panic|abort_transaction|handle_fs_error)|btrfs_print_\w+|_*jfs_error|_*ocfs2_(error|abort)|nilfs_error|__nilfs_(error|msg)|hpfs_error|_*udf_err|fat_fs_error\w*|__fat_fs_error|f2fs_(bug_on|handle_error\w*|stop_checkpoint)|__?jbd2_(journal_abort|assertion)\w*|j_assert\w*|__bch2_\w*(bug|error|inconsistent)\w*|bch2_(inconsistent_error|fatal_error|trans_inconsistent)|exofs_err|__fortify_\w+|fortify_\w+|hwrng_unregister",
            r"mark_buffer_\w+|(inc|drop|set|clear|__?inode_inc)_nlink\w*",
            r"(__)?filemap_get_\w+|mark_buffer_\w+|__brelse|__bforget|(find|grab)_(get|lock|or_create|cache|subpage)_?(page|entry|entries|folio|cache)\w*|grab_cache_page\w*|pagecache_\w+|(zero|flush|kmap|kunmap)_(user_)?(highpage|page|segments?)\w*|clear_(user_)?highpages?\w*|memcpy_(to|from)_(page|folio)|memzero_page|__?kmap_\w+|kmap|kunmap\w*",
            r"(des|des3_ede|blowfish|bf|serpent|twofish|camellia|sm4|aria|cast[56]|anubis|khazad|x?tea|seed|fcrypt|arc4|salsa20|nhpoly1305|gf128mul|polyval|michael)_\w*(crypt|setkey|enc|dec|mul|update|block|mic)\w*",
        ],
    },
    Family {
        reason: "registers or removes an object of the device model for its owner (lib/kobject.c, fs/sysfs, drivers/base)",
        reports: Noise::Usual,
        names: &[
            r"_*kobject_\w+|_*kset_\w+|sysfs_\w+|__sysfs_\w+|kernfs_(remove|get|put|new|find|create|add|next|drain|activate|link|unlink)\w*|__kernfs_\w+|device_(del|add|register|unregister|initialize|create|destroy|remove_file|release|remove_groups|add_groups|remove_attrs)\w*|(put|get)_device|dpm_sysfs_\w+|i2c_del_adapter|proc_register|proc_(create|mkdir|symlink)\w*|_?remove_proc_\w+|unregister_netdev\w*|rollback_registered\w*|get_device_parent|cleanup_glue_dir",
            r"kobj_\w+|kset_\w+|_*kobject\w*|add_uevent_var|dev_uevent|(__)?kernfs_(remove|add|new|get|put|create|link|drain|unlink|deactivate|activate|find|next)\w*|sysfs_\w+|internal_create_group\w*|(create|remove)_(dir|files)|populate_dir|__?device_(attach|release|driver|links?|pm|add|del|remove|register|unregister|destroy|create|initial|block|unblock)\w*|devres_\w+|release_nodes|remove_nodes|__?devm_\w+|bus_(add|remove|probe|for_each|notify|rescan)\w*|driver_(probe|attach|detach|add|remove|register|unregister|deferred)\w*|__?driver_(probe|attach)\w*|really_probe|call_driver_probe|platform_(probe|remove|device_\w+)|klist_\w+|class_(create|destroy|dir|dev|compat|interface)\w*|__class_\w+|dpm_\w+|devtmpfs_\w+|software_node_\w+|device_private_init|proc_\w*(register|create|remove|mkdir)\w*",
        ],
    },
    Family {
        reason: "queues, runs or flushes deferred work for its owner (kernel/workqueue.c, kernel/time, kernel/kthread.c)",
        reports: Noise::Usual,
        names: &[
            r"_*queue_(work|delayed_work)\w*|insert_work|mod_delayed_work\w*|schedule_(work|delayed_work)\w*|(__)?flush_(work|workqueue|delayed_work)\w*|(__)?drain_workqueue|destroy_workqueue|work_is_static_object|cancel_(work|delayed_work)\w*|__cancel_\w+|get_work_\w+|set_work_\w+|process_one_work|process_scheduled_works|worker_thread|kthread|kthread_(stop|park|unpark|should|create|queue|flush|cancel)\w*|__kthread_\w+|ret_from_(fork|kernel_thread)\w*",
            r"init_timer_key|(add|mod|del)_timer\w*|timer_(delete|shutdown|reduce|pending|fixup|is_static)\w*|__timer_delete\w*|__mod_timer|__del_timer\w*|_*try_to_del_timer\w*|sk_(stop|reset)_timer\w*|lock_timer_base|detach_(if_pending|timer)|do_init_timer|hrtimer_(start|cancel|try_to_cancel|init|active|forward)\w*",
            r"__wake_up\w*|wake_up(_\w+)?|complete(_all|_done|_on_\w+)?|swake_\w+|(autoremove|default|woken)_wake_function|__init_waitqueue_head|cleanup_srcu_struct|(__)?srcu_\w+|reacquire_held_locks|(__)?(lock|release)_sock\w*|task_blocks_on_rt_mutex|wait_for_completion\w*",
            r"_*queue_(work|delayed_work|rcu_work)\w*|(__)?(insert|grab|try_to_grab|start_flush|mark_work|enable|disable|cancel|flush|drain|destroy|queue|schedule)_(work|pending|workqueue|delayed_work|rcu_work)\w*|(__)?flush_work\w*|__?flush_workqueue\w*|touch_work_lockdep\w*|touch_wq_\w+|try_to_grab_pending|__?work_(grab|busy|pending|is)\w*|wake_(up|q)_\w+|wakeup_\w+|__wake_\w+|finish_wait|finish_swait|autoremove_\w+|kthread_(stop|park|unpark|create|run|flush|cancel|queue|should|bind|use_mm|init)\w*|__kthread_\w+|smpboot_\w+|timer_(delete|shutdown|reduce|pending|setup|destroy)\w*|(del|add|mod|reduce|init)_(singleshot_)?timer\w*|__?(mod|del|init)_timers?(_on_stack|_sync|_key)?\w*|enqueue_(hr)?timer_\w+|hrtimer_(start|cancel|try|init|setup|active|forward|reprogram)\w*|__hrtimer_(start|init|get|setup)\w*|remove_hrtimer|kick_\w+_timer",
        ],
    },
    Family {
        reason: "is the USB core on behalf of a driver",
        reports: Noise::Usual,
        names: &[
            r"usb_(submit_urb|kill_urb|unlink_urb|poison_urb|free_urb|kill_anchored_urbs|start_wait_urb|bulk_msg|control_msg|interrupt_msg|internal_control_msg|hcd_submit_urb|hcd_map_urb\w*)\w*",
            r"usb_(hcd_(unlink|flush|alloc|submit|map|link|unmap)\w*|get_(from_anchor|urb)|alloc_(urb|coherent)|buffer_alloc|control_msg_\w+)\w*",
        ],
    },
    Family {
        reason: "waits, or takes a lock, by its name",
        reports: Noise::Waiting,
        names: &[
            r"\w*(sched|wait|_lock|_slowlock|mutex|rwsem|rwbase|completion|kthread|synchronize|rcu_barrier)\w*|(\w+_)?down(_\w+)?|context_switch|__switch_to\w*|cancel_\w*work\w*|flush_\w*work\w*|__flush_\w*work\w*",
        ],
    },
    Family {
        reason: "waits, or starts and awaits the work of another task",
        reports: Noise::Waiting,
        names: &[
            r"_*schedule\w*|context_switch|io_schedule\w*|wait_(for|on)_\w*|_*wait_for_\w+|do_wait_(for_common|intr\w*)|__wait_(on|event|rcu)\w*|out_of_line_wait\w*|bit_wait\w*|prepare_to_wait\w*|do_wait_common|wait_event\w*|do_nanosleep|hrtimer_nanosleep\w*|msleep\w*|usleep\w*|freezer\w*|try_to_freeze|__refrigerator|sleep_on\w*|swait_\w+|prepare_to_swait\w*|__switch_to|ldsem_\w+|__ldsem_\w+|console_lock|tty_ldisc_lock\w*|usb_start_wait_urb",
            r"__io_wait\w*|lock_page\w*|__lock_page\w*|folio_(lock|wait)\w*|__folio_lock\w*|folio_wait_\w*|wait_on_page\w*|lock_buffer|__lock_buffer|lock_sock\w*|__lock_sock|lock_mount|do_lock_mount|rpc_wait_\w+|__rpc_execute|p9_client_rpc|p9_virtio_request|jbd2_log_wait_\w+|blk_(execute_rq|mq_freeze_queue_wait)\w*|submit_bio_wait|__synchronize_hardirq|request_wait_answer|(__)?fuse_(simple_)?request\w*|(__)?fuse_request_send\w*|coredump_wait|inode_wait_for_writeback|__inode_wait_for_writeback|wb_wait_for_completion|preempt_schedule\w*",
            r"\w*(schedule|sched_wait)_\w*(timeout|wait\w*)|_?rcu_barrier\w*|srcu_barrier\w*|__?wait_rcu_gp|synchronize_(irq|net|hardirq|shrinkers)|__synchronize_hardirq|\w*_?(rwsem|mutex|rwbase|completion)_?\w*|(__)?(down|up)_\w+|\w+_wait_(event|bit|queue|for)\w*|(__)?\w*wait_(on|for)_\w+|wait_\w+|\w+_wait|\w+_waitq?|\w+_wait_\w*timeout|percpu_(down|up)_\w+|cancel_\w*work\w*|(__)?flush_\w*work\w*|drain_\w*work\w*|kthread_\w+|(__)?mutex_\w+",
            r"(__)?filemap_fdatawait\w*|(__)?filemap_(write_and_wait|flush)\w*|file_write_and_wait\w*|wb_wait_\w*|io_schedule\w*|(blocking_|srcu_|raw_|atomic_)?notifier_(call_chain|chain_\w+)\w*|(blocking|srcu|raw)_notifier_\w+|__?mmu_notifier_(synchronize|invalidate)\w*|inode_(wait|sleep)_\w+|__wait_on_freeing_inode|inode_dio_wait|dax_\w*wait\w*|folio_(wait|lock|end)_\w+|__folio_lock\w*|migration_entry_wait\w*|bio_wait|blk_io_schedule|submit_bio_wait|bio_await\w*|swait_\w+|rtlock_\w+|rt_mutex_\w+|__?rt_(spin|mutex)\w*|lock_(two_)?\w*directories?_wait|do_exit_wait|ptrace_stop_wait|task_work_wait|kernfs_drain\w*",
        ],
    },
    Family {
        reason: "allocates an object on behalf of its caller",
        reports: Noise::Allocating,
        names: &[
            r"\w*alloc\w*_skb\w*|_*alloc_skb\w*|skb_(clone|copy|expand\w*)|pskb_\w+|__build_skb\w*|build_skb\w*|sk_(prot_)?alloc|(__)?alloc_percpu\w*|pcpu_\w+|\w*mempool_\w+|bio_alloc\w*|alloc_(inode|file\w*|empty_file\w*|bprm|pid|vfsmnt|netdev\w*|etherdev\w*|workqueue\w*)|__alloc_file|idr_\w+|radix_tree_\w+|xas_\w+|ida_\w+|sock_(alloc\w*|wmalloc|rmalloc|omalloc)|__sock_create|prepare_(creds|kernel_cred)|security_\w+|lsm_\w+|getname\w*|d_alloc\w*|__d_alloc|dup_task_struct|devm_\w+|kobject_\w+|kstrdup\w*|kasprintf|kvasprintf\w*|bpf_map_area_alloc|usb_alloc_\w+|posix_acl_\w*|seq_(open\w*|buf_alloc)|single_open\w*|__seq_open\w*|sget_userns|alloc_super|percpu_ref_init|__percpu_\w+|call_usermodehelper_setup|(__)?fput\w*",
            r"\w*alloc(ate)?(_\w+)?|_*alloc_\w+|\w+_alloc_(skb|inode|sk|percpu|page|pages|buf|buffer|mem)\w*|\w*skb_(clone|copy|alloc|segment)\w*|sk_(clone|alloc|prot_alloc)\w*|\w*(dup|strdup|memdup|asprintf)(_\w+)?|mm_(alloc|init|dup)|dup_(mm|task)\w*|kobject_\w+|register_(net_sysctl|sysctl)\w*|vmemdup\w*|__?get_(vm_area|free_pages)\w*|xas_\w+|radix_tree_\w+|idr_\w+|mas_\w+|list_lru_\w+|prealloc_shrinker|register_shrinker\w*|shrinker_\w+|(k|kv)?malloc_array\w*|kstrdup\w*|keyctl_\w*dup\w*|__bio_\w+|bio_\w*alloc\w*|bvec_\w+|mempool_\w+|nf_ct_ext_\w+|__build_skb\w*|netdev_alloc\w*|napi_\w*skb\w*|audit_(log|buffer)_(start|alloc)|fsnotify_add_\w+|sock_(kmalloc|omalloc|wmalloc)\w*|proc_alloc\w*|__proc_create|debugfs_(get|create)\w*|inode_(init|doinit)\w*_security|security_\w+|selinux_\w*alloc\w*|smack_\w*alloc\w*|tomoyo_\w*alloc\w*|apparmor_\w*alloc\w*|lsm_\w+",
        ],
    },
    Family {
        reason: "is the timer that the object debugger reports, or runs it; the owner calls it",
        reports: Noise::Object,
        names: &[r"\w*timers?_?\w*"],
    },
];

/// One regular expression for each family, in the order of the table.
static NAMES: LazyLock<RegexSet> = LazyLock::new(|| {
    let names = FAMILIES.iter().map(|family| format!("^(?:{})$", family.names.join("|")));
    // Function names are ASCII; Unicode classes would only make the automaton large.
    RegexSetBuilder::new(names).unicode(false).build().expect("the table contains regular expressions")
});

/// Functions that name a hung task although they wait: what they wait for is known, and is the same for all callers.
const NAMED_WAITS: [&str; 2] = ["rtnl_lock", "synchronize_rcu"];

/// The reason why a function (without the suffixes of compiler passes) is passed over in reports of this sort.
pub(crate) fn passed_over(function: &str, noise: Noise) -> Option<&'static str> {
    if noise == Noise::Waiting && NAMED_WAITS.contains(&canonical(function)) {
        return None;
    }
    let families = NAMES.matches(function).into_iter().map(|index| &FAMILIES[index]);
    families
        .filter(|family| family.reports == Noise::Usual || family.reports == noise)
        .map(|family| family.reason)
        .next()
}

/// Whether a function says nothing about the cause in reports of this sort.
pub(crate) fn is_noise(function: &str, noise: Noise) -> bool {
    passed_over(function, noise).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One function of each kind that the subsystems share, and some that a title may name.
    #[test]
    fn shared_functions_are_passed_over_for_a_reason() {
        for (function, noise, reason) in [
            ("filemap_fdatawait_range", Noise::Waiting, "waits"),
            ("__rwsem_down_write_failed_common", Noise::Waiting, "takes"),
            ("rcu_barrier", Noise::Waiting, "waits"),
            ("folio_wait_bit_common", Noise::Waiting, "waits"),
            ("__wait_on_freeing_inode", Noise::Waiting, "waits"),
            ("blocking_notifier_call_chain", Noise::Waiting, "waits"),
            ("__flush_workqueue", Noise::Waiting, "queues"),
            ("task_rq_lock", Noise::Usual, "takes"),
            ("lock_sock_nested", Noise::Usual, "takes"),
            ("__list_del_entry_valid_or_report", Noise::Usual, "checks objects"),
            ("refcount_warn_saturate", Noise::Usual, "checks objects"),
            ("sized_strscpy", Noise::Usual, "copies"),
            ("crc32c_le_base", Noise::Usual, "copies"),
            ("find_get_entries", Noise::Usual, "is a data structure"),
            ("__filemap_get_folio", Noise::Usual, "is a data structure"),
            ("mark_buffer_dirty", Noise::Usual, "is a data structure"),
            ("drop_nlink", Noise::Usual, "is a data structure"),
            ("kobject_put", Noise::Usual, "registers"),
            ("sysfs_remove_group", Noise::Usual, "registers"),
            ("device_del", Noise::Usual, "registers"),
            ("__fortify_report", Noise::Usual, "is a data structure"),
            ("assfail", Noise::Usual, "is a data structure"),
            ("__alloc_frozen_pages_noprof", Noise::Usual, "allocates"),
            ("__kvmalloc_node_noprof", Noise::Usual, "allocates"),
            ("el1h_64_sync_handler", Noise::Usual, "enters"),
            ("__dabt_svc", Noise::Usual, "enters"),
            ("ret_from_fork_asm", Noise::Usual, "queues"),
            ("irqentry_enter", Noise::Usual, "enters"),
            ("bpf_prog_6deef7357e7b4530", Noise::Usual, "is the detector"),
            ("sk_prot_alloc", Noise::Allocating, "allocates"),
            ("security_inode_alloc", Noise::Allocating, "allocates"),
        ] {
            let found = passed_over(function, noise);
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
        ] {
            assert_eq!(passed_over(function, Noise::Waiting), None, "{function}");
        }
    }
}
