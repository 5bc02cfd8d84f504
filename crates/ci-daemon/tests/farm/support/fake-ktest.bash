#!/bin/bash
# A fake `ktest run --events`. The file `mode` of the commit has any of these words:
#   fail   every subtest fails, and leaves artifacts
#   flaky  the first run of the commit ends with an infrastructure error after its first subtest
#   first  the first run of each subtest fails
#   late   the third run of each subtest fails, and those after it
#   busy   the first run of the subtest a fails, next to a run of the subtest x
#   stop   the first run of the commit is stopped by a signal after a heartbeat
#   links  the files of a subtest are links to FAKE/secret, and a FIFO
#   own    the kernel of the commit has an image of its own
#   unbuilt  the kernel does not build
#   refuse the test file cannot be run at all, until the file FAKE/accept exists
# The kernel debian/gone is not on the mirror; FAKE/fetched has a line for each attempt to fetch it.
# A commit of a repository other than a kernel, and its mode, is in --deps-dir.
# FAKE/broken: every subtest fails while the file exists.
# FAKE/delay: seconds of a subtest. FAKE/hold: no subtest ends while the file exists. FAKE/ran: a line for each started subtest.
set -o nounset
fake=$(dirname "$0")
shift
repo='' commit='' deps='' out='' file='' subtests=()
while (($#)); do
	case $1 in
	--events | --network | --verbose) ;;
	-k) repo=$2 && shift ;;
	--commit) commit=$2 && shift ;;
	--out) out=$2 && shift ;;
	--deps-dir) deps=$2 && shift ;;
	--tests-dir | --merge | --kernel-repo | --tolerate | --env | --suite | --trust-domain | --verify-builds | --priority | --make-arg) shift ;;
	*) if [[ -z $file ]]; then file=$1; else subtests+=("$1"); fi ;;
	esac
	shift
done
test=${file##*/tests/}
test=${test%.ktest}
if [[ -n $deps ]]; then
	mode=$(cat "$deps"/*/mode)
	commit="$repo $(cat "$deps"/*/message)"
elif [[ -n $commit ]]; then
	mode=$(git --git-dir="$repo/.git" show "$commit:mode")
else
	mode=''
	commit=$repo
fi
event() { echo "{\"v\":1,\"at_ms\":0,\"event\":$1}"; }
finish() { event "\"run_finished\",\"exit_code\":$1" && exit "$1"; }

echo "make: this is rubbish"
event "\"run_started\",\"test\":\"$test\",\"subtests\":[]"
if [[ $mode == *refuse* && ! -e $fake/accept ]]; then
	echo "$test.ktest: config-no-vm: not supported" >&2
	finish 2
fi
if [[ $repo == debian/gone ]]; then
	echo "$repo $test" >>"$fake/fetched"
	event "\"infrastructure\",\"what\":\"kernel $repo/amd64 is not on the mirror: no suite\""
	finish 125
fi
if [[ $mode == *unbuilt* ]]; then
	for subtest in "${subtests[@]}"; do
		echo "$commit $test $subtest" >>"$fake/ran"
		event "\"verdict\",\"subtest\":\"$subtest\",\"status\":\"FailedToRun\",\"reason\":\"the kernel does not build\",\"duration_ms\":1"
	done
	finish 125
fi
image=beef
[[ $mode == *own* ]] && image=$commit
event '"kernel_ready","kernel":"'"$(printf %064d 7)"'","image_hash":"'"$image"'","cached":true,"duration_ms":1'
experiment=
[[ ! -e $fake/experiment ]] || experiment=",\"experiment\":\"$(<"$fake/experiment")\""
[[ $mode != *experiment=* ]] || experiment=",\"experiment\":\"$(grep -oE 'experiment=[0-9a-f]{16}' <<<"$mode" | cut -d= -f2)\""
code=
[[ $mode != *code=* ]] || code=",\"code\":\"$(grep -oE 'code=[0-9a-f]{16}' <<<"$mode" | cut -d= -f2)\""
event "\"boot_started\",\"vm\":1,\"accel\":\"tcg\"$experiment$code"
mkdir -p "$out/out"
for subtest in "${subtests[@]}"; do
	echo "$commit $test $subtest" >>"$fake/ran"
	event "\"subtest_started\",\"subtest\":\"$subtest\""
	[[ -e $fake/delay ]] && sleep "$(<"$fake/delay")"
	while [[ -e $fake/hold ]]; do sleep 0.02; done
	dir=out/${test//\//.}.$subtest
	mkdir -p "$out/$dir"
	if [[ $mode == *stop* && ! -e $fake/stopped ]]; then
		touch "$fake/stopped"
		event '"heartbeat"'
		kill -STOP $$
	fi
	if [[ $mode == *links* ]]; then
		echo "PRIVATE KEY" >"$fake/secret"
		ln -s "$fake/secret" "$out/$dir/log"
		mkfifo "$out/$dir/crash"
		ln -sfn "$fake/secret" "$out/kernel.config"
		event "\"verdict\",\"subtest\":\"$subtest\",\"status\":\"Passed\",\"duration_ms\":1,\"dir\":\"$dir\""
		continue
	fi
	echo "00001 the log of $subtest" | tee "$out/$dir/log" >>"$out/out/${test//\//.}"
	status='"Passed"'
	if [[ $mode == *first* && $(grep -cFx "$commit $test $subtest" "$fake/ran") == 1 ]]; then
		status='"Failed","reason":"lost 3 of 8"'
	fi
	if [[ $mode == *busy* && $subtest == x ]]; then
		touch "$fake/next-to-it"
		until [[ -e $fake/failed ]]; do sleep 0.02; done
	elif [[ $mode == *busy* && $subtest == a && ! -e $fake/failed ]]; then
		until [[ -e $fake/next-to-it ]]; do sleep 0.02; done
		touch "$fake/failed"
		status='"Failed","reason":"too slow"'
	fi
	[[ ! -e $fake/broken ]] || status='"Failed","reason":"broken"'
	if [[ $mode == *late* && $(grep -cFx "$commit $test $subtest" "$fake/ran") -ge 3 ]]; then
		status='"Failed","reason":"mode says so"'
	fi
	if [[ $mode == *fail* ]]; then
		status='"Failed","reason":"mode says so"'
		mkdir "$out/$dir/artifacts"
		echo "all of $subtest" | tee "$out/$dir/artifacts"/{full,out.bad,crash,status} >/dev/null
		ln -s "$fake/ran" "$out/$dir/artifacts/link"
	fi
	event "\"verdict\",\"subtest\":\"$subtest\",\"status\":$status,\"duration_ms\":1500,\"dir\":\"$dir\"$experiment"
	if [[ $mode == *flaky* && ! -e $fake/flaked ]]; then
		touch "$fake/flaked"
		event '"infrastructure","what":"the disk is full"'
		finish 125
	fi
done
# A real run still ends its VM here.
sleep 0.3
echo "the last line" >>"$out/out/${test//\//.}"
finish 0
