/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * diskpat: fill a disk or file with a pattern, or verify it. Static, for test guests; the
 * same program on the host.
 *
 * usage: diskpat write|verify|zeros PATH SEED BYTES [OFFSET]
 * Each 512-byte block is a stream made from the seed and its own number, so a block that
 * is stale, moved or undecrypted is noticed and named. Writes are O_DIRECT where that
 * works, in pieces of many sizes and out of order, and end with fsync; `zeros` wants
 * zeros instead.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 512, PIECE_MAX = 256 * 1024 };

static uint64_t seed;
static bool zeros;

static uint64_t scramble(uint64_t x)
{
	x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdULL;
	x = (x ^ (x >> 29)) * 0xc4ceb9fe1a85ec53ULL;
	return x ^ (x >> 32);
}

static void make(unsigned char *dst, uint64_t off, size_t len)
{
	for (size_t i = 0; i < len; i += 8) {
		uint64_t block = (off + i) / BLOCK;
		uint64_t x = i % BLOCK ? scramble(seed * 1000003 + off + i) : block;

		if (zeros)
			x = 0;
		memcpy(dst + i, &x, 8);
	}
}

static int die(const char *what)
{
	fprintf(stderr, "diskpat: %s: %s\n", what, strerror(errno));
	return 1;
}

static int check(const unsigned char *got, const unsigned char *want, uint64_t off,
		 size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (got[i] == want[i])
			continue;
		fprintf(stderr, "diskpat: block %llu, byte %zu: %02x instead of %02x\n",
			(unsigned long long)((off + i) / BLOCK), i % BLOCK, got[i],
			want[i]);
		return 1;
	}
	return 0;
}

/* Pieces of different sizes: every second one first, then the others. */
static int walk(int fd, bool writing, uint64_t start, uint64_t bytes)
{
	unsigned char *want = NULL, *got = NULL;

	if (posix_memalign((void **)&want, 4096, PIECE_MAX) ||
	    posix_memalign((void **)&got, 4096, PIECE_MAX))
		return die("memory");
	for (unsigned int turn = 0; turn < 2; turn++) {
		uint64_t pos = 0;

		for (unsigned int n = 0; pos < bytes; n++) {
			size_t len = (size_t)4096 << scramble(n) % 7;
			uint64_t off = start + pos;
			ssize_t done;

			if (len > bytes - pos)
				len = (size_t)(bytes - pos);
			pos += len;
			if (n % 2 != turn)
				continue;
			make(want, off, len);
			done = writing ? pwrite(fd, want, len, (off_t)off)
				       : pread(fd, got, len, (off_t)off);
			if (done != (ssize_t)len)
				return die(writing ? "pwrite" : "pread");
			if (!writing && check(got, want, off, len))
				return 1;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	bool writing = argc > 1 && strcmp(argv[1], "write") == 0;
	int fd, flags = writing ? O_RDWR : O_RDONLY;
	uint64_t bytes, off;

	if (argc < 5 || argc > 6) {
		fprintf(stderr,
			"usage: diskpat write|verify|zeros PATH SEED BYTES [OFFSET]\n");
		return 2;
	}
	zeros = strcmp(argv[1], "zeros") == 0;
	seed = strtoull(argv[3], NULL, 0);
	bytes = strtoull(argv[4], NULL, 0);
	off = argc > 5 ? strtoull(argv[5], NULL, 0) : 0;
	fd = open(argv[2], flags | O_DIRECT | O_CLOEXEC);
	if (fd < 0 && errno == EINVAL)
		fd = open(argv[2], flags | O_CLOEXEC);
	if (fd < 0)
		return die(argv[2]);
	if (walk(fd, writing, off, bytes))
		return 1;
	if (writing && fsync(fd))
		return die("fsync");
	printf("diskpat: %s %s: %llu bytes ok\n", argv[1], argv[2],
	       (unsigned long long)bytes);
	return 0;
}
