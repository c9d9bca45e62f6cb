/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/deletion.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/deletion_worker.h"
#include "crypto/header_wipe.h"
#include "crypto/worker.h"
#include "util/clock.h"
#include "util/crashpoint.h"
#include "util/log.h"

static const struct deletion_timing default_timing = {
	.backoff_min_ms = 60 * 1000,
	.backoff_max_ms = 60 * 60 * 1000,
	.poll_ms = 60 * 1000,
};

void deletion_set_state(struct journal *j, const struct journal_entry *e,
			enum journal_state state, time_t due)
{
	vcf_err_t err = journal_set(j, e->id, state, NULL, due);

	if (err && err != -ENOENT)
		log_err("%s: the journal cannot be written: %s; the next start settles "
			"entry %llu",
			e->path, strerror(-err), (unsigned long long)e->id);
}

/* The container is gone for good: what becomes of its secret. */
static void out_of_sight(struct journal *j, const struct deletion_config *cfg,
			 const struct journal_entry *e)
{
	if (e->derived) {
		deletion_set_state(j, e, JOURNAL_CLOSED, 0);
		return;
	}
	if (!cfg->keep) {
		deletion_set_state(j, e, JOURNAL_DESTROYING,
				   time(NULL) + (time_t)cfg->delay_s);
		return;
	}
	log_info("%s: has no use for its secret %s any more, which stays at %s "
		 "(on-delete = keep)",
		 e->path, e->key_id, e->service);
	deletion_set_state(j, e, JOURNAL_CLOSED, 0);
}

/* --- for the file system --- */

vcf_err_t deletion_begin(struct deletion_queue *q, const struct journal_entry *intent,
			 const void *hdr, uint64_t *id)
{
	struct journal_entry e = *intent;
	vcf_err_t err;

	if (!e.derived && !hdr)
		return -EINVAL; /* the destroy would have no MAC to check */
	e.state = JOURNAL_DELETING;
	e.created = e.due = 0;
	CRASHPOINT("remove-begin");
	err = journal_add(q->journal, &e, e.derived ? NULL : hdr);
	CRASHPOINT("remove-intent");
	if (!err)
		*id = e.id;
	return err;
}

static void set_by_id(struct deletion_queue *q, uint64_t id, enum journal_state state)
{
	struct journal_entry e;

	if (journal_get(q->journal, id, &e) == 0)
		deletion_set_state(q->journal, &e, state, 0);
}

void deletion_cancel(struct deletion_queue *q, uint64_t id)
{
	set_by_id(q, id, JOURNAL_CLOSED);
}

void deletion_unlinked(struct deletion_queue *q, uint64_t id)
{
	CRASHPOINT("remove-gone");
	set_by_id(q, id, JOURNAL_UNLINKED);
	CRASHPOINT("remove-unlinked");
}

static int has_begun(void *arg, const struct journal_entry *e)
{
	struct journal_entry *want = arg;

	if ((e->state != JOURNAL_DELETING && e->state != JOURNAL_UNLINKED) ||
	    memcmp(e->uuid, want->uuid, UUID_LEN) != 0)
		return 0;
	want->id = e->id;
	return 1;
}

vcf_err_t deletion_find(struct deletion_queue *q, const unsigned char uuid[UUID_LEN],
			uint64_t *id)
{
	struct journal_entry want = {.id = 0};

	memcpy(want.uuid, uuid, UUID_LEN);
	if (!journal_each(q->journal, has_begun, &want))
		return -ENOENT;
	*id = want.id;
	return 0;
}

static void leave_it_to_the_queue(struct deletion_queue *q, const struct journal_entry *e)
{
	struct deletion_config cfg;

	mutex_lock(&q->lock);
	cfg = q->cfg;
	mutex_unlock(&q->lock);
	out_of_sight(q->journal, &cfg, e);
	CRASHPOINT("wipe-noted");
	SCOPED_LOCK(&q->lock);
	q->told = true;
	pthread_cond_signal(&q->wake);
}

void deletion_gone(struct deletion_queue *q, uint64_t id)
{
	struct journal_entry e;

	if (journal_get(q->journal, id, &e) == 0)
		leave_it_to_the_queue(q, &e);
}

void deletion_wipe(struct deletion_queue *q, uint64_t id, int fd, uint64_t data_off)
{
	struct journal_entry e;

	if (journal_get(q->journal, id, &e))
		return;
	header_wipe(fd, data_off, e.path);
	CRASHPOINT("wipe-done");
	leave_it_to_the_queue(q, &e);
}

vcf_err_t deletion_restore(struct deletion_queue *q, uint64_t id)
{
	SCOPED_LOCK(&q->lock);
	struct journal_entry e;
	vcf_err_t err = journal_get(q->journal, id, &e);

	if (err)
		return err;
	if (e.state != JOURNAL_DESTROYING && e.state != JOURNAL_SUSPECT)
		return -ENOENT;
	if (q->busy_id == id)
		return -EBUSY;
	return journal_set(q->journal, id, JOURNAL_CLOSED, NULL, 0);
}

