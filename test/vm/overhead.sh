#!/usr/bin/env bash
# Runs inside a virtual machine: what the agent costs a CPU that nginx and wrk saturate, and whether every request is
# counted. Prints a table with one row per way to run the agent. bench.sh starts it.
#
#   overhead.sh AGENT SECONDS VARIANT...
#
# VARIANT is "none", or BACKEND with one of: nothing (the full agent), "-empty" (programs that do nothing on the same
# hooks), "-stopped" (the agent is halted once it runs: what the kernel side costs alone), "-stats" (further rows on
# standard error: the run time of each program; its clock readings make the row slower).
set -euo pipefail

readonly agent=$1 seconds=$2
shift 2
dir=$(mktemp -d)
readonly dir

start_nginx() {
	cat >"$dir/nginx.conf" <<-END
		daemon on;
		worker_processes 1;
		pid $dir/pid;
		error_log $dir/error.log warn;
		events { worker_connections 256; }
		http {
			access_log off;
			keepalive_requests 1000000000;
			server { listen 127.0.0.1:8080; location / { return 200 "ok"; } }
			server { listen 127.0.0.1:8081; location / { stub_status; } }
		}
	END
	nginx -p "$dir" -c "$dir/nginx.conf"
	worker=$(pgrep -P "$(cat "$dir/pid")")
}

# requests VARIABLE: how many nginx has answered, as it counts them itself, without the ones for this figure.
asked=0
requests() {
	local status
	status=$(curl -sS http://127.0.0.1:8081/ | awk 'NR == 3 { print $3 }')
	asked=$((asked + 1))
	printf -v "$1" %d $((status - asked))
}

# cpu_ns PID: what all threads of a process have used.
cpu_ns() { cat /proc/"$1"/task/*/schedstat | awk '{ ns += $1 } END { printf "%.0f\n", ns }'; }

# metric NAME [LABEL]: the sum of the agent's samples of that name whose labels contain the text.
metric() {
	awk -v name="$1" -v label="${2:-}" '$1 ~ "^" name "([{]|$)" && index($1, label) { sum += $NF } END { printf "%.0f\n", sum }' "$dir/metrics"
}

# start_agent BACKEND MODE: sets agent_pid.
start_agent() {
	local -a args=(run --capture.port=8080 --capture.backend="$1" --web.listen-address=127.0.0.1:9464
		--web.socket= --ready-file="$dir/ready")
	local empty=0
	[[ $2 != empty ]] || empty=1
	[[ $2 != stopped ]] || args+=(--capture.ring-bytes=128MiB)
	rm -f "$dir/ready"
	PERFAGENT_EMPTY_PROGRAMS=$empty "$agent" "${args[@]}" 2>"$dir/agent.log" &
	agent_pid=$!
	for _ in {1..200}; do
		[[ ! -e $dir/ready ]] || return 0
		kill -0 "$agent_pid" 2>/dev/null || break
		sleep 0.1
	done
	echo "the agent did not start with $1:" >&2
	cat "$dir/agent.log" >&2
	return 1
}

# settle: waits until the agent has counted what has happened, and reads its metrics. The last connections' exchanges are
# reported within a second.
settle() {
	for _ in {1..50}; do
		curl -sS http://127.0.0.1:9464/metrics >"$dir/metrics"
		[[ $(metric perfagent_exchanges_total 'role="server"') -lt $1 ]] || break
		sleep 0.1
	done
}

program_times() {
	awk -v requests="$2" '/ctxt_switches/ { n += $2 } END { printf "context switches of the agent per request: %.3f\n", n / requests }' \
		/proc/"$agent_pid"/task/*/status >&2
	echo "$1: run time of the programs in ns, each run with the measuring's own clock readings in it" >&2
	bpftool prog show | awk -v requests="$2" '/run_time_ns/ {
		for (i = 1; i < NF; i++) { if ($i == "name") n = $(i + 1); if ($i == "run_time_ns") t = $(i + 1); if ($i == "run_cnt") c = $(i + 1) }
		if (c) printf "  %-24s runs %-9d per run %7.0f  per request %7.0f (%.2f runs)\n", n, c, t / c, t / requests, c / requests }' >&2
}

# measure VARIANT: one row.
measure() {
	local backend=${1%%-*} mode=full before after rate counted=- clients=- lost=- made nginx_ns agent_ns=0 first
	[[ $1 != *-* ]] || mode=${1#*-}
	requests first
	if [[ $backend != none ]]; then
		[[ $mode != stats ]] || sysctl -q kernel.bpf_stats_enabled=1
		start_agent "$backend" "$mode" || { printf '%-16s does not start\n' "$1"; failed=1; return; }
	fi
	# For the page cache and the connections' windows; also the agent's own start-up is over then.
	wrk -t1 -c8 -d1s http://127.0.0.1:8080/ >/dev/null
	[[ $mode != stopped ]] || kill -STOP "$agent_pid"
	requests before
	nginx_ns=$(cpu_ns "$worker")
	[[ $backend == none ]] || agent_ns=$(cpu_ns "$agent_pid")
	rate=$(wrk -t1 -c8 -d"${seconds}s" http://127.0.0.1:8080/ | awk '/Requests\/sec/ { print $2 }')
	nginx_ns=$(($(cpu_ns "$worker") - nginx_ns))
	[[ $backend == none ]] || agent_ns=$(($(cpu_ns "$agent_pid") - agent_ns))
	requests after
	made=$((after - before))
	[[ $mode != stopped ]] || kill -CONT "$agent_pid"
	if [[ $backend != none ]]; then
		[[ $mode != stats ]] || { program_times "$1" $((after - first)); sysctl -q kernel.bpf_stats_enabled=0; }
		if [[ $mode != empty ]]; then
			settle $((after - first))
			counted=$(metric perfagent_exchanges_total 'role="server"')
			clients=$(metric perfagent_exchanges_total 'role="client"')
			lost=$(metric perfagent_exchanges_lost_total)
		fi
		kill -TERM "$agent_pid"
		wait "$agent_pid" || cat "$dir/agent.log" >&2
	fi
	[[ $1 != none ]] || none=$rate
	awk -v name="$1" -v rate="$rate" -v none="${none:-$rate}" -v nginx="$nginx_ns" -v agent="$agent_ns" -v made=$made \
		-v happened=$((after - first)) -v counted="$counted" -v clients="$clients" -v lost="$lost" 'BEGIN {
		printf "%-16s %9.0f %7.3f %11.0f %11.0f %11.0f %11d %11s %11s %6s\n", name, rate, rate / none,
			1e9 / rate - 1e9 / none, nginx / made, agent / made, happened, counted, clients, lost }'
}

start_nginx
printf '%-16s %9s %7s %11s %11s %11s %11s %11s %11s %6s\n' agent req/s ratio '+ns/req' 'nginx ns' 'agent ns' requests \
	server client lost
failed=0
for variant in "$@"; do measure "$variant"; done
kill "$(cat "$dir/pid")"
rm -r "$dir"
exit $failed
