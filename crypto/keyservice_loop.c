/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The event loop of a key service. Everything here runs in the service's thread
 * (keyservice_impl.h).
 *
 * Settings (keyservice_reload) wait in `fresh` until the thread takes them. A helper keeps to
 * those it was started with: one that is not busy ends at once, a busy one after its answer;
 * settings go, wiped, with the last helper that has them.
 *
 * A service that does not answer: after some failures in a row the breaker opens (keybreaker.h).
 * Then all requests wait, up to their own deadlines, and one `ping` at a time asks whether it is
 * back; the first answer lets them all go, as many at once as there may be helpers.
 *
 * Pauses: a failed try makes its job wait (100 ms, doubling to 5 s, half of it random, or
 * what the helper said with retry-after); a lost helper makes the start of the next one
 * wait in the same way until one gives an answer, so that nothing spins.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crypto/keyjob.h"
#include "crypto/keyservice_impl.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/text.h"

enum {
	PAUSE_MIN_MS = 100,
	PAUSE_MAX_MS = 5000,
	LIST_TRIES = 6,	  /* of a list; nobody but a command waits for it */
	STAGGER_MS = 40,  /* between the starts of two helpers, at most */
	START_TRIES = 3,  /* keyservice_config.give_up */
	GOODBYE_MS = 300, /* for helpers to end by themselves at the end of their input */
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

void keyservice_note_running(struct keyservice *ks)
{
	SCOPED_LOCK(&ks->lock);

	ks->running = ks->child_cnt;
}

static void note_failure(struct keyservice *ks, const char *text, bool restart)
{
	SCOPED_LOCK(&ks->lock);

	ks->health = HEALTH_FAILING;
	ks->failure = time(NULL);
	ks->restarts += restart;
	snprintf(ks->last_error, sizeof(ks->last_error), "%.127s", text);
}

static void note_answer(struct keyservice *ks, unsigned int caps)
{
	SCOPED_LOCK(&ks->lock);

	ks->health = HEALTH_OK;
	ks->success = time(NULL);
	ks->caps = caps;
}

/* --- what helpers say on stderr --- */

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

struct speaker {
	struct keyservice *ks;
	const struct keychild *c;
};

/* Ours begin with their name. */
static const char *without_name(const char *line, const char *name)
{
	size_t len = strlen(name);

	return strncmp(line, name, len) == 0 && line[len] == ':' && line[len + 1] == ' '
		       ? line + len + 2
		       : line;
}

static void log_said(void *arg, const char *line)
{
	const struct speaker *sp = arg;
	const char *name = base_name(sp->c->cfg->helper);

	if (keysaid_may_log(&sp->ks->said, clock_now_ms()))
		log_info("key service %s: %s[%d]: %s", sp->c->cfg->name, name,
			 (int)sp->c->pid, without_name(line, name));
}

static void listen_to(struct keyservice *ks, struct keychild *c, uint64_t now)
{
	struct speaker sp = {ks, c};

	keychild_listen(c, now, log_said, &sp);
}

/* The helper is about to go: what it has said last, "" if nothing. */
static const char *last_words(struct keyservice *ks, struct keychild *c)
{
	struct speaker sp = {ks, c};

	keychild_listen(c, clock_now_ms(), log_said, &sp);
	return without_name(keysaid_last(&c->said, log_said, &sp),
			    base_name(c->cfg->helper));
}

static void listen_to_all(struct keyservice *ks)
{
	uint64_t now = clock_now_ms(), left_out;

	for (unsigned int i = 0; i < ks->child_cnt; i++)
		listen_to(ks, ks->children[i], now);
	left_out = keysaid_left_out(&ks->said, now);
	if (left_out)
		log_info("key service %s: %llu more lines of its helpers are left out",
			 ks->settings->cfg.name, (unsigned long long)left_out);
}

/* --- the breaker --- */

static void show_breaker(struct keyservice *ks)
{
	SCOPED_LOCK(&ks->lock);

	ks->shown = ks->breaker.state;
	ks->opened = ks->breaker.opened;
}

static void drop_probe(struct keyservice *ks)
{
	if (ks->probe)
		keyjob_free(STEAL_PTR(&ks->probe));
	ks->probe_sent = false;
}

/*
 * A try failed. job: whose, or NULL (a helper was lost before it had one). Beside the probe only
 * what is under way since before it opened can fail while it is not closed: that says nothing new.
 */
static void breaker_failed(struct keyservice *ks, const struct keyjob *job,
			   const char *text)
{
	bool probe = ks->probe && (job ? job == ks->probe : !ks->probe_sent);

	if (ks->breaker.state != KEYBREAKER_CLOSED && !probe)
		return;
	if (keybreaker_failed(&ks->breaker, clock_now_ms(), job ? job->retry_after_s : 0))
		log_warn("key service %s: it does not answer, requests wait, and it is "
			 "asked every few seconds whether it is back: %s",
			 ks->settings->cfg.name, text);
	if (probe && !job)
		drop_probe(ks); /* the next one, after the pause */
	show_breaker(ks);
}

/* The service gave an answer, be it a refusal. */
static void breaker_answered(struct keyservice *ks)
{
	if (!keybreaker_answered(&ks->breaker))
		return;
	log_info("key service %s: it answers again", ks->settings->cfg.name);
	if (!ks->probe_sent)
		drop_probe(ks);
	keyqueue_release(&ks->queue);
	show_breaker(ks);
}

/* Nobody is asked for the sake of asking: only while somebody waits. */
static void plan_probe(struct keyservice *ks, uint64_t now)
{
	struct keyjob *probe;

	if (!keybreaker_probe_due(&ks->breaker, now) || ks->probe ||
	    !keyqueue_waiting(&ks->queue) ||
	    keyjob_new(&probe, KEY_PING, NULL, NULL, NULL))
		return;
	ks->probe = probe;
	keybreaker_probe(&ks->breaker, now);
	show_breaker(ks);
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

static void retry_job(struct keyservice *ks, struct keyjob *job, const char *text)
{
	breaker_failed(ks, job, text);
	if (job == ks->probe)
		drop_probe(ks);
	else
		pause_job(ks, job);
}

/* What was refused is remembered for a second, what was made is not refused any more. */
static void finish_job(struct keyservice *ks, struct keyjob *job)
{
	if (job == ks->probe) {
		drop_probe(ks);
		return;
	}
	if (job->verb == KEY_GET)
		keynegative_note(&ks->negative, job->id, job->err, job->text,
				 clock_now_ms());
	else
		keynegative_forget(&ks->negative, job->id);
	keyqueue_finish(&ks->queue, job);
}

/* True if the answer is known: the job is finished. */
static bool answer_known(struct keyservice *ks, struct keyjob *job, uint64_t now)
{
	const struct keynegative_entry *e;

	if (job->verb != KEY_GET)
		return false;
	e = keynegative_find(&ks->negative, job->id, now);
	if (!e)
		return false;
	job->err = e->err;
	snprintf(job->text, sizeof(job->text), "%s", e->text);
	keyqueue_finish(&ks->queue, job);
	return true;
}

/* The next request for a helper, or NULL. */
static struct keyjob *next_job(struct keyservice *ks, uint64_t now)
{
	struct keyjob *job;

	if (ks->breaker.state == KEYBREAKER_PROBING && ks->probe && !ks->probe_sent) {
		ks->probe_sent = true;
		return ks->probe;
	}
	if (ks->breaker.state != KEYBREAKER_CLOSED)
		return NULL;
	do {
		job = keyqueue_take(&ks->queue, now);
	} while (job && answer_known(ks, job, now));
	return job;
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
	histogram_add_own(&ks->took, clock_now_ns() - c->sent_ns);
	keychild_done(c);
	if (verdict == KEYJOB_RETRY) {
		note_failure(ks, job->text, false);
		retry_job(ks, job, job->text);
		return true;
	}
	note_answer(ks, c->caps);
	breaker_answered(ks);
	if (verdict == KEYJOB_AGAIN)
		keyqueue_put_back(&ks->queue, job, 0);
	else
		finish_job(ks, job);
	return true;
}

/* --- helpers --- */

static void delay_start(struct keyservice *ks)
{
	ks->start_ms = clock_now_ms() + pause_ms(++ks->streak);
}

/* Those that share no log-in shall not all log in at one moment. */
static void stagger(struct keyservice *ks, uint64_t now)
{
	uint8_t dice;

	secret_random(&dice, sizeof(dice));
	ks->stagger_ms = now + 1 + dice % STAGGER_MS;
}

/* The first helper need not wait for others. */
static uint64_t start_at_ms(const struct keyservice *ks)
{
	if (!ks->child_cnt || ks->start_ms > ks->stagger_ms)
		return ks->start_ms;
	return ks->stagger_ms;
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
		breaker_failed(ks, NULL, text);
		ks->unstarted++;
		delay_start(ks);
		return;
	}
	ks->child_cnt++;
	stagger(ks, now);
	keyservice_note_running(ks);
}

void keyservice_drop_child(struct keyservice *ks, unsigned int i)
{
	struct speaker sp = {ks, ks->children[i]};

	keychild_listen(ks->children[i], UINT64_MAX, log_said, &sp);
	keychild_free(ks->children[i]);
	ks->children[i] = ks->children[--ks->child_cnt];
	keyservice_note_running(ks);
}

/* A helper is of no use any more; its job, if any, waits for another. */
static void lose_child(struct keyservice *ks, unsigned int i)
{
	struct keychild *c = ks->children[i];
	struct keyjob *job = c->job;
	const char *last = last_words(ks, c);
	char text[128 + KEYSAID_TEXT_MAX];

	snprintf(text, sizeof(text), "helper %s%s%s", c->why,
		 *last ? ", last words: " : "", last);
	log_err("key service %s: %s (process %d) %s%s", c->cfg->name, c->cfg->helper,
		(int)c->pid, text + strlen("helper "),
		job ? "; its request is repeated" : "");
	note_failure(ks, text, true);
	ks->unstarted += c->state < KEYCHILD_IDLE;
	delay_start(ks);
	c->job = NULL;
	keyservice_drop_child(ks, i);
	if (!job) {
		breaker_failed(ks, NULL, text);
		return;
	}
	keyjob_lost(job, text);
	retry_job(ks, job, text);
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
	if (c->state >= KEYCHILD_IDLE)
		ks->unstarted = 0;
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
		job = next_job(ks, now);
		if (!job)
			return;
		if (keychild_send(c, job, ++ks->tag, deadline) || keychild_io(c))
			lose_child(ks, i);
	}
}

