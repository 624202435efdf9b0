// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Which HTTP/1 exchanges happen on this host, and when: the hooks. The logic is in machine.h; each program here collects
 * what its hook knows and calls it. docs: ARCHITECTURE.md, "Kernel side".
 */
#include "machine.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* ---- sockets ---- */

/*
 * A socket's address as a number: through memory, so that the verifier forgets that it is a pointer, which global
 * functions do not take.
 */
static __always_inline void set_key(struct work *w, const void *sk)
{
	*(volatile __u64 *)&w->key = (__u64)sk;
	w->si.key = *(volatile __u64 *)&w->key;
}

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

static __always_inline void tcp_positions(const struct tcp_sock *tp, struct sockinfo *si)
{
	si->write_seq = tp->write_seq;
	si->copied_seq = tp->copied_seq;
	si->rcv_nxt = tp->rcv_nxt;
	si->mstamp_ns = tp->tcp_mstamp * 1000;
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
	si->mstamp_ns = BPF_CORE_READ(tp, tcp_mstamp) * 1000;
	si->room = SEND_ROOM(BPF_CORE_READ(sk, sk_sndbuf), BPF_CORE_READ(sk, sk_wmem_queued));
	si->shut = shut_of(sk) & SEND_SHUTDOWN;
	return true;
}

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
 * found by its address (generation 0), and known by its client's generation.
 */
static __always_inline __u64 unix_key(__u64 sk, __u64 generation)
{
	return generation ? sk ^ (generation << 40 | 1) : sk;
}

#define UNACCEPTED (1ULL << 63)

static __always_inline const struct sock *unix_peer(const struct sock *sk)
{
	return BPF_CORE_READ((const struct unix_sock *)sk, peer);
}

static __always_inline bool unix_wanted(const struct sock *sk)
{
	return (!CFG.ports_len || CFG.filter_pids) && BPF_CORE_READ(sk, sk_type) == SOCK_STREAM;
}

/*
 * When the last bytes of the send under way were queued, where a hook saw it: hooks that see a send by its return may come
 * much later. It stands in the place of an address, which these sockets do not have.
 */
static __always_inline __u64 *unix_sent_at(struct conn *c)
{
	return (__u64 *)c->rec.local_addr;
}

_Static_assert(offsetof(struct record, local_addr) % 8 == 0, "an instant is aligned");

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
	__u8 witnessed = waiting->witnessed;
	struct conn *c = conn_add(si, ROLE_UNKNOWN, true, IN_PROCESS);

	conn_remove(waiting, address);
	if (c) {
		if (arrival)
			c->arrival = arrival;
		c->witnessed |= witnessed;
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
		if (c->witnessed)
			si->mstamp_ns = w->now;
		if (!w->receive && *unix_sent_at(c))
			w->now = *unix_sent_at(c);
	}
	return true;
}

/* Where the n bytes that were just received stand, and whether there are more. */
static __always_inline void unix_received(const struct sock *sk, struct sockinfo *si, __u32 n)
{
	si->rcv_nxt = si->copied_seq + n + unix_unread(sk);
}

/*
 * An iterator's fields: read directly where the verifier knows the pointer's type (`typed`, a constant), which costs an
 * instruction each, else with probe_read, which costs fifty.
 */
#define ITER_READ(it, field) (typed ? (it)->field : BPF_CORE_READ(it, field))

/* The bytes that an iterator is about to move over. */
static __always_inline void from_iter(const struct iov_iter *it, struct source *src, const bool typed)
{
	enum iter_shape shape = iter_shape(it, typed);
	__u64 skip;

	if (shape == ITER_OTHER_SHAPE)
		return;
	skip = ITER_READ(it, iov_offset);
	if (shape == ITER_BUFFER) {
		/* Through memory: a union's first member makes the verifier take it for a typed pointer. */
		*(volatile __u64 *)&src->ptr = (__u64)ITER_READ(it, ubuf);
		src->ptr = *(volatile __u64 *)&src->ptr + skip;
		src->piece = src->len;
		return;
	}
	*(volatile __u64 *)&src->array = (__u64)iter_iov(it, typed);
	src->segments = ITER_READ(it, nr_segs);
	source_next(src);
	src->ptr += skip;
	src->piece -= skip;
}

