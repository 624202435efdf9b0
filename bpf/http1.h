/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The little that the kernel side understands of HTTP/1: whether bytes start a request or a response, where a head
 * ends, and how long the body behind it is. That decides where exchanges begin and end; meaning is user space's work.
 */
#pragma once

#include "maps.h"

#define CRLFCRLF 0x0a0d0a0dU
#define CRLF 0x0a0dU
#define ONES 0x0101010101010101ULL
#define HIGHS 0x8080808080808080ULL
#define LOWS 0x7f7f7f7f7f7f7f7fULL
#define LOWER 0x2020202020202020ULL
#define W_CONTENT 0x2d746e65746e6f63ULL  /* "content-" */
#define W_LENGTH 0x3a6874676e656cULL     /* "length:" */
#define W_TRANSFER 0x726566736e617274ULL /* "transfer" */
#define W_ENCODING 0x6e69646f636e652dULL /* "-encodin" */
#define W_G 0x3a67                       /* "g:" */
#define W_CHUNKED 0x64656b6e756863ULL    /* "chunked" */
#define W_UPGRADE 0x3a65646172677075ULL  /* "upgrade:" */
#define W_H2C 0x633268                   /* "h2c" */
#define W_HTTP1 0x2e312f50545448ULL      /* "HTTP/1." */
#define W_LINE 0x0a0d002e312f5054ULL     /* "TP/1.", any character, CR LF */
#define W_LINE_MASK 0xffff00ffffffffffULL
#define W_CONNECT 0x205443454e4e4f43ULL  /* "CONNECT " */
#define W_GET 0x20544547U                /* "GET " */
#define W_HEAD 0x44414548U               /* "HEAD" */
#define W_7 0x00ffffffffffffffULL
#define W_PREFACE 0x5448202a20495250ULL /* "PRI * HT" */
#define TLS_HANDSHAKE 0x16
#define TLS_RECORD 0x0314 /* and the next three types */

/* Frames of HTTP/2 that an operation often begins with, and how long they are (RFC 9113, section 6). */
enum h2_frame {
	H2_DATA = 0,
	H2_HEADERS = 1,
	H2_SETTINGS = 4,
	H2_PING = 6,
	H2_WINDOW_UPDATE = 8,
	H2_SETTING_BYTES = 6, /* each; there may be none */
	H2_PING_BYTES = 8,
	H2_WINDOW_UPDATE_BYTES = 4,
};

#define H2_HEAD 9 /* bytes of a frame's head: its length (3), type, flags, stream (4) */
#define H2_LENGTH_USUAL 16384 /* of frames, unless the ends agreed on more: what is taken for one where nothing proves it */
#define H2_HEADERS_FLAGS 0x2d /* END_STREAM, END_HEADERS, PADDED, PRIORITY */
#define H2_END_HEADERS 4

#define REQUEST_MIN 16      /* "GET / HTTP/1.1\r\n": less may yet turn out to be something else */
#define REQUEST_LINE_MIN 12 /* "G / HTTP/1.1" */
#define STATUS_AT 9         /* behind "HTTP/1.1 " */
#define STATUS_END 12       /* "HTTP/1.1 200" */
#define STATUS_204 0x343032 /* "204" */
#define RESPONSE_HINT_MIN 24 /* room for what like_last_response compares */
#define LENGTH_NAME 15      /* "Content-Length:" */
#define LENGTH_CHARS 64     /* of blanks, zeros, digits and the line's end; the longest length has 19 digits */
#define LENGTH_MAX 0x7fffffffffffffffULL /* as user space has it */
#define LINE_BYTES 8        /* of W_LINE */
#define LINE_BLANKS 32      /* at a line's end, a CR included, that are passed over */
#define SLOT_MASK 0x1fff    /* for the verifier: the power of two that the bytes of a slot fit into */

