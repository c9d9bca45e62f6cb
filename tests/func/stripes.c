/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stripes: many threads write to one file at once, each only its own stripes, which are
 *so narrow and so unaligned that neighbours share every sector. A read-modify-write
 *without a lock around it loses a neighbour's bytes; then a thread no longer reads what
 *it wrote.
 *
 *	bytes   |<- width ->|<- width ->|<- width ->| ...
 *	thread  |     0     |     1     |     2     | 0 | 1 ...
 *
 * usage: stripes [-t THREADS] [-w WIDTH] [-k SECONDS] [-s SIZE] FILE
 * The file is made with its first handle kept open (no page cache between us and the
 *server, as for any image that is just being written). Status 0: every byte as its owner
 *wrote it.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 64, WIDTH_MAX = 65536 };

static size_t threads = 8, width = 1000, file_len = 4 << 20;
static unsigned int seconds = 5;
static int fd;
static unsigned char *want; /* each byte belongs to one thread */
static _Atomic uint64_t writes;

struct worker {
	pthread_t thread;
	size_t index;
	uint64_t rng;
};

static void die(const char *what)
{
	fprintf(stderr, "stripes: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t rnd(struct worker *w)
{
	w->rng ^= w->rng << 13;
	w->rng ^= w->rng >> 7;
	w->rng ^= w->rng << 17;
	return w->rng;
}

static void verify(size_t off, size_t len)
{
	unsigned char got[WIDTH_MAX];

	if (pread(fd, got, len, (off_t)off) != (ssize_t)len)
		die("pread");
	for (size_t i = 0; i < len; i++) {
		if (got[i] == want[off + i])
			continue;
		fprintf(stderr,
			"stripes: byte %zu (owner %zu) is %02x, was written %02x\n",
			off + i, (off + i) / width % threads, got[i], want[off + i]);
		exit(1);
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;
	size_t rounds = file_len / (width * threads);
	time_t end = time(NULL) + (time_t)seconds;

	while (time(NULL) < end) {
		size_t off = (rnd(w) % rounds * threads + w->index) * width;
		size_t skip = rnd(w) % width, len = 1 + rnd(w) % (width - skip);

		verify(off, width);
		memset(want + off + skip, (int)(rnd(w) >> 40), len);
		if (pwrite(fd, want + off + skip, len, (off_t)(off + skip)) !=
		    (ssize_t)len)
			die("pwrite");
		writes++;
		verify(off, width);
	}
	return NULL;
}

static void parse_options(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "t:w:k:s:")) != -1) {
		if (c == 't')
			threads = strtoul(optarg, NULL, 0);
		else if (c == 'w')
			width = strtoul(optarg, NULL, 0);
		else if (c == 'k')
			seconds = (unsigned int)strtoul(optarg, NULL, 0);
		else if (c == 's')
			file_len = strtoul(optarg, NULL, 0);
		else
			exit(2);
	}
	if (optind + 1 != argc || !threads || threads > THREADS_MAX || !width ||
	    width > WIDTH_MAX || file_len < width * threads) {
		fprintf(stderr, "usage: stripes [-t THREADS] [-w WIDTH] [-k SECONDS] "
				"[-s SIZE] FILE\n");
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct worker workers[THREADS_MAX];

	parse_options(argc, argv);
	fd = open(argv[optind], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	want = calloc(1, file_len);
	if (fd < 0 || !want || ftruncate(fd, (off_t)file_len))
		die("prepare");
	for (size_t i = 0; i < threads; i++) {
		workers[i].index = i;
		workers[i].rng = 0x9e3779b97f4a7c15ULL * (i + 1);
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			die("pthread_create");
	}
	for (size_t i = 0; i < threads; i++)
		pthread_join(workers[i].thread, NULL);
	for (size_t off = 0; off + width <= file_len; off += width)
		verify(off, width);
	if (fsync(fd) || close(fd))
		die("fsync or close");
	printf("stripes: %llu writes by %zu threads, nothing lost\n",
	       (unsigned long long)writes, threads);
	return 0;
}
