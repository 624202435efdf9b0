#!/usr/bin/env bash
# Runs every fuzz target for a short while, one after the other: SECONDS together, at least two each.
#
#   fuzz.sh [SECONDS]     default: 27; building the instrumented packages comes on top
set -euo pipefail

cd "$(dirname "$0")/.."
# "PACKAGE TARGET" a line.
mapfile -t targets < <(grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' cmd internal |
	sed -E 's|^(.*)/[^/]*:func |./\1 |' | sort -u)
((${#targets[@]})) || { echo "no fuzz targets found" >&2; exit 1; }
each=$((${1:-27} / ${#targets[@]}))
((each >= 2)) || each=2

status=0
for target in "${targets[@]}"; do
	read -r package name <<<"$target"
	go test -json -run '^$' -fuzz "^$name\$" -fuzztime "${each}s" "$package" || status=1
done
exit "$status"
