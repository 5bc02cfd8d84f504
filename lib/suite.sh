# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of prelude.sh
# Test suites that are not part of ktest-ci (xfstests, blktests). The source is on the host, is built there once for each
# version, and is attached to the guest as a disk. The source is one of
#   $ktest_deps_dir/NAME   a clone, or a link to one (for a farm)
#   $ktest_NAME            in the environment of `ktest run`: a directory, or a URL to clone
# Without a source the file has one subtest, `source`, which is Not run with a reason that explains how to get the suite.
# No VM is started for it.

suite_source=

# suite NAME "$@": find the suite; the other arguments are those of the call. Set suite_source on the host, to the empty
# string if there is no source.
suite() {
    local said=ktest_$1
    suite_name=$1
    said=${!said:-}
    # The guest has only the disk.
    case ${2:-} in init | run-tests) _ktest_on "${ktest_no_vm:-}" || { _suite_disk && return; } ;; esac
    case $said in
    '') suite_source=$(_suite_deps)/$1 ;;
    *://*)
        require-git "$said" "$1"
        suite_source=$(_suite_deps)/$1
        ;;
    /*) suite_source=$said ;;
    *) _ktest_die "ktest_$1=$said is neither a URL nor an absolute path" ;;
    esac
    if [[ ! -x $suite_source/check || ! -d $suite_source/tests ]]; then
        [[ -z $said ]] || _ktest_die "ktest_$1=$said: no $1 in this directory (the program check and the directory tests)"
        suite_source=
        config-mem 128M
        config-no-vm
        ktest_skip "there is no source of $1 on this host: clone it to $(_suite_deps)/$1 (or link it there), or set" \
            "ktest_$1=DIR or ktest_$1=URL in the environment"
        # shellcheck disable=SC2317 # main calls them
        list_tests() { printf 'source\n'; }
        # shellcheck disable=SC2317
        ktest_init() { :; }
        return
    fi
    [[ ${2:-} != deps ]] || _suite_build
    _suite_disk
}

_suite_deps() {
    printf '%s\n' "${ktest_deps_dir:-${ktest_dir:-.}/deps}"
}

# The directory of the disks that are built here.
_suite_built() {
    printf '%s\n' "${ktest_build_dir:-$(_suite_deps)}"
}

# Declare the disk: the first of the VM after the root disk.
_suite_disk() {
    config-rw-image "${_suite_image:-$(_suite_built)/$suite_name.img}"
}

# Mount the disk in the guest: suite_mount DIR. Writes to it are discarded after the run.
suite_mount() {
    _ktest_disk_letters $((ktest_scratch_dev_base - 1))
    mkdir -p "$1"
    mountpoint -q "$1" || mount "/dev/vd$_ktest_letters" "$1"
}

# Set _suite_image to the disk of the current source, built if it does not exist. `deps` must not print anything else.
_suite_build() {
    local root sum work log lock
    root=$(_suite_built)
    sum=$(cd "$suite_source" && find . -name .git -prune -o -type f -printf '%P %s %T@\n' | LC_ALL=C sort | md5sum)
    _suite_image=$root/$suite_name-${sum:0:12}.img
    mkdir -p "$root"
    exec {lock}>"$root/.$suite_name.lock"
    # Several slots may build it at once.
    flock $lock
    if [[ ! -e $_suite_image ]]; then
        log=$root/$suite_name-build.log
        work=$(mktemp -d "$root/.$suite_name.XXXXXX")
        _ktest_try _suite_make "$work" >"$log" 2>&1
        rm -rf "$work/tree"
        if ((_ktest_status != 0)); then
            rm -rf "$work"
            _ktest_die "$suite_name does not build: $(_suite_complaint "$log") (build log: $log)"
        fi
        mv "$work/disk" "$_suite_image"
        rm -rf "$work"
        find "$root" -maxdepth 1 -name "$suite_name-*.img" ! -path "$_suite_image" -mtime +14 -delete
    fi
    touch "$_suite_image"
    exec {lock}>&-
}

_suite_complaint() {
    grep -m1 -E '^suite: ' "$1" | cut -c 8- | grep . || grep -m1 -E 'error:|Error [0-9]|FATAL|not found|cannot' "$1" || tail -n 1 "$1"
}

# Run a command in a sandbox in which only directory $1 is writable. Only for a developer's run: on a farm `deps` is already in one.
_suite_bwrap() {
    local entry root=()
    for entry in /usr /bin /sbin /lib /lib32 /lib64 /libx32 /etc/alternatives /etc/ld.so.cache; do
        if [[ -L $entry && $entry != /etc/* ]]; then
            root+=(--symlink "$(readlink "$entry")" "$entry")
        elif [[ -e $entry ]]; then
            root+=(--ro-bind "$entry" "$entry")
        fi
    done
    bwrap --unshare-all --die-with-parent --new-session --cap-drop ALL --clearenv --setenv PATH "$PATH" --setenv HOME /tmp \
        "${root[@]}" --dev /dev --proc /proc --tmpfs /tmp --bind "$1" "$1" --chdir "$1" "${@:2}"
}

# Build a copy of the source in directory $1, and create a disk from it.
_suite_make() {
    local size PATH=$PATH:/usr/sbin:/sbin jobs
    jobs=$(nproc)
    mkdir "$1/tree"
    (cd "$suite_source" && tar -c --exclude=./.git .) | tar -x -C "$1/tree"
    if ! suite_is_built "$1/tree"; then
        command -v make >/dev/null || { printf 'suite: make is not installed on this host\n' && return 1; }
        if _ktest_on "${ktest_sandboxed:-}"; then
            make -C "$1/tree" -j "$jobs"
        else
            _suite_bwrap "$1/tree" -- true ||
                { printf 'suite: the sandbox of the build needs bubblewrap; install it, or build manually: make -C %s\n' "$suite_source" && return 1; }
            _suite_bwrap "$1/tree" -- make -j "$jobs"
        fi
        suite_is_built "$1/tree" || { printf 'suite: make succeeded, but built nothing\n' && return 1; }
    fi
    # Unprivileged users of the guest run the programs.
    chmod -R go+rX "$1/tree"
    size=$(du -sm --apparent-size "$1/tree")
    size=$((${size%%[[:space:]]*} * 3 / 2 + 256))
    truncate -s "${size}M" "$1/disk"
    mke2fs -q -t ext4 -m 0 -E root_owner=0:0,lazy_itable_init=1 -d "$1/tree" "$1/disk"
}

# Save files with the results of the run, as NAME.SUBTEST.EXTENSION: suite_keep SUBTEST FILE...
suite_keep() {
    local file name to=${ktest_out:-.}/$suite_name
    mkdir -p "$to"
    for file in "${@:2}"; do
        name=${file##*/}
        # The end of a long file is the most useful part.
        [[ ! -s $file ]] || tail -c 1000000 "$file" >"$to/${1//\//.}.${name#*.}" || true
    done
}

# Skip the subtest if the guest lacks a program: suite_wants PACKAGE=PROGRAM...
suite_wants() {
    local want missing=() options=()
    for want; do
        command -v "${want#*=}" >/dev/null || { missing+=("${want#*=}") && options+=("--package ${want%%=*}"); }
    done
    ((${#missing[@]} == 0)) || ktest_skip "this root image lacks ${missing[*]}, which $suite_name needs;" \
        "use ktest run ${options[*]}, or set an image for the test group that has them"
}

# Set suite_difference to the first line of the actual output ($2) that is not in the expected output ($1), or else
# to the first expected line that is missing.
# shellcheck disable=SC2034 # used by the callers
suite_differs() {
    local difference line
    difference=$(diff -- "$1" "$2" || true)
    suite_difference="its output differs from the expected output"
    if line=$(grep -m1 '^> *[^ ]' <<<"$difference"); then
        suite_difference="it printed: ${line#> }"
    elif line=$(grep -m1 '^< *[^ ]' <<<"$difference"); then
        suite_difference="it did not print: ${line#< }"
    fi
}