/* The n bytes that an iterator has just moved past: they are behind it, so walk back. */
static __always_inline void from_passed_iter(const struct iov_iter *it, __u64 n, struct source *src, const bool typed)
{
	enum iter_shape shape = iter_shape(it, typed);
	__u64 at = ITER_READ(it, iov_offset);

	src->len = src->piece = n;
	if (shape == ITER_OTHER_SHAPE)
		return;
	if (shape == ITER_BUFFER) {
		*(volatile __u64 *)&src->ptr = (__u64)ITER_READ(it, ubuf);
		src->ptr = *(volatile __u64 *)&src->ptr + at - n;
		return;
	}
	*(volatile __u64 *)&src->array = (__u64)iter_iov(it, typed);
	src->array = *(volatile __u64 *)&src->array;
	if (at >= n) {
		src->segments = 1;
		source_next(src);
		src->ptr += at - n;
		src->piece = n;
		return;
	}
	n -= at;
	/* Unrolled: before 6.3 the verifier refuses a loop that is entered by falling into its middle, as clang makes it. */
#pragma unroll
	for (int i = 1; i <= SEGMENTS_MAX; i++) {
		src->array -= sizeof(struct user_iovec);
		src->segments = i + (at ? 1 : 0);

		struct source back = *src;

		source_next(&back);
		if (!back.ptr)
			return;
		if (back.piece >= n) {
			back.ptr += back.piece - n;
			back.piece = n;
			*src = back;
			return;
		}
		n -= back.piece;
	}
	src->segments = 0;
}

/* The first buffer that an iterator of a known type is about to move over; false where there is none to speak of. */
static __always_inline bool next_buffer(const struct iov_iter *it, struct step *o, struct conn *c)
{
	enum iter_shape shape = iter_shape(it, true);
	__u64 skip = it->iov_offset;

	if (shape == ITER_BUFFER) {
		*(volatile __u64 *)&c->number = (__u64)it->ubuf;
		o->ptr = *(volatile __u64 *)&c->number + skip;
		o->piece = o->n;
		return true;
	}
	if (shape != ITER_VECTOR)
		return false;
	if (!iter_piece(it, &o->ptr, &o->piece))
		return false;
	o->ptr += skip;
	o->piece -= skip;
	if (o->piece > o->n)
		o->piece = o->n;
	return o->piece > 0;
}

/* The buffer that holds all of the bytes that it has just moved past. */
static __always_inline bool passed_buffer(const struct iov_iter *it, struct step *o, struct conn *c)
{
	enum iter_shape shape = iter_shape(it, true);
	__u64 at = it->iov_offset;

	if (at < o->n)
		return false;
	if (shape == ITER_BUFFER) {
		*(volatile __u64 *)&c->number = (__u64)it->ubuf;
		o->ptr = *(volatile __u64 *)&c->number;
	} else if (shape != ITER_VECTOR || !iter_piece(it, &o->ptr, &o->piece)) {
		return false;
	}
	o->ptr += at - o->n;
	o->piece = o->n;
	return true;
}

/* The same two for an iterator of which only the address is known: the buffer that it is about to move over, or has passed. */
static __always_inline bool probed_buffer(const struct iov_iter *it, struct step *o, const bool passed)
{
	struct user_iovec v = {};
	__u64 at, offset;
	enum iter_shape shape = iter_read(it, &at, &offset);

	if (shape == ITER_BUFFER) {
		v.base = at;
		v.len = offset + o->n;
	} else if (shape != ITER_VECTOR || bpf_probe_read_kernel(&v, sizeof(v), (void *)at)) {
		return false;
	}
	if (passed) {
		o->ptr = v.base + offset - o->n;
		o->piece = o->n;
		return offset >= o->n;
	}
	o->ptr = v.base + offset;
	o->piece = v.len - offset;
	if (o->piece > o->n)
		o->piece = o->n;
	return o->piece > 0;
}

/* ---- handlers ---- */

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

/* Bytes arrived: TCP has just taken the time. */
static __always_inline int handle_ready(struct sock *sk)
{
	struct conn *c = unready((__u64)sk);
	struct tcp_sock *tp = c ? bpf_skc_to_tcp_sock(sk) : NULL;

	if (tp)
		c->arrival = tp->tcp_mstamp * 1000;
	return 0;
}

static __always_inline int handle_send(struct work *w, const struct msghdr *msg, const bool typed)
{
	from_iter(&msg->msg_iter, &w->src, typed);
	return user_data(w->si.write_seq);
}

