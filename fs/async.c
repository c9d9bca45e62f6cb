/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/async.h"

#include <errno.h>
#include <linux/fuse.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "fs/aio.h"
#include "fs/lifesign.h"
#include "fs/takeover.h"
#include "util/clock.h"
#include "util/crashpoint.h"
#include "util/log.h"

enum { WORDS = SESSION_ASYNC_MAX / 64 };
_Static_assert(SESSION_ASYNC_MAX % 64 == 0, "whole words of free bits");

/* What a record of the session needs besides. Whoever has taken it owns all of it. */
struct slot {
	struct aio_op op; /* first: the completers get its address */
	struct image_transfer t;
	struct image_entry *e;
	uint64_t began_ns;
	struct session_async *record;
	unsigned char *req, *buf;
};

struct async {
	struct server *sv;
	struct aio *aio;
	struct slot slots[SESSION_ASYNC_MAX];
	_Atomic uint64_t free[WORDS];
	struct worker completers[SESSION_COMPLETERS];
	_Atomic bool open; /* the memory is locked */
};

unsigned char *async_request(const struct session *s, unsigned int i)
{
	return session_async_buffer(s, i) + SESSION_PAGE_LEN - SESSION_REQ_HEAD_LEN;
}

/*
 * Records
 */

static struct slot *take(struct async *a)
{
	for (unsigned int i = 0; i < WORDS; i++) {
		uint64_t bits = a->free[i];

		while (bits) {
			uint64_t one = bits & -bits;

			bits = atomic_fetch_and(&a->free[i], ~one);
			if (bits & one)
				return &a->slots[i * 64 + (unsigned)__builtin_ctzll(one)];
		}
	}
	return NULL;
}

static void give(struct async *a, struct slot *s)
{
	unsigned int i = (unsigned int)(s - a->slots);

	atomic_fetch_or(&a->free[i / 64], 1ull << (i % 64));
}

static bool all_free(const struct async *a)
{
	for (unsigned int i = 0; i < WORDS; i++) {
		if (~a->free[i])
			return false;
	}
	return true;
}

/* From here on a successor finds the request, wherever else it may lie as well. */
static void publish(struct slot *s, const struct worker *w)
{
	const struct fuse_in_header *in = (const void *)w->req;

	memcpy(s->req, w->req, in->len);
	s->record->len = in->len;
	s->record->faults = w->slot->faults;
	atomic_store_explicit(&s->record->began_ms, clock_coarse_ms(),
			      memory_order_relaxed);
	atomic_store_explicit(&s->record->unique, in->unique, memory_order_release);
	CRASHPOINT("async-published");
}

static void withdraw(struct slot *s)
{
	atomic_store_explicit(&s->record->unique, 0, memory_order_release);
}

bool async_has(const struct server *sv, uint64_t unique)
{
	for (unsigned int i = 0; sv->async && i < SESSION_ASYNC_MAX; i++) {
		if (sv->session->async[i].unique == unique)
			return true;
	}
	return false;
}

/*
 * Workers
 */

/* Not who only has to write its answer: what comes next may already be the answer's. */
static bool others_are_under_way(const struct async *a, const struct worker *w)
{
	if (!all_free(a))
		return true;
	for (unsigned int i = 0; i < a->sv->worker_cnt; i++) {
		const struct worker *other = &a->sv->workers[i];

		if (other != w && other->unique && !other->answering)
			return true;
	}
	return false;
}

/*
 * A record for w's request, if it should not stay with w. One that was parked stays with its executor,
 * which may still be at work when async_stop() has waited for the last transfer.
 */
static struct slot *take_for(const struct worker *w, const struct image_file *f,
			     size_t len)
{
	struct async *a = w->resumed ? NULL : w->sv->async;

	if (!a || !a->open || f->direct_fd < 0 || len > SESSION_ASYNC_IO ||
	    ((const struct fuse_in_header *)(const void *)w->req)->len >
		    SESSION_REQ_HEAD_LEN + SESSION_ASYNC_IO ||
	    !others_are_under_way(a, w))
		return NULL;
	return take(a);
}

