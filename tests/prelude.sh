# shellcheck shell=bash
# shellcheck disable=SC2034 # what is declared is read by name
# What a test file may declare, and `main`, which answers the runner's four calls: deps, list-tests, init, run-tests.
# docs/writing-tests.md has an example of each function.

set -o nounset -o errexit -o errtrace -o pipefail
shopt -s inherit_errexit

_ktest_scalars=(ktest_arch ktest_compiler ktest_cpus ktest_mem ktest_timeout ktest_storage_bus ktest_allow_taint
    ktest_tests_unknown ktest_kconfig_base ktest_no_kbuild ktest_no_vm ktest_network ktest_kbuild_target
    ktest_kernel_headers)
_ktest_arrays=(ktest_kernel_append ktest_kernel_make_append ktest_kernel_config_require
    ktest_kernel_config_require_soft ktest_images ktest_rw_images ktest_scratch_dev_sizes ktest_scratch_slowdevs
    ktest_pmem_devs ktest_make_install ktest_build_debs ktest_kselftests ktest_qemu_append ktest_qemu_prepend)

# In the guest the environment holds what was declared on the host. The arrays begin empty on both sides; of the
# scalars only what the file's calls give matters, and ktest_arch, which the user may have chosen.
for _ktest_name in "${_ktest_arrays[@]}"; do
    declare -a "$_ktest_name=()"
done
unset -v ktest_mem ktest_timeout ktest_cpus
_ktest_timeout_factor=1
_ktest_mem_factor=1
_ktest_gcov_dirs=()
_ktest_skip_all=
_ktest_skip_status=77
_ktest_state=${TMPDIR:-/tmp}/ktest-state.$$
ktest_scratch_dev=()
ktest_pmem_dev=()

_ktest_number() {
    [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || _ktest_die "$1: '${2:-}' is not a positive number"
}

# $1 in MiB, or with K, M, G or T at its end; sets _ktest_mib.
_ktest_to_mib() {
    [[ ${2:-} =~ ^([1-9][0-9]*)([KMGT]?)B?$ ]] || _ktest_die "$1: '${2:-}' is not a size like 512 or 2G"
    case ${BASH_REMATCH[2]} in
    K) _ktest_mib=$(((BASH_REMATCH[1] + 1023) / 1024)) ;;
    G) _ktest_mib=$((BASH_REMATCH[1] * 1024)) ;;
    T) _ktest_mib=$((BASH_REMATCH[1] * 1024 * 1024)) ;;
    *) _ktest_mib=${BASH_REMATCH[1]} ;;
    esac
}

# The machine.

config-mem() {
    _ktest_to_mib config-mem "${1:-}"
    ktest_mem=$_ktest_mib
}
config-mem-multiplier() {
    _ktest_number config-mem-multiplier "${1:-}"
    _ktest_mem_factor=$((_ktest_mem_factor * $1))
}
config-cpus() {
    _ktest_number config-cpus "${1:-}"
    ktest_cpus=$1
}
config-timeout() {
    _ktest_number config-timeout "${1:-}"
    ktest_timeout=$1
}
config-timeout-multiplier() {
    _ktest_number config-timeout-multiplier "${1:-}"
    _ktest_timeout_factor=$((_ktest_timeout_factor * $1))
}
config-arch() {
    ktest_arch=$1
}
config-storage-bus() {
    ktest_storage_bus=$1
    _ktest_find_devices
}
config-scratch-devs() {
    local size
    for size; do
        _ktest_to_mib config-scratch-devs "$size"
        ktest_scratch_dev_sizes+=("$size")
    done
    _ktest_find_devices
}
# The same, but slow.
config-scratch-slowdevs() {
    local size
    for size; do
        ktest_scratch_slowdevs+=("${#ktest_scratch_dev_sizes[@]}")
        config-scratch-devs "$size"
    done
}
config-pmem-devs() {
    local size
    for size; do
        _ktest_to_mib config-pmem-devs "$size"
        ktest_pmem_devs+=("$size")
    done
    _ktest_find_devices
}
config-image() {
    ktest_images+=("$1")
}
config-rw-image() {
    ktest_rw_images+=("$1")
}
config-no-vm() {
    ktest_no_vm=true
}
# The guest reaches the host's network; else nothing but itself.
config-network() {
    ktest_network=true
}
require-qemu-append() {
    ktest_qemu_append+=("$@")
}

# The kernel.

