#!/usr/bin/env bash
# Obtains the Debian kernels that the virtual machines boot.
#
#   kernels.sh [--update] [VERSION...]      VERSION: 5.10, 6.1, 6.12 (default: all)
#
# Packages come from the mirror that this host's own apt is configured with, through a private apt configuration, so that
# apt verifies signatures and checksums and nothing of the host's package state changes. Each kernel lands in
# ${XDG_CACHE_HOME:-~/.cache}/perfagent/vm/VERSION; that directory is printed, one line per version. A kernel that is
# there already is not looked at again without --update, which moves on to the newest package.
#
# Layout of a kernel's directory:
#   package       name and version of the Debian package
#   abi           what uname -r says
#   vmlinux       the uncompressed kernel: QEMU enters it directly (PVH), which saves unpacking it in emulation
#   config        the kernel's configuration
#   boot-modules  modules that the initramfs loads, in order, relative to this directory
#   lib/modules   the modules that networking and the guest's file systems may need, for modprobe in the guest
set -euo pipefail

# Bumped when the layout above changes, so that an older cache is rebuilt.
readonly layout=1

die() {
	printf 'kernels.sh: %s\n' "$*" >&2
	exit 1
}

# suite_of VERSION: the Debian release whose main kernel has this version.
suite_of() {
	case $1 in
	5.10) echo bullseye ;;
	6.1) echo bookworm ;;
	6.12) echo trixie ;;
	*) die "kernel $1 is not known; known are 5.10, 6.1 and 6.12" ;;
	esac
}

# mirror_of SUITE: the address that apt uses for this suite, or nothing.
mirror_of() {
	# shellcheck disable=SC2016 # apt, not the shell, fills in these
	apt-get indextargets --format '$(RELEASE)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)' 'Created-By: Packages' |
		awk -F'|' -v suite="$1" '($1 == suite || $2 == suite) && $3 == "main" { print $4; exit }'
}

# private_apt DIR SUITE...: writes DIR/apt.conf, with which apt sees these suites only and keeps its state in DIR.
private_apt() {
	local dir=$1 suite codename main security
	shift
	# shellcheck source=/dev/null
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	main=$(mirror_of "$codename")
	security=$(mirror_of "$codename-security")
	[[ -n $main ]] || die "apt has no source for '$codename main': the kernels need a Debian host with a working mirror"
	[[ -n $security ]] || echo "kernels.sh: apt has no source for $codename-security; using the main archive alone" >&2

	local options=arch=amd64 keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	[[ -r $keyring ]] && options+=" signed-by=$keyring"
	for suite in "$@"; do
		echo "deb [$options] $main $suite main"
		[[ -z $security ]] || echo "deb [$options] $security $suite-security main"
	done >"$dir/sources.list"

	mkdir -p "$dir/state/lists/partial" "$dir/cache/archives/partial"
	: >"$dir/status"
	cat >"$dir/apt.conf" <<-EOF
		Dir::Etc::sourcelist "$dir/sources.list";
		Dir::Etc::sourceparts "-";
		Dir::State "$dir/state";
		Dir::State::status "$dir/status";
		Dir::Cache "$dir/cache";
		APT::Architecture "amd64";
		APT::Sandbox::User "";
		Acquire::Languages "none";
		Acquire::Retries "3";
		Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
		#clear APT::Update::Post-Invoke;
		#clear APT::Update::Post-Invoke-Success;
	EOF
}

# newest_package CONF VERSION: the generic kernel with the highest ABI number. The cloud flavour is smaller and lacks 9p,
# with which the guest sees the host's programs. Backports to an older release (deb11, bpo) are left out.
newest_package() {
	apt-cache -c "$1" pkgnames "linux-image-$2." |
		grep -E "^linux-image-${2//./\\.}\.[0-9]+(-[0-9]+)?(\+deb[0-9]+)?-amd64$" | sort -V | tail -n 1
}

# extract_vmlinux VMLINUZ VMLINUX: unpacks the payload of a bzImage. Offsets are those of the x86 boot protocol:
# setup_sects at 0x1f1, payload_offset at 0x248, payload_length at 0x24c; the payload's last four bytes are its unpacked size.
extract_vmlinux() {
	local image=$1 sectors offset length magic
	local -a unpack
	sectors=$(od -An -tu1 -j $((0x1f1)) -N 1 "$image" | tr -d ' ')
	offset=$(od -An -tu4 -j $((0x248)) -N 4 "$image" | tr -d ' ')
	length=$(od -An -tu4 -j $((0x24c)) -N 4 "$image" | tr -d ' ')
	offset=$((offset + (sectors + 1) * 512))
	magic=$(od -An -tx1 -j "$offset" -N 4 "$image" | tr -d ' \n')
	case $magic in
	fd377a58) unpack=(xz -dc --single-stream) ;;
	28b52ffd) unpack=(zstd -dcq) ;;
	*) die "$image is packed in a way that is not known (first bytes $magic)" ;;
	esac
	dd if="$image" iflag=skip_bytes,count_bytes bs=64K skip="$offset" count=$((length - 4)) status=none | "${unpack[@]}" >"$2"
	[[ $(od -An -tx1 -N 4 "$2" | tr -d ' ') == 7f454c46 ]] || die "$image did not unpack to an ELF file"
}