/* Scan results, packed into one word so that they pass through a subprogram's return value. */
#define SCAN_END(r) ((__u32)((r) & 0xffff))            /* first byte behind the blank line; 0: not found */
#define SCAN_LENGTH_AT(r) ((__u32)(((r) >> 16) & 0xffff)) /* the line "Content-Length"; 0: none */
#define SCAN_CHUNKED (1ULL << 32) /* the last transfer coding is chunked */
#define SCAN_LINE (1ULL << 33)     /* the first line is complete */
#define SCAN_REQUEST (1ULL << 34)  /* and ends like a request line of HTTP/1 */
#define SCAN_TOKEN (1ULL << 35)    /* the bytes can start a request */
#define SCAN_TRANSFER (1ULL << 36) /* there is a Transfer-Encoding, which overrides a length */
#define SCAN_TWICE (1ULL << 37)    /* there is a further Content-Length */
#define SCAN_CODING (1ULL << 38)   /* so far: the line at hand is one */
#define SCAN_H2C (1ULL << 39)      /* Upgrade: h2c */

static __always_inline bool is_token_char(__u8 c)
{
	/* RFC 9110 section 5.6.2, as two bitmaps over the characters below 128. */
	if (c < 64)
		return (0x03ff6cfa00000000ULL >> c) & 1;
	if (c < 128)
		return (0x57ffffffc7fffffeULL >> (c - 64)) & 1;
	return false;
}

/*
 * What the first n bytes of an operation look like that is no HTTP/1. A TLS record: its type, then version 3.x; the type alone
 * is what a server sees that peeks at one byte. HTTP/2: the client's preface, or a frame that an operation often begins with:
 * SETTINGS, with which some servers speak first, PING, WINDOW_UPDATE.
 */
static __always_inline enum other look_at(__u64 first8, __u64 n)
{
	if (n < 8)
		first8 &= (1ULL << (n & 7) * 8) - 1;
	__u64 third = first8 >> 16 & 0xff, fourth = first8 >> 24 & 0xff;

	if (first8 == TLS_HANDSHAKE || ((first8 & 0xfffc) == TLS_RECORD && third <= 4))
		return OTHER_TLS;
	if (first8 == W_PREFACE)
		return OTHER_HTTP2;
	/* A frame: length 0 to 255, type, flags 0 or 1, no stream. */
	if (n >= 8 && !(first8 & 0xfffffffe0000ffffULL) &&
	    ((fourth == H2_SETTINGS && third % H2_SETTING_BYTES == 0) || (fourth == H2_PING && third == H2_PING_BYTES) ||
	     (fourth == H2_WINDOW_UPDATE && third == H2_WINDOW_UPDATE_BYTES)))
		return OTHER_HTTP2;
	return OTHER_UNKNOWN;
}

/* Where an older connection is met: HEADERS of HTTP/2 that are whole, in an operation of n bytes or behind it. */
static __always_inline bool looks_like_headers(__u64 first8, __u64 n)
{
	__u64 length = (first8 & 0xff) << 16 | (first8 & 0xff00) | (first8 >> 16 & 0xff), flags = first8 >> 32 & 0xff;

	return n >= H2_HEAD && length && length <= H2_LENGTH_USUAL && (first8 >> 24 & 0xff) == H2_HEADERS &&
	       (flags & ~(__u64)H2_HEADERS_FLAGS) == 0 && (flags & H2_END_HEADERS) && !(first8 >> 40 & 0xffff) &&
	       (n == H2_HEAD || n >= H2_HEAD + length);
}

/* Offsets are 64 bits wide here: before 6.2 the verifier does not see that a 32-bit comparison cannot hold. */
static __always_inline __u64 load8(const struct slot *s, __u64 at)
{
	asm volatile("" : "+r"(at));
	if (at > (__u64)CFG.head_max + RESPONSE_MAX - 8)
		return 0;
	return *(const __u64 *)(s->data + at);
}

static __always_inline __u32 load4(const struct slot *s, __u64 at)
{
	asm volatile("" : "+r"(at));
	if (at > (__u64)CFG.head_max + RESPONSE_MAX - 4)
		return 0;
	return *(const __u32 *)(s->data + at);
}

static __always_inline void store4(struct slot *s, __u64 at, __u32 v)
{
	asm volatile("" : "+r"(at));
	if (at <= (__u64)CFG.head_max + RESPONSE_MAX - 4)
		*(__u32 *)(s->data + at) = v;
}

