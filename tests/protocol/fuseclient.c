/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The connection: sending, the reader thread, matching. The messages are in fusemsg.c. */
#include "tests/protocol/fuseclient.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HASH_CNT = 1024, OUT_MAX = 2 * 1024 * 1024, INVALS_MAX = 256 };

struct fc_call {
	struct fc *c;
	struct fc_call *next; /* (l) hash chain */
	uint64_t unique;
	bool done, ended; /* (l) answered; the connection is gone */
	int err;
	size_t len;
	unsigned char *data;
};

struct fc {
	int fd;
	pthread_t reader;
	pthread_mutex_t send_lock;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct fc_call *hash[HASH_CNT]; /* (l) */
	uint64_t next_unique;		/* (l) */
	unsigned int strays, answers;	/* (l) */
	bool ended;			/* (l) */
	_Atomic uint32_t pid;		/* of the caller, as requests name it */
	uint64_t inval[INVALS_MAX];	/* (l) */
	unsigned int inval_cnt;		/* (l) */
};

static bool read_all(int fd, void *buf, size_t len)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = read(fd, (char *)buf + have, len - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		have += (size_t)n;
	}
	return true;
}

static void take_notification(struct fc *c, const struct fuse_out_header *out,
			      const void *body)
{
	const struct fuse_notify_inval_inode_out *inval = body;

	if (out->error == FUSE_NOTIFY_INVAL_INODE && c->inval_cnt < INVALS_MAX)
		c->inval[c->inval_cnt++] = inval->ino;
}

static struct fc_call **find(struct fc *c, uint64_t unique)
{
	struct fc_call **link = &c->hash[unique / 2 % HASH_CNT];

	while (*link && (*link)->unique != unique)
		link = &(*link)->next;
	return link;
}

/* The answer's body passes to its call; false if nobody waits for it. */
static bool take_answer(struct fc *c, const struct fuse_out_header *out, void *body)
{
	struct fc_call *call = *find(c, out->unique);

	if (out->unique & 1) /* to fc_interrupt() */
		return false;
	c->answers++;
	if (!call || call->done) {
		fprintf(stderr, "stray answer: unique %llu, error %d%s\n",
			(unsigned long long)out->unique, out->error,
			call ? ", a second one" : "");
		c->strays++;
		return false;
	}
	call->err = out->error;
	call->len = out->len - sizeof(*out);
	call->data = body;
	call->done = true;
	return true;
}

