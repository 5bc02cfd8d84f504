# Tries to break out of the sandbox in the ways named by the arguments. Prints "NAME held" or "NAME broke" for each.
# shellcheck shell=bash

report() {
    local name=$1
    shift
    if "$@" >/dev/null 2>&1; then printf '%s broke\n' "$name"; else printf '%s held\n' "$name"; fi
}

remount() {
    mount -o remount,bind,rw /usr || mount -o remount,rw / || umount /usr
}

write() {
    local dir
    for dir in / /usr /etc /dev /proc/sys/kernel; do
        (: >"$dir/ktest-doctor") && { rm -f "$dir/ktest-doctor"; return 0; }
    done
    return 1
}

capabilities() {
    local name value
    while read -r name value; do
        case $name in CapPrm: | CapEff: | CapBnd:) [[ $value =~ ^0*$ ]] || return 0 ;; esac
    done </proc/self/status
    return 1
}

namespace() {
    unshare --user true
}

home() {
    [[ $TARGET_HOME != / ]] && ls -A "$TARGET_HOME"
}

state() {
    local dir
    for dir in /run /var /srv /home /root; do
        [[ ! -e $dir || $dir == "$TARGET_HOME" ]] || return 0
    done
    return 1
}

root() {
    local file
    for file in slabinfo vmallocinfo kcore kpagecount timer_list; do
        head -c 1 "/proc/$file" && return 0
    done
    return 1
}

sysctl() {
    : >>/proc/sys/kernel/core_pattern || : >>/proc/sys/kernel/hostname
}

device() {
    local mode file
    for file in /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty; do
        mode=$(stat -c %a "$file") && chmod "$mode" "$file" && return 0
    done
    return 1
}

# The first arguments are the numbers of keyctl and add_key on x86-64 and on others.
keyring() {
    perl -e '
        my ($keyctl, $add) = `uname -m` eq "x86_64\n" ? (250, 248) : (219, 217);
        my ($type, $name) = ("user", "ktest-doctor");
        exit(0) if syscall($keyctl, 0, -3, 0) >= 0 || syscall($add, $type, $name, "x", 1, -3) >= 0;
        exit(1)'
}

vsock() {
    perl -MSocket -e 'exit(socket(my $s, 40, SOCK_STREAM, 0) ? 0 : 1)'
}

lease() {
    perl -e 'open(my $f, "<", "/usr/bin/env") or exit 1; exit(fcntl($f, 1024, 0) ? 0 : 1)' ||
        perl -e 'open(my $f, ">", "/tmp/lease") or exit 1; exit(fcntl($f, 1024, 1) ? 0 : 1)'
}

file() {
    [[ $(readlink "/proc/self/fd/$TARGET_FD") == */target ]]
}

socket() {
    [[ -e $TARGET_SOCKET ]] && return 0
    perl -MSocket -e '
        socket(my $s, PF_UNIX, SOCK_STREAM, 0) or exit 1;
        exit(connect($s, pack_sockaddr_un("\0$ENV{TARGET_ABSTRACT}")) ? 0 : 1);'
}

network() {
    (: <>"/dev/tcp/127.0.0.1/$TARGET_PORT") || (($(grep -c : /proc/net/dev) > 1))
}

processes() {
    [[ $(<"/proc/$TARGET_PID/comm") == "$TARGET_COMM" ]]
}

for attempt; do report "$attempt" "$attempt"; done