/* Whether the line that ends with the first of these characters goes on in the next one. */
static __always_inline bool is_fold(__u32 end)
{
	__u8 next = end >> 8;

	return next == ' ' || next == '\t';
}

/*
 * The number at data[at], up to the end of its line; UNKNOWN where it is none, or more than 63 bits hold. What was found so far is
 * in map memory, as in scan_word.
 */
static __always_inline __u64 body_length(const struct slot *s, struct work *w, __u32 at)
{
	bool digits = false, ended = false;

	w->value = 0;
	for (int i = 0; i < LENGTH_CHARS; i++) {
		if (at + i >= CFG.head_max + RESPONSE_MAX)
			return UNKNOWN;
		__u8 c = s->data[(at + i) & SLOT_MASK];

		if (c >= '0' && c <= '9') {
			__u64 n = w->value;

			if (ended || n > LENGTH_MAX / 10)
				return UNKNOWN;
			n = n * 10 + (c - '0');
			if (n > LENGTH_MAX)
				return UNKNOWN;
			w->value = n;
			digits = true;
		} else if (c == '\n') {
			if (!is_fold(load4(s, at + i)))
				return digits ? w->value : UNKNOWN;
			if (digits)
				return UNKNOWN;
			w->result |= SCAN_TWICE; /* no eight bytes tell of it */
		} else if (c == ' ' || c == '\t' || c == '\r') {
			ended = digits;
		} else {
			return UNKNOWN;
		}
	}
	return UNKNOWN;
}

/*
 * Adds to the scan's result what the line at data[at], whose first eight characters are those of a name that counts, says of
 * the body's length. Of several lengths that are not the same none counts. A global function, as scan_block.
 */
__noinline int framing_line(__u32 slot, __u32 at)
{
	struct slot *s = slot_at(slot);
	struct work *w = work();

	if (!s || !w)
		return 0;
	__u64 name = load8(s, at) | LOWER, rest = load8(s, at + 8) | LOWER;

	if (name == W_CONTENT && (rest & W_7) == W_LENGTH) {
		__u64 length = body_length(s, w, at + LENGTH_NAME);

		if (!SCAN_LENGTH_AT(w->result)) {
			w->body = length;
			w->result |= (__u64)((at - w->from) & 0xffff) << 16;
			return 0;
		}
		w->result |= SCAN_TWICE;
		if (length != w->body)
			w->body = UNKNOWN;
	} else if (name == W_TRANSFER && rest == W_ENCODING && ((load4(s, at + 16) | 0x20) & 0xffff) == W_G) {
		w->result |= SCAN_TRANSFER | SCAN_CODING;
	} else if (name == W_UPGRADE) {
		rest >>= (rest & 0xff) == ' ' ? 8 : 0;
		if ((rest & 0xffffff) == W_H2C)
			w->result |= SCAN_H2C;
	}
	return 0;
}

/* Whether a line of transfer codings that ends with these eight bytes ends with chunked. */
static __always_inline bool is_chunked(__u64 tail)
{
	__u8 before = tail & 0xff;

	return (tail | LOWER) >> 8 == W_CHUNKED && (before == ' ' || before == ',' || before == ':' || before == '\t');
}

/*
 * What the end of a line tells, in front of data[lf] of the head: of a request's first one its version, of codings the last one, but
 * for blanks, a CR and, of codings, empty elements behind it. A global function, as scan_block.
 */
__noinline int scan_line_end(__u32 slot, __u32 lf)
{
	struct slot *s = slot_at(slot);
	struct work *w = work();
	__u64 tail = 0;

	if (!s || !w)
		return 0;
	__u32 at = w->from + lf;

	for (int i = 0; i < LINE_BLANKS; i++) {
		__u64 last = load8(s, at - 8 - i);
		__u8 c = last >> 56;

		if (c != ' ' && c != '\t' && c != '\r' && !(c == ',' && w->result & SCAN_LINE)) {
			tail = last;
			break;
		}
	}
	if (!(w->result & SCAN_LINE)) {
		w->line = lf;
		w->result |= lf >= REQUEST_LINE_MIN && (tail & W_7) == W_HTTP1 ? SCAN_LINE | SCAN_REQUEST : SCAN_LINE;
		return 0;
	}
	w->result &= is_fold(load4(s, at)) ? ~SCAN_CHUNKED : ~(SCAN_CODING | SCAN_CHUNKED);
	if (is_chunked(tail))
		w->result |= SCAN_CHUNKED;
	return 0;
}

