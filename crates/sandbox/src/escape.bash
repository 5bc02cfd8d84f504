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
