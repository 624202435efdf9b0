/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Differences between kernels, each with the change that made it. Nothing else knows of them. */
#pragma once

#include "kernel.h"

/*
 * struct iov_iter: `type` became `iter_type` in 5.14 (8cd54c1c8480, 5.13 development), with the direction bit taken
 * out; ITER_UBUF came with 6.0 (fcb14cb1bdac); `iov` became `__iov` in 6.4 (de4f5fed3f23).
 */
struct iov_iter___old {
	unsigned int type;
} __attribute__((preserve_access_index));

struct iov_iter___iov {
	const struct iovec *iov;
} __attribute__((preserve_access_index));

enum iter_type___new {
	ITER_IOVEC___new,
	ITER_UBUF___new,
};

enum iter_type___old {
	ITER_IOVEC___old = 4,
};

enum iter_shape { ITER_OTHER_SHAPE, ITER_BUFFER, ITER_VECTOR };

/* What an iterator points at. `typed` is a constant: the verifier knows the pointer's type, so that it can be followed. */
static __always_inline enum iter_shape iter_shape(const struct iov_iter *it, const bool typed)
{
	if (!bpf_core_field_exists(it->iter_type)) {
		const struct iov_iter___old *old = (const struct iov_iter___old *)it;
		unsigned int type = typed ? old->type : BPF_CORE_READ(old, type);

		return (type & ~1U) == bpf_core_enum_value(enum iter_type___old, ITER_IOVEC___old) ? ITER_VECTOR
												  : ITER_OTHER_SHAPE;
	}
	__u8 type = typed ? it->iter_type : BPF_CORE_READ(it, iter_type);

	if (bpf_core_enum_value_exists(enum iter_type___new, ITER_UBUF___new) &&
	    type == bpf_core_enum_value(enum iter_type___new, ITER_UBUF___new))
		return ITER_BUFFER;
	if (type == bpf_core_enum_value(enum iter_type___new, ITER_IOVEC___new))
		return ITER_VECTOR;
	return ITER_OTHER_SHAPE;
}

static __always_inline const struct iovec *iter_iov(const struct iov_iter *it, const bool typed)
{
	const struct iov_iter___iov *old = (const struct iov_iter___iov *)it;

	if (bpf_core_field_exists(old->iov))
		return typed ? old->iov : BPF_CORE_READ(old, iov);
	return typed ? it->__iov : BPF_CORE_READ(it, __iov);
}

/*
 * The base and length of the vector's piece at hand, of an iterator of a known type. From 6.4 on the pointer stands in a
 * union whose first member hides its type from the verifier.
 */
static __always_inline bool iter_piece(const struct iov_iter *it, __u64 *base, __u64 *len)
{
	const struct iov_iter___iov *old = (const struct iov_iter___iov *)it;
	struct { __u64 base, len; } v;

	if (bpf_core_field_exists(old->iov)) {
		*base = (__u64)old->iov->iov_base;
		*len = old->iov->iov_len;
		return true;
	}
	if (bpf_probe_read_kernel(&v, sizeof(v), it->__iov))
		return false;
	*base = v.base;
	*len = v.len;
	return true;
}

/* Registers of a system call: x86-64 and arm64 name them differently, and arm64 keeps the first argument apart. */
#if defined(__TARGET_ARCH_x86)
static __always_inline void syscall_args(struct pt_regs *r, long *nr, __u64 *fd, __u64 *arg1, __u64 *arg2)
{
	*nr = BPF_CORE_READ(r, orig_ax);
	*fd = BPF_CORE_READ(r, di);
	*arg1 = BPF_CORE_READ(r, si);
	*arg2 = BPF_CORE_READ(r, dx);
}

static __always_inline __u64 syscall_arg3(struct pt_regs *r)
{
	return BPF_CORE_READ(r, r10);
}

#define NR_READ 0
#define NR_WRITE 1
#define NR_READV 19
#define NR_WRITEV 20
#define NR_SENDFILE 40
#define NR_SENDTO 44
#define NR_RECVFROM 45
#define NR_SENDMSG 46
#define NR_RECVMSG 47
#elif defined(__TARGET_ARCH_arm64)
static __always_inline void syscall_args(struct pt_regs *r, long *nr, __u64 *fd, __u64 *arg1, __u64 *arg2)
{
	*nr = BPF_CORE_READ(r, syscallno);
	*fd = BPF_CORE_READ(r, orig_x0);
	*arg1 = BPF_CORE_READ(r, regs[1]);
	*arg2 = BPF_CORE_READ(r, regs[2]);
}

static __always_inline __u64 syscall_arg3(struct pt_regs *r)
{
	return BPF_CORE_READ(r, regs[3]);
}

#define NR_READ 63
#define NR_WRITE 64
#define NR_READV 65
#define NR_WRITEV 66
#define NR_SENDFILE 71
#define NR_SENDTO 206
#define NR_RECVFROM 207
#define NR_SENDMSG 211
#define NR_RECVMSG 212
#else
#error "no system call registers for this architecture"
#endif