/* How many requests could be sent. */
static unsigned int wanted_helpers(struct keyservice *ks, uint64_t now)
{
	if (ks->breaker.state == KEYBREAKER_CLOSED)
		return keyqueue_ready(&ks->queue, now);
	return ks->probe && !ks->probe_sent;
}

/* One helper for each job that finds none free, up to the limit. */
static void start_children(struct keyservice *ks, uint64_t now)
{
	unsigned int wanted = wanted_helpers(ks, now);
	unsigned int starting = 0;

	for (unsigned int i = 0; i < ks->child_cnt; i++)
		starting += ks->children[i]->state < KEYCHILD_IDLE;
	for (; starting < wanted; starting++) {
		if (ks->child_cnt >= ks->settings->cfg.children || now < start_at_ms(ks))
			return;
		start_child(ks, now);
	}
}

/* --- new settings --- */

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
			keyservice_drop_child(ks, i);
	}
	while (*pp) {
		struct settings *s = *pp;

		if (in_use(ks, s)) {
			pp = &s->next;
			continue;
		}
		*pp = s->next;
		keyservice_settings_free(s);
	}
}

/* The failures of helpers with older settings say nothing of the new ones. */
static bool adopt_settings(struct keyservice *ks)
{
	struct settings *s;
	SCOPED_LOCK(&ks->lock);

	s = STEAL_PTR(&ks->fresh);
	if (!s)
		return false;
	s->next = ks->settings;
	ks->settings = s;
	TEXT_CUT(ks->helper, base_name(s->cfg.helper));
	ks->streak = 0;
	ks->start_ms = 0;
	keynegative_forget(&ks->negative, NULL);
	return true;
}

