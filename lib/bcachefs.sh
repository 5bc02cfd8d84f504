# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of prelude.sh and of the test file
# bcachefs with or without its tools. Without them a formatted, empty image is copied to the scratch device, and the
# kernel runs fsck at mount.

require-kernel-config BCACHEFS_FS,BCACHEFS_QUOTA,BCACHEFS_POSIX_ACL,QUOTA
require-kernel-config-soft BCACHEFS_DEBUG,CRYPTO_LZ4,CRYPTO_ZSTD,CRYPTO_DEFLATE

_bcachefs_images=0

# bcachefs-image NAME...: attach these images in addition to the scratch devices. Declare them before scratch devices
# are used. On the host each image is unpacked once, into $ktest_deps_dir.
bcachefs-image() {
    local name from=${ktest_bcachefs_images:-} to
    for name; do
        to=${ktest_deps_dir:-${TMPDIR:-/tmp}/ktest-deps}/bcachefs/$name.img
        if [[ ! -e $to && -n $from && -e $from/$name.img.zst ]]; then
            mkdir -p "${to%/*}"
            zstd -qdf --sparse -o "$to.$$" "$from/$name.img.zst" ||
                _ktest_die "$from/$name.img.zst cannot be unpacked into ${to%/*}"
            mv "$to.$$" "$to"
        fi
        if [[ ! -e $to ]]; then
            ktest_skip "no image $name.img.zst in ${from:-DIR}, and no tools to create one; set ktest_bcachefs_images=DIR"
            return
        fi
        config-image "$to"
        ((_bcachefs_images += 1))
    done
}

# Print the device of image N. Images come before the scratch devices.
bcachefs_image_dev() {
    _ktest_find_disk $((ktest_scratch_dev_base - _bcachefs_images + $1))
    bcachefs_image=$_ktest_disk
}

# Create an empty file system: bcachefs_format [OPTION...] DEVICE... Options need the tools.
bcachefs_format() {
    local options=() devices=() n
    for n; do [[ $n == -* ]] && options+=("$n") || devices+=("$n"); done
    if command -v bcachefs >/dev/null; then
        run_quiet format bcachefs format --force "${options[@]}" "${devices[@]}"
        return
    fi
    for n in "${!devices[@]}"; do
        bcachefs_image_dev "$n"
        dd if="$bcachefs_image" of="${devices[n]}" bs=1M conv=fsync status=none
    done
}

# bcachefs_mount OPTIONS DEVICE...: mount the devices at $mnt.
bcachefs_mount() {
    local how=$1 IFS=:
    shift
    # util-linux's mount takes several devices for the name of one file.
    mount -t bcachefs -o "$how" "$*" "$mnt"
}

# Run fsck in the kernel, without repair. An error that it would fix is a failure.
bcachefs_check() {
    local log
    if command -v bcachefs >/dev/null; then
        run_quiet fsck bcachefs fsck -n "$@"
        return
    fi
    bcachefs_mount ro,fsck,fix_errors=no "$@"
    umount "$mnt"
    log=$(kernel_log)
    [[ $log != *"fsck errors"* && $log != *", not fixing"* && $log != *"inconsistency detected"* ]] ||
        ktest_fail "fsck: $(grep -m1 -E 'not fixing|inconsistency|fsck errors' <<<"$log")"
}

# Subvolumes and quotas without the tools: perl, which every Debian system has, makes the system calls.
bcachefs_can_ask() { command -v bcachefs >/dev/null || command -v perl >/dev/null; }
bcachefs_can_quota() { command -v perl >/dev/null; }

# _bcachefs_ioctl NUMBER FLAGS TO [FROM]: a struct bch_ioctl_subvolume of fs/bcachefs/bcachefs_ioctl.h.
_bcachefs_ioctl() {
    # shellcheck disable=SC2016 # perl's variables
    perl -e '
        my ($number, $flags, $to, $from) = @ARGV;
        my $dir = defined $from ? $from : $to =~ s{/[^/]*$}{}r;
        open my $at, "<", $dir or die "$dir: $!\n";
        my $where = pack "p", $to;
        my $of = defined $from ? pack("p", $from) : pack("Q", 0);
        my $asked = pack("L l S x6", $flags, -100, 0777) . $where . $of;
        defined ioctl $at, 0x4020bc00 + $number, $asked or die "$to: $!\n"
    ' -- "$@"
}

# bcachefs_subvolume DIR
bcachefs_subvolume() {
    if command -v bcachefs >/dev/null; then
        run_quiet subvolume bcachefs subvolume create "$1"
    else
        _bcachefs_ioctl 16 0 "$1"
    fi
}

# bcachefs_snapshot [--read-only] SUBVOLUME DIR
bcachefs_snapshot() {
    local flags=1
    [[ $1 != --read-only ]] || { flags=3 && shift; }
    if command -v bcachefs >/dev/null; then
        local only=()
        ((flags == 1)) || only=(--read-only)
        run_quiet snapshot bcachefs subvolume snapshot "${only[@]}" "$1" "$2"
    else
        _bcachefs_ioctl 16 $flags "$2" "$1"
    fi
}

# bcachefs_subvolume_delete DIR
bcachefs_subvolume_delete() {
    if command -v bcachefs >/dev/null; then
        run_quiet delete bcachefs subvolume delete "$1"
    else
        _bcachefs_ioctl 17 0 "$1"
    fi
}

# bcachefs_quota USER-ID SIZE: limit a user's usage at $mnt, in bytes. (setquota of Debian 12 does not support bcachefs.)
bcachefs_quota() {
    # quotactl_fd(2) has the same number on all architectures except alpha. Q_SETQUOTA for users, with a struct if_dqblk
    # whose limits are valid.
    # shellcheck disable=SC2016 # perl's variables
    perl -e '
        my ($dir, $user, $bytes) = @ARGV;
        open my $at, "<", $dir or die "$dir: $!\n";
        my $limits = pack "Q8 L L", $bytes / 1024, $bytes / 1024, 0, 0, 0, 0, 0, 0, 1, 0;
        syscall(443, fileno $at, 0x800008 << 8, $user + 0, $limits) == 0 or die "quota of $user at $dir: $!\n"
    ' -- "$mnt" "$1" "$(numfmt --from=iec "$2")"
}
