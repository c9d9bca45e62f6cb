/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/keys/deadline.h"
#include "tests/unit/unit.h"

static const struct {
	uint64_t given, want;
} budget_rows[] = {
	{0, 0},		{9, 9},		{5000, 4500},
	{20000, 18000}, {60000, 58000}, {86400000, 86398000},
};

START_TEST(budget)
{
	ck_assert_uint_eq(deadline_budget_ms(budget_rows[_i].given),
			  budget_rows[_i].want);
}
END_TEST

static const struct {
	uint64_t left;
	size_t cnt;
	uint64_t want, share;
} share_rows[] = {
	{UINT64_MAX, 1, 15000, 15000},
	{UINT64_MAX, 8, 15000, 15000},
	{18000, 1, 15000, 15000},
	{18000, 1, UINT64_MAX, 18000},
	{18000, 2, 15000, 13000},
	{18000, 3, 15000, 8000},
	{18000, 8, 15000, 2250},
	{4500, 1, 15000, 4500},
	{4500, 2, 15000, 2250},
	{4500, 2, 1000, 1000},
	{10000, 2, 15000, 5000},
	{9999, 2, 15000, 5000}, /* 9999 - 4999 */
	{4500, 3, 15000, 1500},
	{150, 2, 15000, 100},
	{0, 1, 15000, 100},
	{0, 8, 15000, 100},
};

START_TEST(share)
{
	ck_assert_uint_eq(deadline_share_ms(share_rows[_i].left, share_rows[_i].cnt,
					    share_rows[_i].want),
			  share_rows[_i].share);
}
END_TEST

/* All hang: each has had its turn within the time. */
START_TEST(all)
{
	for (size_t cnt = 1; cnt <= 8; cnt++) {
		uint64_t left = 4500;

		for (size_t i = cnt; i > 0; i--) {
			uint64_t ms = deadline_share_ms(left, i, 15000);

			ck_assert_uint_ge(ms, 4500 / cnt);
			ck_assert_uint_le(ms, left);
			left -= ms;
		}
		ck_assert_uint_eq(left, 0);
	}
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("deadline");
	TCase *t = tcase_create("deadline");

	tcase_add_loop_test(t, budget, 0, ROWS(budget_rows));
	tcase_add_loop_test(t, share, 0, ROWS(share_rows));
	tcase_add_test(t, all);
	suite_add_tcase(s, t);
	return s;
}
