/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Unix stream sockets: which one it is, what arrives at which end, and positions, which only the connection's state knows. */
#pragma once

#include "iter.h"
#include "syscall.h"

/*
 * Which Unix socket it is: its inode number, another one where the memory of a closed socket is used again. 0: closed, or
 * not yet accepted.
 */
static __always_inline __u64 unix_generation(const struct sock *sk)
{
	struct socket_alloc *alloc = (struct socket_alloc *)BPF_CORE_READ(sk, sk_socket);

	return alloc ? BPF_CORE_READ(alloc, vfs_inode.i_ino) : 0;
}

/*
 * Under what a Unix socket's connection is found. Both are part of it: nothing tells of a socket's end on some backends, and
 * two processors that find its address used again must not both clear away what was there. What waits to be accepted is
 * found by its address (generation 0), and known by its client's generation. The key of an accepted one is odd, which no
 * address is.
 */
#define UNIX_KEY_SHIFT 40 /* where addresses differ least */

static __always_inline __u64 unix_key(__u64 sk, __u64 generation)
{
	return generation ? sk ^ (generation << UNIX_KEY_SHIFT | 1) : sk;
}

static __always_inline const struct sock *unix_peer(const struct sock *sk)
{
	return BPF_CORE_READ((const struct unix_sock *)sk, peer);
}

static __always_inline bool unix_wanted(const struct sock *sk)
{
	return (!CFG.ports_len || CFG.filter_pids) && BPF_CORE_READ(sk, sk_type) == SOCK_STREAM;
}

/* Bytes are there that the application has not taken. */
static __always_inline bool unix_unread(const struct sock *sk)
{
	return BPF_CORE_READ(sk, sk_receive_queue.qlen) != 0;
}

/* What arrived before the server accepted the connection, and that it did. A client that is closed by now has no number. */
static __always_inline struct conn *unix_accepted(const struct sock *sk, const struct sockinfo *si)
{
	__u64 address = si->address;
	struct conn *waiting = bpf_map_lookup_elem(&conns, &address);
	const struct sock *client = unix_peer(sk);

	if (!waiting || !client)
		return NULL;
	__u64 generation = unix_generation(client);

	if (generation ? waiting->generation != (generation | UNACCEPTED) : !BPF_CORE_READ(client, sk_shutdown))
		return NULL;
	__u64 arrival = waiting->arrival;
	__u8 marks = waiting->marks;
	struct conn *c = conn_add(si, ROLE_UNKNOWN, true, IN_PROCESS);

	conn_remove(waiting, address);
	if (c) {
		if (arrival)
			c->arrival = arrival;
		c->marks |= marks;
	}
	return c;
}

/* A Unix stream socket: no ports, no sequence numbers; positions are kept in the connection's state. */
static __always_inline bool unix_info(const struct sock *sk, struct work *w)
{
	struct sockinfo *si = &w->si;

	if (!unix_wanted(sk))
		return false;
	si->family = AF_UNIX;
	si->local_port = si->remote_port = 0;
	si->write_seq = si->copied_seq = si->rcv_nxt = 0;
	si->generation = unix_generation(sk);
	if (!si->generation)
		return false;
	si->address = si->key;
	si->key = unix_key(si->address, si->generation);

	struct conn *c = bpf_map_lookup_elem(&conns, &si->key);

	if (!c || !(c->rseq | c->wact))
		c = unix_accepted(sk, si) ?: c;
	if (c && c->generation == si->generation) {
		si->write_seq = c->wact;
		si->copied_seq = si->rcv_nxt = c->rseq;
		/* Taken before the hook noted it, which is a moment behind the bytes: this is as near to their arrival. */
		if (c->marks & WITNESSED)
			si->mstamp_ns = w->now;
		if (!w->receive && c->rec.sent_at)
			w->now = c->rec.sent_at;
	}
	return true;
}

/* Where the n bytes that were just received stand, and whether there are more. */
static __always_inline void unix_received(const struct sock *sk, struct sockinfo *si, __u32 n)
{
	si->rcv_nxt = si->copied_seq + n + unix_unread(sk);
}

/* Whether the process that opened the other end of a Unix connection (or listens for it) is to be looked at. */
static __always_inline bool unix_peer_wanted(const struct sock *from)
{
	__u32 pid = BPF_CORE_READ(from, sk_peer_pid, numbers[0].nr);

	return bpf_map_lookup_elem(&pids, &pid) != NULL;
}

/*
 * What is sent from one Unix socket to another (sk) arrives there: also at one that no hook has seen yet, because nobody
 * accepted it, and whoever sends. Where the bytes are there by now they may also be gone again, and an instant that is noted
 * behind their reader would become that of the next bytes.
 */
enum sent {
	BEFORE_SEND,
	IN_SEND,
	AFTER_SEND, /* some time after the bytes: a reader may have waited for more than a moment */
};

