/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "crypto/journal.h"
#include "crypto/reserve.h"
#include "tests/unit/fake_service.h"
#include "tests/unit/unit.h"

static const struct reserve_timing quick = {
	.refuse_ms = 50, .backoff_min_ms = 5, .backoff_max_ms = 20, .settle_ms = 0};
static const struct reserve_timing slow_settle = {
	.refuse_ms = 50, .backoff_min_ms = 5, .backoff_max_ms = 20, .settle_ms = 60000};

/* Waits until cond holds, at most some seconds. */
#define UNTIL(cond)                                                                      \
	do {                                                                             \
		int tries_ = 0;                                                          \
		while (!(cond) && tries_++ < 5000)                                       \
			usleep(1000);                                                    \
		ck_assert_msg(cond, "never: %s", #cond);                                 \
	} while (0)

struct rig {
	struct keyservice *ks;
	struct journal *j;
	struct reserve *r;
};

static const char *journal_path(void)
{
	static char path[4200];

	snprintf(path, sizeof(path), "%s/journal", unit_tmpdir());
	return path;
}

static void start_reserve(struct rig *g, unsigned int target,
			  const struct reserve_timing *timing)
{
	ck_assert_int_eq(reserve_new_timed(&g->r, g->ks, g->j, "vault", target, timing),
			 0);
}

static void set_up(struct rig *g)
{
	unlink(journal_path());
	*g = (struct rig){.ks = fake_new()};
	ck_assert_int_eq(journal_open(&g->j, journal_path()), 0);
}

static void tear_down(struct rig *g)
{
	reserve_free(g->r);
	keyservice_free(g->ks);
	journal_close(g->j);
}

static void restart(struct rig *g, unsigned int target,
		    const struct reserve_timing *timing)
{
	reserve_free(g->r);
	journal_close(g->j);
	ck_assert_int_eq(journal_open(&g->j, journal_path()), 0);
	start_reserve(g, target, timing);
}

static int count(struct rig *g, enum journal_state state)
{
	return (int)journal_count(g->j, state);
}

static int live(struct rig *g)
{
	int cnt = 0;

	for (int s = JOURNAL_CREATING; s < JOURNAL_CLOSED; s++)
		cnt += count(g, (enum journal_state)s);
	return cnt;
}

/* A taker that waits. */
struct waiter {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	int calls;
	vcf_err_t err;
};

#define WAITER_INIT                                                                      \
	{                                                                                \
		.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER      \
	}

static void on_ready(void *arg, vcf_err_t err)
{
	struct waiter *w = arg;

	pthread_mutex_lock(&w->lock);
	w->calls++;
	w->err = err;
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
}

static int calls_of(struct waiter *w)
{
	int calls;

	pthread_mutex_lock(&w->lock);
	calls = w->calls;
	pthread_mutex_unlock(&w->lock);
	return calls;
}

static vcf_err_t wait_ready(struct waiter *w)
{
	vcf_err_t err;

	pthread_mutex_lock(&w->lock);
	while (!w->calls)
		pthread_cond_wait(&w->wake, &w->lock);
	w->calls--;
	err = w->err;
	pthread_mutex_unlock(&w->lock);
	return err;
}

static vcf_err_t take(struct reserve *r, struct reserved *out)
{
	struct waiter w = WAITER_INIT;
	vcf_err_t err;

	do {
		err = reserve_take(r, out, NULL, on_ready, &w);
		if (err != -EINPROGRESS)
			return err;
		err = wait_ready(&w);
	} while (!err);
	return err;
}

static void use(struct rig *g, struct reserved *res)
{
	ck_assert_int_eq(reserve_using(g->r, res, 1, 2, "i/disk"), 0);
	reserve_used(g->r, res);
	ck_assert_ptr_null(res->secret);
}

START_TEST(life_of_a_secret)
{
	struct journal_entry e;
	struct reserved res, again;
	struct rig g;

	set_up(&g);
	start_reserve(&g, 2, &quick);
	UNTIL(reserve_count(g.r) == 2);
	ck_assert_int_eq(count(&g, JOURNAL_UNUSED), 2);
	ck_assert_int_eq(take(g.r, &res), 0);
	ck_assert(fake_equal(g.ks, res.key_id, res.secret));
	ck_assert(fake_has_label(g.ks, res.uuid));
	ck_assert_int_eq(journal_get(g.j, res.journal_id, &e), 0);
	ck_assert_str_eq(e.key_id, res.key_id);
	ck_assert_str_eq(e.service, "vault");
	ck_assert_mem_eq(e.uuid, res.uuid, UUID_LEN);
	ck_assert_int_eq(e.state, JOURNAL_UNUSED);
	UNTIL(reserve_count(g.r) == 2); /* refilled */
	ck_assert_int_eq(reserve_using(g.r, &res, 1, 2, "i/disk"), 0);
	ck_assert_int_eq(journal_get(g.j, res.journal_id, &e), 0);
	ck_assert_int_eq(e.state, JOURNAL_USING);
	ck_assert_str_eq(e.path, "i/disk");
	reserve_put_back(g.r, &res);
	ck_assert_ptr_null(res.secret);
	ck_assert_int_eq((int)reserve_count(g.r), 3);
	ck_assert_int_eq(journal_get(g.j, res.journal_id, &e), 0);
	ck_assert_int_eq(e.state, JOURNAL_UNUSED);
	ck_assert_int_eq(take(g.r, &again), 0);
	use(&g, &again);
	ck_assert_int_eq(journal_get(g.j, again.journal_id, &e), -ENOENT);
	ck_assert_int_eq(live(&g), 2);
	tear_down(&g);
}
END_TEST

START_TEST(another_target)
{
	struct reserved res;
	struct rig g;

	set_up(&g);
	start_reserve(&g, 1, &quick);
	UNTIL(reserve_count(g.r) == 1);
	reserve_set_target(g.r, 3);
	UNTIL(reserve_count(g.r) == 3);
	reserve_set_target(g.r, 0);
	usleep(5000);
	ck_assert_int_eq((int)reserve_count(g.r), 3); /* they are there: they are used */
	ck_assert_int_eq(take(g.r, &res), 0);
	use(&g, &res);
	usleep(5000);
	ck_assert_int_eq((int)reserve_count(g.r), 2);
	ck_assert_int_eq(fake_calls(g.ks, KEY_NEW), 3);
	tear_down(&g);
}
END_TEST

/* A service that leaves the configuration and comes back: its secrets go to one container each. */
START_TEST(retired)
{
	struct reserved held, res;
	struct reserve *again;
	struct rig g;

	set_up(&g);
	start_reserve(&g, 2, &quick);
	UNTIL(reserve_count(g.r) == 2);
	ck_assert_int_eq(take(g.r, &held), 0);
	UNTIL(reserve_count(g.r) == 2);
	reserve_retire(g.r);
	ck_assert_int_eq(take(g.r, &res), -ECANCELED);
	ck_assert_int_eq(reserve_new_timed(&again, g.ks, g.j, "vault", 0, &quick), 0);
	UNTIL(reserve_count(again) == 3);
	do
		ck_assert_int_eq(take(again, &res), 0);
	while (res.journal_id != held.journal_id && (reserve_used(again, &res), true));
	ck_assert_int_eq(reserve_using(again, &res, 1, 2, "i/disk"), 0);
	ck_assert_int_eq(reserve_using(g.r, &held, 1, 3, "i/other"), -ESTALE);
	reserve_put_back(g.r, &held);
	ck_assert_int_eq(count(&g, JOURNAL_USING), 1);
	reserve_used(again, &res);
	ck_assert_int_eq(reserve_using(g.r, &held, 1, 3, "i/other"), -ENOENT);
	ck_assert_ptr_null(held.secret);
	reserve_free(again);
	tear_down(&g);
}
END_TEST

START_TEST(on_demand)
{
	struct reserved res;
	struct rig g;

	set_up(&g);
	start_reserve(&g, 0, &quick);
	usleep(5000);
	ck_assert_int_eq(fake_calls(g.ks, KEY_NEW), 0);
	for (int i = 1; i <= 3; i++) {
		ck_assert_int_eq(take(g.r, &res), 0);
		use(&g, &res);
		ck_assert_int_eq(fake_calls(g.ks, KEY_NEW), i);
	}
	ck_assert_int_eq(live(&g), 0);
	tear_down(&g);
}
END_TEST

START_TEST(taken_up_again)
{
	struct reserved res;
	struct rig g;

	set_up(&g);
	start_reserve(&g, 3, &quick);
	UNTIL(reserve_count(g.r) == 3);
	restart(&g, 3, &quick);
	UNTIL(reserve_count(g.r) == 3);
	ck_assert_int_eq(fake_calls(g.ks, KEY_NEW), 3);
	ck_assert_int_eq(take(g.r, &res), 0);
	ck_assert(fake_equal(g.ks, res.key_id, res.secret));
	fake_remove(g.ks, res.key_id);
	secret_free(res.secret); /* a crash: still unused in the journal */
	restart(&g, 0, &quick);
	UNTIL(count(&g, JOURNAL_UNUSED) == (int)reserve_count(g.r));
	ck_assert(!fake_has(g.ks, res.key_id));
	tear_down(&g);
}
END_TEST

static void journal_creating(struct rig *g, const char *service, unsigned char uuid)
{
	struct journal_entry e = {.state = JOURNAL_CREATING};

	memset(e.uuid, uuid, UUID_LEN);
	snprintf(e.service, sizeof(e.service), "%s", service);
	ck_assert_int_eq(journal_add(g->j, &e, NULL), 0);
}

/* What a run left in doubt: found at the service, not there, another service's. */
START_TEST(settles_an_earlier_run)
{
	unsigned char found[UUID_LEN];
	auto_secret struct secret *s = NULL;
	struct reserved res;
	struct rig g;

	set_up(&g);
	ck_assert_int_eq(secret_new_random(&s), 0);
	memset(found, 1, sizeof(found));
	fake_put(g.ks, found, s);
	journal_creating(&g, "vault", 1);
	journal_creating(&g, "vault", 2);
	journal_creating(&g, "other", 3);
	start_reserve(&g, 0, &quick);
	UNTIL(reserve_count(g.r) == 1);
	UNTIL(count(&g, JOURNAL_CREATING) == 1);
	ck_assert_int_eq(live(&g), 2);
	ck_assert_int_eq(take(g.r, &res), 0);
	ck_assert(secret_equal(res.secret, s));
	ck_assert_mem_eq(res.uuid, found, UUID_LEN);
	use(&g, &res);
	tear_down(&g);
}
END_TEST

/* A young `new` may still arrive: "not found" does not close it. */
START_TEST(doubt_lasts)
{
	struct rig g;

	set_up(&g);
	journal_creating(&g, "vault", 1);
	start_reserve(&g, 0, &slow_settle);
	UNTIL(fake_calls(g.ks, KEY_FIND) > 0);
	usleep(5000);
	ck_assert_int_eq(count(&g, JOURNAL_CREATING), 1);
	tear_down(&g);
}
END_TEST

START_TEST(lost_reply)
{
	struct reserved res;
	struct rig g;

	set_up(&g);
	fake_fail(g.ks, KEY_NEW, FAKE_LOSE_REPLY, -ETIMEDOUT, 1);
	start_reserve(&g, 0, &quick);
	ck_assert_int_eq(take(g.r, &res), -ETIMEDOUT);
	UNTIL(reserve_count(g.r) == 1);
	ck_assert_int_eq(take(g.r, &res), 0);
	ck_assert(fake_equal(g.ks, res.key_id, res.secret));
	use(&g, &res);
	ck_assert_int_eq(fake_calls(g.ks, KEY_NEW), 1);
	ck_assert_int_eq(fake_records(g.ks), 1);
	ck_assert_int_eq(live(&g), 0);
	tear_down(&g);
}
END_TEST

static const vcf_err_t refused_rows[] = {-EKEYREJECTED, -EDQUOT, -EINVAL};

START_TEST(refused)
{
	struct waiter w = WAITER_INIT;
	struct reserved res;
	struct rig g;

	set_up(&g);
	fake_fail(g.ks, KEY_NEW, FAKE_REFUSE, refused_rows[_i], 1);
	start_reserve(&g, 0, &quick);
	ck_assert_int_eq(take(g.r, &res), refused_rows[_i]);
	ck_assert_int_eq(live(&g), 0);
	/* remembered for a moment, no longer */
	ck_assert_int_eq(reserve_take(g.r, &res, NULL, on_ready, &w), refused_rows[_i]);
	ck_assert_int_eq(fake_calls(g.ks, KEY_NEW), 1);
	usleep(60000);
	ck_assert_int_eq(take(g.r, &res), 0);
	use(&g, &res);
	tear_down(&g);
}
END_TEST

START_TEST(outage)
{
	struct reserved res;
	struct rig g;
	int finds;

	set_up(&g);
	fake_down(g.ks, true);
	start_reserve(&g, 3, &quick);
	ck_assert_int_eq(take(g.r, &res), -ETIMEDOUT);
	finds = fake_calls(g.ks, KEY_FIND);
	UNTIL(fake_calls(g.ks, KEY_FIND) > finds + 20);
	/* no more are begun than were wanted at once */
	ck_assert_int_le(live(&g), 4);
	ck_assert_int_eq((int)reserve_count(g.r), 0);
	fake_down(g.ks, false);
	UNTIL(reserve_count(g.r) == 3);
	UNTIL(count(&g, JOURNAL_CREATING) == 0);
	ck_assert_int_eq(fake_records(g.ks), (int)reserve_count(g.r));
	ck_assert_int_eq(take(g.r, &res), 0);
	ck_assert(fake_equal(g.ks, res.key_id, res.secret));
	use(&g, &res);
	tear_down(&g);
}
END_TEST

START_TEST(service_that_derives)
{
	struct reserved res;
	struct rig g;

	set_up(&g);
	fake_fail(g.ks, KEY_NEW, FAKE_DERIVE, 1, 1);
	start_reserve(&g, 0, &quick);
	ck_assert_int_eq(take(g.r, &res), 0);
	ck_assert(fake_equal(g.ks, res.key_id, res.secret));
	use(&g, &res);
	tear_down(&g);
}
END_TEST

enum { TAKERS = 50 };

struct crowd {
	struct rig *g;
	struct reserved res;
	vcf_err_t err;
	bool put_back;
};

static void *one_of_many(void *arg)
{
	struct crowd *c = arg;

	c->err = take(c->g->r, &c->res);
	if (!c->err && c->put_back) {
		reserve_put_back(c->g->r, &c->res);
		c->err = take(c->g->r, &c->res);
	}
	return NULL;
}

static const unsigned int crowd_rows[] = {0, 1, 4, 60};

START_TEST(many_at_once)
{
	static struct crowd crowd[TAKERS];
	pthread_t threads[TAKERS];
	struct rig g;

	set_up(&g);
	start_reserve(&g, crowd_rows[_i], &quick);
	for (int i = 0; i < TAKERS; i++) {
		crowd[i] = (struct crowd){.g = &g, .put_back = i % 5 == 0};
		ck_assert_int_eq(
			pthread_create(&threads[i], NULL, one_of_many, &crowd[i]), 0);
	}
	for (int i = 0; i < TAKERS; i++) {
		pthread_join(threads[i], NULL);
		ck_assert_int_eq(crowd[i].err, 0);
	}
	for (int i = 0; i < TAKERS; i++) {
		ck_assert(fake_equal(g.ks, crowd[i].res.key_id, crowd[i].res.secret));
		for (int k = 0; k < i; k++)
			ck_assert_str_ne(crowd[i].res.key_id, crowd[k].res.key_id);
	}
	for (int i = 0; i < TAKERS; i++)
		use(&g, &crowd[i].res);
	tear_down(&g);
}
END_TEST

/* All of them wait, then all fail: each hears of it once. */
START_TEST(many_fail)
{
	static struct waiter w[TAKERS];
	struct reserved res;
	struct rig g;

	set_up(&g);
	fake_hold(g.ks, true);
	start_reserve(&g, 2, &quick);
	for (int i = 0; i < TAKERS; i++) {
		w[i] = (struct waiter)WAITER_INIT;
		ck_assert_int_eq(reserve_take(g.r, &res, NULL, on_ready, &w[i]),
				 -EINPROGRESS);
	}
	fake_down(g.ks, true);
	fake_hold(g.ks, false);
	for (int i = 0; i < TAKERS; i++)
		ck_assert_int_eq(wait_ready(&w[i]), -ETIMEDOUT);
	usleep(2000);
	for (int i = 0; i < TAKERS; i++)
		ck_assert_int_eq(calls_of(&w[i]), 0);
	tear_down(&g);
}
END_TEST

/* One who was told and does not come leaves the secret to the others. */
START_TEST(taker_that_stays_away)
{
	struct waiter a = WAITER_INIT, b = WAITER_INIT;
	struct reserved res;
	struct rig g;

	set_up(&g);
	fake_hold(g.ks, true);
	start_reserve(&g, 0, &quick);
	ck_assert_int_eq(reserve_take(g.r, &res, NULL, on_ready, &a), -EINPROGRESS);
	ck_assert_int_eq(reserve_take(g.r, &res, NULL, on_ready, &b), -EINPROGRESS);
	UNTIL(count(&g, JOURNAL_CREATING) == 2);
	fake_hold(g.ks, false);
	ck_assert_int_eq(wait_ready(&a), 0);
	ck_assert_int_eq(wait_ready(&b), 0);
	ck_assert_int_eq(take(g.r, &res), 0);
	use(&g, &res);
	ck_assert_int_eq((int)reserve_count(g.r), 1);
	tear_down(&g);
}
END_TEST

/* The end comes while answers are on their way; they may come before or after it. */
START_TEST(end_while_busy)
{
	struct waiter w = WAITER_INIT;
	struct reserved res;
	struct rig g;

	set_up(&g);
	fake_hold(g.ks, true);
	start_reserve(&g, 2, &quick);
	ck_assert_int_eq(reserve_take(g.r, &res, NULL, on_ready, &w), -EINPROGRESS);
	UNTIL(count(&g, JOURNAL_CREATING) == 3);
	if (_i == 0) { /* the reserve first, the answers never */
		reserve_free(g.r);
		g.r = NULL;
		ck_assert_int_eq(wait_ready(&w), -ECANCELED);
	} else if (_i == 1) { /* the reserve first, then the answers */
		reserve_free(g.r);
		g.r = NULL;
		fake_hold(g.ks, false);
		UNTIL(fake_records(g.ks) == 3);
	} else { /* both at once */
		fake_hold(g.ks, false);
		reserve_free(g.r);
		g.r = NULL;
	}
	keyservice_free(g.ks);
	journal_close(g.j);
	ck_assert_int_eq(journal_open(&g.j, journal_path()), 0);
	ck_assert_int_eq(live(&g), 3);
	journal_close(g.j);
}
END_TEST

/* Its end cancels what was sent; nothing more may be sent to it then. */
START_TEST(service_ends_first)
{
	struct waiter w = WAITER_INIT;
	struct reserved res;
	struct rig g;

	set_up(&g);
	fake_hold(g.ks, true);
	start_reserve(&g, 0, &quick);
	ck_assert_int_eq(reserve_take(g.r, &res, NULL, on_ready, &w), -EINPROGRESS);
	UNTIL(fake_waiting(g.ks) == 1);
	keyservice_free(g.ks);
	ck_assert_int_eq(wait_ready(&w), -ECANCELED);
	ck_assert_int_eq(count(&g, JOURNAL_CREATING), 1);
	reserve_free(g.r);
	journal_close(g.j);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("reserve");
	TCase *t = tcase_create("reserve");

	tcase_add_test(t, life_of_a_secret);
	tcase_add_test(t, another_target);
	tcase_add_test(t, retired);
	tcase_add_test(t, on_demand);
	tcase_add_test(t, taken_up_again);
	tcase_add_test(t, settles_an_earlier_run);
	tcase_add_test(t, doubt_lasts);
	tcase_add_test(t, lost_reply);
	tcase_add_loop_test(t, refused, 0, ROWS(refused_rows));
	tcase_add_test(t, outage);
	tcase_add_test(t, service_that_derives);
	tcase_add_loop_test(t, many_at_once, 0, ROWS(crowd_rows));
	tcase_add_test(t, many_fail);
	tcase_add_test(t, taker_that_stays_away);
	tcase_add_loop_test(t, end_while_busy, 0, 3);
	tcase_add_test(t, service_ends_first);
	suite_add_tcase(s, t);
	return s;
}
