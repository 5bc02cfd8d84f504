# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of the test file
# Load on a file system by fio and stress-ng. Afterwards the file system is remounted, read and checked. For files
# that define fs_make, fs_mount and fs_check as for lib/fs.sh, which must be sourced first. A subtest is PROGRAM/LOAD.
# The loads of fio have a fixed size. The loads of stress-ng run for $ktest_stress_seconds (20) and are killed after six
# times as long. The time limit of the subtest applies to both.

# Parameters of the loads.
require-kernel-config-soft AIO,IO_URING,FILE_LOCKING,INOTIFY_USER,FANOTIFY,EPOLL,EVENTFD,TIMERFD,SIGNALFD,POSIX_TIMERS
require-kernel-config-soft ADVISE_SYSCALLS,SHMEM,FUTEX,HIGH_RES_TIMERS

_stress_seconds=${ktest_stress_seconds:-20}
[[ $_stress_seconds =~ ^[1-9][0-9]*$ ]] || _ktest_die "ktest_stress_seconds=$_stress_seconds is not a number of seconds"
config-timeout $((_stress_seconds * 10 + 60))

# The loads of fio. It verifies its data by checksums while it writes, and again after the next mount.
_stress_fio_jobs() {
    printf '%s\n' random-writes random-direct-aio random-io-uring mapped sequential-fsync many-files mixed-sizes
}

# The file loads of stress-ng, with two processes each.
_stress_ng_loads() {
    printf '%s\n' access chdir chmod chown copy-file dentry dir fallocate fiemap file-ioctl filename flock fpunch getdent \
        hdd iomix lease link locka lockofd open rename revio seal seek sendfile splice symlink sync-file utime xattr
}

list_tests() {
    _stress_fio_jobs | sed 's,^,fio/,'
    _stress_ng_loads | sed 's,^,stress-ng/,'
}

run_test() {
    local program=${1%%/*}
    command -v "$program" >/dev/null || ktest_skip "$program is not in this root image;" \
        "use ktest run --package fio --package stress-ng, or give the test group an image that has them"
    # shellcheck disable=SC2034 # fs_mount may look at it
    fs_variant=default
    fs_make default
    fs_mount
    case $program in
    fio) _stress_fio "${1#*/}" ;;
    *) _stress_ng "${1#*/}" ;;
    esac
    fs_finish
}

_stress_fio() {
    local again=true
    # The same random numbers each time, so that the data can be verified later.
    local job=(--name=job --directory="$mnt" --randrepeat=1 --verify=crc32c --verify_fatal=1 --fallocate=none
        --numjobs=4 --group_reporting --eta=never --exitall_on_error=1)
    case $1 in
    random-writes) job+=(--rw=randwrite --bs=4k --size=8M --ioengine=psync) ;;
    random-direct-aio) job+=(--rw=randwrite --bs=16k --size=6M --ioengine=libaio --iodepth=16 --direct=1) ;;
    random-io-uring) job+=(--rw=randwrite --bs=8k --size=6M --ioengine=io_uring --iodepth=16) ;;
    mapped) job+=(--rw=randwrite --bs=4k --size=4M --ioengine=mmap) ;;
    sequential-fsync) job+=(--rw=write --bs=64k --size=8M --ioengine=psync --fsync=16) ;;
    many-files) job+=(--rw=randwrite --bs=4k --size=4M --nrfiles=128 --openfiles=16 --ioengine=psync) ;;
    # With mixed block sizes fio leaves gaps, which a verification does not expect.
    mixed-sizes) job+=(--rw=randwrite --bsrange=512-96k --bs_unaligned=1 --size=8M --ioengine=psync) && again=false ;;
    *) ktest_fail "no load fio/$1" ;;
    esac
    _stress_fio_run "${job[@]}"
    fs_remount
    [[ $again == false ]] || _stress_fio_run "${job[@]}" --verify_only=1
}

_stress_fio_run() {
    local log=/tmp/fio.log
    fio "$@" 2>&1 | tee $log || ktest_fail "fio: $(grep -m1 -E '^fio: |^verify: |error=' $log || tail -n 1 $log)"
}

_stress_ng() {
    local log=/tmp/stress-ng.log limit=$((_stress_seconds * 6 + 30)) options=()
    mkdir "$mnt/stress"
    # By default each of them uses a gigabyte.
    case $1 in fallocate | hdd | iomix) options=("--$1-bytes" 32m) ;; esac
    _stress_status=0
    timeout --kill-after=10 $limit stress-ng --temp-path "$mnt/stress" --timeout "${_stress_seconds}s" --verify --metrics-brief \
        --oomable "--$1" 2 "${options[@]}" >"$log" 2>&1 || _stress_status=$?
    cat "$log"
    case $_stress_status in
    0) ;;
    124 | 137) ktest_fail "stress-ng --$1 was still running after $limit s, with a limit of $_stress_seconds s" ;;
    3 | 4) ktest_skip "stress-ng: $(grep -m1 -iE 'not (available|implemented|supported)|skipp|aborted early' "$log" || tail -n 1 "$log")" ;;
    *) ktest_fail "stress-ng --$1 ended with exit code $_stress_status: $(grep -m1 -E 'fail' "$log" || tail -n 1 "$log")" ;;
    esac
    # It exits with success even if it skipped every stressor.
    ! grep -qE 'skipp(ed|ing) stressor|no stressors were run' "$log" || ktest_skip "stress-ng: $(grep -m1 -E 'skipp' "$log")"
    fs_remount
}
