/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* TCP sockets: who they are and where in their byte streams, their operations, and the states of their connections. */
#pragma once

#include "iter.h"
#include "syscall.h"

static __always_inline bool inet_ports(const struct sock *sk, struct sockinfo *si)
{
	si->family = sk->__sk_common.skc_family;
	if (si->family != AF_INET && si->family != AF_INET6)
		return false;
	si->local_port = sk->__sk_common.skc_num;
	si->remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
	/* A socket that was reset has lost its own port: its connection's state knows. */
	return !si->local_port || port_wanted(si->local_port, si->remote_port);
}

/* Where in the byte stream a socket buffer begins: struct tcp_skb_cb's first field. */
static __always_inline __u32 skb_seq(const struct sk_buff *skb)
{
	return *(__u32 *)skb->cb;
}

static __always_inline void tcp_positions(const struct tcp_sock *tp, struct sockinfo *si)
{
	si->write_seq = tp->write_seq;
	si->copied_seq = tp->copied_seq;
	si->rcv_nxt = tp->rcv_nxt;
	si->mstamp_ns = tp->tcp_mstamp * NS_PER_US;
}

/* A TCP socket that the verifier knows as such. */
static __always_inline bool tcp_info(struct sock *sk, struct sockinfo *si)
{
	if (!inet_ports(sk, si))
		return false;
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	if (!tp)
		return false;
	tcp_positions(tp, si);
	return true;
}

/* What of a socket that is known by its address only is shut down. */
static __always_inline __u8 shut_of(const struct sock *sk)
{
	__u8 shut = 0;

	bpf_core_read(&shut, sizeof(shut), &sk->sk_shutdown);
	return shut;
}

/* A socket known by its address only. */
static __always_inline bool probe_info(const struct sock *sk, struct sockinfo *si)
{
	const struct tcp_sock *tp = (const struct tcp_sock *)sk;

	si->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (si->family != AF_INET && si->family != AF_INET6)
		return false;
	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return false;
	si->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	si->remote_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (si->local_port && !port_wanted(si->local_port, si->remote_port))
		return false;
	si->write_seq = BPF_CORE_READ(tp, write_seq);
	si->copied_seq = BPF_CORE_READ(tp, copied_seq);
	si->rcv_nxt = BPF_CORE_READ(tp, rcv_nxt);
	si->mstamp_ns = BPF_CORE_READ(tp, tcp_mstamp) * NS_PER_US;
	si->room = SEND_ROOM(BPF_CORE_READ(sk, sk_sndbuf), BPF_CORE_READ(sk, sk_wmem_queued));
	si->shut = shut_of(sk) & SEND_SHUTDOWN;
	return true;
}

/*
 * Positions are read behind begin(), which resets what TCP does not fill: the arguments come first so that a socket that
 * is not wanted costs nothing more.
 */
static __always_inline struct work *begin_tcp(struct sock *sk, bool receive, __u64 n)
{
	struct work *w = work();

	if (!w || !inet_ports(sk, &w->si))
		return NULL;
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	w = tp ? begin(sk, receive, n) : NULL;
	if (w) {
		tcp_positions(tp, &w->si);
		w->si.room = SEND_ROOM(sk->sk_sndbuf, sk->sk_wmem_queued);
		w->si.shut = sk->sk_shutdown & SEND_SHUTDOWN;
	}
	return w;
}

/* begin_tcp for a socket known by its address only, of which everything goes to the work area: the stack is short. */
static __always_inline struct work *begin_probe(const struct sock *sk, bool receive, __u64 n)
{
	struct work *w = begin(sk, receive, n);

	return w && probe_info(sk, &w->si) ? w : NULL;
}

/*
 * A TCP operation on a connection that is known. Positions come from the socket, the buffer from the caller, which is why
 * this only prepares: NULL tells that the general way is needed, or (*done) that there is no more to do.
 */
static __always_inline struct conn *known(const struct sock *sk, bool *done)
{
	__u64 key = (__u64)sk;
	struct conn *c = bpf_map_lookup_elem(&conns, &key);

	*done = c && (c->state == S_OTHER || !process_wanted());
	return c && c->state <= S_RESPONSE && !*done ? c : NULL;
}

static __always_inline void step_positions(struct step *o, const struct tcp_sock *tp, const bool receive, __u32 n)
{
	o->n = n;
	o->start = receive ? tp->copied_seq - n : tp->write_seq;
	o->tp = tp;
	o->sk = NULL;
	o->sure = false;
	o->now = bpf_ktime_get_ns();
}

/* true: the operation needs no more. */
static __always_inline bool usual_send(struct sock *sk, const struct msghdr *msg, __u32 n)
{
	struct step o;
	bool done;
	struct conn *c = known(sk, &done);

	if (!c)
		return done;
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	if (!tp)
		return false;
	step_positions(&o, tp, false, n);
	o.sk = sk;
	return next_buffer(&msg->msg_iter, &o, c) && usual(c, &o, false, SRC_USER, true);
}

