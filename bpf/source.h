/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Where the bytes of a socket operation are, and how they get into a slot. */
#pragma once

#include "core_fixes.h"
#include "maps.h"

enum source_kind {
	SRC_USER, /* memory of the current process: a buffer, or an array of them */
	SRC_SKB,  /* a socket buffer, through a dynptr */
};

#define PIECES_MAX 64 /* buffers of one operation that are looked at */

extern int bpf_dynptr_from_skb(struct __sk_buff *s, __u64 flags, struct bpf_dynptr *ptr) __ksym __weak;
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;

/*
 * What a comparison has shown already, shown to the verifier as well: it is done on the very register that is used next,
 * where the compiler would compare one copy and use another.
 */
#define BOUND(v, max) \
	asm volatile("if %[value] <= %[bound] goto +1\n\t%[value] = 0" : [value] "+r"(v) : [bound] "r"((__u64)(max)))

/* Moves to the next piece of a vector. */
static __always_inline void source_next(struct source *src)
{
	struct user_iovec v = {};

	if (!src->segments)
		return;
	if (src->user_array ? bpf_probe_read_user(&v, sizeof(v), (void *)src->array)
			    : bpf_probe_read_kernel(&v, sizeof(v), (void *)src->array)) {
		src->segments = 0;
		return;
	}
	src->array += sizeof(v);
	src->segments--;
	src->ptr = v.base;
	src->piece = v.len;
}

/* Nothing of it can be read. */
static __always_inline void source_none(struct source *src)
{
	src->ptr = src->piece = src->segments = 0;
}

/* Moves the source in the work area on to its next buffer that holds anything: a global function. */
__noinline int next_piece(void)
{
	struct work *w = work();

	if (!w)
		return 0;
	for (int i = 0; i < PIECES_MAX; i++) {
		if (w->src.piece || !w->src.segments)
			break;
		source_next(&w->src);
	}
	return 0;
}

/* Bytes readable at src->ptr, of the work area's source. */
static __always_inline __u64 source_piece(struct source *src)
{
	if (!src->piece && src->segments)
		next_piece();
	if (!src->ptr)
		return 0;
	return src->piece < src->len ? src->piece : src->len;
}

static __always_inline void source_advance(struct source *src, __u64 n)
{
	src->len -= n;
	src->ptr += n;
	src->piece -= n;
	src->skb_at += n;
}

/* Passes over n bytes of user memory, whose source is the work area's. */
__noinline int forward_user(__u32 n)
{
	struct work *w = work();

	if (!w)
		return 0;
	for (int i = 0; i < PIECES_MAX; i++) {
		__u64 piece = source_piece(&w->src);

		if (piece > n)
			piece = n;
		source_advance(&w->src, piece);
		n -= piece;
		if (!n)
			return 0;
	}
	source_none(&w->src);
	w->src.len -= n < w->src.len ? n : w->src.len;
	return 0;
}

static __always_inline void source_forward(struct source *src, __u32 n, const enum source_kind kind)
{
	if (kind == SRC_USER)
		forward_user(n);
	else
		source_advance(src, n);
}

static __always_inline void source_restore(struct source *src, const struct work *w)
{
	src->ptr = w->saved.ptr;
	src->piece = w->saved.piece;
	src->array = w->saved.array;
	src->segments = w->saved.segments;
	src->len = w->saved.len;
	src->skb_at = w->saved.skb_at;
}

/* The first eight bytes of the operation; 0 where they cannot be read, or are not in one piece. */
static __always_inline __u64 source_first8(struct source *src, const enum source_kind kind)
{
	__u64 first = 0;

	if (kind == SRC_SKB ? bpf_dynptr_read(&first, 8, src->skb, (__u32)src->skb_at, 0) != 0
			    : source_piece(src) < 8 || bpf_probe_read_user(&first, 8, (void *)src->ptr) != 0)
		return 0;
	return first;
}

/* Copies up to max (a constant) bytes of the operation's next piece to dst; returns how many, 0 when unreadable. */
static __always_inline __u32 source_read(void *dst, __u32 max, struct source *src, const enum source_kind kind)
{
	__u64 n = src->len;

	if (kind == SRC_USER)
		n = source_piece(src);
	if (n > max)
		n = max;
	/* Keep the compiler from proving what the verifier cannot follow. */
	asm volatile("" : "+r"(n));
	if (n == 0 || n > max)
		return 0;
	if (kind == SRC_SKB ? bpf_dynptr_read(dst, n, src->skb, (__u32)src->skb_at, 0)
			    : bpf_probe_read_user(dst, n, (void *)src->ptr))
		return 0;
	source_advance(src, n);
	return n;
}

/*
 * One step of appending to data[at..limit) of a slot: at most PIECE_MAX bytes, because the verifier bounds the start and
 * the length of a copy one by one, never their sum. Returns the bytes copied.
 */
