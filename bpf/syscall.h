/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* System calls: where the bytes are that the arguments of the one under way tell of. */
#pragma once

#include "usual.h"

/* Reads; the others of those that are looked at write. */
static __always_inline bool receives(long nr)
{
	return nr == NR_READ || nr == NR_READV || nr == NR_RECVFROM || nr == NR_RECVMSG || nr == NR_PREADV2 || nr == NR_RECVMMSG;
}

/* Its second argument is an array of buffers. */
static __always_inline bool has_buffers(long nr)
{
	return nr == NR_READV || nr == NR_WRITEV || nr == NR_PREADV2 || nr == NR_PWRITEV2;
}

/* Several messages at once. */
static __always_inline bool has_messages(long nr)
{
	return nr == NR_SENDMMSG || nr == NR_RECVMMSG;
}

static __always_inline bool moves_bytes(long nr)
{
	return nr == NR_READ || nr == NR_WRITE || nr == NR_READV || nr == NR_WRITEV || nr == NR_SENDTO || nr == NR_RECVFROM ||
	       nr == NR_SENDMSG || nr == NR_RECVMSG || nr == NR_SENDFILE || nr == NR_SPLICE || nr == NR_PREADV2 ||
	       nr == NR_PWRITEV2 || has_messages(nr);
}

static __always_inline bool peeks(struct pt_regs *regs, long nr, __u64 a2)
{
	if (nr == NR_RECVFROM || nr == NR_RECVMMSG)
		return syscall_arg3(regs) & MSG_PEEK;
	return nr == NR_RECVMSG && (a2 & MSG_PEEK);
}

/* Its second argument is the buffer itself. */
static __always_inline bool has_buffer(long nr)
{
	return nr == NR_READ || nr == NR_WRITE || nr == NR_RECVFROM || nr == NR_SENDTO;
}

/* The buffers that a user's msghdr names: only what is needed of it, for the stack's sake. */
struct user_buffers {
	__u64 iov;
	__u64 len;
};

_Static_assert(offsetof(struct user_msghdr, msg_iovlen) - offsetof(struct user_msghdr, msg_iov) == 8, "two neighbours");

static __always_inline bool message_buffers(struct user_buffers *to, __u64 msg)
{
	return !bpf_probe_read_user(to, sizeof(*to), (void *)(msg + offsetof(struct user_msghdr, msg_iov)));
}

/* Where the bytes of the system call under way are. */
static __always_inline bool from_syscall(struct pt_regs *regs, __u64 n, struct source *src, bool *receive, __u64 *fd)
{
	long nr;
	__u64 buf, len;

	syscall_args(regs, &nr, fd, &buf, &len);
	*receive = receives(nr);
	src->len = n;
	if (has_buffer(nr)) {
		src->ptr = buf;
		src->piece = n;
		return true;
	}
	src->user_array = true;
	if (has_buffers(nr)) {
		src->array = buf;
		src->segments = len;
		source_next(src);
		return true;
	}
	if (nr == NR_SENDMSG || nr == NR_RECVMSG) {
		struct user_buffers m = {};

		if (!message_buffers(&m, buf))
			return false;
		src->array = m.iov;
		src->segments = m.len;
		source_next(src);
		return true;
	}
	return false;
}

/* The first buffer of the system call under way, as far as its n bytes go. */
static __always_inline bool syscall_buffer(struct step *o, long nr, __u64 a1)
{
	struct user_iovec v = {};

	o->ptr = a1;
	o->piece = o->n;
	if (has_buffer(nr))
		return true;
	if (nr == NR_SENDMSG || nr == NR_RECVMSG) {
		struct user_buffers m;

		if (!message_buffers(&m, a1))
			return false;
		a1 = m.iov;
	} else if (!has_buffers(nr)) {
		return false;
	}
	if (bpf_probe_read_user(&v, sizeof(v), (void *)a1))
		return false;
	o->ptr = v.base;
	o->piece = v.len < o->n ? v.len : o->n;
	return true;
}
