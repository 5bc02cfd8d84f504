# shellcheck shell=bash
# shellcheck disable=SC2034 # what is declared is read by name
# The declarations of a test file, and `main`, which implements the runner's four calls: deps, list-tests, init, run-tests.
# docs/writing-tests.md has an example of each function.

set -o nounset -o errexit -o errtrace -o pipefail
shopt -s inherit_errexit

_ktest_scalars=(ktest_markers ktest_arch ktest_compiler ktest_cpus ktest_mem ktest_timeout ktest_storage_bus ktest_allow_taint
    ktest_tests_unknown ktest_kconfig_base ktest_no_kbuild ktest_no_vm ktest_network ktest_kbuild_target
    ktest_kernel_headers)
_ktest_arrays=(ktest_kernel_append ktest_kernel_make_append ktest_kernel_config_require
    ktest_kernel_config_require_soft ktest_images ktest_rw_images ktest_scratch_dev_sizes ktest_scratch_slowdevs
    ktest_pmem_devs ktest_make_install ktest_build_debs ktest_kselftests ktest_qemu_append ktest_qemu_prepend ktest_list_env)

# In the guest the environment has the declarations made on the host. The arrays start empty on both sides. Of the
# scalars only the values that the file sets count, and ktest_arch, which the user may have chosen.
for _ktest_name in "${_ktest_arrays[@]}"; do
    declare -a "$_ktest_name=()"
done
unset -v ktest_mem ktest_timeout ktest_cpus
# The token that lines for the runner carry in this boot. Programs of a test do not inherit it, so that nothing they
# print is taken for such a line.
ktest_markers=token
_ktest_token=${ktest_token:-}
unset -v ktest_token
_ktest_timeout_factor=1
_ktest_mem_factor=1
_ktest_gcov_dirs=()
_ktest_skip_all=
_ktest_rest=()
_ktest_skip_status=77
_ktest_state=${TMPDIR:-/tmp}/ktest-state.$$
ktest_scratch_dev=()
ktest_pmem_dev=()

_ktest_number() {
    [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || _ktest_die "$1: '${2:-}' is not a positive number"
}

# _ktest_to_mib CALL SIZE: set _ktest_mib to a size in MiB, or with the suffix K, M, G or T.
_ktest_to_mib() {
    [[ ${2:-} =~ ^([1-9][0-9]*)([KMGT]?)B?$ ]] || _ktest_die "$1: '${2:-}' is not a size like 512 or 2G"
    case ${BASH_REMATCH[2]} in
    K) _ktest_mib=$(((BASH_REMATCH[1] + 1023) / 1024)) ;;
    G) _ktest_mib=$((BASH_REMATCH[1] * 1024)) ;;
    T) _ktest_mib=$((BASH_REMATCH[1] * 1024 * 1024)) ;;
    *) _ktest_mib=${BASH_REMATCH[1]} ;;
    esac
}

