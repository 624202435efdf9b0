#!/usr/bin/env bash
# Runs every fuzz target for a short while, one after the other.
#
#   fuzz.sh [INPUTS]      inputs for each target; default: 50000, seconds each
#
# Counted and not timed: before Go 1.27 the end of -fuzztime may be taken for a failure (go.dev/issue/75804).
set -euo pipefail

cd "$(dirname "$0")/.."
# "PACKAGE TARGET" a line.
mapfile -t targets < <(grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' cmd internal |
	sed -E 's|^(.*)/[^/]*:func |./\1 |' | sort -u)
((${#targets[@]})) || { echo "no fuzz targets found" >&2; exit 1; }
inputs=${1:-50000}

status=0
for target in "${targets[@]}"; do
	read -r package name <<<"$target"
	go test -json -run '^$' -fuzz "^$name\$" -fuzztime "${inputs}x" "$package" || status=1
done
exit "$status"
