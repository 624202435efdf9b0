#!/bin/sh
# Saturates nginx with wrk on the one CPU of a guest and prints the rate, three times. Meant for "run -icount".
#
#   nginx-wrk.sh [SECONDS [COMMAND...]]     SECONDS per run (default 2); COMMAND runs beside it, an agent for instance
#
# The two share the CPU; one thread and eight connections keep it busy without queues that make a run depend on its start.
set -eu
seconds=${1:-2}
[ $# -eq 0 ] || shift

dir=$(mktemp -d)
cat >"$dir/nginx.conf" <<EOF
daemon on;
worker_processes 1;
pid $dir/pid;
error_log stderr warn;
events { worker_connections 256; }
http {
	access_log off;
	keepalive_requests 1000000000;
	server {
		listen 127.0.0.1:8080;
		location / { return 200 "ok"; }
	}
}
EOF
nginx -p "$dir" -c "$dir/nginx.conf"
if [ $# -gt 0 ]; then
	"$@" &
	companion=$!
	sleep 1
fi

# The first run is for the page cache, the branch history and the connections' windows.
wrk -t1 -c8 -d1s http://127.0.0.1:8080/ >/dev/null
for _ in 1 2 3; do
	wrk -t1 -c8 -d"${seconds}s" http://127.0.0.1:8080/ | grep Requests/sec
done

[ -z "${companion:-}" ] || kill "$companion"
kill "$(cat "$dir/pid")"
rm -r "$dir"
