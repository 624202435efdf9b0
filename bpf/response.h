/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Bytes in the direction of responses: interim and final heads, and where the body behind the last one ends. */
#pragma once

#include "exchange.h"

/*
 * To recognise the next response that is framed like this one: by eight bytes from its length's colon on, if these hold all of
 * the number.
 */
static __always_inline void remember_response(struct conn *c, const struct slot *s, __u64 r)
{
	__u64 digits = load8(s, (__u64)c->rec.request_len + SCAN_LENGTH_AT(r) + LENGTH_NAME), x = digits ^ (ONES * '\r');
	bool whole = (x - ONES) & ~x & HIGHS;

	c->hint_response = whole && !(r & SCAN_TWICE) ? SCAN_END(r) : 0;
	c->hint_length = SCAN_LENGTH_AT(r);
	c->hint_digits = digits;
	c->hint_want = c->response_want;
}

/* What the response's head says of its length. */
static __always_inline void frame_response(struct conn *c, const struct slot *s, __u32 have, __u32 status, __u64 r,
					   const struct work *w)
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
	} else if (w->body != UNKNOWN && !(r & SCAN_TRANSFER)) {
		c->response_want = end + w->body;
		remember_response(c, s, r);
	}
}

enum parsed {
	PARSED,
	PARSED_OPEN,    /* the head is incomplete: more bytes of the operation help */
	PARSED_INTERIM, /* an interim head, with more behind it */
	PARSED_LONG,    /* an interim head that goes on behind its capture, which is free for more of it */
};

#define INTERIM_TAIL 4                            /* of an interim head that is longer than its capture: its last bytes, */
#define INTERIM_KEPT (STATUS_LINE + INTERIM_TAIL) /* which follow its first */

/* Whether `have` bytes of a response's head are all that is captured of it: append_step takes no more. */
static __always_inline bool capture_full(const struct conn *c, __u32 have)
{
	return have >= RESPONSE_MAX || c->rec.request_len + have > CFG.head_max + RESPONSE_MAX - PIECE_MAX;
}

/*
 * The capture of an interim head is full and its end is not in it: what follows takes the place of all but its first and its last
 * bytes, among which its end may begin.
 */
static __always_inline void shorten_interim(struct conn *c, struct slot *s, __u32 at, __u32 have)
{
	store4(s, (__u64)at + STATUS_LINE, load4(s, (__u64)at + have - INTERIM_TAIL));
	c->rec.response_bytes -= have - INTERIM_KEPT;
	c->rec.response_len = INTERIM_KEPT;
	c->head_open = 1;
}

/* An interim head, of which r tells: the exchange goes on as if it had not been. */
static __always_inline enum parsed pass_interim(struct conn *c, struct slot *s, const struct work *w, __u64 r, __u32 have)
{
	__u64 end = SCAN_END(r), bytes = c->rec.response_bytes;

	if (end && end == bytes) {
		c->rec.response_bytes = c->rec.response_len = 0;
		c->rec.responded = c->rec.finished = 0;
		c->state = S_REQUEST;
		return PARSED;
	}
	if (end && end < bytes && bytes - end < w->total) {
		c->rec.response_bytes -= end;
		return PARSED_INTERIM;
	}
	if (!end && capture_full(c, have)) {
		shorten_interim(c, s, c->rec.request_len, have);
		return PARSED_LONG;
	}
	c->head_open = !end;
	return c->head_open ? PARSED_OPEN : PARSED;
}

/* What `have` captured bytes of a response say, once it is known that they are more than a few. */
__noinline int response_parse(__u64 key, __u32 have)
{
	struct conn *c = bpf_map_lookup_elem(&conns, &key);
	struct work *w = work();
	struct slot *s = c ? slot_of(c) : NULL;

	if (!s || !w)
		return 0;
	__u32 at = c->rec.request_len, digits = load4(s, at + STATUS_AT);
	__u64 wrong = (load8(s, at) ^ W_HTTP1) & W_7;
	__u32 status = ((digits & 0xff) - '0') * 100 + ((digits >> 8 & 0xff) - '0') * 10 + ((digits >> 16 & 0xff) - '0');

	c->rec.response_len = have;
	c->state = S_RESPONSE;
	c->head_open = 0;
	if (have < 8)
		wrong &= (1ULL << (have & 7) * 8) - 1;
	if (wrong) {
		/* Not an answer in HTTP/1. On a first exchange the request may only have looked like the beginning of one. */
		if (!c->rec.seq && !(scan_head(c->slot, 0, at) & SCAN_REQUEST))
			not_http(key, load8(s, 0), at);
		return PARSED;
	}
	if (have < STATUS_END) {
		c->state = S_RESPONSE_HEAD;
		return PARSED_OPEN;
	}
	__u64 r = scan_head(c->slot, at, have);

	if (status < 200 && status != 101)
		return pass_interim(c, s, w, r, have);
	frame_response(c, s, have, status, r, w);
	if (status == 101 || (status / 100 == 2 && load8(s, 0) == W_CONNECT)) {
		exchange_over(key, 0);
		c->state = S_OTHER;
		c->rec.other = status == 101 && r & SCAN_H2C ? OTHER_HTTP2 : OTHER_NONE;
	}
	return c->head_open ? PARSED_OPEN : PARSED;
}

