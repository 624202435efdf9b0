/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The state machine of a connection. Every backend feeds it the same three events: bytes were read or handed over
 * (on_data), bytes arrived (on_ready), the connection changed state (on_established, on_ended, on_gone).
 *
 * Regular traffic, one request and one response in turn, costs one record an exchange. Everything else (pipelining, bytes
 * that cannot be placed) switches the connection to stream mode for good: each operation goes to user space, which
 * does the whole framing.
 *
 * Operations are placed by their position in the byte stream, as TCP sequence numbers: what a peek or a partial send
 * showed before is not counted again, and bytes that no hook saw (splice) are counted when the next one is.
 */
#pragma once

#include "http2.h"
#include "request.h"
#include "usual.h"

/* The connection ended: so does the exchange under way, also where user space follows it. */
static __always_inline void end_connection(struct conn *c, __u32 overshoot, __u64 at, enum context context)
{
	__u32 index = context;
	struct fragment *f;

	if (c->state != S_STREAM) {
		end_exchange(c, overshoot, at);
		return;
	}
	f = bpf_map_lookup_elem(&fragments, &index);
	if (f) {
		release_held(c, f);
		send_fragment(c, f, false, at, 0, 0, 0, c->marks & RESET ? F_CLOSED | F_CUT : F_CLOSED, 0);
	}
	c->state = S_OTHER;
}

/* The connection's state, made when a data hook is the first to see it. */
static __always_inline struct conn *conn_of(const struct sockinfo *si, __u32 start, bool receive)
{
	__u64 key = si->key;
	struct conn *c = bpf_map_lookup_elem(&conns, &key);

	if (c && c->generation == si->generation)
		return c;
	if (c) {
		end_connection(c, 0, cut_at(c, c->active), IN_PROCESS);
		conn_remove(c, key);
	}
	c = socket_lost(si) ? NULL : conn_add(si, ROLE_UNKNOWN, true, IN_PROCESS);
	if (!c)
		return NULL;
	if (receive)
		c->rseq = start;
	else
		c->wseq = start;
	return c;
}

/* How many bytes of a direction lie between what was seen of it and where it stands; fin: one of them may be the FIN's. */
static __always_inline __u32 unseen_of(__u32 position, __u32 seen, bool fin)
{
	__u32 n = position - seen;

	return n < SEGMENT_GAP_MAX && n > fin ? n : 0;
}

/* n bytes of the exchange under way passed that no hook saw. When that was is not known. */
static __always_inline void add_unseen(struct conn *c, bool request, __u32 n)
{
	if (request) {
		c->rec.request_bytes += n;
		if (c->request_left != UNKNOWN)
			c->request_left -= n < c->request_left ? n : c->request_left;
		c->request_chunks = chunks_unseen(c->request_chunks, n);
		return;
	}
	if (c->state < S_RESPONSE_HEAD) {
		c->rec.flags |= F_UNREADABLE;
		c->state = S_RESPONSE;
	}
	c->rec.response_bytes += n;
	c->rec.finished = 0;
	c->chunks = chunks_unseen(c->chunks, n);
	c->tail = 0;
}

/* Whether n unseen bytes of the exchange under way are of a body for certain, and all of them. */
static __always_inline bool fits_body(const struct conn *c, bool request, __u32 n)
{
	__u64 chunks = request ? c->request_chunks : c->chunks;

	if ((request ? c->request_chunked : c->chunked) == CHUNKED_FOLLOWED)
		return CHUNKS_STATE(chunks) == CHUNK_DATA && CHUNKS_SIZE(chunks) >= n;
	if (request)
		return c->request_left != UNKNOWN && c->request_left >= n;
	return c->state == S_RESPONSE && !c->head_open && !c->chunked && c->response_want != UNKNOWN &&
	       c->rec.response_bytes + n <= c->response_want;
}

/* n bytes of the operation's direction passed before it that no hook saw: a global function, as it has many paths. */
__noinline int unseen_before(__u64 key, __u32 request, __u32 n)
{
	struct conn *c = bpf_map_lookup_elem(&conns, &key);
	struct work *w = work();

	if (!c || !w || n >= SEGMENT_GAP_MAX)
		return 0;
	if (w->receive)
		c->arrival = 0; /* was theirs */
	if (c->state == S_STREAM)
		stream_unseen(key, request, n);
	else if (c->state != S_IDLE)
		add_unseen(c, request, n);
	return 0;
}

