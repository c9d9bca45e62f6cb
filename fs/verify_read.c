/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All data of a container is read, in large pieces; one that fails again in small ones, so that it can
 * be said which bytes are lost.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/verify.h"
#include "util/cleanup.h"
#include "util/io.h"

enum { CHUNK = 1024 * 1024, PIECE = 4096, SAID_MAX = 6 };

struct reading {
	struct verify *v;
	struct tool_file *f;
	int direct_fd; /* past the page cache, or -1 */
	unsigned char *buf;
	uint64_t bad_from, bad_to; /* the range that is just growing; equal: none */
	size_t ranges;
	vcf_err_t err; /* of the last one */
};

/* What is in memory would say nothing of the disk. */
static int open_direct(int fd)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
}

static ssize_t read_at(struct reading *r, size_t len, uint64_t coff)
{
	ssize_t n = -EINVAL;

	if (r->direct_fd >= 0)
		n = io_pread_full(r->direct_fd, r->buf, len, (off_t)coff);
	if (n != -EINVAL)
		return n;
	if (r->direct_fd >= 0)
		close(STEAL_FD(&r->direct_fd));
	return io_pread_full(r->v->fd, r->buf, len, (off_t)coff);
}

static void end_range(struct reading *r)
{
	struct verify *v = r->v;
	struct verify_fault *fault = &v->faults[v->cnt];
	uint64_t from = r->bad_from - v->peek.data_off;

	if (r->bad_from == r->bad_to)
		return;
	v->unreadable += r->bad_to - r->bad_from;
	if (++r->ranges <= SAID_MAX && v->cnt < VERIFY_FAULTS_MAX) {
		fault->kind = VERIFY_SECTOR;
		snprintf(fault->text, sizeof(fault->text),
			 "bytes %" PRIu64 " to %" PRIu64 " of the image cannot be read: "
			 "%s%s",
			 from, from + (r->bad_to - r->bad_from) - 1, strerror(-r->err),
			 r->ranges == SAID_MAX ? "; there may be more" : "");
		v->cnt++;
	}
	r->bad_from = r->bad_to = 0;
}

static void note_bad(struct reading *r, uint64_t from, uint64_t to, vcf_err_t err)
{
	if (r->bad_to != from || r->bad_from == r->bad_to) {
		end_range(r);
		r->bad_from = from;
	}
	r->bad_to = to;
	r->err = err;
}

static void read_pieces(struct reading *r, uint64_t from, uint64_t to)
{
	while (from < to) {
		size_t len = to - from < PIECE ? (size_t)(to - from) : PIECE;
		ssize_t n = read_at(r, len, from);

		if (n < 0)
			note_bad(r, from, from + len, (vcf_err_t)n);
		from += len;
	}
}

/* The next data at or after pos, in whole pages; from == end if there is none. */
static void next_data(int fd, uint64_t pos, uint64_t end, uint64_t *from, uint64_t *to)
{
	off_t data = lseek(fd, (off_t)pos, SEEK_DATA);
	off_t hole;

	*from = pos;
	*to = end;
	if (data < 0 && errno == ENXIO)
		*from = end;
	if (data < 0)
		return; /* the file system cannot tell: all of it */
	hole = lseek(fd, data, SEEK_HOLE);
	*from = (uint64_t)data / PIECE * PIECE;
	if (*from < pos)
		*from = pos;
	if (*from > end)
		*from = end;
	if (hole >= 0 && (uint64_t)hole < end)
		*to = (uint64_t)hole;
}

static vcf_err_t read_range(struct reading *r, uint64_t from, uint64_t to)
{
	const struct verify *v = r->v;

	while (from < to) {
		size_t len = to - from < CHUNK ? (size_t)(to - from) : CHUNK;

		if (tool_interrupted())
			return -EINTR;
		if (read_at(r, len, from) < 0)
			read_pieces(r, from, from + len);
		from += len;
		tool_progress(r->f, from - v->peek.data_off, v->len - v->peek.data_off);
	}
	return 0;
}

vcf_err_t verify_read(struct verify *v, struct tool_file *f)
{
	auto_close int direct_fd = open_direct(v->fd);
	struct reading r = {.v = v, .f = f, .direct_fd = direct_fd};
	uint64_t from, to;
	vcf_err_t err = 0;

	direct_fd = -1; /* read_at() may close it */
	if (posix_memalign((void **)&r.buf, PIECE, CHUNK))
		return -ENOMEM;
	for (uint64_t pos = v->peek.data_off; !err && pos < v->len; pos = to) {
		next_data(v->fd, pos, v->len, &from, &to);
		err = read_range(&r, from, to);
	}
	end_range(&r);
	free(r.buf);
	if (r.direct_fd >= 0)
		close(r.direct_fd);
	return err;
}
