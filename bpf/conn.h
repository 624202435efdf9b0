/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Connections and their slots: which are wanted, how they come and go, whose they are, and that one carries no HTTP/1. */
#pragma once

#include "chunks.h"
#include "http1.h"

#define MISSES_MAX 16   /* operations that may be the middle of an older connection's message */
#define SLOT_TRIES 32   /* half of them in the processor's own share */
#define CONN_CPU_BITS 8 /* of a connection's identity: the processor, behind the instant */

/*
 * Where in its byte streams a socket stands no field of the kernel's tells: the connection's state counts it, in rseq what was
 * taken, in wseq what was handed over and in wact what of that was sent. Unix sockets only, so far. A macro: of a function clang
 * makes other code in the walk.
 */
#define COUNTS_POSITIONS(c) (((c)->rec.flags & F_UNIX) != 0)

/* A TCP socket that was reset has lost its own port; where positions are counted there need be no port. */
static __always_inline bool socket_lost(const struct sockinfo *si)
{
	return !si->local_port && si->family != AF_UNIX;
}

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
	blank->rec.conn = blank->active << CONN_CPU_BITS | (bpf_get_smp_processor_id() & ((1 << CONN_CPU_BITS) - 1));
	blank->rec.role = role;
	blank->rec.kind = KIND_EXCHANGE;
	blank->rec.flags = si->family == AF_UNIX ? F_UNIX : 0;
	blank->rseq = si->copied_seq;
	blank->wseq = si->write_seq;
	blank->generation = si->generation;
	blank->address = si->address;
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

static __always_inline void identify(struct conn *c)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;

	if (c->rec.pid != pid) {
		c->rec.pid = pid;
		bpf_get_current_comm(c->rec.comm, sizeof(c->rec.comm));
	}
}

/*
 * The connection speaks HTTP/2, as the operation at hand shows, and is followed from there on. What does not begin with the client's
 * preface was joined in the middle: who serves is then whose port was chosen, or is the lower one, until headers tell user space.
 */
static __always_inline void http2_begin(struct conn *c, const struct work *w, __u64 first8)
{
	bool preface = first8 == W_PREFACE, receive = w->receive, presumed = c->older && !preface;

	if (preface)
		c->rec.role = receive ? ROLE_SERVER : ROLE_CLIENT;
	else if (c->rec.role == ROLE_UNKNOWN && CFG.ports_len)
		c->rec.role = port_wanted(c->rec.local_port, 0) ? ROLE_SERVER : ROLE_CLIENT;
	else if (c->rec.role == ROLE_UNKNOWN)
		c->rec.role = c->rec.local_port <= c->rec.remote_port ? ROLE_SERVER : ROLE_CLIENT;
	if (c->rec.pid == CFG.self_pid ||
	    !port_wanted(c->rec.role == ROLE_SERVER ? c->rec.local_port : c->rec.remote_port, 0)) {
		c->state = S_OTHER;
		c->rec.other = OTHER_NONE;
		return;
	}
	c->h2_request = c->h2_response = presumed ? (__u64)H2_LOST << H2_PLACE_SHIFT : 0;
	if (!presumed)
		c->h2_request = H2_PREFACE_BYTES | (__u64)H2_PREFACE_BYTES << H2_UPPER_SHIFT;
	c->rx_total = c->tx_total = c->held_at = 0;
	if (!(c->rec.flags & F_UNIX)) {
		__u64 key = w->si.key;

		bpf_map_update_elem(&h2_arrivals, &key, &w->none, BPF_ANY);
	}
	c->rec.other = OTHER_NONE;
	c->rec.kind = KIND_EXCHANGE | PROTOCOL_HTTP2 << KIND_PROTOCOL_SHIFT;
	c->state = S_STREAM;
	count(C_STREAMS);
}

/*
 * An operation, of which these are the first n bytes, is no HTTP/1. Returns 1 where it is of HTTP/2, and followed. A global
 * function: what it finds would otherwise multiply the paths behind it.
 */
__noinline int not_http(__u64 key, __u64 first8, __u64 n)
{
	struct conn *c = bpf_map_lookup_elem(&conns, &key);

	if (!c)
		return 0;
	struct slot *s = slot_of(c);
	bool whole = c->state == S_IDLE; /* these are the operation's first bytes, and none came before */
	struct work *w = work();

	if (s)
		s->busy = 0;
	c->state = S_IDLE;
	if (c->rec.seq || (c->marks & UNREADABLE))
		return 0;
	/* Of an older connection any operation may tell: the others begin in the middle of a message. */
	__u8 other = look_at(first8, n);

	if (c->older && looks_like_headers(first8, n))
		other = OTHER_HTTP2;
	if (other != OTHER_UNKNOWN)
		c->rec.other = other;
	if (CFG.http2 && other == OTHER_HTTP2 && whole && w) {
		identify(c);
		http2_begin(c, w, first8);
		return c->state == S_STREAM;
	}
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
