# shellcheck shell=bash
# Shared by the files of the flavors: a module with a bug, and a subtest before it.

config-mem 512M
config-timeout 60

# The exit status is ignored: some of these modules never stay loaded.
load() {
    modprobe -n "$1" || ktest_skip "this kernel has no $1"
    modprobe "$@" || true
}

test_before() { assert test -e /dev/null; }