/* ... and they may find the service at once. */
void keyservice_take_settings(struct keyservice *ks)
{
	if (adopt_settings(ks) && ks->breaker.state != KEYBREAKER_CLOSED)
		breaker_answered(ks);
}

/* --- the loop --- */

static uint64_t next_event_ms(struct keyservice *ks, uint64_t now)
{
	uint64_t next = keyqueue_next_ms(&ks->queue, now);

	for (unsigned int i = 0; i < ks->child_cnt; i++) {
		if (ks->children[i]->state != KEYCHILD_IDLE)
			next = min_ms(next, ks->children[i]->deadline_ms);
	}
	if (start_at_ms(ks) > now && ks->child_cnt < ks->settings->cfg.children &&
	    wanted_helpers(ks, now))
		next = min_ms(next, start_at_ms(ks));
	if (ks->breaker.state == KEYBREAKER_OPEN && keyqueue_waiting(&ks->queue))
		next = min_ms(next, ks->breaker.probe_at_ms);
	for (unsigned int i = 0; i < ks->child_cnt; i++)
		next = min_ms(next, keysaid_next_ms(&ks->children[i]->said));
	return min_ms(next, keysaid_left_out_ms(&ks->said));
}

static void wait_events(struct keyservice *ks, uint64_t now)
{
	struct pollfd p[1 + KEYCHILD_FDS * KEYCONFIG_CHILDREN_MAX];
	uint64_t next = next_event_ms(ks, now);
	int timeout = -1;
	uint64_t v;

	if (next != UINT64_MAX)
		timeout = next > now ? (int)min_ms(next - now, 60000) : 0;
	p[0] = (struct pollfd){.fd = ks->wake, .events = POLLIN};
	for (unsigned int i = 0; i < ks->child_cnt; i++)
		keychild_poll(ks->children[i], &p[1 + KEYCHILD_FDS * i]);
	if (poll(p, 1 + KEYCHILD_FDS * ks->child_cnt, timeout) > 0 && p[0].revents &&
	    read(ks->wake, &v, sizeof(v)) < 0)
		return; /* another reader there is none: nothing to do */
}