/*
 * Bytes go one way: what of the body that went the other way before them no hook has seen (splice) is taken in first. A call
 * that is about to return, which is when its hook sees it, finds its bytes counted.
 */
__noinline int unseen_other(__u64 key, __u32 request)
{
	struct conn *c = bpf_map_lookup_elem(&conns, &key);
	struct work *w = work();

	if (!c || !w || !(request ? c->state == S_RESPONSE && !c->request_left : c->state == S_REQUEST && request_open(c)))
		return 0;
	request = !request;
	__u32 n = w->receive ? unseen_of(w->si.write_seq, c->wseq, w->si.shut) : unseen_of(w->si.copied_seq, c->rseq, true);

	n -= n && w->receive && w->si.shut; /* this end's FIN has a number, too */
	if (!n || !fits_body(c, request, n))
		return 0;
	add_unseen(c, request, n);
	if (w->receive) {
		c->wseq += n;
	} else {
		c->rseq += n;
		c->arrival = 0; /* was theirs */
	}
	return 0;
}

/* A connection for which there was no room: its requests are known, and lost. */
static __always_inline void count_untracked(struct source *src, const enum source_kind kind)
{
	__u64 w = source_first8(src, kind);

	if ((w & W_7) == W_HTTP1)
		return;
	for (int i = 0; i < 8; i++) {
		__u8 b = w >> (i * 8);

		if (b == ' ') {
			if (i)
				count(C_LOST_MAP_FULL);
			return;
		}
		if (!is_token_char(b))
			return;
		if (i == 7 && b >= 'A' && b <= 'Z')
			count(C_LOST_MAP_FULL); /* a method of eight or more letters */
	}
}

/*
 * Bytes were taken by the application (w->receive), or are being handed over. `start` is their position in the stream,
 * src their place and number, readable or not.
 */
static __always_inline int on_data(struct work *w, __u32 start, struct source *src, const enum source_kind kind)
{
	bool receive = w->receive;
	struct conn *c = conn_of(&w->si, start, receive);

	if (!c && socket_lost(&w->si))
		return 0; /* the rest of a connection that is gone */
	if (!c) {
		count_untracked(src, kind);
		return 0;
	}
	/* Where a hook sees what was taken, it was, whatever has become of the socket since. */
	if (c->state == S_OTHER || (!receive && w->si.shut && !w->sure))
		return 0;

	__u32 n = src->len, *end = receive ? &c->rseq : &c->wseq;
	__s32 fresh = start + n - *end;
	__s32 over = c->wseq - (receive ? w->si.write_seq : start);
	__u32 overshoot = over > 0 ? over : 0;
	bool request = c->rec.role == ROLE_UNKNOWN || (c->rec.role == ROLE_SERVER) == receive;
	bool drained = receive && start + n == w->si.rcv_nxt;

	bool sure = receive || w->sure || w->si.room > n;
	__u64 key = w->si.key;

	if (fresh <= 0) {
		/* Seen before: a peek, or the next step of a send. */
		if (!receive && c->state == S_STREAM && c->held_at)
			held_step(key, w->now, sure);
		if (!receive && !request && c->state == S_RESPONSE) {
			c->rec.finished = w->now;
			if (sure && is_over(c))
				exchange_over(key, 0);
		}
		return 0;
	}
	c->active = w->now;
	if ((__u32)fresh > n) {
		__u64 unseen = (__u32)fresh - n;

		if (receive && unseen == 1)
			unseen = 0; /* the peer's FIN, which takes a number */
		if (unseen)
			unseen_before(key, request, unseen);
	} else if ((__u32)fresh < n) {
		source_forward(src, n - fresh, kind);
	}
	w->total = src->len;
	w->arrived = receive ? c->arrival : w->now;
	w->follow = false;

	bool stream = c->state == S_STREAM;

	w->h2_pos = start + n - src->len;
	if (!stream)
		unseen_other(key, request);
	if (stream && PROTOCOL_OF(c->rec.kind)) {
		h2_data(request, w, src, kind);
	} else if (stream) {
		held_step(key, 0, true);
		w->hold = !receive && !request && !sure;
		stream_data(key, request, src, kind);
	} else if (!request) {
		on_response(c, w, src, kind);
		if (w->follow)
			on_response_chunks(c, w, src, kind);
		else if (c->state == S_STREAM)
			h2_data(request, w, src, kind);
	} else {
		w->saved = *src;
		struct slot *s = slot_of(c);

		if (next_request(c, overshoot))
			exchange_over(key, overshoot);
		stream = c->state == S_IDLE ? on_request(c, w, s, src, kind) : on_request_more(c, w, s, src, kind);
		if (w->follow)
			stream = on_request_chunks(c, w, src, kind);
		if (stream)
			source_restore(src, w);
		if (stream && c->state == S_STREAM) {
			h2_data(w->receive == (c->rec.role == ROLE_SERVER), w, src, kind);
		} else if (stream) {
			stream_begin(key);
			w->hold = false;
			stream_data(key, true, src, kind);
		}
	}
	if (drained)
		c->arrival = 0;
	if (sure && is_over(c))
		exchange_over(key, 0);
	/* Last: who learns meanwhile that the connection is over leaves the exchange to what is under way here. */
	asm volatile("" ::: "memory");
	*end = start + n;
	return 0;
}