static __always_inline int handle_received(struct work *w, const struct msghdr *msg, __u32 n, const bool typed)
{
	from_passed_iter(&msg->msg_iter, n, &w->src, typed);
	return user_data(w->si.copied_seq - n);
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
		c->witnessed = 1;
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

/* The sender's end, within the send. */
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
		*unix_sent_at(c) = now;
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
		__u64 at = *unix_sent_at(c);

		*unix_sent_at(c) = 0;
		c->wact += ret;
		on_sent(key, at, c->wact);
	}
	return 0;
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

static __always_inline int handle_state(struct sock *sk, int old, int new)
{
	struct sockinfo si = {};

	if (new == TCP_ESTABLISHED) {
		si.key = (__u64)sk;
		if (tcp_info(sk, &si))
			on_established(&si, old == TCP_SYN_SENT ? ROLE_CLIENT : ROLE_SERVER);
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
		if (c->rec.role == ROLE_CLIENT)
			on_ended(&si, true, false);
		return 0;
	case TCP_CLOSE:
		/* The FIN of the other end has been numbered where this end knows of it; of its own where it has sent one. */
		on_ended(&si, old == TCP_CLOSE_WAIT || old == TCP_LAST_ACK || old == TCP_CLOSING ||
			 ((old == TCP_FIN_WAIT1 || old == TCP_FIN_WAIT2) && (shut & RCV_SHUTDOWN)), shut & SEND_SHUTDOWN);
		return 0;
	}
	/* Behind the other end's FIN nothing tells a close from a half of it; then what is unread decides, and the socket's end. */
	if (c->rec.role == ROLE_SERVER || ((shut & RCV_SHUTDOWN) && !c->ended))
		on_shutdown(&si);
	return 0;
}

/* ---- every backend ---- */

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tp_inet_sock_set_state, struct sock *sk, int old, int new)
{
	if (CFG.empty)
		return 0;
	__u16 family = sk->__sk_common.skc_family;

	if ((family != AF_INET && family != AF_INET6) || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	return handle_state(sk, old, new);
}

/* The end of every TCP socket, also of one that the application closed long after its connection was over. */
SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(tp_tcp_destroy_sock, struct sock *sk)
{
	struct sockinfo si = { .key = (__u64)sk };
	struct tcp_sock *tp = CFG.empty ? NULL : bpf_skc_to_tcp_sock(sk);

	if (tp) {
		tcp_positions(tp, &si);
		on_gone(&si);
	}
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(tp_sched_process_fork, struct task_struct *parent, struct task_struct *child)
{
	__u32 from = parent->tgid, to = child->tgid;
	__u8 yes = 1;

	if (from != to && bpf_map_lookup_elem(&pids, &from))
		bpf_map_update_elem(&pids, &to, &yes, BPF_ANY);
	return 0;
}

/* Connections that fell silent, requests past their deadline, and entries whose socket is gone. */
#define UNREAD_WAIT_NS 60000000000ULL /* for an application to read what came before the connection ended */
#define RETURN_WAIT_NS 500000000ULL   /* for a call under way then to return */

static __always_inline int handle_silent(__u64 key, struct conn *c)
{
	__u64 now = bpf_ktime_get_ns(), active = c->active;

	if (CFG.empty || now < active || now - active < CFG.sweep_idle_ns)
		return 0;
	bool is_unix = c->rec.flags & F_UNIX;
	const struct sock *sk = (const struct sock *)(is_unix ? c->number : key);

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
	if (c->ended && !is_unix && c->state != S_IDLE && c->state != S_OTHER) {
		/* What has been read or handed over has been seen by now; what is unread the application may still read. */
		const struct tcp_sock *tp = (const struct tcp_sock *)sk;
		bool unread = BPF_CORE_READ(sk, sk_socket) && BPF_CORE_READ(tp, rcv_nxt) - BPF_CORE_READ(tp, copied_seq) > 1;

		if (now - c->ended < (unread ? UNREAD_WAIT_NS : RETURN_WAIT_NS))
			return 0;
		if (*(volatile __u64 *)&c->active == active)
			end_connection(c, 0, cut_at(c, active), IN_PROCESS);
		return 0;
	}
	if (c->state == S_RESPONSE && !c->swept) {
		__u32 write_seq = is_unix ? c->wact : BPF_CORE_READ((const struct tcp_sock *)sk, write_seq);
		__s32 over = c->wseq - write_seq;

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
			if (s)
				s->busy = 0;
			return 0;
		}
	}
	if (!is_unix && now - active > 5000000000ULL) {
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

/*
 * Two ways to visit every connection. Hardened kernels refuse iterators over maps; the helper came with 5.13
 * (69c087ba6225).
 */
static long sweep_each(struct bpf_map *map, const void *key, void *value, void *ctx)
{
	return handle_silent(*(const __u64 *)key, value);
}

SEC("raw_tp")
int run_sweep(void *ctx)
{
	bpf_for_each_map_elem(&conns, sweep_each, NULL, 0);
	return 0;
}

SEC("iter/bpf_map_elem")
int iter_sweep(struct bpf_iter__bpf_map_elem *ctx)
{
	__u64 *key = ctx->key;
	struct conn *c = ctx->value;

	return key && c ? handle_silent(*key, c) : 0;
}

/* ---- tracepoint ---- */

SEC("tp_btf/skb_copy_datagram_iovec")
int BPF_PROG(tp_skb_copy_datagram_iovec, struct sk_buff *skb, int len)
{
	struct sock *sk = skb->sk;
	struct bpf_dynptr data;
	struct source src = {};
	struct step o;
	struct work *w;
	bool done;

	if (CFG.empty || !sk || len <= 0 || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	struct conn *c = known(sk, &done);

	if (done)
		return 0;
	if (c) {
		const struct tcp_sock *tp = bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct tcp_sock));

		step_positions(&o, tp, true, len);
		o.start += len; /* not yet counted as copied */
		o.skb = &data;
		o.skb_at = o.start - *(__u32 *)skb->cb;
		o.piece = len;
		if (bpf_dynptr_from_skb((struct __sk_buff *)skb, 0, &data))
			return 0; /* never: a socket buffer that is being copied is readable */
		if (usual(c, &o, true, SRC_SKB, true))
			return 0;
	}
	w = work();
	if (!w || !inet_ports(sk, &w->si))
		return 0;
	w = begin(sk, true, len);
	if (!w)
		return 0;
	tcp_positions(bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct tcp_sock)), &w->si);
	if (bpf_dynptr_from_skb((struct __sk_buff *)skb, 0, &data))
		return 0; /* never: a socket buffer that is being copied is readable */
	src.len = len;
	src.skb = &data;
	src.skb_at = w->si.copied_seq - *(__u32 *)skb->cb;
	return on_data(w, w->si.copied_seq, &src, SRC_SKB);
}

