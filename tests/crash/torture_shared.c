/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Several threads on one file.
 *	chain   whole blocks, O_DIRECT. A block's next version is written the moment the version
 *		before it was answered, mostly by another thread: a request that is executed again
 *		after its answer puts the old version back.
 *	weave   the same with blocks of 700 bytes, so that neighbours share sectors, over handles
 *		from before the first byte (a mount keeps no page cache for these)
 *	append  O_APPEND: each record must be there once, each writer's in their order
 */
#include "torture.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- chain, weave --- */

enum { LINKS = 256, HOT = 6, LINK_MAX = 4096 };

struct chain {
	size_t len; /* of a block */
	int fds[16];
	pthread_mutex_t lock[LINKS]; /* a block's version and contents */
	uint32_t version[LINKS];
};

static struct chain *chains[2];

static bool is_chain(const struct worker *w)
{
	return w->kind == &kind_chain;
}

static void chain_make(struct worker *w, struct chain *c)
{
	int flags = O_RDWR | O_CREAT | O_CLOEXEC;

	c->len = is_chain(w) ? 4096 : 700;
	for (size_t i = 0; i < w->kind->cnt; i++) {
		c->fds[i] = openat(w->dir, "image", flags | (is_chain(w) ? O_DIRECT : 0),
				   0644);
		if (c->fds[i] < 0 && errno == EINVAL)
			c->fds[i] = openat(w->dir, "image", flags, 0644);
		if (c->fds[i] < 0)
			die("a shared image");
	}
	if (ftruncate(c->fds[0], (off_t)(LINKS * c->len)) < 0)
		die("a shared image's size");
	for (size_t i = 0; i < LINKS; i++)
		pthread_mutex_init(&c->lock[i], NULL);
}

static void chain_init(struct worker *w)
{
	struct chain **c = &chains[is_chain(w)];

	if (w->index == 0) {
		*c = xalloc(sizeof(**c));
		chain_make(w, *c);
	}
	w->model = xalloc_aligned(2 * LINK_MAX);
}

static void chain_read(struct worker *w, struct chain *c, size_t i)
{
	unsigned char *got = w->model, *want = got + LINK_MAX;
	off_t off = (off_t)(i * c->len);
	long r = OP(w, pread(c->fds[w->index], got, c->len, off));

	if (!expect_len(w, r, c->len, "read", off))
		return;
	stamp(want, c->len, 1, i, c->version[i]);
	same_bytes(w, got, want, c->len, off);
}

static void chain_write(struct worker *w, struct chain *c, size_t i)
{
	unsigned char *buf = w->model;
	off_t off = (off_t)(i * c->len);

	stamp(buf, c->len, 1, i, ++c->version[i]);
	expect_len(w, OP(w, pwrite(c->fds[w->index], buf, c->len, off)), c->len, "write",
		   off);
}

static void chain_step(struct worker *w)
{
	struct chain *c = chains[is_chain(w)];
	size_t i = below(w, 4) ? below(w, HOT) : below(w, LINKS);
	uint64_t what = below(w, 8);

	pthread_mutex_lock(&c->lock[i]);
	if (what < 6)
		chain_write(w, c, i);
	if (what >= 4)
		chain_read(w, c, i);
	pthread_mutex_unlock(&c->lock[i]);
	if (what == 0 && below(w, 40) == 0)
		expect(w, OP(w, fdatasync(c->fds[w->index])), 0, "fdatasync");
}

static void chain_finish(struct worker *w, FILE *manifest)
{
	struct chain *c = chains[is_chain(w)];
	struct manifest_entry e = {.type = 'f', .mode = 0644, .nlink = 1};

	for (size_t i = 0; i < LINKS && w->index == 0; i++) {
		chain_read(w, c, i);
		e.hash = hash_bytes(e.hash, (char *)w->model + LINK_MAX, c->len);
	}
	expect(w, OP(w, close(c->fds[w->index])), 0, "last close");
	e.size = (off_t)(LINKS * c->len);
	if (w->index == 0)
		manifest_add(manifest, &e, "%s/image", w->name);
}

const struct kind kind_chain = {"chain", 4, chain_init, chain_step, chain_finish};
const struct kind kind_weave = {"weave", 3, chain_init, chain_step, chain_finish};

/* --- append --- */

enum { WRITERS = 3, RECORD_MAX = 700, LOG_MAX = 1 << 20, LOG_SLACK = 1 << 16 };

struct record {
	uint32_t magic;
	uint16_t writer, len;
	uint64_t seq;
	unsigned char body[RECORD_MAX];
};

enum { RECORD_HEAD = offsetof(struct record, body), RECORD_MAGIC = 0x52434654 };

