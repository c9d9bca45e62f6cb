/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The threads take pieces, at most PIECE_LEN long and inside one multiple of it, of the next range
 * that is no hole (of either side, when they are compared). Pieces begin at pages, so that no two of
 * them share a sector. Each has its buffers and ciphers.
 */
#include "fs/datacopy.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto/worker.h"
#include "util/cleanup.h"
#include "util/crashpoint.h"
#include "util/io.h"
#include "util/lock.h"

enum { PIECE_LEN = 1024 * 1024, PAGE_LEN = 4096, THREADS_MAX = 8 };

/* --- sides --- */

vcf_err_t dataside_open(struct dataside *s, int fd, const struct container *c)
{
	struct image_params ip = {.holes_zero =
					  c && container_token(c)->holes == HOLES_ZERO};
	struct stat st;
	bool hidden;
	vcf_err_t err;

	*s = (struct dataside){.fd = fd};
	if (!c)
		return 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	ip.geom = (struct geom){.data_off = container_subject(c)->data_off,
				.sector_len = container_subject(c)->sector_len};
	err = keytable_new(&s->keys, 1, &hidden);
	ip.keys = s->keys;
	if (!err)
		err = keytable_put(s->keys, container_subject(c)->uuid,
				   container_token(c)->kcv, container_volume_key(c),
				   &ip.key);
	if (!err)
		err = image_new(&s->image, &ip, (uint64_t)st.st_size);
	if (err)
		dataside_close(s);
	return err;
}

void dataside_close(struct dataside *s)
{
	image_free(s->image);
	if (s->keys)
		keytable_free(s->keys);
	*s = (struct dataside){.fd = -1};
}

vcf_err_t dataside_len(const struct dataside *s, uint64_t *plen)
{
	struct stat st;

	if (s->image) {
		*plen = image_size(s->image);
		return 0;
	}
	if (fstat(s->fd, &st) < 0)
		return -errno;
	*plen = (uint64_t)st.st_size;
	return 0;
}

static struct image_file file_of(const struct dataside *s)
{
	return (struct image_file){.fd = s->fd, .direct_fd = -1};
}

/* The next data at or after pos, the next hole; end if there is none. */
static uint64_t seek(const struct dataside *s, uint64_t pos, uint64_t end, int whence)
{
	struct image_file f = file_of(s);
	off_t at = s->image ? image_seek(s->image, &f, pos, whence)
			    : lseek(s->fd, (off_t)pos, whence);

	if (at == -1 && !s->image)
		at = -errno;
	if (at == -ENXIO)
		return end;
	if (at < 0) /* it cannot tell: all is data */
		return whence == SEEK_DATA ? pos : end;
	return (uint64_t)at < end ? (uint64_t)at : end;
}

/* --- a thread's own --- */

struct desk {
	struct image_worker from, to;
};