SEC("tp_btf/tcp_sendmsg_locked")
int BPF_PROG(tp_tcp_sendmsg_locked, struct sock *sk, struct msghdr *msg)
{
	__u64 n = CFG.empty ? 0 : msg->msg_iter.count;
	struct work *w;

	if (!n || usual_send(sk, msg, n))
		return 0;
	w = begin_tcp(sk, false, n);
	return w ? handle_send(w, msg, true) : 0;
}

static __always_inline void unix_moved(const struct sock *sk, const struct sock *from)
{
	__u64 now = bpf_ktime_get_ns();

	unix_arrived(sk, from, now, IN_SEND);
	unix_queued(from, now);
}

SEC("tp_btf/sk_data_ready")
int BPF_PROG(tp_sk_data_ready, struct sock *sk)
{
	if (CFG.empty)
		return 0;
	if (sk->sk_protocol == IPPROTO_TCP)
		return handle_ready(sk);
	if (sk->__sk_common.skc_family == AF_UNIX && sk->__sk_common.skc_state == TCP_ESTABLISHED && unix_wanted(sk)) {
		const struct sock *from = unix_peer(sk);

		if (from)
			unix_moved(sk, from);
	}
	return 0;
}

/* Sends over Unix sockets, for the instant only. */
SEC("fentry/unix_stream_sendmsg")
int BPF_PROG(fentry_unix_arrival, struct socket *sock, struct msghdr *msg, size_t size)
{
	if (!CFG.empty && size)
		unix_sends(sock->sk, bpf_ktime_get_ns(), BEFORE_SEND);
	return 0;
}

SEC("kprobe/unix_stream_sendmsg")
int BPF_KPROBE(kprobe_unix_arrival, struct socket *sock, struct msghdr *msg, size_t size)
{
	if (!CFG.empty && size)
		unix_sends(BPF_CORE_READ(sock, sk), bpf_ktime_get_ns(), BEFORE_SEND);
	return 0;
}

/* The buffers that a user's msghdr names: only what is needed of it, for the stack's sake. */
struct user_buffers {
	__u64 iov;
	__u64 len;
};

_Static_assert(offsetof(struct user_msghdr, msg_iovlen) - offsetof(struct user_msghdr, msg_iov) == 8, "two neighbours");

