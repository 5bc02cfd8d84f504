# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of prelude.sh
# Test suites that are not part of ktest-ci (xfstests, blktests). The source is on the host, is built there once for each
# version, and is attached to the guest as a disk. The source is one of
#   $ktest_deps_dir/NAME   a clone, or a link to one (for a farm)
#   $ktest_NAME            in the environment of `ktest run`: a directory, or a URL to clone
#   $ktest_suite_NAME      the directory that a farm with [suite.NAME] sets, `none` as long as it has no commit of the suite
# Without a source the file has one subtest, `source`, which is Not run with a reason that explains how to get the suite.
# No VM is started for it.

suite_source=
# A file SUBTEST.NAME in this directory becomes the artifact NAME of the subtest (docs/contract.md).
suite_artifacts=${ktest_out:-.}/artifacts
# The lists of the suite's programs and of those that its cases need but were not built, on its disk.
_suite_list=.ktest-programs
_suite_unbuilt_list=.ktest-unbuilt

# suite NAME "$@": find the suite; the other arguments are those of the call. Set suite_source on the host, to the empty
# string if there is no source.
suite() {
    local said=ktest_$1 farm=ktest_suite_$1
    suite_name=$1
    said=${!said:-}
    farm=${!farm:-}
    # The guest has only the disk.
    case ${2:-} in init | run-tests) _ktest_on "${ktest_no_vm:-}" || { _suite_disk && return; } ;; esac
    case $said in
    '')
        [[ $farm != none ]] || _ktest_die "the farm has not fetched $1 yet; [suite.$1] of its configuration says from where"
        suite_source=${farm:-$(_suite_deps)/$1}
        ;;
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
    _ktest_find_disk $((ktest_scratch_dev_base - 1))
    mkdir -p "$1"
    mountpoint -q "$1" || mount "$_ktest_disk" "$1"
    suite_check_programs "$1"
}

