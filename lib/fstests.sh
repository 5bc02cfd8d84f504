# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of the test file
# xfstests on a file system. A subtest is one of its cases (generic/001); its verdict comes from ./check and the result
# files. The cases are those of generic, shared and the file system's directory that are in one of the groups
# $ktest_xfstests_groups (default auto; separated by + or commas; `all` selects every case), without the groups and cases
# in $ktest_xfstests_exclude (soak+generic.475). $ktest_xfstests_variant selects mkfs and mount options that the file
# defines. The cases in the file fstests.exclude next to the test file are Not run, each with its reason.
# lib/suite.sh finds and builds the suite.
#
#   fstests FSTYP "$@"     declare everything; the file adds the kernel options of its file system
#   fstests_mkfs DEVICE [OPTION...]   defined by the file; its log is on $fstests_log and its realtime data on $fstests_realtime, if set
#   fstests_variants       print a line for each variant: NAME | mkfs options | mount options | WORDS (optional)
# WORDS are devices that the variant needs, logdev, rtdev or dax, and NAME=VALUE settings of xfstests; for overlayfs, FSTYP=TYPE
# is the file system below it. A file fstests.variants next to the test file has more such lines. The function is defined before
# the call of `fstests`.

_fstests_at=/opt/xfstests
_fstests_run=/tmp/xfstests-run
_fstests_left_out=/tmp/xfstests-left-out
# The number of devices of a file system on several devices, in addition to the scratch device.
_fstests_pool=0
# The selected variant.
_fstests_mkfs='' _fstests_mount='' _fstests_words=()

fstests() {
    _fstests_type=$1
    suite xfstests "${@:2}"
    [[ -z $_ktest_skip_all ]] || return 0
    _fstests_variant
    config-mem 2G
    config-cpus 2
    config-timeout 1200
    config-list-env ktest_xfstests_groups=all ktest_xfstests_exclude=
    # The test device, the scratch device, a device for the log of writes; more for file systems on several devices, all as
    # large as the scratch device. They are sparse files.
    [[ $1 == tmpfs ]] || config-scratch-devs 10G 20G 20G
    case $1 in btrfs | bcachefs) config-scratch-devs 20G 20G 20G 20G 20G 20G 20G && _fstests_pool=7 ;; esac
    # After these, in this order: the logs of the two devices, their realtime devices.
    ! _fstests_has logdev || config-scratch-devs 512M 512M
    ! _fstests_has rtdev || config-scratch-devs 10G 20G
    if _fstests_has dax; then
        config-pmem-devs 2G 2G
        config-mem 3G
        require-kernel-config FS_DAX,LIBNVDIMM,BLK_DEV_PMEM,NVDIMM_PFN
    fi
    require-kernel-config EXT4_FS,BLK_DEV_LOOP,TMPFS,SHMEM
    # Menus of the options below, which are not on by default.
    require-kernel-config-soft MD,SCSI,SCSI_LOWLEVEL,BLK_DEV_SD,DEBUG_FS,FTRACE
    require-kernel-config-soft BLK_DEV_DM,DM_FLAKEY,DM_SNAPSHOT,DM_LOG_WRITES,DM_THIN_PROVISIONING,DM_ZERO,DM_DELAY
    require-kernel-config-soft FAULT_INJECTION,FAULT_INJECTION_DEBUG_FS,FAIL_MAKE_REQUEST,AIO,IO_URING,USER_NS,QUOTA
    require-kernel-config-soft QUOTACTL,QFMT_V2,FUSE_FS,OVERLAY_FS,FS_ENCRYPTION,FS_VERITY,FANOTIFY,SWAP,HUGETLBFS
    require-kernel-config-soft FILE_LOCKING,KEYS,CRYPTO_CRC32C,SCSI_DEBUG=m,CGROUPS,BLK_CGROUP,NAMESPACES,UNICODE,BLK_DEV_INTEGRITY
}

# Whether the suite's programs are built.
suite_is_built() {
    [[ -x $1/ltp/fsstress && -x $1/src/feature ]]
}