static __always_inline bool message_buffers(struct user_buffers *to, __u64 msg)
{
	return !bpf_probe_read_user(to, sizeof(*to), (void *)(msg + offsetof(struct user_msghdr, msg_iov)));
}

/* Where the bytes of the system call under way are. */
static __always_inline bool from_syscall(struct pt_regs *regs, __u64 n, struct source *src, bool *receive, __u64 *fd)
{
	long nr;
	__u64 buf, len;

	syscall_args(regs, &nr, fd, &buf, &len);
	*receive = nr == NR_READ || nr == NR_READV || nr == NR_RECVFROM || nr == NR_RECVMSG;
	src->len = n;
	if (nr == NR_READ || nr == NR_WRITE || nr == NR_RECVFROM || nr == NR_SENDTO) {
		src->ptr = buf;
		src->piece = n;
		return true;
	}
	src->user_array = true;
	if (nr == NR_READV || nr == NR_WRITEV) {
		src->array = buf;
		src->segments = len;
		source_next(src);
		return true;
	}
	if (nr == NR_SENDMSG || nr == NR_RECVMSG) {
		struct user_buffers m = {};

		if (!message_buffers(&m, buf))
			return false;
		src->array = m.iov;
		src->segments = m.len;
		source_next(src);
		return true;
	}
	return false;
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

SEC("tp_btf/sock_send_length")
int BPF_PROG(tp_sock_send_length, struct sock *sk, int ret, int flags)
{
	if (CFG.empty || sk->__sk_common.skc_family != AF_UNIX)
		return 0;
	return handle_unix_length(sk, ret, false);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(tp_sock_recv_length, struct sock *sk, int ret, int flags)
{
	if (CFG.empty || sk->__sk_common.skc_family != AF_UNIX || (flags & MSG_PEEK))
		return 0;
	return handle_unix_length(sk, ret, true);
}

/* ---- fentry ---- */

/* Above this a copy takes long enough that the return, not the call, is when the last byte was handed over. */
#define LONG_SEND 16384

SEC("fentry/tcp_sendmsg")
int BPF_PROG(fentry_tcp_sendmsg, struct sock *sk, struct msghdr *msg, size_t size)
{
	struct work *w;

	if (CFG.empty || !size || usual_send(sk, msg, size))
		return 0;
	w = begin_tcp(sk, false, size);
	return w ? handle_send(w, msg, true) : 0;
}

SEC("fexit/tcp_sendmsg")
int BPF_PROG(fexit_tcp_sendmsg, struct sock *sk, struct msghdr *msg, size_t size)
{
	struct tcp_sock *tp = CFG.empty || size < LONG_SEND ? NULL : bpf_skc_to_tcp_sock(sk);

	if (tp)
		on_sent((__u64)sk, 0, tp->write_seq);
	return 0;
}

static __always_inline int fexit_received(struct sock *sk, struct msghdr *msg, int flags, int ret)
{
	struct work *w;

	if (CFG.empty || ret <= 0 || (flags & MSG_PEEK) || usual_receive(sk, msg, ret))
		return 0;
	w = begin_tcp(sk, true, ret);
	return w ? handle_received(w, msg, ret, true) : 0;
}

SEC("fexit/tcp_recvmsg")
int BPF_PROG(fexit_tcp_recvmsg, struct sock *sk, struct msghdr *msg, size_t len, int flags, int *addr_len, int ret)
{
	return fexit_received(sk, msg, flags, ret);
}

/* Later kernels do without addr_len. */
SEC("fexit/tcp_recvmsg")
int BPF_PROG(fexit_tcp_recvmsg_short, struct sock *sk, struct msghdr *msg, size_t len, int flags, int ret)
{
	return fexit_received(sk, msg, flags, ret);
}

/* Before 5.19 (ec095263a965) tcp_recvmsg had `nonblock` in front of `flags`. */
SEC("fexit/tcp_recvmsg")
int BPF_PROG(fexit_tcp_recvmsg_nonblock, struct sock *sk, struct msghdr *msg, size_t len, int nonblock, int flags,
	     int *addr_len, int ret)
{
	return fexit_received(sk, msg, flags, ret);
}

/* sendfile and splice before 6.5 (dc97391e6610); later they come through tcp_sendmsg. */
SEC("fentry/tcp_sendpage")
int BPF_PROG(fentry_tcp_sendpage, struct sock *sk, struct page *page, int offset, size_t size)
{
	struct work *w = CFG.empty || !size ? NULL : begin_tcp(sk, false, size);

	return w ? user_data(w->si.write_seq) : 0;
}

SEC("fentry/tcp_data_ready")
int BPF_PROG(fentry_tcp_data_ready, struct sock *sk)
{
	return CFG.empty ? 0 : handle_ready(sk);
}

SEC("fentry/unix_stream_sendmsg")
int BPF_PROG(fentry_unix_stream_sendmsg, struct socket *sock, struct msghdr *msg, size_t size)
{
	if (CFG.empty)
		return 0;
	return handle_unix_send(sock->sk, msg, size, true);
}

SEC("fexit/unix_stream_sendmsg")
int BPF_PROG(fexit_unix_stream_sendmsg, struct socket *sock, struct msghdr *msg, size_t size, int ret)
{
	if (CFG.empty)
		return 0;
	return handle_unix_sent(sock->sk, ret);
}

SEC("fexit/unix_stream_recvmsg")
int BPF_PROG(fexit_unix_stream_recvmsg, struct socket *sock, struct msghdr *msg, size_t size, int flags, int ret)
{
	if (CFG.empty || ret < 0 || (flags & MSG_PEEK))
		return 0;
	if (!ret) {
		unix_ended(sock->sk);
		return 0;
	}
	return handle_unix_received(sock->sk, msg, ret, true);
}

SEC("fentry/unix_release_sock")
int BPF_PROG(fentry_unix_release_sock, struct sock *sk)
{
	return CFG.empty ? 0 : handle_unix_release(sk);
}

/* ---- kprobe ---- */

/* begin_tcp for a socket known by its address only, of which everything goes to the work area: the stack is short. */
static __always_inline struct work *begin_probe(const struct sock *sk, bool receive, __u64 n)
{
	struct work *w = begin(sk, receive, n);

	return w && probe_info(sk, &w->si) ? w : NULL;
}

static __always_inline __u64 *long_sends(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&sends, &zero);
}

SEC("kprobe/tcp_sendmsg")
int BPF_KPROBE(kprobe_tcp_sendmsg, struct sock *sk, struct msghdr *msg, size_t size)
{
	struct work *w;

	if (CFG.empty || !size)
		return 0;
	if (size < LONG_SEND && usual_probed(sk, msg, size, false))
		return 0;
	w = begin_probe(sk, false, size);
	if (!w)
		return 0;
	if (size >= LONG_SEND) {
		__u64 id = bpf_get_current_pid_tgid();
		struct call call = { .sk = (__u64)sk };
		__u64 *sends = long_sends();

		if (sends && !bpf_map_update_elem(&calls, &id, &call, BPF_ANY))
			__sync_fetch_and_add(sends, 1);
	}
	return handle_send(w, msg, false);
}

static __always_inline bool call_end(struct call *to)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct call *call = bpf_map_lookup_elem(&calls, &id);

	if (!call)
		return false;
	*to = *call;
	bpf_map_delete_elem(&calls, &id);
	return true;
}