/* on_data for bytes in user memory, or nowhere; everything but their position is in the work area. */
__noinline int user_data(__u32 start)
{
	struct work *w = work();

	return w ? on_data(w, start, &w->src, SRC_USER) : 0;
}

/* A send returned: what was handed over last, up to write_seq, went out now, or at a known instant. */
static __always_inline void on_sent(__u64 key, __u64 at, __u32 write_seq)
{
	struct conn *c = bpf_map_lookup_elem(&conns, &key);

	if (!c || c->rec.role != ROLE_SERVER)
		return;
	at = at ?: bpf_ktime_get_ns();
	if (c->state == S_STREAM && c->held_at)
		held_step(key, at, c->wseq == write_seq);
	if (c->state != S_RESPONSE)
		return;
	c->rec.finished = at;
	c->active = c->rec.finished;
	if (c->wseq == write_seq && is_over(c))
		end_complete(c);
}

/* The connection, where bytes that arrive now are its first that are unread, or of HTTP/2. */
static __always_inline struct conn *unready(__u64 key)
{
	struct conn *c = bpf_map_lookup_elem(&conns, &key);

	return c && c->state != S_OTHER && (!c->arrival || PROTOCOL_OF(c->rec.kind)) ? c : NULL;
}

/* Bytes arrived, up to this place in the byte stream. The first that is unread gives the instant. */
static __always_inline void on_ready(struct conn *c, __u64 key, __u32 end, __u64 at)
{
	if (!c->arrival)
		c->arrival = at;
	if (PROTOCOL_OF(c->rec.kind))
		h2_ready(key, end, at);
}

/* spoken: this end's first bytes went out before. */
static __always_inline void on_established(const struct sockinfo *si, __u8 role, bool spoken)
{
	__u64 key = si->key;
	struct conn *c = bpf_map_lookup_elem(&conns, &key);

	if (!port_wanted(si->local_port, si->remote_port))
		return;
	/* With TCP Fast Open a server may have read, and even answered, before the handshake was over. */
	if (c && role == ROLE_SERVER && c->rec.role != ROLE_CLIENT && c->rec.remote_port == si->remote_port && !c->ended &&
	    si->rcv_nxt - c->rseq < SEGMENT_GAP_MAX) {
		c->rec.role = ROLE_SERVER;
		c->rec.flags &= ~F_OLDER;
		c->older = 0;
		return;
	}
	/* What a client hands over before its handshake has no place in the byte stream yet. */
	if (c && role == ROLE_CLIENT && c->older && !c->rec.seq && c->rec.remote_port == si->remote_port)
		spoken = true;
	else if (c)
		end_connection(c, 0, cut_at(c, c->active), IN_SOFTIRQ);
	if (c)
		conn_remove(c, key);
	c = conn_add(si, role, false, IN_SOFTIRQ);
	if (c && spoken)
		c->marks |= UNREADABLE;
}