# Print the cases of the file system in the source $1, each with its groups.
_fstests_cases() {
    local dir
    cd "$1/tests" || exit
    shopt -s nullglob
    # Newer versions have the groups in the case, older ones in a file.
    for dir in generic shared "$_fstests_type"; do
        [[ -d $dir ]] || continue
        [[ ! -e $dir/group ]] || awk -v dir="$dir" '/^[0-9]/ { sub(/#.*/, ""); $1 = dir "/" $1; print }' "$dir/group"
        awk -v dir="$dir" '
            FNR == 1 { wanted = 0; name = FILENAME; sub(/.*\//, "", name) }
            /^_begin_fstest[ \t]/ { $1 = ""; wanted = 1; line = dir "/" name }
            wanted { more = sub(/\\$/, ""); line = line " " $0; if (!more) { print line; wanted = 0 } }' \
            "$dir"/[0-9][0-9][0-9] "$dir"/[0-9][0-9][0-9][0-9] </dev/null
    done | sort -u
}

list_tests() {
    local groups=${ktest_xfstests_groups:-auto} without=${ktest_xfstests_exclude:-} cases
    cases=$(_fstests_cases "$suite_source")
    _fstests_check_names "$cases"
    _fstests_check_excluded
    awk -v groups="$groups" -v without="$without" '
        BEGIN {
            n = split(groups, words, /[ +,]+/)
            for (i = 1; i <= n; i++) take[words[i]] = 1
            n = split(without, words, /[ +,]+/)
            for (i = 1; i <= n; i++) { sub("/", ".", words[i]); leave[words[i]] = 1 }
        }
        {
            wanted = "all" in take
            for (i = 2; i <= NF; i++) if ($i in take) wanted = 1
            for (i = 2; i <= NF; i++) if ($i in leave) wanted = 0
            name = $1
            sub("/", ".", name)
            if (name in leave) wanted = 0
            if (wanted && !seen[$1]++) print $1
        }' <<<"$cases"
}

# End the call if the settings have a name that does not exist. Otherwise a misspelt name would select too many or too few
# cases. $1 has the cases and their groups.
_fstests_check_names() {
    local name names groups=${ktest_xfstests_groups:-} without=${ktest_xfstests_exclude:-}
    local -A known=([all]=1)
    # shellcheck disable=SC2016 # awk's own variables
    names=$(awk '{ for (i = 2; i <= NF; i++) print $i; sub("/", ".", $1); print $1 }' <<<"$1" | sort -u)
    while read -r name; do known[$name]=1; done <<<"$names"
    for name in ${groups//[+,]/ }; do
        [[ -n ${known[$name]:-} && $name != *.* ]] || suite_unknown ktest_xfstests_groups "$name" < <(grep -v '[.]' <<<"$names")
    done
    for name in ${without//[+,]/ }; do
        [[ -n ${known[${name//\//.}]:-} ]] || suite_unknown ktest_xfstests_exclude "$name" <<<"$names"
    done
    name=${ktest_xfstests_variant:-}
    names=$(_fstests_all_variants | awk -F '|' '{ gsub(/[ \t]/, "", $1); print $1 }')
    [[ -z $name || $'\n'$names$'\n' == *$'\n'"$name"$'\n'* ]] || suite_unknown ktest_xfstests_variant "$name" <<<"$names"
}

# The file of the excluded cases. A line is `CASE CONDITIONS REASON`:
#   CASE         a case (generic/475), a pattern for cases (generic/1*), or a group (soak)
#   CONDITIONS   separated by commas, all of which must be true: variant=1k, variant!=1k, kernel<6.6, kernel>=6.6, arch=aarch64;
#                `-` for no condition. The default variant is `default`.
#   REASON       the rest of the line: why the case is Not run
# Empty lines and lines that begin with # have no effect.
_fstests_excluded() {
    printf '%s\n' "$(dirname "$0")/fstests.exclude"
}

# Whether condition $1 is true in this guest: 0 or 1; 2 if it is not a condition.
_fstests_holds() {
    local value=${1#*[=<]} variant=${ktest_xfstests_variant:-default} release
    case $1 in
    variant=?*) [[ $variant == "$value" ]] ;;
    variant!=?*) [[ $variant != "$value" ]] ;;
    arch=?*) [[ $(uname -m) == "$value" ]] ;;
    'kernel<'[0-9]* | 'kernel>='[0-9]*)
        release=$(uname -r)
        # Of 6.12.0-rc1 only 6.12.0 counts.
        release=$(printf '%s\n' "${release%%[!0-9.]*}" "$value" | sort -V)
        if [[ $1 == 'kernel<'* ]]; then
            [[ ${release%%$'\n'*} != "$value" ]]
        else
            [[ ${release%%$'\n'*} == "$value" ]]
        fi
        ;;
    *) return 2 ;;
    esac
}

# End the call if the file of the excluded cases has a line that is not valid.
_fstests_check_excluded() {
    local file pattern conditions reason condition at=0
    file=$(_fstests_excluded)
    [[ -e $file ]] || return 0
    while read -r pattern conditions reason; do
        at=$((at + 1))
        [[ -n $pattern && $pattern != '#'* ]] || continue
        [[ -n $reason ]] || _ktest_die "${file##*/}:$at: $pattern has no conditions (- for none) or no reason"
        [[ $conditions != - ]] || continue
        for condition in ${conditions//,/ }; do
            case $condition in
            variant=?* | variant!=?* | arch=?* | 'kernel<'[0-9]* | 'kernel>='[0-9]*) ;;
            *) _ktest_die "${file##*/}:$at: $condition is not a condition; use variant=, variant!=, kernel<, kernel>= or arch=" ;;
            esac
        done
    done <"$file"
}

# Write the cases that are excluded in this guest to $_fstests_left_out: CASE REASON.
_fstests_leave_out() {
    local file pattern conditions reason condition
    file=$(_fstests_excluded)
    : >$_fstests_left_out
    [[ -e $file ]] || return 0
    while read -r pattern conditions reason; do
        [[ -n $pattern && $pattern != '#'* ]] || continue
        [[ $conditions != - ]] || conditions=
        for condition in ${conditions//,/ }; do _fstests_holds "$condition" || continue 2; done
        printf '%s %s\n' "$pattern" "$reason"
    done <"$file" >$_fstests_left_out.patterns
    # shellcheck disable=SC2016 # awk's own variables
    _fstests_cases "$_fstests_at" | awk '
        NR == FNR {
            pattern = $1
            sub(/^[^ ]+ +/, "")
            reason[++n] = $0
            group[n] = pattern
            gsub(/[.+^$(){}|\\]/, "\\\\&", pattern)
            gsub(/[*]/, ".*", pattern)
            gsub(/[?]/, ".", pattern)
            regex[n] = "^" pattern "$"
            next
        }
        {
            for (at = 1; at <= n; at++) {
                found = $1 ~ regex[at]
                for (i = 2; i <= NF; i++) if ($i == group[at]) found = 1
                if (found) { print $1, reason[at]; next }
            }
        }' $_fstests_left_out.patterns - >$_fstests_left_out
}

# Print the reason why case $1 is excluded; nothing if it is not.
_fstests_reason() {
    [[ ! -s $_fstests_left_out ]] || awk -v name="$1" '$1 == name { sub(/^[^ ]+ /, ""); print; exit }' $_fstests_left_out
}

ktest_init() {
    local name
    suite_mount $_fstests_at
    _fstests_leave_out
    ! _fstests_has dax || _fstests_allow_dax
    mkdir -p /mnt/test /mnt/scratch
    # The users that the cases switch to.
    for name in fsgqa fsgqa2 123456-fsgqa; do
        id "$name" >/dev/null 2>&1 || useradd --badname -m "$name" || useradd -m "$name" || true
    done
}

# Give the persistent memory devices pages, which direct access needs. The firmware presents them without pages.
_fstests_allow_dax() {
    local at=/sys/bus/nd/devices drivers=/sys/bus/nd/drivers region seed name
    modprobe -q nd_pmem || true
    for region in "$at"/region*; do
        name=namespace${region##*region}.0
        seed=$(<"$region/pfn_seed")
        printf '%s\n' "$name" >$drivers/nd_pmem/unbind
        printf '%s\n' $((2 << 20)) >"$at/$seed/align"
        printf 'ram\n' >"$at/$seed/mode"
        cat /proc/sys/kernel/random/uuid >"$at/$seed/uuid"
        printf '%s\n' "$name" >"$at/$seed/namespace"
        printf '%s\n' "$seed" >$drivers/nd_pmem/bind
    done
}

# Print the settings of the suite, as bash assignments.
_fstests_settings() {
    local word devices=("${ktest_scratch_dev[@]}") pool test type=$_fstests_type
    test=${devices[0]:-}
    pool=("${devices[1]:-}" "${devices[@]:3:_fstests_pool}")
    if _fstests_has dax; then
        test=${ktest_pmem_dev[0]}
        pool=("${ktest_pmem_dev[1]}")
    fi
    case $_fstests_type in
    overlay) type=ext4 ;; # below it; a variant has another one
    tmpfs) test=tmpfs_test pool=(tmpfs_scratch) ;;
    nfs) test=127.0.0.1:/srv/test pool=(127.0.0.1:/srv/scratch) ;;
    esac
    printf 'export %s=%q\n' FSTYP "$type" TEST_DEV "$test" TEST_DIR /mnt/test SCRATCH_MNT /mnt/scratch \
        RESULT_BASE "$suite_artifacts" LOGGER_PROG $_fstests_run/next DIFF_LENGTH 40
    [[ $test != /dev/* ]] || printf 'export %s=%q\n' LOGWRITES_DEV "${devices[2]}"
    if ((${#pool[@]} > 1)); then
        printf 'export %s=%q\n' SCRATCH_DEV_POOL "${pool[*]}"
    else
        printf 'export %s=%q\n' SCRATCH_DEV "${pool[0]}"
    fi
    devices=("${devices[@]:3+_fstests_pool}")
    [[ -z $fstests_log ]] || printf 'export %s=%q\n' USE_EXTERNAL yes TEST_LOGDEV "$fstests_log" SCRATCH_LOGDEV "${devices[1]}"
    [[ -z $fstests_realtime ]] ||
        printf 'export %s=%q\n' USE_EXTERNAL yes TEST_RTDEV "$fstests_realtime" SCRATCH_RTDEV "${devices[*]: -1}"
    [[ -z $_fstests_mkfs ]] || printf 'export %s=%q\n' MKFS_OPTIONS "$_fstests_mkfs"
    [[ -z $_fstests_mount ]] || printf 'export %s=%q\n' MOUNT_OPTIONS "$_fstests_mount" TEST_FS_MOUNT_OPTS "$_fstests_mount"
    for word in "${_fstests_words[@]}"; do
        [[ $word != *=* ]] || printf 'export %s=%q\n' "${word%%=*}" "${word#*=}"
    done
}

fstests_variants() {
    :
}

# Print the lines of all variants.
_fstests_all_variants() {
    local file
    file=$(dirname "$0")/fstests.variants
    fstests_variants
    [[ ! -e $file ]] || grep -v '^[[:space:]]*\(#\|$\)' "$file" || true
}

# Set _fstests_mkfs, _fstests_mount and _fstests_words to the options of the selected variant. list_tests refuses a variant
# that does not exist.
_fstests_variant() {
    local name wanted=${ktest_xfstests_variant:-}
    _fstests_mkfs='' _fstests_mount='' _fstests_words=()
    [[ -n $wanted ]] || return 0
    while IFS='|' read -r name _fstests_mkfs _fstests_mount _fstests_words; do
        [[ ${name//[[:blank:]]/} == "$wanted" ]] || continue
        read -r _fstests_mkfs <<<"$_fstests_mkfs"
        read -r _fstests_mount <<<"$_fstests_mount"
        # shellcheck disable=SC2128 # the line has one string
        read -r -a _fstests_words <<<"$_fstests_words"
        return 0
    done < <(_fstests_all_variants)
    _fstests_mkfs='' _fstests_mount='' _fstests_words=()
}

# Whether the selected variant needs a kind of device.
_fstests_has() {
    [[ " ${_fstests_words[*]} " == *" $1 "* ]]
}

# One ./check runs all cases of a call. Before each case it calls $LOGGER_PROG, which waits there until the library has
# the verdict of the case before and has marked the start of this one. After a failure the rest gets a new ./check and a
# newly formatted test device.
#   $_fstests_run/at      FIFO: the case before which ./check waits, or `ended STATUS`
#   $_fstests_run/go      FIFO: `go`, or `stop`, which ends ./check
#   $_fstests_run/log     the output of ./check since the library read it last
#   $_fstests_run/all     the output before that
#   $_fstests_run/state   the case before which ./check waits, `none` if there is no ./check, and its exit status; the line that
#                         ./check has begun to print
# No program is started for a case that passes: under TCG each one takes 0.1 s to 0.2 s.

# Start ./check for these cases, and wait until it is at the first of them.
_fstests_start() {
    local options=() device=${ktest_scratch_dev[0]:-}
    rm -rf $_fstests_run
    mkdir -p $_fstests_run "$suite_artifacts"
    mkfifo $_fstests_run/at $_fstests_run/go
    : >$_fstests_run/log
    cat >$_fstests_run/next <<END
#!/bin/sh
printf '%s\n' "\${1##* }" >$_fstests_run/at
read -r word <$_fstests_run/go
[ "\$word" != stop ] || kill -TERM \$PPID
END
    chmod +x $_fstests_run/next
    fstests_log='' fstests_realtime=''
    ! _fstests_has logdev || fstests_log=${ktest_scratch_dev[3 + _fstests_pool]}
    ! _fstests_has rtdev || fstests_realtime=${ktest_scratch_dev[*]: -2:1}
    _fstests_settings >$_fstests_run/config
    # A case whose program dumps core fails: ./check looks for the file in its directory, and keeps it.
    printf 'core\n' >/proc/sys/kernel/core_pattern
    ((${#ktest_scratch_dev[@]} + ${#ktest_pmem_dev[@]} == 0)) || wipefs -aq "${ktest_scratch_dev[@]}" "${ktest_pmem_dev[@]}"
    ! _fstests_has dax || device=${ktest_pmem_dev[0]}
    # shellcheck disable=SC2086 # options
    run_quiet "mkfs of the test device" fstests_mkfs "$device" $_fstests_mkfs
    # xfstests does not make the file systems below overlayfs.
    # shellcheck disable=SC2086 # options
    [[ $_fstests_type != overlay ]] ||
        run_quiet "mkfs of the scratch device" fstests_mkfs "${ktest_scratch_dev[1]}" $_fstests_mkfs
    # A version that does not call it runs one case.
    grep -q '[$]LOGGER_PROG "run' $_fstests_at/check || set -- "$1"
    ! grep -q -e --exact-order $_fstests_at/check || options=(--exact-order)
    [[ $_fstests_type != overlay ]] || options+=(-overlay)
    (
        trap - ERR
        set +o errexit
        exec {_ktest_stdout}>&-
        cd $_fstests_at && HOST_OPTIONS=$_fstests_run/config ./check "${options[@]}" "$@"
        printf 'ended %s\n' $? >$_fstests_run/at
    ) >>$_fstests_run/log 2>&1 &
    _fstests_wait
}

# Wait until ./check is before a case, or has ended. Set _fstests_at_case and _fstests_status, and _fstests_said to what it has
# printed since the last time.
_fstests_wait() {
    local word status parts begun=${_fstests_begun:-} LC_ALL=C
    read -r word status <$_fstests_run/at
    # The output may have NUL bytes.
    mapfile -t -d '' parts <$_fstests_run/log
    : >$_fstests_run/log
    printf -v _fstests_said '%s' "$begun" "${parts[@]}"
    _fstests_at_case=$word _fstests_status=${status:-0} _fstests_begun=
    if [[ $word == ended ]]; then
        _fstests_at_case=
    else
        # It has already printed the name of the case, without a newline.
        _fstests_begun=${_fstests_said##*$'\n'}
        _fstests_said=${_fstests_said%"$_fstests_begun"}
    fi
    printf '%s' "$_fstests_said" >>$_fstests_run/all
    printf '%s %s\n%s\n' "${_fstests_at_case:-none}" "$_fstests_status" "$_fstests_begun" >$_fstests_run/state
}

# Set _fstests_at_case, _fstests_status and _fstests_begun as the subtest before left them.
_fstests_recall() {
    _fstests_at_case='' _fstests_status=0 _fstests_begun=
    [[ ! -s $_fstests_run/state ]] || {
        read -r _fstests_at_case _fstests_status
        IFS= read -r _fstests_begun
    } <$_fstests_run/state
    [[ $_fstests_at_case != none ]] || _fstests_at_case=
}

# End ./check, so that the next case gets a new one.
_fstests_stop() {
    [[ -n $_fstests_at_case ]] || return 0
    printf 'stop\n' >$_fstests_run/go
    _fstests_wait
}

# Whether a ./check waits.
_fstests_is_running() {
    _fstests_recall
    [[ -n $_fstests_at_case ]]
}

# The test device stays mounted from case to case.
ktest_clean() {
    _fstests_is_running || _ktest_unmount_scratch
}

run_test() {
    local reason rest
    reason=$(_fstests_reason "$1")
    [[ -z $reason ]] || ktest_skip "excluded: $reason"
    # The cases take the name of a device mapper device in sysfs from the link that udev makes.
    suite_wants perl=perl bc=bc gawk=gawk xfsprogs=xfs_io attr=attr acl=getfacl udev=udevadm
    _fstests_recall
    _fstests_can_go_on "$1" || _fstests_stop
    if [[ -z $_fstests_at_case ]]; then
        rest=("${_ktest_rest[@]}")
        if [[ -s $_fstests_left_out && ${#rest[@]} != 0 ]]; then
            mapfile -t rest < <(printf '%s\n' "${rest[@]}" | grep -vxFf <(sed 's/ .*//' $_fstests_left_out))
        fi
        _fstests_start "$1" "${rest[@]}"
        # A version that has its own order of the cases.
        _fstests_can_go_on "$1" || { _fstests_stop && _fstests_start "$1"; }
        # The configuration of the suite.
        printf '%s' "$_fstests_said"
    fi
    if [[ -n $_fstests_at_case && $_fstests_at_case != "$1" ]]; then
        _fstests_judge_passed_over "$1"
        return
    fi
    if [[ -n $_fstests_at_case ]]; then
        printf 'go\n' >$_fstests_run/go
        _fstests_wait
        printf '%s' "$_fstests_said"
    fi
    _fstests_judge "$1" "$_fstests_said"
}

# Whether the ./check that waits runs case $1 next, or has passed over it.
_fstests_can_go_on() {
    [[ -z $_fstests_at_case || $_fstests_at_case == "$1" ]] || grep -qE "^$1( |\$)" $_fstests_run/all
}

# Give the verdict of case $1, which ./check was told to run, and did not run.
_fstests_judge_passed_over() {
    local line
    line=$(grep -m1 -E "^$1( |\$)" $_fstests_run/all)
    [[ $line != *'[expunged]'* ]] || ktest_skip "xfstests reports that it is expunged"
    ktest_fail "xfstests did not run it: $line"
}

# Give the verdict of case $1, of which ./check printed $2.
_fstests_judge() {
    local at=$suite_artifacts/$1 line='' rest number='[0-9]+s' LC_ALL=C
    if [[ -s $at.notrun ]]; then
        IFS= read -r line <"$at.notrun" || true
        ktest_skip "$line"
    fi
    [[ ! $'\n'$2$'\n' =~ $'\n'("$1"(' '[^$'\n']*)?)$'\n' ]] || line=${BASH_REMATCH[1]}
    [[ $line != *'[expunged]'* ]] || ktest_skip "xfstests reports that it is expunged"
    # Everything between the line of the case and the summary is a complaint.
    rest=${2#*"$line"}
    rest=${rest%%$'\n'Ran: *}
    [[ ! $rest =~ [^[:space:]] && $line =~ ^"$1"([[:space:]]+$number\ \.\.\.)?[[:space:]]+${number}[[:space:]]*$ ]] || {
        printf '%s\n' "$2" >$_fstests_run/said
        _fstests_stop
        ktest_fail "$(_fstests_why "$1" "$at" $_fstests_run/said "$_fstests_status" "$line")"
    }
}

# The patterns that `check` searches for in the kernel's log, most specific first.
_fstests_kernel='kernel BUG at|WARNING:|\bBUG:|Oops:|possible (recursive|circular) locking|suspicious RCU usage'
_fstests_kernel+='|general protection fault:|BUG .* remaining|oom-kill|UBSAN:'

# Print why case $1 failed, with results $2, output $3, exit status $4 and the line of the case $5, in one line.
_fstests_why() {
    local line
    if [[ $5 =~ (unknown|no such)' test' ]]; then
        printf 'xfstests did not run it: %s\n' "$5"
    elif [[ -s $2.dmesg ]] && line=$(grep -m1 -E "$_fstests_kernel" "$2.dmesg" || grep -m1 -E 'BUG|WARNING|Oops|possible|INFO:' "$2.dmesg"); then
        printf 'kernel message: %s\n' "${line#*\] }"
    # Newer versions print it after the name of the case, older ones on a separate line.
    elif line=$(grep -m1 -oE '_check_[a-z0-9_]+: .*' "$3"); then
        printf '%s\n' "${line%% (see*}"
    elif line=$(grep -m1 -E '^(check: |our local|mkfs|mount:|.*: failed to )' "$3") && [[ ! -s $2.out.bad ]]; then
        printf '%s\n' "$line"
    elif [[ -s $2.out.bad && -e $_fstests_at/tests/$1.out ]]; then
        suite_differs "$_fstests_at/tests/$1.out" "$2.out.bad"
        printf '%s\n' "$suite_difference"
    elif line=$(grep -m1 -oE '\[failed, exit status [^]]*\].*' "$3"); then
        printf '%s\n' "$line"
    elif grep -q 'no qualified output$' "$3"; then
        printf 'the source has no tests/%s.out to compare its output with\n' "$1"
    elif (($4 > 128)); then
        printf './check was killed by signal %d\n' $(($4 - 128))
    elif [[ -z $5 ]]; then
        printf 'xfstests did not run it: %s\n' "$(grep . "$3" | tail -n 1)"
    else
        printf 'check ended with exit code %s: %s\n' "$4" "$(grep . "$3" | tail -n 1)"
    fi
}
