/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * HTTP/2 (RFC 9113) in stream mode. What a connection moves goes to user space frame by frame: frames' heads and what carries
 * headers or concerns the connection as a whole, of data only the first bytes. Which frames an operation has is all that is
 * understood here; streams, headers and their compression are user space's work.
 *
 * A fragment has the bytes that are kept, one behind another; its length is that of all bytes, and its word tells where in a frame
 * it begins. By the lengths in the frames' heads its reader knows where bytes were left out, and also behind a fragment that was lost
 * where the next frame begins.
 */
#pragma once

#include "stream.h"

#define H2_HEAD_KNOWN 4 /* of which these are understood */
#define H2_STEP 64 /* bytes that are copied at a time */
#define H2_STEPS 16 /* steps that one operation may take, their product */
#define H2_ROUNDS 128
#define H2_TYPE_USUAL 9 /* CONTINUATION: with H2_LENGTH_USUAL what is taken for a frame where nothing proves it */

/* What the work area knows of the direction at hand, as a word of the connection; see enum h2_word. */
static __always_inline __u64 h2_pack(const struct work *w)
{
	__u64 upper = w->h2_got ? w->h2_head : w->h2_keep;

	return w->h2_left | (__u64)w->h2_got << H2_GOT_SHIFT | (__u64)w->h2_place << H2_PLACE_SHIFT |
	       (__u64)w->h2_in_data << H2_DATA_SHIFT | upper << H2_UPPER_SHIFT;
}

static __always_inline void h2_unpack(struct work *w, __u64 word)
{
	__u32 upper = word >> H2_UPPER_SHIFT;

	w->h2_left = word & H2_LEFT_MASK;
	w->h2_got = word >> H2_GOT_SHIFT & H2_GOT_MASK;
	w->h2_place = word >> H2_PLACE_SHIFT & H2_PLACE_MASK;
	w->h2_in_data = word >> H2_DATA_SHIFT & 1;
	w->h2_head = w->h2_got ? upper : 0;
	w->h2_keep = w->h2_got ? 0 : upper;
}

/*
 * Sends what was gathered. Bytes of which nothing is kept are told with the next ones, unless they end a frame: then this is its
 * instant.
 */
__noinline int h2_flush(void)
{
	struct work *w = work();
	__u64 key = w ? w->si.key : 0;
	struct conn *c = bpf_map_lookup_elem(&conns, &key);
	__u32 zero = 0;
	struct fragment *f = bpf_map_lookup_elem(&fragments, &zero);

	if (!c || !f || !w)
		return 0;
	__u32 length = w->h2_true;
	bool request = w->h2_request;

	w->h2_true = 0;
	if (!w->h2_out && w->h2_left)
		*(request ? &c->rx_total : &c->tx_total) += length;
	else if (length)
		send_fragment(c, f, request, w->now, w->arrived, length, w->h2_out, 0, w->h2_word);
	w->h2_out = 0;
	w->h2_word = h2_pack(w);
	return 0;
}

/* The rest of the operation cannot be followed; the next one is taken to begin with a frame. */
__noinline int h2_lose(void)
{
	struct work *w = work();

	if (!w)
		return 0;
	h2_flush();
	__u64 key = w->si.key, rest = w->src.len;
	struct conn *c = bpf_map_lookup_elem(&conns, &key);
	__u32 zero = 0;
	struct fragment *f = bpf_map_lookup_elem(&fragments, &zero);

	if (c && f && rest)
		send_fragment(c, f, w->h2_request, w->now, w->arrived, rest, 0, F_UNREADABLE, w->h2_word);
	w->src.len = 0;
	w->h2_left = w->h2_keep = w->h2_got = w->h2_head = 0;
	w->h2_place = H2_LOST;
	return 0;
}

/* A frame's head is known. A global function: h2_walk would have many paths otherwise. */
__noinline int h2_frame(void)
{
	struct work *w = work();

	if (!w)
		return 0;
	__u32 head = w->h2_head, type = head >> 24;
	__u32 length = (head & 0xff) << 16 | (head & 0xff00) | (head >> 16 & 0xff);
	__u32 most = type == H2_DATA ? H2_DATA_KEEP : H2_FRAME_KEEP;

	w->h2_got = w->h2_head = 0;
	w->h2_left = length;
	w->h2_in_data = type == H2_DATA;
	w->h2_keep = length < most ? length : most;
	w->h2_place = w->h2_place == H2_PRESUMED && (length > H2_LENGTH_USUAL || type > H2_TYPE_USUAL) ? H2_LOST : H2_KNOWN;
	return 0;
}

