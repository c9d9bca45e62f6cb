/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One mutex guards both queues, the list of parked requests and the byte budget. Executors are
 * workers like those of the request loop (own buffers, own cipher handle), so a request is
 * executed by the same code whether it waited or not.
 */
#include "fs/deferred.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/nodelock.h"
#include "fs/park.h"
#include "fs/proglock.h"
#include "fs/takeover.h"
#include "util/clock.h"
#include "util/crashpoint.h"
#include "util/io.h"
#include "util/log.h"

enum { RESEND_WAIT_MS = 1000 };

struct deferred {
	struct server *sv;
	struct mutex lock;
	pthread_cond_t cond;
	pthread_cond_t idle;		    /* an executor has nothing to do */
	bool stopping;			    /* (l) */
	bool ending;			    /* (l) the mount is: nobody will go on */
	unsigned int busy;		    /* (l) executors at work */
	struct job *jobs, **jobs_tail;	    /* (l) */
	struct parked *ready, **ready_tail; /* (l) */
	struct parked *parked;		    /* (l) all that wait */
	size_t parked_cnt;		    /* (l) incl. ready ones */
	struct park *park;		    /* (l) */
	bool left[SESSION_PARKED_MAX];	    /* records that an earlier process parked */
	bool held;			    /* (l) none is executed again */
	size_t awaited_cnt;		    /* (l) */
	uint64_t awaited_until; /* (l) clock_now_ms(), 0: nothing is awaited */
	void (*tick)(struct server *sv);
	time_t ticked; /* (l) */
	struct worker *workers;
	unsigned int worker_cnt;
};

vcf_err_t deferred_new(struct deferred **out, struct server *sv, unsigned int threads,
		       void (*tick)(struct server *sv))
{
	struct deferred *d = calloc(1, sizeof(*d));
	pthread_condattr_t attr;

	if (!d)
		return -ENOMEM;
	d->workers = calloc(threads, sizeof(*d->workers));
	if (!d->workers) {
		free(d);
		return -ENOMEM;
	}
	if (park_new(&d->park, sv->session)) {
		free(d->workers);
		free(d);
		return -ENOMEM;
	}
	for (int i = 0; i < SESSION_PARKED_MAX; i++)
		d->left[i] = sv->session->parked[i].unique != 0;
	d->sv = sv;
	d->worker_cnt = threads;
	d->tick = tick;
	d->jobs_tail = &d->jobs;
	d->ready_tail = &d->ready;
	mutex_init(&d->lock, RANK_DEFERRED);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&d->cond, &attr);
	pthread_cond_init(&d->idle, NULL);
	pthread_condattr_destroy(&attr);
	*out = d;
	return 0;
}

static void unlink_parked_locked(struct deferred *d, struct parked *p)
{
	if (p->list_prev)
		p->list_prev->list_next = p->list_next;
	else
		d->parked = p->list_next;
	if (p->list_next)
		p->list_next->list_prev = p->list_prev;
	d->parked_cnt--;
	if (p->awaited)
		d->awaited_cnt--;
}

static void free_parked(struct deferred *d, struct parked *p)
{
	park_wipe(d->park, p->record);
	mutex_lock(&d->lock);
	park_give(d->park, p->record);
	mutex_unlock(&d->lock);
	free(p);
}

/* Whoever takes over may find it in the slot and parked: both are the same request. */
static void execute_again(struct deferred *d, struct worker *w, struct parked *p)
{
	size_t len = p->record->len;

	CRASHPOINT("resume-begins");
	worker_put_request(w, park_data(d->park, p->record), p->record);
	w->resumed = p;
	CRASHPOINT("resume-both");
	park_wipe(d->park, p->record);
	CRASHPOINT("resume-wiped");
	server_execute(w, len);
	w->resumed = NULL;
	mutex_lock(&d->lock);
	park_give(d->park, p->record);
	mutex_unlock(&d->lock);
	free(p);
}

static void expect_none_locked(struct deferred *d)
{
	for (struct parked *p = d->parked; p; p = p->list_next)
		p->awaited = false;
	d->awaited_cnt = 0;
}

