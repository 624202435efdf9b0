/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Bytes in the direction of responses: interim and final heads, and where the body behind the last one ends. */
#pragma once

#include "exchange.h"

/* What the response's head says of its length. */
static __always_inline void frame_response(struct conn *c, __u32 have, __u32 status, __u64 r, const struct work *w)
{
	__u32 end = SCAN_END(r);

	c->rec.response_len = end ? end : have;
	c->head_open = !end && have < RESPONSE_MAX;
	if (!end)
		return;
	if (c->bodyless || status == 204 || status == 304) {
		c->response_want = end;
	} else if (r & SCAN_CHUNKED) {
		c->chunked = CHUNKED_FOLLOWED;
		c->chunks = chunks_begin(end - (c->rec.response_bytes - w->total));
	} else if (w->body != UNKNOWN) {
		c->response_want = end + w->body;
		c->hint_response = end;
		c->hint_length = SCAN_LENGTH_AT(r);
	}
}

enum parsed {
	PARSED,
	PARSED_OPEN,    /* the head is incomplete: more bytes of the operation help */
	PARSED_INTERIM, /* an interim head, with more behind it */
};

/* What `have` captured bytes of a response say, once it is known that they are more than a few. */
__noinline int response_parse(__u64 key, __u32 have)
{
	struct conn *c = bpf_map_lookup_elem(&conns, &key);
	struct work *w = work();
	struct slot *s = c ? slot_of(c) : NULL;

	if (!s || !w)
		return 0;
	__u32 at = c->rec.request_len, digits = load4(s, at + STATUS_AT);
	__u32 status = ((digits & 0xff) - '0') * 100 + ((digits >> 8 & 0xff) - '0') * 10 + ((digits >> 16 & 0xff) - '0');

	c->rec.response_len = have;
	c->state = S_RESPONSE;
	c->head_open = 0;
	if ((load8(s, at) & W_7) != W_HTTP1) {
		/* Not an answer in HTTP/1. On a first exchange the request only looked like one. */
		if (!c->rec.seq && (c->rec.flags & F_HEAD_CUT || c->rec.request_len < REQUEST_MIN))
			not_http(key, load8(s, 0), at);
		return 0;
	}
	__u64 r = scan_head(c->slot, at, have);

	if (status < 200 && status != 101) {
		if (SCAN_END(r) && SCAN_END(r) == c->rec.response_bytes) {
			/* An interim response of its own: the exchange goes on as if it had not been. */
			c->rec.response_bytes = c->rec.response_len = 0;
			c->rec.responded = c->rec.finished = 0;
			c->state = S_REQUEST;
			return PARSED;
		}
		if (SCAN_END(r) && SCAN_END(r) < c->rec.response_bytes && c->rec.response_bytes - SCAN_END(r) < w->total) {
			c->rec.response_bytes -= SCAN_END(r);
			return PARSED_INTERIM;
		}
		c->head_open = !SCAN_END(r) && have < RESPONSE_MAX;
		return c->head_open ? PARSED_OPEN : PARSED;
	}
	frame_response(c, have, status, r, w);
	if (c->response_want != UNKNOWN && SCAN_LENGTH_AT(r)) {
		c->hint_digits = load8(s, at + SCAN_LENGTH_AT(r) + LENGTH_VALUE);
		c->hint_want = c->response_want;
	}
	if (status == 101 || (status / 100 == 2 && load8(s, 0) == W_CONNECT)) {
		finish(c, s, 0);
		s->busy = 0;
		c->state = S_OTHER;
		c->rec.other = OTHER_NONE;
	}
	return c->head_open ? PARSED_OPEN : PARSED;
}

/* The bytes that a hint tells of in a response's head are where and what they were in the last one. */
static __always_inline bool like_last_response(const struct conn *c, const struct slot *s, __u64 at)
{
	__u64 hint = c->hint_response;

	return (load4(s, at + STATUS_AT) & 0xff) == '2' && (load8(s, at) & W_7) == W_HTTP1 && load4(s, at + hint - 4) == CRLFCRLF &&
	       (load8(s, at + c->hint_length) | LOWER) == W_CONTENT &&
	       load8(s, at + c->hint_length + LENGTH_VALUE) == c->hint_digits && c->first8 != W_CONNECT;
}

