# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of prelude.sh and of the test file
# bcachefs with and without its tools. Without them an empty file system comes from a ready image, which is copied onto
# the scratch device, and fsck is the kernel's, at mount.

require-kernel-config BCACHEFS_FS,BCACHEFS_QUOTA,BCACHEFS_POSIX_ACL,QUOTA
require-kernel-config-soft BCACHEFS_DEBUG,CRYPTO_LZ4,CRYPTO_ZSTD,CRYPTO_DEFLATE

_bcachefs_images=0

# The images of that name beside the scratch devices: bcachefs-image NAME... They must be declared before scratch
# devices are used. On the host each is unpacked once, into $ktest_deps_dir.
bcachefs-image() {
    local name from=${ktest_bcachefs_images:-$_ktest_libs/../../shared/data/bcachefs} to
    for name; do
        to=${ktest_deps_dir:-${TMPDIR:-/tmp}/ktest-deps}/bcachefs/$name.img
        if [[ ! -e $to && -e $from/$name.img.zst ]]; then
            mkdir -p "${to%/*}"
            zstd -qdf --sparse -o "$to.$$" "$from/$name.img.zst" ||
                _ktest_die "$from/$name.img.zst cannot be unpacked into ${to%/*}"
            mv "$to.$$" "$to"
        fi
        if [[ ! -e $to ]]; then
            ktest_skip "no image $name.img.zst in $from, and no way to make one; say ktest_bcachefs_images=DIR"
            return
        fi
        config-image "$to"
        ((_bcachefs_images += 1))
    done
}

# The device of image N: images are attached before the scratch devices.
bcachefs_image_dev() {
    _ktest_disk_letters $((ktest_scratch_dev_base - _bcachefs_images + $1))
    bcachefs_image=/dev/vd$_ktest_letters
}

# An empty file system on DEVICE...: bcachefs_format [OPTION...] DEVICE... Options need the tools.
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

# bcachefs_mount OPTIONS DEVICE...: mounts them at $mnt.
bcachefs_mount() {
    local how=$1 IFS=:
    shift
    # Not util-linux's mount: it takes several devices for a name that is not there.
    mount -t bcachefs -o "$how" "$*" "$mnt"
}

# fsck in the kernel: it says what it would mend, and that is a failure.
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

# Subvolumes and quotas without the tools: what they ask the kernel is asked with perl, which every Debian has.
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

# bcachefs_quota USER-ID SIZE: so much may a user have at $mnt, not a byte more. (setquota of Debian 12 knows no bcachefs.)
bcachefs_quota() {
    # quotactl_fd(2) has one number on all architectures but alpha; Q_SETQUOTA of users; a struct if_dqblk, its limits valid.
    # shellcheck disable=SC2016 # perl's variables
    perl -e '
        my ($dir, $user, $bytes) = @ARGV;
        open my $at, "<", $dir or die "$dir: $!\n";
        my $limits = pack "Q8 L L", $bytes / 1024, $bytes / 1024, 0, 0, 0, 0, 0, 0, 1, 0;
        syscall(443, fileno $at, 0x800008 << 8, $user + 0, $limits) == 0 or die "quota of $user at $dir: $!\n"
    ' -- "$mnt" "$1" "$(numfmt --from=iec "$2")"
}
