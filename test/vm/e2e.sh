#!/usr/bin/env bash
# Runs the end-to-end tests in virtual machines: on each kernel, once with each backend that it offers.
#
#   e2e.sh [KERNEL...]      default: 6.1 6.12
#
# What runs is the part of the suite that depends on hooks; the host runs all of it.
# E2E_RUN takes the place of that choice (a pattern of go test), E2E_BACKENDS that of the kernel's own backends.
# Prints what go test -v prints, and a summary. Exits with 1 where a test failed, or with the status of a machine that
# could not be run.
set -euo pipefail

cd "$(dirname "$0")/../.."
(($#)) || set -- 6.1 6.12

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/bin"
export CGO_ENABLED=0
go build -o "$dir/bin/perfagent" ./cmd/perfagent
go build -o "$dir/bin/" ./test/servers/goserver ./test/servers/rawserver
go test -c -o "$dir/bin/e2e.test" ./test/e2e
go build -o "$dir/run" ./test/vm/run
# Without a compiler the tests that need this server are left out.
! command -v gcc >/dev/null || gcc -O2 -static -x c -o "$dir/bin/uring" test/servers/assets/uring.c

# One processor: with two, emulated kernels crashed where they patch their own code, as attaching hooks makes them do.
status=0
for kernel in "$@"; do
	echo "=== Linux $kernel"
	mkdir "$dir/out-$kernel"
	"$dir/run" -kernel "$kernel" -smp 1 -mem 3072 -timeout 15m -dir "$PWD/test/e2e" \
		-env "E2E_RUN=${E2E_RUN:-}" -env "E2E_BACKENDS=${E2E_BACKENDS:-}" \
		-env PERFAGENT_BINARY="$dir/bin/perfagent" -env PERFAGENT_TEST_BIN="$dir/bin" \
		-env PERFAGENT_TEST_PARTIAL=1 -env PERFAGENT_TEST_SLOW=4 \
		-share "$dir/out-$kernel" -- "$PWD/test/vm/backends.sh" "$dir/bin/e2e.test" "$dir/out-$kernel" 2>&1 | tee "$dir/log-$kernel" || status=$?
done

echo
awk 'FNR == 1 { kernel = FILENAME; sub(/.*log-/, "", kernel) }
	/^=== backend / { backend = $3; order[++n] = kernel " " backend }
	/^ *--- (PASS|FAIL|SKIP):/ { count[kernel " " backend, $2]++ }
	/^ *--- FAIL:/ { failed = failed "\n  " kernel " " backend " " $3 }
	END {
		for (i = 1; i <= n; i++) {
			split(order[i], part, " ")
			printf "Linux %-6s %-11s %4d passed, %d failed, %d skipped\n", part[1], part[2],
				count[order[i], "PASS:"], count[order[i], "FAIL:"], count[order[i], "SKIP:"]
		}
		if (failed) print "failed:" failed
	}' "$dir"/log-*
exit "$status"
