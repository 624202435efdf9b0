/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Every knob of the kernel side, set before load; the verifier removes what a setting makes unreachable. */
#pragma once

#include "events.h"

/* Bounds. An enumeration, so that the Go side has them from the object's type information. */
enum limits {
	HEAD_MAX = 4096,     /* upper bound of head_max */
	RESPONSE_MAX = 1024, /* captured bytes of a response head */
	PIECE_MAX = 512,     /* longest single copy behind the first */
	FRAGMENT_MAX = 1024, /* captured bytes of a fragment */
	STREAM_WHOLE = 16 * 1024, /* stream mode: operations up to this length are captured whole */
	METHOD_MAX = 64,     /* longest method; a multiple of 8. Registered ones have 17 characters at most */
	PIDS_MAX = 8192,     /* processes that --capture.pid lets through */
	CALLS_MAX = 4096,    /* calls under way that entry and return of a function share */
};

struct config {
	__u64 deadline_ns;   /* a request without a response for that long is a timeout */
	__u64 sweep_idle_ns; /* a connection silent for that long is swept */
	__u32 self_pid;      /* the agent: its own sockets are never reported */
	__u32 ports_len;     /* 0: every port */
	__u32 head_max;      /* captured bytes of a request head */
	__u32 wake_bytes;    /* queued bytes that wake the reader at once */
	__u32 slots;         /* entries of `heads` */
	__u32 slots_each;    /* and each processor's share of them */
	__u16 ports[PORTS_MAX];
	__u8 filter_pids; /* only processes in the map `pids` */
	__u8 empty;       /* do nothing: the floor that benchmarks compare with */
	__u8 http2;       /* follow HTTP/2 */
	__u8 pad[5];
};

volatile const struct config CFG = {
	.head_max = 1024,
};