/* Captures and parses bytes of the response's head, its first ones or more of it; PARSED_INTERIM: another head is behind it. */
static __always_inline enum parsed take_response_head(struct conn *c, struct slot *s, struct work *w, struct source *src,
						      const enum source_kind kind, bool first)
{
	__u32 at = c->rec.request_len, had = c->rec.response_len, hint = c->hint_response;
	__u32 n = kind == SRC_USER ? append_step_user(c->slot, at + had, at + RESPONSE_MAX)
				   : append_step(s, at + had, at + RESPONSE_MAX, src, kind);
	__u32 have = had + n;

	if (!n) {
		c->state = S_RESPONSE;
		c->head_open = 0;
		if (first)
			c->rec.flags |= F_UNREADABLE;
		return PARSED;
	}
	if (kind == SRC_USER && have < STATUS_END && src->len)
		have = source_append(s, c->slot, at + have, at + RESPONSE_MAX, src, kind) - at;
	if (have < STATUS_END) {
		c->rec.response_len = have;
		c->state = S_RESPONSE_HEAD;
		return PARSED;
	}
	if (!had && hint >= RESPONSE_HINT_MIN && hint <= have && !c->bodyless && like_last_response(c, s, at)) {
		/* Framed like the last one of this connection. */
		c->rec.response_len = hint;
		c->response_want = c->hint_want;
		c->state = S_RESPONSE;
		return PARSED;
	}
	__u64 key = w->si.key;
	enum parsed p = response_parse(key, have);

	if (p == PARSED_OPEN && src->len) {
		have = source_append(s, c->slot, at + have, at + RESPONSE_MAX, src, kind) - at;
		p = response_parse(key, have);
	}
	return p;
}

#define INTERIM_MAX 3 /* heads in front of the final one in one operation */

/* Bytes of the response's head: its first ones, or more of a head that came in pieces. */
static __always_inline void on_response_head(struct conn *c, struct work *w, struct source *src,
					     const enum source_kind kind)
{
	struct slot *s = slot_of(c);
	bool first = c->state == S_REQUEST || c->state == S_REQUEST_HEAD;

	if (first) {
		c->rec.responded = c->rec.role == ROLE_CLIENT && c->arrival ? c->arrival : w->now;
		c->rec.response_bytes = 0;
		c->swept = 0;
	}
	c->rec.response_bytes += w->total;
	c->rec.finished = w->now;
	if (!s) {
		c->state = S_RESPONSE; /* evicted: counted when the exchange ends */
		return;
	}
	for (int i = 0; i < INTERIM_MAX; i++) {
		if (take_response_head(c, s, w, src, kind, first) != PARSED_INTERIM)
			break;
		/* As if it had not been. */
		source_restore(src, w);
		source_forward(src, w->total - c->rec.response_bytes, kind);
		w->saved = *src;
		w->total = src->len;
		c->rec.response_len = 0;
	}
}

/* n bytes in the direction of responses while no request is under way. */
__noinline int unasked(__u64 key, __u64 first8, __u64 n)
{
	struct conn *c = bpf_map_lookup_elem(&conns, &key);
	bool unreadable = c && (c->marks & UNREADABLE);

	if (!c)
		return 0;
	c->marks &= ~UNREADABLE;
	if (c->rec.seq)
		return 0;
	if (unreadable && (first8 & W_7) == W_HTTP1) {
		/* Now it is known that what could not be read was a request. */
		count(C_LOST_UNREADABLE);
		c->rec.seq++;
		c->older = 0;
	} else if (!c->older) {
		not_http(key, first8, n); /* who was asked nothing and speaks first does not speak HTTP */
	}
	return 0;
}

static __always_inline void on_response(struct conn *c, struct work *w, struct source *src, const enum source_kind kind)
{
	if (c->state == S_IDLE) {
		if (!c->rec.seq || (c->marks & UNREADABLE))
			unasked(w->si.key, source_first8(src, kind), src->len);
		return;
	}
	w->saved = *src;
	if (c->state != S_RESPONSE || c->head_open) {
		on_response_head(c, w, src, kind);
		if (c->chunked) {
			source_restore(src, w);
			w->follow = true;
		}
		return;
	}
	if (response_complete(c, 0) && src->len >= 8) {
		if ((source_first8(src, kind) & W_7) == W_HTTP1)
			count(C_LOST_UNPAIRED);
		return;
	}
	c->rec.response_bytes += src->len;
	c->rec.finished = w->now;
	c->swept = 0;
	if (c->chunked)
		w->follow = true;
}

/* Follows a chunked response's body through the operation; what cannot be followed is judged by its last bytes. */
static __always_inline void on_response_chunks(struct conn *c, struct work *w, struct source *src, const enum source_kind kind)
{
	if (c->chunked == CHUNKED_FOLLOWED) {
		c->chunks = chunks_follow(c->chunks, w, src, kind);
		c->chunk_end = CHUNKS_STATE(c->chunks) == CHUNK_DONE;
		if (CHUNKS_STATE(c->chunks) < CHUNK_LOST)
			return;
		c->chunked = CHUNKS_STATE(c->chunks) == CHUNK_BAD ? CHUNKED_BAD : CHUNKED_LOST;
		source_restore(src, w);
	}
	c->tail = kind == SRC_USER ? tail_user(c->tail) : source_tail(c->tail, src, kind);
	c->chunk_end = (c->tail & W_7) == CHUNKED_END;
}
