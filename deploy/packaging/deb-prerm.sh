#!/bin/sh
# Before a removal the agent is stopped; an upgrade lets it run until the new version replaces it.
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
	deb-systemd-invoke stop perfagent.service >/dev/null || true
fi
