# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of prelude.sh
# blktests, the block layer's own suite: a subtest is one of its cases (block/001), on a scratch device where it wants one;
# its verdict is what ./check and its results say. Which: those of the folders in $ktest_blktests_groups
# (block+loop+scsi+dm+md+throtl+ublk+zbd+nvme), without what $ktest_blktests_exclude names (scsi+block.008); those that can be told how long
# they may last are told $ktest_blktests_seconds (20). lib/suite.sh finds and builds it.
#
#   blktests "$@"          declares everything

_blktests_at=/opt/blktests
_blktests_results=/tmp/blktests-results

blktests() {
    suite blktests "$@"
    [[ -z $_ktest_skip_all ]] || return 0
    config-mem 2G
    config-cpus 2
    config-timeout 900
    config-scratch-devs 1G
    require-kernel-config EXT4_FS,BLK_DEV_LOOP
    # Its cases load these themselves, with parameters of their own.
    require-kernel-config-soft BLK_DEV_NULL_BLK=m,SCSI_DEBUG=m,BLK_DEV_NBD=m,BLK_DEV_UBLK=m,ZRAM=m,BLK_DEV_RAM=m
    require-kernel-config-soft MODULES,MODULE_UNLOAD,SCSI,BLK_DEV_SD,CHR_DEV_SG,BLK_DEV_BSG,BLK_DEV_ZONED,BLK_DEV_IO_TRACE
    require-kernel-config-soft BLK_CGROUP,BLK_DEV_THROTTLING,BLK_CGROUP_IOCOST,BLK_CGROUP_IOLATENCY,CGROUPS,MEMCG
    require-kernel-config-soft MQ_IOSCHED_DEADLINE,MQ_IOSCHED_KYBER,IOSCHED_BFQ,HOTPLUG_CPU,BLK_WBT,BLK_WBT_MQ
    require-kernel-config-soft FAULT_INJECTION,FAULT_INJECTION_DEBUG_FS,FAIL_IO_TIMEOUT,FAIL_MAKE_REQUEST
    require-kernel-config-soft BLK_DEV_DM,DM_DUST,DM_MULTIPATH,MD,BLK_DEV_MD,MD_RAID456,AIO,IO_URING,NET,INET
    require-kernel-config-soft BLK_DEV_NVME,NVME_TARGET=m,NVME_TARGET_LOOP=m,NVME_TARGET_TCP=m,NVME_TCP=m,CONFIGFS_FS
    require-kernel-config-soft XFS_FS,BTRFS_FS,F2FS_FS
}

# Built, its own programs are there.
suite_is_built() {
    [[ -x $1/src/loblksize || -x $1/src/openclose ]]
}

list_tests() {
    local group name without=${ktest_blktests_exclude:-} groups=${ktest_blktests_groups:-block+loop+scsi+dm+md+throtl+ublk+zbd+nvme}
    without=+${without//./\/}+
    for group in ${groups//+/ }; do
        [[ $without != *"+$group+"* ]] || continue
        for name in "$suite_source/tests/$group"/[0-9][0-9][0-9]; do
            [[ ! -e $name || $without == *"+$group/${name##*/}+"* ]] || printf '%s\n' "$group/${name##*/}"
        done
    done
}

ktest_init() {
    suite_mount $_blktests_at
    printf '%s\n' "TEST_DEVS=(${ktest_scratch_dev[0]})" "OUTPUT=$_blktests_results" "TIMEOUT=${ktest_blktests_seconds:-20}" >$_blktests_at/config
    # What its _have_kernel_option reads, where the kernel does not tell it itself.
    [[ -e /proc/config.gz || ! -e $ktest_out/kernel.config ]] || { mkdir -p /boot && cp "$ktest_out/kernel.config" "/boot/config-$(uname -r)"; }
}

# The first line of FILE's KEY: what is behind the tab.
_blktests_value() {
    awk -v key="$2" '{ at = index($0, "\t") } at && substr($0, 1, at - 1) == key { print substr($0, at + 1); exit }' "$1"
}

run_test() {
    local log=/tmp/blktests.log file where=$_blktests_results passed=0
    suite_wants gawk=gawk fio=fio bsdextrautils=column udev=udevadm fdisk=sfdisk
    rm -rf $_blktests_results $_blktests_at/results
    # Not told by its exit code, which is 0 also where nothing ran.
    (cd $_blktests_at && { ./check "$1" 2>&1 || true; }) | tee $log
    # Versions that cannot be told where.
    [[ -d $_blktests_results ]] || where=$_blktests_at/results
    for file in "$where"/*/"$1"; do
        [[ -f $file ]] || continue
        case $(_blktests_value "$file" status) in
        pass) ((passed += 1)) ;;
        "not run") ;;
        *)
            suite_keep "$1" "$file.full" "$file.out.bad" "$file.dmesg" "$file.kmemleak"
            ktest_fail "$(_blktests_why "$1" "$file")"
            ;;
        esac
    done
    ((passed == 0)) || return 0
    if grep -q '\[not run\]' $log; then
        # What it measured stands between that and the reason: "    runtime    ...  0.010s".
        ktest_skip "$(awk 'found && !/ \.\.\.  / { sub(/^ +/, ""); print; exit } /\[not run\]$/ { found = 1 }' $log)"
    fi
    ktest_fail "blktests left no result: $(grep . $log | tail -n 1)"
}

# Why case $1 failed, of which file $2 tells, in one line.
_blktests_why() {
    case $(_blktests_value "$2" reason) in
    output)
        suite_differs "$_blktests_at/tests/$1.out" "$2.out.bad"
        printf '%s\n' "$suite_difference"
        ;;
    kmemleak) printf 'memory is leaked: %s\n' "$(grep -m1 '^unreferenced object' "$2.kmemleak")" ;;
    exit) printf 'it ended with exit code %s\n' "$(_blktests_value "$2" exit_status)" ;;
    dmesg) printf 'the kernel said: %s\n' "$(grep -m1 -E 'BUG|WARNING|Oops|possible|INFO:|Internal error|general protection|blktests failure' "$2.dmesg" | sed 's/^\(\[[^]]*\] *\)*//')" ;;
    *) printf 'it failed: %s\n' "$(_blktests_value "$2" reason)" ;;
    esac
}
