# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of prelude.sh
# blktests, the block layer's test suite. A subtest is one of its cases (block/001), on an NVMe device if the case needs a
# device (or four, if it needs several), on a device of scsi_debug if it needs a SCSI device, or on a device that the case makes;
# its verdict comes from ./check and the result files. $ktest_blktests_groups selects the directories of cases
# (block+loop+scsi+dm+md+throtl+ublk+zbd+nvme), $ktest_blktests_exclude leaves out directories and cases (scsi+block.008).
# Cases with a configurable duration run for $ktest_blktests_seconds (20). lib/suite.sh finds and builds the suite.
#
#   blktests "$@"          declare everything

_blktests_at=/opt/blktests
_blktests_results=/tmp/blktests-results

blktests() {
    suite blktests "$@"
    [[ -z $_ktest_skip_all ]] || return 0
    config-mem 2G
    config-cpus 2
    config-timeout 900
    config-list-env ktest_blktests_exclude=
    [[ -z $suite_source ]] || config-list-env "ktest_blktests_groups=$(cd "$suite_source/tests" && printf '%s+' */ | tr -d /)"
    config-storage-bus nvme
    config-scratch-devs 1G 1G 1G 1G
    require-kernel-config EXT4_FS,BLK_DEV_LOOP,BLK_DEV_NVME
    # The cases load these modules with their own parameters.
    require-kernel-config-soft BLK_DEV_NULL_BLK=m,SCSI_DEBUG=m,BLK_DEV_NBD=m,BLK_DEV_UBLK=m,ZRAM=m,BLK_DEV_RAM=m
    # Menus of the options below, which are not on by default.
    require-kernel-config-soft SCSI_LOWLEVEL,ZSMALLOC,FTRACE,DEBUG_FS
    require-kernel-config-soft MODULES,MODULE_UNLOAD,SCSI,BLK_DEV_SD,CHR_DEV_SG,BLK_DEV_BSG,BLK_DEV_ZONED,BLK_DEV_IO_TRACE
    require-kernel-config-soft BLK_CGROUP,BLK_DEV_THROTTLING,BLK_CGROUP_IOCOST,BLK_CGROUP_IOLATENCY,CGROUPS,MEMCG
    require-kernel-config-soft MQ_IOSCHED_DEADLINE,MQ_IOSCHED_KYBER,IOSCHED_BFQ,HOTPLUG_CPU,BLK_WBT,BLK_WBT_MQ
    require-kernel-config-soft FAULT_INJECTION,FAULT_INJECTION_DEBUG_FS,FAIL_IO_TIMEOUT,FAIL_MAKE_REQUEST
    require-kernel-config-soft BLK_DEV_DM,DM_DUST,DM_MULTIPATH,MD,BLK_DEV_MD,MD_RAID456,AIO,IO_URING,NET,INET
    require-kernel-config-soft NVME_TARGET=m,NVME_TARGET_LOOP=m,NVME_TARGET_TCP=m,NVME_TCP=m,CONFIGFS_FS
    require-kernel-config-soft XFS_FS,BTRFS_FS,F2FS_FS
}

# Whether the suite's programs are built.
suite_is_built() {
    [[ -x $1/src/loblksize || -x $1/src/openclose ]]
}

