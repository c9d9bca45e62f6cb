/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/reserve_item.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

#include "crypto/containerid.h"
#include "crypto/worker.h"
#include "util/audit.h"
#include "util/clock.h"
#include "util/crashpoint.h"
#include "util/log.h"

void reserve_item_free(struct reserve_item *it)
{
	if (!it)
		return;
	secret_free(it->res.secret);
	free(it);
}

struct reserve_item *reserve_item_new(struct reserve *r, enum reserve_step step)
{
	struct reserve_item *it = calloc(1, sizeof(*it));

	if (it) {
		it->r = r;
		it->step = step;
	}
	return it;
}

static void queue_item(struct reserve_item *it, uint64_t run_at_ms)
{
	SCOPED_LOCK(&it->r->lock);

	reserve_queue_locked(it, run_at_ms);
}

/* --- results of steps; the worker only --- */

static void uncount_locked(struct reserve_item *it)
{
	if (it->counted)
		it->r->making--;
	it->counted = false;
}

static void say_failing(struct reserve *r, const struct reserve_item *it, vcf_err_t err)
{
	log_warn("key service %s: cannot make secrets for new images: %s%s%s", r->service,
		 strerror(-err), *it->text ? ": " : "", it->text);
}

/* Takers may no longer hope for this item. */
static void give_up_hope(struct reserve_item *it, vcf_err_t err)
{
	struct reserve *r = it->r;
	uint64_t now = clock_now_ms();
	bool said = true;

	if (!it->counted)
		return;
	mutex_lock(&r->lock);
	uncount_locked(it);
	r->last_err = err;
	r->refuse_until_ms = now + r->timing.refuse_ms;
	r->refill_at_ms = now + r->backoff_ms;
	r->backoff_ms = r->backoff_ms * 2 < r->timing.backoff_max_ms
				? r->backoff_ms * 2
				: r->timing.backoff_max_ms;
	if (err != -ECANCELED) {
		said = r->failing;
		r->failing = true;
	}
	mutex_unlock(&r->lock);
	if (!said)
		say_failing(r, it, err);
	reserve_tell_failed(r);
}

static void close_entry(struct reserve_item *it)
{
	vcf_err_t err =
		journal_set(it->r->journal, it->res.journal_id, JOURNAL_CLOSED, NULL, 0);

	if (err)
		log_err("journal entry %llu cannot be closed: %s",
			(unsigned long long)it->res.journal_id, strerror(-err));
}

/* This secret is no more. */
static void drop_item(struct reserve_item *it)
{
	SCOPED_LOCK(&it->r->lock);

	uncount_locked(it);
	reserve_item_free(it);
}

static void close_and_drop(struct reserve_item *it)
{
	close_entry(it);
	drop_item(it);
}

static void fail_and_drop(struct reserve_item *it, vcf_err_t err)
{
	give_up_hope(it, err);
	reserve_item_free(it);
}

static void try_later(struct reserve_item *it)
{
	const struct reserve_timing *t = &it->r->timing;
	uint64_t pause = (uint64_t)t->backoff_min_ms << (it->tries < 16 ? it->tries : 16);

	it->tries++;
	queue_item(it, clock_now_ms() +
			       (pause < t->backoff_max_ms ? pause : t->backoff_max_ms));
}

static void item_ready(struct reserve_item *it)
{
	struct reserve *r = it->r;
	bool said;

	mutex_lock(&r->lock);
	uncount_locked(it);
	said = r->failing;
	r->failing = false;
	r->backoff_ms = r->timing.backoff_min_ms;
	r->refill_at_ms = 0;
	r->refuse_until_ms = 0;
	reserve_ready_locked(r, it);
	mutex_unlock(&r->lock);
	if (said)
		log_info("key service %s: secrets for new images can be made again",
			 r->service);
}

/*
 * A failure of this item is about to be the oldest taker's: nothing else is made for it. Its image,
 * then; without a path if nobody waits. The worker alone takes takers away, so it stays.
 */
static void note_wanted(struct reserve_item *it, struct audit_event *e)
{
	struct reserve *r = it->r;
	SCOPED_LOCK(&r->lock);
	const struct reserve_wanted *w = r->takers ? &r->takers->wanted : NULL;

	if (!w || !w->path || !it->counted || r->taker_cnt < r->making)
		return;
	e->path = w->path;
	e->has_opener = w->has_opener;
	e->uid = w->uid;
	e->pid = w->pid;
}

/* For the audit trail: a secret without an image yet, or an image without one. */
static void note_answer(struct reserve_item *it, const char *verb)
{
	char label[UUID_TEXT_LEN + 1];
	struct audit_event e = {
		.verb = verb,
		.uuid = label,
		.key_id = *it->res.key_id ? it->res.key_id : NULL,
		.service = it->r->service,
		.latency_ms = audit_since(it->asked_ms),
		.err = it->err,
		.text = it->err && *it->text ? it->text : NULL,
	};

	uuid_unparse_lower(it->res.uuid, label);
	if (it->err)
		note_wanted(it, &e);
	audit_answer(&e);
}

/* The service has it; the journal must say so before anyone uses it. */
static void have_secret(struct reserve_item *it)
{
	vcf_err_t err = 0;

	note_answer(it, it->unused ? "get" : "new"); /* perhaps found later */

	CRASHPOINT("reserve-made");
	if (!it->unused)
		err = journal_set(it->r->journal, it->res.journal_id, JOURNAL_UNUSED,
				  it->res.key_id, 0);
	CRASHPOINT("reserve-unused");
	if (!err) {
		item_ready(it);
		return;
	}
	give_up_hope(it, err);
	it->step = STEP_GET;
	try_later(it);
}

