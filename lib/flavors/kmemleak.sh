# shellcheck shell=bash
# Memory that nobody points to any more. After each subtest the kernel looks for it; what it finds fails the subtest.
require-kernel-config DEBUG_KMEMLEAK,DEBUG_FS
require-kernel-config-soft DEBUG_KMEMLEAK_MEM_POOL_SIZE=40000
config-mem-multiplier 2
config-timeout-multiplier 2

ktest_flavor_after() {
    local at=/sys/kernel/debug/kmemleak line found
    [[ -w $at ]] || return 0
    # The kernel does not tell of memory younger than five seconds.
    sleep 5.5
    # What is still on its way is seen by one scan and not by the next.
    printf "scan\n" >$at
    printf "scan\n" >$at
    # Its size says nothing: that is 0.
    found=$(<$at)
    [[ -n $found ]] || return 0
    printf "<4>BUG: memory leak\n" >/dev/kmsg
    while read -r line; do printf "<4>%s\n" "${line:0:300}" >/dev/kmsg; done <<<"$found"
    printf "clear\n" >$at
}