/* How many of the eight bytes at data[at] are token characters, up to the first that is none; a global function, as scan_block. */
__noinline __u32 token_run(__u32 slot, __u32 at)
{
	struct slot *s = slot_at(slot);
	__u64 bytes = s ? load8(s, at) : 0;

	for (__u32 i = 0; i < 8; i++) {
		if (!is_token_char(bytes & 0xff))
			return i;
		bytes >>= 8;
	}
	return 8;
}

/* Whether data[0..len) can be the start of a request: token characters up to a space or the end of what is there. */
static __always_inline bool starts_request(const struct slot *s, __u32 slot, __u32 len)
{
	__u32 at = 0;

	for (int i = 0; i <= METHOD_MAX / 8; i++) {
		__u32 n = token_run(slot, at);

		at += n;
		if (at >= len)
			return len > 0;
		if (n < 8)
			break;
	}
	return at > 0 && at <= METHOD_MAX && (load8(s, at) & 0xff) == ' ';
}

#define BLOCK_WORDS 8

#define LINES_OF_WORD 3 /* a line has a name of one character and a colon at least */

/*
 * One word of scan_head. What was found so far stays in map memory: of values from there the verifier knows nothing, so
 * that the states behind each word are alike and it need not follow every combination.
 */
static __always_inline int scan_word(const struct slot *s, __u32 slot, struct work *w, __u32 at)
{
	__u32 from = w->from, len = w->len;

	if (at >= len)
		return 1;
	__u64 x = load8(s, from + at) ^ (ONES * '\n');
	__u64 hit = ~(((x & LOWS) + LOWS) | x | LOWS);

	for (int line = 0; line < LINES_OF_WORD; line++) {
		if (!hit)
			return 0;
		__u32 lf = at + ((__u32)((((hit & -hit) - 1) & ONES) * ONES >> 56) - 1);

		if (lf >= len)
			return 1;
		if ((w->result & (SCAN_LINE | SCAN_CODING)) != SCAN_LINE)
			scan_line_end(slot, lf);
		/* The two bytes behind it: an empty line, with a CR or without. */
		__u32 behind = load4(s, from + lf - 1) >> 16, end = (behind & 0xff) == '\n' ? lf + 2 : lf + 3;

		if (((behind & 0xff) == '\n' || behind == CRLF) && end <= len) {
			w->result |= end;
			return 1;
		}
		__u64 name = load8(s, from + lf + 1) | LOWER;

		if (name == W_CONTENT || name == W_TRANSFER || name == W_UPGRADE)
			framing_line(slot, from + lf + 1);
		hit &= hit - 1;
	}
	return 0;
}

/* Some words a call of a global function: the verifier sees one block once, and not each of many (bpf_loop needs 5.17). */
__noinline int scan_block(__u32 slot, __u32 word)
{
	struct slot *s = slot_at(slot);
	struct work *w = work();

	if (!s || !w)
		return 1;
	for (__u32 i = 0; i < BLOCK_WORDS; i++)
		if (scan_word(s, slot, w, (word + i) * 8))
			return 1;
	return 0;
}

/*
 * Looks for the end of the head that starts at data[from] of a slot and has len bytes so far, eight bytes at a time: a
 * word without a line feed costs a dozen instructions. Offsets in the result count from `from`; what the head says
 * of its body's length is left in the work area.
 */
__noinline __u64 scan_head(__u32 slot, __u32 from, __u32 len)
{
	struct slot *s = slot_at(slot);
	struct work *w = work();

	if (!s || !w)
		return 0;
	w->body = UNKNOWN;
	w->result = !from && starts_request(s, slot, len) ? SCAN_TOKEN : 0;
	w->from = from;
	w->len = len;
	for (__u32 i = 0; i < (HEAD_MAX + RESPONSE_MAX) / 8; i += BLOCK_WORDS)
		if (scan_block(slot, i))
			break;
	return w->result;
}
