# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of prelude.sh
# Helpers for test files: messages to the runner, checks, scratch devices, tracing. All state is in variables whose
# names begin with _ktest_. Only functions whose purpose it is print to standard output, because the runner reads the
# output of `deps` and `list-tests`.

# Whether a switch of the environment (ktest_failfast, ktest_verbose, ...) is on.
_ktest_on() {
    [[ -n ${1:-} && $1 != 0 && $1 != false ]]
}

# Print a line for the runner: to the kernel's log, so that it is in order with the kernel's messages. A test that runs
# on the host prints it to standard output. Each line has its own random number, so that a copy of it, such as in the output
# of dmesg, does not count.
_ktest_mark() {
    local line=${_ktest_token:+ktest/$_ktest_token.${SRANDOM-}${SRANDOM-} }${1//$'\n'/ }
    if ! _ktest_on "${ktest_no_vm:-}" && [[ -w /dev/kmsg ]]; then
        printf '<1>%s\n' "${line:0:800}" 2>/dev/null >/dev/kmsg && return
    fi
    # The output of the test may not end with a newline.
    _ktest_print "" "$line"
}

# Print lines to the output of the call. A program of the test may have set it to non-blocking; then printing fails while the
# reader is behind.
_ktest_print() {
    local tries
    for ((tries = 0; tries < 600; tries++)); do
        ! { printf '%s\n' "$@" >&"${_ktest_stdout:-1}"; } 2>/dev/null || return 0
        sleep 0.1
    done
}

# Lift the limit of ten messages in five seconds for writers of /dev/kmsg.
_ktest_unlimit_kmsg() {
    _ktest_on "${ktest_no_vm:-}" || [[ ! -w /proc/sys/kernel/printk_devkmsg ]] ||
        { printf 'on\n' >/proc/sys/kernel/printk_devkmsg; } 2>/dev/null || true
}

# End the call because of an error in the test file or its environment.
_ktest_die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 2
}

