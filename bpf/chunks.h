/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Chunked bodies (RFC 9112, section 7.1), chunk by chunk: only lines of sizes and trailers are read, data is passed over by its
 * length. So the last byte of a body is known whatever its final chunk looks like and however it is cut into operations.
 */
#pragma once

#include "source.h"

/* Steps that one operation may take, their product: each passes over a chunk's data or CHUNK_READ bytes of framing. */
#define CHUNK_STEPS 16
#define CHUNK_ROUNDS 128

static __always_inline void chunk_sized(struct work *w)
{
	w->chunk_digits = 0;
	w->chunk_state = w->chunk_size ? CHUNK_DATA : CHUNK_TRAILER;
}

static __always_inline void chunk_size_byte(struct work *w, __u8 b)
{
	__u8 lower = b | 0x20, digit = 255;

	if (b >= '0' && b <= '9')
		digit = b - '0';
	else if (lower >= 'a' && lower <= 'f')
		digit = lower - 'a' + 10;
	if (digit < 16) {
		/* What the word cannot hold is more than ever passes: the body's end is not reached. */
		w->chunk_size = w->chunk_size >> (CHUNK_DIGITS_SHIFT - 4) ? CHUNK_SIZE_MASK : w->chunk_size << 4 | digit;
		w->chunk_digits = 1;
	} else if (!w->chunk_digits) {
		w->chunk_state = CHUNK_BAD;
	} else if (b == '\n') {
		chunk_sized(w);
	} else {
		w->chunk_state = b == ';' || b == ' ' || b == '\t' || b == '\r' ? CHUNK_LINE : CHUNK_BAD;
	}
}

/* A byte that is not data. */
static __always_inline void chunk_byte(struct work *w, __u8 b)
{
	switch (w->chunk_state) {
	case CHUNK_SIZE:
		chunk_size_byte(w, b);
		break;
	case CHUNK_LINE:
		if (b == '\n')
			chunk_sized(w);
		break;
	case CHUNK_END:
		if (b == '\n')
			w->chunk_state = CHUNK_SIZE;
		else if (b != '\r')
			w->chunk_state = CHUNK_BAD;
		break;
	case CHUNK_TRAILER:
	case CHUNK_CR:
		if (b == '\n')
			w->chunk_state = CHUNK_DONE;
		else
			w->chunk_state = b == '\r' && w->chunk_state == CHUNK_TRAILER ? CHUNK_CR : CHUNK_FIELD;
		break;
	case CHUNK_FIELD:
		if (b == '\n')
			w->chunk_state = CHUNK_TRAILER;
	}
}

/*
 * Reads n bytes of w->bytes, up to where more data follows than they hold or the body is over; returns how many that were.
 * What was found so far stays in map memory, for the verifier as in scan_word.
 */
__noinline __u32 chunk_bytes(__u32 n)
{
	struct work *w = work();

	if (!w)
		return n;
	w->chunk_at = 0;
	for (__u32 k = 0; k < CHUNK_READ; k++) {
		__u32 at = w->chunk_at;

		if (at >= n)
			return n;
		if (w->chunk_state >= CHUNK_DONE || (w->chunk_state == CHUNK_DATA && w->chunk_size >= n - at))
			return at;
		if (w->chunk_state == CHUNK_DATA) {
			w->chunk_at = at + (__u32)w->chunk_size;
			w->chunk_size = 0;
			w->chunk_state = CHUNK_END;
			continue;
		}
		w->chunk_at = at + 1;
		chunk_byte(w, w->bytes[at & (CHUNK_READ - 1)]);
	}
	return w->chunk_at;
}

/* Passes over data, as far as one buffer goes. */
static __always_inline void chunk_skip(struct work *w, struct source *src, const enum source_kind kind)
{
	__u64 n = kind == SRC_USER && (src->ptr || src->segments) ? source_piece(src) : src->len;

	if (!n) {
		w->chunk_state = CHUNK_LOST;
		return;
	}
	if (n > w->chunk_size)
		n = w->chunk_size;
	source_advance(src, n);
	w->chunk_size -= n;
	if (!w->chunk_size)
		w->chunk_state = w->chunk_state == CHUNK_BEFORE ? CHUNK_SIZE : CHUNK_END;
}

static __always_inline bool chunk_in_data(const struct work *w)
{
	return w->chunk_state == CHUNK_DATA || w->chunk_state == CHUNK_BEFORE;
}