/* The sectors are locked, or err. */
static bool start(struct worker *w, struct slot *s, struct image_entry *e,
		  uint64_t began_ns, vcf_err_t err)
{
	struct async *a = w->sv->async;

	if (!err) {
		s->e = e;
		s->began_ns = began_ns;
		publish(s, w);
		err = aio_start(a->aio, &s->op, s->t.fd, s->buf, s->t.len, s->t.coff,
				s->t.write);
		CRASHPOINT("async-started");
		if (!err)
			return true;
		withdraw(s);
		image_end(&s->t);
	}
	give(a, s);
	return false;
}

bool async_read(struct worker *w, struct image_entry *e, const struct image_file *f,
		size_t len, uint64_t poff, uint64_t began_ns)
{
	struct slot *s = take_for(w, f, len);

	return s && start(w, s, e, began_ns,
			  image_begin_read(e->image, f, &w->io, len, poff, &s->t));
}

bool async_write(struct worker *w, struct image_entry *e, const struct image_file *f,
		 const void *src, size_t len, uint64_t poff, uint64_t began_ns)
{
	struct slot *s = take_for(w, f, len);

	return s && start(w, s, e, began_ns,
			  image_begin_write(e->image, f, &w->io, src, len, poff, s->buf,
					    &s->t));
}

/*
 * Completers
 */

/* A short or refused transfer is done again as a whole, by this thread. */
static vcf_err_t settle(struct worker *w, struct slot *s)
{
	vcf_err_t err = 0;

	if (s->op.res != (ssize_t)s->t.len)
		err = image_transfer_now(&s->t, s->buf);
	CRASHPOINT("async-transferred");
	if (!err && !s->t.write)
		err = image_decrypt(&s->t, &w->io, s->buf);
	image_end(&s->t);
	return err;
}

static void account(const struct worker *w, const struct slot *s, vcf_err_t err)
{
	const struct image_transfer *t = &s->t;
	enum iostat_way way = t->write ? IOSTAT_WRITE : IOSTAT_READ;
	struct iostat *image = &s->e->io[way], *own = &w->slot->io[way];

	if (!err) {
		iostat_done(image, own, clock_now_ns() - s->began_ns, t->len);
		return;
	}
	iostat_failed(image, own);
	log_err("%s: %s of %zu bytes at %llu: %s", s->e->path,
		t->write ? "write" : "read", t->len, (unsigned long long)t->poff,
		strerror(-err));
}

static void finish(struct worker *w, struct slot *s)
{
	uint64_t unique = s->record->unique;
	struct fuse_write_out out = {.size = (uint32_t)s->t.len};
	vcf_err_t err;

	w->async = s->record;
	atomic_store_explicit(&w->slot->began_ms, clock_coarse_ms(),
			      memory_order_relaxed);
	atomic_store_explicit(&w->slot->busy, unique, memory_order_release);
	err = settle(w, s);
	account(w, s, err);
	if (s->t.write)
		server_reply(w->sv, unique, err, &out, err ? 0 : sizeof(out));
	else
		server_reply(w->sv, unique, err, s->buf, err ? 0 : s->t.len);
	CRASHPOINT("async-answered");
	w->async = NULL;
	w->sv->session->head->async_done++;
	withdraw(s);
	atomic_store_explicit(&w->slot->busy, 0, memory_order_release);
	give(w->sv->async, s);
}

static bool lock_memory(const struct session *s)
{
	void *at = session_async_buffer(s, 0);
	size_t len = (size_t)SESSION_ASYNC_MAX * SESSION_ASYNC_LEN;
	bool locked = mlock(at, len) == 0;

	/* Also where mlock(2) does nothing (the sanitizers' does). */
	return locked && madvise(at, len, MADV_POPULATE_WRITE) == 0;
}

/* Guests' bytes that nobody would lock or wipe. */
static void drop_memory(const struct session *s)
{
	void *at = session_async_buffer(s, 0);
	size_t len = (size_t)SESSION_ASYNC_MAX * SESSION_ASYNC_LEN;

	explicit_bzero(at, len);
	if (madvise(at, len, MADV_REMOVE) < 0)
		log_dbg("buffers of asynchronous transfers: %s", strerror(errno));
}

static void *complete(void *arg)
{
	struct worker *w = arg;
	struct async *a = w->sv->async;
	struct aio_op *ops[32];
	int n;

	current_worker = w;
	w->slot->tid = (int32_t)gettid();
	server_guard_thread();
	if (w == a->completers) {
		a->open = lock_memory(w->sv->session);
		if (!a->open) {
			drop_memory(w->sv->session);
			log_info(
				"no asynchronous transfers: their memory cannot be "
				"locked; raise RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK=)");
		}
	}
	while ((n = aio_wait(a->aio, ops, 32)) >= 0 || n == -EINTR) {
		for (int i = 0; i < n; i++)
			finish(w, (struct slot *)(void *)ops[i]);
		worker_forget_keys(w);
	}
	w->running = false;
	return NULL;
}

