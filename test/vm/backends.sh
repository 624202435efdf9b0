#!/usr/bin/env bash
# Runs inside a virtual machine: the end-to-end tests with each backend of this kernel. e2e.sh starts it.
#
#   backends.sh E2E_TEST_BINARY
#
# The backends run beside each other, each with servers and an agent of its own: tests mostly wait. Their output comes
# one after the other.
set -euo pipefail

# What depends on how the kernel shows bytes and connections. The rest of the suite depends on user space alone, and
# the host runs it.
readonly hooks='^TestE2E(Traffic|OlderConnections|SilentConnection|Timeout|NotHTTP|IPv6|Proxy|UnixSocket|TwoAgents|Loss.*|StopUnderLoad)$'

available() {
	"$PERFAGENT_BINARY" check -o json | python3 -c '
import json, sys
print(*(b["name"] for b in json.load(sys.stdin)["backends"] if b["available"]))' || true
}

read -ra backends <<<"${E2E_BACKENDS:-$(available)}"
((${#backends[@]})) || { echo "no backend is available: $("$PERFAGENT_BINARY" check)"; exit 1; }
out=$(mktemp -d)
declare -A pid
for backend in "${backends[@]}"; do
	PERFAGENT_BACKEND=$backend "$1" -test.v -test.short -test.timeout 10m -test.run "${E2E_RUN:-$hooks}" >"$out/$backend" 2>&1 &
	pid[$backend]=$!
done
status=0
for backend in "${backends[@]}"; do
	result=0
	wait "${pid[$backend]}" || result=$?
	echo "=== backend $backend"
	cat "$out/$backend"
	((result == 0)) || { status=1; echo "backend $backend: the tests ended with status $result"; }
done
exit "$status"