config-compiler() {
    ktest_compiler=$1
}
config-no-kbuild() {
    ktest_no_kbuild=true
}
config-kconfig-base() {
    ktest_kconfig_base=$1
}
config-kbuild-target() {
    ktest_kbuild_target=$1
}
# OPTION, OPTION=VALUE, several with commas between them.
require-kernel-config() {
    local IFS=,
    # shellcheck disable=SC2206 # to be split at the commas
    ktest_kernel_config_require+=($*)
}
require-kernel-config-soft() {
    local IFS=,
    # shellcheck disable=SC2206 # to be split at the commas
    ktest_kernel_config_require_soft+=($*)
}
require-kernel-append() {
    ktest_kernel_append+=("$@")
}
require-kernel-make-append() {
    ktest_kernel_make_append+=("$@")
}
# Coverage of the kernel code below DIR of the source tree; what the run covered is left in gcov.N.
require-gcov() {
    # Make expands it.
    [[ ${1:-} =~ ^[A-Za-z0-9_][A-Za-z0-9_./-]*$ ]] || _ktest_die "require-gcov: '${1:-}' is no folder of the kernel's source"
    require-kernel-config GCOV_KERNEL,DEBUG_FS
    _ktest_gcov_dirs+=("${1%/}")
}
# Collections of the kernel's selftests (folders of tools/testing/selftests), built from the tree under test; the
# guest finds them in $ktest_kselftest_dir.
require-kselftest() {
    ktest_kselftests+=("$@")
}
# The guest finds in /lib/modules/$(uname -r)/build what modules outside the tree are built against.
require-kernel-headers() {
    ktest_kernel_headers=true
}
allow_taint() {
    ktest_allow_taint=true
}

# The file's tests on a kernel of another flavor, one of lib/flavors: set by $ktest_flavor (`--env ktest_flavor=kasan`, a
# test group's env, or a file of three lines like tests/fs/ext4/kasan-basic.ktest).
_ktest_apply_flavor() {
    # shellcheck disable=SC2154 # test-libs.sh sets it
    local file=$_ktest_libs/../lib/flavors/$ktest_flavor.sh
    [[ $ktest_flavor =~ ^[a-z]+$ && -e $file ]] ||
        _ktest_die "ktest_flavor=$ktest_flavor: there are $(cd "$_ktest_libs/../lib/flavors" && echo *.sh)"
    # shellcheck source=/dev/null
    . "$file"
}

# What a flavor looks at after each subtest.
ktest_flavor_after() {
    :
}

# Other repositories.

