/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/deletion_worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

#include "crypto/container.h"
#include "crypto/deletion_check.h"
#include "crypto/worker.h"
#include "util/audit.h"
#include "util/clock.h"
#include "util/crashpoint.h"
#include "util/log.h"

enum {
	PER_MINUTE = 120,
	BATCH = 64,	 /* entries for one walk of the tree */
	STREAK_LONG = 4, /* failures in a row that are not one entry's fault */
};

/* --- one request to the service; the worker waits, but not past the end --- */

struct request {
	struct deletion_queue *q;
	uint64_t ticket;
};

static void fill_answer(struct deletion_answer *a, const struct keyservice_result *res)
{
	a->done = true;
	a->err = res->err;
	snprintf(a->text, sizeof(a->text), "%s", res->err && res->text ? res->text : "");
	if (!res->err && res->id && strlen(res->id) < sizeof(a->id))
		memcpy(a->id, res->id, strlen(res->id) + 1);
	if (!res->err && res->secret)
		a->err = secret_dup(&a->secret, res->secret);
}

/* Back from the service, in its thread. */
static void answered(void *arg, const struct keyservice_result *res)
{
	struct request *rq = arg;
	struct deletion_queue *q = rq->q;

	mutex_lock(&q->lock);
	if (!q->closing && q->ticket == rq->ticket) {
		fill_answer(&q->answer, res);
		pthread_cond_signal(&q->wake);
	}
	mutex_unlock(&q->lock);
	free(rq);
	deletion_unref(q);
}

static struct request *request_new(struct deletion_queue *q)
{
	struct request *rq = malloc(sizeof(*rq));

	if (!rq)
		return NULL;
	SCOPED_LOCK(&q->lock);
	secret_free(q->answer.secret);
	q->answer = (struct deletion_answer){.done = false};
	q->refs++;
	*rq = (struct request){.q = q, .ticket = ++q->ticket};
	return rq;
}

static vcf_err_t await(struct deletion_queue *q, struct deletion_answer *out)
{
	SCOPED_LOCK(&q->lock);

	while (!q->answer.done && !q->closing)
		mutex_wait(&q->lock, &q->wake);
	if (!q->answer.done)
		return -ECANCELED;
	*out = q->answer;
	q->answer = (struct deletion_answer){.done = false};
	return out->err;
}

enum verb { ASK_GET, ASK_FIND, ASK_DESTROY };

/* out->secret, if any, is the caller's. */
static vcf_err_t ask(struct deletion_queue *q, enum verb verb, const char *id,
		     const unsigned char uuid[UUID_LEN], struct deletion_answer *out)
{
	struct request *rq = request_new(q);
	char label[UUID_TEXT_LEN + 1];
	vcf_err_t err;

	*out = (struct deletion_answer){.done = false};
	if (!rq)
		return -ENOMEM;
	uuid_unparse_lower(uuid, label);
	if (verb == ASK_GET)
		err = keyservice_get(q->ks, id, answered, rq);
	else if (verb == ASK_FIND)
		err = keyservice_find(q->ks, label, answered, rq);
	else
		err = keyservice_destroy(q->ks, id, label, answered, rq);
	if (err) {
		free(rq);
		deletion_unref(q);
		return err;
	}
	return await(q, out);
}

/* --- the worker: one entry --- */

static void put_off(struct deletion_queue *q, uint64_t id)
{
	struct deletion_later *l = q->later;

	while (l && l->id != id)
		l = l->next;
	if (!l) {
		l = calloc(1, sizeof(*l));
		if (!l)
			return; /* it is tried again at once, nothing worse */
		l->id = id;
		l->backoff_ms = q->timing.backoff_min_ms;
		l->next = q->later;
		q->later = l;
	}
	l->at_ms = clock_now_ms() + l->backoff_ms;
	l->backoff_ms *= 2;
	if (l->backoff_ms > q->timing.backoff_max_ms)
		l->backoff_ms = q->timing.backoff_max_ms;
}

