/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Maps and the values in them. User space sets max_entries and the size of `heads` before load. */
#pragma once

#include "config.h"
#include "events.h"
#include "kernel.h"

#define UNKNOWN (~0ULL)

enum conn_state {
	S_IDLE,          /* between exchanges */
	S_REQUEST_HEAD,  /* the request's head is incomplete */
	S_REQUEST,       /* head complete, waiting for its body's rest and the response */
	S_RESPONSE_HEAD, /* fewer bytes of the response than tell what it is */
	S_RESPONSE,
	S_STREAM, /* irregular: every operation goes to user space */
	S_OTHER,  /* not HTTP/1, upgraded, tunnelled or ignored: costs one look-up */
};

/* In a generation: that of the client of a socket that nobody has accepted yet, which has none of its own. */
#define UNACCEPTED (1ULL << 63)

/* A connection, keyed by the address of its struct sock; see unix_key for those of Unix sockets. */
struct conn {
	struct record rec; /* the exchange under way, and who talks to whom */
	__u64 arrival;     /* when the first byte that is still unread arrived; 0: not seen */
	union {
		__u64 request_left; /* bytes of the request's body still to come; UNKNOWN until the response */
		__u64 h2_request;   /* HTTP/2: where in a frame the next byte of the direction of requests falls; enum h2_word */
	};
	union {
		__u64 response_want; /* length of the response, head included; UNKNOWN when its framing does not say */
		__u64 h2_response;   /* HTTP/2: the same of the other direction */
	};
	__u64 first8;        /* first bytes of the last request, to recognise its like */
	__u64 active;        /* last activity */
	__u64 generation;    /* Unix sockets: which one it is, to notice a reused address; see UNACCEPTED */
	__u64 hint_digits;   /* the last response's Content-Length, from the colon on: all of the number */
	union {
		__u64 tail;    /* last bytes of a chunked response whose chunks are not followed */
		__u64 held_at; /* stream mode: of the end of a send that is held back; 0: none is */
	};
	union {
		__u64 chunks; /* where in a chunked response the next byte falls; see CHUNKS */
		__u64 held;   /* stream mode: what is held back, see HELD */
	};
	__u64 request_chunks; /* the same of a chunked request */
	__u64 ended;         /* when this end could know that the other has closed or was reset; 0: it has not */
	__u64 address;       /* Unix sockets: of the struct sock, which is the key otherwise; see through_memory */
	__u64 tx_total, rx_total; /* stream mode: bytes of each direction so far */
	__u32 rseq, wseq;    /* ends of what was seen of the byte streams, as TCP sequence numbers; see COUNTS_POSITIONS */
	__u32 wact;          /* where we count ourselves: end of what was really sent */
	__u32 hint_want;     /* the response_want that followed hint_digits */
	__u16 hint_request;  /* length of the last request, where it was one head and nothing else */
	__u16 hint_line;     /* and where in it the last eight bytes of its first line stood */
	__u16 hint_response; /* length of the last response head */
	__u16 hint_length;   /* where in it Content-Length stood */
	__u8 chunked;      /* enum chunked, of the response; this and the next three are reset as one word */
	__u8 chunk_end;    /* its final chunk was seen */
	__u8 swept;
	__u8 head_open; /* the response's head is incomplete */
	__u8 state;
	__u8 bodyless;  /* the request under way is HEAD */
	__u8 misses; /* starts of an older connection that were no request */
	__u8 older;  /* joined in the middle */
	__u8 request_chunked; /* enum chunked, of the request */
	__u8 marks;     /* enum mark */
	__u8 forgone;   /* idle, but a response may come that has been accounted for */
	__u32 slot;     /* where its heads are, unless that was taken by another connection */
};

/* What is remembered of a connection. */
enum mark {
	WITNESSED = 1 << 0,  /* Unix: from here on every arrival is noted when it happens */
	RESET = 1 << 1,      /* TCP: it ended by a reset, and not by the other end's FIN */
	UNREADABLE = 1 << 2, /* what may be a request came since the last one, and could not be read */
};

enum chunked {
	NOT_CHUNKED,
	CHUNKED_FOLLOWED, /* chunk by chunk */
	CHUNKED_LOST,     /* its end is guessed from the last bytes */
	CHUNKED_BAD,      /* the same, because it is no chunked body: without such an end it is not complete */
};

/*
 * Where in a chunked body the next byte falls, in one word: a state, whether the current size has digits, and the size so
 * far or what is left of it. internal/wire has the same states; a test of internal/probes compares them.
 */
enum chunk_state {
	CHUNK_SIZE,    /* the first or a further digit of a size */
	CHUNK_LINE,    /* the rest of a size's line */
	CHUNK_DATA,
	CHUNK_END,     /* the line end behind data */
	CHUNK_TRAILER, /* the start of a trailer's line, or of the last, empty one */
	CHUNK_CR,      /* behind a CR at such a start */
	CHUNK_FIELD,   /* inside a trailer's line */
	CHUNK_BEFORE,  /* in front of the body: as many bytes of the head as the size says */
	CHUNK_DONE,
	CHUNK_LOST,
	CHUNK_BAD, /* a byte that cannot be there */
};