/* After FUSE_NOTIFY_RESEND: answers would go to uniques that the kernel has changed. */
static bool must_wait_locked(struct deferred *d)
{
	if (d->ending)
		return false;
	/* A server that makes room leaves them to the next one. */
	if (d->held || d->sv->stopping)
		return true;
	if (!d->awaited_until)
		return false;
	if (d->awaited_cnt && clock_now_ms() < d->awaited_until)
		return true;
	if (d->awaited_cnt)
		log_info("%zu parked requests were not sent again", d->awaited_cnt);
	expect_none_locked(d);
	d->awaited_until = 0;
	return false;
}

/* Takes the next piece of work; false when there is none for now. Returns with the lock held. */
static bool run_one_locked(struct deferred *d, struct worker *w)
{
	struct parked *p = must_wait_locked(d) ? NULL : d->ready;
	struct job *job = d->jobs;
	bool drop;

	if (p) {
		d->ready = p->next;
		if (!d->ready)
			d->ready_tail = &d->ready;
		unlink_parked_locked(d, p);
		drop = p->answered || d->ending;
		/* From here an interrupt finds it on this worker. */
		w->unique = drop ? 0 : p->unique;
		mutex_unlock(&d->lock);
		if (drop)
			free_parked(d, p);
		else
			execute_again(d, w, p);
	} else if (job) {
		d->jobs = job->next;
		if (!d->jobs)
			d->jobs_tail = &d->jobs;
		mutex_unlock(&d->lock);
		job->run(job);
	} else {
		return false;
	}
	mutex_lock(&d->lock);
	return true;
}

static bool tick_due_locked(struct deferred *d)
{
	time_t now = clock_now_s();

	if (!d->tick || now == d->ticked)
		return false;
	d->ticked = now;
	return true;
}

static void wait_locked(struct deferred *d)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += 1;
	if (d->awaited_until) { /* soon: each one that comes makes somebody look again */
		until.tv_sec -= 1;
		until.tv_nsec += 20 * 1000 * 1000;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
	}
	pthread_cond_timedwait(&d->cond, &d->lock.m, &until);
}

static void *executor(void *arg)
{
	struct worker *w = arg;
	struct deferred *d = w->sv->deferred;

	current_worker = w;
	w->slot->tid = (int32_t)gettid();
	w->slot->waits = 0;
	nodelock_set_mark(&w->slot->waits);
	server_guard_thread();
	if (!w->locked)
		worker_lock(w);
	mutex_lock(&d->lock);
	for (;;) {
		d->busy++;
		while (run_one_locked(d, w))
			;
		d->busy--;
		worker_forget_keys(w);
		pthread_cond_broadcast(&d->idle);
		if (d->stopping)
			break;
		if (tick_due_locked(d)) {
			mutex_unlock(&d->lock);
			d->tick(d->sv);
			mutex_lock(&d->lock);
			continue;
		}
		wait_locked(d);
	}
	mutex_unlock(&d->lock);
	return NULL;
}

vcf_err_t deferred_start(struct deferred *d)
{
	for (unsigned int i = 0; i < d->worker_cnt; i++) {
		struct worker *w = &d->workers[i];
		vcf_err_t err = worker_init(w, d->sv, SESSION_WORKERS_MAX + i);

		if (!err)
			err = -pthread_create(&w->thread, NULL, executor, w);
		if (err)
			return err;
		w->started = true;
	}
	return 0;
}

void deferred_quiesce(struct deferred *d)
{
	SCOPED_LOCK(&d->lock);

	d->ending = true;
	pthread_cond_broadcast(&d->cond);
	while (d->workers[0].started && (d->jobs || d->ready || d->busy))
		mutex_wait(&d->lock, &d->idle);
}

void deferred_stop(struct deferred *d)
{
	mutex_lock(&d->lock);
	d->stopping = true;
	pthread_cond_broadcast(&d->cond);
	mutex_unlock(&d->lock);
	for (unsigned int i = 0; i < d->worker_cnt; i++) {
		if (d->workers[i].started)
			pthread_join(d->workers[i].thread, NULL);
		d->workers[i].started = false;
	}
}

