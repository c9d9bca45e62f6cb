/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Takers, ready secrets and the worker thread; reserve_item.h tells the whole.
 */
#include "crypto/reserve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/reserve_item.h"
#include "crypto/worker.h"
#include "util/clock.h"
#include "util/crashpoint.h"
#include "util/log.h"
#include "util/text.h"

static const struct reserve_timing default_timing = {
	.refuse_ms = 1000,
	.backoff_min_ms = 1000,
	.backoff_max_ms = 60 * 1000,
	.settle_ms = 5 * 60 * 1000,
};

/* The last thing its holder does: an unlock of r->lock still reads it. */
void reserve_unref(struct reserve *r)
{
	if (atomic_fetch_sub(&r->refs, 1) != 1)
		return;
	pthread_cond_destroy(&r->wake);
	mutex_fini(&r->lock);
	free(r);
}

void reserve_queue_locked(struct reserve_item *it, uint64_t run_at_ms)
{
	it->run_at_ms = run_at_ms;
	it->next = it->r->queue;
	it->r->queue = it;
	pthread_cond_signal(&it->r->wake);
}

/* --- takers --- */

static struct reserve_taker *pop_taker_locked(struct reserve *r)
{
	struct reserve_taker *t = r->takers;

	if (!t)
		return NULL;
	r->takers = t->next;
	if (!r->takers)
		r->takers_end = &r->takers;
	r->taker_cnt--;
	return t;
}

static void tell(struct reserve_taker *t, vcf_err_t err)
{
	t->ready(t->arg, err);
	free(t);
}

/* The next taker that is to be told of a new secret. */
static struct reserve_taker *next_told(struct reserve *r)
{
	SCOPED_LOCK(&r->lock);
	struct reserve_taker *t;

	if (!r->news)
		return NULL;
	t = pop_taker_locked(r);
	r->news = t ? r->news - 1 : 0;
	return t;
}

static void tell_ready(struct reserve *r)
{
	for (struct reserve_taker *t = next_told(r); t; t = next_told(r))
		tell(t, 0);
}

/* The next taker that nothing is being made for; *err: what it hears. */
static struct reserve_taker *next_failed(struct reserve *r, vcf_err_t *err)
{
	SCOPED_LOCK(&r->lock);

	if (r->taker_cnt <= r->making)
		return NULL;
	/* one that another taker was told of and left */
	*err = r->ready_cnt ? 0 : r->last_err;
	return pop_taker_locked(r);
}

void reserve_tell_failed(struct reserve *r)
{
	vcf_err_t err;

	for (struct reserve_taker *t = next_failed(r, &err); t; t = next_failed(r, &err))
		tell(t, err);
}

void reserve_ready_locked(struct reserve *r, struct reserve_item *it)
{
	it->next = r->ready;
	r->ready = it;
	r->ready_cnt++;
	r->news++;
	pthread_cond_signal(&r->wake);
}

/* --- the worker --- */

/* Wakes an item in its back-off that may come to a secret. */
static bool wake_sleeper_locked(struct reserve *r)
{
	for (struct reserve_item *it = r->queue; it; it = it->next) {
		/* one of an earlier run whose secret is not known cannot be sent again */
		if (it->counted || it->answered ||
		    (it->step == STEP_FIND && !it->res.secret))
			continue;
		it->run_at_ms = 0;
		it->counted = true;
		r->making++;
		return true;
	}
	return false;
}

static bool make_one_locked(struct reserve *r)
{
	struct reserve_item *it = reserve_item_new(r, STEP_NEW);

	if (!it)
		return false;
	it->counted = true;
	r->making++;
	reserve_queue_locked(it, 0);
	return true;
}

/* One item for each taker, and those that the target lacks; *again: when to look. */
static void plan_locked(struct reserve *r, uint64_t now, uint64_t *again)
{
	unsigned int lacking = r->target > r->ready_cnt ? r->target - r->ready_cnt : 0;
	unsigned int wanted = r->taker_cnt;

	if (lacking && now < r->refill_at_ms)
		*again = r->refill_at_ms;
	else
		wanted += lacking;
	while (r->making < wanted) {
		if (!wake_sleeper_locked(r) && !make_one_locked(r)) {
			*again = now + r->timing.backoff_min_ms;
			return;
		}
	}
}