/* Plaintext lies in it. */
static vcf_err_t make_worker(struct image_worker *w)
{
	w->buf_len = IMAGE_WORKER_BUF(PIECE_LEN);
	w->buf = mmap(NULL, w->buf_len, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (w->buf == MAP_FAILED) {
		w->buf = NULL;
		return -ENOMEM;
	}
	madvise(w->buf, w->buf_len, MADV_DONTDUMP);
	return xts_new(&w->xts);
}

static void drop_worker(struct image_worker *w)
{
	if (w->xts)
		xts_free(w->xts);
	if (w->buf)
		munmap(w->buf, w->buf_len);
}

static vcf_err_t read_side(const struct dataside *s, struct image_worker *w, size_t len,
			   uint64_t poff, unsigned char **data)
{
	struct image_file f = file_of(s);
	void *at = w->buf;
	ssize_t n = s->image ? image_pread(s->image, &f, w, len, poff, &at)
			     : io_pread_full(s->fd, w->buf, len, (off_t)poff);

	*data = at;
	if (n < 0)
		return (vcf_err_t)n;
	return (size_t)n == len ? 0 : -EIO;
}

static vcf_err_t write_side(const struct dataside *s, struct image_worker *w,
			    const unsigned char *data, size_t len, uint64_t poff)
{
	struct image_file f = file_of(s);

	return s->image ? image_pwrite(s->image, &f, w, data, len, poff)
			: io_pwrite_full(s->fd, data, len, (off_t)poff);
}

/* --- pieces --- */

struct run {
	const struct datacopy *c;
	bool compare;
	struct mutex lock;
	uint64_t pos,
		range_end; /* (l) what was given out; the end of the range it is in */
	uint64_t done;	   /* (l) */
	vcf_err_t err;	   /* (l) the first */
};

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Sets pos to the next data and range_end to its end, both at pages. */
static void next_range_locked(struct run *r)
{
	const struct datacopy *c = r->c;
	const struct dataside *s = &c->from;
	uint64_t at = seek(s, r->pos, c->plen, SEEK_DATA), other;

	if (r->compare) {
		other = seek(&c->to, r->pos, c->plen, SEEK_DATA);
		s = other < at ? &c->to : s;
		at = min_u64(at, other);
	}
	if (at > r->pos)
		r->pos = at & ~(uint64_t)(PAGE_LEN - 1);
	r->range_end = at < c->plen ? seek(s, at, c->plen, SEEK_HOLE) : c->plen;
	r->range_end = min_u64((r->range_end + PAGE_LEN - 1) & ~(uint64_t)(PAGE_LEN - 1),
			       c->plen);
	if (at >= c->plen)
		r->pos = c->plen;
}

static bool take_piece(struct run *r, uint64_t *poff, size_t *len)
{
	SCOPED_LOCK(&r->lock);
	uint64_t end;

	if (r->err)
		return false;
	if (r->pos >= r->range_end)
		next_range_locked(r);
	if (r->pos >= r->c->plen)
		return false;
	end = min_u64((r->pos / PIECE_LEN + 1) * PIECE_LEN, r->range_end);
	*poff = r->pos;
	*len = (size_t)(end - r->pos);
	r->pos = end;
	return true;
}

static void piece_done(struct run *r, size_t len, vcf_err_t err)
{
	uint64_t done;

	mutex_lock(&r->lock);
	done = r->done += len;
	mutex_unlock(&r->lock);
	if (!err && r->c->progress)
		err = r->c->progress(r->c->arg, done);
	mutex_lock(&r->lock);
	if (err && !r->err)
		r->err = err;
	mutex_unlock(&r->lock);
}

/* Writes the runs of pages that are not all zeros. */
static vcf_err_t write_data(struct run *r, struct desk *d, const unsigned char *data,
			    size_t len, uint64_t poff)
{
	const struct dataside *to = &r->c->to;
	size_t at = 0;

	while (at < len) {
		size_t from = at;
		vcf_err_t err;

		while (at < len && !io_is_zero(data + at, min_u64(PAGE_LEN, len - at)))
			at += min_u64(PAGE_LEN, len - at);
		if (at == from) {
			at += min_u64(PAGE_LEN, len - at);
			continue;
		}
		err = write_side(to, &d->to, data + from, at - from, poff + from);
		if (err)
			return err;
	}
	return 0;
}

static vcf_err_t copy_piece(struct run *r, struct desk *d, uint64_t poff, size_t len)
{
	unsigned char *data;
	vcf_err_t err = read_side(&r->c->from, &d->from, len, poff, &data);

	if (!err)
		err = write_data(r, d, data, len, poff);
	CRASHPOINT("datacopy-piece");
	return err;
}

static vcf_err_t compare_piece(struct run *r, struct desk *d, uint64_t poff, size_t len)
{
	unsigned char *a, *b;
	vcf_err_t err = read_side(&r->c->from, &d->from, len, poff, &a);

	if (!err)
		err = read_side(&r->c->to, &d->to, len, poff, &b);
	if (err)
		return err;
	return memcmp(a, b, len) == 0 ? 0 : -EBADMSG;
}

static void *work(void *arg)
{
	struct run *r = arg;
	struct desk d = {.from.buf = NULL};
	uint64_t poff;
	size_t len;
	vcf_err_t err = make_worker(&d.from);

	if (!err)
		err = make_worker(&d.to);
	if (err)
		piece_done(r, 0, err);
	while (take_piece(r, &poff, &len)) {
		err = r->compare ? compare_piece(r, &d, poff, len)
				 : copy_piece(r, &d, poff, len);
		piece_done(r, len, err);
	}
	drop_worker(&d.from);
	drop_worker(&d.to);
	return NULL;
}

/* --- the whole --- */

static vcf_err_t run_all(const struct datacopy *c, bool compare)
{
	struct run r = {.c = c, .compare = compare};
	pthread_t threads[THREADS_MAX];
	unsigned int cnt = 0, wanted = c->threads ? c->threads : 1;
	vcf_err_t err = 0;

	mutex_init(&r.lock, RANK_DATACOPY);
	while (!err && cnt < wanted && cnt < THREADS_MAX) {
		err = worker_start(&threads[cnt], work, &r);
		cnt += !err;
	}
	if (err && cnt)
		err = 0; /* fewer do it, too */
	while (cnt)
		pthread_join(threads[--cnt], NULL);
	mutex_fini(&r.lock);
	return err ? err : r.err;
}

/* The length first: then no piece moves the end, and they may be written in any order. */
static vcf_err_t set_len(const struct datacopy *c)
{
	struct image_file f = file_of(&c->to);
	struct image_worker w = {.buf = NULL};
	vcf_err_t err;

	if (!c->to.image)
		return ftruncate(c->to.fd, (off_t)c->plen) < 0 ? -errno : 0;
	err = make_worker(&w);
	if (!err)
		err = image_truncate(c->to.image, &f, &w, c->plen);
	drop_worker(&w);
	return err;
}

vcf_err_t datacopy_run(const struct datacopy *c)
{
	vcf_err_t err = set_len(c);

	if (!err)
		posix_fadvise(c->from.fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	return err ? err : run_all(c, false);
}

vcf_err_t datacopy_compare(const struct datacopy *c)
{
	uint64_t from, to;
	vcf_err_t err = dataside_len(&c->from, &from);

	if (!err)
		err = dataside_len(&c->to, &to);
	if (!err && (from != to || to != c->plen))
		err = -EBADMSG;
	return err ? err : run_all(c, true);
}
