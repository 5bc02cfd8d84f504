# shellcheck shell=bash
# A farm on this machine. Sourced, never run. Needs root.
#
# Each host is a network namespace with a veth pair. In it, a mount, PID and UTS namespace runs sshd on port 22 as its first process, with a
# home directory, a cache, /tmp and a process list of its own, for an unprivileged user.
# The functions are used by the scripts that source this file.
# shellcheck disable=SC2034,SC2154
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"

FARM_USER=ktest-farm
FARM_HOSTS=${FARM_HOSTS:-4}
kernel_repo=$CACHE/demo/linux.git

# figure NAME VALUE UNIT: print a measured value.
figure() { say "$1 $2 $3"; }
note() { say "${dim}$(seconds_since "$farm_begun")${plain}  $*"; }

farm_begin() {
	farm_begun=$(now_ms)
	if ((EUID != 0)); then
		say "${yellow}SKIPPED${plain}: a farm in network namespaces needs root; run: sudo make farm"
		exit 0
	fi
	"$root/scripts/setup" demo farm
	find_cargo || die "cargo is not installed"
	cargo build --locked --quiet --bins
	bin=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")/debug
	"$root/demo/kernel-repo" "$kernel_repo" >/dev/null
	# The hosts' user must be able to read it, which may not be true for the checkout.
	work=$(mktemp -d /var/tmp/ktest-farm.XXXXXX)
	chmod 755 "$work"
	net=$(($$ % 250)) # each host uses four addresses of 10.213.NET.0
	while ip -br addr | grep -q " 10\\.213\\.$net\\."; do net=$(((net + 1) % 250)); done
	prefix=kf$$
	groups=()
	trap farm_end EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	farm_user
	mkdir "$work/bin"
	cp "$bin"/ktest "$bin"/ci-daemon "$bin"/ci-status "$work/bin"
	PATH=$work/bin:$PATH
	# Start from this machine's cache, so that existing kernels and images are reused.
	export KTEST_CACHE_DIR=$work/cache
	mkdir "$work/cache"
	farm_seed
}

farm_user() {
	if ! id "$FARM_USER" >/dev/null 2>&1; then
		useradd --system --create-home --home-dir "/var/lib/$FARM_USER" --shell /bin/sh "$FARM_USER"
		made_user=1
	fi
	home=$(getent passwd "$FARM_USER" | cut -d: -f6)
}

# Copy the kernels of this machine; with FARM_BUILD=1 the farm builds all kernels.
farm_seed() {
	mkdir -p "$CACHE/kernels"
	[[ ${FARM_BUILD:-0} == 1 ]] || cp -rl "$CACHE/kernels" "$work/cache/kernels"
	image=$(ktest --cache-dir "$CACHE" image create 2>/dev/null | tail -n 1)
}

farm_end() {
	local group
	trap '' INT TERM
	set +o errexit
	for group in "${groups[@]}"; do kill -TERM "$group" 2>/dev/null; done
	sleep 0.5
	for group in "${groups[@]}"; do kill -KILL "$group" 2>/dev/null; done
	for ((i = 1; i <= FARM_HOSTS; i++)); do
		[[ -e /run/netns/$prefix-$i ]] && { machine_off "$i"; ip netns del "$prefix-$i"; }
	done
	[[ -n ${farm_extra_end-} ]] && "$farm_extra_end"
	masters_end
	if [[ ${FARM_KEEP:-0} == 1 ]]; then say "files kept in $work"; else rm -rf "$work"; fi
	[[ ${made_user-} ]] && ! pgrep -u "$FARM_USER" >/dev/null && userdel "$FARM_USER" 2>/dev/null && rm -rf "/var/lib/$FARM_USER"
	return 0
}

# End the ssh connections, which would stay open for 15 minutes.
masters_end() {
	local pid
	for pid in $(pgrep -f "ssh .*-F $work/ssh_config" 2>/dev/null); do kill "$pid" 2>/dev/null; done
}

address() { printf '10.213.%d.%d' "$net" $(($1 * 4 + 2)); }
gateway() { printf '10.213.%d.%d' "$net" $(($1 * 4 + 1)); }