static __always_inline __u32 append_step(struct slot *s, __u32 at, __u32 limit, struct source *src,
					 const enum source_kind kind)
{
	__u64 n = src->len;

	if (kind == SRC_USER)
		n = source_piece(src);
	if (at >= limit)
		return 0;
	if (n > limit - at)
		n = limit - at;
	if (n > PIECE_MAX)
		n = PIECE_MAX;
	asm volatile("" : "+r"(n), "+r"(at));
	if (at > CFG.head_max + RESPONSE_MAX - PIECE_MAX || n == 0 || n > PIECE_MAX)
		return 0;
	if (kind == SRC_SKB ? bpf_dynptr_read(s->data + at, n, src->skb, (__u32)src->skb_at, 0)
			    : bpf_probe_read_user(s->data + at, n, (void *)src->ptr))
		return 0;
	source_advance(src, n);
	return n;
}

/* The same from the source in the work area: a global function. */
__noinline __u32 append_step_user(__u32 slot, __u32 at, __u32 limit)
{
	struct slot *s = slot_at(slot);
	struct work *w = work();

	return s && w ? append_step(s, at, limit, &w->src, SRC_USER) : 0;
}

/* Appends from the source in the work area until the limit, its end, or an unreadable piece; returns the new end. */
__noinline __u32 append_user(__u32 slot, __u32 at, __u32 limit)
{
	for (int i = 0; i < PIECES_MAX; i++) {
		__u32 n = append_step_user(slot, at, limit);

		if (!n)
			break;
		at += n;
	}
	return at;
}

/* Appends all of the source's pieces, up to the limit; returns the new end. User memory's source is the work area's. */
static __always_inline __u32 source_append(struct slot *s, __u32 slot, __u32 at, __u32 limit, struct source *src,
					   const enum source_kind kind)
{
	if (kind == SRC_USER)
		return append_user(slot, at, limit);
	for (int i = 0; i < 2; i++) {
		__u32 n = append_step(s, at, limit, src, kind);

		if (!n)
			break;
		at += n;
	}
	return at;
}

#define TAIL_BYTES 7                   /* as many as CHUNKED_END has */
#define TAIL_EMPTY_LINE 0x0a0d0aULL     /* its last three: an empty line behind a line */
#define TAIL_EMPTY_LF 0x0a0aULL         /* its last two: the same without CR */

/* The last bytes are an empty line behind a line. */
static __always_inline bool tail_is_empty_line(__u64 tail)
{
	return (tail & 0xffffff) == TAIL_EMPTY_LINE || (tail & 0xffff) == TAIL_EMPTY_LF;
}

/* The last bytes of a stream, the newest lowest, after another n bytes in b. */
static __always_inline __u64 shift_tail(__u64 tail, const __u8 *b, __u32 n)
{
#pragma unroll
	for (int i = 0; i < TAIL_BYTES; i++)
		if (i < n)
			tail = tail << 8 | b[i];
	return tail;
}

/* The last bytes of one buffer of user memory. */
static __always_inline __u64 tail_of_buffer(__u64 tail, __u64 ptr, __u64 len)
{
	__u8 b[8] = {};
	__u32 n = len < TAIL_BYTES ? len : TAIL_BYTES;

	asm volatile("" : "+r"(n));
	if (n < 1 || n > TAIL_BYTES || bpf_probe_read_user(b, n, (void *)(ptr + len - n)))
		return 0;
	return shift_tail(tail, b, n);
}

#define TAIL_BUFFERS 3 /* the last ones of a vector that are looked at */

/* The stream's last seven bytes once the source's are behind `tail`; 0 in the low byte where they cannot be read. */
static __always_inline __u64 source_tail(__u64 tail, struct source *src, const enum source_kind kind)
{
	if (kind == SRC_SKB) {
		__u8 b[8] = {};
		__u32 n = src->len < TAIL_BYTES ? src->len : TAIL_BYTES;

		asm volatile("" : "+r"(n));
		if (n < 1 || n > TAIL_BYTES || bpf_dynptr_read(b, n, src->skb, (__u32)src->skb_at + (__u32)src->len - n, 0))
			return 0;
		return shift_tail(tail, b, n);
	}
	if (!src->ptr)
		return 0;
	if (!src->segments || src->piece >= src->len)
		return tail_of_buffer(tail, src->ptr, src->len);
	if (src->segments <= TAIL_BUFFERS - 1)
		tail = tail_of_buffer(tail, src->ptr, src->piece);
#pragma unroll
	for (int i = TAIL_BUFFERS; i > 0; i--) {
		struct user_iovec v = {};
		void *at = (void *)(src->array + ((__u64)src->segments - i) * sizeof(v));

		if (src->segments < i)
			continue;
		if (src->user_array ? bpf_probe_read_user(&v, sizeof(v), at) : bpf_probe_read_kernel(&v, sizeof(v), at))
			return 0;
		if (v.len)
			tail = tail_of_buffer(tail, v.base, v.len);
	}
	return tail;
}

/* The same of the source in the work area: a global function. */
__noinline __u64 tail_user(__u64 tail)
{
	struct work *w = work();

	return w ? source_tail(tail, &w->src, SRC_USER) : 0;
}

/* "\r\n0\r\n\r\n": the end of the chunk before, and the final one. */
#define CHUNKED_END 0x0d0a300d0a0d0aULL

/* Whether the operation's last bytes are an empty line behind a line. */
static __always_inline bool ends_head(struct source *src, const enum source_kind kind)
{
	return tail_is_empty_line(kind == SRC_USER ? tail_user(0) : source_tail(0, src, kind));
}