/* Takes an item that is due off the queue; *again: when the next one is. */
static struct reserve_item *due_locked(struct reserve *r, uint64_t now, uint64_t *again)
{
	for (struct reserve_item **pp = &r->queue; *pp; pp = &(*pp)->next) {
		struct reserve_item *it = *pp;

		if (it->run_at_ms <= now) {
			*pp = it->next;
			return it;
		}
		if (it->run_at_ms < *again)
			*again = it->run_at_ms;
	}
	return NULL;
}

/* Waits for work. False: the end. *it may be NULL: takers are to be told. */
static bool next_work(struct reserve *r, struct reserve_item **it)
{
	SCOPED_LOCK(&r->lock);

	*it = NULL;
	while (!r->closing) {
		uint64_t now = clock_now_ms(), again = UINT64_MAX;

		if (r->news)
			return true;
		plan_locked(r, now, &again);
		*it = due_locked(r, now, &again);
		if (*it)
			return true;
		worker_wait(&r->lock, &r->wake, again);
	}
	return false;
}

static void *run(void *arg)
{
	struct reserve *r = arg;
	struct reserve_item *it;

	while (next_work(r, &it)) {
		if (it)
			reserve_item_run(it);
		else
			tell_ready(r);
	}
	return NULL;
}

/* --- start and end --- */

/* Takes up what an earlier run left. */
static int adopt(void *arg, const struct journal_entry *e)
{
	struct reserve *r = arg;
	time_t now = time(NULL);
	uint64_t age_ms = now > e->created ? (uint64_t)(now - e->created) * 1000 : 0;
	uint64_t settle_ms = r->timing.settle_ms;
	struct reserve_item *it;

	if ((e->state != JOURNAL_CREATING && e->state != JOURNAL_UNUSED) ||
	    strcmp(e->service, r->service) != 0)
		return 0;
	it = reserve_item_new(r, e->state == JOURNAL_UNUSED ? STEP_GET : STEP_FIND);
	if (!it)
		return -ENOMEM;
	it->unused = it->counted = e->state == JOURNAL_UNUSED;
	it->res.journal_id = e->id;
	memcpy(it->res.uuid, e->uuid, UUID_LEN);
	memcpy(it->res.key_id, e->key_id, sizeof(it->res.key_id));
	it->settled_ms = clock_now_ms() + (age_ms < settle_ms ? settle_ms - age_ms : 0);
	SCOPED_LOCK(&r->lock);
	r->making += it->counted;
	reserve_queue_locked(it, 0);
	return 0;
}

static void free_items(struct reserve_item *it)
{
	while (it) {
		struct reserve_item *next = it->next;

		reserve_item_free(it);
		it = next;
	}
}

/* Drops the owner's reference and what nobody else holds. */
static void drop_reserve(struct reserve *r)
{
	mutex_lock(&r->lock);
	r->closing = true;
	free_items(STEAL_PTR(&r->queue));
	free_items(STEAL_PTR(&r->ready));
	mutex_unlock(&r->lock);
	reserve_unref(r);
}

vcf_err_t reserve_new_timed(struct reserve **out, struct keyservice *ks,
			    struct journal *j, const char *service, unsigned int target,
			    const struct reserve_timing *timing)
{
	struct reserve *r;
	vcf_err_t err;

	if (strlen(service) > TOKEN_SERVICE_MAX)
		return -EINVAL;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	mutex_init(&r->lock, RANK_RESERVE);
	worker_cond_init(&r->wake);
	r->ks = ks;
	r->journal = j;
	r->timing = *timing;
	memcpy(r->service, service, strlen(service) + 1);
	r->target = target;
	r->refs = 1;
	r->takers_end = &r->takers;
	r->backoff_ms = timing->backoff_min_ms;
	err = journal_each(j, adopt, r);
	if (!err)
		err = worker_start(&r->thread, run, r);
	if (err) {
		drop_reserve(r);
		return err;
	}
	*out = r;
	return 0;
}

vcf_err_t reserve_new(struct reserve **out, struct keyservice *ks, struct journal *j,
		      const char *service, unsigned int target)
{
	return reserve_new_timed(out, ks, j, service, target, &default_timing);
}

