#!/usr/bin/env bash
# What the agent costs under the instruction clock, where a nanosecond is an instruction and the host's load does not
# matter: a table with one row per backend, of Linux 6.1. Fails where the full agent leaves less than 0.85 of the
# throughput, or where requests are missing or lost.
#
#   bench.sh [KERNEL [SECONDS [VARIANT...]]]     see overhead.sh
set -euo pipefail

cd "$(dirname "$0")/../.."
kernel=${1:-6.1}
seconds=${2:-2}
shift $(($# < 2 ? $# : 2))
(($#)) || set -- none none {fentry,kprobe,syscall}{-empty,}

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
CGO_ENABLED=0 go build -o "$dir/perfagent" ./cmd/perfagent
go build -o "$dir/run" ./test/vm/run
# The guest reads the host's files through 9p: an agent in memory is not read while it is measured.
echo "Linux $kernel, one CPU shared by nginx, wrk -t1 -c8 and the agent; one instruction = 1 ns"
"$dir/run" -kernel "$kernel" -icount -timeout 20m -- "$PWD/test/vm/overhead.sh" "$dir/perfagent" "$seconds" "$@" | tee "$dir/table"
awk '$1 ~ /^(fentry|kprobe|syscall)$/ {
	if ($3 < 0.85) { print "BROKEN: " $1 " leaves " $3 " of the throughput, at least 0.85 is wanted"; bad = 1 }
	if ($7 != $8 || $10 != 0) { print "BROKEN: " $1 " counts " $8 " of " $7 " requests and lost " $10; bad = 1 }
} END { exit bad }' "$dir/table"
