# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of prelude.sh
# The results of the kernel's own tests, which print KTAP, as verdicts of subtests. The guest passes the text to the
# runner and requests the verdict of each case in the subtest of that case; the runner reads the text (crates/ktap). A
# subtest that requests a verdict passes in the guest, whatever the runner's verdict is.

_ktest_ktap=${TMPDIR:-/tmp}/ktest-ktap

# Discard what was read before. Call it before ktap_read.
ktap_init() {
    rm -rf "$_ktest_ktap"
    mkdir -p "$_ktest_ktap"
    _ktest_mark "========= KTAP RESET"
}

# Whether a result has been read.
ktap_any() {
    [[ -e $_ktest_ktap/any ]]
}

# Read KTAP from standard input, also between other console lines and with stamps: ktap_read [GROUP]. A case is named SUITE/CASE
# if it is below a `# Subtest: SUITE`, else GROUP/CASE; a character that a name cannot contain becomes `_`.
ktap_read() {
    local line stamps='^(<[0-9]+>)?(\[ *[0-9]+\.[0-9]+\])?(\[ *[TC][0-9]+\])?' result='^[[:space:]]*(not )?ok [0-9]'
    mkdir -p "$_ktest_ktap"
    # Read everything first: each line passed on is added to the kernel's log, which may be the input.
    cat >"$_ktest_ktap/text"
    _ktest_unlimit_kmsg
    _ktest_mark "========= KTAP BEGIN ${1:-ktap}"
    while IFS= read -r line || [[ -n $line ]]; do
        [[ ! $line =~ $stamps || -z ${BASH_REMATCH[0]} ]] || { line=${line:${#BASH_REMATCH[0]}} && line=${line# }; }
        [[ ! $line =~ $result ]] || : >"$_ktest_ktap/any"
        _ktest_mark "KTAP| $line"
    done <"$_ktest_ktap/text"
    _ktest_mark "========= KTAP END"
}

# The result of a case becomes the verdict of this subtest: ktap_verdict GROUP/CASE REASON [skip|fail]. The reason and
# the word apply if the case was not printed (default: skip).
ktap_verdict() {
    _ktest_mark "========= KTAP CASE $1 ${3:-skip} $2"
}

# Fail if a case failed or has no result and its name is not on standard input.
ktap_unlisted() {
    local names at
    mapfile -t names
    for ((at = 0; at < ${#names[@]}; at += 6)); do
        _ktest_mark "========= KTAP LISTED ${names[*]:at:6}"
    done
    _ktest_mark "========= KTAP UNLISTED"
}

# Fail if a case of GROUP failed or has no result.
ktap_failed_case() {
    _ktest_mark "========= KTAP GROUP $1"
}
