/* An io_uring HTTP server on raw system calls: accept, recv and send all go through the ring. Usage: PORT CLOCKFILE.
 * It answers /fast and /bytes/N, one request at a time per connection, and logs its clocks as test/clock does. A recv
 * sleeps inside io_uring_enter, so only the clock behind it says when the bytes were taken. */
#include <arpa/inet.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 64 << 10 };
enum kind { ACCEPT, RECEIVE, SEND };

struct conn {
	int fd;
	enum kind kind;
	char key[64], in[8192];
	char *out;
	size_t used, out_size, out_done;
	unsigned long long sent, received;
	long long send_before; /* clock before the send in flight */
};

static struct {
	int fd;
	atomic_uint *sq_tail, *cq_head, *cq_tail;
	unsigned *sq_mask, *sq_array, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
} ring;

static FILE *clock_log;

static long long now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void *map(size_t size, off_t offset)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, offset);
	if (p == MAP_FAILED)
		fail("mmap");
	return p;
}

static void setup(unsigned entries)
{
	struct io_uring_params p = { 0 };
	ring.fd = syscall(SYS_io_uring_setup, entries, &p);
	if (ring.fd < 0)
		fail("io_uring_setup");
	char *sq = map(p.sq_off.array + p.sq_entries * sizeof(unsigned), IORING_OFF_SQ_RING);
	char *cq = map(p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
	ring.sqes = map(p.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
	ring.sq_tail = (void *)(sq + p.sq_off.tail);
	ring.sq_mask = (void *)(sq + p.sq_off.ring_mask);
	ring.sq_array = (void *)(sq + p.sq_off.array);
	ring.cq_head = (void *)(cq + p.cq_off.head);
	ring.cq_tail = (void *)(cq + p.cq_off.tail);
	ring.cq_mask = (void *)(cq + p.cq_off.ring_mask);
	ring.cqes = (void *)(cq + p.cq_off.cqes);
}

static void enter(unsigned submit, unsigned wait)
{
	if (syscall(SYS_io_uring_enter, ring.fd, submit, wait, wait ? IORING_ENTER_GETEVENTS : 0, NULL, 0) < 0)
		fail("io_uring_enter");
}

/* submit queues one operation and hands it to the kernel at once, so that clocks can stand around it. */
static void submit(int op, int fd, void *p, size_t size, struct conn *c)
{
	unsigned tail = atomic_load(ring.sq_tail), i = tail & *ring.sq_mask;
	struct io_uring_sqe *sqe = &ring.sqes[i];
	memset(sqe, 0, sizeof *sqe);
	sqe->opcode = op;
	sqe->fd = fd;
	sqe->addr = (unsigned long)p;
	sqe->len = size;
	sqe->user_data = (unsigned long)c;
	if (op == IORING_OP_SEND)
		sqe->msg_flags = MSG_NOSIGNAL;
	ring.sq_array[i] = i;
	atomic_store(ring.sq_tail, tail + 1);
	enter(1, 0);
}

static void receive(struct conn *c)
{
	c->kind = RECEIVE;
	submit(IORING_OP_RECV, c->fd, c->in + c->used, sizeof c->in - 1 - c->used, c);
}

static void finish(struct conn *c)
{
	if (clock_log) {
		fprintf(clock_log, "%s . 0 0 0 0\n", c->key);
		fflush(clock_log);
	}
	close(c->fd);
	free(c->out);
	free(c);
}

static void note(struct conn *c, char direction, unsigned long long end, long long before, long long after)
{
	if (clock_log)
		fprintf(clock_log, "%s %c %llu %lld %lld 0\n", c->key, direction, end, before, after);
}

/* send_some hands the next piece of the response over. It is taken within the call, or, where the send buffer is full,
 * at some time before its completion: then the clocks around it are far apart. */
static void send_some(struct conn *c)
{
	c->kind = SEND;
	c->send_before = now();
	size_t left = c->out_size - c->out_done;
	submit(IORING_OP_SEND, c->fd, c->out + c->out_done, left < PIECE ? left : PIECE, c);
}

static void answer(struct conn *c)
{
	unsigned long n = 2;
	sscanf(c->in, "%*s /bytes/%lu", &n);
	free(c->out);
	c->out = calloc(1, n + 128);
	if (!c->out)
		fail("calloc");
	int head = sprintf(c->out, "HTTP/1.1 200 OK\r\nContent-Length: %lu\r\n\r\n", n);
	c->out_size = head + n;
	c->out_done = 0;
	c->used = 0;
	send_some(c);
}

static void accepted(int listener, struct conn *acceptor, int fd)
{
	struct sockaddr_in a;
	socklen_t size = sizeof a;
	int one = 1;
	if (fd >= 0) {
		struct conn *c = calloc(1, sizeof *c);
		if (!c)
			fail("calloc");
		c->fd = fd;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		if (getpeername(fd, (void *)&a, &size) == 0)
			sprintf(c->key, "%s:%d", inet_ntoa(a.sin_addr), ntohs(a.sin_port));
		receive(c);
	}
	submit(IORING_OP_ACCEPT, listener, NULL, 0, acceptor);
}

static void completed(int listener, struct conn *c, int result, long long at)
{
	if (c->kind == ACCEPT) {
		accepted(listener, c, result);
	} else if (result <= 0) {
		finish(c);
	} else if (c->kind == RECEIVE) {
		note(c, 'r', c->received += result, at, at);
		c->used += result;
		c->in[c->used] = 0;
		if (strstr(c->in, "\r\n\r\n"))
			answer(c);
		else if (c->used < sizeof c->in - 1)
			receive(c);
		else
			finish(c);
	} else {
		note(c, 's', c->sent += result, c->send_before, at);
		c->out_done += result;
		if (c->out_done < c->out_size)
			send_some(c);
		else
			receive(c);
	}
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	if (argc > 2 && !(clock_log = fopen(argv[2], "a")))
		fail(argv[2]);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(listener, (void *)&a, sizeof a) || listen(listener, 64))
		fail("listen");
	setup(256);
	struct conn acceptor = { .kind = ACCEPT };
	submit(IORING_OP_ACCEPT, listener, NULL, 0, &acceptor);
	for (;;) {
		unsigned head = atomic_load(ring.cq_head);
		if (head == atomic_load(ring.cq_tail)) {
			enter(0, 1);
			continue;
		}
		long long at = now();
		struct io_uring_cqe cqe = ring.cqes[head & *ring.cq_mask];
		atomic_store(ring.cq_head, head + 1);
		completed(listener, (struct conn *)(unsigned long)cqe.user_data, cqe.res, at);
	}
}
