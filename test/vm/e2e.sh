#!/usr/bin/env bash
# Runs the end-to-end tests in virtual machines: on each kernel, once with each backend that it offers.
#
#   e2e.sh [KERNEL[:BACKEND]...]      default: 5.10 6.1 6.12, with all backends
#
# For instance "e2e.sh 6.1": all of 6.1; "e2e.sh 5.10:kprobe 6.12:syscall": two machines, without the tests that try every
# backend; "e2e.sh 6.12:loads": only that every backend loads.
# What runs is the part of the suite that depends on how the kernel shows bytes and connections, on one server of each
# sort; the host runs all of it. Before it every backend is loaded in every machine, not only the machine's own. Every
# kernel and backend has a machine of its own, and as many run at a time as the host has processors (package vm). A
# machine has one processor, so tests that may run at the same time run in turn there.
# E2E_RUN takes the place of that choice (a pattern of go test), E2E_BACKENDS that of the kernel's own backends.
# Prints what go test -v prints, of one machine after the other, and a summary. Exits with 1 where a test failed or a
# machine could not be run.
set -euo pipefail

core='Traffic|Sweeps|Ends|EndsUnix|EndsFraming|EndsFramingUnix|EndsUnpaired|UndecodedLines|UpgradeH2C|OlderConnections|SilentConnection|NotHTTP|Undecoded|ActiveRequests|UnixSocket|UnixServerOnly|UnixReused|HTTP2|HTTP2Cancelled|HTTP2Older|GRPC'
# What tries every backend of a kernel takes minutes there, and is not needed with each of them.
[[ $* == *:* ]] || core+='|UndecodedPeek|CheckAndVersion'
readonly core

cd "$(dirname "$0")/../.."
(($#)) || set -- 5.10 6.1 6.12
read -ra backends <<<"${E2E_BACKENDS:-fentry kprobe syscall}"
if [[ -n ${E2E_RUN:-} ]]; then
	choice=(-test.run "$E2E_RUN")
else
	choice=(-test.run "^TestE2E($core)\$" -test.short)
fi

dir=$(mktemp -d)
pids=()
# Machines that still run end with the program that started them.
trap '((${#pids[@]} == 0)) || kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
mkdir "$dir/bin"
export CGO_ENABLED=0
go build -o "$dir/bin/perfagent" ./cmd/perfagent
go build -o "$dir/bin/" ./test/servers/goserver ./test/servers/rawserver
go test -c -o "$dir/bin/e2e.test" ./test/e2e
go test -c -o "$dir/bin/probes.test" ./internal/probes
go build -o "$dir/run" ./test/vm/run
# Without a compiler the tests that need this server are left out.
! command -v gcc >/dev/null || gcc -O2 -static -x c -o "$dir/bin/uring" test/servers/assets/uring.c

# loads KERNEL: what a kernel has to take, whichever backend its machine is for: backends, and programs that visit connections.
loads() {
	echo fentry kprobe syscall iter_sweep
	[[ $1 == 5.10 ]] || echo run_sweep # bpf_for_each_map_elem, since 5.13
}

# One processor: with two, emulated kernels crashed where they patch their own code, as attaching hooks makes them do.
machine() {
	local tests=("${choice[@]}")
	[[ $2 != loads ]] || tests=(-test.run '^$')
	# shellcheck disable=SC2016 # the guest's shell, not this one, fills in these
	exec "$dir/run" -kernel "$1" -smp 1 -mem 3072 -timeout 40m -dir "$PWD/test/e2e" -env PERFAGENT_BACKEND="$2" \
		-env PERFAGENT_BINARY="$dir/bin/perfagent" -env PERFAGENT_TEST_BIN="$dir/bin" \
		-env PERFAGENT_TEST_PARTIAL=1 -env PERFAGENT_TEST_SLOW=4 -env PERFAGENT_TEST_LOADS="$(loads "$1" | xargs)" \
		-- bash -c '"$1" -test.v -test.run "^TestBackends$" || status=$?; shift
			"$@" || status=$?; echo "=== took $SECONDS"; exit "${status:-0}"' e2e \
		"$dir/bin/probes.test" "$dir/bin/e2e.test" -test.v -test.timeout 38m "${tests[@]}"
}

logs=()
for cell in "$@"; do
	kernel=${cell%%:*}
	of_cell=("${backends[@]}")
	[[ $cell != *:* ]] || of_cell=("${cell#*:}")
	for backend in "${of_cell[@]}"; do
		log=$dir/log-$((${#logs[@]} + 10))
		echo "=== Linux $kernel $backend" >"$log"
		machine "$kernel" "$backend" >>"$log" 2>&1 &
		pids+=($!) logs+=("$log")
	done
done
status=0
for i in "${!pids[@]}"; do
	wait "${pids[i]}" || {
		echo "=== failed with status $?" >>"${logs[i]}"
		status=1
	}
	cat "${logs[i]}"
done
pids=()

echo
awk '/^=== Linux / { at = ++n; name[at] = sprintf("Linux %-6s %-8s", $3, $4) }
	/^=== took / { took[at] = " in " $3 " s" }
	/^=== failed / { failed = failed "\n  " name[at] " ended with status " $5 }
	/^ *--- (PASS|FAIL|SKIP):/ { count[at, $2]++ }
	/^ *--- FAIL:/ { failed = failed "\n  " name[at] " " $3 }
	END {
		for (i = 1; i <= n; i++) {
			printf "%s %4d passed, %d failed, %d skipped%s\n", name[i],
				count[i, "PASS:"], count[i, "FAIL:"], count[i, "SKIP:"], took[i]
		}
		if (failed) print "failed:" failed
	}' "${logs[@]}"
exit "$status"