static void forget_later(struct deletion_queue *q, uint64_t id)
{
	for (struct deletion_later **pp = &q->later; *pp; pp = &(*pp)->next) {
		struct deletion_later *l = *pp;

		if (l->id != id)
			continue;
		*pp = l->next;
		free(l);
		return;
	}
}

static void end_entry(struct deletion_queue *q, const struct journal_entry *e,
		      enum journal_state state)
{
	deletion_set_state(q->journal, e, state, 0);
	forget_later(q, e->id);
}

static void suspect(struct deletion_queue *q, const struct journal_entry *e,
		    const char *why)
{
	log_warn("%s: its secret %s at %s is not destroyed: %s; decide with: vmcryptfs "
		 "keys",
		 e->path, e->key_id, e->service, why);
	end_entry(q, e, JOURNAL_SUSPECT);
}

/* The first one is worth a line in the log. */
static bool note_failure(struct deletion_queue *q, vcf_err_t err, const char *text)
{
	SCOPED_LOCK(&q->lock);
	uint64_t max_ms = q->timing.backoff_max_ms;

	snprintf(q->last_error, sizeof(q->last_error), "%s%s%s", strerror(-err),
		 *text ? ": " : "", text);
	if (++q->streak < STREAK_LONG && err != -ETIMEDOUT)
		return q->streak == 1;
	q->pause_ms = q->pause_ms ? 2 * q->pause_ms : q->timing.backoff_min_ms;
	q->pause_ms = q->pause_ms < max_ms ? q->pause_ms : max_ms;
	q->pause_until_ms = clock_now_ms() + q->pause_ms;
	return q->streak == 1;
}

static void note_success(struct deletion_queue *q)
{
	SCOPED_LOCK(&q->lock);

	q->streak = 0;
	q->pause_ms = 0;
	*q->last_error = '\0';
}

/* 0: the service may be asked. */
static uint64_t paused_until(struct deletion_queue *q)
{
	SCOPED_LOCK(&q->lock);

	return q->pause_until_ms > clock_now_ms() ? q->pause_until_ms : 0;
}

/* Not now. One that may be the service's fault makes the whole queue pause. */
static void failed(struct deletion_queue *q, const struct journal_entry *e, vcf_err_t err,
		   const char *text)
{
	put_off(q, e->id);
	if (err == -ECANCELED)
		return;
	if (err == -EAGAIN) { /* too many renames while it looked: nobody's fault */
		log_info("%s: whether its secret is in use cannot be seen yet", e->path);
		return;
	}
	if (note_failure(q, err, text))
		log_warn("%s: its secret %s at %s cannot be destroyed yet: %s%s%s; it is "
			 "tried again",
			 e->path, e->key_id, e->service, strerror(-err),
			 *text ? ": " : "", text);
}

/* The entry is still ours to destroy; until unclaim() nobody can take it back. */
static bool claim(struct deletion_queue *q, uint64_t id)
{
	SCOPED_LOCK(&q->lock);
	struct journal_entry e;

	if (q->closing || q->cfg.keep || q->cfg.controller ||
	    journal_get(q->journal, id, &e) || e.state != JOURNAL_DESTROYING)
		return false;
	q->busy_id = id;
	return true;
}

static void unclaim(struct deletion_queue *q)
{
	SCOPED_LOCK(&q->lock);

	q->busy_id = 0;
}

/* A service that only wraps secrets has nothing to destroy, and must not be said to have. */
static void say_destroyed(struct deletion_queue *q, const struct journal_entry *e,
			  const char *id)
{
	struct keyservice_status st;

	keyservice_get_status(q->ks, &st);
	if (st.caps & KEY_CAP_WRAPPED)
		log_info("%s: its secret was wrapped by %s and went with its header; the "
			 "service itself cannot forget it",
			 e->path, e->service);
	else
		log_info("%s: its secret %s at %s is destroyed", e->path, id, e->service);
}