static void *reader(void *arg)
{
	struct fc *c = arg;
	struct fuse_out_header out;

	while (read_all(c->fd, &out, sizeof(out))) {
		unsigned char *body;
		bool taken = false;

		if (out.len < sizeof(out) || out.len > OUT_MAX)
			abort();
		body = malloc(out.len - sizeof(out) + 1);
		if (!body || !read_all(c->fd, body, out.len - sizeof(out))) {
			free(body);
			break;
		}
		pthread_mutex_lock(&c->lock);
		if (out.unique)
			taken = take_answer(c, &out, body);
		else
			take_notification(c, &out, body);
		pthread_cond_broadcast(&c->cond);
		pthread_mutex_unlock(&c->lock);
		if (!taken)
			free(body);
	}
	pthread_mutex_lock(&c->lock);
	c->ended = true;
	pthread_cond_broadcast(&c->cond);
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

struct fc *fc_new(int fd)
{
	struct fc *c = calloc(1, sizeof(*c));
	pthread_condattr_t attr;

	if (!c)
		abort();
	c->fd = fd;
	c->next_unique = 2;
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_init(&c->send_lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->cond, &attr);
	pthread_condattr_destroy(&attr);
	if (pthread_create(&c->reader, NULL, reader, c))
		abort();
	return c;
}

void fc_close(struct fc *c)
{
	shutdown(c->fd, SHUT_RDWR);
}

void fc_free(struct fc *c)
{
	fc_close(c);
	pthread_join(c->reader, NULL);
	close(c->fd);
	for (size_t i = 0; i < HASH_CNT; i++) {
		while (c->hash[i])
			fc_drop(c->hash[i]);
	}
	pthread_mutex_destroy(&c->lock);
	pthread_mutex_destroy(&c->send_lock);
	pthread_cond_destroy(&c->cond);
	free(c);
}

uint64_t fc_next_unique(struct fc *c)
{
	uint64_t unique;

	pthread_mutex_lock(&c->lock);
	unique = c->next_unique;
	c->next_unique += 2;
	pthread_mutex_unlock(&c->lock);
	return unique;
}

static void send_all(struct fc *c, const void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n =
			send(c->fd, (const char *)buf + done, len - done, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return; /* the peer is gone: no answer will come */
		done += (size_t)n;
	}
}

void fc_send_raw(struct fc *c, const void *bytes, size_t len)
{
	pthread_mutex_lock(&c->send_lock);
	send_all(c, bytes, len);
	pthread_mutex_unlock(&c->send_lock);
}

void fc_set_pid(struct fc *c, uint32_t pid)
{
	c->pid = pid;
}

static void send_msg(struct fc *c, const struct fc_msg *m, uint64_t unique)
{
	struct fuse_in_header in = {
		.len = sizeof(in),
		.opcode = m->opcode,
		.unique = unique,
		.nodeid = m->nodeid,
		.uid = getuid(),
		.gid = getgid(),
		.pid = c->pid, /* 0: of a process that the server cannot see */
	};

	for (int i = 0; i < m->cnt; i++)
		in.len += (uint32_t)m->part[i].iov_len;
	pthread_mutex_lock(&c->send_lock);
	send_all(c, &in, sizeof(in));
	for (int i = 0; i < m->cnt; i++)
		send_all(c, m->part[i].iov_base, m->part[i].iov_len);
	pthread_mutex_unlock(&c->send_lock);
}

struct fc_call *fc_expect(struct fc *c)
{
	struct fc_call *call = calloc(1, sizeof(*call));

	if (!call)
		abort();
	call->c = c;
	call->unique = fc_next_unique(c);
	pthread_mutex_lock(&c->lock);
	*find(c, call->unique) = call;
	pthread_mutex_unlock(&c->lock);
	return call;
}

struct fc_call *fc_send(struct fc *c, const struct fc_msg *m)
{
	struct fc_call *call = fc_expect(c);

	send_msg(c, m, call->unique);
	return call;
}

void fc_resend(struct fc_call *call, const struct fc_msg *m)
{
	struct fc *c = call->c;

	pthread_mutex_lock(&c->lock);
	*find(c, call->unique) = call->next;
	call->next = NULL;
	call->unique |= 1ull << 63;
	*find(c, call->unique) = call;
	pthread_mutex_unlock(&c->lock);
	send_msg(c, m, call->unique);
}

uint64_t fc_post(struct fc *c, const struct fc_msg *m)
{
	uint64_t unique = fc_next_unique(c);

	send_msg(c, m, unique);
	return unique;
}

void fc_interrupt(struct fc *c, uint64_t unique)
{
	struct fc_msg m;

	fc_msg_interrupt(&m, unique);
	send_msg(c, &m, unique | 1);
}

static struct timespec deadline(int ms)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_sec += ms / 1000;
	ts.tv_nsec += ms % 1000 * 1000000L;
	if (ts.tv_nsec >= 1000000000L) {
		ts.tv_sec++;
		ts.tv_nsec -= 1000000000L;
	}
	return ts;
}

int fc_wait(struct fc_call *call, int ms)
{
	struct fc *c = call->c;
	struct timespec until = deadline(ms);
	int rc = 0;
	int err;

	pthread_mutex_lock(&c->lock);
	while (!call->done && !c->ended && !rc)
		rc = pthread_cond_timedwait(&c->cond, &c->lock, &until);
	err = call->done ? call->err : FC_NO_ANSWER;
	pthread_mutex_unlock(&c->lock);
	return err;
}

uint64_t fc_unique(const struct fc_call *call)
{
	return call->unique;
}

void fc_drop(struct fc_call *call)
{
	struct fc *c = call->c;

	pthread_mutex_lock(&c->lock);
	*find(c, call->unique) = call->next;
	pthread_mutex_unlock(&c->lock);
	free(call->data);
	free(call);
}

int fc_end(struct fc_call *call, void *out, size_t room, size_t *len)
{
	int err = fc_wait(call, FC_WAIT_MS);

	if (!err && out)
		memcpy(out, call->data, call->len < room ? call->len : room);
	if (len)
		*len = err ? 0 : call->len;
	fc_drop(call);
	return err;
}

int fc_do(struct fc *c, const struct fc_msg *m, void *out, size_t room, size_t *len)
{
	return fc_end(fc_send(c, m), out, room, len);
}

unsigned int fc_strays(struct fc *c)
{
	unsigned int n;

	pthread_mutex_lock(&c->lock);
	n = c->strays;
	pthread_mutex_unlock(&c->lock);
	return n;
}

unsigned int fc_answers(struct fc *c)
{
	unsigned int n;

	pthread_mutex_lock(&c->lock);
	n = c->answers;
	pthread_mutex_unlock(&c->lock);
	return n;
}

static bool have_inval(const struct fc *c, uint64_t nodeid)
{
	for (unsigned int i = 0; i < c->inval_cnt; i++) {
		if (c->inval[i] == nodeid)
			return true;
	}
	return false;
}

bool fc_wait_inval(struct fc *c, uint64_t nodeid, int ms)
{
	struct timespec until = deadline(ms);
	int rc = 0;
	bool have;

	pthread_mutex_lock(&c->lock);
	while (!(have = have_inval(c, nodeid)) && !rc)
		rc = pthread_cond_timedwait(&c->cond, &c->lock, &until);
	pthread_mutex_unlock(&c->lock);
	return have;
}