list_tests() {
    local group name without=${ktest_blktests_exclude:-} groups=${ktest_blktests_groups:-}
    _blktests_check_names
    # Versions lack some of these.
    groups=${groups:-block+loop+scsi+dm+md+throtl+ublk+zbd+nvme}
    without=+${without//./\/}+
    for group in ${groups//+/ }; do
        [[ $without != *"+$group+"* ]] || continue
        for name in "$suite_source/tests/$group"/[0-9][0-9][0-9]; do
            [[ ! -e $name || $without == *"+$group/${name##*/}+"* ]] || printf '%s\n' "$group/${name##*/}"
        done
    done
}

# End the call if the settings have a name that does not exist.
_blktests_check_names() {
    local name all groups=${ktest_blktests_groups:-} without=${ktest_blktests_exclude:-}
    all=$(cd "$suite_source/tests" && printf '%s\n' */ */[0-9][0-9][0-9])
    all=$'\n'${all//\/$'\n'/$'\n'}
    for name in ${groups//+/ }; do
        [[ $name != */* && $all == *$'\n'"$name"$'\n'* ]] || suite_unknown ktest_blktests_groups "$name" < <(grep -v / <<<"$all")
    done
    without=${without//./\/}
    for name in ${without//+/ }; do
        [[ $all$'\n' == *$'\n'"$name"$'\n'* ]] || suite_unknown ktest_blktests_exclude "$name" <<<"$all"
    done
}

ktest_init() {
    suite_mount $_blktests_at
    # For _have_kernel_option of the suite, if the kernel has no /proc/config.gz.
    [[ -e /proc/config.gz || ! -e $ktest_out/kernel.config ]] || { mkdir -p /boot && cp "$ktest_out/kernel.config" "/boot/config-$(uname -r)"; }
}

# Set _blktests_device to the device on which case $1 runs, empty if it needs none or makes its own one.
_blktests_find_device() {
    local at=$_blktests_at/tests/$1 disk
    _blktests_device=
    # That of the case before. Cases that load the module are not run if it is loaded.
    [[ ! -e /sys/bus/pseudo/drivers/scsi_debug ]] || { udevadm settle && modprobe -qr scsi_debug; } || true
    grep -qs '^test_device()' "$at" || return 0
    # A zoned device, or one that polls. The suite makes it only if it has no other device.
    ! grep -qs '^fallback_device()' "$at" || return 0
    _blktests_device=${ktest_scratch_dev[0]}
    [[ $1 == scsi/* ]] || return 0
    modprobe -q scsi_debug dev_size_mb=256 delay=0 || return 0
    udevadm settle
    for disk in /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*/block/*; do
        [[ ! -e $disk ]] || _blktests_device=/dev/${disk##*/}
    done
}

# Print the first value of KEY in FILE. A tab separates the two.
_blktests_value() {
    awk -v key="$2" '{ at = index($0, "\t") } at && substr($0, 1, at - 1) == key { print substr($0, at + 1); exit }' "$1"
}

# Make a result directory of the suite. It has a directory for each device and for all of a case, which is the one of the artifacts here, so that
# they outlive a guest that crashes. The temporary files of the cases are in the result directory itself.
_blktests_link() {
    mkdir -p "$1" "$suite_artifacts"
    ln -sfn "$suite_artifacts" "$1/nodev"
    [[ -z $_blktests_device ]] || ln -sfn "$suite_artifacts" "$1/${_blktests_device##*/}"
    local names
    printf -v names '_%s' "${ktest_scratch_dev[@]##*/}"
    ln -sfn "$suite_artifacts" "$1/${names:1}"
}

run_test() {
    local log=/tmp/blktests.log file passed=0
    suite_wants gawk=gawk fio=fio bsdextrautils=column udev=udevadm fdisk=sfdisk
    rm -rf $_blktests_results $_blktests_at/results
    _blktests_find_device "$1"
    printf '%s\n' "TEST_DEVS=($_blktests_device)" "OUTPUT=$_blktests_results" "TIMEOUT=${ktest_blktests_seconds:-20}" >$_blktests_at/config
    if grep -qs '^test_device_array()' "$_blktests_at/tests/$1"; then
        printf '%s\n' "TEST_CASE_DEV_ARRAY[$1]='${ktest_scratch_dev[*]}'" >>$_blktests_at/config
    fi
    _blktests_link $_blktests_results
    # Versions without an option for the result directory.
    _blktests_link $_blktests_at/results
    # The exit code is 0 even if no case ran.
    (cd $_blktests_at && { ./check "$1" 2>&1 || true; }) | tee $log
    for file in "$suite_artifacts/$1" "$_blktests_results"/*/"$1"; do
        [[ -f $file && ! -L ${file%"/$1"} ]] || continue
        case $(_blktests_value "$file" status) in
        pass) ((passed += 1)) ;;
        "not run") ;;
        *)
            # A case that runs for several transports has a directory for each.
            [[ $file == "$suite_artifacts"/* ]] || suite_keep "$1" "$file.full" "$file.out.bad" "$file.dmesg" "$file.kmemleak"
            ktest_fail "$(_blktests_why "$1" "$file")"
            ;;
        esac
    done
    ((passed == 0)) || return 0
    if grep -q '\[not run\]' $log; then
        # Measurements are between that line and the reason: "    runtime    ...  0.010s".
        ktest_skip "$(awk 'found && !/ \.\.\.  / { sub(/^ +/, ""); print; exit } /\[not run\]$/ { found = 1 }' $log)"
    fi
    ktest_fail "blktests left no result: $(grep . $log | tail -n 1)"
}

# Print why case $1 with result file $2 failed, in one line.
_blktests_why() {
    case $(_blktests_value "$2" reason) in
    output)
        suite_differs "$_blktests_at/tests/$1.out" "$2.out.bad"
        printf '%s\n' "$suite_difference"
        ;;
    kmemleak) printf 'memory leak: %s\n' "$(grep -m1 '^unreferenced object' "$2.kmemleak")" ;;
    exit) printf 'it ended with exit code %s\n' "$(_blktests_value "$2" exit_status)" ;;
    dmesg) printf 'kernel message: %s\n' "$(grep -m1 -E 'BUG|WARNING|Oops|possible|INFO:|Internal error|general protection|blktests failure' "$2.dmesg" | sed 's/^\(\[[^]]*\] *\)*//')" ;;
    *) printf 'failed: %s\n' "$(_blktests_value "$2" reason)" ;;
    esac
}
