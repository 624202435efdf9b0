#!/bin/sh
# $1 is the number of versions that are installed then. The first takes the distribution's preset, as every service there does:
# systemctl enable --now perfagent starts it.
if [ -x /usr/bin/systemctl ]; then
	if [ "$1" -eq 1 ]; then
		systemctl --no-reload preset perfagent.service >/dev/null 2>&1 || true
	fi
	[ ! -d /run/systemd/system ] || systemctl daemon-reload >/dev/null 2>&1 || true
fi