/*
 * Looks at n bytes that were copied behind those in the fragment, up to where bytes follow that are not kept; returns how many that
 * were. What was found so far stays in map memory, for the verifier as in scan_word.
 */
__noinline __u32 h2_walk(__u32 n)
{
	struct work *w = work();
	__u32 zero = 0;
	struct fragment *f = bpf_map_lookup_elem(&fragments, &zero);

	if (!w || !f)
		return n;
	w->h2_at = 0;
	for (__u32 k = 0; k < H2_STEP; k++) {
		__u32 at = w->h2_at;

		if (at >= n || w->h2_place == H2_LOST)
			break;
		if (w->h2_left) {
			__u32 take = w->h2_keep < n - at ? w->h2_keep : n - at;

			if (!take)
				break;
			w->h2_left -= take;
			w->h2_keep -= take;
			w->h2_at = at + take;
			continue;
		}
		__u32 got = w->h2_got;

		if (got < H2_HEAD_KNOWN)
			w->h2_head |= (__u32)f->data[(w->h2_out + at) & (FRAGMENT_MAX - 1)] << (got & 3) * 8;
		w->h2_at = at + 1;
		w->h2_got = got + 1;
		if (got + 1 >= H2_HEAD)
			h2_frame();
	}
	return w->h2_at;
}

/* n bytes were copied: those that are kept are the fragment's; the others are yet to come. True: there is more to do. */
static __always_inline bool h2_take(struct work *w, __u32 n)
{
	__u32 used = h2_walk(n);

	if (w->h2_blank)
		w->src.len -= used;
	else
		source_advance(&w->src, used); /* the reader did not */
	w->h2_out += used;
	w->h2_true += used;
	w->h2_pos += used;
	if (w->h2_place == H2_LOST) {
		h2_lose();
		return false;
	}
	return w->src.len != 0;
}

/* Passes over data, as far as one buffer goes. */
static __always_inline void h2_skip(struct work *w, const enum source_kind kind)
{
	struct source *src = &w->src;
	bool readable = kind == SRC_SKB || src->ptr || src->segments;
	__u64 n = kind == SRC_USER && readable ? source_piece(src) : src->len;

	if (n > w->h2_left)
		n = w->h2_left;
	if (!n) { /* buffers that cannot be found */
		source_none(src);
		return;
	}
	if (readable)
		source_advance(src, n);
	else
		src->len -= n;
	w->h2_left -= n;
	w->h2_true += n;
	w->h2_pos += n;
}

/* When the byte at hand arrived, and which ones with it. */
__noinline int h2_arrived(void)
{
	struct work *w = work();
	__u64 key = w ? w->si.key : 0;
	struct arrivals *a = bpf_map_lookup_elem(&h2_arrivals, &key);

	if (!w)
		return 0;
	w->h2_until = w->h2_pos + SEGMENT_GAP_MAX;
	if (!a)
		return 0;
	for (int i = 0; i < H2_ARRIVALS; i++) {
		__u32 taken = a->taken, at = taken & (H2_ARRIVALS - 1);

		if (taken == a->added)
			break;
		if ((__s32)(a->end[at] - w->h2_pos) > 0) {
			w->arrived = a->at[at];
			w->h2_until = a->end[at];
			break;
		}
		a->taken = taken + 1;
	}
	return 0;
}

/* Bytes arrived, up to this place in the byte stream. */
static __always_inline void h2_ready(__u64 key, __u32 end, __u64 when)
{
	struct arrivals *a = bpf_map_lookup_elem(&h2_arrivals, &key);

	if (!a)
		return;
	__u32 n = a->added, at = n & (H2_ARRIVALS - 1);

	if (n - a->taken >= H2_ARRIVALS) {
		at = (n - 1) & (H2_ARRIVALS - 1);
		n--;
	}
	a->end[at] = end;
	a->at[at] = when;
	a->added = n + 1;
}

/* Passes over what is not kept, and returns how many bytes to copy next; 0: look again, or there are no more. */
static __always_inline __u32 h2_plan(struct work *w, const enum source_kind kind)
{
	if (!w->src.len)
		return 0;
	if (w->h2_left && !w->h2_keep) {
		h2_skip(w, kind);
		return 0;
	}
	bool later = w->receive && (__s32)(w->h2_pos - w->h2_until) >= 0;

	if (later || w->h2_out > FRAGMENT_MAX - H2_STEP)
		h2_flush();
	if (later)
		h2_arrived();
	__u64 n = kind == SRC_USER ? source_piece(&w->src) : w->src.len;

	w->h2_blank = !n && w->h2_left && w->h2_in_data;
	if (w->h2_blank) /* as a file's */
		n = w->src.len < w->h2_keep ? w->src.len : w->h2_keep;
	else if (!n)
		h2_lose();
	else if (w->receive && n > w->h2_until - w->h2_pos)
		n = w->h2_until - w->h2_pos;
	return n < H2_STEP ? n : H2_STEP;
}

