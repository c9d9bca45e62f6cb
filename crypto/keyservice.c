/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The event loop of a key service. The queue (keyqueue.h) and the figures for the status
 * have locks; the helpers and all else marked (t) belong to the service's thread.
 *
 * Settings (keyservice_reload) wait in `fresh` until the thread takes them. A helper keeps to
 * those it was started with: one that is not busy ends at once, a busy one after its answer;
 * settings go, wiped, with the last helper that has them.
 *
 * Pauses: a failed try makes its job wait (100 ms, doubling to 5 s, half of it random, or
 * what the helper said with retry-after); a lost helper makes the start of the next one
 * wait in the same way until one gives an answer, so that nothing spins.
 */
#include "crypto/keyservice.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "crypto/keyconfig.h"
#include "crypto/keyjob.h"
#include "crypto/keyqueue.h"
#include "crypto/keyservice_child.h"
#include "util/clock.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/text.h"

enum {
	PAUSE_MIN_MS = 100,
	PAUSE_MAX_MS = 5000,
	LIST_TRIES = 6,	  /* of a list; nobody but a command waits for it */
	GOODBYE_MS = 300, /* for helpers to end by themselves at the end of their input */
};

enum health { HEALTH_IDLE, HEALTH_OK, HEALTH_FAILING };

/* A configuration with strings of ours. */
struct settings {
	struct keyservice_config cfg;
	struct settings *next; /* older ones that a helper still has */
};

struct keyservice {
	keyservice_spawn_fn *spawn;	/* (c) */
	keyservice_reap_fn *reap;	/* (c) */
	void *spawn_arg;		/* (c) */
	struct keyservice_helper *kept; /* (c) */
	unsigned int kept_cnt;		/* (c) */
	struct settings *settings;	/* (t) never NULL once the thread runs */
	_Atomic unsigned int timeout_s;
	struct keyqueue queue;
	int wake; /* (c) eventfd */
	pthread_t thread;
	bool joined;					   /* by shutdown */
	struct keychild *children[KEYCONFIG_CHILDREN_MAX]; /* (t) */
	unsigned int child_cnt;				   /* (t) */
	unsigned int streak;	/* (t) helpers lost since the last answer */
	uint64_t start_ms;	/* (t) no helper is started before */
	uint64_t tag;		/* (t) */
	struct mutex lock;	/* of what follows */
	enum health health;	/* (l) */
	unsigned int running;	/* (l) */
	uint64_t restarts;	/* (l) */
	char last_error[128];	/* (l) */
	char helper[64];	/* (l) the base name of the program */
	struct settings *fresh; /* (l) to be taken up, or NULL */
};

/* The pause after the n-th failure in a row, n >= 1. */
static uint64_t pause_ms(unsigned int n)
{
	uint32_t whole = n > 6 ? PAUSE_MAX_MS : (uint32_t)PAUSE_MIN_MS << (n - 1);
	uint32_t dice;

	secret_random(&dice, sizeof(dice));
	return whole / 2 + dice % (whole / 2 + 1);
}

