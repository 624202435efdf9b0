/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Maps, values and kernel fields of host.bpf.c. The fields stand here and not in kernel.h, each type with a suffix that
 * CO-RE ignores, so that the objects that share kernel.h describe no more than they read.
 */
#pragma once

#include "events.h"
#include "kernel.h"

#define IPPROTO_MPTCP 262

/* ---- limits: sizes beyond which something is counted as unattributed or untracked ---- */

/* An enumeration, so that the Go side has them from the object's type information. */
enum host_limits {
	TASKS = 4096, /* a power of two; 32 KiB */
	WATCHED_MAX = 512,
	WATCH_BITS = 11,
	WATCH_SLOTS = 1 << WATCH_BITS, /* four times WATCHED_MAX so that runs of taken slots stay short; 16 KiB */
	WATCH_TRIES = 8,
	GROUPS_MAX = 64,
	PROCESSES_MAX = 256,
	OWNERS_MAX = 1024,
	LISTENERS_MAX = 256,
	DISKS_MAX = 64, /* devices times operations */
	LATENCY_SHIFT = 10,
	LATENCY_BUCKETS = 26,
};

#define WATCH_HASH 0x9e3779b1 /* a prime next to 2^32 over the golden ratio: process ids in sequence spread over the slots */

struct host_config {
	__u32 self_pid; /* the agent: its own sockets and threads are never reported */
	__u32 shards;   /* of each group's histogram, a power of two: processors share one as rarely as memory allows */
	__u32 ports_len; /* 0: TCP of every port */
	__u16 ports[PORTS_MAX];
};

volatile const struct host_config HOST = {
	.shards = 1,
};

/* ---- values ---- */

/*
 * Bucket 0 counts what took less than 2^LATENCY_SHIFT ns (about 1 us), bucket i what took from 2^(LATENCY_SHIFT+i-1) up to,
 * but not including, 2^(LATENCY_SHIFT+i), the last one all that took longer. 32 bits: user space takes differences.
 */
struct latency {
	__u64 sum_ns;
	__u32 buckets[LATENCY_BUCKETS];
};

/* What TCP did for one process. */
struct tcp_health {
	struct latency rtt;
	struct latency connect;
	char comm[16]; /* empty where the process did not come by itself */
	__u32 retransmits;
	__u32 resets_sent;
	__u32 resets_received;
	__u32 connects_failed;
	__u32 stalled; /* connections that wait for a window of the peer, of this walk */
	__u32 walk;    /* which walk that was */
};

/* Who opened a connection, and when. */
struct owner {
	__u64 at;
	__u32 tgid;
	__u32 pad;
};

struct listener {
	__u32 netns;
	__u16 port;
	__u16 pad;
};

struct disk {
	__u32 major;
	__u32 minor;
	__u32 operation; /* read, write, flush, discard: as the kernel numbers them */
};

struct host_state {
	__u64 processes_full; /* events of processes that found `processes` full: counted as process 0 */
	__u64 owners_full;    /* connects that found `owners` full: neither timed nor attributed */
	__u64 disks_full;     /* requests of devices beyond the table */
};

/* ---- kernel types ---- */

struct request;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct rq___host {
	__u64 clock;
};

struct cfs_rq___host {
	struct rq___host *rq;
};

struct sched_entity___host {
	struct cfs_rq___host *cfs_rq;
};

struct sched_info___host {
	unsigned long long run_delay;
	unsigned long long last_queued;
};

struct task_struct___host {
	int pid;
	__u32 tgid;
	struct sched_entity___host se;
	struct sched_info___host sched_info;
};

struct gendisk___host {
	int major;
	int first_minor;
};

struct request_queue___host {
	struct gendisk___host *disk;
};

struct request___host {
	struct request_queue___host *q;
	__u32 cmd_flags;
	__u32 rq_flags;
	__u32 __data_len;
	__u64 start_time_ns;
};

struct ns_common___host {
	unsigned int inum;
};

struct net___host {
	struct ns_common___host ns;
};

struct possible_net___host {
	struct net___host *net;
};

struct sock_common___host {
	struct possible_net___host skc_net;
};

struct sock___host {
	struct sock_common___host __sk_common;
	int sk_wmem_queued;
};

struct inet_sock___host {
	__be16 inet_sport;
};

struct tcp_sock___host {
	__u32 srtt_us; /* eight times the smoothed round trip time */
	__u32 snd_wnd;
	__u64 tcp_mstamp;
	__u32 total_retrans; /* segments sent again */
};

struct tcp_skb_cb___host {
	__u16 tcp_gso_segs;
};

struct bpf_iter__task_file {
	struct task_struct *task;
	struct file *file;
};

#pragma clang attribute pop

/*
 * request: the disk stood in the request until 5.17 (f3fa33acca9f); request flags are an enumeration with other numbers
 * since 6.11 (5f89154e8e9e), before that RQF_FLUSH_SEQ was bit 4.
 */
struct request___disk {
	struct gendisk___host *rq_disk;
} __attribute__((preserve_access_index));

enum rqf_flags___new {
	__RQF_STARTED___new,
	__RQF_FLUSH_SEQ___new,
};

/* ---- maps ---- */

/* Waits on a run queue, of all tasks. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct latency);
} run_queue SEC(".maps");

/* How many segments each connection had sent again when that was last counted; few connections do at all. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, __u64);
	__type(value, __u32);
} resent SEC(".maps");

/* And of the groups of processes in `watched`; user space multiplies by the shards. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, GROUPS_MAX);
	__type(key, __u32);
	__type(value, struct latency);
} groups SEC(".maps");

/*
 * The run delay that a task had when it ran last, at its pid modulo TASKS: the pid's upper part in front, so that one store
 * writes both. An array and not a task's storage: nothing is allocated when a task runs first, and a look-up is a handful of
 * instructions.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TASKS);
	__type(key, __u32);
	__type(value, __u64);
} tasks SEC(".maps");

/* Open addressing, written by user space: tgid in the upper half, group in the lower; 0 is free. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WATCH_SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} watched SEC(".maps");

/* TCP by process; process 0 stands for what cannot be attributed. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PROCESSES_MAX);
	__type(key, __u32);
	__type(value, struct tcp_health);
} processes SEC(".maps");

/* Connections that this host opened, by the address of their struct sock. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, OWNERS_MAX);
	__type(key, __u64);
	__type(value, struct owner);
} owners SEC(".maps");

/* Who listens: the process that called listen, or one that holds the socket. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LISTENERS_MAX);
	__type(key, struct listener);
	__type(value, __u32);
} listeners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DISKS_MAX);
	__type(key, struct disk);
	__type(value, struct latency);
} disks SEC(".maps");

/*
 * The connections of traffic.bpf.c, read only: user space puts that probe's own map here. Only the start of a value is
 * declared, which is the exchange under way; user space sets the real size.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct record);
} conns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct host_state);
} state SEC(".maps");

/* When the walk before the one under way began, monotonic; user space writes it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} walked SEC(".maps");

/* Names the enumeration in the object's type information, for the Go side. */
const enum host_limits host_limits_type __attribute__((unused)) = TASKS;

/* Never written: new elements start as copies of them. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tcp_health);
} blank_health SEC(".maps");