/* --- calls --- */

static vcf_err_t take_answer(struct reserve_item *it, const struct keyservice_result *res)
{
	struct secret *copy = NULL;
	vcf_err_t err = res->err;

	if (!err && it->step != STEP_GET &&
	    (!res->id || !*res->id || strlen(res->id) >= sizeof(it->res.key_id)))
		err = -EPROTO;
	if (!err && it->step == STEP_GET && !res->secret)
		err = -EPROTO;
	if (!err && res->secret)
		err = secret_dup(&copy, res->secret);
	if (err)
		return err;
	if (copy) {
		secret_free(it->res.secret);
		it->res.secret = copy;
	}
	if (it->step != STEP_GET)
		memcpy(it->res.key_id, res->id, strlen(res->id) + 1);
	return 0;
}

/* Back from the service, in its thread. */
static void answered(void *arg, const struct keyservice_result *res)
{
	struct reserve_item *it = arg;
	struct reserve *r = it->r;

	it->err = take_answer(it, res);
	it->answered = true;
	snprintf(it->text, sizeof(it->text), "%s",
		 res->err && res->text ? res->text : "");
	mutex_lock(&r->lock);
	if (r->closing)
		reserve_item_free(it);
	else
		reserve_queue_locked(it, 0);
	mutex_unlock(&r->lock);
	reserve_unref(r);
}

static vcf_err_t call(struct reserve_item *it)
{
	char label[UUID_TEXT_LEN + 1];
	struct keyservice *ks = it->r->ks;

	uuid_unparse_lower(it->res.uuid, label);
	switch (it->step) {
	case STEP_NEW:
		return keyservice_new_secret(ks, label, it->res.secret, answered, it);
	case STEP_FIND:
		return keyservice_find(ks, label, answered, it);
	default:
		return keyservice_get(ks, it->res.key_id, answered, it);
	}
}

/* 0: the item belongs to the call now. */
static vcf_err_t send_call(struct reserve_item *it)
{
	struct reserve *r = it->r;
	vcf_err_t err;

	r->refs++;
	it->asked_ms = clock_now_ms();
	err = call(it);
	if (err)
		reserve_unref(r);
	return err;
}

/* --- steps; the worker only --- */

static vcf_err_t journal_creating(struct reserve_item *it)
{
	struct journal_entry e = {.state = JOURNAL_CREATING};
	vcf_err_t err;

	memcpy(e.service, it->r->service, sizeof(e.service));
	memcpy(e.uuid, it->res.uuid, UUID_LEN);
	err = journal_add(it->r->journal, &e, NULL);
	if (!err)
		it->res.journal_id = e.id;
	return err;
}

static vcf_err_t prepare_new(struct reserve_item *it)
{
	vcf_err_t err;

	it->settled_ms = clock_now_ms() + it->r->timing.settle_ms;
	if (it->res.secret)
		return 0; /* again: the same secret under the same label */
	containerid_new(it->res.uuid);
	err = secret_new_random(&it->res.secret);
	return err ? err : journal_creating(it);
}

/* No secret came of `new`; `sure`: and none is at the service. */
static void new_failed(struct reserve_item *it, vcf_err_t err, bool sure)
{
	if (sure && !it->doubtful) {
		close_entry(it);
		fail_and_drop(it, err);
		return;
	}
	/* the service has had its retries: takers do not wait for more */
	give_up_hope(it, err);
	it->doubtful = true;
	it->step = STEP_FIND;
	queue_item(it, 0);
}

static void start_step(struct reserve_item *it)
{
	vcf_err_t err;

	if (it->step == STEP_NEW) {
		err = prepare_new(it);
		if (err) {
			fail_and_drop(it, err);
			return;
		}
		CRASHPOINT("reserve-creating");
	}
	err = send_call(it);
	if (err && it->step == STEP_NEW) { /* not sent */
		new_failed(it, err, true);
	} else if (err) {
		give_up_hope(it, err);
		try_later(it);
	}
}

/* An error after which the service surely keeps nothing. */
static bool refused(vcf_err_t err)
{
	return err == -EKEYREJECTED || err == -EDQUOT || err == -EINVAL;
}

static void next_step(struct reserve_item *it, enum reserve_step step)
{
	it->step = step;
	it->tries = 0;
	start_step(it);
}

static void end_new(struct reserve_item *it)
{
	if (it->err)
		note_answer(it, "new");
	if (it->err)
		new_failed(it, it->err, refused(it->err));
	else
		have_secret(it);
}

static void end_find(struct reserve_item *it)
{
	if (!it->err) {
		next_step(it, STEP_GET);
	} else if (it->err != -ENOKEY) {
		give_up_hope(it, it->err);
		try_later(it);
	} else if (it->counted) {
		next_step(it, STEP_NEW);
	} else if (clock_now_ms() < it->settled_ms) {
		queue_item(it, it->settled_ms);
	} else {
		close_and_drop(it);
	}
}

static void end_get(struct reserve_item *it)
{
	if (!it->err) {
		have_secret(it);
	} else if (it->err == -ENOKEY) {
		log_info("key service %s: the unused secret %s is gone", it->r->service,
			 it->res.key_id);
		close_and_drop(it);
	} else {
		give_up_hope(it, it->err);
		try_later(it);
	}
}

void reserve_item_run(struct reserve_item *it)
{
	if (!it->answered) {
		start_step(it);
	} else if (it->err == -ECANCELED) { /* the service shuts down; so shall we soon */
		fail_and_drop(it, it->err);
	} else {
		it->answered = false;
		if (it->step == STEP_NEW)
			end_new(it);
		else if (it->step == STEP_FIND)
			end_find(it);
		else
			end_get(it);
	}
}