static __always_inline void call_begin(const void *sk, const void *msg, __u64 flags)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct call call = { .sk = (__u64)sk, .msg = (__u64)msg };

	if (!(flags & MSG_PEEK) && process_wanted())
		bpf_map_update_elem(&calls, &id, &call, BPF_ANY);
}

SEC("kretprobe/tcp_sendmsg")
int BPF_KRETPROBE(kretprobe_tcp_sendmsg, int ret)
{
	__u64 *sends = CFG.empty ? NULL : long_sends();
	struct call call;

	if (!sends || !*sends || !call_end(&call))
		return 0;
	__sync_fetch_and_add(sends, -1);
	const struct tcp_sock *tp = (const struct tcp_sock *)call.sk; /* apart: CO-RE would look for `call` in the kernel, too */

	on_sent(call.sk, 0, BPF_CORE_READ(tp, write_seq));
	return 0;
}

SEC("kprobe/tcp_recvmsg")
int BPF_KPROBE(kprobe_tcp_recvmsg, struct sock *sk, struct msghdr *msg, size_t len, int flags)
{
	if (!CFG.empty)
		call_begin(sk, msg, flags);
	return 0;
}

SEC("kprobe/tcp_recvmsg")
int BPF_KPROBE(kprobe_tcp_recvmsg_nonblock, struct sock *sk, struct msghdr *msg, size_t len, int nonblock, int flags)
{
	if (!CFG.empty)
		call_begin(sk, msg, flags);
	return 0;
}

