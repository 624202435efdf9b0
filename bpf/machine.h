/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The state machine of a connection. Every backend feeds it the same three events: bytes were read or handed over
 * (on_data), bytes arrived (on_ready), the connection changed state (on_established, on_close).
 *
 * Regular traffic, one request and one response in turn, costs one record an exchange. Everything else (pipelining, bytes
 * that cannot be placed) switches the connection to stream mode for good: each operation goes to user space, which
 * does the whole framing.
 *
 * Operations are placed by their position in the byte stream, as TCP sequence numbers: what a peek or a partial send
 * showed before is not counted again, and bytes that no hook saw (splice) are counted when the next one is.
 */
#pragma once

#include "chunks.h"
#include "http1.h"

#define MISSES_MAX 16
#define SEGMENT_GAP_MAX (1 << 30)
#define SLOT_TRIES 32
/* A quarter less than the delayed-ACK timer, which refreshes tcp_mstamp without new data (TCP_DELACK_MIN, 40 ms). */
#define MSTAMP_TRUST_NS (30 * 1000000ULL)

static __always_inline bool port_wanted(__u16 local, __u16 remote)
{
	if (!CFG.ports_len)
		return true;
	for (__u32 i = 0; i < PORTS_MAX; i++) {
		if (i >= CFG.ports_len)
			return false;
		if (CFG.ports[i] == local || CFG.ports[i] == remote)
			return true;
	}
	return false;
}

static __always_inline bool process_wanted(void)
{
	if (!CFG.filter_pids)
		return true;
	__u32 pid = bpf_get_current_pid_tgid() >> 32;

	return bpf_map_lookup_elem(&pids, &pid) != NULL;
}

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