# extract_modules PACKAGE DIR ABI: unpacks the modules that a guest can want and indexes them. The whole tree would be
# 300 MB, nearly all of it drivers for hardware that QEMU is not asked for.
extract_modules() {
	local package=$1 dir=$2 abi=$3 base pattern
	local -a wanted=()
	for pattern in 'modules.*' 'kernel/net/*' 'kernel/lib/*' 'kernel/crypto/*' 'kernel/arch/x86/crypto/*' \
		'kernel/fs/9p/*' 'kernel/fs/fscache/*' 'kernel/fs/netfs/*' 'kernel/fs/overlayfs/*' \
		'kernel/drivers/virtio/*' 'kernel/drivers/char/virtio_console.ko*' \
		'kernel/drivers/net/dummy.ko*' 'kernel/drivers/net/veth.ko*'; do
		wanted+=("*/lib/modules/$abi/$pattern")
	done
	mkdir -p "$dir/unpacked"
	# tar exits with 2 for a pattern that matches nothing (5.10 has no netfs); what must be there is checked below.
	dpkg-deb --fsys-tarfile "$package" | tar -xf - -C "$dir/unpacked" --wildcards "${wanted[@]}" 2>"$dir/tar.log" || true
	base=$(find "$dir/unpacked" -type d -path "*/lib/modules/$abi" -print -quit)
	[[ -n $base ]] || die "no modules in $package: $(cat "$dir/tar.log")"
	mkdir -p "$dir/lib/modules"
	mv "$base" "$dir/lib/modules/$abi"
	rm -rf "$dir/unpacked" "$dir/tar.log"
	# The initramfs loads them with busybox's insmod, which unpacks nothing.
	find "$dir/lib/modules" -name '*.ko.xz' -exec xz -d {} +
	# Warnings are about symbols of modules that were left out; a missing dependency of ours fails modprobe below.
	PATH=$PATH:/usr/sbin:/sbin depmod -b "$dir" "$abi" 2>/dev/null
	PATH=$PATH:/usr/sbin:/sbin modprobe -d "$dir" -S "$abi" --show-depends -a virtio_pci virtio_console 9pnet_virtio 9p overlay |
		sed -n "s|^insmod $dir/||p" | awk '{ print $1 }' | awk '!seen[$0]++' >"$dir/boot-modules"
}

# build VERSION CONF CACHE: downloads the newest package and puts CACHE/VERSION in place in one step.
build() {
	local version=$1 conf=$2 cache=$3 name fresh abi package
	name=$(newest_package "$conf" "$version")
	[[ -n $name ]] || die "the mirror has no kernel $version ($(suite_of "$version")); if that release has moved to an archive, add it to apt's sources"
	abi=${name#linux-image-}
	fresh=$(mktemp -d "$cache/.new.XXXXXX")
	(cd "$fresh" && apt-get -c "$conf" -qq download "$name") >&2
	package=$(echo "$fresh"/linux-image-*.deb)
	dpkg-deb --fsys-tarfile "$package" | tar -xf - -C "$fresh" "./boot/vmlinuz-$abi" "./boot/config-$abi"
	extract_vmlinux "$fresh/boot/vmlinuz-$abi" "$fresh/vmlinux"
	mv "$fresh/boot/config-$abi" "$fresh/config"
	extract_modules "$package" "$fresh" "$abi"
	echo "$abi" >"$fresh/abi"
	dpkg-deb -f "$package" Package Version >"$fresh/package"
	echo "$layout" >"$fresh/layout"
	rm -rf "${fresh:?}/boot" "$package" "${cache:?}/$version"
	chmod 755 "$fresh"
	mv "$fresh" "$cache/$version"
}

main() {
	local update=false cache=${XDG_CACHE_HOME:-$HOME/.cache}/perfagent/vm version work
	local -a versions=() missing=() suites=()
	for version in "$@"; do
		case $version in
		--update) update=true ;;
		-*) die "usage: kernels.sh [--update] [5.10|6.1|6.12]..." ;;
		*) suite_of "$version" >/dev/null && versions+=("$version") ;;
		esac
	done
	((${#versions[@]})) || versions=(5.10 6.1 6.12)

	mkdir -p "$cache"
	exec 9>"$cache/.kernels.lock"
	flock 9
	for version in "${versions[@]}"; do
		if $update || [[ $(cat "$cache/$version/layout" 2>/dev/null) != "$layout" ]]; then
			missing+=("$version")
			suites+=("$(suite_of "$version")")
		fi
	done
	if ((${#missing[@]})); then
		command -v apt-get >/dev/null || die "apt-get is missing: the kernels are Debian packages"
		work=$(mktemp -d)
		# shellcheck disable=SC2064 # the directory of now is meant
		trap "rm -rf '$work' '$cache'/.new.*" EXIT
		private_apt "$work" "${suites[@]}"
		apt-get -c "$work/apt.conf" -qq update >&2
		for version in "${missing[@]}"; do build "$version" "$work/apt.conf" "$cache"; done
	fi
	printf "$cache/%s\n" "${versions[@]}"
}

main "$@"