static uint64_t min_ms(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* --- the figures --- */

static void note_running(struct keyservice *ks)
{
	SCOPED_LOCK(&ks->lock);

	ks->running = ks->child_cnt;
}

static void note_failure(struct keyservice *ks, const char *text, bool restart)
{
	SCOPED_LOCK(&ks->lock);

	ks->health = HEALTH_FAILING;
	ks->restarts += restart;
	snprintf(ks->last_error, sizeof(ks->last_error), "%.127s", text);
}

static void note_answer(struct keyservice *ks)
{
	SCOPED_LOCK(&ks->lock);

	ks->health = HEALTH_OK;
}

/* --- jobs --- */

static void pause_job(struct keyservice *ks, struct keyjob *job)
{
	uint64_t pause = pause_ms(++job->tries);

	if (job->verb == KEY_LIST && job->tries >= LIST_TRIES) {
		job->err = -ETIMEDOUT;
		keyqueue_finish(&ks->queue, job);
		return;
	}
	if (pause < job->retry_after_s * UINT64_C(1000))
		pause = job->retry_after_s * UINT64_C(1000);
	keyqueue_put_back(&ks->queue, job, clock_now_ms() + pause);
}

/* Each line is a sign of life, for the helper and for the whole. */
static void go_on_listing(struct keyservice *ks, struct keychild *c)
{
	uint64_t now = clock_now_ms();

	c->deadline_ms = now + c->cfg->request_timeout_ms;
	keyqueue_extend(&ks->queue, c->job, now + ks->timeout_s * UINT64_C(1000));
}

/* One answer line for a busy helper. False if the helper is to be replaced. */
static bool take_reply(struct keyservice *ks, struct keychild *c, struct key_reply *r)
{
	struct keyjob *job = c->job;
	enum keyjob_verdict verdict = keyjob_reply(job, r);

	if (verdict == KEYJOB_NONSENSE) {
		c->why = "gave an answer that does not fit the request";
		return false;
	}
	ks->streak = 0;
	if (verdict == KEYJOB_MORE) {
		if (job->verb == KEY_LIST)
			go_on_listing(ks, c);
		return true;
	}
	keychild_done(c);
	if (verdict == KEYJOB_RETRY) {
		note_failure(ks, job->text, false);
		pause_job(ks, job);
		return true;
	}
	note_answer(ks);
	if (verdict == KEYJOB_AGAIN)
		keyqueue_put_back(&ks->queue, job, 0);
	else
		keyqueue_finish(&ks->queue, job);
	return true;
}

/* --- helpers --- */

static void delay_start(struct keyservice *ks)
{
	ks->start_ms = clock_now_ms() + pause_ms(++ks->streak);
}

static void start_child(struct keyservice *ks, uint64_t now)
{
	const struct keyservice_config *cfg = &ks->settings->cfg;
	uint64_t deadline = now + cfg->request_timeout_ms;
	char text[128];
	vcf_err_t err;

	err = keychild_new(&ks->children[ks->child_cnt], cfg, deadline);
	if (err) {
		snprintf(text, sizeof(text), "cannot start the helper: %s",
			 strerror(-err));
		log_err("key service %s: %s: %s", cfg->name, cfg->helper, text);
		note_failure(ks, text, false);
		delay_start(ks);
		return;
	}
	ks->child_cnt++;
	note_running(ks);
}

static void drop_child(struct keyservice *ks, unsigned int i)
{
	keychild_free(ks->children[i]);
	ks->children[i] = ks->children[--ks->child_cnt];
	note_running(ks);
}

/* A helper is of no use any more; its job, if any, waits for another. */
static void lose_child(struct keyservice *ks, unsigned int i)
{
	struct keychild *c = ks->children[i];
	struct keyjob *job = c->job;
	char text[128];

	snprintf(text, sizeof(text), "helper %s", c->why);
	log_err("key service %s: %s (process %d) %s%s", c->cfg->name, c->cfg->helper,
		(int)c->pid, c->why, job ? "; its request is repeated" : "");
	note_failure(ks, text, true);
	delay_start(ks);
	c->job = NULL;
	drop_child(ks, i);
	if (!job)
		return;
	keyjob_lost(job, text);
	pause_job(ks, job);
}

/* Reads, writes and handles answers. False if the helper is to be replaced. */
static bool serve_child(struct keyservice *ks, struct keychild *c, uint64_t now)
{
	struct key_reply *reply;
	int rc = keychild_io(c);

	if (rc)
		return false;
	while ((rc = keychild_next(c, &reply)) > 0) {
		if (!take_reply(ks, c, reply))
			return false;
	}
	if (rc == 0 && c->state != KEYCHILD_IDLE && now >= c->deadline_ms) {
		c->why = "did not answer in time";
		return false;
	}
	return rc == 0;
}

static void serve_children(struct keyservice *ks)
{
	uint64_t now = clock_now_ms();

	for (unsigned int i = ks->child_cnt; i-- > 0;) {
		if (!serve_child(ks, ks->children[i], now))
			lose_child(ks, i);
	}
}

static void assign_jobs(struct keyservice *ks, uint64_t now)
{
	uint64_t deadline = now + ks->settings->cfg.request_timeout_ms;

	for (unsigned int i = ks->child_cnt; i-- > 0;) {
		struct keychild *c = ks->children[i];
		struct keyjob *job;

		if (c->state != KEYCHILD_IDLE)
			continue;
		job = keyqueue_take(&ks->queue, now);
		if (!job)
			return;
		if (keychild_send(c, job, ++ks->tag, deadline) || keychild_io(c))
			lose_child(ks, i);
	}
}

/* One helper for each job that finds none free, up to the limit. */
static void start_children(struct keyservice *ks, uint64_t now)
{
	unsigned int wanted = keyqueue_ready(&ks->queue, now);
	unsigned int starting = 0;

	for (unsigned int i = 0; i < ks->child_cnt; i++)
		starting += ks->children[i]->state < KEYCHILD_IDLE;
	for (; starting < wanted; starting++) {
		if (ks->child_cnt >= ks->settings->cfg.children || now < ks->start_ms)
			return;
		start_child(ks, now);
	}
}

/* --- new settings --- */

static void settings_free(struct settings *s)
{
	if (!s)
		return;
	keyconfig_free(&s->cfg);
	free(s);
}

DEFINE_AUTO(settings, struct settings *, settings_free)
#define auto_settings __attribute__((cleanup(cleanup_settings)))

static vcf_err_t settings_new(struct settings **out, const struct keyservice_config *cfg)
{
	auto_settings struct settings *s = calloc(1, sizeof(*s));
	vcf_err_t err = s ? keyconfig_copy(&s->cfg, cfg) : -ENOMEM;

	if (err)
		return err;
	*out = STEAL_PTR(&s);
	return 0;
}

static bool in_use(const struct keyservice *ks, const struct settings *s)
{
	for (unsigned int i = 0; i < ks->child_cnt; i++) {
		if (ks->children[i]->cfg == &s->cfg)
			return true;
	}
	return false;
}

/* Ends the helpers with older settings that have no request, and frees what nobody has. */
static void retire_children(struct keyservice *ks)
{
	struct settings **pp = &ks->settings->next;

	if (!*pp)
		return;
	for (unsigned int i = ks->child_cnt; i-- > 0;) {
		if (ks->children[i]->cfg != &ks->settings->cfg && !ks->children[i]->job)
			drop_child(ks, i);
	}
	while (*pp) {
		struct settings *s = *pp;

		if (in_use(ks, s)) {
			pp = &s->next;
			continue;
		}
		*pp = s->next;
		settings_free(s);
	}
}

/* The failures of helpers with older settings say nothing of the new ones. */
static void take_settings(struct keyservice *ks)
{
	const char *slash;
	struct settings *s;
	SCOPED_LOCK(&ks->lock);

	s = STEAL_PTR(&ks->fresh);
	if (!s)
		return;
	s->next = ks->settings;
	ks->settings = s;
	slash = strrchr(s->cfg.helper, '/');
	TEXT_CUT(ks->helper, slash ? slash + 1 : s->cfg.helper);
	ks->streak = 0;
	ks->start_ms = 0;
}

/* --- the loop --- */

static uint64_t next_event_ms(struct keyservice *ks, uint64_t now)
{
	uint64_t next = keyqueue_next_ms(&ks->queue, now);

	for (unsigned int i = 0; i < ks->child_cnt; i++) {
		if (ks->children[i]->state != KEYCHILD_IDLE)
			next = min_ms(next, ks->children[i]->deadline_ms);
	}
	if (ks->start_ms > now && ks->child_cnt < ks->settings->cfg.children &&
	    keyqueue_ready(&ks->queue, now))
		next = min_ms(next, ks->start_ms);
	return next;
}

static void wait_events(struct keyservice *ks, uint64_t now)
{
	struct pollfd p[1 + 2 * KEYCONFIG_CHILDREN_MAX];
	uint64_t next = next_event_ms(ks, now);
	int timeout = -1;
	uint64_t v;

	if (next != UINT64_MAX)
		timeout = next > now ? (int)min_ms(next - now, 60000) : 0;
	p[0] = (struct pollfd){.fd = ks->wake, .events = POLLIN};
	for (unsigned int i = 0; i < ks->child_cnt; i++)
		keychild_poll(ks->children[i], &p[1 + 2 * i]);
	if (poll(p, 1 + 2 * ks->child_cnt, timeout) > 0 && p[0].revents &&
	    read(ks->wake, &v, sizeof(v)) < 0)
		return; /* another reader there is none: nothing to do */
}

static void expire_jobs(struct keyservice *ks, uint64_t now)
{
	char reason[sizeof(ks->last_error)];

	mutex_lock(&ks->lock);
	memcpy(reason, ks->last_error, sizeof(reason));
	mutex_unlock(&ks->lock);
	keyqueue_expire(&ks->queue, now, reason);
}

/* Ends the input of all helpers and gives them a moment to see it. */
static void say_goodbye(struct keyservice *ks)
{
	uint64_t end = clock_now_ms() + GOODBYE_MS;
	struct pollfd p = {.events = 0};

	for (unsigned int i = 0; i < ks->child_cnt; i++) {
		if (ks->children[i]->to != ks->children[i]->from)
			close(STEAL_FD(&ks->children[i]->to));
	}
	for (unsigned int i = 0; i < ks->child_cnt; i++) {
		uint64_t now = clock_now_ms();

		p.fd = ks->children[i]->from;
		poll(&p, 1, now < end ? (int)(end - now) : 0);
	}
}

static void shut_down(struct keyservice *ks)
{
	keyqueue_cancel(&ks->queue);
	for (unsigned int i = 0; i < ks->child_cnt; i++)
		ks->children[i]->job = NULL;
	say_goodbye(ks);
	while (ks->child_cnt)
		drop_child(ks, ks->child_cnt - 1);
}

/*
 * The thread takes no signals: SIGPIPE of a dead helper must not end the program, the
 * others are for threads that know what to do. Faults stay as they are.
 */
static void block_signals(void)
{
	static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS};
	sigset_t set;

	sigfillset(&set);
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		sigdelset(&set, faults[i]);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
}

