/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Workers: buffers and the request loop.
 *
 * The request buffer starts 80 bytes before a page boundary: fuse_in_header (40) and
 * fuse_write_in (40) lie before it, a WRITE's payload on it. Buffers are faulted in and locked:
 * when SIGKILL is pending, the kernel refuses the fault of a page that is not there and ends the
 * request with EIO. The header is zeroed before each read, so that a non-zero one means a whole
 * request, and after each answer. The buffers are the session's: a successor finds them.
 */
#include <errno.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "fs/async.h"
#include "fs/deferred.h"
#include "fs/nodelock.h"
#include "fs/ops.h"
#include "fs/reqcheck.h"
#include "fs/server.h"
#include "fs/takeover.h"
#include "fs/transfer.h"
#include "fs/turns.h"
#include "util/clock.h"
#include "util/crashpoint.h"
#include "util/log.h"
#include "util/rawio.h"
#include "util/tsan.h"

_Static_assert(sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in) ==
		       SESSION_REQ_HEAD_LEN,
	       "payload alignment");

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

_Thread_local struct worker *current_worker;

void worker_lock(struct worker *w)
{
	w->locked = mlock(w->map, SESSION_BUFFER_LEN) == 0;
	/* Also where mlock(2) may not, or does nothing (the sanitizers' does). */
	if (madvise(w->map, SESSION_BUFFER_LEN, MADV_POPULATE_WRITE) < 0)
		log_dbg("buffers: %s", strerror(errno));
}

vcf_err_t worker_init(struct worker *w, struct server *sv, unsigned int slot)
{
	w->sv = sv;
	w->slot = &sv->session->slots[slot];
	w->map = session_buffer(sv->session, slot);
	if (!sv->taking_over)
		worker_lock(w);
	w->req = w->map + SESSION_PAGE_LEN - SESSION_REQ_HEAD_LEN;
	w->req_len = SESSION_REQ_HEAD_LEN + SESSION_REQ_ROOM;
	w->io.buf = w->map + SESSION_PAGE_LEN + SESSION_REQ_ROOM;
	w->io.buf_len = SESSION_IO_ROOM;
	return xts_new(&w->io.xts);
}

void worker_fini(struct worker *w)
{
	if (w->io.xts)
		xts_free(w->io.xts);
	if (w->map) {
		explicit_bzero(w->map, SESSION_BUFFER_LEN);
		munlock(w->map, SESSION_BUFFER_LEN);
	}
	w->map = NULL;
}

