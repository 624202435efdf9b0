/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Message iterators: where the bytes are that an operation is about to move, or has just moved past. */
#pragma once

#include "machine.h"

/*
 * An iterator's fields: read directly where the verifier knows the pointer's type (`typed`, a constant), which costs an
 * instruction each, else with probe_read, which costs fifty.
 */
#define ITER_READ(it, field) (typed ? (it)->field : BPF_CORE_READ(it, field))

/* The bytes that an iterator is about to move over. */
static __always_inline void from_iter(const struct iov_iter *it, struct source *src, const bool typed)
{
	enum iter_shape shape = iter_shape(it, typed);
	__u64 skip;

	if (shape == ITER_OTHER_SHAPE)
		return;
	skip = ITER_READ(it, iov_offset);
	if (shape == ITER_BUFFER) {
		/* Through memory: a union's first member makes the verifier take it for a typed pointer. */
		*(volatile __u64 *)&src->ptr = (__u64)ITER_READ(it, ubuf);
		src->ptr = *(volatile __u64 *)&src->ptr + skip;
		src->piece = src->len;
		return;
	}
	*(volatile __u64 *)&src->array = (__u64)iter_iov(it, typed);
	src->segments = ITER_READ(it, nr_segs);
	source_next(src);
	src->ptr += skip;
	src->piece -= skip;
}

/* Moves the work area's source one buffer back; 1: the bytes begin in it, or it cannot be read. */
__noinline int back_step(void)
{
	struct user_iovec v = {};
	struct work *w = work();

	if (!w)
		return 1;
	if (bpf_probe_read_kernel(&v, sizeof(v), (void *)(w->src.array - sizeof(v)))) {
		source_none(&w->src);
		return 1;
	}
	if (v.len < w->back) {
		w->back -= v.len;
		w->src.array -= sizeof(v);
		w->src.segments++;
		return 0;
	}
	w->src.ptr = v.base + v.len - w->back;
	w->src.piece = w->back;
	return 1;
}

/* The n bytes that an iterator has just moved past: they are behind it, so walk back. */
static __always_inline void from_passed_iter(const struct iov_iter *it, __u64 n, struct work *w, const bool typed)
{
	struct source *src = &w->src;
	enum iter_shape shape = iter_shape(it, typed);
	__u64 at = ITER_READ(it, iov_offset);

	src->len = src->piece = n;
	if (shape == ITER_OTHER_SHAPE)
		return;
	if (shape == ITER_BUFFER) {
		*(volatile __u64 *)&src->ptr = (__u64)ITER_READ(it, ubuf);
		src->ptr = *(volatile __u64 *)&src->ptr + at - n;
		return;
	}
	*(volatile __u64 *)&src->array = (__u64)iter_iov(it, typed);
	src->array = *(volatile __u64 *)&src->array;
	if (at >= n) {
		src->segments = 1;
		source_next(src);
		src->ptr += at - n;
		src->piece = n;
		return;
	}
	src->segments = at ? 1 : 0;
	w->back = n - at;
	for (int i = 0; i < PIECES_MAX; i++)
		if (back_step())
			return;
	source_none(src);
}

/*
 * A pointer as a number: what is read from a map has no type for the verifier. It passes through the place of `address`, which
 * is a Unix socket's; connections of TCP, which these are, have their key.
 */
static __always_inline __u64 through_memory(struct conn *c, const void *pointer)
{
	*(volatile __u64 *)&c->address = (__u64)pointer;
	return *(volatile __u64 *)&c->address;
}

/* The first buffer that an iterator of a known type is about to move over; false where there is none to speak of. */
static __always_inline bool next_buffer(const struct iov_iter *it, struct step *o, struct conn *c)
{
	enum iter_shape shape = iter_shape(it, true);
	__u64 skip = it->iov_offset;

	if (shape == ITER_BUFFER) {
		o->ptr = through_memory(c, it->ubuf) + skip;
		o->piece = o->n;
		return true;
	}
	if (shape != ITER_VECTOR)
		return false;
	if (!iter_piece(it, &o->ptr, &o->piece))
		return false;
	o->ptr += skip;
	o->piece -= skip;
	if (o->piece > o->n)
		o->piece = o->n;
	return o->piece > 0;
}

/* The buffer that holds all of the bytes that it has just moved past. */
static __always_inline bool passed_buffer(const struct iov_iter *it, struct step *o, struct conn *c)
{
	enum iter_shape shape = iter_shape(it, true);
	__u64 at = it->iov_offset;

	if (at < o->n)
		return false;
	if (shape == ITER_BUFFER) {
		o->ptr = through_memory(c, it->ubuf);
	} else if (shape != ITER_VECTOR || !iter_piece(it, &o->ptr, &o->piece)) {
		return false;
	}
	o->ptr += at - o->n;
	o->piece = o->n;
	return true;
}

/* The same two for an iterator of which only the address is known: the buffer that it is about to move over, or has passed. */
static __always_inline bool probed_buffer(const struct iov_iter *it, struct step *o, const bool passed)
{
	struct user_iovec v = {};
	__u64 at, offset;
	enum iter_shape shape = iter_read(it, &at, &offset);

	if (shape == ITER_BUFFER) {
		v.base = at;
		v.len = offset + o->n;
	} else if (shape != ITER_VECTOR || bpf_probe_read_kernel(&v, sizeof(v), (void *)at)) {
		return false;
	}
	if (passed) {
		o->ptr = v.base + offset - o->n;
		o->piece = o->n;
		return offset >= o->n;
	}
	o->ptr = v.base + offset;
	o->piece = v.len - offset;
	if (o->piece > o->n)
		o->piece = o->n;
	return o->piece > 0;
}

static __always_inline int handle_send(struct work *w, const struct msghdr *msg, const bool typed)
{
	from_iter(&msg->msg_iter, &w->src, typed);
	return user_data(w->si.write_seq);
}

static __always_inline int handle_received(struct work *w, const struct msghdr *msg, __u32 n, const bool typed)
{
	from_passed_iter(&msg->msg_iter, n, w, typed);
	return user_data(w->si.copied_seq - n);
}