static struct log {
	int fds[WRITERS], reader;
	pthread_rwlock_t lock; /* shared: appending */
	uint64_t seq[WRITERS];
	_Atomic size_t size;
	unsigned char *buf;
} log_;

static void append_init(struct worker *w)
{
	int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;

	if (w->index != 0)
		return;
	pthread_rwlock_init(&log_.lock, NULL);
	log_.buf = xalloc(LOG_MAX + LOG_SLACK);
	for (size_t i = 0; i < WRITERS; i++) {
		log_.fds[i] = openat(w->dir, "log", flags, 0644);
		if (log_.fds[i] < 0)
			die("a log");
	}
	log_.reader = openat(w->dir, "log", O_RDWR | O_CLOEXEC);
	if (log_.reader < 0)
		die("a log");
}

static void append_body(const struct record *r, unsigned char *body)
{
	stamp(body, r->len, 77, r->writer, r->seq + 1);
}

static void append_one(struct worker *w)
{
	struct record r = {.magic = RECORD_MAGIC, .writer = (uint16_t)w->index};
	size_t len;

	r.len = (uint16_t)below(w, RECORD_MAX);
	r.seq = log_.seq[w->index]++;
	append_body(&r, r.body);
	len = RECORD_HEAD + r.len;
	expect_len(w, OP(w, write(log_.fds[w->index], &r, len)), len, "append",
		   (off_t)log_.size);
	log_.size += len;
}

/* The record at p is the next one of its writer. */
static bool record_good(const unsigned char *p, size_t left, uint64_t *next, size_t *len)
{
	struct record r;
	unsigned char body[RECORD_MAX];

	if (left < RECORD_HEAD)
		return false;
	memcpy(&r, p, left < sizeof(r) ? left : sizeof(r));
	if (r.magic != RECORD_MAGIC || r.writer >= WRITERS || r.len >= RECORD_MAX ||
	    RECORD_HEAD + (size_t)r.len > left || r.seq != next[r.writer])
		return false;
	append_body(&r, body);
	if (memcmp(body, r.body, r.len) != 0)
		return false;
	next[r.writer]++;
	*len = RECORD_HEAD + r.len;
	return true;
}

static void append_verify(struct worker *w)
{
	uint64_t next[WRITERS] = {0};
	size_t pos = 0, len;
	long r;

	posix_fadvise(log_.reader, 0, 0, POSIX_FADV_DONTNEED);
	r = OP(w, pread(log_.reader, log_.buf, LOG_MAX + LOG_SLACK, 0));
	if (r < 0) {
		failed(w, "read of the log");
		return;
	}
	while (record_good(log_.buf + pos, (size_t)r - pos, next, &len))
		pos += len;
	if (pos == log_.size && r == (long)pos &&
	    memcmp(next, log_.seq, sizeof(next)) == 0)
		return;
	wrong_meta(w, "the log is good up to %zu of %zu, has %ld", pos, (size_t)log_.size,
		   r);
	log_.size = LOG_MAX; /* begin anew */
}

static void append_check(struct worker *w)
{
	append_verify(w);
	if (log_.size < LOG_MAX / 2)
		return;
	if (!expect(w, OP(w, ftruncate(log_.reader, 0)), 0, "truncating the log"))
		return;
	log_.size = 0;
	memset(log_.seq, 0, sizeof(log_.seq));
}

static void append_step(struct worker *w)
{
	if (below(w, 300) == 0 || log_.size >= LOG_MAX) {
		pthread_rwlock_wrlock(&log_.lock);
		append_check(w);
		pthread_rwlock_unlock(&log_.lock);
		return;
	}
	pthread_rwlock_rdlock(&log_.lock);
	append_one(w);
	pthread_rwlock_unlock(&log_.lock);
	if (below(w, 100) == 0)
		expect(w, OP(w, fsync(log_.fds[w->index])), 0, "fsync of the log");
}

/* Whose record came first is not known, so the hash is of what was read and found good. */
static void append_finish(struct worker *w, FILE *manifest)
{
	struct manifest_entry e = {.type = 'f', .mode = 0644, .nlink = 1};

	expect(w, OP(w, close(log_.fds[w->index])), 0, "last close");
	if (w->index != 0)
		return;
	append_verify(w);
	expect(w, OP(w, close(log_.reader)), 0, "last close");
	e.size = (off_t)log_.size;
	e.hash = hash_bytes(0, log_.buf, log_.size);
	manifest_add(manifest, &e, "%s/log", w->name);
}

const struct kind kind_append = {"append", WRITERS, append_init, append_step,
				 append_finish};