# The VM.

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
# The farm reads the owner from the text of the test file: one quoted text in one line.
config-owner() {
    [[ $# == 1 && -n $1 && $1 != *[[:cntrl:]]* ]] || _ktest_die "config-owner: expected one text, for example \"Name <mail>\""
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
# The same, with limited throughput.
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
# With these settings (NAME=VALUE) of the environment list_tests prints other subtests, which can be requested by name.
config-list-env() {
    ktest_list_env+=("$@")
}
# Give the guest access to the host's network. Without this call it has no network.
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
# require-kernel-config OPTION[=VALUE],...
require-kernel-config() {
    local IFS=,
    # shellcheck disable=SC2206 # split at the commas
    ktest_kernel_config_require+=($*)
}
require-kernel-config-soft() {
    local IFS=,
    # shellcheck disable=SC2206 # split at the commas
    ktest_kernel_config_require_soft+=($*)
}
require-kernel-append() {
    ktest_kernel_append+=("$@")
}
require-kernel-make-append() {
    ktest_kernel_make_append+=("$@")
}
# Record the coverage of the kernel code below DIR of the source tree, in gcov.N.
require-gcov() {
    # Expanded by make.
    [[ ${1:-} =~ ^[A-Za-z0-9_][A-Za-z0-9_./-]*$ ]] || _ktest_die "require-gcov: '${1:-}' is not a directory of the kernel source"
    require-kernel-config GCOV_KERNEL,DEBUG_FS
    _ktest_gcov_dirs+=("${1%/}")
}
# Build collections of the kernel's selftests (directories of tools/testing/selftests) from the tree under test. In the
# guest they are in $ktest_kselftest_dir.
require-kselftest() {
    ktest_kselftests+=("$@")
}
# Put the files to build external modules against into /lib/modules/$(uname -r)/build of the guest.
require-kernel-headers() {
    ktest_kernel_headers=true
}
allow_taint() {
    ktest_allow_taint=true
}

# Apply the flavor $ktest_flavor, one of lib/flavors. It is set by `--env ktest_flavor=kasan`, by the env of a test
# group, or by a file of three lines such as tests/fs/ext4/kasan-basic.ktest.
_ktest_apply_flavor() {
    # shellcheck disable=SC2154 # test-libs.sh sets it
    local file=$_ktest_libs/../lib/flavors/$ktest_flavor.sh
    [[ $ktest_flavor =~ ^[a-z]+$ && -e $file ]] ||
        _ktest_die "no flavor '$ktest_flavor'; known: $(cd "$_ktest_libs/../lib/flavors" && echo *.sh)"
    # shellcheck source=/dev/null
    . "$file"
}

# A flavor's check after each subtest.
ktest_flavor_after() {
    :
}

# Other repositories.

# require-git URL [DIR]: clone a repository on the host when the file is read. It is read-only in the guest.
# In the sandbox of a farm there is no network: the runner reads $ktest_git_requests, clones, and calls the file again.
require-git() {
    local url=$1 dir=${2:-} root=${ktest_deps_dir:-${ktest_dir:-.}/deps}
    [[ -n $dir ]] || { dir=${url%/} && dir=${dir##*/} && dir=${dir%.git}; }
    [[ ! -e $root/$dir ]] || return 0
    if [[ -n ${ktest_git_requests:-} ]]; then
        printf '%s\0%s\0' "$url" "$dir" >"$ktest_git_requests"
        exit 75
    fi
    local new=$root/.$dir.$$
    mkdir -p "$root" || _ktest_die "require-git $url: cannot create $root"
    git clone --quiet -- "$url" "$new" >&2 || { rm -rf "$new" && _ktest_die "require-git $url: the clone failed"; }
    # Another slot may have cloned it in the meantime.
    mv -T "$new" "$root/$dir" 2>/dev/null || rm -rf "$new"
}
# Set _ktest_folder to the absolute path of DIR: a clone of require-git, or a directory next to the test file.
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

# Functions that a test file may override.

# Print the subtests, separated by white space: the functions test_NAME in the order of the file.
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

# Run the subtest NAME, which fails if this function fails. _ktest_rest has the subtests that come after it.
run_test() {
    declare -F "test_$1" >/dev/null || ktest_fail "there is no subtest $1"
    "test_$1"
}

# The call `init`: once per boot, before the subtests.
ktest_init() {
    :
}

# After each subtest.
ktest_clean() {
    ((${#ktest_scratch_dev[@]} + ${#ktest_pmem_dev[@]} == 0)) || _ktest_unmount_scratch
}

# The four calls.

_ktest_deps() {
    local name
    [[ -n ${ktest_mem:-} ]] || _ktest_die "the file does not declare its memory; add: config-mem 1G"
    ktest_mem=$((ktest_mem * _ktest_mem_factor))
    ktest_timeout=$((${ktest_timeout:-6000} * _ktest_timeout_factor))
    if ((${#_ktest_gcov_dirs[@]})); then
        # Expanded by make in each directory of the build.
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
    local tests status
    tests=$(list_tests) || {
        status=$?
        # With 2, _ktest_die has given the reason.
        ((status == 2)) || _ktest_die "list_tests failed (exit $status)"
        exit 2
    }
    [[ $tests =~ [^[:space:]] ]] || _ktest_die "the file has no subtests: define functions test_NAME"
    printf '%s\n' "$tests"
}

# Build and install the declared Debian packages, from copies, because the host's directories are read-only.
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
        [[ -b $device ]] || _ktest_die "persistent memory $device is missing; the kernel needs, built in or as loaded modules:" \
            "LIBNVDIMM, BLK_DEV_PMEM, BTT, ACPI_NFIT"
    done
    for device in "${ktest_scratch_dev[@]}"; do
        [[ -b $device ]] || _ktest_die "scratch device $device is missing; the kernel needs the driver of the" \
            "storage bus ${ktest_storage_bus:-virtio-blk}"
    done
    _ktest_build_debs
    ktest_init
}

# Record a failure: _ktest_record said|command REASON. The first one is the cause: an inner shell records it before the outer
# shells end because of it. But if a command failed in a substitution, bash goes on, and what the outer shell says later is.
_ktest_record() {
    local kind='' level=0
    [[ ! -s $_ktest_state.skip ]] || return 0
    if [[ -s $_ktest_state.failed ]] && read -r kind level <"$_ktest_state.failed"; then
        [[ $1 == said && $kind == command ]] && ((BASH_SUBSHELL < level)) || return 0
    fi
    printf '%s\n' "$1 $BASH_SUBSHELL" "${*:2}" >"$_ktest_state.failed"
}

_ktest_on_error() {
    local status=$1 command=$2 pipe=$3 text=()
    ((status != _ktest_skip_status)) || [[ ! -s $_ktest_state.skip ]] || return 0
    _ktest_where
    if [[ -n ${_ktest_command:-} ]]; then
        command=$_ktest_command
    elif [[ $pipe == *' '* ]]; then
        # For a pipeline bash reports only the last command.
        # shellcheck disable=SC2154 # _ktest_where sets them
        mapfile -t -s $((${_ktest_place##*:} - 1)) -n 1 text <"$_ktest_file"
        command=${text[0]#"${text[0]%%[![:space:]]*}"}
    fi
    _ktest_record command "$_ktest_place: failed (exit $status): ${command:0:400}"
}

# Report an error outside the subtests: in the declarations, list_tests or ktest_init.
_ktest_on_file_error() {
    _ktest_where
    printf '%s: failed (exit %d): %s\n' "$_ktest_place" "$1" "${2:0:400}" >&2
}

_ktest_on_exit() {
    local status=$1 file=$0
    [[ $file == */tests/* ]] && file=tests/${file##*/tests/}
    if ((status == 0)) && [[ -z $_ktest_reached_end ]]; then
        _ktest_record said "$file: failed: exit 0 before the end of the subtest; use ktest_skip for a subtest that does not apply"
        exit 1
    fi
    ((status == 0)) ||
        _ktest_record command "$file: failed (exit $status): ended early, by exit or because of an unset variable, see above"
}

# Run one subtest in its own shell. Do not call it in a condition: bash would ignore errexit inside.
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

# Set line to the reason of a subtest whose shell recorded none.
_ktest_ended_by() {
    line="tests/${0##*/tests/}: failed (exit $1)"
    (($1 <= 128)) || line="tests/${0##*/tests/}: failed: the subtest's shell was killed by signal $(($1 - 128))"
}

# Set _ktest_tainted to the taint flags that are set by kernel trouble: a machine check, a bad page, an oops, a warning,
# a soft lockup. The flags of external modules and of test code are ignored.
_ktest_look_at_taint() {
    _ktest_tainted=0
    ! _ktest_on "${ktest_no_vm:-}" && ! _ktest_on "${ktest_allow_taint:-}" && [[ -r /proc/sys/kernel/tainted ]] ||
        return 0
    read -r _ktest_tainted </proc/sys/kernel/tainted
    ((_ktest_tainted &= 1 << 4 | 1 << 5 | 1 << 7 | 1 << 9 | 1 << 14)) || true
}

_ktest_run_tests() {
    local name status failed=0 start took line tainted
    _ktest_unlimit_kmsg
    exec {_ktest_stdout}>&1
    trap - ERR
    # shellcheck disable=SC2046 # names contain no white space
    (($#)) || set -- $(_ktest_list)
    for name; do
        shift
        _ktest_rest=("$@")
        _ktest_mark "========= TEST   $name"
        start=$SECONDS
        if [[ -n $_ktest_skip_all ]]; then
            _ktest_mark "========= NOTRUN $name in 0s: $_ktest_skip_all"
            continue
        fi
        # Truncate them: removing them would start a process.
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
            _ktest_record said "tests/${0##*/tests/}: failed: the subtest tainted the kernel" \
                "(flags $((_ktest_tainted & ~tainted))); allow_taint in the file permits it"
        fi
        ktest_clean
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
            { read -r line && read -r line; } <"$_ktest_state.failed" || _ktest_ended_by "$status"
            # Directly to the console: the runner takes the last line that is not from the kernel as the reason.
            _ktest_print "" "$line"
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
        printf 'usage: %s deps | list-tests | init | run-tests SUBTEST...\nktest run %s runs it in a VM\n' \
            "${0##*/}" "$0" >&2
        exit 2
        ;;
    esac
}

trap '_ktest_on_file_error $? "$BASH_COMMAND"' ERR
