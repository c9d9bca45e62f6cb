/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * queue: many direct transfers of one file at once, by io_submit(2), compared with a model. Blocks of
 * 4 KiB, each stamped with its number and version; two that are under way meet only if both read.
 *
 * usage: queue [-k SECONDS | -n TRANSFERS] [-q DEPTH] [-s SIZE] [-m BLOCKS] [-r SEED] [-t] [-e ERRNO]... FILE
 *	-m  so many blocks a transfer at most
 *	-t  the size changes meanwhile, behind what is transferred
 *	-e  a transfer may fail so (at least one has to); what it was to write is unknown then
 * FILE is made. Prints a line of counts; status 0: every byte as the model says, now and when the
 * file is opened anew.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, DEPTH_MAX = 256, UNKNOWN = -1, ERRORS_MAX = 4 };

struct op {
	struct iocb cb;
	bool busy, write;
	size_t block, cnt;
	unsigned char *buf;
};

static unsigned int seconds = 3, depth = 32;
static size_t blocks = 4096, cnt_max = 8;
static bool resize;
static int errors[ERRORS_MAX];
static size_t error_cnt;
static uint64_t rng = 88172645463325252ull;
static int fd;
static aio_context_t ctx;
static struct op ops[DEPTH_MAX];
static int32_t *version;
static unsigned long wanted; /* transfers; 0: until the time is over */
static unsigned long done, failed, resized;

static void die(const char *what)
{
	fprintf(stderr, "queue: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t rnd(uint64_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng % n;
}

/* Version 0: never written. */
static void stamp(unsigned char *buf, size_t block, int32_t v)
{
	uint64_t x = (uint64_t)block << 32 | (uint32_t)v;

	for (size_t i = 0; i < BLOCK; i += sizeof(x)) {
		x = v ? x * 6364136223846793005ull + 1442695040888963407ull : 0;
		memcpy(buf + i, &x, sizeof(x));
	}
}

static void compare(const unsigned char *buf, size_t block)
{
	unsigned char want[BLOCK];

	if (version[block] == UNKNOWN)
		return;
	stamp(want, block, version[block]);
	if (!memcmp(buf, want, BLOCK))
		return;
	fprintf(stderr, "queue: block %zu is not of version %d\n", block, version[block]);
	exit(1);
}

static bool meets(const struct op *op)
{
	for (unsigned int i = 0; i < depth; i++) {
		const struct op *o = &ops[i];

		if (o->busy && (o->write || op->write) &&
		    o->block < op->block + op->cnt && op->block < o->block + o->cnt)
			return true;
	}
	return false;
}

static void fill(struct op *op)
{
	static int32_t last;

	for (size_t i = 0; op->write && i < op->cnt; i++) {
		version[op->block + i] = ++last;
		stamp(op->buf + i * BLOCK, op->block + i, last);
	}
}

static void submit(struct op *op)
{
	struct iocb *list[] = {&op->cb};

	op->write = rnd(2);
	op->cnt = 1 + rnd(rnd(3) ? 2 : cnt_max);
	op->block = rnd(blocks - op->cnt + 1);
	if (meets(op))
		return;
	fill(op);
	op->cb = (struct iocb){
		.aio_data = (uintptr_t)op,
		.aio_lio_opcode = op->write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
		.aio_fildes = (uint32_t)fd,
		.aio_buf = (uintptr_t)op->buf,
		.aio_nbytes = op->cnt * BLOCK,
		.aio_offset = (int64_t)(op->block * BLOCK),
	};
	if (syscall(SYS_io_submit, ctx, 1, list) != 1)
		die("io_submit");
	op->busy = true;
}

static bool may_fail(int err)
{
	for (size_t i = 0; i < error_cnt; i++) {
		if (errors[i] == err)
			return true;
	}
	return false;
}

static void end(struct op *op, long res)
{
	op->busy = false;
	done++;
	if (res < 0 && may_fail((int)-res)) {
		failed++;
		for (size_t i = 0; op->write && i < op->cnt; i++)
			version[op->block + i] = UNKNOWN;
		return;
	}
	if (res != (long)(op->cnt * BLOCK)) {
		fprintf(stderr, "queue: %s of %zu blocks at %zu: %ld\n",
			op->write ? "write" : "read", op->cnt, op->block, res);
		exit(1);
	}
	for (size_t i = 0; !op->write && i < op->cnt; i++)
		compare(op->buf + i * BLOCK, op->block + i);
}

static unsigned int busy(void)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < depth; i++)
		n += ops[i].busy;
	return n;
}

