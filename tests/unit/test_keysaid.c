/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <string.h>

#include "crypto/keysaid.h"
#include "tests/unit/unit.h"

#define X50 "0123456789abcdef0123456789abcdef0123456789abcdef01"

static char out[4096];

static void emit(void *arg, const char *line)
{
	size_t len = strlen(out);

	ck_assert_ptr_null(arg);
	snprintf(out + len, sizeof(out) - len, "%s|", line);
}

/* What is given out by and by, and what is the reason if the helper ends then. */
static const struct {
	const char *said, *lines, *last;
} rows[] = {
	{"", "", ""},
	{"\n\n \n", "", ""},
	{"a\n", "", "a"},
	{"a", "", "a"},
	{"a\nb\n", "a|", "b"},
	{"a\nb", "a|", "b"},
	{"a\nb\n\n", "a|", "b"},
	{"one\x1b[31m line\r\n", "", "one [31m line"},
	{"the token " X50 "\nx\n", "the token [... 50 characters]|", "x"},
};

START_TEST(lines)
{
	for (size_t step = 1; step < 4; step++) { /* however it is cut into reads */
		const char *p = rows[_i].said;
		struct keysaid s = {0};

		*out = '\0';
		while (*p) {
			size_t n = strlen(p) < step ? strlen(p) : step;

			keysaid_feed(&s, p, n, 5, emit, NULL);
			p += n;
		}
		ck_assert_str_eq(keysaid_last(&s, emit, NULL), rows[_i].last);
		ck_assert_str_eq(out, rows[_i].lines);
		ck_assert(keysaid_next_ms(&s) == UINT64_MAX);
	}
}
END_TEST

START_TEST(held)
{
	struct keysaid s = {0};

	*out = '\0';
	keysaid_feed(&s, "a\n", 2, 1000, emit, NULL);
	ck_assert(keysaid_next_ms(&s) == 1000 + KEYSAID_HOLD_MS);
	keysaid_tick(&s, 1000 + KEYSAID_HOLD_MS - 1, emit, NULL);
	ck_assert_str_eq(out, "");
	keysaid_tick(&s, 1000 + KEYSAID_HOLD_MS, emit, NULL);
	keysaid_tick(&s, 5000, emit, NULL);
	ck_assert_str_eq(out, "a|");
	/* It may still be the reason, until there is an answer. */
	ck_assert_str_eq(keysaid_last(&s, emit, NULL), "a");
	keysaid_forget(&s);
	ck_assert_str_eq(keysaid_last(&s, emit, NULL), "");
	ck_assert_str_eq(out, "a|");
}
END_TEST

/* A line without an end takes no more room than its own, and no part of a run is left over. */
START_TEST(long_line)
{
	static char text[100000];
	struct keysaid s = {0};

	memset(text, 'x', sizeof(text));
	for (size_t i = 0; i < sizeof(text); i += 30)
		text[i] = ' ';
	*out = '\0';
	keysaid_feed(&s, text, sizeof(text), 0, emit, NULL);
	keysaid_feed(&s, "\nend\n", 5, 0, emit, NULL);
	ck_assert_uint_eq(strlen(out), KEYSAID_TEXT_MAX); /* with the bar */
	ck_assert_str_eq(keysaid_last(&s, emit, NULL), "end");
	memset(text, ' ', KEYSAID_RAW_MAX);
	memcpy(text, "ab", 2);
	memset(text + KEYSAID_RAW_MAX - 20, 'k', 100);
	*out = '\0';
	keysaid_feed(&s, text, KEYSAID_RAW_MAX + 80, 0, emit, NULL);
	ck_assert_str_eq(keysaid_last(&s, emit, NULL), "ab");
}
END_TEST

START_TEST(limit)
{
	struct keysaid_limit l = {0};
	uint64_t now = 1000000;
	int logged = 0;

	for (int i = 0; i < 1000; i++)
		logged += keysaid_may_log(&l, now);
	ck_assert_int_eq(logged, 20);
	ck_assert(keysaid_left_out_ms(&l) == now + 2000);
	ck_assert(keysaid_left_out(&l, now + 1999) == 0);
	ck_assert(keysaid_left_out(&l, now + 2000) == 980);
	ck_assert(keysaid_left_out(&l, now + 2000) == 0);
	ck_assert(keysaid_left_out_ms(&l) == UINT64_MAX);
	ck_assert(!keysaid_may_log(&l, now + 2000)); /* saying so was one */
	ck_assert(keysaid_may_log(&l, now + 4000));
	now += 3600000;
	logged = 0;
	for (int i = 0; i < 1000; i++)
		logged += keysaid_may_log(&l, now);
	ck_assert_int_eq(logged, 20);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("keysaid");
	TCase *t = tcase_create("lines");

	tcase_add_loop_test(t, lines, 0, ROWS(rows));
	tcase_add_test(t, held);
	tcase_add_test(t, long_line);
	tcase_add_test(t, limit);
	suite_add_tcase(s, t);
	return s;
}