enum chunk_word {
	CHUNK_DIGITS_SHIFT = 48,
	CHUNK_STATE_SHIFT = 56,
};

/*
 * Where in a frame of HTTP/2 the next byte falls, in one word: what is left of the frame's payload; how many bytes of a frame's
 * head passed; whether that is known; whether the frame is DATA; and, of a head under way, its first four bytes so far, lowest first, else how many of the
 * payload's bytes are still to be kept. internal/wire has the same numbers; a test of internal/probes compares them.
 */
enum h2_word {
	H2_GOT_SHIFT = 24,
	H2_PLACE_SHIFT = 28,
	H2_DATA_SHIFT = 30,
	H2_UPPER_SHIFT = 32,
	H2_DATA_KEEP = 8,        /* bytes of a DATA frame that are kept: the pad length and the head of a message of gRPC */
	H2_FRAME_KEEP = 16384,   /* of any other frame */
	H2_PREFACE_BYTES = 24,
};

#define H2_LEFT_MASK ((1U << H2_GOT_SHIFT) - 1)
#define H2_GOT_MASK 15
#define H2_PLACE_MASK 3

enum h2_place {
	H2_KNOWN,
	H2_PRESUMED, /* the first byte is taken for a frame's: nothing proves it */
	H2_LOST,     /* until the next operation */
};

#define CHUNKS(state, digits, size) ((__u64)(state) << CHUNK_STATE_SHIFT | (__u64)(digits) << CHUNK_DIGITS_SHIFT | (size))
#define CHUNKS_STATE(word) ((word) >> CHUNK_STATE_SHIFT)
#define CHUNKS_DIGITS(word) (((word) >> CHUNK_DIGITS_SHIFT) & 0xff)
#define CHUNKS_SIZE(word) ((word) & CHUNK_SIZE_MASK)
#define CHUNK_SIZE_MASK ((1ULL << CHUNK_DIGITS_SHIFT) - 1)
#define CHUNK_READ 32 /* bytes of framing that are looked at at a time; a power of two */

_Static_assert(offsetof(struct conn, chunked) % 4 == 0 && offsetof(struct conn, head_open) == offsetof(struct conn, chunked) + 3,
	       "four marks in one word");

/* A captured request head and behind it the response's, ready to be sent. */
struct slot {
	__u64 owner; /* the connection (rec.conn) that it belongs to; 0: none */
	__u64 busy;  /* the connection whose exchange under way it holds, written before the bytes and after them; 0: none */
	struct record rec;
	__u8 data[HEAD_MAX + RESPONSE_MAX];
};

struct fragment {
	union {
		struct record rec; /* the connection's, which becomes */
		struct operation op;
	};
	__u8 data[FRAGMENT_MAX];
};

/* Where the bytes of a socket operation are. */
struct source {
	__u64 ptr;        /* the piece at hand; 0: not readable (pages of a file, kernel buffers) */
	__u64 piece;      /* its bytes left */
	__u64 array;      /* the iovecs behind it */
	__u32 segments;   /* how many of them */
	__u32 user_array; /* they are in user memory */
	__u64 len;        /* bytes of the operation left */
	void *skb;        /* a dynptr */
	__u64 skb_at;
};

/* A socket as a hook knows it. */
struct sockinfo {
	__u64 key;        /* of its connection */
	__u64 address;    /* Unix: of its struct sock, which is the key otherwise */
	__u64 mstamp_ns;  /* when the newest bytes may have come, if no hook has noted it; 0: no telling */
	__u64 generation; /* Unix: which one it is */
	__u32 write_seq, copied_seq, rcv_nxt;
	__u32 room; /* TCP: bytes that a send takes without waiting */
	__u16 local_port, remote_port;
	__u16 family;
	__u16 shut; /* TCP: nothing can be handed over any more */
};

#define H2_ARRIVALS 16 /* a power of two */

/*
 * HTTP/2: when which bytes that may still be unread arrived, as requests of one connection come while others wait. Beyond the last
 * entry its bytes count as those that came last.
 */
struct arrivals {
	__u32 added, taken;
	__u32 end[H2_ARRIVALS]; /* where in the byte stream they end */
	__u64 at[H2_ARRIVALS];
};

/*
 * The socket operation at hand: the arguments of global functions, which take numbers only, and which the verifier
 * checks once and not once a path. Used in process context only.
 */
