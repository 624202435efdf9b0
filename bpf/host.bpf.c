// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * What starves: tasks that wait for a processor, requests that wait for a disk, connections that wait for the network.
 * Everything is counted in the kernel; user space reads sums every few seconds.
 */
#include "host.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static __always_inline struct host_state *host_state(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&state, &zero);
}

/* One more that found no room. */
static __always_inline void count_full(__u64 *counter)
{
	__sync_fetch_and_add(counter, 1);
}

/* ---- histograms ---- */

/* Shows verifiers before 6.2, on the very register that is used next, that it is within bounds. */
static __always_inline __u64 bounded_bucket(__u64 bucket)
{
	asm volatile("if %[bucket] <= %[last] goto +1\n\t%[bucket] = %[last]" : [bucket] "+r"(bucket) : [last] "i"(LATENCY_BUCKETS - 1));
	return bucket;
}

static __always_inline __u64 latency_bucket(__u64 ns)
{
	__u32 v, bucket, more;

	ns >>= LATENCY_SHIFT;
	if (ns >= 1ULL << (LATENCY_BUCKETS - 2))
		return LATENCY_BUCKETS - 1;
	v = ns;
	if (!v)
		return 0;
	bucket = (v > 0xffff) << 4;
	v >>= bucket;
	more = (v > 0xff) << 3;
	v >>= more;
	bucket |= more;
	more = (v > 0xf) << 2;
	v >>= more;
	bucket |= more;
	more = (v > 3) << 1;
	v >>= more;
	bucket |= more | v >> 1;
	return bucket + 1;
}

/* For a histogram that more than one processor writes to. */
static __always_inline void latency_add(struct latency *h, __u64 ns)
{
	__u64 bucket = bounded_bucket(latency_bucket(ns));

	__sync_fetch_and_add(&h->buckets[bucket], 1);
	__sync_fetch_and_add(&h->sum_ns, ns);
}

/* For one that belongs to this processor. */
static __always_inline void latency_add_own(struct latency *h, __u64 ns)
{
	__u64 bucket = bounded_bucket(latency_bucket(ns));

	h->buckets[bucket]++;
	h->sum_ns += ns;
}

/* ---- run queue ---- */

#define DELAY_BITS 48 /* of a run delay: differences up to 78 hours */
#define DELAY_MASK ((1ULL << DELAY_BITS) - 1)

/*
 * How long a task has waited since it last ran. The scheduler keeps the sum of a task's waits (run_delay), to which it adds
 * the part under way only behind this hook; a part that ended with a move to another processor's queue is in it already.
 * So the whole wait is the difference to the sum of the time before. Where that was displaced from `tasks` by another task,
 * only the part since the last move is known.
 */
static __always_inline __u64 task_waited(__u32 pid, __u64 run_delay, __u64 part)
{
	__u32 at = pid & (TASKS - 1);
	__u64 name = (__u64)(pid / TASKS) << DELAY_BITS;
	__u64 sum = (run_delay + part) & DELAY_MASK;
	__u64 *before = bpf_map_lookup_elem(&tasks, &at);

	if (!before)
		return part;
	__u64 last = *before;

	*before = name | sum;
	if ((last & ~DELAY_MASK) != name || !last)
		return part;
	__u64 whole = (sum - last) & DELAY_MASK;

	/* Less than the last part, or as good as negative: it was another task of the same pid. */
	return whole < part || whole > DELAY_MASK / 2 ? part : whole;
}

/* The group of a process, or -1; user space fills the table with the same steps. */
static __always_inline int group_of(__u32 tgid)
{
	__u32 at = tgid * WATCH_HASH;

	at >>= 32 - WATCH_BITS;
#pragma unroll
	for (int i = 0; i < WATCH_TRIES; i++) {
		__u32 index = (at + i) & (WATCH_SLOTS - 1);
		__u64 *slot = bpf_map_lookup_elem(&watched, &index);

		if (!slot || !*slot)
			return -1;
		if (*slot >> 32 == tgid)
			return *slot & (GROUPS_MAX - 1);
	}
	return -1;
}

/*
 * The one hook of each context switch, so it reads no clock and calls no helper but a per-processor look-up: that a task was
 * queued, and when, stands in its scheduling information until it has arrived, and the run queue's clock was just read. By
 * bpf_stats it takes 77 ns, and 83 for a watched process, where an empty program takes 61: the rest is the kernel's, and
 * leaving at once for processes that are not watched would save 16.
 */
