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

static __always_inline enum iter_shape shape_of_old(unsigned int type)
{
	return (type & ~1U) == bpf_core_enum_value(enum iter_type___old, ITER_IOVEC___old) ? ITER_VECTOR : ITER_OTHER_SHAPE;
}

static __always_inline enum iter_shape shape_of(__u8 type)
{
	if (bpf_core_enum_value_exists(enum iter_type___new, ITER_UBUF___new) &&
	    type == bpf_core_enum_value(enum iter_type___new, ITER_UBUF___new))
		return ITER_BUFFER;
	return type == bpf_core_enum_value(enum iter_type___new, ITER_IOVEC___new) ? ITER_VECTOR : ITER_OTHER_SHAPE;
}

/* What an iterator points at. `typed` is a constant: the verifier knows the pointer's type, so that it can be followed. */
static __always_inline enum iter_shape iter_shape(const struct iov_iter *it, const bool typed)
{
	const struct iov_iter___old *old = (const struct iov_iter___old *)it;

	if (!bpf_core_field_exists(it->iter_type))
		return shape_of_old(typed ? old->type : BPF_CORE_READ(old, type));
	return shape_of(typed ? it->iter_type : BPF_CORE_READ(it, iter_type));
}

static __always_inline const struct iovec *iter_iov(const struct iov_iter *it, const bool typed)
{
	const struct iov_iter___iov *old = (const struct iov_iter___iov *)it;

	if (bpf_core_field_exists(old->iov))
		return typed ? old->iov : BPF_CORE_READ(old, iov);
	return typed ? it->__iov : BPF_CORE_READ(it, __iov);
}

/* The same of an iterator of which only the address is known, with one read: what it points at, and how far into that. */
static __always_inline enum iter_shape iter_read(const struct iov_iter *from, __u64 *at, __u64 *offset)
{
	__u64 copy[8] = {};
	const struct iov_iter *it = (const struct iov_iter *)copy;
	const __u64 size = bpf_core_type_size(struct iov_iter);

	if (size > sizeof(copy) || bpf_probe_read_kernel(copy, size, from))
		return ITER_OTHER_SHAPE;
	enum iter_shape shape = iter_shape(it, true);

	*offset = it->iov_offset;
	*at = shape == ITER_BUFFER ? (__u64)it->ubuf : (__u64)iter_iov(it, true);
	return shape;
}

/* The open files of the current process: 5.11 (3ca1032ab7ab) lets the verifier know the task. */
static __always_inline __u64 open_files(__u64 *count)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_get_current_task_btf)) {
		struct fdtable *fdt = bpf_get_current_task_btf()->files->fdt;

		*count = fdt->max_fds;
		return (__u64)fdt->fd;
	}
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct fdtable *fdt = BPF_CORE_READ(task, files, fdt);

	*count = BPF_CORE_READ(fdt, max_fds);
	return (__u64)BPF_CORE_READ(fdt, fd);
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

/*
 * Registers of a system call, which the verifier knows as such: x86-64 and arm64 name them differently, and arm64 keeps the
 * first argument apart.
 */
#if defined(__TARGET_ARCH_x86)
static __always_inline void syscall_args(struct pt_regs *r, long *nr, __u64 *fd, __u64 *arg1, __u64 *arg2)
{
	*nr = r->orig_ax;
	*fd = r->di;
	*arg1 = r->si;
	*arg2 = r->dx;
}

static __always_inline __u64 syscall_arg3(struct pt_regs *r)
{
	return r->r10;
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
#define NR_SPLICE 275
#define NR_RECVMMSG 299
#define NR_SENDMMSG 307
#define NR_PREADV2 327
#define NR_PWRITEV2 328
#elif defined(__TARGET_ARCH_arm64)
static __always_inline void syscall_args(struct pt_regs *r, long *nr, __u64 *fd, __u64 *arg1, __u64 *arg2)
{
	*nr = r->syscallno;
	*fd = r->orig_x0;
	*arg1 = r->regs[1];
	*arg2 = r->regs[2];
}

static __always_inline __u64 syscall_arg3(struct pt_regs *r)
{
	return r->regs[3];
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
#define NR_SPLICE 76
#define NR_RECVMMSG 243
#define NR_SENDMMSG 269
#define NR_PREADV2 286
#define NR_PWRITEV2 287
#else
#error "no system call registers for this architecture"
#endif
