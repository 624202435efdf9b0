#!/usr/bin/env bash
# Installs what building, testing and trying perfagent needs, on Debian 12 (bookworm) or later.
#
#   provision.sh            install what is missing; says so and does nothing else when nothing is
#   provision.sh --check    list what is missing, one line each; exit status 1 if anything is
#
# The same script prepares the Vagrant box, the host of "make test" and, since the virtual machines of the tests see
# the host's programs, those machines as well. Packages come from the mirror that apt is configured with. No service is
# started or enabled to start by it: tests start their own, on free ports.
set -euo pipefail

# Package-manager scripts leave out the directories of system tools for ordinary users.
PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin

# What must be there, and the package that brings it: "command NAME PACKAGE" or "file PATH PACKAGE".
readonly needs='
command clang clang
command llvm-strip llvm
command bpftool bpftool
command make make
command gcc gcc
command objdump binutils
command git git
command curl curl
command ip iproute2
command ps procps
command shellcheck shellcheck
command openssl openssl
command nginx nginx-light
command redis-server redis-server
command wrk wrk
command stress-ng stress-ng
command pidstat sysstat
command node nodejs
command tmux tmux
command python3 python3
command prometheus prometheus
command promtool prometheus
command prometheus-alertmanager prometheus-alertmanager
command qemu-system-x86_64 qemu-system-x86
command busybox busybox-static
command cpio cpio
command modprobe kmod
command flock util-linux
command xz xz-utils
command dpkg dpkg
command rpm rpm
command runc runc
command systemd-analyze systemd
command zstd zstd
file /etc/ssl/certs/ca-certificates.crt ca-certificates
file /usr/include/stdlib.h libc6-dev
file /usr/include/linux/bpf.h linux-libc-dev
file /usr/include/bpf/bpf_helpers.h libbpf-dev
file /usr/include/liburing.h liburing-dev
file /usr/include/openssl/ssl.h libssl-dev
file /usr/lib/python3/dist-packages/uvicorn python3-uvicorn
file /usr/lib/python3/dist-packages/fastapi python3-fastapi
file /usr/lib/python3/dist-packages/gunicorn python3-gunicorn
'

# Go from this version on fetches the version that go.mod asks for by itself (GOTOOLCHAIN=auto), through the module proxy.
readonly go_minor=21

die() {
	printf 'provision.sh: %s\n' "$*" >&2
	exit 1
}

# missing: one line "WHAT PACKAGE" for each need that is not met.
missing() {
	local kind what package
	while read -r kind what package; do
		case $kind in
		command) command -v "$what" >/dev/null || echo "$what $package" ;;
		file) [[ -e $what ]] || echo "$what $package" ;;
		esac
	done <<<"$needs"
	busybox_is_static || echo "busybox-static busybox-static"
	go_is_new_enough || echo "go>=1.$go_minor golang-go"
}

# The virtual machines start from busybox, before there is a C library. A dynamic one names its loader in the first page.
busybox_is_static() {
	local path
	path=$(command -v busybox) || return 0 # reported above
	! head -c 4096 "$path" | grep -aq /ld-linux
}

go_is_new_enough() {
	local version
	# Outside the module, or Go would fetch the newer version in order to answer.
	version=$(cd / && GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || return 1
	[[ $version =~ ^go1\.([0-9]+) ]] && ((BASH_REMATCH[1] >= go_minor))
}

# as_root COMMAND...
as_root() {
	if ((EUID == 0)); then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "needs root (or sudo) to run: $*"
	fi
}

# Debian's packages of servers start them when installed, unless this file says no. One that is there already is respected;
# one that a killed run of this script left behind is known by its mark and removed like this run's own.
readonly policy=/usr/sbin/policy-rc.d
readonly policy_mark='# for the time of perfagent'"'"'s provision.sh'
forbid_services() {
	if [[ -e $policy ]] && ! grep -qF "$policy_mark" "$policy"; then
		return 0
	fi
	trap 'as_root rm -f "$policy"' EXIT
	printf '#!/bin/sh\n%s\nexit 101\n' "$policy_mark" | as_root tee "$policy" >/dev/null
	as_root chmod 755 "$policy"
}

# add_backports CODENAME: adds the release's backports, from the mirror of the release itself.
add_backports() {
	local mirror options=''
	local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	# shellcheck disable=SC2016 # apt, not the shell, fills in these
	mirror=$(apt-get indextargets --format '$(RELEASE)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)' 'Created-By: Packages' |
		awk -F'|' -v suite="$1" '($1 == suite || $2 == suite) && $3 == "main" { print $4; exit }')
	[[ -n $mirror ]] || die "Go 1.$go_minor or later is missing, and apt has no source for $1 from which to derive $1-backports; install Go from its web site"
	[[ -r $keyring ]] && options="[signed-by=$keyring] "
	echo "deb $options$mirror $1-backports main" | as_root tee /etc/apt/sources.list.d/perfagent-backports.list >/dev/null
}

# install_go: Debian 12 itself has Go 1.19, its backports have one that is new enough; later releases have it themselves.
install_go() {
	local codename candidate
	# shellcheck source=/dev/null
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	candidate=$(apt-cache policy golang-go | awk '/Candidate:/ { print $2 }')
	if dpkg --compare-versions "${candidate#*:}" ge "1.$go_minor"; then
		apt_install golang-go
		return
	fi
	add_backports "$codename"
	as_root apt-get -q update
	apt_install -t "$codename-backports" golang-go
}

apt_install() {
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends "$@"
}

install() {
	local -a packages=()
	local what package go=false
	while read -r what package; do
		case $package in
		golang-go) go=true ;;
		*) packages+=("$package") ;;
		esac
	done <<<"$1"
	command -v apt-get >/dev/null || die "needs a Debian host; missing: $(tr '\n' ',' <<<"$1")"
	forbid_services
	as_root apt-get -q update
	((${#packages[@]} == 0)) || apt_install "${packages[@]}"
	! $go || install_go
}

main() {
	local lacking
	lacking=$(missing)
	case ${1-} in
	--check)
		[[ -n $lacking ]] || return 0
		awk '{ printf "%s (package %s)\n", $1, $2 }' <<<"$lacking"
		return 1
		;;
	'') ;;
	*) die "usage: provision.sh [--check]" ;;
	esac
	if [[ -z $lacking ]]; then
		echo "provision.sh: everything is there"
		return 0
	fi
	install "$lacking"
	lacking=$(missing)
	[[ -z $lacking ]] || die "still missing after the installation: $(tr '\n' ';' <<<"$lacking")"
}

main "$@"