# Set _ktest_place to FILE:LINE of the innermost call that is in a test file rather than in the library, and
# _ktest_file to the path of that file.
_ktest_where() {
    local at file
    for ((at = 1; at < ${#BASH_SOURCE[@]} - 1; at++)); do
        file=${BASH_SOURCE[at]}
        # Checks shared by several files (lib/fs.sh) count as a test file.
        case ${file##*/} in prelude.sh | common.sh | ktap.sh | bcachefs.sh | suite.sh | fstests.sh | blktests.sh | stress.sh) ;; *) break ;; esac
    done
    file=${BASH_SOURCE[at]}
    _ktest_file=$file
    case $file in
    */../lib/*) file=lib/${file##*/} ;;
    */tests/*) file=tests/${file##*/tests/} ;;
    esac
    _ktest_place=$file:${BASH_LINENO[at - 1]}
}

# Fail the subtest with a reason: ktest_fail REASON
ktest_fail() {
    _ktest_where
    _ktest_record said "$_ktest_place: failed: $*"
    exit 1
}

# End the subtest as Not run, because the kernel or the VM lacks something: ktest_skip REASON. Outside a subtest it
# skips the whole file.
ktest_skip() {
    if [[ -z ${_ktest_subtest:-} ]]; then
        _ktest_skip_all=${*:-no reason given}
        return
    fi
    printf '%s\n' "${*:-no reason given}" >"$_ktest_state.skip"
    exit "$_ktest_skip_status"
}

# set_watchdog SECONDS: from now on the running subtest has this many seconds.
set_watchdog() {
    [[ ${1:-} =~ ^[1-9][0-9]*$ ]] || ktest_fail "set_watchdog: ${1:-nothing} is not a number of seconds"
    _ktest_mark "WATCHDOG $1"
}

# expect_reboot: the next reset of the VM belongs to this subtest, which runs again in the guest that boots then.
expect_reboot() {
    _ktest_mark "EXPECTED_REBOOT"
}

# keep_artifact NAME: save standard input as an artifact of the subtest.
keep_artifact() {
    local file=${ktest_out:-.}/artifacts/$_ktest_subtest.$1
    mkdir -p "${file%/*}"
    cat >"$file"
}

# Run a command in its own shell, which ends at the first error, and set _ktest_status to its exit status. In a
# condition bash would ignore errors inside.
_ktest_try() {
    set +o errexit
    (
        set -o errexit
        "$@"
    )
    _ktest_status=$?
    set -o errexit
    # ktest_skip in the command ends the subtest.
    ((_ktest_status != _ktest_skip_status)) || [[ ! -s $_ktest_state.skip ]] || exit "$_ktest_skip_status"
}

# Run a command and print its output only if it fails: run_quiet WHAT COMMAND...
run_quiet() {
    local _ktest_command="$1: ${*:2}"
    if _ktest_on "${ktest_verbose:-}"; then
        printf '%s\n' "$1"
        "${@:2}"
        return
    fi
    _ktest_try "${@:2}" >"$_ktest_state.quiet" 2>&1
    ((_ktest_status == 0)) && return
    cat "$_ktest_state.quiet"
    ktest_fail "$_ktest_command (exit $_ktest_status)"
}

# Checks. Each fails the subtest with the expected and the actual value.

# The command must succeed: assert COMMAND...
assert() {
    # The command that the failure message gives.
    local _ktest_command="assert $*"
    "$@"
}

# The command must fail: assert_fails COMMAND...
assert_fails() {
    _ktest_try "$@"
    # The expected failure is not the cause of a later one.
    : >"$_ktest_state.failed"
    ((_ktest_status != 0)) || ktest_fail "should have failed: $*"
}

# assert_eq WANTED FOUND [WHAT]
assert_eq() {
    [[ $1 == "$2" ]] || ktest_fail "${3:+$3: }expected '$1', found '$2'"
}

# assert_ne UNWANTED FOUND [WHAT]
assert_ne() {
    [[ $1 != "$2" ]] || ktest_fail "${3:+$3: }expected anything but '$1'"
}

# assert_le SMALLER LARGER [WHAT], integers
assert_le() {
    (($1 <= $2)) || ktest_fail "${3:+$3: }expected $1 <= $2"
}

# assert_contains TEXT PART [WHAT]
assert_contains() {
    [[ $1 == *"$2"* ]] || ktest_fail "${3:+$3: }expected '$2' in '${1:0:200}'"
}

# assert_same FILE FILE: equal content
assert_same() {
    cmp -- "$1" "$2" || ktest_fail "$1 and $2 differ"
}

# Print the kernel's messages since the start of the subtest.
kernel_log() {
    dmesg | awk -v start="========= TEST   $_ktest_subtest" \
        'substr($0, length($0) - length(start) + 1) == start { log_text = "" } { log_text = log_text $0 "\n" }
        END { printf "%s", log_text }'
}

# Scratch devices.

# Set _ktest_letters to the letters of disk number N: 0 is a, 26 is aa.
_ktest_disk_letters() {
    local n=$1 alphabet=abcdefghijklmnopqrstuvwxyz
    _ktest_letters=
    while ((n >= 0)); do
        _ktest_letters=${alphabet:n % 26:1}$_ktest_letters
        ((n = n / 26 - 1)) || true
    done
}

# Set _ktest_disk to the device of the VM's disk N (from 0): the images, then the scratch devices.
_ktest_find_disk() {
    _ktest_disk_letters "$1"
    case ${ktest_storage_bus:-virtio-blk} in
    virtio-blk*) _ktest_disk=/dev/vd$_ktest_letters ;;
    nvme*) _ktest_disk=/dev/nvme${1}n1 ;;
    *) _ktest_disk=/dev/sd$_ktest_letters ;;
    esac
}

