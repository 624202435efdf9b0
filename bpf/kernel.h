/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The kernel types that perfagent reads, and of each only the fields that it reads. CO-RE finds their offsets. */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#define __VMLINUX_H__ /* bpf_tracing.h: registers have the kernel's names */

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define IPPROTO_TCP 6
#define MSG_PEEK 2
#define RCV_SHUTDOWN 1
#define SEND_SHUTDOWN 2
#define S_IFMT 00170000
#define S_IFSOCK 0140000
#define NS_PER_US 1000 /* TCP keeps time in microseconds */

enum {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT,
	TCP_SYN_RECV,
	TCP_FIN_WAIT1,
	TCP_FIN_WAIT2,
	TCP_TIME_WAIT,
	TCP_CLOSE,
	TCP_CLOSE_WAIT,
	TCP_LAST_ACK,
	TCP_LISTEN,
	TCP_CLOSING,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct in6_addr {
	union {
		__u8 u6_addr8[16];
	} in6_u;
};

struct sock_common {
	unsigned short skc_family;
	volatile unsigned char skc_state;
	__be16 skc_dport;
	__u16 skc_num;
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct socket;

struct sk_buff_head {
	__u32 qlen;
};

struct upid {
	int nr;
};

struct pid {
	struct upid numbers[1];
};

struct sock {
	struct sock_common __sk_common;
	struct sk_buff_head sk_receive_queue;
	struct pid *sk_peer_pid;
	__u16 sk_type;
	__u16 sk_protocol;
	__u8 sk_shutdown;
	int sk_sndbuf;
	int sk_wmem_queued;
	int sk_err;
	struct socket *sk_socket;
};

struct file;

struct socket {
	short type;
	struct file *file;
	struct sock *sk;
};

struct tcp_sock {
	__u32 copied_seq;
	__u32 write_seq;
	__u32 rcv_nxt;
	__u64 tcp_mstamp;
	__u8 syn_data : 1;
};

struct unix_sock {
	struct sock *peer;
};

struct sk_buff {
	struct sock *sk;
	char cb[48];
	unsigned int len;
	unsigned char *data;
};

struct iovec {
	void *iov_base;
	__kernel_size_t iov_len;
};

struct iov_iter {
	__u8 iter_type;
	size_t iov_offset;
	size_t count;
	const struct iovec *__iov;
	void *ubuf;
	unsigned long nr_segs;
};

struct msghdr {
	struct iov_iter msg_iter;
};

struct page;

struct bpf_map;

struct inode {
	unsigned short i_mode;
	unsigned long i_ino;
};

struct socket_alloc {
	struct socket socket;
	struct inode vfs_inode;
};

struct file {
	struct inode *f_inode;
	void *private_data;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct task_struct {
	__u32 tgid;
	struct files_struct *files;
};

struct bpf_iter__bpf_map_elem {
	void *key;
	void *value;
};

/* Registers, in a probe's context and at the edge of a system call. */
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r10;
	unsigned long r9;
	unsigned long r8;
	unsigned long ax;
	unsigned long cx;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	__u64 regs[31];
	__u64 orig_x0;
	__s32 syscallno;
};

struct user_pt_regs {
	__u64 regs[31];
};
#else
#error "no registers for this architecture"
#endif

#pragma clang attribute pop

#include <bpf/bpf_tracing.h>

/* What user space passes to sendmsg and recvmsg; user memory, so no CO-RE. */
struct user_msghdr {
	void *msg_name;
	int msg_namelen;
	struct iovec *msg_iov;
	__u64 msg_iovlen;
	void *msg_control;
	__u64 msg_controllen;
	unsigned int msg_flags;
};

struct user_mmsghdr {
	struct user_msghdr msg_hdr;
	unsigned int msg_len;
};

struct user_iovec {
	__u64 base;
	__u64 len;
};