void deferred_free(struct deferred *d)
{
	deferred_stop(d);
	for (unsigned int i = 0; i < d->worker_cnt; i++)
		worker_fini(&d->workers[i]);
	while (d->parked) {
		struct parked *p = d->parked;

		unlink_parked_locked(d, p);
		free_parked(d, p);
	}
	park_free(d->park);
	pthread_cond_destroy(&d->cond);
	pthread_cond_destroy(&d->idle);
	mutex_fini(&d->lock);
	free(d->workers);
	free(d);
}

void deferred_post(struct deferred *d, struct job *job)
{
	SCOPED_LOCK(&d->lock);

	job->next = NULL;
	*d->jobs_tail = job;
	d->jobs_tail = &job->next;
	pthread_cond_signal(&d->cond);
}

static struct parked *describe(const struct worker *w)
{
	const struct fuse_in_header *in = (const void *)w->req;
	struct parked *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->unique = w->unique;
	p->pid = in->pid;
	return p;
}

static vcf_err_t take_room(struct deferred *d, size_t len, struct session_parked **out)
{
	SCOPED_LOCK(&d->lock);

	return park_take(d->park, len, out);
}

static void list_parked(struct deferred *d, struct worker *w, struct parked *p)
{
	SCOPED_LOCK(&d->lock);

	/*
	 * The next look at it is tick's. Whether one that was left had been interrupted nobody
	 * knows any more: its caller is looked at, if it can be seen.
	 */
	p->interrupted = w->interrupted == w->unique || (d->sv->taking_over && p->pid);
	p->list_next = d->parked;
	if (d->parked)
		d->parked->list_prev = p;
	d->parked = p;
	d->parked_cnt++;
}

vcf_err_t deferred_park(struct deferred *d, struct worker *w, struct parked **out)
{
	auto_free struct parked *p = describe(w);
	size_t len = ((const struct fuse_in_header *)(const void *)w->req)->len;
	vcf_err_t err;

	if (!p)
		return -ENOMEM;
	err = take_room(d, len, &p->record);
	if (err)
		return err;
	park_fill(d->park, p->record, w->req, p->unique, w->slot->faults,
		  w->slot->intent);
	list_parked(d, w, p);
	*out = STEAL_PTR(&p);
	return 0;
}

void deferred_expect_resent(struct deferred *d)
{
	SCOPED_LOCK(&d->lock);

	d->awaited_until = clock_now_ms() + RESEND_WAIT_MS;
	d->awaited_cnt = 0;
	for (struct parked *p = d->parked; p; p = p->list_next) {
		p->awaited = !p->answered;
		d->awaited_cnt += p->awaited;
	}
}

void deferred_resent_none(struct deferred *d)
{
	SCOPED_LOCK(&d->lock);

	expect_none_locked(d);
}

bool deferred_adopt(struct deferred *d, uint64_t unique)
{
	SCOPED_LOCK(&d->lock);
	struct parked *p = d->parked;

	while (p && (p->unique & ~SERVER_RESENT) != (unique & ~SERVER_RESENT))
		p = p->list_next;
	if (!p)
		return false;
	p->unique = unique;
	p->answered = false; /* under a unique that the kernel knew no more */
	atomic_store(&p->record->unique, unique);
	if (p->awaited)
		d->awaited_cnt--;
	p->awaited = false;
	pthread_cond_broadcast(&d->cond);
	return true;
}

void deferred_hold(struct deferred *d, bool held)
{
	SCOPED_LOCK(&d->lock);

	d->held = held;
	pthread_cond_broadcast(&d->cond);
}

void deferred_each_left(struct deferred *d,
			void (*fn)(void *arg, struct session_parked *r, const void *req),
			void *arg)
{
	struct session *s = d->sv->session;

	/* What fn, or another request meanwhile, parks is not among them. */
	for (int i = 0; i < SESSION_PARKED_MAX; i++) {
		if (d->left[i])
			fn(arg, &s->parked[i], park_data(d->park, &s->parked[i]));
	}
}

