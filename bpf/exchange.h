/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* One exchange: its first instants, whether its framing says that it is over, its end, and the record that tells of it. */
#pragma once

#include "conn.h"

/* A quarter less than the delayed-ACK timer, which refreshes tcp_mstamp without new data (TCP_DELACK_MIN, 40 ms). */
#define MSTAMP_TRUST_NS (30 * 1000000ULL)
#define WAKE_EVERY 8 /* records; a power of two */

static __always_inline __u64 wakeup(void)
{
	return bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) >= CFG.wake_bytes ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

static __always_inline void copy_record(struct record *to, const struct record *from)
{
	__u64 *t = (__u64 *)to;
	const __u64 *f = (const __u64 *)from;

#pragma unroll
	for (int i = 0; i < (int)(sizeof(*to) / 8); i++)
		t[i] = f[i];
}

/* The request's instants and counters, for an exchange of n bytes so far. */
static __always_inline void exchange_reset(struct conn *c, const bool receive, __u64 now, __u64 arrival, __u64 n)
{
	__u16 flags = (c->rec.flags & F_UNIX) | (c->older ? F_OLDER : 0);

	c->rec.responded = c->rec.finished = 0;
	c->rec.request_bytes = n;
	c->rec.response_bytes = 0;
	c->rec.response_len = 0;
	*(__u32 *)&c->chunked = 0;
	c->request_chunked = NOT_CHUNKED;
	c->forgone = 0;
	c->tail = 0;
	c->response_want = UNKNOWN;
	if (!receive) {
		c->rec.flags = flags;
		c->rec.arrived = now;
		c->rec.read = 0;
		return;
	}
	if (!arrival)
		flags |= F_NO_ARRIVAL;
	c->rec.flags = flags;
	c->rec.arrived = arrival;
	c->rec.read = now;
}

/* TCP's own stamp of the latest arrival, where it can be no other; 0 where it can. */
static __always_inline __u64 trusted_stamp(__u64 mstamp_ns, __u64 now)
{
	return mstamp_ns && now - mstamp_ns < MSTAMP_TRUST_NS ? mstamp_ns : 0;
}

static __always_inline void exchange_begin(struct conn *c, const struct work *w)
{
	if (c->rec.role == ROLE_UNKNOWN)
		c->rec.role = w->receive ? ROLE_SERVER : ROLE_CLIENT;
	c->marks &= ~UNREADABLE;
	identify(c);
	if (c->rec.pid == CFG.self_pid ||
	    !port_wanted(c->rec.role == ROLE_SERVER ? c->rec.local_port : c->rec.remote_port, 0)) {
		c->state = S_OTHER;
		return;
	}
	if (w->receive)
		exchange_reset(c, true, w->now, c->arrival ? c->arrival : trusted_stamp(w->si.mstamp_ns, w->now), w->total);
	else
		exchange_reset(c, false, w->now, 0, w->total);
}

static __always_inline bool response_complete(const struct conn *c, __u32 overshoot)
{
	if (c->rec.role != ROLE_SERVER)
		overshoot = 0;
	if (c->chunked)
		return c->chunk_end;
	return c->response_want != UNKNOWN && c->rec.response_bytes - overshoot >= c->response_want;
}

/* It is known that the request is not complete. */
static __always_inline bool request_open(const struct conn *c)
{
	return c->request_left && (c->request_left != UNKNOWN || c->request_chunked == CHUNKED_FOLLOWED);
}

/* Its head was seen to the end and names no end of the body but the connection's; that was a reset, so there is none. */
static __always_inline bool response_torn(const struct conn *c)
{
	return (c->marks & RESET) && c->rec.response_len && c->rec.response_len < RESPONSE_MAX;
}

/* Of a chunked body that is not followed the last byte is known, and it is not that of an empty line, with which all end. */
static __always_inline bool chunks_short(const struct conn *c)
{
	return !c->chunk_end && (c->tail & 0xff) && !tail_is_empty_line(c->tail);
}

/* Its framing says that more is to come. */
static __always_inline bool response_incomplete(const struct conn *c)
{
	if (c->state == S_RESPONSE_HEAD || c->head_open)
		return true;
	if (c->chunked)
		return c->chunked == CHUNKED_LOST ? chunks_short(c) : !c->chunk_end;
	return c->response_want == UNKNOWN ? response_torn(c) : c->rec.response_bytes < c->response_want;
}

/* Only the next request or the connection's end tells where it ends. */
static __always_inline bool response_unframed(const struct conn *c)
{
	return c->chunked ? c->chunked >= CHUNKED_LOST : c->response_want == UNKNOWN;
}

