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
	o->kind = KIND_FRAGMENT;
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

	if (w)
		stream_source(key, request != 0, &w->src, SRC_USER, STREAM_WHOLE / FRAGMENT_MAX + SEGMENTS_MAX);
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

	send_fragment(c, f, request, at, request ? c->rec.arrived : at, head, n, request && c->older ? F_OLDER : 0, 0);
	if (length > head || followed)
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
	c->state = S_STREAM;
	return 0;
}
