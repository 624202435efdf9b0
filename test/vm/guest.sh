#!/bin/busybox sh
# shellcheck shell=dash
# First process of a virtual machine. It runs twice: from the initramfs, where it puts the host's file system under a
# layer of memory and moves into it, and then from there, where it runs the command and powers off.
# Beside it stand, written for each start, prepare.sh (what else to mount) and job.sh (the command).

here=/run/vm
bb=$here/busybox

fail() {
	echo "vm: $*" >/dev/console
	"$bb" poweroff -f
	"$bb" sleep 60
}

# From the initramfs: modules, then root = host (read only) below memory (writable, gone at the end).
enter_host() {
	export PATH=/bin
	/bin/busybox mkdir -p /proc /sys /dev /host /layer /new
	/bin/busybox mount -t devtmpfs dev /dev
	/bin/busybox mount -t proc proc /proc
	bb=/bin/busybox
	while read -r module; do
		$bb insmod "/modules/$module" || fail "module $module does not load"
	done </modules/order

	$bb mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose host /host || fail "the host's files cannot be mounted"
	$bb mount -t tmpfs -o size=75% layer /layer
	$bb mkdir /layer/upper /layer/work
	$bb mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work root /new || fail "the root cannot be mounted"

	# The host's own run-time state must not be seen: sockets and process ids in it are not of this machine.
	$bb mount -t tmpfs -o mode=755 run /new/run
	$bb mkdir "/new$here" /new/run/lock
	$bb cp /bin/busybox /init /prepare.sh /job.sh "/new$here/"
	$bb umount /proc
	$bb mount --move /dev /new/dev
	exec $bb switch_root /new "$here/busybox" sh "$here/init" inside
}

mount_all() {
	$bb mount -t proc proc /proc
	$bb mount -t sysfs sys /sys
	$bb mkdir -p /dev/pts /dev/shm
	$bb mount -t devpts -o gid=5,mode=620,ptmxmode=666 pts /dev/pts
	$bb mount -t tmpfs -o mode=1777 shm /dev/shm
	$bb ln -sf /proc/self/fd /dev/fd
	$bb ln -sf /proc/self/fd/0 /dev/stdin
	$bb ln -sf /proc/self/fd/1 /dev/stdout
	$bb ln -sf /proc/self/fd/2 /dev/stderr
	$bb mount -t cgroup2 cgroup /sys/fs/cgroup
	$bb mount -t bpf -o mode=700 bpf /sys/fs/bpf
	$bb mount -t tracefs tracefs /sys/kernel/tracing
	$bb mount -t debugfs debugfs /sys/kernel/debug
	$bb mount -t securityfs security /sys/kernel/security
}

# port NAME: the device of the virtio-serial port of this name.
port() {
	for name in /sys/class/virtio-ports/*/name; do
		if [ "$($bb cat "$name")" = "$1" ]; then
			name=${name%/name}
			echo "/dev/${name##*/}"
			return
		fi
	done
	fail "port $1 is missing"
}

# end_others KEEP...: ends what the command left running, which may hold its output open, except the processes named.
# SIGKILL follows two seconds after SIGTERM.
end_others() {
	for signal in TERM TERM TERM TERM KILL; do
		left=
		for process in /proc/[0-9]*; do
			process=${process#/proc/}
			case " 1 $* " in *" $process "*) continue ;; esac
			# A kernel thread has no command line, and neither has a zombie.
			[ -n "$($bb tr -d '\0' 2>/dev/null </proc/"$process"/cmdline)" ] || continue
			$bb kill -$signal "$process" 2>/dev/null && left=yes
		done
		[ -n "$left" ] || return
		$bb sleep 0.5
	done
}

# run_job: standard output and error go to the host through a port each. A port can be opened once only, so a program that
# opens /dev/stdout again needs the pipe in between.
run_job() {
	$bb mkfifo $here/out $here/err
	$bb cat $here/out >"$(port out)" &
	cat_out=$!
	$bb cat $here/err >"$(port err)" &
	cat_err=$!
	# The host's shell: busybox would run its own applets in place of the host's programs.
	$bb setsid /bin/sh $here/job.sh </dev/null >$here/out 2>$here/err
	code=$?
	end_others $cat_out $cat_err
	wait $cat_out $cat_err
	echo "exit $code" >"$(port status)"
}

if [ "$1" != inside ]; then
	enter_host
fi
mount_all
# shellcheck source=/dev/null
. $here/prepare.sh
$bb ip link set lo up
$bb hostname vm
ulimit -n 65536
run_job
$bb poweroff -f
$bb sleep 60
