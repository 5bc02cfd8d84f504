# shellcheck shell=bash
# Shared by the scripts that compare the verdicts of `ktest run` with those of a suite. Sourced, never run. The scripts source
# scripts/lib.sh first.
# shellcheck disable=SC2034,SC2154

# Split the arguments at `--` into the arrays options and cases.
split_arguments() {
	options=()
	while (($# > 0)) && [[ $1 != -- ]]; do
		options+=("$1")
		shift
	done
	(($# == 0)) || shift
	cases=("$@")
}

# use_packages NAME...: without options, run on Debian 12 with its kernel and these packages in the image.
use_packages() {
	local package
	((${#options[@]} == 0)) || return 0
	options=(-k debian/bookworm)
	for package; do options+=(--package "$package"); done
}

# prepare NAME SOURCE OUT: set ktest, work and out, a directory that keeps the results: OUT, or a temporary one if it is empty. A farm
# finds the source of the suite there, too.
prepare() {
	ktest=${KTEST_CI_BIN:-$top/target/debug}/ktest
	[[ -x $ktest ]] || die "$ktest: not built; run: cargo build --bin ktest"
	command -v jq >/dev/null || die "jq is not installed; install it with: apt-get install jq"
	work=$(mktemp -d "${TMPDIR:-/tmp}/compare-$1.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	out=$(realpath -m "${3:-$work/out}")
	mkdir -p "$out/deps"
	ln -sfn "$2" "$out/deps/$1"
	unset "ktest_$1"
}

run() { "$ktest" run "${options[@]}" --deps-dir "$out/deps" "$@"; }

# run_cases FILE: run the cases of a test file, and write their verdicts to $out/ktest.verdicts: CASE TAB VERDICT.
run_cases() {
	say "ktest run of ${#cases[@]} cases"
	run -o "$out/ktest" --events "$1" "${cases[@]}" >"$out/events" 2>"$out/ktest.log" || true
	jq -r 'select(.event == "verdict") | "\(.subtest)\t\(.status)"' "$out/events" | sort >"$out/ktest.verdicts"
}

# Compare $out/check.verdicts with $out/ktest.verdicts. The status is 1 if a verdict differs. A verdict `none` is not known.
compare_verdicts() {
	local same differs=0 name theirs ours reason
	same=$(comm -12 "$out/check.verdicts" "$out/ktest.verdicts" | wc -l)
	while IFS=$'\t' read -r name theirs ours; do
		[[ $theirs != "$ours" && $theirs != none ]] || continue
		differs=$((differs + 1))
		reason=$(jq -r --arg name "$name" 'select(.event == "verdict" and .subtest == $name) | .reason // ""' "$out/events")
		say "${red}differs${plain} $name: ./check: $theirs, ktest: $ours${reason:+ ($reason)}"
	done < <(join -t $'\t' -a 1 -a 2 -e missing -o 0,1.2,2.2 "$out/check.verdicts" "$out/ktest.verdicts")
	say "$same of ${#cases[@]} verdicts are the same: $(cut -f 2 "$out/ktest.verdicts" | sort | uniq -c | awk '{ $1 = $1; print }' | paste -sd ',' | sed 's/,/, /g')"
	((differs == 0))
}