/* The bytes that a hint tells of in a response's head are where and what they were in the last one. */
static __always_inline bool like_last_response(const struct conn *c, const struct slot *s, __u64 at)
{
	__u64 hint = c->hint_response;

	__u32 status = load4(s, at + STATUS_AT);

	return (status & 0xff) == '2' && (status & 0xffffff) != STATUS_204 && (load8(s, at) & W_7) == W_HTTP1 &&
	       load4(s, at + hint - 4) == CRLFCRLF && (load8(s, at + c->hint_length) | LOWER) == W_CONTENT &&
	       load8(s, at + c->hint_length + LENGTH_NAME) == c->hint_digits && c->first8 != W_CONNECT;
}

/* When the response begins with the operation at hand. */
static __always_inline __u64 responded_at(const struct conn *c, const struct work *w)
{
	return c->rec.role == ROLE_CLIENT && c->arrival ? c->arrival : w->now;
}

/* Behind an interim head, as if it had not been: the bytes from there on are the operation's. */
static __always_inline void begin_again(struct conn *c, struct work *w, const enum source_kind kind)
{
	c->rec.responded = responded_at(c, w);
	c->rec.response_len = 0;
	source_restore(&w->src, w);
	source_forward(&w->src, w->total - c->rec.response_bytes, kind);
	w->saved = w->src;
	w->total = w->src.len;
}

/*
 * Another n bytes of the response's head have been captured; the source, which is the work area's, stands behind them. true: no
 * further step is needed.
 */
static __always_inline bool head_taken(struct conn *c, struct slot *s, struct work *w, __u32 n, const enum source_kind kind)
{
	__u32 at = c->rec.request_len, had = c->rec.response_len, have = had + n, hint = c->hint_response;

	if (!n) {
		if (!w->step) {
			c->state = S_RESPONSE;
			c->head_open = 0;
			c->rec.flags |= w->first ? F_UNREADABLE : 0;
		}
		return true;
	}
	if (!had && hint >= RESPONSE_HINT_MIN && hint <= have && !c->bodyless && like_last_response(c, s, at)) {
		/* Framed like the last one of this connection. */
		c->rec.response_len = hint;
		c->response_want = c->hint_want;
		c->state = S_RESPONSE;
		return true;
	}
	enum parsed p = response_parse(w->si.key, have);

	if (p == PARSED_INTERIM)
		begin_again(c, w, kind);
	w->step++;
	return p == PARSED || !w->src.len;
}

/*
 * Steps that the heads of one operation may take, together and in one call for the verifier's sake. Each captures a piece of a
 * buffer, at most PIECE_MAX bytes; a head begins with one of its own.
 */
#define HEAD_STEPS 256
#define HEAD_BLOCK 16

/* Captures all of the operation that is left for a response's head; returns its bytes. */
__noinline __u32 more_of_head(__u32 slot, __u32 start, __u32 had)
{
	return append_user(slot, start + had, start + RESPONSE_MAX) - start - had;
}

/* Some steps for an operation on user memory, whose source is the work area's; 0: more are needed. */
__noinline int heads_user(__u64 key)
{
	struct conn *c = bpf_map_lookup_elem(&conns, &key);
	struct work *w = work();
	struct slot *s = c ? slot_of(c) : NULL;

	if (!s || !w)
		return 1;
	for (__u32 i = 0; i < HEAD_BLOCK; i++) {
		__u32 n = w->step ? more_of_head(c->slot, c->rec.request_len, c->rec.response_len)
				  : append_step_user(c->slot, c->rec.request_len + c->rec.response_len,
						     c->rec.request_len + RESPONSE_MAX);

		if (head_taken(c, s, w, n, SRC_USER))
			return 1;
	}
	return 0;
}

struct head_source {
	void *skb; /* a dynptr */
	__u64 key;
};

/* A step of the same for a socket buffer. */
static long head_step_skb(__u32 index, struct head_source *from)
{
	struct conn *c = bpf_map_lookup_elem(&conns, &from->key);
	struct work *w = work();
	struct slot *s = c ? slot_of(c) : NULL;

	if (!s || !w)
		return 1;
	__u64 had = c->rec.response_len, at = c->rec.request_len + had, n = w->src.len;

	if (n > RESPONSE_MAX - had)
		n = RESPONSE_MAX - had;
	if (n > PIECE_MAX)
		n = PIECE_MAX;
	if (capture_full(c, had))
		n = 0;
	BOUND(n, PIECE_MAX);
	BOUND(at, (__u64)CFG.head_max + RESPONSE_MAX - PIECE_MAX);
	if (!n || bpf_dynptr_read(s->data + at, n, from->skb, (__u32)w->src.skb_at, 0))
		n = 0;
	w->src.len -= n;
	w->src.skb_at += n;
	return head_taken(c, s, w, n, SRC_SKB) ? 1 : 0;
}

