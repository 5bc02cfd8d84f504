# shellcheck shell=bash
# Shared by the files devices*.ktest: many disks on one bus. Disk N has N+1 MiB, so that its name can be checked.

# many_disks COUNT FIRST LAST: declare COUNT disks; FIRST and LAST are the names of the first and the last disk.
many_disks() {
    local size
    _disks=$1 _first=$2 _last=$3
    for ((size = 1; size <= _disks; size++)); do
        config-scratch-devs "${size}M"
    done
}

# shellcheck disable=SC2154 # prelude.sh sets ktest_scratch_dev
test_disks_have_their_names() {
    local at
    assert_eq "$_disks" "${#ktest_scratch_dev[@]}"
    assert_eq "$_first" "${ktest_scratch_dev[0]}"
    assert_eq "$_last" "${ktest_scratch_dev[-1]}"
    for at in "${!ktest_scratch_dev[@]}"; do
        assert_eq $(((at + 1) << 20)) "$(blockdev --getsize64 "${ktest_scratch_dev[at]}")"
    done
}