# machine_make NUMBER: create a host, powered off.
machine_make() {
	local n=$1 dir=$work/farm$1 ns=$prefix-$1
	mkdir -p "$dir/home/.ssh" "$dir/home/.cache/ktest" "$dir/tmp"
	chmod 1777 "$dir/tmp"
	ssh-keygen -q -t ed25519 -N '' -C "farm$n" -f "$dir/host_key"
	[[ -e $work/key ]] || ssh-keygen -q -t ed25519 -N '' -C farm -f "$work/key"
	sed 's/^/restrict /' "$work/key.pub" >"$dir/home/.ssh/authorized_keys"
	printf '[safe]\n\tdirectory = *\n' >"$dir/home/.gitconfig"
	cp -r --reflink=auto "$CACHE/images" "$dir/home/.cache/ktest/images"
	# Copy the compiler cache; the kernels are still built.
	[[ ${FARM_BUILD:-0} != 1 || ! -d $CACHE/ccache ]] || cp -r --reflink=auto "$CACHE/ccache" "$dir/home/.cache/ktest/ccache"
	mkdir -p "$dir/home/bin"
	cp --reflink=auto "$work/bin/ktest" "$dir/home/bin/ktest"
	chown -R "$FARM_USER:" "$dir/home"
	chmod 700 "$dir/home" "$dir/home/.ssh"
	printf '%s\n' "Port 22" "ListenAddress $(address "$n")" "HostKey $dir/host_key" "PidFile none" "UsePAM yes" \
		"PasswordAuthentication no" "MaxSessions 500" "LogLevel ERROR" "ClientAliveInterval 15" >"$dir/sshd_config"
	printf '%s %s\n' "$(address "$n")" "$(cut -d' ' -f1,2 "$dir/host_key.pub")" >>"$work/known_hosts"
	printf '%s\n' "IdentityFile $work/key" "IdentitiesOnly yes" "UserKnownHostsFile $work/known_hosts" \
		"GlobalKnownHostsFile /dev/null" >"$work/ssh_config"
	ip netns add "$ns"
	ip link add "$prefix-v$n" type veth peer name eth0 netns "$ns"
	ip addr add "$(gateway "$n")/30" dev "$prefix-v$n"
	ip link set "$prefix-v$n" up
	ip -n "$ns" addr add "$(address "$n")/30" dev eth0
	ip -n "$ns" link set eth0 up
}

# machine_on NUMBER: power a host on and wait for its sshd.
machine_on() {
	local n=$1 dir=$work/farm$1 ns=$prefix-$1 tries
	ip netns exec "$ns" unshare --mount --pid --uts --fork --kill-child --mount-proc \
		"$here/machine" "farm$n" "$dir" "$FARM_USER" >>"$dir/console" 2>&1 </dev/null &
	echo $! >"$dir/pid"
	for ((tries = 0; tries < 200; tries++)); do
		(exec 3<>"/dev/tcp/$(address "$n")/22") 2>/dev/null && return 0
		sleep 0.1
	done
	tail -n 5 "$dir/console" >&2
	die "farm$n does not start; the end of its console is above"
}

# machine_off NUMBER: power a host off without a shutdown.
machine_off() {
	local pid
	[[ -e $work/farm$1/pid ]] || return 0
	pid=$(<"$work/farm$1/pid")
	kill -KILL "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || true
}

# in_machine NUMBER COMMAND...: run a command as root on a host.
in_machine() {
	local pid
	pid=$(pgrep -P "$(<"$work/farm$1/pid")" | head -n 1)
	nsenter --target "$pid" --mount --pid --uts --net -- "${@:2}"
}

# farm_config FILE COMMITS [LINES]: write the configuration of a farm of all hosts that tests the newest COMMITS commits of the demo.
farm_config() {
	local file=$1 commits=$2 n
	local data=${file%.toml}
	mkdir -p "$data"
	cat >"$file" <<-TOML
		linux_repo = "$work/linux.git"
		output_dir = "$data"
		ktest_dir = "$root"
		user = "demo"
		confirm_failures = 0

		[test_group.ext4]
		tests = ["boot.ktest", "fs/ext4/basic.ktest"]
		max_commits = $commits

		[branch.demo]
		remote = "$kernel_repo"
		ref = "demo"
		base = "base"
		test_groups = ["ext4"]
	TOML
	[[ -z ${3-} ]] || printf '%s\n' "$3" >>"$file"
	for ((n = 1; n <= ${FARM_IN_USE:-$FARM_HOSTS}; n++)); do
		printf '\n[host.farm%d]\nkind = "ssh"\nuser = "%s"\naddress = "%s"\nssh_config = "%s"\nktest = "%s"\nslots = 1\n' \
			"$n" "$FARM_USER" "$(address "$n")" "$work/ssh_config" "$home/bin/ktest" >>"$file"
	done
}

