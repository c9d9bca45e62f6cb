/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A key service's calls, start and end; keyservice_loop.c does the work. */
#include "crypto/keyservice.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "crypto/keyservice_impl.h"
#include "util/clock.h"

enum { SLOW_MS = 3000 };

DEFINE_AUTO(settings, struct settings *, keyservice_settings_free)
#define auto_settings __attribute__((cleanup(cleanup_settings)))

/* --- settings --- */

void keyservice_settings_free(struct settings *s)
{
	if (!s)
		return;
	keyconfig_free(&s->cfg);
	free(s);
}

static vcf_err_t settings_new(struct settings **out, const struct keyservice_config *cfg)
{
	auto_settings struct settings *s = calloc(1, sizeof(*s));
	vcf_err_t err = s ? keyconfig_copy(&s->cfg, cfg) : -ENOMEM;

	if (err)
		return err;
	*out = STEAL_PTR(&s);
	return 0;
}

/* --- new and free --- */

static vcf_err_t adopt_child(struct keyservice *ks, struct keyservice_helper *record)
{
	const struct keyservice_config *cfg = &ks->settings->cfg;

	if (ks->child_cnt >= cfg->children)
		return -EAGAIN;
	return keychild_adopt(&ks->children[ks->child_cnt], cfg, record);
}

/* Helpers that a dead process left to us. */
static void adopt_children(struct keyservice *ks)
{
	const struct keyservice_config *cfg = &ks->settings->cfg;

	for (unsigned int i = 0; i < cfg->kept_cnt && cfg->kept && !cfg->kept_in_use;
	     i++) {
		struct keyservice_helper *record = &cfg->kept[i];

		if (!record->pid || record->config != cfg->kept_config)
			continue; /* none, or another service's */
		if (adopt_child(ks, record) == 0)
			ks->child_cnt++;
		else
			keychild_end(cfg, record);
	}
	keyservice_note_running(ks);
}

void keyservice_end_strays(const struct keyservice_config *cfg, const uint32_t *configs,
			   size_t cnt)
{
	struct keyservice_config own = *cfg;

	if (!own.spawn)
		own.reap = keyservice_reap;
	for (unsigned int i = 0; own.kept && i < own.kept_cnt; i++) {
		size_t k = 0;

		while (k < cnt && configs[k] != own.kept[i].config)
			k++;
		if (own.kept[i].pid && k == cnt)
			keychild_end(&own, &own.kept[i]);
	}
}

/* All but the thread. */
static void dispose(struct keyservice *ks)
{
	while (ks->child_cnt)
		keyservice_drop_child(ks, ks->child_cnt - 1);
	while (ks->settings) {
		struct settings *next = ks->settings->next;

		keyservice_settings_free(ks->settings);
		ks->settings = next;
	}
	keyservice_settings_free(ks->fresh);
	if (ks->wake >= 0)
		close(ks->wake);
	keyqueue_fini(&ks->queue);
	mutex_fini(&ks->lock);
	free(ks);
}

DEFINE_AUTO(half_made, struct keyservice *, dispose)

vcf_err_t keyservice_new(struct keyservice **out, const struct keyservice_config *cfg)
{
	struct keyservice *ks __attribute__((cleanup(cleanup_half_made))) = NULL;
	vcf_err_t err;

	ks = calloc(1, sizeof(*ks));
	if (!ks)
		return -ENOMEM;
	keyqueue_init(&ks->queue);
	mutex_init(&ks->lock, RANK_KEYSERVICE);
	ks->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ks->wake < 0)
		return -errno;
	err = settings_new(&ks->fresh, cfg);
	if (err)
		return err;
	ks->spawn = ks->fresh->cfg.spawn;
	ks->reap = ks->fresh->cfg.reap;
	ks->spawn_arg = ks->fresh->cfg.spawn_arg;
	ks->log_stderr = ks->fresh->cfg.log_stderr;
	ks->kept = ks->fresh->cfg.kept;
	ks->kept_cnt = ks->fresh->cfg.kept_cnt;
	ks->timeout_s = ks->fresh->cfg.timeout_s;
	keyservice_take_settings(ks);
	adopt_children(ks);
	err = -pthread_create(&ks->thread, NULL, keyservice_loop, ks);
	if (err)
		return err;
	*out = STEAL_PTR(&ks);
	return 0;
}

/* A configuration with the service's own way to start helpers, and its records. */
static struct keyservice_config with_spawner(const struct keyservice *ks,
					     const struct keyservice_config *cfg)
{
	struct keyservice_config own = *cfg;

	own.spawn = ks->spawn;
	own.reap = ks->reap;
	own.spawn_arg = ks->spawn_arg;
	own.log_stderr = ks->log_stderr;
	own.kept = ks->kept;
	own.kept_cnt = ks->kept_cnt;
	return own;
}

vcf_err_t keyservice_new_like(struct keyservice **out, const struct keyservice *like,
			      const struct keyservice_config *cfg)
{
	struct keyservice_config own = with_spawner(like, cfg);

	own.kept = NULL; /* those are the other one's */
	return keyservice_new(out, &own);
}

static void wake(struct keyservice *ks)
{
	uint64_t one = 1;

	if (write(ks->wake, &one, sizeof(one)) < 0)
		return; /* full: it wakes up anyway */
}