static __always_inline bool usual_receive(struct sock *sk, const struct msghdr *msg, __u32 n)
{
	struct step o;
	bool done;
	struct conn *c = known(sk, &done);

	if (!c)
		return done;
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	if (!tp)
		return false;
	step_positions(&o, tp, true, n);
	return passed_buffer(&msg->msg_iter, &o, c) && usual(c, &o, true, SRC_USER, true);
}

/* Both for a socket known by its address only. */
static __always_inline bool usual_probed(const struct sock *sk, const struct msghdr *msg, __u32 n, const bool receive)
{
	const struct tcp_sock *tp = (const struct tcp_sock *)sk;
	struct step o = { .n = n, .tp = tp, .sk = sk };
	bool done;
	struct conn *c = known(sk, &done);

	if (!c)
		return done;
	o.start = receive ? BPF_CORE_READ(tp, copied_seq) - n : BPF_CORE_READ(tp, write_seq);
	o.now = bpf_ktime_get_ns();
	return probed_buffer(&msg->msg_iter, &o, receive) && usual(c, &o, receive, SRC_USER, false);
}

/* A system call that moved n bytes of a connection that is known. true: it needs no more. */
static __always_inline bool usual_syscall(const struct sock *sk, __u32 n, long nr, __u64 a1)
{
	const struct tcp_sock *tp = (const struct tcp_sock *)sk;
	struct step o = { .n = n, .tp = tp, .sk = sk, .sure = true };
	bool done, used;
	struct conn *c = known(sk, &done);

	if (!c || COUNTS_POSITIONS(c))
		return done;
	o.now = bpf_ktime_get_ns();
	if (!syscall_buffer(&o, nr, a1))
		return false;
	if (receives(nr)) {
		o.start = BPF_CORE_READ(tp, copied_seq) - n;
		used = usual(c, &o, true, SRC_USER, false);
	} else {
		o.start = BPF_CORE_READ(tp, write_seq) - n;
		used = usual(c, &o, false, SRC_USER, false);
	}
	return used;
}

/* Bytes arrived: TCP has just taken the time. */
static __always_inline int handle_ready(struct sock *sk)
{
	struct conn *c = unready((__u64)sk);
	struct tcp_sock *tp = c ? bpf_skc_to_tcp_sock(sk) : NULL;

	if (tp)
		on_ready(c, (__u64)sk, tp->rcv_nxt, tp->tcp_mstamp * NS_PER_US);
	return 0;
}

/* TCP Fast Open: the SYN took data with it. */
static __always_inline bool sent_with_syn(const struct sock *sk)
{
	const struct tcp_sock *tp = (const struct tcp_sock *)sk;

	return BPF_CORE_READ_BITFIELD_PROBED(tp, syn_data);
}

static __always_inline int handle_state(struct sock *sk, int old, int new)
{
	struct sockinfo si = {};

	if (new == TCP_ESTABLISHED) {
		si.key = (__u64)sk;
		if (tcp_info(sk, &si))
			on_established(&si, old == TCP_SYN_SENT ? ROLE_CLIENT : ROLE_SERVER, old == TCP_SYN_SENT && sent_with_syn(sk));
		return 0;
	}
	if (new != TCP_FIN_WAIT1 && new != TCP_LAST_ACK && new != TCP_CLOSE && new != TCP_CLOSE_WAIT)
		return 0;
	si.key = (__u64)sk;
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct conn *c = bpf_map_lookup_elem(&conns, &si.key);
	__u8 shut = sk->sk_shutdown;

	if (!tp || !c)
		return 0;
	tcp_positions(tp, &si);
	switch (new) {
	case TCP_CLOSE_WAIT:
		/* A client that only says it has no more to send still waits for its response; a server that does has sent it. */
		if (c->rec.role == ROLE_CLIENT && !(si.rcv_nxt - si.copied_seq == 1 && si.copied_seq == c->rseq && goes_on(c)))
			on_ended(&si, true, false);
		return 0;
	case TCP_CLOSE:
		if (!c->ended && (old == TCP_ESTABLISHED || old == TCP_CLOSE_WAIT || sk->sk_err))
			c->marks |= RESET;
		/* By this end, which will not read what is left. */
		if ((old == TCP_ESTABLISHED || old == TCP_CLOSE_WAIT) && shut == (RCV_SHUTDOWN | SEND_SHUTDOWN))
			take_rest(c, &si, old == TCP_CLOSE_WAIT);
		/* The FIN of the other end has been numbered where this end knows of it; of its own where it has sent one. */
		on_ended(&si, old == TCP_CLOSE_WAIT || old == TCP_LAST_ACK || old == TCP_CLOSING ||
			 ((old == TCP_FIN_WAIT1 || old == TCP_FIN_WAIT2) && (shut & RCV_SHUTDOWN)), shut & SEND_SHUTDOWN);
		return 0;
	}
	take_rest(c, &si, old == TCP_CLOSE_WAIT);
	if (c->rec.role == ROLE_SERVER && !(shut & RCV_SHUTDOWN) && goes_on(c))
		return 0;
	/* Behind the other end's FIN nothing tells a close from a half of it; then what is unread decides, and the socket's end. */
	if (c->rec.role == ROLE_SERVER || ((shut & RCV_SHUTDOWN) && !c->ended))
		on_shutdown(&si);
	return 0;
}