/* Bytes of the response's head: its first ones, or more of a head that came in pieces. */
static __always_inline void on_response_head(struct conn *c, struct work *w, struct source *src,
					     const enum source_kind kind)
{
	__u64 key = w->si.key;

	w->step = 0;
	w->first = c->state == S_REQUEST || c->state == S_REQUEST_HEAD;
	if (w->first) {
		c->rec.responded = responded_at(c, w);
		c->rec.response_bytes = 0;
		c->swept = 0;
	}
	c->rec.response_bytes += w->total;
	c->rec.finished = w->now;
	if (!slot_of(c)) {
		c->state = S_RESPONSE; /* evicted: counted when the exchange ends */
		return;
	}
	if (kind == SRC_USER) {
		for (__u32 i = 0; i < HEAD_STEPS; i += HEAD_BLOCK)
			if (heads_user(key))
				break;
		return;
	}
	struct head_source from = { src->skb, key };

	w->src.len = src->len;
	w->src.skb_at = src->skb_at;
	bpf_loop(HEAD_STEPS, head_step_skb, &from, 0); /* as in chunks_follow */
	src->len = w->src.len;
	src->skb_at = w->src.skb_at;
}

/*
 * n bytes in the direction of responses, with these in front, where none are due: a response to what was not seen as a request
 * is a lost exchange. A global function, as not_http.
 */
__noinline int unpaired(__u64 key, __u64 first8, __u64 n)
{
	struct conn *c = bpf_map_lookup_elem(&conns, &key);

	if (!c)
		return 0;
	bool unreadable = c->marks & UNREADABLE;

	c->marks &= ~UNREADABLE;
	if ((first8 & W_7) != W_HTTP1) {
		/* Who was asked nothing and speaks first does not speak HTTP. */
		if (c->state == S_IDLE && !c->rec.seq && !c->older)
			not_http(key, first8, n);
		return 0;
	}
	if (unreadable) {
		if (c->rec.seq)
			return 0; /* counted when it came */
		/* Now it is known that what could not be read was a request. */
		count(C_LOST_UNREADABLE);
		c->rec.seq++;
		c->older = 0;
		return 0;
	}
	if (!c->forgone && !c->older)
		count(C_LOST_UNPAIRED);
	c->forgone = 0;
	return 0;
}

/* How many bytes of the operation at hand stand behind the response's end: they are none of it. A global function, as not_http. */
__noinline __u32 surplus(__u64 key)
{
	struct conn *c = bpf_map_lookup_elem(&conns, &key);
	struct work *w = work();

	if (!c || !w || c->state != S_RESPONSE || c->head_open || c->chunked || c->rec.response_bytes <= c->response_want)
		return 0;
	__u64 over = c->rec.response_bytes - c->response_want;

	if (over >= w->total)
		return 0;
	c->rec.response_bytes = c->response_want;
	return over;
}

static __always_inline void on_response(struct conn *c, struct work *w, struct source *src, const enum source_kind kind)
{
	if (c->state == S_IDLE || (c->state == S_RESPONSE && response_complete(c, 0))) {
		unpaired(w->si.key, source_first8(src, kind), src->len);
		return;
	}
	w->saved = *src;
	if (c->state != S_RESPONSE || c->head_open) {
		on_response_head(c, w, src, kind);
		if (c->chunked) {
			source_restore(src, w);
			w->follow = true;
			return;
		}
	} else {
		c->rec.response_bytes += src->len;
		c->rec.finished = w->now;
		c->swept = 0;
		if (c->chunked) {
			w->follow = true;
			return;
		}
	}
	__u32 over = surplus(w->si.key);

	if (!over)
		return;
	source_restore(src, w);
	source_forward(src, w->total - over, kind);
	unpaired(w->si.key, source_first8(src, kind), over);
}

/* Follows a chunked response's body through the operation; what cannot be followed is judged by its last bytes. */
static __always_inline void on_response_chunks(struct conn *c, struct work *w, struct source *src, const enum source_kind kind)
{
	if (c->chunked == CHUNKED_FOLLOWED) {
		c->chunks = chunks_follow(c->chunks, w, src, kind);
		c->chunk_end = CHUNKS_STATE(c->chunks) == CHUNK_DONE;
		if (c->chunk_end && src->len) {
			c->rec.response_bytes -= src->len;
			unpaired(w->si.key, source_first8(src, kind), src->len);
		}
		if (CHUNKS_STATE(c->chunks) < CHUNK_LOST)
			return;
		c->chunked = CHUNKS_STATE(c->chunks) == CHUNK_BAD ? CHUNKED_BAD : CHUNKED_LOST;
		source_restore(src, w);
	}
	c->tail = kind == SRC_USER ? tail_user(c->tail) : source_tail(c->tail, src, kind);
	c->chunk_end = (c->tail & W_7) == CHUNKED_END;
}