static __always_inline void unix_arrived(const struct sock *sk, const struct sock *from, __u64 now, const enum sent when)
{
	struct sockinfo si = { .family = AF_UNIX };
	struct work *w = work();

	if (!w || !sk || (BPF_CORE_READ(sk, sk_shutdown) & RCV_SHUTDOWN))
		return;
	*(volatile __u64 *)&w->other = (__u64)sk;
	si.address = *(volatile __u64 *)&w->other;
	si.generation = unix_generation(sk);
	si.key = unix_key(si.address, si.generation);
	if (!si.generation)
		si.generation = unix_generation(from) | UNACCEPTED;
	struct conn *c = bpf_map_lookup_elem(&conns, &si.key);

	if (!c) {
		if (CFG.filter_pids && !process_wanted() && !unix_peer_wanted(from))
			return;
		c = conn_add(&si, ROLE_UNKNOWN, true, IN_PROCESS);
		if (!c)
			return;
	}
	if (c->generation != si.generation) {
		if (!(si.generation & UNACCEPTED))
			return;
		c->generation = si.generation; /* of another socket that was never accepted */
		c->arrival = 0;
		c->active = now;
	}
	if (when != AFTER_SEND)
		c->marks |= WITNESSED;
	if (c->arrival || c->state == S_OTHER || (when != BEFORE_SEND && !unix_unread(sk)))
		return;
	c->arrival = now;
	if (when == BEFORE_SEND)
		return;

	/*
	 * A full barrier: the reader takes the bytes, then the arrival. Its zero is hidden, or clang makes an OR, which 5.10
	 * lacks.
	 */
	__u64 nothing = 0;

	asm volatile("" : "+r"(nothing));
	__sync_fetch_and_add(&c->tail, nothing);
	if (!unix_unread(sk))
		c->arrival = 0;
}

/*
 * The sender's end, within the send: when the last bytes of the send under way were queued. Hooks that see a send by its return
 * may come much later.
 */
static __always_inline void unix_queued(const struct sock *sk, __u64 now)
{
	struct sockinfo si = { .family = AF_UNIX, .generation = unix_generation(sk) };
	struct work *w = work();

	if (!w || !si.generation)
		return;
	*(volatile __u64 *)&w->other = (__u64)sk;
	si.address = *(volatile __u64 *)&w->other;
	si.key = unix_key(si.address, si.generation);

	struct conn *c = bpf_map_lookup_elem(&conns, &si.key);

	if (!c && process_wanted())
		c = conn_add(&si, ROLE_UNKNOWN, true, IN_PROCESS);
	if (c)
		c->rec.sent_at = now;
}

static __always_inline void unix_moved(const struct sock *sk, const struct sock *from)
{
	__u64 now = bpf_ktime_get_ns();

	unix_arrived(sk, from, now, IN_SEND);
	unix_queued(from, now);
}

static __always_inline void unix_sends(const struct sock *from, __u64 now, const enum sent when)
{
	if (unix_wanted(from))
		unix_arrived(unix_peer(from), from, now, when);
}

static __always_inline int handle_unix_send(const struct sock *sk, const struct msghdr *msg, __u64 size, const bool typed)
{
	struct work *w;

	if (!size)
		return 0;
	unix_sends(sk, bpf_ktime_get_ns(), BEFORE_SEND);
	w = begin(sk, false, size);
	return w && unix_info(sk, w) ? handle_send(w, msg, typed) : 0;
}

/* The key of a Unix socket's connection. */
static __always_inline __u64 unix_key_of(const struct sock *sk)
{
	struct work *w = work();

	if (!w)
		return 0;
	*(volatile __u64 *)&w->other = (__u64)sk;
	return unix_key(*(volatile __u64 *)&w->other, unix_generation(sk));
}

/* What a Unix send really took. */
static __always_inline int handle_unix_sent(const struct sock *sk, __s64 ret)
{
	__u64 key = ret > 0 ? unix_key_of(sk) : 0;
	struct conn *c = bpf_map_lookup_elem(&conns, &key);

	if (c) {
		__u64 at = c->rec.sent_at;

		c->rec.sent_at = 0;
		c->wact += ret;
		on_sent(key, at, c->wact);
	}
	return 0;
}

/* A read found that the other end of a Unix socket has closed. */
static __always_inline void unix_ended(const struct sock *sk)
{
	struct sockinfo si = { .key = unix_wanted(sk) ? unix_key_of(sk) : 0 };
	struct conn *c = si.key ? bpf_map_lookup_elem(&conns, &si.key) : NULL;

	if (!c || c->rec.role != ROLE_CLIENT)
		return;
	si.write_seq = c->wact;
	si.copied_seq = si.rcv_nxt = c->rseq;
	on_ended(&si, false, false);
}

static __always_inline int handle_unix_length(struct sock *sk, int ret, bool receive)
{
	bool direction;
	struct work *w;
	__u64 fd;

	if (ret <= 0) {
		if (receive && !ret)
			unix_ended(sk);
		return 0;
	}
	if (!receive)
		unix_sends(sk, bpf_ktime_get_ns(), AFTER_SEND);
	w = begin(sk, receive, ret);
	if (!w || !unix_info(sk, w))
		return 0;
	if (!from_syscall((struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf()), ret, &w->src, &direction, &fd) ||
	    direction != receive)
		source_none(&w->src);
	if (receive) {
		unix_received(sk, &w->si, ret);
		return user_data(w->si.copied_seq);
	}
	user_data(w->si.write_seq);
	return handle_unix_sent(sk, ret);
}

/* A Unix socket is closed, or will never be accepted. */
static __always_inline int handle_unix_release(const struct sock *sk)
{
	struct sockinfo si = { .key = unix_key_of(sk) };
	struct conn *c = bpf_map_lookup_elem(&conns, &si.key);

	if (!c)
		return 0;
	si.write_seq = c->wact;
	on_gone(&si);
	return 0;
}

static __always_inline int handle_unix_received(const struct sock *sk, const struct msghdr *msg, __u32 n, const bool typed)
{
	struct work *w = begin(sk, true, n);

	if (!w || !unix_info(sk, w))
		return 0;
	w->si.copied_seq += n;
	unix_received(sk, &w->si, 0);
	return handle_received(w, msg, n, typed);
}
