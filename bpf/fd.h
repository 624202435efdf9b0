/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Descriptors of the current process, and the sockets behind them. */
#pragma once

#include "core_fixes.h"

/* The socket behind a descriptor of the current process; 0 where there is none. */
static __always_inline __u64 socket_of(__u64 fd)
{
	struct { __u64 file, sk; } pair = {};
	__u64 count, files = open_files(&count), file = 0;

	if (fd >= count || bpf_probe_read_kernel(&file, sizeof(file), (void *)(files + fd * sizeof(file))) || !file)
		return 0;
	const struct socket *sock = BPF_CORE_READ((struct file *)file, private_data);

	/* Both with one read, where they are neighbours. A socket knows its file; other files' data is something else. */
	if (bpf_core_field_offset(sock->sk) - bpf_core_field_offset(sock->file) == 8) {
		if (bpf_probe_read_kernel(&pair, sizeof(pair), (void *)sock + bpf_core_field_offset(sock->file)))
			return 0;
	} else {
		pair.file = (__u64)BPF_CORE_READ(sock, file);
		pair.sk = (__u64)BPF_CORE_READ(sock, sk);
	}
	return pair.file == file ? pair.sk : 0;
}

static __always_inline bool is_socket(__u64 fd)
{
	__u64 count, files = open_files(&count), file = 0;

	return fd < count && !bpf_probe_read_kernel(&file, sizeof(file), (void *)(files + fd * sizeof(file))) &&
	       (BPF_CORE_READ((struct file *)file, f_inode, i_mode) & S_IFMT) == S_IFSOCK;
}