static void *loop(void *arg)
{
	struct keyservice *ks = arg;

	block_signals();
	while (!keyqueue_closed(&ks->queue)) {
		uint64_t now = clock_now_ms();

		take_settings(ks);
		retire_children(ks);
		expire_jobs(ks, now);
		assign_jobs(ks, now);
		start_children(ks, now);
		wait_events(ks, now);
		serve_children(ks);
	}
	shut_down(ks);
	return NULL;
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

	for (unsigned int i = 0; i < cfg->kept_cnt && cfg->kept; i++) {
		struct keyservice_helper *record = &cfg->kept[i];

		if (!record->pid)
			continue;
		if (adopt_child(ks, record) == 0)
			ks->child_cnt++;
		else
			keychild_end(cfg, record);
	}
	note_running(ks);
}

/* All but the thread. */
static void dispose(struct keyservice *ks)
{
	while (ks->child_cnt)
		drop_child(ks, ks->child_cnt - 1);
	while (ks->settings) {
		struct settings *next = ks->settings->next;

		settings_free(ks->settings);
		ks->settings = next;
	}
	settings_free(ks->fresh);
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
	ks->kept = ks->fresh->cfg.kept;
	ks->kept_cnt = ks->fresh->cfg.kept_cnt;
	ks->timeout_s = ks->fresh->cfg.timeout_s;
	take_settings(ks);
	adopt_children(ks);
	err = -pthread_create(&ks->thread, NULL, loop, ks);
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
	settings_free(unused);
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

void keyservice_get_status(struct keyservice *ks, struct keyservice_status *out)
{
	static const char *const names[] = {"idle", "ok", "failing"};

	memset(out, 0, sizeof(*out));
	mutex_lock(&ks->lock);
	memcpy(out->helper, ks->helper, sizeof(out->helper));
	out->state = names[ks->health];
	out->children = ks->running;
	out->restarts = ks->restarts;
	memcpy(out->last_error, ks->last_error, sizeof(out->last_error));
	mutex_unlock(&ks->lock);
	SCOPED_LOCK(&ks->queue.lock);
	out->waiting = ks->queue.waiting;
	out->requests = ks->queue.requests;
	out->failures = ks->queue.failures;
}