__noinline __u32 h2_plan_skb(void)
{
	struct work *w = work();

	return w ? h2_plan(w, SRC_SKB) : 0;
}

/* Goes on by a piece of user memory; true: there is more. Data that cannot be read, as a file's, is zeros. */
static __always_inline bool h2_step_user(void)
{
	struct work *w = work();
	__u32 zero = 0;
	struct fragment *f = bpf_map_lookup_elem(&fragments, &zero);

	if (!w || !f)
		return false;
	__u64 n = h2_plan(w, SRC_USER), to = w->h2_out;

	asm volatile("" : "+r"(n), "+r"(to));
	if (n == 0 || n > H2_STEP || to > FRAGMENT_MAX - H2_STEP)
		return w->src.len != 0;
	if (w->h2_blank) {
		__builtin_memset(f->data + to, 0, H2_DATA_KEEP);
	} else if (bpf_probe_read_user(f->data + to, n, (void *)w->src.ptr)) {
		h2_lose();
		return false;
	}
	return h2_take(w, n);
}

/* A function of its own, so that the verifier sees the loop once; true: there is more. */
__noinline int h2_steps_user(void)
{
	for (int i = 0; i < H2_STEPS; i++)
		if (!h2_step_user())
			return 0;
	return 1;
}

struct h2_source {
	void *skb; /* a dynptr */
};

/* The same of a socket buffer, whose dynptr cannot be passed on. */
static long h2_step_skb(__u32 index, struct h2_source *from)
{
	struct work *w = work();
	__u32 zero = 0;
	struct fragment *f = bpf_map_lookup_elem(&fragments, &zero);

	if (!w || !f || !w->src.len)
		return 1;
	__u64 n = h2_plan_skb(), to = w->h2_out;

	BOUND(n, H2_STEP);
	BOUND(to, FRAGMENT_MAX - H2_STEP);
	if (!n)
		return 0;
	if (bpf_dynptr_read(f->data + to, n, from->skb, (__u32)w->src.skb_at, 0)) {
		h2_lose();
		return 1;
	}
	return !h2_take(w, n);
}

/* Where the direction at hand stands, for an operation that begins now; false: there is no such connection. */
__noinline int h2_enter(__u32 request)
{
	struct work *w = work();
	__u64 key = w ? w->si.key : 0;
	struct conn *c = bpf_map_lookup_elem(&conns, &key);

	if (!c || !w)
		return 0;
	w->h2_request = request;
	w->h2_out = w->h2_true = 0;
	w->h2_until = w->h2_pos + SEGMENT_GAP_MAX;
	if (w->receive && !(c->rec.flags & F_UNIX))
		h2_arrived();
	h2_unpack(w, *h2_word(c, request));
	if (w->h2_place == H2_LOST)
		w->h2_place = H2_PRESUMED;
	w->h2_word = h2_pack(w);
	return 1;
}

__noinline int h2_leave(void)
{
	struct work *w = work();
	__u64 key = w ? w->si.key : 0;
	struct conn *c = bpf_map_lookup_elem(&conns, &key);

	if (!c || !w)
		return 0;
	if (w->src.len)
		h2_lose(); /* very many small frames */
	h2_flush();
	*h2_word(c, w->h2_request) = h2_pack(w);
	return 0;
}

/* An operation in user memory, its source in the work area. */
__noinline int h2_user(__u32 request)
{
	if (!h2_enter(request))
		return 0;
	for (int i = 0; i < H2_ROUNDS; i++)
		if (!h2_steps_user())
			break;
	h2_leave();
	return 0;
}

static __always_inline void h2_data(bool request, struct work *w, struct source *src, const enum source_kind kind)
{
	if (kind == SRC_USER) {
		h2_user(request);
		return;
	}
	struct h2_source from = { src->skb };

	if (!h2_enter(request))
		return;
	w->src.len = src->len;
	w->src.skb_at = src->skb_at;
	bpf_loop(H2_ROUNDS * H2_STEPS, h2_step_skb, &from, 0); /* as in chunks_follow */
	h2_leave();
}
