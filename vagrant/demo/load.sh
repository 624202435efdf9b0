#!/bin/sh
# A little load, about 20 requests a second, one client after the other: load.sh BASE-URL
set -eu
base=$1
n=0
while :; do
	n=$((n + 1))
	curl -s "$base/" "$base/api/items/$n" "$base/node/page" "$base/node/missing" >/dev/null || true
	curl -s -d '{}' "$base/api/orders" >/dev/null || true
	[ $((n % 20)) -ne 0 ] || curl -s "$base/api/report" >/dev/null || true
	sleep 0.2
done
