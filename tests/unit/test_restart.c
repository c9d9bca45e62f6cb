/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <signal.h>

#include "fs/restart.h"
#include "tests/unit/unit.h"

enum { EXITED_1 = 1 << 8 }; /* as waitpid(2) gives it */

/* `times` ends of one kind in a row, and the pause after the last of them. */
static const struct row {
	int status;
	int64_t served_ms;
	unsigned int times;
	uint64_t want;
} rows[] = {
	{SIGSEGV, -1, 1, 0},	{SIGSEGV, -1, 2, 50},	{SIGSEGV, -1, 3, 100},
	{SIGSEGV, -1, 8, 3200}, {SIGSEGV, -1, 9, 5000}, {SIGSEGV, -1, 200, 5000},
	{SIGABRT, 999, 3, 100}, {SIGABRT, 1000, 50, 0}, {SIGBUS, 0, 2, 50},
	{EXITED_1, -1, 3, 100}, {EXITED_1, 500, 2, 50}, {EXITED_1, 5000, 20, 0},
	{SIGKILL, 0, 100, 0},	{SIGKILL, -1, 20, 0},	{SIGKILL, -1, 21, 0},
	{SIGKILL, -1, 22, 50},	{SIGTERM, 5, 100, 0},
};

START_TEST(pauses)
{
	const struct row *row = &rows[_i];
	struct restart r = {0};
	uint64_t got = 1;

	for (unsigned int i = 0; i < row->times; i++)
		got = restart_pause_ms(&r, row->status, row->served_ms);
	ck_assert_uint_eq(got, row->want);
}
END_TEST

START_TEST(a_good_one_begins_anew)
{
	struct restart r = {0};

	for (int i = 0; i < 30; i++)
		ck_assert_uint_le(restart_pause_ms(&r, i % 2 ? SIGSEGV : SIGKILL, -1),
				  5000);
	ck_assert_uint_eq(restart_pause_ms(&r, SIGKILL, 0), 0);
	ck_assert_uint_eq(restart_pause_ms(&r, SIGSEGV, 0), 0);
	ck_assert_uint_eq(restart_pause_ms(&r, SIGKILL, -1), 0);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("restart");
	TCase *tc = tcase_create("restart");

	tcase_add_loop_test(tc, pauses, 0, sizeof(rows) / sizeof(rows[0]));
	tcase_add_test(tc, a_good_one_begins_anew);
	suite_add_tcase(s, tc);
	return s;
}