farm_repo() {
	git init -q --bare "$work/linux.git"
	printf '%s\n' "$kernel_repo/objects" >"$work/linux.git/objects/info/alternates"
	git --git-dir="$work/linux.git" update-ref refs/tags/base "$(git --git-dir="$kernel_repo" rev-parse base)"
}

# start_daemon CONFIG: start the daemon in the background; sets `daemon`.
start_daemon() {
	ci-daemon --config "$1" --once >>"${1%.toml}.log" 2>&1 </dev/null &
	daemon=$!
	groups+=("$daemon")
}

# compare CONFIG COMMITS: fail unless the newest COMMITS commits have the verdicts of demo/expected.
compare() {
	local config=$1 commits=$2 sha mail verdict test reason known='{}' report
	local tests=("$root/tests/boot.ktest" "$root/tests/fs/ext4/basic.ktest")
	local wanted
	wanted=$(ktest list --json "${tests[@]}" | jq '[.[] | .test as $test | .subtests[] | "\($test).\(.)" | gsub("/"; ".")]')
	while read -r mail verdict test reason; do
		[[ -z $mail || $mail == \#* ]] && continue
		sha=$(sed -n "s/^$mail //p" "$kernel_repo/ktest-commits")
		known=$(jq --arg c "$sha" --arg v "$verdict" --arg t "$test" --arg r "$reason" \
			'.[$c] = {verdict: $v, test: $t, reason: $r}' <<<"$known")
	done <"$root/demo/expected"
	for sha in $(git --git-dir="$kernel_repo" rev-list --reverse --max-count="$commits" base..demo); do
		ci-status --config "$config" show "$sha" --json >"$work/status.json"
		jq -n --arg subject "$(git --git-dir="$kernel_repo" log -1 --format=%s "$sha")" --arg sha "$sha" \
			--argjson known "$known" --argjson wanted "$wanted" --slurpfile status "$work/status.json" \
			'{commit: $sha, subject: $subject, tests: $status[0].tests, dashboard: $status[0].tests,
			  expected: $known[$sha], wanted: $wanted}'
	done | jq -s . >"$work/found.json"
	report=$(jq -r -f "$root/demo/report.jq" --argjson width 120 --argjson n "$commits" --arg bold '' --arg dim '' \
		--arg red '' --arg green '' --arg yellow '' --arg plain '' "$work/found.json")
	verdicts=$(jq '[.[].tests[]] | length' "$work/found.json")
	[[ ${report##*$'\n'} == OK ]] && return 0
	say "$report" >&2
	return 1
}

# builds CONFIG, copied CONFIG: print how many kernels were built, and how many were copied from another host.
builds() { cat "${1%.toml}"/ci-daemon-logs/* | grep -c 'kernel [0-9a-f]* built in' || true; }
copied() { cat "${1%.toml}"/ci-daemon-logs/* | grep -c 'the kernel was copied from' || true; }

# most_builds CONFIG: print how often the most frequently built kernel was built.
most_builds() {
	cat "${1%.toml}"/ci-daemon-logs/* | sed -n 's/.*kernel \([0-9a-f]*\) built in .*/\1/p' |
		sort | uniq -c | sort -rn | awk 'NR == 1 {n = $1} END {print n + 0}'
}

# current_work CONFIG: print what the daemon is doing right now, in one line.
current_work() {
	jq -r '[.executors[]? | "\(.name): \(if .batch then "\(.batch.commit[0:8]) \(.batch.test) \(.batch.phase) \(.batch.done)/\(.batch.subtests)" else .state end)"] | join(" | ")' \
		"${1%.toml}/ci-daemon-status.json" 2>/dev/null || true
}
