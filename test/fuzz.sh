#!/usr/bin/env bash
# Runs every fuzz target for a short while, one after the other.
#
#   fuzz.sh [INPUTS]      inputs for each target; default: 2000, about a second each
#
# A package is compiled once for all of its targets, and without the profile, as that would compile everything once more. What a target finds
# interesting is kept where go test keeps it, so that a later run goes on from there.
# Counted and not timed: before Go 1.27 the end of -fuzztime may be taken for a failure (go.dev/issue/75804).
set -euo pipefail

cd "$(dirname "$0")/.."
inputs=${1:-2000}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
# "PACKAGE TARGET" a line.
mapfile -t targets < <(grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' cmd internal |
	sed -E 's|^(.*)/[^/]*:func |./\1 |' | sort -u)
((${#targets[@]})) || { echo "no fuzz targets found" >&2; exit 1; }
cache=$(go env GOCACHE)/fuzz/$(go list -m)

status=0
for target in "${targets[@]}"; do
	read -r package name <<<"$target"
	binary=$dir/${package//\//_}.test
	[[ -e $binary ]] || go test -pgo=off -c -fuzz=. -o "$binary" "$package"
	# In its package's folder, where go test runs it and a failing input belongs (testdata/fuzz).
	(cd "$package" && "$binary" -test.v=test2json -test.run '^$' -test.fuzz "^$name\$" -test.fuzztime "${inputs}x" \
		-test.fuzzcachedir "$cache/${package#./}" 2>&1 | go tool test2json -t -p "$package") || status=1
done
exit "$status"
