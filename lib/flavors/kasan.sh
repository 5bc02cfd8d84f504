# shellcheck shell=bash
# Invalid memory accesses: use after free, out of bounds.
require-kernel-config KASAN,KASAN_GENERIC
require-kernel-config-soft KASAN_VMALLOC,KASAN_INLINE
config-mem-multiplier 2
config-timeout-multiplier 3
# By default only the first report of a boot is printed, and later subtests are not checked.
require-kernel-append kasan_multi_shot