static void reap(void)
{
	struct io_event ev[DEPTH_MAX];
	long n = syscall(SYS_io_getevents, ctx, 1L, (long)depth, ev, NULL);

	if (n < 0)
		die("io_getevents");
	for (long i = 0; i < n; i++)
		end((struct op *)(uintptr_t)ev[i].data, (long)ev[i].res);
}

static void change_size(void)
{
	off_t len = (off_t)(blocks * BLOCK);

	if (ftruncate(fd, len + (off_t)rnd(1 << 20)) < 0 || ftruncate(fd, len) < 0)
		die("ftruncate");
	resized++;
}

static void run(void)
{
	time_t until = time(NULL) + seconds;

	while (wanted ? done < wanted : time(NULL) < until) {
		for (unsigned int i = 0; i < depth; i++) {
			if (!ops[i].busy)
				submit(&ops[i]);
		}
		if (resize && !rnd(64))
			change_size();
		if (!rnd(512) && fdatasync(fd) < 0)
			die("fdatasync");
		if (busy())
			reap();
	}
	while (busy())
		reap();
}

static void compare_all(const char *path)
{
	static unsigned char buf[BLOCK];
	int in = open(path, O_RDONLY | O_CLOEXEC);

	if (in < 0)
		die(path);
	for (size_t b = 0; b < blocks; b++) {
		if (pread(in, buf, BLOCK, (off_t)(b * BLOCK)) != BLOCK)
			die("reading it all");
		compare(buf, b);
	}
	close(in);
}

static void set_up(const char *path)
{
	version = calloc(blocks, sizeof(*version));
	for (unsigned int i = 0; i < depth; i++)
		ops[i].buf = aligned_alloc(BLOCK, cnt_max * BLOCK);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0644);
	if (!version || fd < 0)
		die(path);
	if (ftruncate(fd, (off_t)(blocks * BLOCK)) < 0)
		die("ftruncate");
	if (syscall(SYS_io_setup, depth, &ctx) < 0)
		die("io_setup");
}

static void parse(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "k:n:q:s:m:r:te:")) != -1) {
		if (c == 'k')
			seconds = (unsigned int)atoi(optarg);
		else if (c == 'n')
			wanted = strtoul(optarg, NULL, 0);
		else if (c == 'q')
			depth = (unsigned int)atoi(optarg);
		else if (c == 's')
			blocks = strtoull(optarg, NULL, 0) / BLOCK;
		else if (c == 'm')
			cnt_max = strtoull(optarg, NULL, 0);
		else if (c == 'r')
			rng ^= strtoull(optarg, NULL, 0) << 20;
		else if (c == 't')
			resize = true;
		else if (c == 'e' && error_cnt < ERRORS_MAX)
			errors[error_cnt++] = atoi(optarg);
		else
			exit(2);
	}
	if (optind != argc - 1 || depth > DEPTH_MAX)
		exit(2);
}

int main(int argc, char **argv)
{
	parse(argc, argv);
	set_up(argv[optind]);
	run();
	compare_all(argv[optind]);
	if (fsync(fd) < 0 || close(fd) < 0)
		die("closing");
	compare_all(argv[optind]);
	printf("%lu transfers, %lu failed, %lu size changes\n", done, failed, resized);
	return error_cnt && !failed;
}