/* How far what was seen of a send is ahead of what was taken. */
static __always_inline __u32 overshoot_of(const struct conn *c, const struct sockinfo *si)
{
	__s32 over = c->wseq - si->write_seq;

	return over > 0 ? over : 0;
}

/* This end closes: what it has read or handed over unseen by any hook belongs to the exchange under way. */
static __always_inline void take_rest(struct conn *c, const struct sockinfo *si, bool fin)
{
	__u32 read = unseen_of(si->copied_seq, c->rseq, fin && si->copied_seq == si->rcv_nxt);
	__u32 sent = unseen_of(si->write_seq, c->wseq, false);
	bool server = c->rec.role == ROLE_SERVER;

	if (!(read | sent) || c->state == S_IDLE || c->state == S_OTHER)
		return;
	read -= read && fin && si->copied_seq == si->rcv_nxt;
	c->rseq += read;
	c->wseq += sent;
	if (c->state == S_STREAM) {
		stream_rest(c, server ? read : sent, server ? sent : read);
		return;
	}
	if (server ? read : sent)
		add_unseen(c, true, server ? read : sent);
	if (server ? sent : read)
		add_unseen(c, false, server ? sent : read);
}

/*
 * The server has nothing more to hand over but may go on to read a request that it has answered (some close slowly), and the
 * client to send it: true. The response is over.
 */
static __always_inline bool goes_on(struct conn *c)
{
	if (c->state == S_STREAM)
		return stream_half(c);
	if (c->state != S_RESPONSE || !request_open(c) || response_incomplete(c))
		return false;
	if (c->chunked)
		c->chunk_end = 1;
	else if (c->response_want == UNKNOWN)
		c->response_want = c->rec.response_bytes;
	return true;
}

/* The application closed its end: it neither reads nor hands over any more. */
static __always_inline void on_shutdown(const struct sockinfo *si)
{
	__u64 key = si->key;
	struct conn *c = bpf_map_lookup_elem(&conns, &key);

	if (c)
		end_connection(c, overshoot_of(c, si), cut_at(c, bpf_ktime_get_ns()), IN_SOFTIRQ);
}

/*
 * The other end closed, or the connection is over: nothing more arrives. The application may yet take what is unread, and a
 * call that took or gave bytes may not have returned, which is when most hooks see it: then the exchange goes on until that
 * is done, or this end is closed. `fin` and `sent_fin`: a number of either stream is the FIN's.
 */
static __always_inline void on_ended(const struct sockinfo *si, bool fin, bool sent_fin)
{
	__u64 key = si->key, now = bpf_ktime_get_ns();
	struct conn *c = bpf_map_lookup_elem(&conns, &key);

	if (!c)
		return;
	if (!c->ended)
		c->ended = now;
	if (si->rcv_nxt - si->copied_seq > fin || (__s32)(si->copied_seq - c->rseq) > (fin && si->copied_seq == si->rcv_nxt) ||
	    (__s32)(si->write_seq - c->wseq) > sent_fin)
		return;
	end_connection(c, overshoot_of(c, si), cut_at(c, now), IN_SOFTIRQ);
}

/* The socket is closed and gone. */
static __always_inline void on_gone(const struct sockinfo *si)
{
	__u64 key = si->key;
	struct conn *c = bpf_map_lookup_elem(&conns, &key);

	if (!c)
		return;
	end_connection(c, overshoot_of(c, si), cut_at(c, bpf_ktime_get_ns()), AT_END);
	conn_remove(c, key);
}

/*
 * A socket's address as a number: through memory, so that the verifier forgets that it is a pointer, which global
 * functions do not take.
 */
static __always_inline void set_key(struct work *w, const void *sk)
{
	*(volatile __u64 *)&w->key = (__u64)sk;
	w->si.key = *(volatile __u64 *)&w->key;
}

/* The work area, reset for an operation of n bytes; NULL when the process is not to be looked at. */
static __always_inline struct work *begin(const void *sk, bool receive, __u64 n)
{
	struct work *w = work();

	if (!w || !process_wanted())
		return NULL;
	set_key(w, sk);
	w->si.mstamp_ns = w->si.generation = 0;
	w->si.room = w->si.shut = w->sure = 0;
	w->src = (struct source){ .len = n };
	w->now = bpf_ktime_get_ns();
	w->receive = receive;
	return w;
}