SEC("kretprobe/tcp_recvmsg")
int BPF_KRETPROBE(kretprobe_tcp_recvmsg, int ret)
{
	struct call call;
	struct work *w;

	if (CFG.empty || !call_end(&call) || !call.msg || ret <= 0 || usual_probed((void *)call.sk, (void *)call.msg, ret, true))
		return 0;
	w = begin_probe((void *)call.sk, true, ret);
	return w ? handle_received(w, (void *)call.msg, ret, false) : 0;
}

SEC("kprobe/tcp_sendpage")
int BPF_KPROBE(kprobe_tcp_sendpage, struct sock *sk, struct page *page, int offset, size_t size)
{
	struct work *w = CFG.empty || !size ? NULL : begin_probe(sk, false, size);

	return w ? user_data(w->si.write_seq) : 0;
}

SEC("kprobe/tcp_data_ready")
int BPF_KPROBE(kprobe_tcp_data_ready, struct sock *sk)
{
	struct conn *c = CFG.empty ? NULL : unready((__u64)sk);

	if (c)
		c->arrival = BPF_CORE_READ((struct tcp_sock *)sk, tcp_mstamp) * 1000;
	return 0;
}

SEC("kprobe/unix_stream_sendmsg")
int BPF_KPROBE(kprobe_unix_stream_sendmsg, struct socket *sock, struct msghdr *msg, size_t size)
{
	if (CFG.empty)
		return 0;
	struct sock *sk = BPF_CORE_READ(sock, sk);

	call_begin(sk, msg, 0);
	return handle_unix_send(sk, msg, size, false);
}

SEC("kretprobe/unix_stream_sendmsg")
int BPF_KRETPROBE(kretprobe_unix_stream_sendmsg, int ret)
{
	struct call call;

	if (CFG.empty || !call_end(&call))
		return 0;
	return handle_unix_sent((void *)call.sk, ret);
}

SEC("kprobe/unix_stream_recvmsg")
int BPF_KPROBE(kprobe_unix_stream_recvmsg, struct socket *sock, struct msghdr *msg, size_t size, int flags)
{
	if (!CFG.empty)
		call_begin(BPF_CORE_READ(sock, sk), msg, flags);
	return 0;
}

SEC("kretprobe/unix_stream_recvmsg")
int BPF_KRETPROBE(kretprobe_unix_stream_recvmsg, int ret)
{
	struct call call;

	if (CFG.empty || !call_end(&call) || ret < 0)
		return 0;
	if (!ret) {
		unix_ended((void *)call.sk);
		return 0;
	}
	return handle_unix_received((void *)call.sk, (void *)call.msg, ret, false);
}

SEC("kprobe/unix_release_sock")
int BPF_KPROBE(kprobe_unix_release_sock, struct sock *sk)
{
	return CFG.empty ? 0 : handle_unix_release(sk);
}

/* ---- syscall ---- */

/* The socket behind a descriptor of the current process; 0 where there is none. */
static __always_inline __u64 socket_of(__u64 fd)
{
	struct { __u64 file, sk; } pair = {};
	__u64 count, files = open_files(&count), file = 0;

	if (fd >= count || bpf_probe_read_kernel(&file, sizeof(file), (void *)(files + fd * sizeof(file))) || !file)
		return 0;
	const struct socket *sock = BPF_CORE_READ((struct file *)file, private_data);

	/* Both with one read, where they are neighbours. A socket knows its file; other files' data is something else. */
	if (bpf_core_field_offset(sock->sk) - bpf_core_field_offset(sock->file) == 8) {
		if (bpf_probe_read_kernel(&pair, sizeof(pair), (void *)sock + bpf_core_field_offset(sock->file)))
			return 0;
	} else {
		pair.file = (__u64)BPF_CORE_READ(sock, file);
		pair.sk = (__u64)BPF_CORE_READ(sock, sk);
	}
	return pair.file == file ? pair.sk : 0;
}

static __always_inline bool is_socket(__u64 fd)
{
	__u64 count, files = open_files(&count), file = 0;

	return fd < count && !bpf_probe_read_kernel(&file, sizeof(file), (void *)(files + fd * sizeof(file))) &&
	       (BPF_CORE_READ((struct file *)file, f_inode, i_mode) & S_IFMT) == S_IFSOCK;
}

