// A client and a server of OpenSSL in one thread, joined by memory. It says what it called with which arguments, so that a test can
// compare what its probes saw.
//
//   tlspair KEY CERTIFICATE MESSAGES [ex]      writes and reads that many messages; ex: by SSL_write_ex and SSL_read_ex
//   tlspair KEY CERTIFICATE CALLS time         times calls of SSL_read that return at once: ns of processor time for each
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void die(const char *what)
{
	ERR_print_errors_fp(stderr);
	fprintf(stderr, "%s failed\n", what);
	exit(1);
}

static char out[4096], in[4096];

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	long messages = atol(argv[3]);
	int ex = argc > 4 && !strcmp(argv[4], "ex"), timed = argc > 4 && !strcmp(argv[4], "time");
	SSL_CTX *sc = SSL_CTX_new(TLS_server_method()), *cc = SSL_CTX_new(TLS_client_method());
	if (SSL_CTX_use_PrivateKey_file(sc, argv[1], SSL_FILETYPE_PEM) != 1 || SSL_CTX_use_certificate_file(sc, argv[2], SSL_FILETYPE_PEM) != 1)
		die("key");
	SSL *s = SSL_new(sc), *c = SSL_new(cc);
	BIO *sb, *cb;
	if (!BIO_new_bio_pair(&sb, 65536, &cb, 65536))
		die("pair");
	SSL_set_bio(s, sb, sb);
	SSL_set_bio(c, cb, cb);
	SSL_set_accept_state(s);
	SSL_set_connect_state(c);
	for (int i = 0; !SSL_is_init_finished(c) || !SSL_is_init_finished(s); i++) {
		SSL_do_handshake(c);
		SSL_do_handshake(s);
		if (i == 100)
			die("handshake");
	}
	// A test attaches now, and writes a line.
	puts("ready");
	fflush(stdout);
	char line[16];
	if (!fgets(line, sizeof line, stdin))
		return 1;
	if (timed) {
		SSL_set_shutdown(s, SSL_RECEIVED_SHUTDOWN);
		double from = now();
		for (long i = 0; i < messages; i++)
			SSL_read(s, in, 1);
		printf("%.1f\n", (now() - from) / messages);
		return 0;
	}
	long calls = 0, written = 0, got = 0;
	for (long i = 0; i < messages; i++) {
		int n = 1 + i % 1777;
		memset(out, 'a' + i % 26, n);
		size_t did = 0;
		if (ex ? SSL_write_ex(c, out, n, &did) != 1 : SSL_write(c, out, n) != n)
			die("write");
		calls++;
		written += n;
		while (n > 0) { // 1000 bytes at a time: a record is read by one or two calls
			int r = ex ? (SSL_read_ex(s, in, 1000, &did) == 1 ? (int)did : -1) : SSL_read(s, in, 1000);
			if (r <= 0)
				die("read");
			n -= r;
			got += r;
			calls++;
		}
		if (SSL_read(s, in, 1000) > 0) // nothing is left: a call without a result
			die("empty read");
		calls++;
	}
	printf("%ld %ld %ld %lu %lu\n", messages, calls - messages, written, (unsigned long)(uintptr_t)out, (unsigned long)(uintptr_t)in);
	return got != written;
}
