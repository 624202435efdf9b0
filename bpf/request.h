/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Bytes in the direction of requests: where one begins, what its head says of its length, and where its body ends. */
#pragma once

#include "exchange.h"

/* What the scanned head says of the request under way; false: there is more than one request in these bytes. */
static __always_inline bool frame_request(struct conn *c, __u64 r, __u32 have, const struct work *w)
{
	__u32 end = SCAN_END(r);

	if (!end) {
		c->rec.request_len = have;
		c->request_left = UNKNOWN;
		c->state = S_REQUEST_HEAD;
		if (have >= CFG.head_max || have < c->rec.request_bytes) {
			c->rec.flags |= F_HEAD_CUT;
			c->state = S_REQUEST;
		}
		return true;
	}
	__u64 body = c->rec.request_bytes - end;

	c->rec.request_len = end;
	c->state = S_REQUEST;
	if (r & SCAN_TRANSFER) {
		c->request_left = UNKNOWN;
		if (!(r & SCAN_CHUNKED))
			return true;
		c->request_chunked = CHUNKED_FOLLOWED;
		c->request_chunks = chunks_begin(end - (c->rec.request_bytes - w->total));
		return true;
	}
	if (!SCAN_LENGTH_AT(r)) {
		c->request_left = 0;
		c->hint_request = end;
		c->hint_line = w->line - LINE_BYTES + 1;
		return body == 0;
	}
	c->request_left = w->body;
	if (w->body != UNKNOWN) {
		if (body > w->body)
			return false;
		c->request_left = w->body - body;
	}
	return true;
}

static __always_inline bool is_head(__u64 first8)
{
	return (__u32)first8 == W_HEAD && ((first8 >> 32) & 0xff) == ' ';
}

static __always_inline void remember_start(struct conn *c, __u64 first8)
{
	c->first8 = first8;
	c->bodyless = is_head(first8);
}

/*
 * The n captured bytes of an operation that starts a request, or may while the role is unknown. Returns 1 when the
 * operation belongs to stream mode.
 */
__noinline int request_parse(__u64 key, __u32 n)
{
	struct conn *c = bpf_map_lookup_elem(&conns, &key);
	struct work *w = work();
	struct slot *s = c ? slot_of(c) : NULL;

	if (!s || !w)
		return 0;
	__u64 first8 = load8(s, 0), r = scan_head(c->slot, 0, n);

	if ((first8 & W_7) == W_HTTP1 && n >= 7 && c->rec.role == ROLE_UNKNOWN) {
		/* The middle of an older connection: a response tells the role. */
		c->rec.role = w->receive ? ROLE_CLIENT : ROLE_SERVER;
		s->busy = 0;
		return 0;
	}
	/* PRI is the method of HTTP/2's preface alone. Behind what could not be read it may as well be more of that. */
	if ((first8 == W_PREFACE && n >= 8) || !(r & SCAN_TOKEN) || ((r & SCAN_LINE || c->marks & UNREADABLE) && !(r & SCAN_REQUEST)))
		return not_http(key, first8, n);
	exchange_begin(c, w);
	if (c->state == S_OTHER) {
		s->busy = 0;
		return 0;
	}
	remember_start(c, first8);
	if (frame_request(c, r, n, w))
		return 0;
	c->state = S_IDLE;
	return 1;
}

/* More of a head that came in pieces: n bytes are captured now, `before` of them already were. */
__noinline int request_parse_more(__u64 key, __u32 n, __u32 before)
{
	struct conn *c = bpf_map_lookup_elem(&conns, &key);
	struct work *w = work();
	struct slot *s = c ? slot_of(c) : NULL;

	if (!s || !w)
		return 0;
	__u64 r = scan_head(c->slot, 0, n);

	if (before < 8)
		remember_start(c, load8(s, 0));
	if (!(r & SCAN_TOKEN) || ((r & SCAN_LINE) && !(r & SCAN_REQUEST))) {
		not_http(key, load8(s, 0), n);
		return 0;
	}
	c->rec.request_bytes += w->total;
	if (frame_request(c, r, n, w))
		return 0;
	c->rec.request_bytes -= w->total;
	c->rec.request_len = before;
	return 1;
}

/* GET and HEAD, whose requests have no body in practice. */
static __always_inline bool is_bodyless_method(__u64 first8)
{
	return (__u32)first8 == W_GET || is_head(first8);
}

/* Does a head that is longer than its capture end here? Then its length is the request's, and no body follows. */
static __always_inline void end_long_head(struct conn *c, struct source *src, const enum source_kind kind)
{
	if (!src->len || !is_bodyless_method(c->first8) || !ends_head(src, kind))
		return;
	c->rec.flags |= F_HEAD_ALL;
	c->request_left = 0;
}

#define EMPTY_MAX 64 /* bytes of empty lines in front of a request; a multiple of 8 */

/* Line ends at the start of a slot that holds n bytes; a global function, as scan_block. */
__noinline __u32 line_ends(__u32 slot, __u32 n)
{
	struct slot *s = slot_at(slot);
	__u64 bytes = 0;
	__u32 i = 0;

	for (; s && i < EMPTY_MAX && i < n; i++) {
		bytes = i % 8 ? bytes >> 8 : load8(s, i);
		if ((bytes & 0xff) != '\r' && (bytes & 0xff) != '\n')
			break;
	}
	return i;
}

