# shellcheck shell=bash
# Memory leaks. The kernel scans its memory after each subtest; a leak fails the subtest.
require-kernel-config DEBUG_KMEMLEAK,DEBUG_FS
require-kernel-config-soft DEBUG_KMEMLEAK_MEM_POOL_SIZE=40000
config-mem-multiplier 2
config-timeout-multiplier 2

ktest_flavor_after() {
    local at=/sys/kernel/debug/kmemleak line found
    [[ -w $at ]] || return 0
    # The kernel does not report memory that is less than five seconds old.
    sleep 5.5
    # A pointer that is being moved may be missed by one scan, but not by two.
    printf "scan\n" >$at
    printf "scan\n" >$at
    # The file must be read: its size is always 0.
    found=$(<$at)
    [[ -n $found ]] || return 0
    printf "<4>BUG: memory leak\n" >/dev/kmsg
    while read -r line; do printf "<4>%s\n" "${line:0:300}" >/dev/kmsg; done <<<"$found"
    printf "clear\n" >$at
}
