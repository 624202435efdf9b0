#!/usr/bin/env bash
# Runs inside a virtual machine: the end-to-end tests with each backend of this kernel. e2e.sh starts it.
#
#   backends.sh E2E_TEST_BINARY
set -euo pipefail

# What depends on how bytes are seen. The rest of the suite depends on the agent's commands and user space alone.
readonly hooks='^TestE2E(Traffic|OlderConnections|SilentConnection|NotHTTP|IPv6|Proxy|UnixSocket|Loss.*|StopUnderLoad)$'

available() {
	"$PERFAGENT_BINARY" check -o json | python3 -c '
import json, sys
print(*(b["name"] for b in json.load(sys.stdin)["backends"] if b["available"]))' || true
}

read -ra backends <<<"${E2E_BACKENDS:-$(available)}"
((${#backends[@]})) || { echo "no backend is available: $("$PERFAGENT_BINARY" check)"; exit 1; }
status=0
pattern=^TestE2E
for backend in "${backends[@]}"; do
	echo "=== backend $backend"
	PERFAGENT_BACKEND=$backend "$1" -test.v -test.timeout 10m -test.run "${E2E_RUN:-$pattern}" || status=1
	pattern=$hooks
done
exit "$status"