void deferred_drop_left(struct deferred *d, struct session_parked *r)
{
	d->left[r - d->sv->session->parked] = false;
	park_wipe(d->park, r);
	mutex_lock(&d->lock);
	park_give(d->park, r);
	mutex_unlock(&d->lock);
}

void deferred_resume(struct deferred *d, struct parked *p, vcf_err_t err)
{
	SCOPED_LOCK(&d->lock);

	p->err = err;
	p->next = NULL;
	*d->ready_tail = p;
	d->ready_tail = &p->next;
	pthread_cond_signal(&d->cond);
}

static bool note_interrupt(struct worker *workers, unsigned int cnt, uint64_t unique)
{
	for (unsigned int i = 0; i < cnt; i++) {
		if (workers[i].unique != unique)
			continue;
		workers[i].interrupted = unique;
		return true;
	}
	return false;
}

/* Not one that the kernel will say again: an answer to the unique that it had would be lost. */
static struct parked *find_parked_locked(struct deferred *d, uint64_t unique)
{
	struct parked *p = d->parked;

	while (p && (p->unique != unique || p->answered || p->awaited))
		p = p->list_next;
	return p;
}

/* SIGKILL is pending for the thread: any fatal signal ends like that. */
static bool is_dying(uint32_t pid)
{
	auto_close int fd = -1;
	char text[4096];
	const char *line;
	ssize_t n;

	if (!pid)
		return true; /* of a process that we cannot see */
	snprintf(text, sizeof(text), "/proc/%u/status", pid);
	fd = open(text, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : io_pread_full(fd, text, sizeof(text) - 1, 0);
	if (n < 0)
		return errno == ENOENT || errno == ESRCH;
	text[n] = '\0';
	line = strstr(text, "\nSigPnd:\t");
	return line && (strtoull(line + 9, NULL, 16) & 1ull << (SIGKILL - 1));
}

static void answer_if_dying(struct deferred *d, uint64_t unique, uint32_t pid)
{
	struct parked *p;

	if (!is_dying(pid))
		return;
	mutex_lock(&d->lock);
	p = find_parked_locked(d, unique);
	if (p)
		p->answered = true;
	mutex_unlock(&d->lock);
	if (p)
		server_reply(d->sv, unique, -EINTR, NULL, 0);
}

/*
 * A signal that the caller has a handler for does not end its wait: no program expects EINTR from
 * opening a file. One that kills it does. The kernel tells of the first signal only, so a request
 * with one is looked at again every second.
 */
bool deferred_interrupt(struct deferred *d, uint64_t unique)
{
	uint32_t pid = 0;
	struct parked *p;
	bool noted = false;

	if (d->sv->proglocks && proglock_interrupt(d->sv->proglocks, unique))
		return true;
	mutex_lock(&d->lock);
	p = find_parked_locked(d, unique);
	if (p) {
		p->interrupted = true;
		pid = p->pid;
	} else { /* on its way to be parked? */
		noted = note_interrupt(d->sv->workers, d->sv->worker_cnt, unique) ||
			note_interrupt(d->workers, d->worker_cnt, unique);
	}
	mutex_unlock(&d->lock);
	if (p)
		answer_if_dying(d, unique, pid);
	return p || noted;
}

bool deferred_was_interrupted(struct deferred *d, const struct parked *p)
{
	SCOPED_LOCK(&d->lock);

	return p->interrupted;
}

/* A few at a time; the others have their turn a second later. */
void deferred_tick(struct deferred *d)
{
	struct {
		uint64_t unique;
		uint32_t pid;
	} look[64];
	size_t cnt = 0;

	mutex_lock(&d->lock);
	for (struct parked *p = d->parked; p && cnt < 64; p = p->list_next) {
		if (!p->interrupted || p->answered)
			continue;
		look[cnt].unique = p->unique;
		look[cnt++].pid = p->pid;
	}
	mutex_unlock(&d->lock);
	for (size_t i = 0; i < cnt; i++)
		answer_if_dying(d, look[i].unique, look[i].pid);
}

size_t deferred_parked_cnt(struct deferred *d)
{
	SCOPED_LOCK(&d->lock);

	return d->parked_cnt;
}
