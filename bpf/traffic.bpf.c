// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Which HTTP/1 exchanges happen on this host, and when: the hooks. The logic is in machine.h; each program here collects
 * what its hook knows and calls it. docs: ARCHITECTURE.md, "Kernel side".
 */
#include "fd.h"
#include "tcp.h"
#include "unix.h"
#include "walk.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

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

/*
 * Two ways to visit every connection. Hardened kernels refuse iterators over maps; the helper came with 5.13
 * (69c087ba6225).
 */
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
		o.skb_at = o.start - skb_seq(skb);
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
	w->si.shut = sk->sk_shutdown & SEND_SHUTDOWN;
	if (bpf_dynptr_from_skb((struct __sk_buff *)skb, 0, &data))
		return 0; /* never: a socket buffer that is being copied is readable */
	src.len = len;
	src.skb = &data;
	src.skb_at = w->si.copied_seq - skb_seq(skb);
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
	struct work *w = tp ? work() : NULL;

	if (w) {
		*(volatile __u64 *)&w->other = (__u64)sk;
		on_sent(*(volatile __u64 *)&w->other, 0, tp->write_seq);
	}
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
		on_ready(c, (__u64)sk, BPF_CORE_READ((struct tcp_sock *)sk, rcv_nxt), BPF_CORE_READ((struct tcp_sock *)sk, tcp_mstamp) * NS_PER_US);
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

#define MESSAGES_MAX 16 /* of one call that are looked at */

/* One of several messages: of its header only what is needed. */
struct message {
	struct user_buffers buffers;
	__u32 len;
};

static __always_inline bool message_at(struct message *to, __u64 vec, __u32 i)
{
	__u64 at = vec + (__u64)i * sizeof(struct user_mmsghdr);

	return message_buffers(&to->buffers, at) &&
	       !bpf_probe_read_user(&to->len, sizeof(to->len), (void *)(at + offsetof(struct user_mmsghdr, msg_len)));
}

/* The messages that a call has moved over a TCP socket; what is beyond those looked at counts as unseen. */
static __always_inline int handle_messages(struct work *w, __u64 vec, __u32 count)
{
	__u32 total = 0, position = w->receive ? w->si.copied_seq : w->si.write_seq;
	struct message m = {};

	if (count > MESSAGES_MAX)
		return 0;
	for (__u32 i = 0; i < MESSAGES_MAX && i < count; i++) {
		if (!message_at(&m, vec, i))
			return 0;
		total += m.len;
	}
	position -= total;
	for (__u32 i = 0; i < MESSAGES_MAX && i < count; i++) {
		if (!message_at(&m, vec, i) || !m.len)
			continue;
		w->src = (struct source){ .array = m.buffers.iov, .segments = m.buffers.len, .user_array = true, .len = m.len };
		user_data(position);
		position += m.len;
	}
	return 0;
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
	if (!moves_bytes(nr) || !process_wanted() || peeks(regs, nr, a2))
		return 0;
	const struct sock *sk = (const struct sock *)socket_of(fd);
	bool spliced = nr == NR_SPLICE && sk; /* from the socket; else to it */

	if (nr == NR_SPLICE && !sk) {
		fd = a2;
		sk = (const struct sock *)socket_of(fd);
	}
	if (!ret) {
		if (sk && receives(nr))
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
	receive |= spliced;
	w->receive = receive;
	w->sure = !is_unix; /* what a Unix socket took is told of below */
	if (has_messages(nr))
		return is_unix ? 0 : handle_messages(w, a1, ret);
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

#define TCP_DATA_OFFSET 12 /* of the header: the byte whose upper half is its length in words (RFC 9293, section 3.1) */

/* When a segment arrives, on kernels without a better witness; the clock is read here because tcp_mstamp is not yet fresh. */
SEC("tp_btf/tcp_probe")
int BPF_PROG(tp_tcp_probe, struct sock *sk, struct sk_buff *skb)
{
	struct sockinfo si = {};
	__u8 offset = 0;

	if (CFG.empty || !inet_ports(sk, &si))
		return 0;
	/* The TCP header is in front. Without more there is no data. */
	if (bpf_probe_read_kernel(&offset, 1, skb->data + TCP_DATA_OFFSET) || skb->len <= (offset >> 4) * 4)
		return 0;
	struct conn *c = unready((__u64)sk);

	/* It is not yet among what was received. */
	if (c)
		on_ready(c, (__u64)sk, BPF_CORE_READ((struct tcp_sock *)sk, rcv_nxt) + skb->len - (offset >> 4) * 4, bpf_ktime_get_ns());
	return 0;
}