# Set _suite_image to the disk of the current source, built if it does not exist. `deps` must not print anything else.
_suite_build() {
    local root sum work log lock
    root=$(_suite_built)
    sum=$(cd "$suite_source" && find . -name .git -prune -o -type f -printf '%P %m %s %T@\n' | LC_ALL=C sort | md5sum)
    # The number changes with the content of a disk that this library makes.
    _suite_image=$root/$suite_name-3-${sum:0:12}.img
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

# Build a copy of the source in directory $1, and create a disk from it.
_suite_make() {
    local size PATH=$PATH:/usr/sbin:/sbin jobs
    jobs=$(nproc)
    mkdir "$1/tree"
    (cd "$suite_source" && tar -c --exclude=./.git .) | tar -x -C "$1/tree"
    if ! suite_is_built "$1/tree"; then
        command -v make >/dev/null || { printf 'suite: make is not installed on this host\n' && return 1; }
        # On a farm, this call is in the sandbox. Otherwise ktest starts it.
        if _ktest_on "${ktest_sandboxed:-}"; then
            make -C "$1/tree" -j "$jobs"
        elif [[ -n ${ktest_command:-} ]] && "$ktest_command" sandbox --writable "$1/tree" true; then
            "$ktest_command" sandbox --writable "$1/tree" make -j "$jobs"
        else
            printf 'suite: it is built by ktest, in a sandbox that needs bubblewrap (ktest doctor); or build it manually: make -C %s\n' \
                "$suite_source" && return 1
        fi
        suite_is_built "$1/tree" || { printf 'suite: make succeeded, but built nothing\n' && return 1; }
    fi
    # Unprivileged users of the guest run the programs.
    chmod -R go+rX "$1/tree"
    _suite_programs "$1/tree" >"$1/programs"
    mv "$1/programs" "$1/tree/$_suite_list"
    _suite_unbuilt "$1/tree" >"$1/unbuilt"
    mv "$1/unbuilt" "$1/tree/$_suite_unbuilt_list"
    size=$(du -sm --apparent-size "$1/tree")
    size=$((${size%%[[:space:]]*} * 3 / 2 + 256))
    truncate -s "${size}M" "$1/disk"
    mke2fs -q -t ext4 -m 0 -E root_owner=0:0,lazy_itable_init=1 -d "$1/tree" "$1/disk"
}

# Which programs of a suite start in the guest. One that does not start can make a case pass that tests nothing, so the guest
# checks all of them before the first case. The list is made on the host, where it takes no time of the guest.

# Set _suite_value to the number of N bytes at an offset of the ELF file whose bytes are in _suite_bytes.
_suite_number() {
    local byte at
    _suite_value=0
    for ((byte = 0; byte < $2; byte++)); do
        # The sixth byte of the file is 2 for big-endian numbers.
        at=$((_suite_bytes[5] == 2 ? $1 + $2 - 1 - byte : $1 + byte))
        _suite_value=$((_suite_value | ${_suite_bytes[at]:-0} << 8 * byte))
    done
}

# Set _suite_machine to the class, byte order and machine of an ELF program (elf(5)) and _suite_loader to its program
# interpreter, or to `-` if it is static. Both are empty if the file is no program: a script, a shared library.
_suite_elf() {
    local width header size count type
    _suite_machine='' _suite_loader=-
    mapfile -t _suite_bytes < <(od -An -v -tu1 -w1 -N 4096 "$1")
    [[ ${_suite_bytes[*]:0:4} =~ ^\ *127\ +69\ +76\ +70$ ]] || return 0
    if ((_suite_bytes[4] == 2)); then width=8; else width=4; fi
    _suite_number 16 2 && type=$_suite_value
    # e_phoff, e_phentsize, e_phnum
    _suite_number $((width == 8 ? 32 : 28)) $width && header=$_suite_value
    _suite_number $((width == 8 ? 54 : 42)) 2 && size=$_suite_value
    _suite_number $((width == 8 ? 56 : 44)) 2 && count=$_suite_value
    for (( ; count > 0; count--, header += size)); do
        _suite_number "$header" 4
        # PT_INTERP
        ((_suite_value == 3)) || continue
        _suite_number $((header + width)) $width
        # Its name ends in NUL.
        IFS= read -r -d '' _suite_loader < <(tail -c +$((_suite_value + 1)) "$1" || true) || _suite_loader=damaged
        break
    done
    # ET_EXEC; a shared library is ET_DYN without a loader.
    [[ $type == 2 || $_suite_loader != - ]] || return 0
    _suite_number 18 2
    _suite_machine=$((_suite_bytes[4])).$((_suite_bytes[5])).$_suite_value
}

# Print the programs below a directory: `MACHINE LOADER PATH`, for a script `script INTERPRETER PATH`. Of the scripts with
# the same interpreter only the first one is listed. A suite has thousands of scripts, so no process is started for each.
_suite_programs() {
    local file line interpreter mentioned
    local -A seen=()
    mentioned=$(_suite_texts "$1" | xargs -0r cat | tr -d '\0')
    while IFS= read -r -d '' file; do
        _suite_elf "$1/$file"
        [[ -z $_suite_machine ]] || printf '%s %s %s\n' "$_suite_machine" "$_suite_loader" "$file"
    done < <(_suite_executables "$1" | (cd "$1" && { LC_ALL=C xargs -0r grep -lZaF $'\x7fELF' || true; }) | LC_ALL=C sort -z)
    # shellcheck disable=SC2016 # awk's own variables
    while IFS=$'\t' read -r file line; do
        _suite_interpreter "$line"
        interpreter=$_suite_value
        [[ -n $interpreter && -z ${seen[$interpreter]:-} ]] || continue
        # Developers' tools, which no case needs, may have another interpreter.
        [[ $file == check || $file == tests/* || $mentioned == *"${file##*/}"* ]] || continue
        seen[$interpreter]=1
        printf 'script %s %s\n' "$interpreter" "$file"
    done < <(_suite_executables "$1" | LC_ALL=C sort -z | (cd "$1" && LC_ALL=C xargs -0r awk \
        'FNR == 1 && /^#!/ { gsub(/\t/, " "); print FILENAME "\t" substr($0, 1, 256) }'))
}

# Print the executable files below a directory. NUL ends each name.
_suite_executables() {
    find "$1" -type f -perm /111 -printf '%P\0'
}

# Print the files that start programs: the runner, its functions and the cases. NUL ends each name.
_suite_texts() {
    find "$1/check" "$1/common" "$1/tests" -type f ! -name '*.out*' -print0 2>/dev/null || true
}

# Set _suite_value to the interpreter in the first line of a script, or the name of the program if env(1) looks it up, empty
# if there is none. Blanks in it are not supported.
_suite_interpreter() {
    local words word
    _suite_value=
    read -r -a words <<<"${1#'#!'}"
    ((${#words[@]} > 0)) || return 0
    # The kernel takes a carriage return as a part of the name.
    if [[ ${words[0]} != */env ]]; then
        printf -v _suite_value %q "${words[0]}"
        return
    fi
    for word in "${words[@]:1}"; do
        [[ $word == -* || $word == *=* ]] || { printf -v _suite_value %q "$word" && return; }
    done
}

# Print the programs that were not built although there is a source file for them, with the cases that need them:
# `GROUP/CASE PROGRAM`. A suite skips these cases.
_suite_unbuilt() {
    local file
    { find "$1/src" "$1/ltp" -name '*.c' -printf '%P\n' 2>/dev/null || true; } | while IFS= read -r file; do
        [[ -x $1/src/${file%.c} || -x $1/ltp/${file%.c} ]] || printf '%s\n' "${file%.c}"
    done | sort -u >"$1.unbuilt"
    [[ -s $1.unbuilt ]] || { rm "$1.unbuilt" && return; }
    # shellcheck disable=SC2016 # awk's own variables
    # A case names a program in a path or as an argument of the function that looks for it.
    find "$1/tests" -mindepth 2 -type f -name '[0-9]*[0-9]' -printf '%P\0' 2>/dev/null | (cd "$1/tests" && xargs -0r awk '
        NR == FNR { path = $0; sub(/.*\//, ""); unbuilt[$0] = path; next }
        FNR == 1 { split("", seen) }
        /^[ \t]*#/ { next }
        {
            asks = /_require_(test_program|aiodio)|_have_src_program/
            count = split($0, words, /[^A-Za-z0-9_.\/-]+/)
            for (at = 1; at <= count; at++) {
                word = words[at]
                if (!asks && word !~ /(^|\/)(src|ltp)\//) continue
                sub(/.*\//, "", word)
                if (word in unbuilt && !seen[word]++) print FILENAME, unbuilt[word]
            }
        }' "$1.unbuilt") | LC_ALL=C sort
    rm -f "$1.unbuilt"
}

# Set _suite_fault to the reason why a program does not start on this system, empty if it starts: MACHINE LOADER FILE.
# The program itself does not run: its loader only lists its libraries.
_suite_starts() {
    local own=$_suite_own said status=0
    _suite_fault=
    if [[ $1 == script ]]; then
        type -P -- "$2" >/dev/null || _suite_fault="there is no $2"
        return 0
    fi
    case $own/$1 in
    "$1/$1") ;;
    # 32-bit programs of x86 and arm, if the kernel runs them.
    2.1.62/1.1.3 | 2.1.183/1.1.40) [[ $2 != - ]] || return 0 ;;
    *) _suite_fault="it is a program of another machine (ELF $1, this system is $own)" && return ;;
    esac
    [[ $2 != - ]] || return 0
    [[ -x $2 ]] || { _suite_fault="there is no $2" && return; }
    # Of a version that is missing the loader prints an error and ends with success.
    said=$("$2" --list "$3" 2>&1) || status=$?
    ((status != 0)) || [[ $said =~ (not found|Error (loading|relocating)|error while loading) ]] || return 0
    said=$(grep -m1 -E 'not found|[Ee]rror' <<<"$said" || head -n 1 <<<"$said")
    said=${said#"${said%%[![:space:]]*}"}
    _suite_fault=${said#"$3: "}
    _suite_fault=${_suite_fault:-$2 --list ends with exit code $status}
}

# End the call if a program of the suite in directory $1 does not start.
suite_check_programs() {
    local machine loader file bad=() list=$1/$_suite_list
    [[ -e $list ]] || _ktest_die "$suite_name: its disk has no $_suite_list; remove the disk, it is built again"
    _suite_elf "$BASH"
    _suite_own=$_suite_machine
    while read -r machine loader file; do
        _suite_starts "$machine" "$loader" "$1/$file"
        [[ -z $_suite_fault ]] || bad+=("$file: $_suite_fault")
    done <"$list"
    ((${#bad[@]} > 0)) || { suite_check_built "$1" && return; }
    printf '%s\n' "${bad[@]}"
    _ktest_die "${#bad[@]} of the programs of $suite_name cannot start in this root image: ${bad[0]}; install what is missing" \
        "(ktest run --package NAME), or build $suite_name on the system of the image"
}

# End the call if a case of this run needs a program that was not built. The suite would skip the case.
suite_check_built() {
    local name program missing=() cases=() wanted=" ${ktest_tests:-} "
    while read -r name program; do
        [[ $wanted == *" $name "* ]] || continue
        [[ " ${missing[*]} " == *" $program "* ]] || missing+=("$program")
        [[ " ${cases[*]} " == *" $name "* ]] || cases+=("$name")
    done <"$1/$_suite_unbuilt_list"
    ((${#missing[@]} > 0)) || return 0
    name=${cases[*]//\//.}
    _ktest_die "${#cases[@]} of the cases need programs of $suite_name that were not built: ${missing[*]}; install the libraries" \
        "that these need and build $suite_name again, or leave out the cases: ktest_${suite_name}_exclude=${name// /+}"
}

# Save files as artifacts of a subtest: suite_keep SUBTEST FILE...
suite_keep() {
    local file name last=${1##*/}
    mkdir -p "$suite_artifacts"
    # Where earlier versions put them.
    [[ -e ${ktest_out:-.}/$suite_name ]] || ln -s "${suite_artifacts##*/}" "${ktest_out:-.}/$suite_name" || true
    for file in "${@:2}"; do
        name=${file##*/}
        name=${name#"$last."}
        # The end of a long file is the most useful part.
        [[ ! -s $file ]] || tail -c 1000000 "$file" >"$suite_artifacts/${1//\//.}.$name" || true
    done
}

# End the call because of a name that does not exist, with the nearest of the names on standard input:
# suite_unknown WHAT NAME. WHAT says where the name is.
suite_unknown() {
    local nearest
    # The number of characters to insert, remove or replace.
    # shellcheck disable=SC2016 # awk's own variables
    nearest=$(LC_ALL=C sort -u | awk -v to="$2" '
        NF {
            n = length($1)
            m = length(to)
            for (j = 0; j <= m; j++) row[j] = j
            for (i = 1; i <= n; i++) {
                corner = row[0]
                row[0] = i
                for (j = 1; j <= m; j++) {
                    cost = corner + (substr($1, i, 1) != substr(to, j, 1))
                    corner = row[j]
                    if (row[j] + 1 < cost) cost = row[j] + 1
                    if (row[j - 1] + 1 < cost) cost = row[j - 1] + 1
                    row[j] = cost
                }
            }
            print row[m], $1
        }' | sort -n | awk 'NR <= 5 { printf "%s%s", (NR > 1 ? ", " : ""), $2 }')
    _ktest_die "$1: there is no $2; the nearest names: ${nearest:-none}"
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
