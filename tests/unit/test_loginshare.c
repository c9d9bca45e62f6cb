/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "crypto/keys/loginshare.h"
#include "tests/unit/unit.h"
#include "util/clock.h"

/* A process has one broker: all tests share its address, each with fresh log-ins. */
static const char identity[] = "test";

struct other {
	pthread_t thread;
	struct loginshare *share;
	struct lockbuf *login;
	struct helper_failure f;
	uint64_t until_ms;
	bool refused;
	vcf_err_t err;
};

static struct loginshare *share(void)
{
	static char name[64];
	struct loginshare *s = NULL;

	snprintf(name, sizeof(name), "%s %d", identity, (int)getpid());
	ck_assert_int_eq(loginshare_new(&s, name), 0);
	return s;
}

static struct lockbuf *buffer(const char *text)
{
	struct lockbuf *b = NULL;

	ck_assert_int_eq(lockbuf_new(&b, LOGINSHARE_MAX), 0);
	lockbuf_add_text(b, text);
	return b;
}

static void *take_main(void *arg)
{
	struct other *o = arg;

	o->err = loginshare_take(o->share, o->refused, o->login, &o->until_ms, &o->f);
	return NULL;
}

static void other_start(struct other *o)
{
	o->share = share();
	o->login = buffer("");
	ck_assert_int_eq(pthread_create(&o->thread, NULL, take_main, o), 0);
	usleep(50 * 1000); /* it is waiting now, or the test shows nothing */
}

static void other_end(struct other *o)
{
	loginshare_free(o->share);
	lockbuf_free(o->login);
}

static vcf_err_t take(struct loginshare *s, bool refused, struct lockbuf *login)
{
	struct helper_failure f;
	uint64_t until_ms;

	return loginshare_take(s, refused, login, &until_ms, &f);
}

/* One that takes gets the turn, whatever an earlier test has left. */
static void take_turn(struct loginshare *s, struct lockbuf *login)
{
	vcf_err_t err = take(s, false, login);

	if (!err)
		err = take(s, true, login);
	ck_assert_int_eq(err, -EAGAIN);
}

START_TEST(one_logs_in_for_all)
{
	struct loginshare *a = share();
	struct lockbuf *login = buffer(""), *mine = buffer("https://x\ntoken");
	struct other o[3] = {0};

	take_turn(a, login);
	for (int i = 0; i < 3; i++)
		other_start(&o[i]);
	loginshare_put(a, mine, clock_now_ms() + 5000);
	for (int i = 0; i < 3; i++) {
		pthread_join(o[i].thread, NULL);
		ck_assert_int_eq(o[i].err, 0);
		ck_assert_str_eq(o[i].login->data, "https://x\ntoken");
		ck_assert_uint_gt(o[i].until_ms, clock_now_ms());
		other_end(&o[i]);
	}
	ck_assert_int_eq(take(a, false, login), 0);
	ck_assert_str_eq(login->data, mine->data);
	ck_assert_int_eq(take(a, true, login), -EAGAIN); /* refused: anew */
	loginshare_put(a, mine, clock_now_ms() + 5000);
	loginshare_free(a);
	lockbuf_free(login);
	lockbuf_free(mine);
}
END_TEST

/* One that was refused long ago is not taken for the present one. */
START_TEST(an_old_refusal)
{
	struct loginshare *a = share(), *b = share();
	struct lockbuf *login = buffer(""), *mine = buffer("one"), *next = buffer("two");

	take_turn(a, login);
	loginshare_put(a, mine, clock_now_ms() + 5000);
	ck_assert_int_eq(take(b, false, login), 0);
	ck_assert_int_eq(take(a, true, login), -EAGAIN);
	loginshare_put(a, next, clock_now_ms() + 5000);
	ck_assert_int_eq(take(b, true, login), 0); /* b's was void; this is another */
	ck_assert_str_eq(login->data, "two");
	loginshare_free(a);
	loginshare_free(b);
	lockbuf_free(login);
	lockbuf_free(mine);
	lockbuf_free(next);
}
END_TEST

START_TEST(a_failure_is_shared)
{
	struct loginshare *a = share();
	struct lockbuf *login = buffer("");
	struct helper_failure f;
	struct other o = {0};

	take_turn(a, login);
	other_start(&o);
	ck_assert_int_ne(helper_fail(&f, KEY_DENIED, "no such user"), 0);
	f.retry_after_s = 7;
	loginshare_failed(a, &f);
	pthread_join(o.thread, NULL);
	ck_assert_int_eq(o.err, keyproto_errno(KEY_DENIED));
	ck_assert_str_eq(o.f.text, "no such user");
	ck_assert_uint_eq(o.f.retry_after_s, 7);
	ck_assert_int_eq(take(a, false, login), -EAGAIN); /* it is not kept */
	other_end(&o);
	loginshare_free(a);
	lockbuf_free(login);
}
END_TEST

