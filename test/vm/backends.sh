#!/usr/bin/env bash
# Runs inside a virtual machine: the end-to-end tests with each backend of this kernel. e2e.sh starts it.
#
#   backends.sh E2E_TEST_BINARY OUT       OUT: a directory of the host, which shows how far the tests are
#
# Of the suite runs what depends on how the kernel shows bytes and connections, on one server of each sort; the host runs all
# of it. Backends run beside each other, since tests mostly wait, but not fentry
# and kprobe: 6.1 was once seen to jump to nowhere in emulation while both changed the entry of one function. The output
# of one backend comes after that of the other.
set -euo pipefail

readonly core='^TestE2E(Traffic|OlderConnections|SilentConnection|NotHTTP|UnixSocket)$'

test_binary=$1
out=$2

# suite BACKEND: runs the tests; OUT/BACKEND takes their output, OUT/BACKEND.status their status.
suite() {
	local status=0
	export PERFAGENT_BACKEND=$1
	{
		echo "=== backend $1"
		if [[ -n ${E2E_RUN:-} ]]; then
			"$test_binary" -test.v -test.timeout 10m -test.run "$E2E_RUN" || status=$?
		else
			"$test_binary" -test.v -test.short -test.timeout 6m -test.run "$core" || status=$?
		fi
		((status == 0)) || echo "backend $1: the tests ended with status $status"
	} >"$out/$1" 2>&1
	echo $status >"$out/$1.status"
}

read -ra backends <<<"${E2E_BACKENDS:-fentry kprobe syscall}"
for backend in "${backends[@]}"; do
	[[ $backend == kprobe ]] || suite "$backend" &
done
wait
[[ " ${backends[*]} " != *" kprobe "* ]] || suite kprobe
cd "$out"
cat "${backends[@]}"
[[ $(cat "${backends[@]/%/.status}" | sort -u) == 0 ]]
