/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Stream mode: what an irregular connection moves goes to user space operation by operation, in fragments. */
#pragma once

#include "exchange.h"

/* Stream mode: one fragment, whose captured bytes are already in f->data. */
static __always_inline void send_fragment(struct conn *c, struct fragment *f, bool request, __u64 now, __u64 arrived,
					  __u64 length, __u32 captured, __u16 flags, __u64 chunks)
{
	__u64 *total = request ? &c->rx_total : &c->tx_total;
	struct operation *o = &f->op;

	copy_record(&f->rec, &c->rec);
	o->kind = KIND_FRAGMENT | PROTOCOL_OF(c->rec.kind);
	o->flags = (c->rec.flags & F_UNIX) | flags | (request ? F_REQUEST_DIRECTION : 0);
	o->arrived = arrived;
	o->at = now;
	o->chunks = chunks;
	o->finished = now;
	o->length = length;
	o->position = *total;
	*total += length;
	asm volatile("" : "+r"(captured));
	if (captured > FRAGMENT_MAX)
		captured = FRAGMENT_MAX;
	o->captured = captured;
	o->response_len = 0;
	if (bpf_ringbuf_output(&ring, f, sizeof(f->rec) + captured, wakeup()))
		count(C_FRAGMENTS_LOST);
}

#define SEGMENT_GAP_MAX (1 << 30) /* bytes that no hook saw: more is another place in the numbers, which wrap */

static __always_inline __u64 *h2_word(struct conn *c, bool request)
{
	return request ? &c->h2_request : &c->h2_response;
}

/* Bytes of a direction passed that no hook saw. In HTTP/2 that is harmless where they are all of what is not kept of a frame. */
static __always_inline void send_unseen(struct conn *c, struct fragment *f, bool request, __u64 now, __u32 n)
{
	__u64 *word = h2_word(c, request);
	__u64 before = PROTOCOL_OF(c->rec.kind) ? *word : 0;
	__u32 left = before & H2_LEFT_MASK;

	send_fragment(c, f, request, now, 0, n, 0, F_UNREADABLE, before);
	if (PROTOCOL_OF(c->rec.kind))
		*word = !(before >> H2_GOT_SHIFT) && left >= n ? left - n : (__u64)H2_LOST << H2_PLACE_SHIFT;
}

#define GATHER_MAX 256 /* bytes of one of several buffers that go into a fragment at a time */

/* What is held back of a send: its last bytes, as source_tail has them (0: unreadable), and how many. */
#define HELD_SHIFT 56
#define HELD(tail, n) (((tail) & W_7) | (n) << HELD_SHIFT)

/* Sends what is held back: the rest of an operation, at the instant at which that was last known to go on. */
static __always_inline void release_held(struct conn *c, struct fragment *f)
{
	__u64 n = c->held >> HELD_SHIFT, tail = c->held & W_7, at = c->held_at;

	if (!at || !n || n > TAIL_BYTES)
		return;
	c->held_at = 0;
	*(__u64 *)f->data = __builtin_bswap64(tail << (64 - 8 * n));
	send_fragment(c, f, false, at, 0, n, tail ? n : 0, 0, 0);
}

/* The same with the instants in the work area: a global function. */
__noinline int stream_piece(__u64 key, __u32 request, __u64 length, __u32 captured)
{
	struct conn *c = bpf_map_lookup_elem(&conns, &key);
	__u32 zero = 0;
	struct fragment *f = bpf_map_lookup_elem(&fragments, &zero);
	struct work *w = work();

	if (c && f && w)
		send_fragment(c, f, request != 0, w->now, w->arrived, length, captured, 0, 0);
	return 0;
}

/* n bytes of a direction passed that no hook saw. */
__noinline int stream_unseen(__u64 key, __u32 request, __u32 n)
{
	struct conn *c = bpf_map_lookup_elem(&conns, &key);
	__u32 zero = 0;
	struct fragment *f = bpf_map_lookup_elem(&fragments, &zero);
	struct work *w = work();

	if (c && f && w)
		send_unseen(c, f, request != 0, w->now, n);
	return 0;
}

/* The same of both directions, where this end closes. */
static __always_inline void stream_rest(struct conn *c, __u32 requests, __u32 responses)
{
	__u32 index = IN_SOFTIRQ;
	struct fragment *f = bpf_map_lookup_elem(&fragments, &index);
	__u64 now = bpf_ktime_get_ns();

	if (!f)
		return;
	release_held(c, f);
	if (requests)
		send_unseen(c, f, true, now, requests);
	if (responses)
		send_unseen(c, f, false, now, responses);
}

/* Nothing more is handed over, or comes, but what goes the other way may go on. */
static __always_inline bool stream_half(struct conn *c)
{
	__u32 index = IN_SOFTIRQ;
	struct fragment *f = bpf_map_lookup_elem(&fragments, &index);

	if (!f)
		return false;
	release_held(c, f);
	send_fragment(c, f, false, bpf_ktime_get_ns(), 0, 0, 0, F_CLOSED | F_HALF, 0);
	return true;
}

/* A step, at this instant (0: none), of the send whose end is held back; done: there is no other, and it is sent. */
__noinline int held_step(__u64 key, __u64 at, __u32 done)
{
	struct conn *c = bpf_map_lookup_elem(&conns, &key);
	__u32 zero = 0;
	struct fragment *f = bpf_map_lookup_elem(&fragments, &zero);

	if (!c || !f || c->state != S_STREAM)
		return 0;
	if (at && c->held_at)
		c->held_at = at;
	if (done)
		release_held(c, f);
	return 0;
}

