#!/bin/sh
# $1 is the number of versions that stay: 0 is a removal.
if [ "$1" -eq 0 ] && [ -x /usr/bin/systemctl ]; then
	if [ -d /run/systemd/system ]; then
		systemctl --no-reload disable --now perfagent.service >/dev/null 2>&1 || true
	else
		systemctl --no-reload disable perfagent.service >/dev/null 2>&1 || true
	fi
fi
