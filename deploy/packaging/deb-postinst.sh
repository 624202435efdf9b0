#!/bin/sh
# After unpacking: enables the unit unless the administrator has disabled it, and starts it, or the new version of it. The
# helpers keep to what policy-rc.d, masks and disabled units say.
set -e
case $1 in
configure | abort-upgrade | abort-deconfigure | abort-remove) ;;
*) exit 0 ;;
esac
deb-systemd-helper unmask perfagent.service >/dev/null || true # what a removal without purge has masked
if deb-systemd-helper --quiet was-enabled perfagent.service; then
	deb-systemd-helper enable perfagent.service >/dev/null || true
else
	deb-systemd-helper update-state perfagent.service >/dev/null || true
fi
[ -d /run/systemd/system ] || exit 0
systemctl --system daemon-reload >/dev/null || true
if [ -n "$2" ]; then # the version before
	deb-systemd-invoke restart perfagent.service >/dev/null || true
else
	deb-systemd-invoke start perfagent.service >/dev/null || true
fi
