# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of the test file
# Checks that every file system must pass, for files that run them on variants of a file system. A subtest is
# VARIANT/CHECK. The file defines
#   fs_variants      print the names of the variants
#   fs_make VARIANT  create a file system on $dev
#   fs_mount         mount it at $mnt, with the options of the variant created last ($fs_variant)
#   fs_check         check the unmounted file system; fail on any error
#   fs_skip SUBTEST  call ktest_skip for a check that a variant does not support (optional)
# and sets dev, mnt, and, if only some checks apply, fs_checks.

fs_checks=(write remount truncate fallocate punch rename large_directory xattr links mapped enospc stress)

list_tests() {
    local variant check
    for variant in $(fs_variants); do
        for check in "${fs_checks[@]}"; do printf '%s/%s\n' "$variant" "$check"; done
    done
}

fs_skip() {
    :
}

run_test() {
    fs_skip "$1"
    fs_variant=${1%%/*}
    fs_make "$fs_variant"
    fs_mount
    "fs_check_${1#*/}"
    fs_finish
}

# Unmount and check.
fs_finish() {
    ! mountpoint -q "$mnt" || umount "$mnt"
    fs_check
}

fs_remount() {
    umount "$mnt"
    fs_mount
}

# Print text whose lines differ: fs_text FIRST LAST
fs_text() {
    seq -f 'line %.0f of the text' "$1" "$2"
}

fs_check_write() {
    local sums
    mkdir -p "$mnt/a/b/c"
    fs_text 1 20000 >"$mnt/a/large"
    fs_text 1 3 >"$mnt/a/b/small"
    : >"$mnt/a/b/c/empty"
    ln -s ../large "$mnt/a/b/symlink"
    printf 'more\n' >>"$mnt/a/b/small"
    sums=$(cd "$mnt/a" && md5sum large b/small b/c/empty b/symlink)
    fs_remount
    assert_eq "$sums" "$(cd "$mnt/a" && md5sum large b/small b/c/empty b/symlink)"
    assert_eq "$(fs_text 1 20000 | md5sum)" "$(md5sum <"$mnt/a/large")" "content after a remount"
}

fs_check_remount() {
    printf 'first\n' >"$mnt/file"
    mount -o remount,ro "$mnt"
    assert_fails touch "$mnt/new"
    assert_fails rm "$mnt/file"
    assert_eq first "$(<"$mnt/file")"
    mount -o remount,rw "$mnt"
    printf 'second\n' >"$mnt/file"
    fs_remount
    assert_eq second "$(<"$mnt/file")"
}

fs_check_truncate() {
    fs_text 1 20000 >"$mnt/file"
    fs_text 1 20000 | head -c 100001 >/tmp/wanted || true
    truncate -s 100001 "$mnt/file"
    # Truncated data must not reappear.
    truncate -s 300000 "$mnt/file" /tmp/wanted
    assert_same /tmp/wanted "$mnt/file"
    fs_remount
    assert_same /tmp/wanted "$mnt/file"
}

fs_check_fallocate() {
    fallocate -l 4M "$mnt/file"
    assert_eq $((4 << 20)) "$(stat -c %s "$mnt/file")" size
    assert_same <(head -c 4M /dev/zero) "$mnt/file"
    fs_text 1 1000 >/tmp/part
    : >/tmp/wanted
    truncate -s 4M /tmp/wanted
    dd if=/tmp/part of="$mnt/file" bs=4k seek=300 conv=notrunc status=none
    dd if=/tmp/part of=/tmp/wanted bs=4k seek=300 conv=notrunc status=none
    fs_remount
    assert_same /tmp/wanted "$mnt/file"
    rm /tmp/part /tmp/wanted
}

fs_check_punch() {
    local at
    fs_text 1 60000 >/tmp/wanted
    cp /tmp/wanted "$mnt/file"
    for at in 65536+131072 300000+5000 400001+1; do
        fallocate --punch-hole -o "${at%+*}" -l "${at#*+}" "$mnt/file"
        head -c "${at#*+}" /dev/zero |
            dd of=/tmp/wanted bs=64k seek="${at%+*}" oflag=seek_bytes conv=notrunc iflag=fullblock status=none
    done
    assert_same /tmp/wanted "$mnt/file"
    fs_remount
    assert_same /tmp/wanted "$mnt/file"
}

_fs_to_and_fro() {
    local round
    for ((round = 0; round < 3; round++)); do
        mv -f -t "$mnt/right" "$mnt/left/$1"*
        mv -f -t "$mnt/left" "$mnt/right/$1"*
    done
}

# Two processes move files between the same directories; then a directory moves into another.
fs_check_rename() {
    local n one other wrong=0
    mkdir "$mnt/left" "$mnt/right"
    for ((n = 100; n < 180; n++)); do
        printf 'a%d\n' "$n" >"$mnt/left/a$n"
        printf 'b%d\n' "$n" >"$mnt/left/b$n"
    done
    _fs_to_and_fro a &
    one=$!
    _fs_to_and_fro b &
    other=$!
    wait $one
    wait $other
    mv "$mnt/right" "$mnt/left/inner"
    mv "$mnt/left/inner" "$mnt/right"
    fs_remount
    for ((n = 100; n < 180; n++)); do
        [[ $(<"$mnt/left/a$n") == a$n && $(<"$mnt/left/b$n") == b$n ]] || ((wrong += 1))
    done
    assert_eq 0 $wrong "files with the content of another file"
}