struct work {
	struct sockinfo si;
	struct source src;
	struct source saved; /* src as it was before something was read from it */
	__u64 now, arrived;
	__u64 body;   /* scan_head: what Content-Length says; UNKNOWN */
	__u64 result; /* scan_head: so far */
	__u64 value;  /* of the header at hand: so far */
	__u64 key, other; /* addresses on their way to become numbers */
	__u32 from, len; /* scan_head: where */
	__u32 receive;   /* read by the application, or handed over by it */
	__u32 total;     /* its bytes */
	__u64 back;      /* bytes that a passed iterator's buffer at hand has to hold */
	__u64 slots;     /* taken so far: where this processor looks next */
	__u64 chunk_size;  /* a body's chunks: as in the connection's word */
	__u32 chunk_state;
	__u32 chunk_digits; /* the size has some */
	__u32 follow; /* its bytes are of a chunked body */
	__u32 line;   /* scan_head: where the first line ends */
	__u32 first;  /* its bytes are the response's first */
	__u32 step;   /* how many its response's heads have taken so far */
	__u32 hold;   /* stream mode: it may take long, so its end is held back */
	__u32 sure; /* what is handed over will be taken: it was, or there is room */
	__u32 chunk_at; /* in bytes */
	__u64 h2_word;  /* HTTP/2: where in a frame the fragment that is gathered begins */
	__u32 h2_left, h2_got, h2_place, h2_head, h2_keep; /* the direction's word, as far as it was followed */
	__u32 h2_out, h2_true; /* bytes that the fragment has, and that it stands for */
	__u32 h2_request;
	__u32 h2_in_data; /* the frame at hand is DATA */
	__u32 h2_at;      /* how far the bytes at hand were looked at */
	__u32 h2_blank;   /* what is to be kept of it cannot be read */
	__u32 h2_pos, h2_until; /* where in the byte stream it is, and where what arrived with it ends */
	struct arrivals none;   /* stays empty */
	__u8 bytes[CHUNK_READ];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, __u64);
	__type(value, struct conn);
} conns SEC(".maps");

/*
 * An array and not a hash: its look-up is a handful of instructions instead of more than a hundred. Who takes which slot is
 * decided by slot_add.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, struct slot);
} heads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, C_MAX);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* Places of their own for programs that may interrupt each other. */
enum context {
	IN_PROCESS,
	IN_SOFTIRQ, /* connections' states */
	AT_END,     /* and their sockets' end */
	CONTEXTS,
};

/* New elements start as copies of it, complete: another processor may find them at once. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct conn);
} blank_conn SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CONTEXTS);
	__type(key, __u32);
	__type(value, struct fragment);
} fragments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct work);
} works SEC(".maps");

/* By connection. One that finds no entry any more has the arrival of its first unread byte, as in HTTP/1. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct arrivals);
} h2_arrivals SEC(".maps");

/* The processes that --capture.pid names, and their descendants. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PIDS_MAX);
	__type(key, __u32);
	__type(value, __u8);
} pids SEC(".maps");

/* Calls under way by thread, for backends that see entry and return of a function with two programs. */
struct call {
	__u64 sk;
	__u64 msg; /* what a receive fills; 0 for a long send, which needs none */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CALLS_MAX);
	__type(key, __u64);
	__type(value, struct call);
} calls SEC(".maps");

/* How many of them are long sends: while there is none, no send's return looks for its call. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} sends SEC(".maps");

/* Name the enumerations in the object's type information, for the Go side. */
const enum counter counter_type __attribute__((unused)) = C_LOST_RING_FULL;
const enum conn_state conn_state_type __attribute__((unused)) = S_IDLE;
const enum record_role record_role_type __attribute__((unused)) = ROLE_UNKNOWN;
const enum other other_type __attribute__((unused)) = OTHER_NONE;
const enum record_kind record_kind_type __attribute__((unused)) = KIND_EXCHANGE;
const enum record_protocol record_protocol_type __attribute__((unused)) = PROTOCOL_HTTP1;
const enum record_flags record_flags_type __attribute__((unused)) = F_CLOSED;
const enum chunked chunked_type __attribute__((unused)) = NOT_CHUNKED;
const enum chunk_state chunk_state_type __attribute__((unused)) = CHUNK_SIZE;
const enum chunk_word chunk_word_type __attribute__((unused)) = CHUNK_STATE_SHIFT;
const enum h2_word h2_word_type __attribute__((unused)) = H2_GOT_SHIFT;
const enum h2_place h2_place_type __attribute__((unused)) = H2_KNOWN;
const enum limits limits_type __attribute__((unused)) = HEAD_MAX;

static __always_inline struct work *work(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&works, &zero);
}

/* The slot at a place; NULL beyond the last. */
static __always_inline struct slot *slot_at(__u32 at)
{
	return bpf_map_lookup_elem(&heads, &at);
}

/* The connection's slot; NULL where it has none, or lost it to another. */
static __always_inline struct slot *slot_of(const struct conn *c)
{
	struct slot *s = slot_at(c->slot);

	return s && s->owner == c->rec.conn ? s : NULL;
}

static __always_inline void count(enum counter which)
{
	__u32 key = which;
	__u64 *v = bpf_map_lookup_elem(&counters, &key);

	if (v)
		*v += 1;
}
