#!/bin/bash
# A fake `ktest run` for a host. Files in its own folder control it:
#   hold   no subtest but `first` ends while this file exists
#   slow   the duration of a build, in seconds
#   builds (written) a line for each kernel that was built
#   suites (written) a line for each suite of a run
set -o nounset
fake=$(dirname "$0")
cache='' repo='' commit='' out='' file='' tests='' subtests=() suites=()
while (($#)); do
	case $1 in
	run | --events | --log-events | --ask-kernel | --network | --verbose) ;;
	--cache-dir) cache=$2 && shift ;;
	--commit) commit=$2 && shift ;;
	--out) out=$2 && shift ;;
	--tests-dir) tests=$2 && shift ;;
	-k) repo=$2 && shift ;;
	--suite) suites+=("$2") && shift ;;
	--merge | --kernel-repo | --tolerate | --env | --arch | --trust-domain | --verify-builds | --priority | --make-arg) shift ;;
	*) if [[ -z $file ]]; then file=$1; else subtests+=("$1"); fi ;;
	esac
	shift
done
[[ -x $file && -f $tests/lib/common.sh ]] || { echo "$file: not there" >&2 && exit 2; }
git -C "$repo" cat-file -e "$commit:mode" || exit 2
for suite in "${suites[@]}"; do
	version=${suite#*=}
	git -C "${version#*@}" cat-file -e "${version%%@*}^{tree}" || exit 2
	echo "$suite" >>"$fake/suites"
done
test=${file##*/tests/}
test=${test%.ktest}
event() { echo "{\"v\":1,\"at_ms\":0,\"event\":$1}"; }
event "\"run_started\",\"test\":\"$test\",\"subtests\":[]"
kernel=$commit$(printf %024d 0)
store=$cache/kernels/$kernel
cached=true
if [[ ! -e $store/meta.json ]]; then
	event "\"kernel_wanted\",\"kernel\":\"$kernel\""
	read -r _
	if [[ ! -e $store/meta.json ]]; then
		cached=false
		echo "$kernel" >>"$fake/builds"
		[[ -e $fake/slow ]] && sleep "$(<"$fake/slow")"
		mkdir -p "$store/lib/modules/6.1.0"
		echo "an image of $commit" >"$store/vmlinux"
		echo module >"$store/lib/modules/6.1.0/a.ko"
		hash=$(sha256sum "$store/vmlinux" | cut -d' ' -f1)
		echo '{"version":1,"arch":"x86_64","release":"6.1.0","image":"vmlinux","image_hash":"'"$hash"'","vmlinux":null,
			"modules":true,"config_hash":"0","unmet":[],"unknown_options":[],"flavor":"x","compiler":"gcc",
			"source_tree":"","objects":1,"build_ms":1}' >"$store/meta.json"
	fi
fi
[[ -e $store/lib/modules/6.1.0/a.ko ]] || exit 9
event '"kernel_ready","kernel":"'"$kernel"'","image_hash":"beef","cached":'"$cached"',"duration_ms":1'
mkdir -p "$out/out"
for subtest in "${subtests[@]}"; do
	event "\"subtest_started\",\"subtest\":\"$subtest\""
	event "\"log\",\"subtest\":\"$subtest\",\"lines\":[\"00001 live of $subtest\"]"
	while [[ -e $fake/hold && $subtest != first ]]; do sleep 0.02; done
	dir=out/${test//\//.}.$subtest
	mkdir -p "$out/$dir/artifacts"
	echo "all of $subtest" >"$out/$dir/artifacts/full"
	echo "00001 the log of $subtest" | tee "$out/$dir/log" >>"$out/out/${test//\//.}"
	event "\"verdict\",\"subtest\":\"$subtest\",\"status\":\"Passed\",\"duration_ms\":1500,\"dir\":\"$dir\""
done
echo core >"$out/$dir/core"
echo "a message on standard error" >&2
event '"run_finished","exit_code":0'