void reserve_free(struct reserve *r)
{
	if (!r)
		return;
	mutex_lock(&r->lock);
	r->closing = true;
	pthread_cond_signal(&r->wake);
	mutex_unlock(&r->lock);
	pthread_join(r->thread, NULL);
	mutex_lock(&r->lock);
	r->making = 0;
	r->last_err = -ECANCELED;
	free_items(STEAL_PTR(&r->ready));
	r->ready_cnt = 0;
	mutex_unlock(&r->lock);
	reserve_tell_failed(r);
	drop_reserve(r);
}

/* --- for the file system --- */

static struct reserve_taker *new_taker(const struct reserve_wanted *wanted,
				       reserve_ready_fn *ready, void *arg)
{
	struct reserve_taker *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->ready = ready;
	t->arg = arg;
	if (!wanted)
		return t;
	t->wanted = *wanted;
	TEXT_CUT(t->path, wanted->path);
	t->wanted.path = t->path;
	return t;
}

vcf_err_t reserve_take(struct reserve *r, struct reserved *out,
		       const struct reserve_wanted *wanted, reserve_ready_fn *ready,
		       void *arg)
{
	auto_free struct reserve_taker *t = new_taker(wanted, ready, arg);
	SCOPED_LOCK(&r->lock);
	struct reserve_item *it = r->retired ? NULL : r->ready;

	if (it) {
		r->ready = it->next;
		r->ready_cnt--;
		pthread_cond_signal(&r->wake);
		*out = it->res;
		free(it);
		return 0;
	}
	if (r->closing || r->retired)
		return -ECANCELED;
	if (clock_now_ms() < r->refuse_until_ms)
		return r->last_err;
	if (!t)
		return -ENOMEM;
	*r->takers_end = t;
	r->takers_end = &t->next;
	r->taker_cnt++;
	t = NULL;
	pthread_cond_signal(&r->wake);
	return -EINPROGRESS;
}

vcf_err_t reserve_using(struct reserve *r, const struct reserved *res, uint64_t dev,
			uint64_t ino, const char *path)
{
	struct journal_entry e;
	vcf_err_t err = journal_get(r->journal, res->journal_id, &e);

	if (!err && e.state != JOURNAL_UNUSED)
		err = -ESTALE; /* of a retired reserve: the next one gave it away */
	if (err)
		return err;
	return journal_set_using(r->journal, res->journal_id, dev, ino, path);
}

void reserve_used(struct reserve *r, struct reserved *res)
{
	vcf_err_t err = journal_set(r->journal, res->journal_id, JOURNAL_CLOSED, NULL, 0);

	CRASHPOINT("reserve-used");
	/* harmless: the next start sees that the container is there */
	if (err)
		log_err("journal entry %llu cannot be closed: %s",
			(unsigned long long)res->journal_id, strerror(-err));
	secret_free(STEAL_PTR(&res->secret));
}

static bool is_retired(struct reserve *r)
{
	SCOPED_LOCK(&r->lock);

	return r->retired;
}

void reserve_put_back(struct reserve *r, struct reserved *res)
{
	struct reserve_item *it = reserve_item_new(r, STEP_GET);
	struct journal_entry e;
	vcf_err_t err = it ? journal_get(r->journal, res->journal_id, &e) : -ENOMEM;

	if (!err && is_retired(r))
		err = -ECANCELED; /* the entry may be another reserve's by now */
	if (!err && e.state != JOURNAL_UNUSED)
		err = journal_set(r->journal, res->journal_id, JOURNAL_UNUSED, NULL, 0);
	if (err) {
		/* the next start settles the entry */
		log_err("secret %s cannot go back into the reserve: %s", res->key_id,
			strerror(-err));
		secret_free(STEAL_PTR(&res->secret));
		free(it);
		return;
	}
	it->res = *res;
	it->unused = true;
	res->secret = NULL;
	SCOPED_LOCK(&r->lock);
	reserve_ready_locked(r, it);
}

void reserve_set_target(struct reserve *r, unsigned int target)
{
	SCOPED_LOCK(&r->lock);

	r->target = target;
	pthread_cond_signal(&r->wake);
}

void reserve_retire(struct reserve *r)
{
	SCOPED_LOCK(&r->lock);

	r->retired = true;
	r->target = 0;
	pthread_cond_signal(&r->wake);
}

unsigned int reserve_count(struct reserve *r)
{
	SCOPED_LOCK(&r->lock);

	return r->ready_cnt;
}