/* The first buffer of the system call under way, as far as its n bytes go. */
static __always_inline bool syscall_buffer(struct step *o, long nr, __u64 a1)
{
	struct user_iovec v = {};

	o->ptr = a1;
	o->piece = o->n;
	if (nr == NR_READ || nr == NR_WRITE || nr == NR_RECVFROM || nr == NR_SENDTO)
		return true;
	if (nr == NR_SENDMSG || nr == NR_RECVMSG) {
		struct user_buffers m;

		if (!message_buffers(&m, a1))
			return false;
		a1 = m.iov;
	} else if (nr != NR_READV && nr != NR_WRITEV) {
		return false;
	}
	if (bpf_probe_read_user(&v, sizeof(v), (void *)a1))
		return false;
	o->ptr = v.base;
	o->piece = v.len < o->n ? v.len : o->n;
	return true;
}

/* A system call that moved n bytes of a connection that is known. true: it needs no more. */
static __always_inline bool usual_syscall(const struct sock *sk, __u32 n, long nr, __u64 a1)
{
	const struct tcp_sock *tp = (const struct tcp_sock *)sk;
	struct step o = { .n = n, .tp = tp, .sk = sk, .sure = true };
	bool done, used;
	struct conn *c = known(sk, &done);

	if (!c || (c->rec.flags & F_UNIX))
		return done;
	o.now = bpf_ktime_get_ns();
	if (!syscall_buffer(&o, nr, a1))
		return false;
	if (nr == NR_READ || nr == NR_READV || nr == NR_RECVFROM || nr == NR_RECVMSG) {
		o.start = BPF_CORE_READ(tp, copied_seq) - n;
		used = usual(c, &o, true, SRC_USER, false);
	} else {
		o.start = BPF_CORE_READ(tp, write_seq) - n;
		used = usual(c, &o, false, SRC_USER, false);
	}
	return used;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(tp_sys_exit, struct pt_regs *regs, long ret)
{
	bool receive, is_unix;
	struct work *w;
	long nr;
	__u64 fd, a1, a2;

	if (CFG.empty || ret < 0)
		return 0;
	syscall_args(regs, &nr, &fd, &a1, &a2);
	if (nr != NR_READ && nr != NR_WRITE && nr != NR_READV && nr != NR_WRITEV && nr != NR_SENDTO && nr != NR_RECVFROM &&
	    nr != NR_SENDMSG && nr != NR_RECVMSG && nr != NR_SENDFILE)
		return 0;
	if (!process_wanted())
		return 0;
	if ((nr == NR_RECVFROM && (syscall_arg3(regs) & MSG_PEEK)) || (nr == NR_RECVMSG && (a2 & MSG_PEEK)))
		return 0;
	const struct sock *sk = (const struct sock *)socket_of(fd);

	if (!ret) {
		if (sk && (nr == NR_READ || nr == NR_READV || nr == NR_RECVFROM || nr == NR_RECVMSG))
			unix_ended(sk);
		return 0;
	}
	if (!sk || usual_syscall(sk, ret, nr, a1) || !is_socket(fd))
		return 0;
	is_unix = BPF_CORE_READ(sk, __sk_common.skc_family) == AF_UNIX;
	w = is_unix ? begin(sk, false, ret) : begin_probe(sk, false, ret);
	if (!w)
		return 0;
	if (!from_syscall(regs, ret, &w->src, &receive, &fd))
		source_none(&w->src);
	w->receive = receive;
	w->sure = !is_unix; /* what a Unix socket took is told of below */
	if (!is_unix)
		return user_data((receive ? w->si.copied_seq : w->si.write_seq) - ret);
	if (!unix_info(sk, w))
		return 0;
	if (receive) {
		unix_received(sk, &w->si, ret);
		return user_data(w->si.copied_seq);
	}
	unix_sends(sk, w->now, AFTER_SEND);
	user_data(w->si.write_seq);
	return handle_unix_sent(sk, ret);
}

/* When a segment arrives, on kernels without a better witness; the clock is read here because tcp_mstamp is not yet fresh. */
SEC("tp_btf/tcp_probe")
int BPF_PROG(tp_tcp_probe, struct sock *sk, struct sk_buff *skb)
{
	struct sockinfo si = {};
	__u8 offset = 0;

	if (CFG.empty || !inet_ports(sk, &si))
		return 0;
	/* The TCP header is in front; its upper nibble of byte 12 is its length. Without more there is no data. */
	if (bpf_probe_read_kernel(&offset, 1, skb->data + 12) || skb->len <= (offset >> 4) * 4)
		return 0;
	on_ready((__u64)sk, bpf_ktime_get_ns());
	return 0;
}
