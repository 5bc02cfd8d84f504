# shellcheck shell=bash
# Functions shared by the scripts of this repository: messages, durations, the cache. Sourced, never run.
# The variables are used by the scripts that source this file.
# shellcheck disable=SC2034

# The scripts parse the output of other programs: always in English.
export LC_ALL=C.UTF-8

CACHE=${KTEST_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/ktest}

# Colors only on a terminal.
if [[ -t 1 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
	bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' yellow=$'\e[33m' plain=$'\e[0m'
else
	bold='' dim='' red='' green='' yellow='' plain=''
fi

say() { printf '%s\n' "$*"; }

# die MESSAGE...: print one line on stderr and exit.
die() {
	printf '%serror:%s %s\n' "$red" "$plain" "$*" >&2
	exit 1
}

# Milliseconds since the epoch, without starting a process.
now_ms() {
	local t=${EPOCHREALTIME/[.,]/}
	printf '%s' "$((t / 1000))"
}

# seconds_since MS: "12.3 s" or "4 min 05 s".
seconds_since() {
	local ms=$(($(now_ms) - $1))
	if ((ms < 60000)); then
		printf '%d.%d s' $((ms / 1000)) $((ms % 1000 / 100))
	else
		printf '%d min %02d s' $((ms / 60000)) $((ms % 60000 / 1000))
	fi
}

# Rust from rustup is often installed but not in the PATH of a script.
find_cargo() {
	command -v cargo >/dev/null && return 0
	if [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
		PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
		return 0
	fi
	return 1
}
