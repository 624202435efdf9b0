#!/bin/sh
# After an upgrade what runs becomes the new version. The history stays after a removal, as rpm leaves what it did not install.
if [ -x /usr/bin/systemctl ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload >/dev/null 2>&1 || true
	[ "$1" -eq 0 ] || systemctl try-restart perfagent.service >/dev/null 2>&1 || true
fi
