#!/bin/sh
# A removal leaves configuration and history; a purge leaves nothing. With DynamicUser the directories are below private, and
# links are in the places that systemd documents.
set -e
if [ "$1" = remove ] && [ -x /usr/bin/deb-systemd-helper ]; then
	deb-systemd-helper mask perfagent.service >/dev/null || true
fi
if [ "$1" = purge ]; then
	if [ -x /usr/bin/deb-systemd-helper ]; then
		deb-systemd-helper purge perfagent.service >/dev/null || true
		deb-systemd-helper unmask perfagent.service >/dev/null || true
	fi
	rm -rf /var/lib/perfagent /var/lib/private/perfagent /var/log/perfagent /var/log/private/perfagent
	rmdir --ignore-fail-on-non-empty /etc/perfagent 2>/dev/null || true
fi
if [ -d /run/systemd/system ]; then
	systemctl --system daemon-reload >/dev/null || true
fi
