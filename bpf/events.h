/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What crosses to user space through the ring buffer. internal/probes/decode.go reads the same layout. */
#pragma once

#include <linux/types.h>
#include <stddef.h>

#define PORTS_MAX 32 /* that can be chosen */

/* In the lower half of `kind`; the upper one is the protocol (enum record_protocol). */
enum record_kind {
	KIND_EXCHANGE = 1,
	KIND_FRAGMENT = 2,
	KIND_PROTOCOL_SHIFT = 4, /* no kind: how far up the protocol is */
};

#define PROTOCOL_OF(kind) ((kind) & ~((1 << KIND_PROTOCOL_SHIFT) - 1)) /* in its place */

/*
 * What a connection speaks; internal/wire has the same numbers, which a test of internal/probes compares. User space refuses
 * others.
 */
enum record_protocol {
	PROTOCOL_HTTP1,
	PROTOCOL_HTTP2,
};

enum record_role {
	ROLE_UNKNOWN,
	ROLE_SERVER,
	ROLE_CLIENT,
};

/* What a connection carries that is not decoded, by its first bytes. */
enum other {
	OTHER_NONE, /* it is decoded, or nobody asked for it: upgraded, tunnelled, ignored */
	OTHER_UNKNOWN,
	OTHER_TLS,
	OTHER_HTTP2,
	OTHER_MAX,
};

/* internal/wire has the same bits; a test of internal/probes compares them. */
enum record_flags {
	F_CLOSED = 1 << 0,
	F_TIMEOUT = 1 << 1,
	F_SWEPT = 1 << 2,
	F_OLDER = 1 << 3,
	F_CHUNKED_END = 1 << 4,
	F_UNIX = 1 << 5,
	F_NO_ARRIVAL = 1 << 6,
	F_REQUEST_DIRECTION = 1 << 7,
	F_HEAD_CUT = 1 << 8,
	F_UNREADABLE = 1 << 9, /* a head's bytes; of a fragment: no hook saw its bytes, and `at` is when that was noticed */
	F_HEAD_ALL = 1 << 10, /* with F_HEAD_CUT: the request is a head and nothing else */
	F_FRAMED = 1 << 11,   /* the response is complete by its framing: of its head only the status line is carried */
	F_CUT = 1 << 12,      /* with F_CLOSED: the response's framing says that more was to come; of a fragment: it was a reset */
	F_CHUNKS = 1 << 13,   /* of a fragment: `chunks` tells where in a chunked body its end is */
	F_HALF = 1 << 14,     /* of a fragment, with F_CLOSED: no more responses, but requests may go on until F_CLOSED comes alone */
};

/*
 * One exchange. request_len bytes of the request's head follow, then response_len bytes of the response's head.
 *
 * No byte is free, so thread and parent have no place yet. The next version of the record has them in 16 bytes more, a multiple
 * of 8 as copy_record wants it: `thread` (32 bits, of the task that `pid` is of; identify() has it at hand); `parent_seq`
 * (32 bits) and `parent` (64 bits), which are seq and conn of the exchange that the same thread was serving when it sent this
 * one's request, 0 where there was none. The protocol has the upper half of `kind`, of which two numbers are in use: it is 0
 * there, HTTP/1, without an instruction that sets it. `other` is no place for it: what an older connection seemed to carry stays
 * in it when the connection turns out to be HTTP. Of the flags, one bit is left.
 */
struct record {
	__u64 conn;
	__u64 arrived;
	__u64 read;
	__u64 responded;
	__u64 finished;
	__u64 request_bytes;
	__u64 response_bytes;
	union {
		__u8 local_addr[16];
		__u64 sent_at; /* Unix sockets, which have no address: not for user space, see unix_queued */
	};
	__u8 remote_addr[16];
	char comm[16];
	__u32 pid;
	__u32 seq;
	__u16 local_port;
	__u16 remote_port;
	__u16 request_len;
	__u16 response_len;
	__u16 flags;
	__u8 kind;
	__u8 role;
	__u8 family;
	__u8 other; /* of a connection that is not decoded: what it carries (enum other) */
	__u16 response_head; /* with F_FRAMED: the length of the response's head */
};

_Static_assert(sizeof(struct record) == 128, "a record carries 128 bytes beside the captured heads");

/*
 * One socket operation of a connection in stream mode: a fragment. `captured` bytes of its data follow. It starts as a copy of
 * the connection's record: what has the same name is in the same place.
 */
struct operation {
	__u64 conn;
	__u64 arrived;  /* its first byte, or handed over; 0: not seen */
	__u64 at;
	__u64 chunks;   /* with F_CHUNKS: where in a chunked body its end is; of HTTP/2: where in a frame its start is (enum h2_word) */
	__u64 finished; /* as `at` */
	__u64 length;   /* captured or not */
	__u64 position; /* in its direction's byte stream, counted from the first fragment */
	__u8 local_addr[16];
	__u8 remote_addr[16];
	char comm[16];
	__u32 pid;
	__u32 seq;
	__u16 local_port;
	__u16 remote_port;
	__u16 captured;
	__u16 response_len; /* 0 */
	__u16 flags;
	__u8 kind;
	__u8 role;
	__u8 family;
	__u8 other;
	__u16 response_head;
};

#define SAME_PLACE(field) \
	_Static_assert(offsetof(struct operation, field) == offsetof(struct record, field), "an operation is a copy of a record")

SAME_PLACE(arrived);
SAME_PLACE(finished);
SAME_PLACE(local_addr);
SAME_PLACE(flags);
_Static_assert(sizeof(struct operation) == sizeof(struct record), "and as long");

#define STATUS_LINE 16 /* bytes of the response's head that tell the status */

/* Indexes of the per-processor counters. */
enum counter {
	C_LOST_RING_FULL,
	C_LOST_MAP_FULL,
	C_LOST_EVICTED,
	C_LOST_UNREADABLE,
	C_LOST_UNPAIRED, /* responses without a request: one that was not recognised, or nobody's */
	C_CONNECTIONS_ADDED,
	C_CONNECTIONS_REMOVED,
	C_NOT_HTTP, /* connections found to carry something else */
	C_STREAMS,  /* connections switched to stream mode */
	C_FRAGMENTS_LOST,
	C_MAX,
};