void deletion_hasten(struct deletion_queue *q, uint64_t id)
{
	SCOPED_LOCK(&q->lock);
	struct journal_entry e;

	if (journal_get(q->journal, id, &e) || e.state != JOURNAL_DESTROYING)
		return;
	deletion_set_state(q->journal, &e, JOURNAL_DESTROYING, time(NULL));
	q->told = true;
	pthread_cond_signal(&q->wake);
}

void deletion_set_policy(struct deletion_queue *q, bool keep, bool controller,
			 uint64_t delay_s, uint64_t per_minute)
{
	SCOPED_LOCK(&q->lock);

	q->cfg.keep = keep;
	q->cfg.controller = controller;
	q->cfg.delay_s = delay_s;
	q->cfg.per_minute = per_minute;
	q->told = true;
	pthread_cond_signal(&q->wake);
}

void deletion_look(struct deletion_queue *q)
{
	SCOPED_LOCK(&q->lock);

	q->told = true;
	pthread_cond_signal(&q->wake);
}

void deletion_get_status(struct deletion_queue *q, struct deletion_status *out)
{
	uint64_t now_ms = clock_now_ms();
	SCOPED_LOCK(&q->lock);

	memset(out, 0, sizeof(*out));
	if (q->pause_until_ms > now_ms)
		out->pause_s = (q->pause_until_ms - now_ms + 999) / 1000;
	memcpy(out->last_error, q->last_error, sizeof(out->last_error));
}

void deletion_counts(struct deletion_queue *q, size_t *waiting, size_t *suspect)
{
	*waiting = journal_count(q->journal, JOURNAL_DESTROYING);
	*suspect = journal_count(q->journal, JOURNAL_SUSPECT);
}

/* --- at mount --- */

struct recovery {
	struct journal *journal;
	const struct deletion_config *cfg;
	bool (*is_linked)(void *arg, const unsigned char uuid[UUID_LEN]);
	void *arg;
};

static int recover_one(void *arg, const struct journal_entry *e)
{
	const struct recovery *rec = arg;
	bool waits = e->state == JOURNAL_DESTROYING;

	if (e->state != JOURNAL_USING && e->state != JOURNAL_DELETING &&
	    e->state != JOURNAL_UNLINKED && e->state != JOURNAL_WIPED && !waits)
		return 0;
	if (rec->cfg->is_mine && !rec->cfg->is_mine(rec->cfg->is_mine_arg, e->service))
		return 0;
	if (rec->is_linked(rec->arg, e->uuid)) {
		if (e->state != JOURNAL_USING)
			log_info("%s: its deletion is cancelled: the container is there",
				 e->path);
		deletion_set_state(rec->journal, e, JOURNAL_CLOSED, 0);
	} else if (!waits) {
		out_of_sight(rec->journal, rec->cfg, e);
	}
	return 0;
}

vcf_err_t deletion_recover(struct journal *j, const struct deletion_config *cfg,
			   bool (*is_linked)(void *arg,
					     const unsigned char uuid[UUID_LEN]),
			   void *arg)
{
	struct recovery rec = {
		.journal = j, .cfg = cfg, .is_linked = is_linked, .arg = arg};

	return journal_each(j, recover_one, &rec);
}

/* --- start and end --- */

static void queue_destroy(struct deletion_queue *q)
{
	uintptr_t service = (uintptr_t)q->cfg.service;

	while (q->later) {
		struct deletion_later *next = q->later->next;

		free(q->later);
		q->later = next;
	}
	secret_free(q->answer.secret);
	pthread_cond_destroy(&q->wake);
	mutex_fini(&q->lock);
	free((void *)service);
	free(q);
}

/* The last thing its holder does: an unlock of q->lock still reads it. */
void deletion_unref(struct deletion_queue *q)
{
	if (atomic_fetch_sub(&q->refs, 1) == 1)
		queue_destroy(q);
}

vcf_err_t deletion_queue_new_timed(struct deletion_queue **out, struct journal *j,
				   struct keyservice *ks,
				   const struct deletion_config *cfg,
				   const struct deletion_timing *timing)
{
	struct deletion_queue *q;
	vcf_err_t err;

	if (!cfg->in_use)
		return -EINVAL;
	q = calloc(1, sizeof(*q));
	if (!q)
		return -ENOMEM;
	mutex_init(&q->lock, RANK_DELETION);
	worker_cond_init(&q->wake);
	q->journal = j;
	q->ks = ks;
	q->cfg = *cfg;
	q->cfg.service = strdup(cfg->service);
	q->timing = *timing;
	q->refs = 1;
	err = q->cfg.service ? worker_start(&q->thread, deletion_run, q) : -ENOMEM;
	if (err) {
		queue_destroy(q);
		return err;
	}
	*out = q;
	return 0;
}

vcf_err_t deletion_queue_new(struct deletion_queue **out, struct journal *j,
			     struct keyservice *ks, const struct deletion_config *cfg)
{
	return deletion_queue_new_timed(out, j, ks, cfg, &default_timing);
}

void deletion_queue_free(struct deletion_queue *q)
{
	if (!q)
		return;
	mutex_lock(&q->lock);
	q->closing = true;
	pthread_cond_signal(&q->wake);
	mutex_unlock(&q->lock);
	pthread_join(q->thread, NULL);
	deletion_unref(q);
}
