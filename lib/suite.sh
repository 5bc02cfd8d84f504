# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of prelude.sh
# Test suites that others write and ktest-ci does not carry (xfstests, blktests): found on the host, built there once for
# each state of the source, and given to the guest as a disk. Their source is
#   $ktest_deps_dir/NAME   a clone, or a link to one; what a farm uses,
#   $ktest_NAME            in the environment of `ktest run`: a folder, or a repository's URL to clone from.
# Where there is none the file's one subtest, `source`, is Not run and says how to get it; no machine is started for that.

suite_source=

# suite NAME "$@": with the call's arguments. Sets suite_source on the host, to nothing if there is none.
suite() {
    local said=ktest_$1
    suite_name=$1
    said=${!said:-}
    # In the guest there is only the disk.
    case ${2:-} in init | run-tests) _ktest_on "${ktest_no_vm:-}" || { _suite_disk && return; } ;; esac
    case $said in
    '') suite_source=$(_suite_deps)/$1 ;;
    *://*)
        require-git "$said" "$1"
        suite_source=$(_suite_deps)/$1
        ;;
    /*) suite_source=$said ;;
    *) _ktest_die "ktest_$1=$said is neither a URL nor a folder's whole path" ;;
    esac
    if [[ ! -x $suite_source/check || ! -d $suite_source/tests ]]; then
        [[ -z $said ]] || _ktest_die "ktest_$1=$said: no $1 there (its program check and its folder tests)"
        suite_source=
        config-mem 128M
        config-no-vm
        ktest_skip "there is no source of $1 on this host: clone it to $(_suite_deps)/$1 (or link it there), or say" \
            "ktest_$1=FOLDER or ktest_$1=URL in the environment"
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

# Declares the disk; the first of the machine beside its root.
_suite_disk() {
    config-rw-image "${_suite_image:-$(_suite_deps)/$suite_name.img}"
}

# Mounts it in the guest: suite_mount DIR. What is written to it is gone after the run.
suite_mount() {
    _ktest_disk_letters $((ktest_scratch_dev_base - 1))
    mkdir -p "$1"
    mountpoint -q "$1" || mount "/dev/vd$_ktest_letters" "$1"
}

# Sets _suite_image to the disk of the source as it is now, made if it is not there. `deps` may print nothing of its own.
_suite_build() {
    local root sum work log lock
    root=$(_suite_deps)
    sum=$(cd "$suite_source" && find . -name .git -prune -o -type f -printf '%P %s %T@\n' | LC_ALL=C sort | md5sum)
    _suite_image=$root/$suite_name-${sum:0:12}.img
    mkdir -p "$root"
    exec {lock}>"$root/.$suite_name.lock"
    # Several slots may want it at once.
    flock $lock
    if [[ ! -e $_suite_image ]]; then
        log=$root/$suite_name-build.log
        work=$(mktemp -d "$root/.$suite_name.XXXXXX")
        _ktest_try _suite_make "$work" >"$log" 2>&1
        rm -rf "$work/tree"
        if ((_ktest_status != 0)); then
            rm -rf "$work"
            _ktest_die "$suite_name does not build: $(_suite_complaint "$log") (all of it: $log)"
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

# Builds a copy and makes a disk of it, both in folder $1.
_suite_make() {
    local size PATH=$PATH:/usr/sbin:/sbin jobs
    jobs=$(nproc)
    mkdir "$1/tree"
    (cd "$suite_source" && tar -c --exclude=./.git .) | tar -x -C "$1/tree"
    if ! suite_is_built "$1/tree"; then
        command -v make >/dev/null || { printf 'suite: there is no make on this host\n' && return 1; }
        bwrap --ro-bind / / --dev /dev -- true ||
            { printf 'suite: it is built in a sandbox, which needs bubblewrap; or build it yourself: make -C %s\n' "$suite_source" && return 1; }
        bwrap --die-with-parent --unshare-net --unshare-pid --unshare-ipc --ro-bind / / --dev /dev --proc /proc \
            --tmpfs /tmp --tmpfs /root --tmpfs /home --bind "$1/tree" "$1/tree" --chdir "$1/tree" --setenv HOME /tmp \
            -- make -j "$jobs"
        suite_is_built "$1/tree" || { printf 'suite: make ended well, but built nothing\n' && return 1; }
    fi
    # Unprivileged users of the guest run what is there.
    chmod -R go+rX "$1/tree"
    size=$(du -sm --apparent-size "$1/tree")
    size=$((${size%%[[:space:]]*} * 3 / 2 + 256))
    truncate -s "${size}M" "$1/disk"
    mke2fs -q -t ext4 -m 0 -E root_owner=0:0,lazy_itable_init=1 -d "$1/tree" "$1/disk"
}

# Keeps FILE... with the run's result, as NAME.SUBTEST.ENDING: suite_keep SUBTEST FILE...
suite_keep() {
    local file name to=${ktest_out:-.}/$suite_name
    mkdir -p "$to"
    for file in "${@:2}"; do
        name=${file##*/}
        # The end of it tells most.
        [[ ! -s $file ]] || tail -c 1000000 "$file" >"$to/${1//\//.}.${name#*.}" || true
    done
}

# What the guest must have, or the subtest is Not run: suite_wants PACKAGE=PROGRAM...
suite_wants() {
    local want missing=() options=()
    for want; do
        command -v "${want#*=}" >/dev/null || { missing+=("${want#*=}") && options+=("--package ${want%%=*}"); }
    done
    ((${#missing[@]} == 0)) || ktest_skip "this root image lacks ${missing[*]}, which $suite_name needs;" \
        "say ktest run ${options[*]}, or give the test group an image that has them"
}

# Sets suite_difference to the first line that is in what was printed ($2) and not in what should be ($1), or the other
# way round.
# shellcheck disable=SC2034 # for who calls
suite_differs() {
    local difference line
    difference=$(diff -- "$1" "$2" || true)
    suite_difference="its output is not what it should be"
    if line=$(grep -m1 '^> *[^ ]' <<<"$difference"); then
        suite_difference="it printed: ${line#> }"
    elif line=$(grep -m1 '^< *[^ ]' <<<"$difference"); then
        suite_difference="it did not print: ${line#< }"
    fi
}
