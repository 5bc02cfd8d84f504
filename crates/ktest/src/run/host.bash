# Runs a test file on the host, without a guest: FILE [SUBTEST...]. Prints the same lines as the init of a guest.
exec 2>&1
file=$1
shift
echo "========= KTEST UP"
"$file" init </dev/null
status=$?
if [ $status != 0 ]; then
    echo "ktest: $file init failed (exit $status)"
    echo "TEST FAILED"
    exit 1
fi
"$file" run-tests "$@" </dev/null
status=$?
echo "========= KTEST EXIT $status"
if [ $status = 0 ]; then echo "TEST SUCCESS"; else echo "TEST FAILED"; fi
