//! The families of functions that never name a crash, each with the reason.
//!
//! A row has the source files, then the names of the shared functions in them. Names include patterns for prefixes and
//! suffixes, following the kernel's naming conventions, so that they match functions of other versions too.
//! [`crate::names`] explains the notation.

/// The reports in which a family is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noise {
    /// All reports.
    Usual,
    /// All reports, except [`Noise::Context`].
    Entry,
    /// Reports of a context that does not allow what a function does: the kernel's entry code
    /// itself may be at fault.
    Context,
    /// Reports of tasks that wait; also skips the families of [`Noise::Usual`].
    Waiting,
    /// Reports of memory leaks; also skips the families of [`Noise::Usual`].
    Allocating,
    /// Reports of the object debugger; also skips the families of [`Noise::Usual`].
    Object,
}

/// Functions that are skipped for the same reason.
pub(crate) struct Family {
    /// Why they are skipped, to complete "a function that ...".
    pub reason: &'static str,
    /// The reports in which they are skipped.
    pub reports: Noise,
    /// Rows `FILES: NAMES`.
    pub rows: &'static [&'static str],
}

#[rustfmt::skip]
pub(crate) const FAMILIES: &[Family] = &[
    Family { reason: "prints the report", reports: Noise::Usual, rows: &[
        "lib/dump_stack.c arch/*/kernel/{dumpstack,stacktrace,unwind*}.c: dump_stack* show_stack* show_regs* show_trace* dump_backtrace* unwind_backtrace* walk_stackframe unwind_(frame|next_frame|next) (arch_)?stack_?walk* stack_trace_save* save_stack* save_trace stack_depot_* show_(fault_oops|opcodes|code|ip)*",
        "kernel/panic.c lib/bug.c arch/*/kernel/traps.c: (nmi_|v)?panic panic_(on_this_cpu|smp_self_stop|other_cpus_shutdown|trigger_all_cpu_backtrace) trace_panic* oops_(begin|end|exit|enter|may_print) *taint *tainted die die_* warn warn_(slowpath|bogus|printk|thunk)* check_panic_on_warn report_bug* bug_(at|handler|get_file_line) fixup_bug handle_(bug|BUG) notify_die early_fixup_exception machine_kexec* crash_kexec*",
        "kernel/printk lib/dynamic_debug.c: v?printk* vprintk_* (record|info|log)_print_* prb_(reserve|commit|final_commit|read)* printk_sprint nbcon_* devkmsg_* kmsg_dump* va_format dev_v?printk* dev_(emerg|alert|crit|err|warn|notice|info|err_probe) (netdev|netif)_(printk|emerg|alert|crit|err|warn|notice|info) dynamic_(pr|dev|netdev|ibdev)_*",
        "lib/vsprintf.c lib/string_helpers.c lib/hexdump.c fs/seq_file.c: v?s(n|cn)?printf bstr_printf v?bin_printf string string_(nocheck|valid|escape|unescape|get_size)* (un)?escape_(hex|null|octal|passthrough|space|special) pointer pointer_string default_pointer ptr_to_id number format_decode put_dec* special_hex_number address_val netdev_bits restricted_pointer (file_)?dentry_name bdev_name (ip|ip[46]|ip6_compressed|mac_address|uuid|hex|escaped|bitmap|bitmap_list|symbol|resource|device_node|fwnode|flags|error|widen|fourcc|time|rtc)_(full_name_)?(addr_)?string* hex2bin bin2hex hex_to_bin *hex_dump* seq_(v|b)?printf seq_(putc|puts|put_*|write|path|file_path|dentry|escape*|hex_dump|buf_*) trace_seq_*",
    ] },
    Family { reason: "enters the kernel or handles the fault", reports: Noise::Entry, rows: &[
        "arch/x86/entry arch/x86/kernel/traps.c arch/x86/mm/fault.c kernel/entry: do_error_trap do_trap* do_invalid_op invalid_op do_ud2 (asm_)?exc_* general_protection do_general_protection error_entry error_code (do_|async_|trace_|handle_|asm_)?(do_|async_|trace_)?(page_fault_)?page_fault* no_context bad_area* pgtable_bad spurious_*fault kernelmode_fixup_or_oops (do_)?(divide_error|stack_segment|double_fault|int3|debug|nmi|bounds|overflow) math_error default_do_nmi nmi_handle asm_call_* asm_load_gs_index (asm_|smp_)?(trace_)?(common_interrupt|apic_timer_interrupt|sysvec_*) irqentry_* irq_enter* instrumentation_* handle_irq handle_irq_event* call_irq_handler run_*_on_irqstack* fred_* asm_fred_* xen_(hvm|pv)_* paravirt_* restore_regs* swapgs_*",
        "arch/arm64/kernel/{entry*,traps}.c arch/arm64/mm/fault.c: el[01][ht]?_* (do_)?el[01]*_(abort|undef|sync|irq|error|pc|sp|dbg|da|ia|brk64|fpac|bti|svc*) bad_el0_sync do_el0_svc* invoke_syscall (panic_|handle_)?bad_stack brk_handler call_break_hook aarch64_*_brk reserved_fault_brk_handler hw_break* do_(debug_exception|mem_abort|bad_area|sea|serror|(translation|tag_check|kernel|alignment|sect|domain|permission)_fault*|tag_*) do_sp_pc_abort arm64_(notify_die|serror_panic) do_cp15instr do_sysinstr call_on_irq_stack arm_smccc_* psci_* report_tag_fault bug_brk_handler mem_abort_decode",
        "arch/arm/kernel/{entry*,traps}.* arch/arm/mm/fault.c: do_undef* undef_* (do_)?(DataAbort|PrefetchAbort) (dabt|pabt|und|irq|fiq)_(svc|usr|invalid) vector_(swi|irq|dabt|pabt|und|fiq) arm_notify_die ret_(fast|slow)_syscall sys_trace* do_bad_IRQ do_kernel_address_page_fault L?div0",
        "arch/{riscv,powerpc,s390,mips,loongarch}/kernel/{entry*,traps,pgm_check}.* : handle_exception ret_from_exception do_interrupt_handler handle_program_check* program_check_* pgm_check_* pgm_int_* do_(pgm_check|program_check|report_trap|fault_error|no_context|low_address) illegal_op data_exception kernel_stack_overflow (data|instruction)_access_(common|exception)* program_check_common* (machine_check|alignment|unrecoverable|single_step|slb_miss_bad_addr|hv_nmi)_* exception exception_common* interrupt_return* (bad|hash__do)_page_fault report_(fault|illegal)* do_(ade|bp|cpu|fpe|ri|tlb*|dat_exception|protection_exception)",
    ] },
    Family { reason: "is the detector itself", reports: Noise::Usual, rows: &[
        "mm/kasan mm/kfence mm/kmsan kernel/kcsan lib/ubsan.c mm/kmemleak.c kernel/kcov.c kernel/cfi.c kernel/gcov: *kasan* *kmsan* *kcsan* *kmemleak* kfence_* asan_* hwasan_* msan_* tsan_* ubsan_* sanitizer* sancov* no_sanitize* gcov_* cfi_* check_memory_region* check_region_inline memory_is_* check_access print_(report|address_description|error_description|memory_metadata) (start|end)_report report_(access|suppressed) handle_overflow val_to_string write_comp_data (un)?poison_(shadow|range|slab|stack)* check_canary* get_shadow_origin_ptr complete_report_info describe_object*",
    ] },
    Family { reason: "has no name of its own: an address, generated code, or a wrapper of a macro", reports: Noise::Usual, rows: &[
        "kernel/bpf arch/x86/lib/retpoline.S rust/helpers: address 0x[0-9a-f]+ [0-9a-f]{8,16} bpf_prog_[0-9a-f]{16}* bpf_(dispatcher|trampoline)_* x86_(indirect|return)_thunk* retpoline_* rust_helper_* rust_begin_unwind *(panicking|begin_unwind)*",
    ] },
    Family { reason: "checks objects for all subsystems", reports: Noise::Usual, rows: &[
        "lib/debugobjects.c: debug_(print_object|object*|check_no_obj*|*_(activate|deactivate|assert_init)|timer_*|work_*|rcu_head_*|hrtimer_*) debug_assert_init (destroy|init)_(timer|hrtimer|work|rcu_head)_on_stack* init_(timer|work)_* init_work fixup_*free lookup_object* *is_static_object fill_pool",
        "lib/refcount.c include/linux/{refcount,kref}.h: refcount_* kref_(get|put|sub)* *_unless_zero get_not_zero*",
        "lib/list_debug.c include/linux/{list,plist,rculist}.h: list_(add|del|move|splice|replace|swap|rotate|cut|first|last|empty)* *list_(add|del)_(valid|or_report|entry)* hlist_* plist_* llist_*",
    ] },
    Family { reason: "copies, compares or converts memory for its caller", reports: Noise::Usual, rows: &[
        "lib/string.c lib/parser.c lib/kstrtox.c arch/*/lib: mem(cpy|set|move|cmp|chr|scan|zero|weight|cat_p|parse)* bcmp str(n|l|s|sc)?(cpy|cat|cmp|len|chr|rchr|str|pbrk|casecmp|ncasecmp|dup|sep|spn|cspn|replace|im)* sized_strscpy* st[rp]n?cpy* rep_(movs|stos)* skip_spaces match_(one|number|int|uint|octal|hex|u64*|token|string|strdup|strlcpy|wildcard) sysfs_(streq|match_string) kstrto* parse_integer* simple_strto* k(strndup|size) clear_page_* copy_page* copy_(mc|highpage|user_highpage|folio)*",
        "lib/usercopy.c lib/iov_iter.c mm/usercopy.c mm/maccess.c include/linux/uaccess.h: *copy_(to|from|in)_(user|iter)* copy_(to|from)_kernel_nofault* copy_user_* copy_mc_* raw_copy_* arch_copy* instrument_* probe_kernel_* (get|put|clear)_user (get|put|clear)_user_* user_access_* fault_in_* copyin copyout* do_strn(cpy_from|len)_user iov_iter_copy* usercopy_* check_(heap_object|object_size|stack_object|kernel_text_object|page_span) report_usercopy (READ|WRITE)_ONCE* (read|write)_once_* *word_at_a_time load_unaligned_zeropad",
        "lib/crc* lib/xxhash.c lib/siphash.c lib/checksum.c include/net/checksum.h: crc(32|32c|16|8|7|4|64|_t10dif|t10dif|_ccitt|_itu_t)* libcrc32c chksum_* adler32* zlib_adler* csum_(partial|tcpudp|ipv6|and_copy|fold|add|block)* do_csum ip_(fast_csum|compute_csum) hash_(long|64|32|ptr) full_name_hash hashlen_string jhash* xxh* h?siphash*",
        "crypto lib/crypto arch/*/crypto: md[45]_* sha(1|224|256|384|512|3)_* sha*_(update|final|finup|base|init|transform|block)* rmd160_* sm3_* wp(256|384|512)_* streebog_* vmac_* vhash_* (aegis*|aes|aesni|aesti|aesgcm|aescfb|authenc|xts|ecb|cbc|cts|ctr|gcm|lrw|cmac|cbcmac|xcbc|hmac|ghash|gf128mul|hctr2|drbg|jent|seqiv|echainiv|essiv|adiantum|crypto|crypto842|cryptd|pcrypt|skcipher|lskcipher|cipher|shash|ahash|aead|simd_aead|simd_skcipher|scatterwalk|acomp|scomp|rng_set|hash_set|aead_set)_?* setkey_unaligned blake2* x?chacha* poly1305* polyval_* (des|des3_ede|blowfish|bf|serpent|twofish|camellia|sm4|aria|cast[56]|anubis|khazad|x?tea|seed|fcrypt|arc4|salsa20|nhpoly1305)_*(crypt|setkey|enc|dec|mul|update|mic)*",
    ] },
    Family { reason: "is one operation of the architecture: atomic, bit, address", reports: Noise::Usual, rows: &[
        "include/linux/atomic include/asm-generic/bitops arch/*/include lib/find_bit.c: ((arch|raw|instrument|generic)_)?(arch_|raw_)?atomic(64|_long)?_(add|sub|inc|dec|and|or|xor|not|read|write|set|xchg|cmpxchg|try|fetch|long)* ((arch|raw|generic|instrument)_)?((arch|raw)_)?(test|set|clear|change)_(and_(set|clear|change)_)?bit(_(unlock|lock|le|acquire|mask)*)? (constant|variable)_test_bit arch_(test|set|clear)* cmpxchg* xchg* native_* arch_local_* arch_static_* static_key_* ffs hweight* find_(next|first|last|nth)_*bit* find_next_clump8 switch_to* ((page|virt|phys|pfn|slab)_to|phys_addr|compound_head|page_folio)*",
    ] },
    Family { reason: "takes, releases or checks a lock for its caller", reports: Noise::Usual, rows: &[
        "kernel/locking/{spinlock,qspinlock,qrwlock,mcs,osq}* include/linux/{spinlock,rwlock,bit_spinlock}.h: raw_(spin|read|write)_* (spin|read|write)_(try)?(un)?lock(_(bh|irq|irqsave|irqrestore|nested|irqsave_nested|nest_lock|saved))? do_raw_(spin|read|write)_* (pv_|native_)?queued_* pv_(queued|kick|wait|hash|unhash)* (spin|rw|bit_spin)_?lock_* rwlock_* (bit|bh)_spin_* hlist_bl_(un)?lock mcs_spin_* osq_* spin_(bug|dump) rwlock_bug trylock_*",
        "kernel/locking/lockdep.c include/linux/lockdep.h: lock_(acquire|release|acquired|contended|set_class|downgrade|pin_lock|unpin_lock|repin_lock)* lock_is_held (debug_)?lockdep_* validate_chain (h|register_|look_up_)?lock_class* check_(prev_add|prevs_add|noncircular|deadlock|irq_usage|usage|wait_context|flags|no_locks*) mark_(lock|usage|held_locks|lock_irq)* *held_locks* assign_lock_key *lock_to_list *chain_cache* alloc_list_entry graph_(un)?lock print_(circular_bug|deadlock_bug|unlock_imbalance_bug|usage_bug|bad_irq_dependency|irq*|lock_*|freed_lock_bug|held_locks|kernel_ident|collision|shortest_lock)* debug_(spin|write|read|mutex|rt_mutex|check_no_locks|show_all_locks|locks_off|locks_free)*",
        "kernel/locking/{mutex,ww_mutex,rwsem,semaphore,percpu-rwsem,rtmutex}*: mutex_* ww_mutex_* ww_* (down|up)(_(read|write|trylock|interruptible|killable|timeout|common)*)? down_* rwsem_* rwbase_* semaphore_* *rt_mutex* rt(mutex|lock)_* rt_(spin|read|write)_* remove_waiter (mark_)?wakeup_next_waiter percpu_(down|up)_* percpu_rwsem_* owner_on_cpu",
        "include/linux/{seqlock,preempt,local_lock,percpu-defs,kernel}.h kernel/softirq.c lib/smp_processor_id.c lib/lockref.c: seq(count|prop|lock)_* (read|write)_seq(begin|retry|lock|unlock|count)* local_bh_* local_lock_* lockref_* preempt_(count|schedule|enable|disable|latency|notifier)* might_* debug_smp_processor_id this_cpu_* schedule_bug cant_* *cond_resched* check_preemption_disabled",
        "include/linux/{rcupdate,srcu}.h kernel/rcu: rcu_(read_(un)?lock*|lock_*|note_*|dereference*|is_watching|assign_*) rcu_dynticks_* srcu_* (init|cleanup)_srcu_* (kvfree_)?call_s?rcu* rcu_segcblist*",
        "net/core/sock.c kernel/sched/core.c kernel/signal.c kernel/time: (lock|release)_sock* bh_(un)?lock_sock* (un)?lock_task_sighand* (un)?lock_page_memcg (un)?lock_hrtimer_base* lock_timer* (task_rq|rq|double_rq|double|this_rq)_(un)?lock* raw_spin_rq_* class_*_(con|de)structor lru_add_drain_lock",
        "kernel/trace include/trace: trace_(hardirqs|softirqs|lock|irq|contention|sched|kmem|mm|kfree|kmalloc)* tracer_* *perf_trace_* trace_event_* traceiter_* ftrace_* fentry__",
    ] },
    Family { reason: "allocates or frees memory for its caller", reports: Noise::Usual, rows: &[
        "mm/slub.c mm/slab.c mm/slab_common.c mm/util.c mm/kasan/quarantine.c: *kmem_cache* *(k|v|kv)(m|z|c|re|mem)?alloc* v?calloc* kv?free* vfree* kzfree vmemdup* memdup* strndup_user k(strdup|memdup|asprintf|vasprintf)* kv(asprintf|free|memdup)* kstrdup* k?vasprintf* slab_* slob_* (do_|memcg_|allocate_|new_|free_|discard_|deactivate_|flush_|flush_cpu_|freeze_|alloc_|alloc_tagging_|account_|unaccount_)slab* cache_(alloc|free|grow|from_obj)* cache_flusharray fallback_alloc setup_object* init_object check_(object|slab) check_bytes_and_report (alloc|free)_debug_processing free_to_partial* alloc_single_from_* object_err (get|put|add|remove|free|acquire|unfreeze)_(any_|cpu_|node_)?partials?* (get|build_detached|next|shuffle)_freelist* freelist_* update_(cpu_)?freelist_* *freepointer* (get|set)_track* (alloc|free)_consistency_checks qlink_free qlist_* quarantine_* free_block fixup_red_left poison_obj*",
        "mm/page_alloc.c mm/swap.c mm/mempolicy.c mm/page_frag_cache.c net/core/page_pool.c: alloc_(pages|page|frozen|contig|bulk|fair)* *folio_alloc* get_free_pages? get_zeroed_page get_page_from_freelist prep_(new|compound)_page rmqueue* free_(pages?|unref|pcppages|one_page|hot_cold_page|large|nonslab|frozen|contig|tail_page)* free_page_is_bad free_pages_* post_alloc_hook kernel_init_*pages folio_put* put_(page|devmap)* get_page* try_get_page* page_ref_* page_frag_* page_pool_alloc* page_cache_alloc bad_page* check_(new|free)_page* warn_alloc* split_(page|free_page)* want_init_* set_page_refcounted (add|move|del_page)_(to|from)_free_list*",
        "mm/page_owner.c mm/page_ext.c mm/page_poison.c mm/failslab.c lib/fault-inject.c: page_owner_* (set|reset)_page_owner page_ext_* lookup_page_ext new_vmalloc_restore* should_fail* fail_dump kernel_(un)?map_pages *_?kernel_(un)?poison_pages (un)?poison_pages? debug_pagealloc* arch_free_page",
        "mm/vmalloc.c mm/mempool.c mm/percpu.c: vunmap *_vmap_area* (get|find|free|remove|alloc)_vm_area* mempool_* pcpu_* (alloc|free)_percpu* poison_element",
    ] },
    Family { reason: "is a data structure of lib", reports: Noise::Usual, rows: &[
        "lib/{rbtree,timerqueue,interval_tree,rhashtable,radix-tree,xarray,idr,maple_tree,sbitmap,scatterlist,bitmap,kfifo,sort,bsearch,klist,percpu*}.c mm/list_lru.c: (rht|rhashtable|rhltable|rbtree|bucket_table|radix|xa|xas|idr|ida|list_lru|klist|mas|mtree|maple|interval_tree|percpu_ref|percpu_counter|ref_tracker|sbitmap|kfifo|sgl)_* rb_(erase|insert|first|last|next|prev|replace|rotate|set|left|red|link|parent)* timerqueue_(init|iterate|add_node)* mt_(find|find_after|dump*|alloc_(bulk|one|node)*|free_(bulk|rcu|walk|one)|destroy_walk|next|prev|validate*) sg_(alloc|free|init|copy|miter|next|nents|last|pcopy|zero)(_*)? bitmap_(alloc|free|zalloc|copy|parse|parselist|print|find|set|clear|weight|and|andnot|or|xor|equal|subset|intersects|shift|from|to|remap|fold|onto|release|zero|fill)* sort sort_r* bsearch",
    ] },
    Family { reason: "handles a socket buffer, page, buffer or inode for all protocols and file systems", reports: Noise::Usual, rows: &[
        "net/core/skbuff.c: skb_(panic|over_panic|under_panic|pull|push|put|trim)*",
        "mm/filemap.c mm/folio-compat.c include/linux/{pagemap,highmem}.h: filemap_(get|alloc)_* pagecache_* (find|grab)_(get|lock|or_create|cache|subpage)_?(page|entry|entries|folio|cache)* grab_cache_page* mapping_get_entry (folio_)?unlock_page folio_unlock folio_(test|set|clear|trylock|get)* (zero|flush)_(user_)?(highpage|page|segments?)* clear_(user_)?highpages? k(un)?map k(un)?map_*",
        "fs/buffer.c fs/inode.c fs/dcache.c: mark_buffer_* brelse bforget (inc|drop|set|clear|inode_inc)_nlink* iput(_final)? d?put (fast_|lockref_)?d(put|get)(_*)?",
    ] },
    Family { reason: "asserts or reports an error for its subsystem", reports: Noise::Usual, rows: &[
        "fs/*/{super,message,error,util}.c lib/string_helpers.c: *assfail asswarn *assertfail xfs_(asserts?_*|assert_*|error_report|*corruption_error|*verifier_error|hex_dump|*force_shutdown) (gfs2|lm)_(assert|consist|withdraw|io_error)* (ext[234]|reiserfs|jfs|ocfs2|nilfs|hpfs|udf|fat|ufs|btrfs|f2fs|ntfs|exfat|jbd2|journal|bch2|bcachefs|exofs|xfs|gfs2|hfs|hfsplus|minix|sysv|omfs|befs|squashfs|erofs)_(fs_)?(grp_locked_|std_|handle_|inode_|fatal_|trans_)?(error|err|panic|abort|warning|warn|msg|bug|bug_on|inconsistent|inconsistent_error|assertion|decode_error)(_*)? btrfs_(abort_transaction|handle_fs_error|print_(leaf|tree)) jbd2_journal_abort j_assert* bch2_*_(error|inconsistent|bug) f2fs_stop_checkpoint fortify_* (read|write)_overflow* stack_chk_fail",
    ] },
    Family { reason: "registers or removes an object of the device model for its owner", reports: Noise::Usual, rows: &[
        "lib/kobject.c lib/kobject_uevent.c fs/sysfs fs/kernfs fs/proc/generic.c: kobject_* kobj_(attr|kset|child|ns|map|lookup)_* kset_* dynamic_kobj_release add_uevent_var dev_uevent sysfs_* kernfs_(active|lockdep|remove|get|put|new|find|create|add|next|drain|link|unlink|deactivate|activate)* internal_create_group* (create|remove)_(dir|files) populate_dir proc_(register|create|remove|mkdir|symlink)* proc_*_register remove_proc_*",
        "drivers/base: (put|get)_device get_device_parent cleanup_glue_dir device_private_init device_(attach|release|driver|links?|pm|add|del|remove|register|unregister|destroy|create|initial|block|unblock|shutdown|bind|unbind|for_each)* root_device_* devres_* (release|remove)_nodes devm_(add|release|remove|action|k|ioremap|request|alloc|free|get|of|device|bitmap|percpu)* bus_(add|remove|probe|for_each|notify|rescan|reset)* driver_(probe|attach|detach|add|remove|register|unregister|deferred|bound|sysfs)* really_probe* call_driver_probe platform_(probe|remove|device_*|drv_*) class_(create|destroy|dir|dev|compat|interface)* dpm_* devtmpfs_* software_node_* cdev_device_* attribute_container_* transport_(add|remove|destroy|setup|configure)*",
        "net/core/dev.c drivers/i2c drivers/char/hw_random drivers/tty: (unregister_netdev|rollback_registered)* i2c_del_adapter unregister_client hwrng_unregister tty_(un)?register_device*",
    ] },
    Family { reason: "queues, runs, waits for or wakes up work for its owner", reports: Noise::Usual, rows: &[
        "kernel/workqueue.c kernel/kthread.c kernel/smpboot.c: (insert|grab|try_to_grab|start_flush|mark|enable|disable|cancel|flush|drain|destroy|queue|schedule|mod|get|set)_(delayed_|rcu_)?(work|works|workqueue|pending)(_*)? work_(grab*|busy|pending) touch_w(or)?k?q?_* process_one_work process_scheduled_works worker_thread kthread kthread_* smpboot_* ret_from_(fork|kernel_thread)*",
        "kernel/time/{timer,hrtimer}.c include/linux/timer.h net/core/sock.c: (del|add|mod|reduce|init|do_init|setup)_(singleshot_)?timers?(_*)? timer_(delete|shutdown|reduce|pending|fixup|setup|destroy|init)* try_to_del_timer* sk_(stop|reset)_timer* detach_(if_pending|timer) enqueue_(hr)?timer_* hrtimer_(start|cancel|try|init|active|forward|setup|reprogram|get)* remove_hrtimer kick_*_timer",
        "kernel/sched/{wait,swait,wait_bit,completion}.c kernel/notifier.c: wake_(up|q)(_(process|new_task|state|locked|bit|var|page|klogd|nohz|idle|if_idle|sync|common|poll|parent|all|interruptible|add|on|up_process)*)? wakeup_(preempt|softirqd|*source*) swake_* complete(_all|_done|_on_*|_with_*)? (autoremove|default|woken|bit|var|page)_wake_function wake_(bit|page)_function autoremove_* init_waitqueue_head init_swait* finish_s?wait (do_)?wait_for_(completion|common)* notifier_call_chain",
        "drivers/usb/core: usb_(submit|kill|unlink|poison|free|alloc|get|kill_anchored|unlink_anchored)_(urbs?|from_anchor|coherent) usb_(start_wait_urb|(internal_)?(bulk|control|interrupt)_msg*) usb_hcd_(unlink|flush|alloc|submit|map|link|unmap)* usb_buffer_*",
    ] },
    Family { reason: "waits, takes a lock or puts the task to sleep, by its name", reports: Noise::Waiting, rows: &[
        "kernel/sched kernel/locking and the waits of all subsystems: *sched* *wait* *_lock* *slowlock* *mutex* *rwsem* *rwbase* *completion* *kthread* *synchronize* *rcu_barrier* srcu_barrier* lock_(page|buffer|mount|two)* (*_)?down(_*)? context_switch switch_to* (cancel|flush|drain)_*work* msleep* usleep* ssleep* *nanosleep* freezer* try_to_freeze refrigerator sleep_on* ldsem_* rt_(spin|mutex)* *notifier_(call_chain|chain)* *notifier_(synchronize|invalidate)* filemap_flush folio_end_* inode_sleep_* kernfs_drain*",
        "net/9p net/sunrpc fs/fuse block: p9_client_rpc p9_virtio_request rpc_execute fuse_*request fuse_request_send* blk_execute_rq* bio_await*",
    ] },
    Family { reason: "allocates or copies an object on behalf of its caller, by its name", reports: Noise::Allocating, rows: &[
        "the allocations of all subsystems: *alloc *alloc_* *allocate* alloc* *kmem* *slab* *strdup* *memdup* *strndup* *asprintf* dup_* *_dup *_object *build_skb* skb_(clone|copy|expand|segment)* pskb_* napi_*skb* sock_(create|wmalloc|rmalloc|omalloc|kmalloc)* sk_clone* prepare_(creds|kernel_cred) security_* lsm_* selinux_* getname* devm_* posix_acl_* seq_open* single_open* sget_userns call_usermodehelper_setup fput* nf_ct_ext_* audit_(log|buffer)_start fsnotify_add_* proc_create* debugfs_(get|create)* get_(vm_area|free_pages)* *shrinker* register_(net_)?sysctl* bio_* bvec_* mm_init percpu_*",
    ] },
    Family { reason: "is the timer that the object debugger reports, or runs it; the owner calls it", reports: Noise::Object, rows: &[
        "kernel/time: *timers?_?*",
    ] },
];