/* For the audit trail. */
static void note_answer(const struct journal_entry *entry, const char *verb,
			const char *id, uint64_t start_ms, vcf_err_t err,
			const char *text)
{
	char label[UUID_TEXT_LEN + 1];
	struct audit_event e = {
		.verb = verb,
		.path = *entry->path ? entry->path : NULL,
		.uuid = label,
		.key_id = id,
		.service = entry->service,
		.latency_ms = audit_since(start_ms),
		.err = err,
		.text = *text ? text : NULL,
	};

	uuid_unparse_lower(entry->uuid, label);
	audit_answer(&e);
}

static void end_destroy(struct deletion_queue *q, const struct journal_entry *e,
			const char *id, vcf_err_t err, const char *text)
{
	if (err && err != -ENOKEY) {
		if (err == -EINVAL)
			suspect(q, e, *text ? text : "the service refuses to");
		else
			failed(q, e, err, text);
		return;
	}
	say_destroyed(q, e, id);
	note_success(q);
	end_entry(q, e, JOURNAL_CLOSED);
}

static void destroy(struct deletion_queue *q, const struct journal_entry *e,
		    const char *id)
{
	struct deletion_answer a;
	uint64_t start_ms = clock_now_ms();
	vcf_err_t err;

	if (!claim(q, e->id))
		return;
	err = ask(q, ASK_DESTROY, id, e->uuid, &a);
	secret_free(a.secret);
	CRASHPOINT("destroy-done");
	note_answer(e, "destroy", id, start_ms, err, a.text);
	end_destroy(q, e, id, err, a.text);
	unclaim(q);
}

static void gone(struct deletion_queue *q, const struct journal_entry *e)
{
	log_info("%s: its secret %s is not at %s any more", e->path, e->key_id,
		 e->service);
	note_success(q);
	end_entry(q, e, JOURNAL_CLOSED);
}

/* A secret that never got into a container; without a key id only its label is known. */
static void settle_leftover(struct deletion_queue *q, const struct journal_entry *e)
{
	struct deletion_answer a;
	vcf_err_t err;

	if (*e->key_id) {
		destroy(q, e, e->key_id);
		return;
	}
	err = ask(q, ASK_FIND, NULL, e->uuid, &a);
	secret_free(a.secret);
	if (err == -ENOKEY)
		gone(q, e);
	else if (err)
		failed(q, e, err, a.text);
	else
		destroy(q, e, a.id);
}

static void settle_container(struct deletion_queue *q, const struct journal_entry *e,
			     const void *hdr)
{
	uint64_t start_ms = clock_now_ms();
	struct deletion_answer a;
	vcf_err_t err = ask(q, ASK_GET, e->key_id, e->uuid, &a);

	note_answer(e, "get", e->key_id, start_ms, err, a.text);
	if (err == -ENOKEY) {
		gone(q, e);
		return;
	}
	if (!err && !a.secret)
		err = -EPROTO;
	if (err) {
		failed(q, e, err, a.text);
		return;
	}
	CRASHPOINT("destroy-get");
	err = deletion_check_header(e, hdr, a.secret);
	secret_free(a.secret);
	CRASHPOINT("destroy-checked");
	if (!err)
		destroy(q, e, e->key_id);
	else if (deletion_check_passing(err))
		failed(q, e, err, "");
	else
		suspect(q, e, "the saved header does not belong to this secret");
}

static void settle(struct deletion_queue *q, const struct journal_entry *e)
{
	auto_free void *hdr = malloc(CONTAINER_PEEK_LEN);
	vcf_err_t err = hdr ? journal_header(q->journal, e->id, hdr) : -ENOMEM;

	if (err == -ENOENT)
		return; /* taken back meanwhile */
	if (err == -ENODATA)
		settle_leftover(q, e);
	else if (!err)
		settle_container(q, e, hdr);
	else if (deletion_check_passing(err))
		failed(q, e, err, "");
	else
		suspect(q, e, "its saved header cannot be read");
}

/* --- the worker: all that is due --- */

struct batch {
	struct deletion_queue *q;
	struct journal_entry *entries; /* BATCH of them */
	size_t cnt;
	time_t now;
	uint64_t now_ms, again_ms; /* monotonic; when to look again */
};