/*
 * A request as long as the last one, which was one head and nothing else, is one as well: it begins and ends like it, and its
 * first line is as long. (Two requests in the place of one have a shorter one.)
 */
static __always_inline bool like_last_request(const struct conn *c, const struct slot *s, __u64 n)
{
	return load8(s, 0) == c->first8 && load4(s, n - 4) == CRLFCRLF && (load8(s, c->hint_line) & W_LINE_MASK) == W_LINE;
}

/* The start of a request, or what may be one; true: the operation belongs to stream mode. */
static __always_inline bool on_request(struct conn *c, struct work *w, struct slot *s, struct source *src,
				       const enum source_kind kind)
{
	__u32 total = src->len;

	if (!s)
		s = slot_add(c);
	if (!s)
		return false;
	s->busy = c->rec.conn;
	c->forgone = 0;
	__u32 n = source_read(s->data, CFG.head_max, src, kind);

	if (!n) {
		if (c->rec.seq && !(c->marks & UNREADABLE))
			count(C_LOST_UNREADABLE);
		c->marks |= UNREADABLE; /* until it is answered: more of it is not another one */
		s->busy = 0;
		return false;
	}
	__u8 first = load8(s, 0);
	__u32 empty = first == '\r' || first == '\n' ? line_ends(c->slot, n) : 0;

	if (empty) {
		/* Empty lines in front, which a server passes over. */
		source_restore(src, w);
		source_forward(src, empty, kind);
		w->saved = *src;
		w->total = total = src->len;
		n = total ? source_read(s->data, CFG.head_max, src, kind) : 0;
		if (!n) {
			s->busy = 0;
			return false;
		}
	}
	s->busy = c->rec.conn;
	if (n == total && n == c->hint_request && like_last_request(c, s, n)) {
		/* Like the last one of this connection: one head and nothing else. */
		exchange_begin(c, w);
		c->rec.request_len = n;
		c->request_left = 0;
		if (c->state != S_OTHER)
			c->state = S_REQUEST;
		return false;
	}
	if (n < total && n < CFG.head_max)
		n = source_append(s, c->slot, n, CFG.head_max, src, kind);
	s->busy = c->rec.conn;
	bool stream = request_parse(w->si.key, n);

	if (!stream && c->state == S_REQUEST && c->request_chunked) {
		source_restore(src, w);
		w->follow = true;
		return false;
	}
	if ((c->rec.flags & F_HEAD_CUT) && c->state == S_REQUEST) {
		source_restore(src, w);
		end_long_head(c, src, kind);
	}
	return stream;
}

/* More bytes in the direction of requests while an exchange is under way; true: they belong to stream mode. */
static __always_inline bool on_request_more(struct conn *c, struct work *w, struct slot *s, struct source *src,
					    const enum source_kind kind)
{
	__u64 n = src->len, key = w->si.key;

	if (c->state == S_REQUEST_HEAD) {
		__u32 before = c->rec.request_len;

		if (!s) {
			c->rec.request_bytes += n;
			return false;
		}
		if (request_parse_more(key, source_append(s, c->slot, before, CFG.head_max, src, kind), before))
			return true;
		if (c->state == S_REQUEST && c->request_chunked) {
			source_restore(src, w);
			w->follow = true;
		}
		return false;
	}
	/* It was answered before any of its body came, and may go without (Expect: 100-continue). */
	if (c->state == S_RESPONSE && c->rec.request_bytes == c->rec.request_len && response_complete(c, 0))
		return true;
	if (c->request_chunked == CHUNKED_FOLLOWED && c->request_left) {
		c->rec.request_bytes += n;
		w->follow = true;
		return false;
	}
	if (c->request_left == UNKNOWN || n <= c->request_left) {
		c->rec.request_bytes += n;
		if (c->request_left != UNKNOWN)
			c->request_left -= n;
		else if ((c->rec.flags & F_HEAD_CUT) && c->state == S_REQUEST)
			end_long_head(c, src, kind);
		return false;
	}
	return true; /* a request that did not wait for the response before it */
}

/* Follows a chunked request's body through the operation; true: another request is behind it, and it belongs to stream mode. */
static __always_inline bool on_request_chunks(struct conn *c, struct work *w, struct source *src, const enum source_kind kind)
{
	__u64 before = c->request_chunks;

	c->request_chunks = chunks_follow(before, w, src, kind);
	__u8 state = CHUNKS_STATE(c->request_chunks);

	if (state >= CHUNK_LOST)
		c->request_chunked = CHUNKED_LOST;
	if (state != CHUNK_DONE)
		return false;
	c->request_left = 0;
	if (!src->len)
		return false;
	/* As if the operation had not been. */
	c->request_chunks = before;
	c->rec.request_bytes -= w->total;
	if (c->rec.request_len > c->rec.request_bytes)
		c->rec.request_len = c->rec.request_bytes;
	if (!c->rec.request_bytes)
		c->state = S_IDLE;
	return true;
}

/* Whether bytes in the direction of requests end the exchange under way: its response is there, its body too. */
static __always_inline bool next_request(const struct conn *c, __u32 overshoot)
{
	if (c->state != S_RESPONSE || request_open(c))
		return false;
	return (response_unframed(c) && c->request_left == 0) || response_complete(c, overshoot);
}
