# shellcheck shell=bash
# Reads and writes of memory that is not theirs.
require-kernel-config KASAN,KASAN_GENERIC
require-kernel-config-soft KASAN_VMALLOC,KASAN_INLINE
config-mem-multiplier 2
config-timeout-multiplier 3
# Otherwise only the first report of a boot is told, and what the next subtest does goes unseen.
require-kernel-append kasan_multi_shot