static void look_again_at(struct batch *b, uint64_t ms)
{
	if (ms < b->again_ms)
		b->again_ms = ms;
}

static uint64_t put_off_until(const struct deletion_queue *q, uint64_t id)
{
	for (const struct deletion_later *l = q->later; l; l = l->next)
		if (l->id == id)
			return l->at_ms;
	return 0;
}

static int collect(void *arg, const struct journal_entry *e)
{
	struct batch *b = arg;
	uint64_t at_ms;

	if (e->state != JOURNAL_DESTROYING || strcmp(e->service, b->q->cfg.service) != 0)
		return 0;
	at_ms = put_off_until(b->q, e->id);
	if (e->due > b->now)
		at_ms = b->now_ms + (uint64_t)(e->due - b->now) * 1000;
	if (at_ms > b->now_ms) {
		look_again_at(b, at_ms);
		return 0;
	}
	if (b->cnt == BATCH)
		return 1;
	b->entries[b->cnt++] = *e;
	return 0;
}

static bool closing(struct deletion_queue *q)
{
	SCOPED_LOCK(&q->lock);

	return q->closing;
}

/* What is due stays. */
static bool leaving(struct deletion_queue *q)
{
	SCOPED_LOCK(&q->lock);

	return q->cfg.keep || q->cfg.controller;
}

static void cancel_used(struct deletion_queue *q, const struct journal_entry *e)
{
	log_warn("%s: its secret %s at %s is not destroyed: a container in the backing "
		 "directory uses it",
		 e->path, e->key_id, e->service);
	end_entry(q, e, JOURNAL_CLOSED);
}

/* What one entry may take of the time, so that no more than destroy-rate go in a minute. */
static uint64_t share_ms(struct deletion_queue *q)
{
	SCOPED_LOCK(&q->lock);
	uint64_t per_minute = q->cfg.per_minute ? q->cfg.per_minute : PER_MINUTE;

	return q->timing.spacing_ms ? q->timing.spacing_ms : 60 * 1000 / per_minute;
}

static void settle_batch(struct deletion_queue *q, const struct batch *b)
{
	bool used[BATCH] = {false};
	vcf_err_t err = q->cfg.in_use(q->cfg.in_use_arg, b->entries, b->cnt, used);

	for (size_t i = 0; i < b->cnt && !closing(q); i++) {
		if (err)
			failed(q, &b->entries[i], err, "cannot look who uses it");
		else if (used[i])
			cancel_used(q, &b->entries[i]);
		else if (!paused_until(q))
			settle(q, &b->entries[i]);
	}
}

/* One batch. Returns when to look again. */
static uint64_t work(struct deletion_queue *q)
{
	auto_free struct journal_entry *entries = calloc(BATCH, sizeof(*entries));
	struct batch b = {.q = q, .entries = entries, .now = time(NULL)};

	b.now_ms = clock_now_ms();
	b.again_ms = b.now_ms + q->timing.poll_ms;
	if (!entries || leaving(q))
		return b.again_ms;
	if (q->rest_until_ms > b.now_ms)
		return q->rest_until_ms;
	if (paused_until(q))
		return paused_until(q);
	if (journal_each(q->journal, collect, &b) < 0 || !b.cnt)
		return b.again_ms;
	settle_batch(q, &b);
	/* The rest comes after the batch, for what the walk told does not last. */
	q->rest_until_ms = clock_now_ms() + b.cnt * share_ms(q);
	/* what was put off, or a batch more: the next look tells */
	return q->rest_until_ms;
}

void *deletion_run(void *arg)
{
	struct deletion_queue *q = arg;
	uint64_t again_ms = 0;

	mutex_lock(&q->lock);
	while (!q->closing) {
		if (q->told || again_ms <= clock_now_ms()) {
			q->told = false;
			mutex_unlock(&q->lock);
			again_ms = work(q);
			mutex_lock(&q->lock);
			continue;
		}
		worker_wait(&q->lock, &q->wake, again_ms);
	}
	mutex_unlock(&q->lock);
	return NULL;
}