# require-git URL [DIR]: cloned when the file is first read, so on the host; the guest sees it read-only.
require-git() {
    local url=$1 dir=${2:-} root=${ktest_deps_dir:-${ktest_dir:-.}/deps}
    [[ -n $dir ]] || { dir=${url%/} && dir=${dir##*/} && dir=${dir%.git}; }
    [[ ! -e $root/$dir ]] || return 0
    local new=$root/.$dir.$$
    mkdir -p "$root" || _ktest_die "require-git $url: $root cannot be made; it is cloned on the host"
    git clone --quiet -- "$url" "$new" >&2 || { rm -rf "$new" && _ktest_die "require-git $url: the clone failed"; }
    # Another slot may have been faster; what it cloned is as good.
    mv -T "$new" "$root/$dir" 2>/dev/null || rm -rf "$new"
}
# Sets _ktest_folder to DIR as an absolute path: one cloned by require-git, or beside the test file.
_ktest_resolve() {
    local root=${ktest_deps_dir:-${ktest_dir:-.}/deps}
    case $1 in
    /*) _ktest_folder=$1 ;;
    *) [[ -d $root/$1 ]] && _ktest_folder=$root/$1 || _ktest_folder=$(cd "$(dirname "$0")" && pwd)/$1 ;;
    esac
}
require-make() {
    _ktest_resolve "$1"
    ktest_make_install+=("$_ktest_folder")
}
require-build-deb() {
    _ktest_resolve "$1"
    ktest_build_debs+=("$_ktest_folder")
}

# What a test file may define anew.

# The subtests, separated by white space: the functions test_NAME in the order they stand in the file.
list_tests() {
    local name line rest
    shopt -s extdebug
    while read -r _ _ name; do
        [[ $name == test_?* ]] || continue
        read -r name line rest < <(declare -F "$name")
        printf '%d %s\n' "$line" "${name#test_}"
    done < <(declare -F) | sort -n | while read -r line name; do
        printf '%s\n' "$name"
    done
    shopt -u extdebug
}

# Runs the subtest NAME; its failure is the subtest's.
run_test() {
    declare -F "test_$1" >/dev/null || ktest_fail "there is no subtest $1"
    "test_$1"
}

# The call `init`, once a boot, before the subtests.
ktest_init() {
    :
}

# The four calls.

_ktest_deps() {
    local name
    [[ -n ${ktest_mem:-} ]] || _ktest_die "the file does not say how much memory it needs; add: config-mem 1G"
    ktest_mem=$((ktest_mem * _ktest_mem_factor))
    ktest_timeout=$((${ktest_timeout:-6000} * _ktest_timeout_factor))
    if ((${#_ktest_gcov_dirs[@]})); then
        # Expanded by make in each folder of the build.
        local wanted=
        for name in "${_ktest_gcov_dirs[@]}"; do wanted+="$name $name/% "; done
        ktest_kernel_make_append+=("GCOV_PROFILE=\$(if \$(filter ${wanted% },\$(obj)),y)")
    fi
    for name in "${_ktest_scalars[@]}"; do
        [[ -z ${!name:-} ]] || printf '%s=%q\n' "$name" "${!name}"
    done
    for name in "${_ktest_arrays[@]}"; do
        local -n array=$name
        printf '%s=(' "$name"
        ((${#array[@]} == 0)) || printf ' %q' "${array[@]}"
        printf ' )\n'
    done
}

_ktest_list() {
    local tests
    tests=$(list_tests) || _ktest_die "list_tests failed (exit $?)"
    [[ $tests =~ [^[:space:]] ]] || _ktest_die "the file has no subtests: define functions test_NAME"
    printf '%s\n' "$tests"
}

# Builds and installs the Debian packages that were asked for, from copies: what the host shares is read-only.
_ktest_build_debs() {
    local dir work
    for dir in "${ktest_build_debs[@]}"; do
        work=$(mktemp -d)
        cp -r --no-preserve=ownership "$dir" "$work/source"
        (cd "$work/source" && run_quiet "building $dir" dpkg-buildpackage -b -us -uc -d)
        run_quiet "installing $dir" dpkg -i "$work"/*.deb
    done
}

_ktest_init() {
    local device
    for device in "${ktest_pmem_dev[@]}"; do
        [[ -b $device ]] || _ktest_die "persistent memory $device is missing; these have to be in the kernel or loaded:" \
            "LIBNVDIMM, BLK_DEV_PMEM, BTT, ACPI_NFIT"
    done
    for device in "${ktest_scratch_dev[@]}"; do
        [[ -b $device ]] || _ktest_die "scratch device $device is missing; the kernel needs the driver of the" \
            "storage bus ${ktest_storage_bus:-virtio-blk}"
    done
    _ktest_build_debs
    ktest_init
}

# The first failure recorded is the cause: an inner shell records it before the shells around it end for it.
_ktest_record() {
    [[ -s $_ktest_state.skip || -s $_ktest_state.failed ]] || printf '%s\n' "$*" >"$_ktest_state.failed"
}

_ktest_on_error() {
    local status=$1 command=$2 pipe=$3 text=()
    ((status != _ktest_skip_status)) || [[ ! -s $_ktest_state.skip ]] || return 0
    _ktest_where
    if [[ -n ${_ktest_command:-} ]]; then
        command=$_ktest_command
    elif [[ $pipe == *' '* ]]; then
        # Of a pipeline bash names only the last command.
        # shellcheck disable=SC2154 # _ktest_where sets them
        mapfile -t -s $((${_ktest_place##*:} - 1)) -n 1 text <"$_ktest_file"
        command=${text[0]#"${text[0]%%[![:space:]]*}"}
    fi
    _ktest_record "$_ktest_place: failed (exit $status): ${command:0:400}"
}

# An error outside the subtests: in the file's declarations, list_tests or ktest_init.
_ktest_on_file_error() {
    _ktest_where
    printf '%s: failed (exit %d): %s\n' "$_ktest_place" "$1" "${2:0:400}" >&2
}

_ktest_on_exit() {
    local status=$1 file=$0
    [[ $file == */tests/* ]] && file=tests/${file##*/tests/}
    if ((status == 0)) && [[ -z $_ktest_reached_end ]]; then
        _ktest_record "$file: failed: left by exit 0 before its end; ktest_skip says that a subtest does not apply"
        exit 1
    fi
    ((status == 0)) ||
        _ktest_record "$file: failed (exit $status): ended early, by exit or for an unset variable, see above"
}

# One subtest in a shell of its own. Not to be called in a condition: bash would ignore errexit inside.
_ktest_run_one() {
    (
        _ktest_subtest=$1
        _ktest_reached_end=
        trap '_ktest_on_exit $?' EXIT
        trap '_ktest_on_error $? "$BASH_COMMAND" "${PIPESTATUS[*]}"' ERR
        set -o errexit
        run_test "$1"
        _ktest_reached_end=1
    )
}

_ktest_save_gcov() {
    local n=0
    [[ -d /sys/kernel/debug/gcov ]] || return 0
    while [[ -e ${ktest_out:-.}/gcov.$n ]]; do ((n += 1)); done
    cp -dr --no-preserve=all /sys/kernel/debug/gcov "${ktest_out:-.}/gcov.$n" || true
}

# Sets line, for a subtest whose shell left no word of why.
_ktest_ended_by() {
    line="tests/${0##*/tests/}: failed (exit $1)"
    (($1 <= 128)) || line="tests/${0##*/tests/}: failed: the subtest's shell was killed by signal $(($1 - 128))"
}

# Sets _ktest_tainted to the kernel's taint flags that mean trouble: a machine check, a bad page, an oops, a warning, a
# soft lockup. Those of foreign modules and of test code do not.
_ktest_look_at_taint() {
    _ktest_tainted=0
    ! _ktest_on "${ktest_no_vm:-}" && ! _ktest_on "${ktest_allow_taint:-}" && [[ -r /proc/sys/kernel/tainted ]] ||
        return 0
    read -r _ktest_tainted </proc/sys/kernel/tainted
    ((_ktest_tainted &= 1 << 4 | 1 << 5 | 1 << 7 | 1 << 9 | 1 << 14)) || true
}

_ktest_run_tests() {
    local name status failed=0 start took line tainted
    # Messages through the kernel's log are otherwise limited to ten in five seconds.
    _ktest_on "${ktest_no_vm:-}" || [[ ! -w /proc/sys/kernel/printk_devkmsg ]] ||
        { printf 'on\n' >/proc/sys/kernel/printk_devkmsg; } 2>/dev/null || true
    exec {_ktest_stdout}>&1
    trap - ERR
    # shellcheck disable=SC2046 # names have no white space
    (($#)) || set -- $(_ktest_list)
    for name; do
        _ktest_mark "========= TEST   $name"
        start=$SECONDS
        if [[ -n $_ktest_skip_all ]]; then
            _ktest_mark "========= NOTRUN $name in 0s: $_ktest_skip_all"
            continue
        fi
        # Emptied rather than removed: that takes no process.
        : >"$_ktest_state.skip"
        : >"$_ktest_state.failed"
        _ktest_look_at_taint
        tainted=$_ktest_tainted
        set +o errexit
        _ktest_run_one "$name" </dev/null
        status=$?
        _ktest_look_at_taint
        if ((status == 0 && (_ktest_tainted & ~tainted))); then
            status=1
            _ktest_record "tests/${0##*/tests/}: failed: the kernel is tainted since it ran" \
                "(flags $((_ktest_tainted & ~tainted))); allow_taint in the file allows that"
        fi
        ((${#ktest_scratch_dev[@]} + ${#ktest_pmem_dev[@]} == 0)) || _ktest_unmount_scratch
        _ktest_save_trace "$name"
        ktest_flavor_after
        set -o errexit
        took=$((SECONDS - start))
        if [[ -s $_ktest_state.skip ]] && ((status == _ktest_skip_status)); then
            read -r line <"$_ktest_state.skip"
            _ktest_mark "========= NOTRUN $name in ${took}s: $line"
        elif ((status == 0)); then
            _ktest_mark "========= PASSED $name in ${took}s"
        else
            read -r line <"$_ktest_state.failed" || _ktest_ended_by "$status"
            # On the console itself: the runner takes the last line that is not the kernel's for the reason.
            printf '\n%s\n' "$line"
            _ktest_mark "========= FAILED $name in ${took}s"
            failed=$((failed + 1))
            ! _ktest_on "${ktest_failfast:-}" || break
        fi
    done
    rm -f "$_ktest_state".*
    ((${#_ktest_gcov_dirs[@]} == 0)) || _ktest_save_gcov
    exit $((failed > 255 ? 255 : failed))
}

main() {
    local call=${1:-}
    (($# == 0)) || shift
    [[ -z ${ktest_flavor:-} ]] || _ktest_apply_flavor
    _ktest_find_devices
    case $call in
    deps) _ktest_deps ;;
    list-tests) _ktest_list ;;
    init) _ktest_init ;;
    run-tests) _ktest_run_tests "$@" ;;
    *)
        printf 'usage: %s deps | list-tests | init | run-tests SUBTEST...\nktest run %s runs it in a machine\n' \
            "${0##*/}" "$0" >&2
        exit 2
        ;;
    esac
}

trap '_ktest_on_file_error $? "$BASH_COMMAND"' ERR
