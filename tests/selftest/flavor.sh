# shellcheck shell=bash
# What the files of the flavors share: a module that does wrong, and a subtest before it.

config-mem 512M
config-timeout 60

# Its end is of no interest: some of these tests never stay.
load() {
    modprobe -n "$1" || ktest_skip "this kernel has no $1"
    modprobe "$@" || true
}

test_before() { assert test -e /dev/null; }