/* Sends the exchange under way, as it is. The caller moves the state on. */
static __always_inline void emit(struct conn *c, struct slot *s, __u16 flags, bool complete)
{
	bool framed = complete && c->rec.response_len >= STATUS_LINE && !c->head_open;
	/* A swept copy comes again; behind one whose framing is known the final record tells nothing new. */
	bool spare = flags & F_SWEPT || (c->swept && framed);

	if (!s || s->busy != c->rec.conn) {
		/* An own slot that is not busy any more: another processor has just ended the exchange. */
		if (!spare && !(s && !s->busy))
			count(C_LOST_EVICTED);
		c->swept = 0;
		return;
	}
	__u64 len = (__u64)c->rec.request_len + c->rec.response_len;

	copy_record(&s->rec, &c->rec);
	s->rec.flags |= flags;
	if (c->chunk_end)
		s->rec.flags |= F_CHUNKED_END;
	if (framed) {
		/* Its framing is known, and so is its end: the status line is all that is left to say. */
		s->rec.flags |= F_FRAMED;
		s->rec.response_head = c->rec.response_len;
		s->rec.response_len = STATUS_LINE;
		len = (__u64)c->rec.request_len + STATUS_LINE;
	}

	/* One record in so many looks whether it is time to wake the reader; connections differ in which. */
	__u64 wake = (c->rec.seq + (c->rec.conn >> CONN_CPU_BITS)) & (WAKE_EVERY - 1) ? BPF_RB_NO_WAKEUP : wakeup();

	/* Last, so that the bounded value goes to the helper and not a copy from before. */
	asm volatile("" : "+r"(len));
	if (len > (__u64)CFG.head_max + RESPONSE_MAX)
		len = CFG.head_max + RESPONSE_MAX;
	if (!bpf_ringbuf_output(&ring, &s->rec, sizeof(s->rec) + len, wake)) {
		if (framed && (flags & F_SWEPT))
			s->busy = 0; /* what comes again is to spare */
	} else if (!spare) {
		count(C_LOST_RING_FULL);
	} else {
		c->swept = 0; /* once more */
	}
}

/* A prediction of what a send would take that did not come true is taken back. */
static __always_inline void take_back(struct conn *c, __u32 overshoot)
{
	if (c->rec.role == ROLE_CLIENT)
		c->rec.request_bytes -= overshoot < c->rec.request_bytes ? overshoot : c->rec.request_bytes;
	else
		c->rec.response_bytes -= overshoot < c->rec.response_bytes ? overshoot : c->rec.response_bytes;
}

/* emit, and ready for the next exchange. */
static __always_inline void finish(struct conn *c, struct slot *s, __u16 flags)
{
	bool complete = response_complete(c, 0);

	c->state = S_IDLE;
	emit(c, s, flags, complete);
	c->rec.seq++;
	c->older = 0;
}

/* The response is complete by its framing, and nothing of the request is still to come: the exchange ends there and then. */
static __always_inline bool is_over(const struct conn *c)
{
	return c->state == S_RESPONSE && !c->head_open && !c->request_left && response_complete(c, 0);
}

static __always_inline void end_complete(struct conn *c)
{
	struct slot *s = slot_of(c);

	finish(c, s, 0);
	if (s)
		s->busy = 0;
}

/* Ends the exchange under way, whose response is complete or is followed by the next request; a global function. */
__noinline int exchange_over(__u64 key, __u32 overshoot)
{
	struct conn *c = bpf_map_lookup_elem(&conns, &key);

	if (c) {
		take_back(c, overshoot);
		end_complete(c);
	}
	return 0;
}

/*
 * The instant at which the exchange under way was cut off: when this end closes, which is now, or when it could know that the
 * other had, unless it went on to read.
 */
static __always_inline __u64 cut_at(const struct conn *c, __u64 now)
{
	__u64 begun = c->rec.read ? c->rec.read : c->rec.arrived;

	if (!c->ended || c->ended < begun)
		return now;
	return c->ended > c->active ? c->ended : c->active;
}

/* Ends the exchange under way, if there is one, with its connection; at: when, should it have been cut off. */
static __always_inline void end_exchange(struct conn *c, __u32 overshoot, __u64 at)
{
	__u16 flags = F_CLOSED;

	switch (c->state) {
	case S_REQUEST_HEAD:
		if (c->rec.request_len < REQUEST_MIN)
			return;
		/* fall through */
	case S_REQUEST:
		take_back(c, overshoot);
		c->rec.finished = at;
		break;
	case S_RESPONSE:
	case S_RESPONSE_HEAD:
		take_back(c, overshoot);
		if (response_incomplete(c)) {
			c->rec.finished = at;
			flags |= F_CUT;
		}
		break;
	default:
		return;
	}
	struct slot *s = slot_of(c);

	finish(c, s, flags);
	if (s)
		s->busy = 0;
}
