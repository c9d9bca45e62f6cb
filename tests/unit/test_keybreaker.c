/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The breaker and the memory of refusals: no clock but the numbers here. */
#include <errno.h>
#include <stdio.h>

#include "crypto/keybreaker.h"
#include "crypto/keynegative.h"
#include "tests/unit/unit.h"

/* f: a failure, a: an answer, p: a probe if one is due; digits: so many seconds go by. */
static const struct {
	const char *events;
	enum keybreaker_state state;
	unsigned int opened, probes;
} rows[] = {
	{"", KEYBREAKER_CLOSED, 0, 0},
	{"ffff", KEYBREAKER_CLOSED, 0, 0},
	{"fffff", KEYBREAKER_OPEN, 1, 0},
	{"ffffaf", KEYBREAKER_CLOSED, 0, 0},
	{"ffffaffff", KEYBREAKER_CLOSED, 0, 0},
	{"ffffffff", KEYBREAKER_OPEN, 1, 0},
	{"fffffp", KEYBREAKER_OPEN, 1, 0}, /* not at once */
	{"fffff1p", KEYBREAKER_PROBING, 1, 1},
	{"fffff1ppp", KEYBREAKER_PROBING, 1, 1}, /* one at a time */
	{"fffff1pf", KEYBREAKER_OPEN, 1, 1},
	{"fffff1pfp", KEYBREAKER_OPEN, 1, 1},
	{"fffff1pf1p", KEYBREAKER_PROBING, 1, 2},
	{"fffff1pf1pf2pf4pf5pf5p", KEYBREAKER_PROBING, 1, 6},
	{"fffff1pa", KEYBREAKER_CLOSED, 1, 1},
	{"fffffa", KEYBREAKER_CLOSED, 1, 0}, /* of a request from before */
	{"fffff1paffff", KEYBREAKER_CLOSED, 1, 1},
	{"fffff1pafffff", KEYBREAKER_OPEN, 2, 1},
};

START_TEST(breaker)
{
	struct keybreaker b = {0};
	unsigned int probes = 0;
	uint64_t now = 1000;

	for (const char *p = rows[_i].events; *p; p++) {
		bool was_closed = b.state == KEYBREAKER_CLOSED;

		if (*p == 'f')
			ck_assert_int_eq(keybreaker_failed(&b, now, 0),
					 was_closed && b.state == KEYBREAKER_OPEN);
		else if (*p == 'a')
			ck_assert_int_eq(keybreaker_answered(&b), !was_closed);
		else if (*p == 'p')
			probes += keybreaker_probe(&b, now);
		else
			now += (uint64_t)(*p - '0') * 1000;
	}
	ck_assert_int_eq(b.state, rows[_i].state);
	ck_assert_uint_eq(b.opened, rows[_i].opened);
	ck_assert_uint_eq(probes, rows[_i].probes);
}
END_TEST

/* Never longer than the most, never shorter than half the least, and never the same. */
START_TEST(pauses)
{
	struct keybreaker b = {0};
	uint64_t sum = 0;

	for (int i = 0; i < KEYBREAKER_FAILURES; i++)
		(void)keybreaker_failed(&b, 0, 0);
	for (int i = 0; i < 200; i++) {
		uint64_t pause = b.probe_at_ms;

		ck_assert_uint_ge(pause, i ? KEYBREAKER_MIN_MS : KEYBREAKER_MIN_MS / 2);
		ck_assert_uint_le(pause, KEYBREAKER_MAX_MS);
		if (i > 4)
			ck_assert_uint_ge(pause, KEYBREAKER_MAX_MS / 2);
		sum += pause % 7;
		ck_assert(keybreaker_probe(&b, pause));
		(void)keybreaker_failed(&b, 0, 0);
	}
	ck_assert_uint_gt(sum, 0);
	(void)keybreaker_probe(&b, 1 << 20);
	(void)keybreaker_failed(&b, 0, 30);
	ck_assert_uint_eq(b.probe_at_ms, 30000); /* as the service asked for */
}
END_TEST

START_TEST(negative)
{
	static struct keynegative n;
	char id[16];

	keynegative_note(&n, "a", 0, "", 0);
	keynegative_note(&n, "a", -ETIMEDOUT, "", 0);
	keynegative_note(&n, "a", -EDQUOT, "", 0);
	ck_assert_ptr_null(keynegative_find(&n, "a", 0));
	keynegative_note(&n, "a", -ENOKEY, "gone", 5);
	keynegative_note(&n, "b", -EKEYREJECTED, "no", 6);
	ck_assert_int_eq(keynegative_find(&n, "a", 6)->err, -ENOKEY);
	ck_assert_str_eq(keynegative_find(&n, "a", 6)->text, "gone");
	ck_assert_int_eq(keynegative_find(&n, "b", 1005)->err, -EKEYREJECTED);
	ck_assert_ptr_null(keynegative_find(&n, "a", 1005)); /* one second, not more */
	ck_assert_ptr_null(keynegative_find(&n, "", 6));
	keynegative_forget(&n, "b");
	ck_assert_ptr_null(keynegative_find(&n, "b", 6));
	for (int i = 0; i < 3 * KEYNEGATIVE_CNT; i++) {
		snprintf(id, sizeof(id), "i%d", i);
		keynegative_note(&n, id, -ENOKEY, "", 10);
		ck_assert_ptr_nonnull(keynegative_find(&n, id, 10));
	}
	ck_assert_ptr_null(keynegative_find(&n, "i0", 10));
	keynegative_forget(&n, NULL);
	ck_assert_ptr_null(keynegative_find(&n, id, 10));
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("keybreaker");
	TCase *t = tcase_create("keybreaker");

	tcase_add_loop_test(t, breaker, 0, ROWS(rows));
	tcase_add_test(t, pauses);
	tcase_add_test(t, negative);
	suite_add_tcase(s, t);
	return s;
}