START_TEST(the_turn_of_one_that_ends)
{
	struct loginshare *a = share();
	struct lockbuf *login = buffer("");
	struct other o = {0};

	take_turn(a, login);
	other_start(&o);
	loginshare_free(a);
	pthread_join(o.thread, NULL);
	ck_assert_int_eq(o.err, -EAGAIN);
	other_end(&o);
	lockbuf_free(login);
}
END_TEST

START_TEST(an_end_in_time)
{
	struct loginshare *a = share();
	struct lockbuf *login = buffer(""), *mine = buffer("short");

	take_turn(a, login);
	loginshare_put(a, mine, clock_now_ms() + 100);
	ck_assert_int_eq(take(a, false, login), 0);
	usleep(120 * 1000);
	ck_assert_int_eq(take(a, false, login), -EAGAIN);
	loginshare_free(a);
	lockbuf_free(login);
	lockbuf_free(mine);
}
END_TEST

START_TEST(large_ones)
{
	struct loginshare *a = share();
	struct lockbuf *login = buffer(""), *mine = buffer("");

	while (mine->len < LOGINSHARE_MAX)
		lockbuf_add(mine, "x", 1);
	take_turn(a, login);
	loginshare_put(a, mine, clock_now_ms() + 5000);
	ck_assert_int_eq(take(a, false, login), 0);
	ck_assert_str_eq(login->data, mine->data);
	loginshare_free(a);
	lockbuf_free(login);
	lockbuf_free(mine);
}
END_TEST

/* A service of whom each log-in is another one. */
struct service {
	int log_ins, adopted;
	char login[32];
	vcf_err_t fails, unfit;
};

static vcf_err_t service_log_in(void *arg, struct helper_failure *f)
{
	struct service *v = arg;

	if (v->fails)
		return helper_fail(f, KEY_DENIED, "no");
	snprintf(v->login, sizeof(v->login), "%p %d", arg, ++v->log_ins);
	return 0;
}

static vcf_err_t service_adopt(void *arg, const struct lockbuf *login, uint64_t until_ms)
{
	struct service *v = arg;

	ck_assert_uint_gt(until_ms, clock_now_ms());
	if (v->unfit)
		return -EAGAIN;
	snprintf(v->login, sizeof(v->login), "%s", login->data);
	v->adopted++;
	return 0;
}

static uint64_t service_publish(void *arg, struct lockbuf *login)
{
	const struct service *v = arg;

	lockbuf_add_text(login, v->login);
	return clock_now_ms() + 5000;
}

static const struct login login_ops = {service_log_in, service_adopt, service_publish};

static void renew(struct loginshare *s, struct service *v, int log_ins, int adopted)
{
	struct helper_failure f;

	ck_assert_int_eq(loginshare_renew(s, &login_ops, v, &f), 0);
	ck_assert_int_eq(v->log_ins, log_ins);
	ck_assert_int_eq(v->adopted, adopted);
}

START_TEST(renewing)
{
	struct loginshare *s[] = {share(), share()};
	struct service v[2] = {0};
	struct helper_failure f;

	loginshare_refused(s[0]);
	loginshare_refused(NULL);
	/* an earlier test's is no good; one of our own goes to the others */
	v[0].unfit = -EAGAIN;
	renew(s[0], &v[0], 1, 0);
	v[0].unfit = 0;
	renew(s[1], &v[1], v[1].log_ins, 1);
	renew(s[0], &v[0], v[0].log_ins, 1);
	ck_assert_str_eq(v[0].login, v[1].login);
	loginshare_refused(s[1]);
	renew(s[1], &v[1], 1, 1);
	renew(s[1], &v[1], 1, 2); /* it was told once */
	renew(s[0], &v[0], v[0].log_ins, 2);
	ck_assert_str_eq(v[0].login, v[1].login);
	loginshare_refused(s[1]);
	v[1].fails = -EACCES;
	ck_assert_int_eq(loginshare_renew(s[1], &login_ops, &v[1], &f),
			 keyproto_errno(KEY_DENIED));
	ck_assert_str_eq(f.text, "no");
	v[1].fails = 0;
	renew(s[1], &v[1], 2, 2); /* still refused */
	loginshare_free(s[0]);
	loginshare_free(s[1]);
}
END_TEST

START_TEST(renewing_alone)
{
	struct service v = {0};

	renew(NULL, &v, 1, 0);
	renew(NULL, &v, 2, 0);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("loginshare");
	TCase *t = tcase_create("all");

	tcase_add_test(t, one_logs_in_for_all);
	tcase_add_test(t, an_old_refusal);
	tcase_add_test(t, a_failure_is_shared);
	tcase_add_test(t, the_turn_of_one_that_ends);
	tcase_add_test(t, an_end_in_time);
	tcase_add_test(t, large_ones);
	tcase_add_test(t, renewing);
	tcase_add_test(t, renewing_alone);
	suite_add_tcase(s, t);
	return s;
}
