/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Workers: buffers and the request loop.
 *
 * The request buffer starts 80 bytes before a page boundary: fuse_in_header (40) and
 * fuse_write_in (40) lie before it, a WRITE's payload on it. Buffers are faulted in and locked:
 * when SIGKILL is pending, the kernel refuses the fault of a page that is not there and ends the
 * request with EIO. The header is zeroed before each read, so that a non-zero one means a whole
 * request.
 */
#include <errno.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "fs/deferred.h"
#include "fs/ops.h"
#include "fs/reqcheck.h"
#include "fs/server.h"
#include "util/log.h"

enum {
	PAGE_LEN = 4096,
	WRITE_HEADERS_LEN = sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in),
	REQ_ROOM = PAGE_LEN + SERVER_MAX_IO,
};
_Static_assert(WRITE_HEADERS_LEN == 80, "payload alignment");

_Thread_local struct worker *current_worker;

vcf_err_t worker_init(struct worker *w, struct server *sv)
{
	size_t io_len = IMAGE_WORKER_BUF(SERVER_MAX_IO);

	w->sv = sv;
	w->map_len = PAGE_LEN + REQ_ROOM + io_len;
	w->map = mmap(NULL, w->map_len, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (w->map == MAP_FAILED) {
		w->map = NULL;
		return -errno;
	}
	w->locked = mlock(w->map, w->map_len) == 0;
	madvise(w->map, w->map_len, MADV_DONTDUMP);
	w->req = (unsigned char *)w->map + PAGE_LEN - WRITE_HEADERS_LEN;
	w->req_len = WRITE_HEADERS_LEN + REQ_ROOM;
	w->io.buf = (unsigned char *)w->map + PAGE_LEN + REQ_ROOM;
	w->io.buf_len = io_len;
	return xts_new(&w->io.xts);
}

void worker_fini(struct worker *w)
{
	if (w->io.xts)
		xts_free(w->io.xts);
	if (w->map) {
		explicit_bzero(w->map, w->map_len);
		munmap(w->map, w->map_len);
	}
}

void server_execute(struct worker *w, size_t len)
{
	struct fuse_buf buf = {.mem = w->req, .size = len};
	const struct fuse_in_header *in = (const void *)w->req;

	w->open_flags = 0;
	w->unique = in->unique;
	fuse_session_process_buf(w->sv->se, &buf);
	w->unique = 0;
	memset(w->req, 0, sizeof(*in));
}

void server_reply_raw(struct server *sv, uint64_t unique, int err)
{
	struct fuse_out_header out = {.len = sizeof(out), .error = err, .unique = unique};
	struct iovec iov = {&out, sizeof(out)};

	if (ops_writev(sv->devfd, &iov, 1, sv) < 0 && errno != ENOENT)
		log_dbg("reply: %s", strerror(errno));
}

static ssize_t read_some(int fd, void *buf, size_t len)
{
	ssize_t n = read(fd, buf, len);

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

	if (!deferred_interrupt(sv->deferred, intr->unique))
		server_reply_raw(sv, in->unique, -EAGAIN);
}

static void handle(struct server *sv, struct worker *w, size_t len)
{
	const struct fuse_in_header *in = (const void *)w->req;

	if (!reqcheck_sound(in, len)) {
		log_err("a malformed request (opcode %u, %zu bytes) is refused",
			in->opcode, len);
		if (len >= sizeof(*in) && reqcheck_answered(in))
			server_reply_raw(sv, in->unique, -EINVAL);
	} else if (in->opcode == FUSE_INTERRUPT) {
		interrupt(sv, w);
	} else {
		server_execute(w, len);
	}
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
}

static void *request_loop(void *arg)
{
	struct worker *w = arg;
	struct server *sv = w->sv;

	current_worker = w;
	while (!sv->stopping) {
		ssize_t n;

		worker_forget_keys(w);
		n = read_request(sv, w);
		if (n > 0)
			handle(sv, w, (size_t)n);
		else if (!read_failed(sv, n))
			break;
	}
	w->running = false;
	return NULL;
}

vcf_err_t server_start(struct server *sv, void (*on_init)(void *), void *arg)
{
	sv->on_init = on_init;
	sv->on_init_arg = arg;
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

void server_stop(struct server *sv)
{
	sv->stopping = true;
	sem_post(&sv->ending);
}

/* True if some worker has not ended; those get a signal. */
static bool wake_workers(struct server *sv)
{
	bool running = false;

	for (unsigned int i = 0; i < sv->worker_cnt; i++) {
		struct worker *w = &sv->workers[i];

		if (!w->started || !w->running)
			continue;
		running = true;
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
}
