/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The walk over every connection: what no hook tells of, because nothing happens. */
#pragma once

#include "unix.h"

#define UNREAD_WAIT_NS 60000000000ULL /* for an application to read what came before the connection ended */
#define RETURN_WAIT_NS 500000000ULL   /* for a call under way then to return */
#define CLOSED_LOOK_NS 5000000000ULL  /* of silence, before a socket is asked whether it is still the connection's */

/* What of a silent connection's response no hook saw. */
static __always_inline void sweep_unseen(struct conn *c, const struct tcp_sock *tp, __u32 write_seq, __u64 active)
{
	bool receive = c->rec.role == ROLE_CLIENT;
	__u32 n = receive ? unseen_of(BPF_CORE_READ(tp, copied_seq), c->rseq, true) : unseen_of(write_seq, c->wseq, false);

	if (!n || !fits_body(c, false, n) || *(volatile __u64 *)&c->active != active)
		return;
	add_unseen(c, false, n);
	if (receive) {
		c->rseq += n;
		c->arrival = 0;
	} else {
		c->wseq += n;
	}
}

/* Connections that fell silent, requests past their deadline, and entries whose socket is gone. */
static __always_inline int handle_silent(__u64 key, struct conn *c)
{
	__u64 now = bpf_ktime_get_ns(), active = c->active;

	if (CFG.empty || now < active || now - active < CFG.sweep_idle_ns)
		return 0;
	bool is_unix = c->rec.flags & F_UNIX, counted = COUNTS_POSITIONS(c);
	const struct sock *sk = (const struct sock *)(is_unix ? c->address : key);

	if (c->generation & UNACCEPTED) {
		if (now - active > CFG.deadline_ns)
			conn_remove(c, key); /* not accepted for so long: who knows what it is by now */
		return 0;
	}
	if (is_unix && unix_generation(sk) != c->generation) {
		end_connection(c, 0, cut_at(c, 0), IN_PROCESS); /* closed at an instant that no hook saw */
		conn_remove(c, key);
		return 0;
	}
	if (c->ended && !counted && c->state != S_IDLE && c->state != S_OTHER) {
		/* What has been read or handed over has been seen by now; what is unread the application may still read. */
		const struct tcp_sock *tp = (const struct tcp_sock *)sk;
		bool unread = BPF_CORE_READ(sk, sk_socket) && BPF_CORE_READ(tp, rcv_nxt) - BPF_CORE_READ(tp, copied_seq) > 1;

		if (now - c->ended < (unread ? UNREAD_WAIT_NS : RETURN_WAIT_NS))
			return 0;
		if (*(volatile __u64 *)&c->active == active)
			end_connection(c, 0, cut_at(c, active), IN_PROCESS);
		return 0;
	}
	if (c->state == S_STREAM && c->held_at && (counted || c->wseq == BPF_CORE_READ((const struct tcp_sock *)sk, write_seq)))
		held_step(key, 0, true);
	if (c->state == S_RESPONSE && !c->swept && !request_open(c)) {
		__u32 write_seq = counted ? c->wact : BPF_CORE_READ((const struct tcp_sock *)sk, write_seq);
		__s32 over = c->wseq - write_seq;

		if (!counted)
			sweep_unseen(c, (const struct tcp_sock *)sk, write_seq, active);
		/* Bytes that were predicted but not taken: the send is under way, and so is the exchange. */
		if ((c->rec.role == ROLE_CLIENT || over <= 0) && *(volatile __u64 *)&c->active == active) {
			c->swept = 1;
			emit(c, slot_of(c), F_SWEPT, response_complete(c, 0));
		}
		return 0;
	}
	if (c->state == S_REQUEST || c->state == S_REQUEST_HEAD) {
		__u64 since = c->rec.arrived ? c->rec.arrived : c->rec.read;

		if (now > since && now - since > CFG.deadline_ns) {
			c->rec.finished = now;
			struct slot *s = slot_of(c);

			finish(c, s, F_TIMEOUT);
			c->forgone = 1;
			if (s)
				s->busy = 0;
			return 0;
		}
	}
	if (!is_unix && now - active > CLOSED_LOOK_NS) {
		/* A close that no program saw, because a hook was interrupted by itself. */
		__u8 state = BPF_CORE_READ(sk, __sk_common.skc_state);
		__u16 port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));

		if (state == TCP_CLOSE || state > TCP_CLOSING || port != c->rec.remote_port) {
			end_connection(c, 0, cut_at(c, active), IN_PROCESS);
			conn_remove(c, key);
		}
	}
	return 0;
}

static long sweep_each(struct bpf_map *map, const void *key, void *value, void *ctx)
{
	return handle_silent(*(const __u64 *)key, value);
}
