/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/keyqueue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void keyqueue_init(struct keyqueue *q)
{
	memset(q, 0, sizeof(*q));
	mutex_init(&q->lock, RANK_KEYSERVICE);
}

void keyqueue_fini(struct keyqueue *q)
{
	mutex_fini(&q->lock);
}

static struct keyjob *find_same_locked(struct keyqueue *q, const struct keyjob *job)
{
	if (job->verb != KEY_GET)
		return NULL;
	for (struct keyjob *j = q->first; j; j = j->next) {
		if (j->verb == KEY_GET && strcmp(j->id, job->id) == 0)
			return j;
	}
	return NULL;
}

static void append_locked(struct keyqueue *q, struct keyjob *job)
{
	struct keyjob **at = &q->first;

	while (*at)
		at = &(*at)->next;
	*at = job;
}

static void unlink_locked(struct keyqueue *q, struct keyjob *job)
{
	struct keyjob **at = &q->first;

	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
}

static void enter_locked(struct keyqueue *q, struct keyjob *job, struct keywaiter *w)
{
	struct keyjob *same = find_same_locked(q, job);

	if (same) {
		keyjob_free(job);
		job = same;
	} else {
		append_locked(q, job);
	}
	w->next = job->waiters;
	job->waiters = w;
	if (job->deadline_ms < w->deadline_ms)
		job->deadline_ms = w->deadline_ms;
	q->waiting++;
	q->requests++;
}

vcf_err_t keyqueue_add(struct keyqueue *q, struct keyjob *job, keyservice_done_fn *done,
		       void *arg, uint64_t deadline_ms)
{
	auto_free struct keywaiter *w = calloc(1, sizeof(*w));
	SCOPED_LOCK(&q->lock);

	if (!w)
		return -ENOMEM;
	if (q->closed)
		return -ECANCELED;
	w->done = done;
	w->arg = arg;
	w->deadline_ms = deadline_ms;
	enter_locked(q, job, STEAL_PTR(&w));
	return 0;
}

struct keyjob *keyqueue_take(struct keyqueue *q, uint64_t now_ms)
{
	SCOPED_LOCK(&q->lock);

	for (struct keyjob *j = q->first; j; j = j->next) {
		if (j->busy || j->not_before_ms > now_ms)
			continue;
		j->busy = true;
		return j;
	}
	return NULL;
}

unsigned int keyqueue_ready(struct keyqueue *q, uint64_t now_ms)
{
	SCOPED_LOCK(&q->lock);
	unsigned int cnt = 0;

	for (struct keyjob *j = q->first; j; j = j->next)
		cnt += !j->busy && j->not_before_ms <= now_ms;
	return cnt;
}

void keyqueue_put_back(struct keyqueue *q, struct keyjob *job, uint64_t not_before_ms)
{
	SCOPED_LOCK(&q->lock);

	job->not_before_ms = not_before_ms;
	job->busy = false;
}

void keyqueue_release(struct keyqueue *q)
{
	SCOPED_LOCK(&q->lock);

	for (struct keyjob *j = q->first; j; j = j->next) {
		if (!j->retry_after_s)
			j->not_before_ms = 0;
	}
}

bool keyqueue_waiting(struct keyqueue *q)
{
	SCOPED_LOCK(&q->lock);

	return q->waiting > 0;
}

static void account(struct keyqueue *q, const struct keywaiter *list, bool failed)
{
	SCOPED_LOCK(&q->lock);

	for (; list; list = list->next) {
		q->waiting--;
		q->failures += failed;
	}
}

/* Calls and frees a list of waiters. */
static void tell(struct keyqueue *q, struct keywaiter *list,
		 const struct keyservice_result *res)
{
	account(q, list, res->err != 0);
	for (struct keywaiter *w = list, *next; w; w = next) {
		next = w->next;
		w->done(w->arg, res);
		free(w);
	}
}

static struct keywaiter *detach(struct keyqueue *q, struct keyjob *job)
{
	SCOPED_LOCK(&q->lock);

	unlink_locked(q, job);
	return STEAL_PTR(&job->waiters);
}

void keyqueue_finish(struct keyqueue *q, struct keyjob *job)
{
	struct keyservice_result res = {
		.err = job->err,
		.id = job->id,
		.text = job->err ? job->text : "",
		.secret = job->err ? NULL : job->result,
	};

	tell(q, detach(q, job), &res);
	keyjob_free(job);
}

/* Moves the waiters whose time is over to another list. */
static void split_waiters(struct keyjob *job, uint64_t now_ms, struct keywaiter **over)
{
	struct keywaiter **at = &job->waiters;

	while (*at) {
		struct keywaiter *w = *at;

		if (w->deadline_ms > now_ms) {
			at = &w->next;
			continue;
		}
		*at = w->next;
		w->next = *over;
		*over = w;
	}
}

/*
 * One job with waiters to tell, or an idle one without any, taken out of the list
 * (*gone). False if there is none.
 */
static bool next_expired(struct keyqueue *q, uint64_t now_ms, struct keyjob **job,
			 struct keywaiter **over, bool *gone)
{
	SCOPED_LOCK(&q->lock);

	for (struct keyjob *j = q->first; j; j = j->next) {
		split_waiters(j, now_ms, over);
		*gone = !j->busy && !j->waiters;
		if (*gone)
			unlink_locked(q, j);
		*job = j;
		if (*over || *gone)
			return true;
	}
	return false;
}

void keyqueue_expire(struct keyqueue *q, uint64_t now_ms, const char *reason)
{
	struct keywaiter *over = NULL;
	struct keyjob *job;
	bool gone;

	while (next_expired(q, now_ms, &job, &over, &gone)) {
		struct keyservice_result res = {
			.err = -ETIMEDOUT,
			.id = "",
			.text = *job->text ? job->text : reason,
		};

		tell(q, STEAL_PTR(&over), &res);
		if (gone)
			keyjob_free(job);
	}
}

void keyqueue_extend(struct keyqueue *q, struct keyjob *job, uint64_t deadline_ms)
{
	SCOPED_LOCK(&q->lock);

	if (job->deadline_ms < deadline_ms)
		job->deadline_ms = deadline_ms;
	for (struct keywaiter *w = job->waiters; w; w = w->next) {
		if (w->deadline_ms < deadline_ms)
			w->deadline_ms = deadline_ms;
	}
}

static uint64_t min_ms(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t keyqueue_next_ms(struct keyqueue *q, uint64_t now_ms)
{
	SCOPED_LOCK(&q->lock);
	uint64_t next = UINT64_MAX;

	for (struct keyjob *j = q->first; j; j = j->next) {
		if (!j->busy && j->not_before_ms > now_ms)
			next = min_ms(next, j->not_before_ms);
		for (struct keywaiter *w = j->waiters; w; w = w->next)
			next = min_ms(next, w->deadline_ms);
	}
	return next;
}

void keyqueue_close(struct keyqueue *q)
{
	SCOPED_LOCK(&q->lock);

	q->closed = true;
}

bool keyqueue_closed(struct keyqueue *q)
{
	SCOPED_LOCK(&q->lock);

	return q->closed;
}

static struct keyjob *first_job(struct keyqueue *q)
{
	SCOPED_LOCK(&q->lock);

	return q->first;
}

void keyqueue_cancel(struct keyqueue *q)
{
	struct keyjob *job;

	while ((job = first_job(q))) {
		job->err = -ECANCELED;
		keyqueue_finish(q, job);
	}
}