/* Takes the end of the operation in the work area away; returns what is to be held back. */
static __always_inline __u64 hold_end(struct work *w)
{
	__u64 n = w->src.len < TAIL_BYTES ? w->src.len : TAIL_BYTES;
	__u64 tail = tail_user(0);

	w->src.len -= n;
	return HELD(tail, n);
}

/* Fills up the fragment of this processor, which has `at` bytes, by one more buffer; returns how many that were. */
__noinline __u32 gather_step(__u32 at)
{
	__u32 zero = 0;
	struct fragment *f = bpf_map_lookup_elem(&fragments, &zero);
	struct work *w = work();
	__u64 n, to = at;

	if (!f || !w)
		return 0;
	n = source_piece(&w->src);
	if (n > GATHER_MAX)
		n = GATHER_MAX;
	asm volatile("" : "+r"(n), "+r"(to));
	if (n == 0 || n > GATHER_MAX || to > FRAGMENT_MAX - GATHER_MAX || bpf_probe_read_user(f->data + to, n, (void *)w->src.ptr))
		return 0;
	source_advance(&w->src, n);
	return n;
}

__noinline __u32 gather(__u32 at)
{
	for (int i = 0; i < PIECES_MAX; i++) {
		__u32 n = gather_step(at);

		if (!n)
			break;
		at += n;
	}
	return at;
}

/* One operation, as fragments; all of it when it is short, else its start. */
static __always_inline void stream_source(__u64 key, bool request, struct source *src, const enum source_kind kind,
					  const int steps)
{
	__u32 zero = 0;
	struct fragment *f = bpf_map_lookup_elem(&fragments, &zero);
	int left = src->len <= STREAM_WHOLE ? steps : 1;

	if (!f)
		return;
	for (int i = 1; i <= steps; i++) {
		__u32 n = source_read(f->data, FRAGMENT_MAX, src, kind);

		if (kind == SRC_USER && n && n < FRAGMENT_MAX && src->len)
			n = gather(n);
		bool last = i >= left || !n || !src->len;

		stream_piece(key, request, last ? n + src->len : n, n);
		if (last)
			return;
	}
}

/* The same for user memory, its arguments in the work area. */
__noinline int stream_user(__u64 key, __u32 request)
{
	struct work *w = work();

	if (!w)
		return 0;
	__u64 held = w->hold ? hold_end(w) : 0;

	if (w->src.len)
		stream_source(key, request != 0, &w->src, SRC_USER, STREAM_WHOLE / (FRAGMENT_MAX - GATHER_MAX) + 1);
	struct conn *c = held ? bpf_map_lookup_elem(&conns, &key) : NULL;

	if (c) {
		c->held = held;
		c->held_at = w->now;
	}
	return 0;
}

static __always_inline void stream_data(__u64 key, bool request, struct source *src, const enum source_kind kind)
{
	if (kind == SRC_USER)
		stream_user(key, request);
	else
		stream_source(key, request, src, kind, STREAM_WHOLE / FRAGMENT_MAX);
}

/*
 * What of the exchange under way user space has not seen yet: the captured bytes, and of what followed how much that was, when
 * the last of it passed, and where in a chunked body it ended.
 */
static __always_inline void stream_captured(struct conn *c, struct slot *s, bool request)
{
	__u32 zero = 0, from = request ? 0 : c->rec.request_len;
	__u32 n = request ? c->rec.request_len : c->rec.response_len;
	__u64 length = request ? c->rec.request_bytes : c->rec.response_bytes;
	__u64 chunks = request ? c->request_chunks : c->chunks;
	__u64 at = !request ? c->rec.responded : c->rec.read ? c->rec.read : c->rec.arrived;
	bool followed = (request ? c->request_chunked : c->chunked) == CHUNKED_FOLLOWED;
	struct fragment *f = bpf_map_lookup_elem(&fragments, &zero);

	if (!f)
		return;
	asm volatile("" : "+r"(n), "+r"(from));
	if (n > FRAGMENT_MAX)
		n = FRAGMENT_MAX;
	if (!s || from > CFG.head_max || n == 0 || bpf_probe_read_kernel(f->data, n, s->data + from))
		n = 0;
	__u32 head = n < length ? n : length;
	bool all = length == head && !followed;

	/* A response that is all head ends when the last of it passed. */
	send_fragment(c, f, request, !request && all && c->rec.finished ? c->rec.finished : at, request ? c->rec.arrived : at, head, n,
		      request && c->older ? F_OLDER : 0, 0);
	if (!all)
		send_fragment(c, f, request, request ? at : c->rec.finished, 0, length - head, 0, followed ? F_CHUNKS : 0, chunks);
}

/* Switches to stream mode; what was captured of the exchange under way goes first. */
__noinline int stream_begin(__u64 key)
{
	struct conn *c = bpf_map_lookup_elem(&conns, &key);

	if (!c)
		return 0;
	struct slot *s = slot_of(c);
	bool response = c->state == S_RESPONSE || c->state == S_RESPONSE_HEAD;

	count(C_STREAMS);
	c->rx_total = c->tx_total = 0;
	if (c->state != S_IDLE)
		stream_captured(c, s, true);
	if (response)
		stream_captured(c, s, false);
	c->held_at = 0;
	c->state = S_STREAM;
	return 0;
}