vcf_err_t keyservice_reload(struct keyservice *ks, const struct keyservice_config *cfg)
{
	struct keyservice_config own = with_spawner(ks, cfg);
	auto_settings struct settings *s = NULL;
	struct settings *unused; /* of a reload that the thread has not seen */
	vcf_err_t err = settings_new(&s, &own);

	if (err)
		return err;
	mutex_lock(&ks->lock);
	unused = ks->fresh;
	ks->timeout_s = s->cfg.timeout_s;
	ks->fresh = STEAL_PTR(&s);
	mutex_unlock(&ks->lock);
	keyservice_settings_free(unused);
	wake(ks);
	return 0;
}

void keyservice_shutdown(struct keyservice *ks)
{
	if (ks->joined)
		return;
	keyqueue_close(&ks->queue);
	wake(ks);
	pthread_join(ks->thread, NULL);
	ks->joined = true;
}

void keyservice_free(struct keyservice *ks)
{
	if (!ks)
		return;
	keyservice_shutdown(ks);
	dispose(ks);
}

/* --- calls --- */

static vcf_err_t submit(struct keyservice *ks, struct keyjob **job,
			keyservice_done_fn *done, void *arg)
{
	uint64_t deadline = clock_now_ms() + ks->timeout_s * UINT64_C(1000);
	vcf_err_t err = keyqueue_add(&ks->queue, *job, done, arg, deadline);

	if (err)
		return err;
	*job = NULL;
	wake(ks);
	return 0;
}

static vcf_err_t call(struct keyservice *ks, enum key_verb verb, const char *id,
		      const char *label, const struct secret *secret,
		      keyservice_done_fn *done, void *arg)
{
	auto_keyjob struct keyjob *job = NULL;
	vcf_err_t err = keyjob_new(&job, verb, id, label, secret);

	return err ? err : submit(ks, &job, done, arg);
}

vcf_err_t keyservice_get(struct keyservice *ks, const char *id, keyservice_done_fn *done,
			 void *arg)
{
	return call(ks, KEY_GET, id, NULL, NULL, done, arg);
}

vcf_err_t keyservice_new_secret(struct keyservice *ks, const char *label,
				const struct secret *secret, keyservice_done_fn *done,
				void *arg)
{
	return call(ks, KEY_NEW, NULL, label, secret, done, arg);
}

vcf_err_t keyservice_find(struct keyservice *ks, const char *label,
			  keyservice_done_fn *done, void *arg)
{
	return call(ks, KEY_FIND, NULL, label, NULL, done, arg);
}

vcf_err_t keyservice_list(struct keyservice *ks, const char *prefix,
			  keyservice_item_fn *item, void *item_arg,
			  keyservice_done_fn *done, void *arg)
{
	auto_keyjob struct keyjob *job = NULL;
	const char *label = prefix && *prefix ? prefix : NULL;
	vcf_err_t err = keyjob_new(&job, KEY_LIST, NULL, label, NULL);

	if (err)
		return err;
	job->item = item;
	job->item_arg = item_arg;
	return submit(ks, &job, done, arg);
}

vcf_err_t keyservice_destroy(struct keyservice *ks, const char *id, const char *label,
			     keyservice_done_fn *done, void *arg)
{
	return call(ks, KEY_DESTROY, id, label, NULL, done, arg);
}

vcf_err_t keyservice_ping(struct keyservice *ks, keyservice_done_fn *done, void *arg)
{
	return call(ks, KEY_PING, NULL, NULL, NULL, done, arg);
}

/* The helpers may be stopped: nothing has failed yet, but somebody waits. */
static bool is_slow_locked(const struct keyservice *ks)
{
	uint64_t since = clock_now_ms() - SLOW_MS;

	for (const struct keyjob *j = ks->queue.first; j; j = j->next) {
		for (const struct keywaiter *w = j->waiters; w; w = w->next) {
			if (w->deadline_ms < since + ks->timeout_s * UINT64_C(1000))
				return true;
		}
	}
	return false;
}

void keyservice_get_status(struct keyservice *ks, struct keyservice_status *out)
{
	static const char *const names[] = {"idle", "ok", "failing"};

	memset(out, 0, sizeof(*out));
	mutex_lock(&ks->lock);
	memcpy(out->helper, ks->helper, sizeof(out->helper));
	out->state = names[ks->health];
	out->children = ks->running;
	out->restarts = ks->restarts;
	out->caps = ks->caps;
	out->breaker = keybreaker_name(ks->shown);
	out->breaker_opened = ks->opened;
	memcpy(out->last_error, ks->last_error, sizeof(out->last_error));
	out->last_success = ks->success;
	out->last_failure = ks->failure;
	for (int i = 0; i < HISTOGRAM_CNT; i++)
		out->took_cnt[i] = ks->took.cnt[i];
	out->took_sum_ns = ks->took.sum_ns;
	mutex_unlock(&ks->lock);
	SCOPED_LOCK(&ks->queue.lock);
	if (strcmp(out->state, "failing") != 0 && is_slow_locked(ks))
		out->state = "slow";
	out->waiting = ks->queue.waiting;
	out->requests = ks->queue.requests;
	out->failures = ks->queue.failures;
}