/* What the slot says belongs to the request that it names: so the name goes first. */
static void forget_last(struct session_slot *s)
{
	atomic_store_explicit(&s->unique, 0, memory_order_release);
	atomic_signal_fence(memory_order_seq_cst);
	atomic_store_explicit(&s->faults, 0, memory_order_relaxed);
	atomic_store_explicit(&s->intent, 0, memory_order_relaxed);
	atomic_store_explicit(&s->intent_ns, 0, memory_order_relaxed);
	atomic_store_explicit(&s->forget_cnt, 0, memory_order_relaxed);
	atomic_store_explicit(&s->mark_cnt, 0, memory_order_relaxed);
	atomic_store_explicit(&s->fsync_err, 0, memory_order_relaxed);
	atomic_store_explicit(&s->handle, 0, memory_order_relaxed);
	atomic_store_explicit(&s->made_ino, 0, memory_order_relaxed);
	atomic_store_explicit(&s->gone_ino, 0, memory_order_relaxed);
	atomic_store_explicit(&s->append_at, 0, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
}

static void begin(struct worker *w, uint64_t unique)
{
	struct session_slot *s = w->slot;

	if (!SESSION_NOTES)
		return;
	if (s->unique != unique) {
		forget_last(s);
		atomic_store_explicit(&s->unique, unique, memory_order_release);
	}
	atomic_store_explicit(&s->began_ms, clock_coarse_ms(), memory_order_relaxed);
	atomic_store_explicit(&s->busy, unique, memory_order_release);
}

void worker_put_request(struct worker *w, const void *req, const struct session_parked *r)
{
	struct fuse_in_header *in = (void *)w->req;
	const size_t rest = offsetof(struct fuse_in_header, opcode);
	size_t len = r->len;

	forget_last(w->slot);
	w->slot->intent = r->intent;
	w->slot->faults = r->faults;
	w->slot->unique = r->unique;
	memcpy(w->req + rest, (const unsigned char *)req + rest, len - rest);
	in->unique = r->unique;
	CRASHPOINT("resume-copied");
	atomic_signal_fence(memory_order_seq_cst);
	in->len = (uint32_t)len;
}

void worker_drop_request(struct worker *w)
{
	struct fuse_in_header *in = (void *)w->req;

	in->len = 0;
	atomic_signal_fence(memory_order_seq_cst);
	memset(in, 0, sizeof(*in));
	atomic_signal_fence(memory_order_seq_cst);
	if (SESSION_NOTES)
		atomic_store_explicit(&w->slot->busy, 0, memory_order_release);
}

void server_execute(struct worker *w, size_t len)
{
	struct fuse_buf buf = {.mem = w->req, .size = len};
	const struct fuse_in_header *in = (const void *)w->req;

	w->open_flags = 0;
	w->answering = false;
	w->unique = in->unique;
	CRASHPOINT("request-read");
	begin(w, in->unique);
	CRASHPOINT("request-begun");
	if (transfer_is(w->sv, in->opcode))
		transfer_execute(w);
	else
		fuse_session_process_buf(w->sv->se, &buf);
	CRASHPOINT("request-done");
	w->unique = 0;
	worker_drop_request(w);
}

bool server_is_awaited(struct server *sv, uint64_t unique)
{
	/* FUSE_INT_REQ_BIT of the kernel: set in the unique of an interrupt. */
	const struct fuse_out_header out = {.len = sizeof(out), .unique = unique | 1};

	return sv->stream || write(sv->devfd, &out, sizeof(out)) >= 0 || errno != ENOENT;
}

void server_reply(struct server *sv, uint64_t unique, vcf_err_t err, void *data,
		  size_t len)
{
	struct fuse_out_header out = {
		.len = (uint32_t)(sizeof(out) + len), .error = err, .unique = unique};
	const struct iovec iov[] = {{&out, sizeof(out)}, {data, len}};

	/* ENOENT: the caller went away. */
	if (ops_send(sv, iov, len ? 2 : 1) < 0 && errno != ENOENT)
		log_dbg("reply: %s", strerror(errno));
}

static ssize_t read_some(int fd, void *buf, size_t len)
{
	ssize_t n = rawio_read(fd, buf, len);

	return n < 0 ? -errno : n;
}

/* A request from a stream: the header says how long it is. Returns 0 at the end. */
static ssize_t read_framed(struct server *sv, unsigned char *buf, size_t room)
{
	size_t have = 0;
	size_t want = sizeof(struct fuse_in_header);

	while (have < want) {
		ssize_t n = read_some(sv->devfd, buf + have, want - have);

		if (n == -EINTR && !sv->stopping)
			continue;
		if (n <= 0)
			return n;
		have += (size_t)n;
		if (have == sizeof(struct fuse_in_header))
			want = ((const struct fuse_in_header *)(const void *)buf)->len;
		if (want > room || want < sizeof(struct fuse_in_header))
			return -EPROTO;
	}
	return (ssize_t)have;
}

static ssize_t read_request(struct server *sv, struct worker *w)
{
	ssize_t n;

	memset(w->req, 0, sizeof(struct fuse_in_header));
	if (!sv->stream)
		return read_some(sv->devfd, w->req, w->req_len);
	pthread_mutex_lock(&sv->stream_in_lock);
	n = read_framed(sv, w->req, w->req_len);
	pthread_mutex_unlock(&sv->stream_in_lock);
	return n;
}

/* True if the connection goes on. */
static bool read_failed(struct server *sv, ssize_t n)
{
	if (n == -EINTR || n == -EAGAIN || n == -ENOENT) /* ENOENT: the caller gave up */
		return true;
	if (n < 0 && n != -ENODEV) {
		log_err("reading requests: %s", strerror((int)-n));
		sv->failed = true;
	}
	server_stop(sv);
	return false;
}

/*
 * EAGAIN asks the kernel to say it again, if the request is still its: another worker may have
 * read that one and not got to it yet.
 */
static void interrupt(struct server *sv, const struct worker *w)
{
	const struct fuse_in_header *in = (const void *)w->req;
	const struct fuse_interrupt_in *intr = (const void *)(in + 1);

	if (!deferred_interrupt(sv->deferred, intr->unique) &&
	    !async_has(sv, intr->unique))
		server_reply(sv, in->unique, -EAGAIN, NULL, 0);
}

/* What was asked to be sent again is mostly what waits for a key. */
static bool is_duplicate(struct server *sv, uint64_t unique)
{
	if (!(unique & SERVER_RESENT))
		return false;
	if (deferred_adopt(sv->deferred, unique))
		return true;
	sv->session->head->resent++;
	return false;
}

static void handle(struct server *sv, struct worker *w, size_t len)
{
	const struct fuse_in_header *in = (const void *)w->req;

	if (!reqcheck_sound(in, len)) {
		log_err("a malformed request (opcode %u, %zu bytes) is refused",
			in->opcode, len);
		if (len >= sizeof(*in) && reqcheck_answered(in))
			server_reply(sv, in->unique, -EINVAL, NULL, 0);
	} else if (in->opcode == FUSE_INTERRUPT) {
		interrupt(sv, w);
	} else if (!is_duplicate(sv, in->unique)) {
		server_execute(w, len);
	}
	worker_drop_request(w);
}

void worker_forget_keys(struct worker *w)
{
	uint64_t epoch = w->sv->key_epoch;

	if (w->epoch == epoch)
		return;
	w->epoch = epoch;
	xts_forget(
		w->io.xts); /* set anew at the next request, in less than a microsecond */
}

/* The signal ends a read(2) that waits; one that has a request already is not disturbed. */
void server_forget_key(struct server *sv)
{
	sv->key_epoch++;
	for (unsigned int i = 0; i < sv->worker_cnt; i++) {
		struct worker *w = &sv->workers[i];

		if (w->started && w->running && !w->unique)
			pthread_kill(w->thread, SIGUSR1);
	}
	async_forget_key(sv);
}

static void *request_loop(void *arg)
{
	struct worker *w = arg;
	struct server *sv = w->sv;

	current_worker = w;
	w->slot->tid = (int32_t)gettid();
	w->slot->waits = 0;
	nodelock_set_mark(&w->slot->waits);
	server_guard_thread();
	if (!w->locked)
		worker_lock(w);
	while (!sv->stopping) {
		ssize_t n;

		if (!turns_enter(w))
			break;
		worker_forget_keys(w);
		n = read_request(sv, w);
		turns_leave(w, n > 0);
		TSAN_ACQUIRE(&sv->devfd);
		if (n > 0)
			handle(sv, w, (size_t)n);
		else if (!read_failed(sv, n))
			break;
	}
	w->running = false;
	return NULL;
}

static vcf_err_t start_threads(struct server *sv)
{
	vcf_err_t err = turns_start(sv->turns);

	if (err)
		return err;
	for (unsigned int i = 0; i < sv->worker_cnt; i++) {
		struct worker *w = &sv->workers[i];
		int rc;

		w->running = true;
		rc = pthread_create(&w->thread, NULL, request_loop, w);
		if (rc) {
			w->running = false;
			return -rc;
		}
		w->started = true;
	}
	return 0;
}

vcf_err_t server_start(struct server *sv, void (*on_init)(void *), void *arg)
{
	bool again = sv->taking_over;
	vcf_err_t err = 0;

	sv->on_init = on_init;
	sv->on_init_arg = arg;
	if (again)
		err = takeover_replay(sv);
	if (err)
		return err;
	async_start(sv);
	err = start_threads(sv);
	if (!err && again && on_init)
		on_init(arg);
	return err;
}

void server_stop(struct server *sv)
{
	sv->stopping = true;
	sem_post(&sv->ending);
}

/*
 * True if some worker has not ended. Those that may be reading get a signal; one that has a request
 * looks at `stopping' after it, and a signal would end its fallocate(2) with EINTR.
 */
static bool wake_workers(struct server *sv)
{
	bool running = false;

	for (unsigned int i = 0; i < sv->worker_cnt; i++) {
		struct worker *w = &sv->workers[i];

		if (!w->started || !w->running)
			continue;
		running = true;
		if (!w->unique)
			pthread_kill(w->thread, SIGUSR1);
	}
	return running;
}

/*
 * A worker that blocks in read(2) sees `stopping` only after a signal, which may come just before
 * the call: so signal again until it has ended. All of them: on a stream one reads and the others
 * wait for it.
 */
void server_wait(struct server *sv)
{
	const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};

	while (!sv->stopping) {
		if (sem_wait(&sv->ending) < 0)
			continue; /* a signal */
	}
	while (wake_workers(sv))
		nanosleep(&pause, NULL);
	for (unsigned int i = 0; i < sv->worker_cnt; i++) {
		if (sv->workers[i].started)
			pthread_join(sv->workers[i].thread, NULL);
		sv->workers[i].started = false;
	}
	async_stop(sv);
	turns_stop(sv->turns);
}
