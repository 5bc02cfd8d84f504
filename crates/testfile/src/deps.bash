# Evaluates the output of FILE deps and prints the variables named in $1, NUL-separated:
# NAME, the number of values, the values. Called as: bash -c THIS deps NAMES FILE [SUBTEST...]
set -e
names=$1
shift
file=$1
shift
declarations=$("$file" deps "$@") || {
    status=$?
    # The existing library prints errors there.
    printf '%s\n' "$declarations"
    exit "$status"
}
eval "$declarations"
for name in $names; do
    if [ -n "${!name+set}" ] || declare -p "$name" >/dev/null 2>&1; then
        declare -n values=$name
        printf '%s\0%s\0' "$name" "${#values[@]}"
        [ "${#values[@]}" = 0 ] || printf '%s\0' "${values[@]}"
        unset -n values
    fi
done
