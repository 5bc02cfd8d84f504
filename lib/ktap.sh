# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of prelude.sh
# The results of the kernel's own tests, which print KTAP, as verdicts of subtests. A program or a boot is read once;
# what it said of each case is kept in a file of its own until the machine ends, so that every case can have its
# verdict when its turn comes. The format's subtleties are told in crates/ktap; here is what fits into awk.

_ktest_ktap=${TMPDIR:-/tmp}/ktest-ktap

# Forgets all results.
ktap_init() {
    rm -rf "$_ktest_ktap"
    mkdir -p "$_ktest_ktap"
}

# Whether a result has been read.
ktap_any() {
    compgen -G "$_ktest_ktap/*,?*" >/dev/null
}

# Reads KTAP from standard input, a console's other lines and stamps included: ktap_read [GROUP]. A case is named
# SUITE/CASE if it stands below a `# Subtest: SUITE`, else GROUP/CASE; what a name may not hold is `_` in it. Deeper
# levels belong to their case's log.
ktap_read() {
    mkdir -p "$_ktest_ktap"
    awk -v dir="$_ktest_ktap" -v group="${1:-ktap}" '
        function clean(name) {
            gsub(/[^A-Za-z0-9_.:+-]+/, "_", name)
            sub(/^[_.]+/, "", name)
            sub(/_+$/, "", name)
            gsub("/", "_", name)
            return name == "" ? "unnamed" : substr(name, 1, 100)
        }
        function indent_of(text,    n, i) {
            n = 0
            for (i = 1; i <= length(text); i++) n += substr(text, i, 1) == "\t" ? 4 : 1
            return n
        }
        function state(name, word,    file) {
            file = dir "/" name ","
            print word > file
            close(file)
        }
        function record(where, ok, rest,    name, reason, status, file, words) {
            words = ""
            if (match(rest, /(^| )# *[A-Za-z]+[^#]*$/)) {
                words = substr(rest, RSTART)
                sub(/^ *# */, "", words)
                if (words ~ /^([Ss][Kk][Ii][Pp]|TODO|XFAIL|TIMEOUT|ERROR|exit=)/) rest = substr(rest, 1, RSTART - 1)
                else words = ""
            }
            name = clean(rest)
            reason = words
            if (words ~ /^[Ss][Kk][Ii][Pp]/) {
                status = "NOTRUN"
                sub(/^[A-Za-z]+:? */, "", reason)
            } else if (!ok && words ~ /^(TODO|XFAIL)/) {
                status = "NOTRUN"
                reason = "known to fail: " words
            } else status = ok ? "PASSED" : "FAILED"
            if (status == "FAILED" && reason == "") reason = telling
            file = dir "/" where "," name
            printf "%s %s\n%s", status, reason, log_text > file
            close(file)
            log_text = telling = ""
        }
        {
            line = $0
            sub(/\r$/, "", line)
            while (match(line, /^(<[0-9]+>|\[ *[0-9]+\.[0-9]+\]|\[ *[TC][0-9]+\]) ?/)) line = substr(line, RLENGTH + 1)
            match(line, /^[ \t]*/)
            indent = indent_of(substr(line, 1, RLENGTH))
            text = substr(line, RLENGTH + 1)
            if (text ~ /^# Subtest: /) {
                if (suite == "" || indent <= suite_indent) {
                    suite = clean(substr(text, 12))
                    suite_indent = indent
                    state(suite, "begun")
                    log_text = telling = ""
                    next
                }
            } else if (text ~ /^(not )?ok [0-9]+( |$)/) {
                ok = text !~ /^not /
                rest = text
                sub(/^(not )?ok [0-9]+ ?(- )?/, "", rest)
                if (suite != "" && indent < suite_indent) {
                    state(suite, "ended")
                    suite = log_text = telling = ""
                    next
                }
                if (suite == "" && indent == 0) { record(clean(group), ok, rest); next }
                if (suite != "" && indent == suite_indent) { record(suite, ok, rest); next }
            } else if (text ~ /^K?TAP version [0-9]+$/ || text ~ /^1\.\.[0-9]+/) next
            if (telling == "" && text ~ /EXPECTATION FAILED|ASSERTION FAILED|[Ee]xpected .*[=<>]|rror:/) {
                telling = text
                sub(/^# */, "", telling)
                telling = substr(telling, 1, 300)
            }
            if (length(log_text) < 60000) log_text = log_text "| " line "\n"
        }'
}

# What was said of NAME becomes the verdict of this subtest: ktap_verdict GROUP/CASE WHY-IT-MAY-BE-MISSING
ktap_verdict() {
    local case=${1#"${1%%/*}"/} group=${1%%/*} status reason word=
    # GROUP may have folders of its own; the case is what stands behind the last.
    [[ $case != */* ]] || { group=${1%/*} && group=${group//\//_} && case=${1##*/}; }
    if [[ ! -e $_ktest_ktap/$group,$case ]]; then
        [[ ! -e $_ktest_ktap/$group, ]] || read -r word <"$_ktest_ktap/$group,"
        [[ $word != begun ]] || ktest_fail "$group ended before it had come to this case"
        ktest_skip "$2"
    fi
    {
        read -r status reason
        cat
    } <"$_ktest_ktap/$group,$case"
    case $status in
    PASSED) ;;
    NOTRUN) ktest_skip "${reason:-it says that it does not apply here}" ;;
    *) ktest_fail "${reason:-not ok}" ;;
    esac
}

# Fails if a case failed that is not among the names on standard input.
ktap_unlisted() {
    local name file status reason bad=0 count=0
    local -A listed=()
    while read -r name; do listed[$name]=1; done
    for file in "$_ktest_ktap"/*,?*; do
        name=${file##*/}
        name=${name/,//}
        [[ -z ${listed[$name]:-} ]] || continue
        ((count += 1))
        read -r status reason <"$file"
        printf '%s %s %s\n' "$status" "$name" "$reason"
        [[ $status != FAILED ]] || ((bad += 1))
    done
    printf '%d cases ran that are not listed\n' "$count"
    ((bad == 0)) || ktest_fail "$bad cases that are not listed failed"
}

# Fails if a case of GROUP failed.
ktap_failed_case() {
    local file status reason
    for file in "$_ktest_ktap/${1//\//_}",?*; do
        [[ -e $file ]] || continue
        read -r status reason <"$file"
        [[ $status != FAILED ]] || ktest_fail "${file##*,}: ${reason:-not ok}"
    done
}