static __always_inline void fill_addresses(struct record *r, const struct sockinfo *si)
{
	const struct sock *sk = (const struct sock *)si->key;

	r->family = si->family;
	r->local_port = si->local_port;
	r->remote_port = si->remote_port;
	__builtin_memset(r->local_addr, 0, sizeof(r->local_addr) + sizeof(r->remote_addr));
	if (si->family == AF_INET) {
		BPF_CORE_READ_INTO((__u32 *)r->local_addr, sk, __sk_common.skc_rcv_saddr);
		BPF_CORE_READ_INTO((__u32 *)r->remote_addr, sk, __sk_common.skc_daddr);
	} else if (si->family == AF_INET6) {
		BPF_CORE_READ_INTO((struct in6_addr *)r->local_addr, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO((struct in6_addr *)r->remote_addr, sk, __sk_common.skc_v6_daddr);
	}
}

/* A new connection's state, or the one that another processor has just made; NULL when the map is full. */
static __always_inline struct conn *conn_add(const struct sockinfo *si, __u8 role, bool older, enum context context)
{
	__u64 key = si->key;
	__u32 index = context;
	struct conn *blank = bpf_map_lookup_elem(&blank_conn, &index);

	if (!blank)
		return NULL;
	blank->active = bpf_ktime_get_ns();
	blank->rec.conn = blank->active << 8 | (bpf_get_smp_processor_id() & 0xff);
	blank->rec.role = role;
	blank->rec.kind = KIND_EXCHANGE;
	blank->rec.flags = si->family == AF_UNIX ? F_UNIX : 0;
	blank->rseq = si->copied_seq;
	blank->wseq = si->write_seq;
	blank->generation = si->generation;
	blank->number = si->address;
	blank->older = older;
	fill_addresses(&blank->rec, si);
	if (!bpf_map_update_elem(&conns, &key, blank, BPF_NOEXIST))
		count(C_CONNECTIONS_ADDED);
	return bpf_map_lookup_elem(&conns, &key);
}

static __always_inline void conn_remove(struct conn *c, __u64 key)
{
	struct slot *s = slot_of(c);

	if (s)
		s->owner = s->busy = 0;
	if (!bpf_map_delete_elem(&conns, &key))
		count(C_CONNECTIONS_REMOVED);
}

/*
 * Which slot to take: one that holds no exchange under way. Each processor looks in its own share first, in turn, so that
 * two never take the same one; then anywhere, and where all that it looked at are busy it displaces the one of its share
 * that was taken longest ago.
 *
 * A connection that begins an exchange in its idle slot may do so in the instant in which another takes that slot. There is
 * no compare-and-exchange before 5.12; so whoever writes bytes leaves his name behind them in `busy`, and who finds another
 * name there when the exchange ends counts it as evicted.
 */
__noinline __u32 slot_choose(void)
{
	__u32 base = bpf_get_smp_processor_id() * CFG.slots_each, at = base;
	struct work *w = work();

	if (!w || !CFG.slots_each)
		return 0;
	for (int i = 0; i < SLOT_TRIES; i++) {
		at = i < SLOT_TRIES / 2 ? base + (__u32)w->slots++ % CFG.slots_each
					: bpf_get_prandom_u32() % CFG.slots;
		struct slot *s = slot_at(at);

		if (s && !s->busy)
			return at;
	}
	return base + (__u32)w->slots++ % CFG.slots_each;
}

static __always_inline struct slot *slot_add(struct conn *c)
{
	struct slot *s;

	c->slot = slot_choose();
	s = slot_at(c->slot);
	if (s)
		s->owner = c->rec.conn;
	return s;
}

static __always_inline bool response_complete(const struct conn *c, __u32 overshoot)
{
	if (c->rec.role != ROLE_SERVER)
		overshoot = 0;
	if (c->chunked)
		return c->chunk_end;
	return c->response_want != UNKNOWN && c->rec.response_bytes - overshoot >= c->response_want;
}

/* Its framing says that more is to come. */
static __always_inline bool response_incomplete(const struct conn *c)
{
	if (c->state == S_RESPONSE_HEAD || c->head_open)
		return true;
	if (c->chunked)
		return c->chunked == CHUNKED_FOLLOWED && !c->chunk_end;
	return c->response_want != UNKNOWN && c->rec.response_bytes < c->response_want;
}

/* Only the next request or the connection's end tells where it ends. */
static __always_inline bool response_unframed(const struct conn *c)
{
	return c->chunked ? c->chunked == CHUNKED_LOST : c->response_want == UNKNOWN;
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

	/* One record in eight looks whether it is time to wake the reader; connections differ in which. */
	__u64 wake = (c->rec.seq + (c->rec.conn >> 8)) & 7 ? BPF_RB_NO_WAKEUP : wakeup();

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

static __always_inline void identify(struct conn *c)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;

	if (c->rec.pid != pid) {
		c->rec.pid = pid;
		bpf_get_current_comm(c->rec.comm, sizeof(c->rec.comm));
	}
}

/* Stream mode: one fragment, whose captured bytes are already in f->data. */
static __always_inline void send_fragment(struct conn *c, struct fragment *f, bool request, __u64 now, __u64 arrived,
					  __u64 length, __u32 captured, __u16 flags, __u64 chunks)
{
	__u64 *total = request ? &c->rx_total : &c->tx_total;

	copy_record(&f->rec, &c->rec);
	f->rec.kind = KIND_FRAGMENT;
	f->rec.flags = (c->rec.flags & F_UNIX) | flags | (request ? F_REQUEST_DIRECTION : 0);
	f->rec.arrived = arrived;
	f->rec.read = now;
	f->rec.responded = chunks;
	f->rec.finished = now;
	f->rec.request_bytes = length;
	f->rec.response_bytes = *total;
	*total += length;
	asm volatile("" : "+r"(captured));
	if (captured > FRAGMENT_MAX)
		captured = FRAGMENT_MAX;
	f->rec.request_len = captured;
	f->rec.response_len = 0;
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

/*
 * An operation, of which these are the first n bytes, is no HTTP/1. A global function: what it finds would otherwise multiply
 * the paths behind it.
 */
__noinline int not_http(__u64 key, __u64 first8, __u64 n)
{
	struct conn *c = bpf_map_lookup_elem(&conns, &key);

	if (!c)
		return 0;
	c->state = S_IDLE;
	if (c->rec.seq)
		return 0;
	/* Of an older connection any operation may tell: the others begin in the middle of a message. */
	__u8 other = look_at(first8, n);

	if (other != OTHER_UNKNOWN)
		c->rec.other = other;
	if (c->older && ++c->misses < MISSES_MAX)
		return 0;
	identify(c);
	if (c->rec.pid == CFG.self_pid)
		c->rec.other = OTHER_NONE;
	else if (!c->rec.other)
		c->rec.other = OTHER_UNKNOWN;
	c->state = S_OTHER;
	count(C_NOT_HTTP);
	return 0;
}

/* The word of a chunked body that begins behind so many bytes of the operation in which its head ended. */
static __always_inline __u64 chunks_begin(__u64 before)
{
	return before ? CHUNKS(CHUNK_BEFORE, 0, before & CHUNK_SIZE_MASK) : CHUNKS(CHUNK_SIZE, 0, 0);
}

/*
 * What the scanned head says of the request under way, of which `total` bytes are the operation's; false: there is more than
 * one request in these bytes.
 */
static __always_inline bool frame_request(struct conn *c, __u64 r, __u32 have, __u64 length, __u64 total)
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
	if (r & SCAN_CHUNKED) {
		c->request_left = UNKNOWN;
		c->request_chunked = CHUNKED_FOLLOWED;
		c->request_chunks = chunks_begin(end - (c->rec.request_bytes - total));
		return true;
	}
	if (!SCAN_LENGTH_AT(r)) {
		c->request_left = 0;
		c->hint_request = end;
		return body == 0;
	}
	c->request_left = length;
	if (length != UNKNOWN) {
		if (body > length)
			return false;
		c->request_left = length - body;
	}
	return true;
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

static __always_inline void remember_start(struct conn *c, __u64 first8)
{
	c->first8 = first8;
	c->bodyless = (__u32)first8 == 0x44414548 && ((first8 >> 32) & 0xff) == ' '; /* "HEAD " */
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
		return 0;
	}
	if (!(r & SCAN_TOKEN) || ((r & SCAN_LINE) && !(r & SCAN_REQUEST))) {
		not_http(key, first8, n);
		return 0;
	}
	exchange_begin(c, w);
	if (c->state == S_OTHER)
		return 0;
	remember_start(c, first8);
	if (frame_request(c, r, n, w->body, w->total))
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
	if (frame_request(c, r, n, w->body, w->total))
		return 0;
	c->rec.request_bytes -= w->total;
	c->rec.request_len = before;
	return 1;
}

/* GET and HEAD, whose requests have no body in practice. */
static __always_inline bool is_bodyless_method(__u64 first8)
{
	return (__u32)first8 == 0x20544547 || ((__u32)first8 == 0x44414548 && ((first8 >> 32) & 0xff) == ' ');
}

/* Does a head that is longer than its capture end here? Then its length is the request's, and no body follows. */
static __always_inline void end_long_head(struct conn *c, struct source *src, const enum source_kind kind)
{
	if (!src->len || !is_bodyless_method(c->first8) || !ends_head(src, kind))
		return;
	c->rec.flags |= F_HEAD_ALL;
	c->request_left = 0;
}

/* Line ends at the start of a slot, of eight bytes at most. */
static __always_inline __u32 line_ends(const struct slot *s, __u32 n)
{
	__u64 first8 = load8(s, 0);
	__u32 i = 0;

	for (; i < 8 && i < n && ((first8 & 0xff) == '\r' || (first8 & 0xff) == '\n'); i++)
		first8 >>= 8;
	return i;
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
	__u32 n = source_read(s->data, CFG.head_max, src, kind);

	if (!n) {
		if (c->rec.seq)
			count(C_LOST_UNREADABLE);
		return false;
	}
	__u32 empty = line_ends(s, n);

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
	if (n == total && n == c->hint_request && n >= 16 && load8(s, 0) == c->first8 && load4(s, n - 4) == CRLFCRLF) {
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
	__u32 at = c->rec.request_len, digits = load4(s, at + 9);
	__u32 status = ((digits & 0xff) - '0') * 100 + ((digits >> 8 & 0xff) - '0') * 10 + ((digits >> 16 & 0xff) - '0');

	c->rec.response_len = have;
	c->state = S_RESPONSE;
	c->head_open = 0;
	if ((load8(s, at) & W_7) != W_HTTP1) {
		/* Not an answer in HTTP/1. On a first exchange the request only looked like one. */
		if (!c->rec.seq && (c->rec.flags & F_HEAD_CUT || c->rec.request_len < 16))
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
		c->hint_digits = load8(s, at + SCAN_LENGTH_AT(r) + 16);
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

	return (load4(s, at + 9) & 0xff) == '2' && (load8(s, at) & W_7) == W_HTTP1 && load4(s, at + hint - 4) == CRLFCRLF &&
	       (load8(s, at + c->hint_length) | LOWER) == W_CONTENT &&
	       load8(s, at + c->hint_length + 16) == c->hint_digits && c->first8 != W_CONNECT;
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
	if (have < 12) {
		c->rec.response_len = have;
		c->state = S_RESPONSE_HEAD;
		return PARSED;
	}
	if (!had && hint >= 24 && hint <= have && !c->bodyless && like_last_response(c, s, at)) {
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

static __always_inline void on_response(struct conn *c, struct work *w, struct source *src, const enum source_kind kind)
{
	if (c->state == S_IDLE) {
		/* Who was asked nothing and speaks first does not speak HTTP. */
		if (!c->rec.seq && !c->older)
			not_http(w->si.key, source_first8(src, kind), src->len);
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

/* Whether bytes in the direction of requests end the exchange under way: its response is there, its body too. */
static __always_inline bool next_request(const struct conn *c, __u32 overshoot)
{
	if (c->state != S_RESPONSE || (c->request_left != 0 && c->request_left != UNKNOWN))
		return false;
	return (response_unframed(c) && c->request_left == 0) || response_complete(c, overshoot);
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

/* Follows a chunked request's body through the operation; true: another request is behind it, and it belongs to stream mode. */
static __always_inline bool on_request_chunks(struct conn *c, struct work *w, struct source *src, const enum source_kind kind)
{
	c->request_chunks = chunks_follow(c->request_chunks, w, src, kind);
	__u8 state = c->request_chunks >> 56;

	if (state == CHUNK_LOST)
		c->request_chunked = CHUNKED_LOST;
	if (state != CHUNK_DONE)
		return false;
	c->request_left = 0;
	if (!src->len)
		return false;
	/* As if the operation had not been. */
	c->rec.request_bytes -= w->total;
	if (c->rec.request_len > c->rec.request_bytes)
		c->rec.request_len = c->rec.request_bytes;
	if (!c->rec.request_bytes)
		c->state = S_IDLE;
	return true;
}

/* Follows a chunked response's body through the operation; what cannot be followed is judged by its last bytes. */
static __always_inline void on_response_chunks(struct conn *c, struct work *w, struct source *src, const enum source_kind kind)
{
	if (c->chunked == CHUNKED_FOLLOWED) {
		c->chunks = chunks_follow(c->chunks, w, src, kind);
		c->chunk_end = c->chunks >> 56 == CHUNK_DONE;
		if (c->chunks >> 56 != CHUNK_LOST)
			return;
		c->chunked = CHUNKED_LOST;
		source_restore(src, w);
	}
	c->tail = kind == SRC_USER ? tail_user(c->tail) : source_tail(c->tail, src, kind);
	c->chunk_end = (c->tail & W_7) == CHUNKED_END;
}

/* The connection ended: so does the exchange under way, if there is one; at: when, should it have been cut off. */
static __always_inline void end_exchange(struct conn *c, __u32 overshoot, __u64 at)
{
	__u16 flags = F_CLOSED;

	switch (c->state) {
	case S_REQUEST_HEAD:
		if (c->rec.request_len < 16)
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

/* The same where user space follows the connection. */
static __always_inline void end_connection(struct conn *c, __u32 overshoot, __u64 at, enum context context)
{
	__u32 index = context;
	struct fragment *f;

	if (c->state != S_STREAM) {
		end_exchange(c, overshoot, at);
		return;
	}
	f = bpf_map_lookup_elem(&fragments, &index);
	if (f)
		send_fragment(c, f, false, at, 0, 0, 0, F_CLOSED, 0);
	c->state = S_OTHER;
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
	c = si->local_port || si->family == AF_UNIX ? conn_add(si, ROLE_UNKNOWN, true, IN_PROCESS) : NULL;
	if (!c)
		return NULL;
	if (receive)
		c->rseq = start;
	else
		c->wseq = start;
	return c;
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
 * The usual operation, in a fraction of the general way's instructions: bytes that follow the ones before without a gap,
 * in one buffer (ptr, piece; or a socket buffer), that look like the last ones of this connection. Returns false, with
 * nothing done that the general way would not do first, where anything is otherwise; that one then decides.
 */
static __always_inline bool usual_request(struct conn *c, const struct step *o, const bool receive,
					  const enum source_kind kind, const bool typed)
{
	struct slot *s = slot_of(c);
	__u64 n = o->n;

	if (n != c->hint_request)
		return false;
	if (c->state != S_IDLE || !s)
		return false;
	if (n < 16 || n > CFG.head_max || n > o->piece)
		return false;
	s->busy = c->rec.conn;
	BOUND(n, CFG.head_max);
	if (!n || !step_read(s->data, n, o, kind))
		return false;
	if (load8(s, 0) != c->first8 || load4(s, n - 4) != CRLFCRLF)
		return false;
	identify(c);
	if (c->rec.pid == CFG.self_pid)
		return false;
	s->busy = c->rec.conn;
	exchange_reset(c, receive, o->now,
		       !receive || c->arrival ? c->arrival : trusted_stamp(STEP_READ(o, tcp_mstamp) * 1000, o->now), n);
	c->rec.request_len = n;
	c->request_left = 0;
	c->state = S_REQUEST;
	return true;
}

static __always_inline bool usual_response(struct conn *c, const struct step *o, const bool receive,
					   const enum source_kind kind)
{
	if (c->state == S_RESPONSE) {
		if (c->head_open || c->chunked || response_complete(c, 0))
			return false;
		c->rec.response_bytes += o->n;
		c->rec.finished = o->now;
		c->swept = 0;
		return true;
	}
	__u64 hint = c->hint_response, at = c->rec.request_len, n = hint;

	if (c->state != S_REQUEST || c->bodyless || hint < 24 || o->piece < hint)
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

/*
 * Bytes were taken by the application (w->receive), or are being handed over. `start` is their position in the stream,
 * src their place and number, readable or not.
 */
static __always_inline int on_data(struct work *w, __u32 start, struct source *src, const enum source_kind kind)
{
	bool receive = w->receive;
	struct conn *c = conn_of(&w->si, start, receive);

	if (!c && !w->si.local_port && w->si.family != AF_UNIX)
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
		if (unseen < SEGMENT_GAP_MAX && c->state != S_IDLE) {
			if (!request)
				c->rec.response_bytes += unseen;
			else
				c->rec.request_bytes += unseen;
			if (request && c->request_left != UNKNOWN)
				c->request_left -= unseen < c->request_left ? unseen : c->request_left;
			if (request)
				c->request_chunks = chunks_unseen(c->request_chunks, unseen);
			else
				c->chunks = chunks_unseen(c->chunks, unseen);
		}
	} else if ((__u32)fresh < n) {
		source_skip(src, n - fresh);
	}
	w->total = src->len;
	w->arrived = receive ? c->arrival : w->now;
	w->follow = false;

	bool stream = c->state == S_STREAM;

	if (stream) {
		stream_data(key, request, src, kind);
	} else if (!request) {
		on_response(c, w, src, kind);
		if (w->follow)
			on_response_chunks(c, w, src, kind);
	} else {
		w->saved = *src;
		struct slot *s = slot_of(c);

		if (next_request(c, overshoot))
			exchange_over(key, overshoot);
		stream = c->state == S_IDLE ? on_request(c, w, s, src, kind) : on_request_more(c, w, s, src, kind);
		if (w->follow)
			stream = on_request_chunks(c, w, src, kind);
		if (stream) {
			source_restore(src, w);
			stream_begin(key);
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

	if (!c || c->rec.role != ROLE_SERVER || c->state != S_RESPONSE)
		return;
	c->rec.finished = at ?: bpf_ktime_get_ns();
	c->active = c->rec.finished;
	if (c->wseq == write_seq && is_over(c))
		end_complete(c);
}

/* The connection, where bytes that arrive now are its first that are unread. */
static __always_inline struct conn *unready(__u64 key)
{
	struct conn *c = bpf_map_lookup_elem(&conns, &key);

	return c && !c->arrival && c->state != S_OTHER ? c : NULL;
}

/* Bytes arrived. The first that is unread gives the instant. */
static __always_inline void on_ready(__u64 key, __u64 at)
{
	struct conn *c = unready(key);

	if (c)
		c->arrival = at;
}

static __always_inline void on_established(const struct sockinfo *si, __u8 role)
{
	__u64 key = si->key;
	struct conn *c = bpf_map_lookup_elem(&conns, &key);

	if (!port_wanted(si->local_port, si->remote_port))
		return;
	if (c) {
		end_connection(c, 0, cut_at(c, c->active), IN_SOFTIRQ);
		conn_remove(c, key);
	}
	conn_add(si, role, false, IN_SOFTIRQ);
}

/* How far what was seen of a send is ahead of what was taken. */
static __always_inline __u32 overshoot_of(const struct conn *c, const struct sockinfo *si)
{
	__s32 over = c->wseq - si->write_seq;

	return over > 0 ? over : 0;
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
	if (si->rcv_nxt - si->copied_seq > fin || (__s32)(si->copied_seq - c->rseq) > fin ||
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
