/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The usual operation, in a fraction of the general way's instructions: bytes that follow the ones before without a gap,
 * in one buffer (ptr, piece; or a socket buffer), that look like the last ones of this connection.
 */
#pragma once

#include "request.h"
#include "response.h"

/* An operation whose bytes are in one buffer, as far as `piece` goes. */
struct step {
	__u64 ptr;   /* in user memory */
	void *skb;   /* or a dynptr, */
	__u32 skb_at; /* and where in it */
	__u32 start; /* position in the byte stream */
	__u32 n;     /* bytes of the operation */
	__u64 piece; /* bytes at ptr, at most n */
	__u64 now;
	const struct tcp_sock *tp; /* read with STEP_READ */
	const struct sock *sk;     /* the same */
	bool sure; /* it has been taken */
};

/* A field of the operation's socket: directly where the verifier knows the pointer's type (`typed`, a constant). */
#define STEP_READ(o, field)                                            \
	({                                                             \
		const struct tcp_sock *tp_ = (o)->tp;                  \
		typed ? tp_->field : BPF_CORE_READ(tp_, field);        \
	})

#define SEND_ROOM_PAGE 4096
#define SEND_ROOM_SHIFT 4 /* a sixteenth */

/* Bytes that a send takes without waiting for room. What socket buffers take beside their bytes is allowed for. */
#define SEND_ROOM(buffer, queued)                                                      \
	({                                                                             \
		__s32 room_ = (buffer) - (queued);                                     \
		room_ > SEND_ROOM_PAGE ? (__u32)room_ - SEND_ROOM_PAGE - ((__u32)room_ >> SEND_ROOM_SHIFT) : (__u32)0; \
	})

#define STEP_ROOM(o)                                                                                                  \
	({                                                                                                            \
		const struct sock *sk_ = (o)->sk;                                                                     \
		typed ? SEND_ROOM(sk_->sk_sndbuf, sk_->sk_wmem_queued)                                                \
		      : SEND_ROOM(BPF_CORE_READ(sk_, sk_sndbuf), BPF_CORE_READ(sk_, sk_wmem_queued));                 \
	})

/* Copies its first n bytes, which the caller has bounded. */
static __always_inline bool step_read(void *dst, __u64 n, const struct step *o, const enum source_kind kind)
{
	return kind == SRC_SKB ? !bpf_dynptr_read(dst, n, o->skb, o->skb_at, 0) : !bpf_probe_read_user(dst, n, (void *)o->ptr);
}

static __always_inline bool usual_request(struct conn *c, const struct step *o, const bool receive,
					  const enum source_kind kind, const bool typed)
{
	struct slot *s = slot_of(c);
	__u64 n = o->n;

	if (n != c->hint_request)
		return false;
	if (c->state != S_IDLE || !s)
		return false;
	if (n > o->piece)
		return false;
	s->busy = c->rec.conn;
	BOUND(n, CFG.head_max);
	if (!n || !step_read(s->data, n, o, kind))
		return false;
	if (!like_last_request(c, s, n))
		return false;
	identify(c);
	if (c->rec.pid == CFG.self_pid)
		return false;
	s->busy = c->rec.conn;
	exchange_reset(c, receive, o->now,
		       !receive || c->arrival ? c->arrival : trusted_stamp(STEP_READ(o, tcp_mstamp) * NS_PER_US, o->now), n);
	c->rec.request_len = n;
	c->request_left = 0;
	c->state = S_REQUEST;
	return true;
}

static __always_inline bool usual_response(struct conn *c, const struct step *o, const bool receive,
					   const enum source_kind kind)
{
	if (c->state == S_RESPONSE) {
		__u64 bytes = c->rec.response_bytes;

		if (c->head_open || c->chunked || bytes >= c->response_want || o->n > c->response_want - bytes)
			return false;
		c->rec.response_bytes = bytes + o->n;
		c->rec.finished = o->now;
		c->swept = 0;
		return true;
	}
	__u64 hint = c->hint_response, at = c->rec.request_len, n = hint;

	if (c->state != S_REQUEST || c->bodyless || hint < RESPONSE_HINT_MIN || o->piece < hint || o->n > c->hint_want || request_open(c))
		return false;
	struct slot *s = slot_of(c);

	if (!s)
		return false;
	if (n > PIECE_MAX || at > (__u64)CFG.head_max + RESPONSE_MAX - PIECE_MAX)
		return false;
	BOUND(n, PIECE_MAX);
	BOUND(at, (__u64)CFG.head_max + RESPONSE_MAX - PIECE_MAX);
	if (!n || !step_read(s->data + at, n, o, kind))
		return false;
	if (!like_last_response(c, s, at))
		return false;
	c->rec.responded = receive && c->arrival ? c->arrival : o->now;
	c->rec.response_bytes = o->n;
	c->rec.finished = o->now;
	c->rec.response_len = c->hint_response;
	c->response_want = c->hint_want;
	c->state = S_RESPONSE;
	c->swept = 0;
	return true;
}

/* false, with nothing done that the general way would not do first: something is not as usual, and that one decides. */
static __always_inline bool usual(struct conn *c, const struct step *o, const bool receive, const enum source_kind kind,
				  const bool typed)
{
	__u32 *end = receive ? &c->rseq : &c->wseq;
	__u8 role = c->rec.role;

	if (*end != o->start || !o->n || c->ended)
		return false;
	c->active = o->now; /* first, for the sweep */
	if (role == (receive ? ROLE_SERVER : ROLE_CLIENT)) {
		if (!usual_request(c, o, receive, kind, typed))
			return false;
	} else if (role == ROLE_UNKNOWN || !usual_response(c, o, receive, kind)) {
		return false;
	}
	if (receive && o->start + o->n == STEP_READ(o, rcv_nxt))
		c->arrival = 0;
	if (is_over(c) && (receive || o->sure || STEP_ROOM(o) > o->n))
		end_complete(c);
	/* Last, as in on_data. */
	asm volatile("" ::: "memory");
	*end = o->start + o->n;
	return true;
}