/* Goes on by a buffer of data or some bytes of framing in user memory; true: there is no more to do. */
static __always_inline bool chunk_step(struct work *w)
{
	struct source *src = &w->src;

	if (!src->len || w->chunk_state >= CHUNK_DONE)
		return true;
	if (chunk_in_data(w)) {
		chunk_skip(w, src, SRC_USER);
		return false;
	}
	__u32 n = source_read(w->bytes, CHUNK_READ, src, SRC_USER), used;

	if (!n) {
		w->chunk_state = CHUNK_LOST;
		return true;
	}
	used = chunk_bytes(n);
	source_advance(src, (__u64)0 - (n - used)); /* back to what is no framing */
	return false;
}

/* A function of its own, so that the verifier sees the loop once. */
__noinline int chunks_user(void)
{
	struct work *w = work();

	if (!w)
		return 1;
	for (int i = 0; i < CHUNK_STEPS; i++)
		if (chunk_step(w))
			return 1;
	return 0;
}

/* The same for a socket buffer, in two halves around the reading: a dynptr cannot be passed on. How much to read; 0: no more. */
__noinline __u32 chunk_plan(void)
{
	struct work *w = work();

	if (!w)
		return 0;
	if (w->src.len && chunk_in_data(w))
		chunk_skip(w, &w->src, SRC_SKB);
	if (chunk_in_data(w) || w->chunk_state >= CHUNK_DONE)
		return 0;
	return w->src.len < CHUNK_READ ? w->src.len : CHUNK_READ;
}

__noinline int chunk_taken(__u32 n)
{
	struct work *w = work();

	if (w)
		source_advance(&w->src, chunk_bytes(n));
	return 0;
}

struct chunk_source {
	void *skb; /* a dynptr */
};

static long chunk_step_skb(__u32 index, struct chunk_source *from)
{
	struct work *w = work();
	__u64 n = chunk_plan();

	if (!w || !n)
		return 1;
	BOUND(n, CHUNK_READ);
	if (!n || bpf_dynptr_read(w->bytes, n, from->skb, (__u32)w->src.skb_at, 0)) {
		w->chunk_state = CHUNK_LOST;
		return 1;
	}
	chunk_taken(n);
	return 0;
}

/* The word of a chunked body that begins behind so many bytes of the operation in which its head ended. */
static __always_inline __u64 chunks_begin(__u64 before)
{
	return before ? CHUNKS(CHUNK_BEFORE, 0, CHUNKS_SIZE(before)) : CHUNKS(CHUNK_SIZE, 0, 0);
}

/* A body's word behind n bytes that no hook saw. */
static __always_inline __u64 chunks_unseen(__u64 chunks, __u64 n)
{
	if (CHUNKS_STATE(chunks) != CHUNK_DATA || CHUNKS_SIZE(chunks) < n)
		return CHUNKS(CHUNK_LOST, 0, 0);
	return CHUNKS_SIZE(chunks) == n ? CHUNKS(CHUNK_END, 0, 0) : chunks - n;
}

/*
 * Follows a body through an operation (user memory's source is the work area's). Behind it the source stands where the body
 * ended, or at its own end. Returns the body's new word.
 */
static __always_inline __u64 chunks_follow(__u64 chunks, struct work *w, struct source *src, const enum source_kind kind)
{
	__u64 size = CHUNKS_SIZE(chunks);

	if (CHUNKS_STATE(chunks) == CHUNK_DATA && size > src->len) {
		chunks -= src->len;
		src->len = 0;
		return chunks;
	}
	w->chunk_state = CHUNKS_STATE(chunks);
	w->chunk_digits = CHUNKS_DIGITS(chunks);
	w->chunk_size = size;
	if (kind == SRC_USER) {
		for (int i = 0; i < CHUNK_ROUNDS; i++)
			if (chunks_user())
				break;
	} else {
		struct chunk_source from = { src->skb };

		w->src.len = src->len;
		w->src.skb_at = src->skb_at;
		bpf_loop(CHUNK_ROUNDS * CHUNK_STEPS, chunk_step_skb, &from, 0); /* kernels with dynptrs have it (5.17) */
		src->len = w->src.len;
		src->skb_at = w->src.skb_at;
	}
	if (src->len && w->chunk_state < CHUNK_DONE)
		w->chunk_state = CHUNK_LOST; /* very many small chunks */
	return CHUNKS(w->chunk_state, w->chunk_digits, CHUNKS_SIZE(w->chunk_size));
}
