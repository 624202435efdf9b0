#!/usr/bin/env bash
# Demo services for the Vagrant box: nginx in front of a FastAPI and a Node service, and a little load on all of them.
#
#   demo.sh install     install and start them as systemd units (as root; never used by the tests)
#   demo.sh remove      stop and remove them
#   demo.sh run DIR     run them in the foreground from DIR, without systemd, until interrupted
#
# nginx 127.0.0.1:8080 (static /, /api/ -> uvicorn 127.0.0.1:8000, /node/ -> node 127.0.0.1:3000)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
readonly home=/opt/perfagent-demo
readonly services=(nginx api node load)

die() {
	printf 'demo.sh: %s\n' "$*" >&2
	exit 1
}

# command_of SERVICE DIR: how the service is started, in the foreground.
command_of() {
	case $1 in
	nginx) echo "/usr/sbin/nginx -e stderr -p $2 -c $2/nginx.conf" ;;
	api) echo "/usr/bin/python3 -m uvicorn --app-dir $2 --host 127.0.0.1 --port 8000 --no-access-log api:app" ;;
	node) echo "$(command -v node) $2/server.js" ;;
	load) echo "$2/load.sh http://127.0.0.1:8080" ;;
	esac
}

write_unit() {
	cat >"/etc/systemd/system/perfagent-demo-$1.service" <<-EOF
		[Unit]
		Description=perfagent demo: $1
		After=network.target

		[Service]
		ExecStart=$(command_of "$1" "$home")
		DynamicUser=yes
		Restart=on-failure

		[Install]
		WantedBy=multi-user.target
	EOF
}

install_all() {
	local service
	mkdir -p "$home"
	cp "$here"/demo/* "$home/"
	for service in "${services[@]}"; do write_unit "$service"; done
	systemctl daemon-reload
	systemctl enable --now "${services[@]/#/perfagent-demo-}"
}

remove_all() {
	systemctl disable --now "${services[@]/#/perfagent-demo-}" || true
	rm -f /etc/systemd/system/perfagent-demo-*.service
	rm -rf "$home"
	systemctl daemon-reload
}

run_all() {
	local dir=$1 service
	local -a pids=() words
	mkdir -p "$dir"
	cp "$here"/demo/* "$dir/"
	for service in "${services[@]}"; do
		read -ra words <<<"$(command_of "$service" "$dir")"
		"${words[@]}" &
		pids+=("$!")
	done
	# shellcheck disable=SC2064 # the process ids of now are meant
	trap "kill ${pids[*]} 2>/dev/null; wait" EXIT
	trap 'exit 0' INT TERM
	wait
}

case ${1-} in
install) install_all ;;
remove) remove_all ;;
run) run_all "$(realpath -m "${2:?directory}")" ;;
*) die "usage: demo.sh install | remove | run DIR" ;;
esac