fs_check_large_directory() {
    local n missing=0
    mkdir "$mnt/dir"
    for ((n = 0; n < 1500; n++)); do
        : >"$mnt/dir/an-entry-with-a-rather-long-name-$n"
    done
    fs_remount
    for ((n = 0; n < 1500; n += 7)); do
        [[ -e $mnt/dir/an-entry-with-a-rather-long-name-$n ]] || ((missing += 1))
    done
    assert_eq 0 $missing "entries that cannot be looked up"
    assert_eq 1500 "$(find "$mnt/dir" -type f | wc -l)" entries
    rm "$mnt/dir/"*[13579]
    assert_eq 750 "$(find "$mnt/dir" -type f | wc -l)" "entries left"
}

fs_check_xattr() {
    local n large
    : >"$mnt/file"
    # Together they fit into a block of 1 KiB.
    printf -v large '%0500d' 7
    setfattr -n user.large -v "$large" "$mnt/file"
    for ((n = 0; n < 8; n++)); do
        setfattr -n user.attribute$n -v "value $n" "$mnt/file"
    done
    setfattr -n user.attribute3 -v changed "$mnt/file"
    setfattr -x user.attribute4 "$mnt/file"
    fs_remount
    assert_eq "$large" "$(getfattr --only-values -n user.large "$mnt/file")" user.large
    assert_eq changed "$(getfattr --only-values -n user.attribute3 "$mnt/file")" user.attribute3
    assert_fails getfattr --only-values -n user.attribute4 "$mnt/file"
    assert_eq 8 "$(getfattr "$mnt/file" 2>/dev/null | grep -c '^user\.')" attributes
}

# Hard links, and a file that is removed while it is open.
fs_check_links() {
    local n held
    fs_text 1 5000 >"$mnt/file"
    for ((n = 0; n < 30; n++)); do ln "$mnt/file" "$mnt/link$n"; done
    assert_eq 31 "$(stat -c %h "$mnt/file")" links
    exec {held}<>"$mnt/link0"
    rm "$mnt/file" "$mnt"/link*
    assert_eq "$(fs_text 1 5000 | md5sum)" "$(md5sum </proc/self/fd/"$held")" "an unlinked open file"
    exec {held}>&-
    assert_eq 0 "$(find "$mnt" -name 'link*' | wc -l)" "names left"
}

# Direct, buffered and mapped access have the same content.
fs_check_mapped() {
    fs_text 1 30000 >/tmp/wanted
    truncate -s %65536 /tmp/wanted
    dd if=/tmp/wanted of="$mnt/file" bs=64k oflag=direct status=none
    assert_same /tmp/wanted "$mnt/file"
    xfs_io -c "mmap -rw 0 128k" -c "mwrite -S 0x5a 4000 70000" -c "msync -s 0 128k" "$mnt/file"
    xfs_io -c "pwrite -q -S 0x5a 4000 70000" /tmp/wanted
    assert_same /tmp/wanted <(dd if="$mnt/file" bs=64k iflag=direct status=none)
    fs_remount
    assert_same /tmp/wanted "$mnt/file"
}

# A full file system returns ENOSPC, keeps its content, and accepts writes after space is freed. The data does not
# compress.
fs_check_enospc() {
    local n
    printf 'kept\n' >"$mnt/kept"
    sync -f "$mnt"
    for ((n = 0; n < 64; n++)); do
        dd if=/dev/urandom of="$mnt/filler$n" bs=256k count=64 conv=fsync status=none 2>/dev/null || break
    done
    assert_le "$n" 63 "16 MiB files that fit"
    assert_eq kept "$(<"$mnt/kept")"
    rm "$mnt"/filler*
    sync -f "$mnt"
    fs_text 1 20000 >"$mnt/again"
    fs_remount
    assert_eq "$(fs_text 1 20000 | md5sum)" "$(md5sum <"$mnt/again")" "a file written after the device was full"
}

_fs_worker() {
    local n at=$mnt/worker$1
    mkdir "$at"
    for ((n = 0; n < 25; n++)); do
        fs_text "$n" $((n + 300)) >"$at/$n"
        ((n % 3 != 0)) || truncate -s $((n * 100)) "$at/$n"
        ((n % 5 != 0)) || mv "$at/$n" "$at/moved$n"
        ((n % 7 != 0)) || sync "$at"
        ((n % 4 != 0 || n == 0)) || rm -f "$at/$((n - 1))"
    done
}

# Several processes write, truncate, move, sync and remove at once; afterwards all have the same content.
fs_check_stress() {
    local n pids=() sums
    for ((n = 0; n < 4; n++)); do
        _fs_worker $n &
        pids+=($!)
    done
    for n in "${pids[@]}"; do wait "$n"; done
    fs_remount
    for ((n = 0; n < 4; n++)); do
        sums=$(cd "$mnt/worker$n" && md5sum -- * | md5sum)
        assert_eq "$(cd "$mnt/worker0" && md5sum -- * | md5sum)" "$sums" "files of worker $n"
    done
}

# A crash: no write reaches the device, and the next mount recovers. For file systems that support shutdown.
fs_check_crash() {
    local n
    fs_text 1 30000 | dd of="$mnt/synced" bs=64k conv=fsync status=none
    mkdir "$mnt/dir"
    for ((n = 0; n < 100; n++)); do printf '%s\n' "$n" >"$mnt/dir/$n"; done
    sync -f "$mnt"
    fs_text 1 30000 >"$mnt/unsynced"
    xfs_io -x -c shutdown "$mnt"
    assert_fails touch "$mnt/after"
    umount "$mnt"
    fs_mount
    assert_eq "$(fs_text 1 30000 | md5sum)" "$(md5sum <"$mnt/synced")" "a file that was fsynced before the crash"
    assert_eq 100 "$(find "$mnt/dir" -type f | wc -l)" "files that were synced"
    assert_eq 99 "$(<"$mnt/dir/99")"
}