static void expire_jobs(struct keyservice *ks, uint64_t now)
{
	bool hopeless = ks->settings->cfg.give_up && ks->unstarted >= START_TRIES;
	char reason[sizeof(ks->last_error) + 64];

	mutex_lock(&ks->lock);
	snprintf(reason, sizeof(reason), "%s%s",
		 hopeless ? "the key helper does not start: " : "", ks->last_error);
	mutex_unlock(&ks->lock);
	keyqueue_expire(&ks->queue, hopeless ? UINT64_MAX : now, reason);
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
	drop_probe(ks);
	for (unsigned int i = 0; i < ks->child_cnt; i++)
		ks->children[i]->job = NULL;
	say_goodbye(ks);
	while (ks->child_cnt)
		keyservice_drop_child(ks, ks->child_cnt - 1);
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

void *keyservice_loop(void *arg)
{
	struct keyservice *ks = arg;

	block_signals();
	while (!keyqueue_closed(&ks->queue)) {
		uint64_t now = clock_now_ms();

		keyservice_take_settings(ks);
		retire_children(ks);
		expire_jobs(ks, now);
		plan_probe(ks, now);
		assign_jobs(ks, now);
		start_children(ks, now);
		wait_events(ks, now);
		listen_to_all(ks);
		serve_children(ks);
	}
	shut_down(ks);
	return NULL;
}