static __always_inline int handle_switch(const struct task_struct___host *next)
{
	__u64 queued = next->sched_info.last_queued;
	__u32 pid = next->pid, zero = 0;

	if (!pid || !queued)
		return 0;
	__u64 now = next->se.cfs_rq->rq->clock;

	if (now < queued)
		return 0;
	__u64 waited = task_waited(pid, next->sched_info.run_delay, now - queued);
	struct latency *h = bpf_map_lookup_elem(&run_queue, &zero);

	if (h)
		latency_add_own(h, waited);
	int group = group_of(next->tgid);

	if (group < 0)
		return 0;
	__u32 index = (__u32)group * HOST.shards + (bpf_get_smp_processor_id() & (HOST.shards - 1));

	h = bpf_map_lookup_elem(&groups, &index);
	if (h)
		latency_add(h, waited);
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(tp_sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	return handle_switch((const struct task_struct___host *)next);
}

/* ---- block I/O ---- */

#define REQ_OP_MASK 0xff
#define REQ_OP_READ 0
#define REQ_OP_WRITE 1
#define REQ_OP_FLUSH 2
#define REQ_OP_DISCARD 3

static __always_inline __u32 flush_sequence(void)
{
	if (bpf_core_enum_value_exists(enum rqf_flags___new, __RQF_FLUSH_SEQ___new))
		return 1U << bpf_core_enum_value(enum rqf_flags___new, __RQF_FLUSH_SEQ___new);
	return 1U << 4;
}

/*
 * A request is done with its last bytes. Its latency begins when it was made (start_time_ns): the wait in the I/O scheduler
 * and the device together, which is what the application waits for and what /proc/diskstats sums up. The parts of a write
 * with a flush come by as requests of the sequence, and then as the request itself: only that counts, and the flush as one
 * of its own, as in /proc/diskstats.
 */
static __always_inline int handle_request_done(struct request___host *rq, __u32 bytes)
{
	__u32 operation = rq->cmd_flags & REQ_OP_MASK;
	__u64 start = rq->start_time_ns;
	const struct gendisk___host *gd;
	struct disk key = { .operation = operation };

	if (operation > REQ_OP_DISCARD || bytes < rq->__data_len || !start)
		return 0;
	if (operation != REQ_OP_FLUSH && (rq->rq_flags & flush_sequence()))
		return 0;
	struct request___disk *old = (struct request___disk *)rq;

	gd = bpf_core_field_exists(old->rq_disk) ? old->rq_disk : rq->q->disk;
	if (!gd)
		return 0;
	key.major = gd->major;
	key.minor = gd->first_minor;
	__u64 now = bpf_ktime_get_ns();
	struct latency *h = bpf_map_lookup_elem(&disks, &key);

	if (!h) {
		struct latency blank = {};

		bpf_map_update_elem(&disks, &key, &blank, BPF_NOEXIST);
		h = bpf_map_lookup_elem(&disks, &key);
	}
	struct host_state *state = host_state();

	if (h)
		latency_add(h, now > start ? now - start : 0);
	else if (state)
		count_full(&state->disks_full);
	return 0;
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(tp_block_rq_complete, struct request *rq, int error, unsigned int bytes)
{
	return handle_request_done((struct request___host *)rq, bytes);
}

/* ---- TCP ---- */

/* Whether a connection is to or from a port that was chosen. The remote port is in network order. */
static __always_inline bool ports_chosen(__u16 local, __be16 remote)
{
	if (!HOST.ports_len)
		return true;
	for (__u32 i = 0; i < PORTS_MAX; i++) {
		if (i >= HOST.ports_len)
			return false;
		if (HOST.ports[i] == local || HOST.ports[i] == bpf_ntohs(remote))
			return true;
	}
	return false;
}

/*
 * The same of a socket. One that closes has given back its own port before its state says so; what it sends from tells still.
 */
static __always_inline bool is_chosen(const struct sock *sk)
{
	__u16 local;

	if (!HOST.ports_len)
		return true;
	local = BPF_CORE_READ(sk, __sk_common.skc_num);
	if (!local)
		local = bpf_ntohs(BPF_CORE_READ((const struct inet_sock___host *)sk, inet_sport));
	return ports_chosen(local, BPF_CORE_READ(sk, __sk_common.skc_dport));
}

/* The counts of a process, or those of process 0 where there is no room; NULL for the agent's own. */
static __always_inline struct tcp_health *health_of(__u32 tgid)
{
	__u32 zero = 0;

	if (tgid && tgid == HOST.self_pid)
		return NULL;
	struct tcp_health *h = bpf_map_lookup_elem(&processes, &tgid);

	if (h)
		return h;
	const struct tcp_health *blank = bpf_map_lookup_elem(&blank_health, &zero);

	if (!blank)
		return NULL;
	bpf_map_update_elem(&processes, &tgid, blank, BPF_NOEXIST);
	h = bpf_map_lookup_elem(&processes, &tgid);
	if (!h) {
		struct host_state *state = host_state();

		if (state)
			count_full(&state->processes_full);
		return bpf_map_lookup_elem(&processes, &zero);
	}
	if (bpf_get_current_pid_tgid() >> 32 == tgid)
		bpf_get_current_comm(h->comm, sizeof(h->comm));
	return h;
}

static __always_inline struct tcp_health *health_of_current(void)
{
	return health_of(bpf_get_current_pid_tgid() >> 32);
}

/* The process that opened the connection or exchanges requests over it, or 0. */
static __always_inline __u32 user_of(__u64 key)
{
	const struct owner *o = bpf_map_lookup_elem(&owners, &key);

	if (o)
		return o->tgid;
	const struct record *r = bpf_map_lookup_elem(&conns, &key);

	return r ? r->pid : 0;
}

/*
 * Whose connection it is. Segments are handled in softirq, on behalf of whoever runs: the process is known because it opened
 * the connection (owners), because the traffic programs saw it read a request (conns), or because it listens at the port
 * (listeners; where processes share a socket, one of them). What is left is a connection that was opened before the agent
 * started and carries no HTTP/1 in clear, and a reset for which there is no socket: process 0.
 */
static __always_inline __u32 owner_of(__u64 key, __u32 netns, __u16 port)
{
	__u32 user = user_of(key);

	if (user)
		return user;
	struct listener at = { .netns = netns, .port = port };
	const __u32 *tgid = bpf_map_lookup_elem(&listeners, &at);

	return tgid ? *tgid : 0;
}

static __always_inline __u32 netns_of(const struct sock *sk)
{
	return ((const struct sock___host *)sk)->__sk_common.skc_net.net->ns.inum;
}

/* NULL for what was not chosen. */
static __always_inline struct tcp_health *health_of_socket(const struct sock *sk)
{
	if (!is_chosen(sk))
		return NULL;
	return health_of(owner_of((__u64)sk, netns_of(sk), sk->__sk_common.skc_num));
}

static __always_inline bool is_tcp(const struct sock *sk)
{
	__u16 family = sk->__sk_common.skc_family;

	return (family == AF_INET || family == AF_INET6) && sk->sk_protocol == IPPROTO_TCP;
}

/* A sample of the smoothed round trip time, where TCP has measured one. */
static __always_inline void add_rtt(struct tcp_health *h, struct sock *sk)
{
	const struct tcp_sock___host *tp = (const struct tcp_sock___host *)bpf_skc_to_tcp_sock(sk);

	if (h && tp && tp->srtt_us)
		latency_add(&h->rtt, (__u64)(tp->srtt_us >> 3) * NS_PER_US);
}

/* connect(): by the process itself. */
static __always_inline void on_connect(__u64 key)
{
	struct host_state *state = host_state();
	struct owner o = { .at = bpf_ktime_get_ns(), .tgid = bpf_get_current_pid_tgid() >> 32 };

	health_of(o.tgid); /* takes its name now: it may be gone when it is asked for */
	if (bpf_map_update_elem(&owners, &key, &o, BPF_ANY) && state)
		count_full(&state->owners_full);
}

/* The handshake is over, well or not. */
static __always_inline void on_connected(__u64 key, bool ok)
{
	const struct owner *o = bpf_map_lookup_elem(&owners, &key);

	if (!o)
		return;
	struct tcp_health *h = health_of(o->tgid);

	if (h && ok)
		latency_add(&h->connect, bpf_ktime_get_ns() - o->at);
	else if (h)
		__sync_fetch_and_add(&h->connects_failed, 1);
}

/* listen() and its end, by the process itself. */
static __always_inline void on_listen(const struct sock *sk)
{
	struct listener at = { .netns = netns_of(sk), .port = sk->__sk_common.skc_num };
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;

	bpf_map_update_elem(&listeners, &at, &tgid, BPF_ANY);
}

/*
 * As many segments as TCP itself counts (tcpi_total_retrans), by the difference of its sum: since 6.17 the hook is also called
 * for what was not sent, and not every sending comes by here. Of a connection that comes by first only what is sent now is
 * known to be new.
 */
static __always_inline void count_resent(struct sock *sk, __u32 segments)
{
	const struct tcp_sock___host *tp = (const struct tcp_sock___host *)bpf_skc_to_tcp_sock(sk);
	struct tcp_health *h = health_of_socket(sk);
	__u64 key = (__u64)sk;

	if (!tp || !h)
		return;
	__u32 total = tp->total_retrans, *last = bpf_map_lookup_elem(&resent, &key);

	if (last) {
		segments = total - *last;
		*last = total;
	} else {
		if (segments > total)
			segments = total;
		bpf_map_update_elem(&resent, &key, &total, BPF_ANY);
	}
	if (segments)
		__sync_fetch_and_add(&h->retransmits, segments);
}

/*
 * Of a connection that its application closes. Who calls may be another process, which was forked from it and had a copy of the
 * descriptor; it is taken where nobody else is known.
 */
static __always_inline struct tcp_health *health_of_closing(const struct sock *sk)
{
	__u32 tgid = user_of((__u64)sk);

	return tgid ? health_of(tgid) : health_of_current();
}

static __always_inline int handle_tcp_state(struct sock *sk, int old, int new)
{
	__u64 key = (__u64)sk;

	switch (new) {
	case TCP_SYN_SENT:
		on_connect(key);
		return 0;
	case TCP_ESTABLISHED:
		if (old == TCP_SYN_SENT)
			on_connected(key, true);
		return 0;
	case TCP_LISTEN:
		on_listen(sk);
		return 0;
	case TCP_FIN_WAIT1:
	case TCP_LAST_ACK:
		add_rtt(health_of_closing(sk), sk);
		return 0;
	case TCP_CLOSE:
		if (old == TCP_SYN_SENT)
			on_connected(key, false);
		/* Closed with bytes unread, or with SO_LINGER 0. Resets of the peer are tp_tcp_receive_reset's. */
		else if ((old == TCP_ESTABLISHED || old == TCP_CLOSE_WAIT) &&
			 (sk->sk_shutdown & (RCV_SHUTDOWN | SEND_SHUTDOWN)) == (RCV_SHUTDOWN | SEND_SHUTDOWN))
			add_rtt(health_of_closing(sk), sk);
		if (bpf_map_lookup_elem(&resent, &key)) {
			count_resent(sk, 0);
			bpf_map_delete_elem(&resent, &key);
		}
		bpf_map_delete_elem(&owners, &key);
	}
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tp_tcp_state, struct sock *sk, int old, int new)
{
	return is_tcp(sk) && is_chosen(sk) ? handle_tcp_state(sk, old, new) : 0;
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(tp_tcp_retransmit_skb, struct sock *sk, struct sk_buff *skb)
{
	__u16 segments = 1;

	BPF_CORE_READ_INTO(&segments, (struct tcp_skb_cb___host *)skb->cb, tcp_gso_segs);
	count_resent(sk, segments ? segments : 1);
	return 0;
}

/* SYN and ACK again; sk is the listener. */
SEC("tp_btf/tcp_retransmit_synack")
int BPF_PROG(tp_tcp_retransmit_synack, struct sock *sk)
{
	struct tcp_health *h = health_of_socket(sk);

	if (h)
		__sync_fetch_and_add(&h->retransmits, 1);
	return 0;
}

/*
 * An answer to a segment that fits no connection has no socket (since 6.10, 19822a980e19), or a listener or one in TIME_WAIT,
 * of which only the common part is there; one that the application causes is closed already. Verifiers before 6.13
 * (838a10bd2ebf) think that sk cannot be NULL and take the check away, so nothing is read through it: where there is no
 * socket the state reads as 0.
 */
SEC("tp_btf/tcp_send_reset")
int BPF_PROG(tp_tcp_send_reset, struct sock *sk)
{
	__u32 tgid = 0;

	if (sk) {
		if (!is_chosen(sk))
			return 0;
		__u8 state = BPF_CORE_READ(sk, __sk_common.skc_state);
		__u32 netns = BPF_CORE_READ((const struct sock___host *)sk, __sk_common.skc_net.net, ns.inum);

		if (state == TCP_CLOSE)
			tgid = bpf_get_current_pid_tgid() >> 32;
		else if (state)
			tgid = owner_of((__u64)sk, netns, BPF_CORE_READ(sk, __sk_common.skc_num));
	} else if (HOST.ports_len) {
		return 0; /* nobody's port */
	}
	struct tcp_health *h = health_of(tgid);

	if (h)
		__sync_fetch_and_add(&h->resets_sent, 1);
	return 0;
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(tp_tcp_receive_reset, struct sock *sk)
{
	__u8 state = sk->__sk_common.skc_state;
	struct tcp_health *h = health_of_socket(sk);

	if (!h)
		return 0;
	__sync_fetch_and_add(&h->resets_received, 1);
	if (state == TCP_ESTABLISHED || state == TCP_CLOSE_WAIT)
		add_rtt(h, sk);
	return 0;
}

/* ---- walks ---- */

/* Behind a connection's last segment for that long no hook counts at the same time. */
#define QUIET_NS 10000000ULL

/* Segments that were sent again without the hook being called, of a connection that is quiet. */
static __always_inline void count_unseen(__u64 key, const struct tcp_sock___host *tp, __u64 last_segment_ns, struct tcp_health *h)
{
	__u32 *last = bpf_map_lookup_elem(&resent, &key);
	__u32 total = BPF_CORE_READ(tp, total_retrans);

	if (!last || *last == total || bpf_ktime_get_ns() - last_segment_ns < QUIET_NS)
		return;
	__sync_fetch_and_add(&h->retransmits, total - *last);
	*last = total;
}

/*
 * Every TCP connection that the traffic programs follow, in all network namespaces: its round trip time if it carried
 * something since the walk before, and whether the peer keeps it from sending. The socket is known by its address only and
 * may be gone or another one: its ports must be the connection's.
 */
static __always_inline int handle_connection(__u64 key, const struct record *r)
{
	__u32 zero = 0;

	if (r->flags & F_UNIX)
		return 0;
	const struct sock *sk = (const struct sock *)key;
	const struct tcp_sock___host *tp = (const struct tcp_sock___host *)sk;

	if (BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_ESTABLISHED || BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP ||
	    BPF_CORE_READ(sk, __sk_common.skc_num) != r->local_port ||
	    bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport)) != r->remote_port)
		return 0;
	const __u64 *walked_at = bpf_map_lookup_elem(&walked, &zero);
	__u32 netns = BPF_CORE_READ((const struct sock___host *)sk, __sk_common.skc_net.net, ns.inum);
	__u32 srtt_us = BPF_CORE_READ(tp, srtt_us);
	struct tcp_health *h = health_of(owner_of(key, netns, r->local_port));

	if (!h || !walked_at)
		return 0;
	__u64 last_segment_ns = BPF_CORE_READ(tp, tcp_mstamp) * NS_PER_US;

	count_unseen(key, tp, last_segment_ns, h);
	if (srtt_us && last_segment_ns >= *walked_at)
		latency_add(&h->rtt, (__u64)(srtt_us >> 3) * NS_PER_US);
	if (h->walk != (__u32)*walked_at) {
		h->walk = *walked_at;
		h->stalled = 0;
	}
	if (!BPF_CORE_READ(tp, snd_wnd) && BPF_CORE_READ((const struct sock___host *)sk, sk_wmem_queued))
		h->stalled++;
	return 0;
}

/* As the sweep of the traffic programs, there are two ways to visit them. */
static long walk_each(struct bpf_map *map, const void *key, void *value, void *ctx)
{
	return handle_connection(*(const __u64 *)key, value);
}

SEC("raw_tp")
int run_connections(void *ctx)
{
	bpf_for_each_map_elem(&conns, walk_each, NULL, 0);
	return 0;
}

SEC("iter/bpf_map_elem")
int iter_connections(struct bpf_iter__bpf_map_elem *ctx)
{
	const __u64 *key = ctx->key;
	const struct record *r = ctx->value;

	return key && r ? handle_connection(*key, r) : 0;
}

/* Who holds sockets that listen: those that did so before the agent started, and those that were handed on since. */
SEC("iter/task_file")
int iter_listeners(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;

	if (!task || !file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	struct socket *sock = BPF_CORE_READ(file, private_data);
	struct sock *sk = BPF_CORE_READ(sock, sk);

	if (!sk || BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_LISTEN)
		return 0;
	__u16 protocol = BPF_CORE_READ(sk, sk_protocol);

	/* Go's servers listen with MPTCP, whose clients mostly come with TCP. */
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_MPTCP)
		return 0;
	struct listener at = {
		.netns = BPF_CORE_READ((const struct sock___host *)sk, __sk_common.skc_net.net, ns.inum),
		.port = BPF_CORE_READ(sk, __sk_common.skc_num),
	};
	__u32 tgid = task->tgid;

	bpf_map_update_elem(&listeners, &at, &tgid, BPF_ANY);
	return 0;
}