# Set ktest_scratch_dev and ktest_pmem_dev from the declarations and the runner's number of the first disk.
_ktest_find_devices() {
    local at bus=${ktest_storage_bus:-virtio-blk} base=${ktest_scratch_dev_base:-}
    # The root disk is the first virtio-blk disk on every storage bus.
    [[ -n $base ]] || { [[ $bus == virtio-blk* ]] && base=1 || base=0; }
    ktest_scratch_dev=()
    for ((at = base; at < base + ${#ktest_scratch_dev_sizes[@]}; at++)); do
        _ktest_find_disk "$at"
        ktest_scratch_dev+=("$_ktest_disk")
    done
    ktest_pmem_dev=()
    for ((at = 0; at < ${#ktest_pmem_devs[@]}; at++)); do
        ktest_pmem_dev+=("/dev/pmem$at")
    done
}

# Set _ktest_line to line N (from 0) of a text.
_ktest_nth_line() {
    local lines
    mapfile -t lines <<<"$1"
    _ktest_line=${lines[$2]:-}
}

# pciehp waits 5 s after the request, in which a user could cancel it, before it removes a device.
_ktest_wait_for_device() {
    local is=$1 device=$2 tries
    for ((tries = 0; tries < 300; tries++)); do
        [[ $is == present && -b $device || $is == gone && ! -b $device ]] && return
        sleep 0.1
    done
    ktest_fail "$device is not $is after 30 s"
}

# Unplug scratch device INDEX from the running VM.
scratch_dev_unplug() {
    _ktest_nth_line "${ktest_qemu_devices:-}" $((ktest_scratch_dev_base + $1))
    [[ ,$_ktest_line =~ ,id=([^,]+) ]] || ktest_fail "scratch_dev_unplug $1: this VM has no such device"
    _ktest_mark "QEMU_MONITOR device_del ${BASH_REMATCH[1]}"
    _ktest_wait_for_device gone "${ktest_scratch_dev[$1]}"
}

# Plug scratch device INDEX again, with its content.
scratch_dev_plug() {
    _ktest_nth_line "${ktest_qemu_drives:-}" $((ktest_scratch_dev_base + $1))
    [[ -n $_ktest_line ]] || ktest_fail "scratch_dev_plug $1: this VM has no such device"
    _ktest_mark "QEMU_MONITOR drive_add 0 $_ktest_line"
    _ktest_nth_line "${ktest_qemu_devices:-}" $((ktest_scratch_dev_base + $1))
    _ktest_mark "QEMU_MONITOR device_add $_ktest_line"
    _ktest_wait_for_device present "${ktest_scratch_dev[$1]}"
}

# Unmount the scratch devices that a subtest left mounted, so that the next subtest can use them.
_ktest_unmount_scratch() {
    local device point rest wanted left=()
    while read -r device point rest; do
        for wanted in "${ktest_scratch_dev[@]}" "${ktest_pmem_dev[@]}"; do
            # The newest mount first: mounts may be stacked. Blanks are octal escapes. bcachefs separates its devices
            # with colons.
            [[ :$device: == *":$wanted:"* ]] || continue
            left=("$(printf '%b' "$point")" "${left[@]}")
            break
        done
    done </proc/self/mounts
    for point in "${left[@]}"; do
        umount "$point" || { fuser -km "$point"; umount -l "$point"; } || true
    done
}

# Tracing.

_ktest_tracefs=/sys/kernel/tracing

# setup_tracing KILOBYTES EVENT...: record these events (`ext4:*`, `block:block_rq_issue`) from now on, in a buffer of
# this size for each processor. At the end of the subtest they are saved as trace.txt in the output directory; at an
# oops the kernel prints them to the console.
setup_tracing() {
    local size=$1 event
    shift
    [[ -w $_ktest_tracefs/tracing_on ]] || ktest_skip "no tracefs: the kernel needs FTRACE and tracers"
    printf '0\n' >$_ktest_tracefs/tracing_on
    printf '\n' >$_ktest_tracefs/trace
    printf '%s\n' "$size" >$_ktest_tracefs/buffer_size_kb
    for event; do
        printf '%s\n' "$event" >>$_ktest_tracefs/set_event || ktest_fail "setup_tracing: no event $event"
    done
    printf '1\n' >/proc/sys/kernel/ftrace_dump_on_oops
    printf '1\n' >$_ktest_tracefs/tracing_on
    printf 'on\n' >"$_ktest_state.trace"
}

_ktest_save_trace() {
    [[ -e $_ktest_state.trace ]] || return 0
    printf '0\n' >$_ktest_tracefs/tracing_on
    printf '\n' >$_ktest_tracefs/set_event
    { printf '=== %s\n' "$1" && cat $_ktest_tracefs/trace; } >>"${ktest_out:-.}/trace.txt"
    rm -f "$_ktest_state.trace"
}
