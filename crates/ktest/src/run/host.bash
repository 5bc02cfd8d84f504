# Runs a test file on the host, without a guest: TOKEN FILE [SUBTEST...]. Prints the same lines as the init of a guest.
exec 2>&1
token=$1 file=$2
shift 2
message() {
	printf 'ktest/%s %s\n' "$token" "$*"
}
# The library takes the token out of the environment, so that no program of the test gets it.
[[ ${ktest_markers-} != token ]] || export ktest_token=$token
message "========= KTEST UP"
"$file" init </dev/null
status=$?
if [ $status != 0 ]; then
    message "ktest: $file init failed (exit $status)"
    message "TEST FAILED"
    exit 1
fi
"$file" run-tests "$@" </dev/null
status=$?
unset ktest_token
message "========= KTEST EXIT $status"
if [ $status = 0 ]; then message "TEST SUCCESS"; else message "TEST FAILED"; fi