void async_forget_key(struct server *sv)
{
	for (unsigned int i = 0; sv->async && i < SESSION_COMPLETERS; i++) {
		struct worker *w = &sv->async->completers[i];

		if (w->started && w->running && !w->slot->busy)
			pthread_kill(w->thread, SIGUSR1);
	}
}

/*
 * Life
 */

static bool is_of_use(const struct server *sv)
{
	struct statfs fs;

	/* A transfer without its thread would need a lock without one (nodelock.h). */
	return sv->cfg->asynchronous && !sv->cfg->shared &&
	       sv->session->head->fds[SESSION_FD_LIFE] >= 0 &&
	       fstatfs(sv->rootfd, &fs) == 0 && fs.f_type != TMPFS_MAGIC;
}

static vcf_err_t start_completer(struct async *a, unsigned int i)
{
	struct worker *w = &a->completers[i];
	vcf_err_t err;

	w->sv = a->sv;
	w->slot = &a->sv->session->slots[SESSION_COMPLETER_SLOT + i];
	err = xts_new(&w->io.xts);
	if (err)
		return err;
	w->running = true;
	err = -pthread_create(&w->thread, NULL, complete, w);
	w->started = !err;
	return err;
}

static vcf_err_t open_async(struct async *a)
{
	struct session *s = a->sv->session;
	vcf_err_t err = lifesign_hold(s->head->fds[SESSION_FD_LIFE]);

	if (!err)
		err = aio_new(&a->aio, SESSION_ASYNC_MAX);
	for (unsigned int i = 0; i < SESSION_ASYNC_MAX; i++) {
		a->slots[i].record = &s->async[i];
		a->slots[i].req = async_request(s, i);
		a->slots[i].buf =
			session_async_buffer(s, i) + SESSION_PAGE_LEN + SESSION_ASYNC_IO;
	}
	for (unsigned int i = 0; i < WORDS; i++)
		a->free[i] = ~0ull;
	for (unsigned int i = 0; !err && i < SESSION_COMPLETERS; i++)
		err = start_completer(a, i);
	return err;
}

/* What a dead server's completers were doing. */
static void forget_earlier(const struct session *s)
{
	for (unsigned int i = 0; i < SESSION_COMPLETERS; i++) {
		s->slots[SESSION_COMPLETER_SLOT + i].tid = 0;
		s->slots[SESSION_COMPLETER_SLOT + i].busy = 0;
	}
}

void async_start(struct server *sv)
{
	vcf_err_t err;

	forget_earlier(sv->session);
	if (is_of_use(sv))
		sv->async = calloc(1, sizeof(*sv->async));
	if (!sv->async) {
		if (sv->session->head->generation > 1)
			drop_memory(sv->session);
		return;
	}
	sv->async->sv = sv;
	err = open_async(sv->async);
	if (!err)
		return;
	log_info("no asynchronous transfers: %s", strerror(-err));
	async_stop(sv);
}

static void drain(const struct async *a)
{
	const struct timespec pause = {.tv_nsec = 1000 * 1000};

	while (!all_free(a))
		nanosleep(&pause, NULL);
}

void async_stop(struct server *sv)
{
	struct async *a = sv->async;

	if (!a)
		return;
	drain(a);
	if (a->aio)
		aio_stop(a->aio);
	for (unsigned int i = 0; i < SESSION_COMPLETERS; i++) {
		struct worker *w = &a->completers[i];

		if (w->started)
			pthread_join(w->thread, NULL);
		w->started = false;
		if (w->io.xts)
			xts_free(STEAL_PTR(&w->io.xts));
	}
	if (a->aio)
		aio_free(STEAL_PTR(&a->aio));
	a->open = false;
	drop_memory(sv->session);
}

void async_free(struct server *sv)
{
	/* Once stopped, its memory is given back: not to be faulted in to be wiped again. */
	if (sv->async && sv->async->aio)
		async_stop(sv);
	free(STEAL_PTR(&sv->async));
}
