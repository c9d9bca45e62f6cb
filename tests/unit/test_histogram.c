/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "fs/latency.h"
#include "fs/status_io.h"
#include "tests/unit/unit.h"
#include "util/histogram.h"
#include "util/visible.h"

static const struct {
	uint64_t ns;
	unsigned int bucket;
} buckets[] = {
	{0, 0},
	{1, 0},
	{8000, 0},
	{8001, 1},
	{16000, 1},
	{16001, 2},
	{32000, 2},
	{1000000, 7},		   /* 1 ms is in (512, 1024] us */
	{8000ull << 20, 20},	   /* the last bound, 8.388608 s */
	{(8000ull << 20) + 1, 21}, /* beyond */
	{(8000ull << 21) + 1, 21},
	{3600ull * 1000 * 1000 * 1000, 21},
	{UINT64_MAX - 8000, 21},
};

START_TEST(bucket)
{
	ck_assert_uint_eq(histogram_bucket(buckets[_i].ns), buckets[_i].bucket);
}
END_TEST

START_TEST(bounds)
{
	for (unsigned int i = 0; i < HISTOGRAM_BOUNDS; i++) {
		ck_assert_uint_eq(histogram_bucket(histogram_bound_us(i) * 1000), i);
		ck_assert_uint_eq(histogram_bucket(histogram_bound_us(i) * 1000 + 1),
				  i + 1);
	}
}
END_TEST

START_TEST(counts)
{
	struct histogram h = {0};

	histogram_add(&h, 5000);
	histogram_add_own(&h, 5000);
	histogram_add(&h, 20000);
	histogram_add_own(&h, 10000000000);
	ck_assert_uint_eq(h.cnt[0], 2);
	ck_assert_uint_eq(h.cnt[2], 1);
	ck_assert_uint_eq(h.cnt[HISTOGRAM_BOUNDS], 1);
	ck_assert_uint_eq(h.sum_ns, 10000030000);
	ck_assert_uint_eq(histogram_total(&h), 4);
}
END_TEST

/* Through the status object and back. */
static struct latency through(const uint64_t cnt[HISTOGRAM_CNT], uint64_t sum_ns)
{
	struct json_object *o = json_object_new_object();
	struct latency l;

	json_object_object_add(o, "x", status_latency(cnt, sum_ns));
	latency_get(&l, o, "x");
	json_object_put(o);
	return l;
}

START_TEST(object)
{
	const uint64_t cnt[HISTOGRAM_CNT] = {1, 0, 2, [HISTOGRAM_BOUNDS] = 3};
	const uint64_t none[HISTOGRAM_CNT] = {0};
	struct latency l = through(cnt, 5500);

	ck_assert_mem_eq(l.cnt, cnt, sizeof(cnt));
	ck_assert_uint_eq(l.total, 6);
	ck_assert_uint_eq(l.sum_us, 5);
	l = through(none, 0);
	ck_assert_uint_eq(l.total, 0);
}
END_TEST

START_TEST(object_missing)
{
	static const char *const texts[] = {"{}", "{\"x\":1}", "{\"x\":{\"counts\":7}}",
					    "{\"x\":{\"counts\":[\"a\",{}]}}"};
	struct json_object *o = json_tokener_parse(texts[_i]);
	struct latency l;

	latency_get(&l, o, "x");
	ck_assert_uint_eq(l.total, 0);
	json_object_put(o);
}
END_TEST

START_TEST(object_long)
{
	struct json_object *o = json_tokener_parse(
		"{\"x\":{\"sum_us\":1,\"counts\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
		"1,1,1,1,1]}}");
	struct latency l;

	latency_get(&l, o, "x");
	ck_assert_uint_eq(l.total, HISTOGRAM_CNT);
	json_object_put(o);
}
END_TEST

START_TEST(quantile)
{
	struct latency l = {.cnt = {[1] = 90, [4] = 10}, .total = 100, .sum_us = 2500};

	ck_assert_double_eq_tol(latency_mean_us(&l), 25, 1e-9);
	ck_assert_double_eq_tol(latency_quantile_us(&l, 0.45), 12, 1e-9);
	ck_assert_double_eq_tol(latency_quantile_us(&l, 0.9), 16, 1e-9);
	ck_assert_double_eq_tol(latency_quantile_us(&l, 0.95), 96, 1e-9);
	ck_assert_double_eq_tol(latency_quantile_us(&l, 1), 128, 1e-9);
	l = (struct latency){.cnt = {[HISTOGRAM_BOUNDS] = 1}, .total = 1};
	ck_assert_double_eq_tol(latency_quantile_us(&l, 0.5), 8 << 20, 1e-9);
	l = (struct latency){0};
	ck_assert_double_eq_tol(latency_quantile_us(&l, 0.5), 0, 1e-9);
	ck_assert_double_eq_tol(latency_mean_us(&l), 0, 1e-9);
}
END_TEST

START_TEST(since)
{
	const struct latency a = {.cnt = {5, 1}, .total = 6, .sum_us = 60};
	const struct latency b = {.cnt = {7, 1, 1}, .total = 9, .sum_us = 100};
	const struct latency anew = {.cnt = {8, 0, 1}, .total = 9, .sum_us = 100};
	struct latency d;

	latency_since(&d, &b, &a);
	ck_assert_uint_eq(d.cnt[0], 2);
	ck_assert_uint_eq(d.cnt[1], 0);
	ck_assert_uint_eq(d.cnt[2], 1);
	ck_assert_uint_eq(d.total, 3);
	ck_assert_uint_eq(d.sum_us, 40);
	latency_since(&d, &a, &b); /* they began anew */
	ck_assert_uint_eq(d.total, 6);
	latency_since(&d, &anew, &a);
	ck_assert_uint_eq(d.total, 9);
	latency_add(&d, &a);
	ck_assert_uint_eq(d.total, 15);
	ck_assert_uint_eq(d.cnt[0], 13);
}
END_TEST

static const struct {
	double us;
	uint64_t total;
	const char *text;
} texts[] = {
	{0, 0, "-"},	       {850, 1, "850 us"},   {1234, 1, "1.2 ms"},
	{2500000, 1, "2.5 s"}, {8e9, 1, "8000.0 s"},
};

START_TEST(text)
{
	char got[16];

	latency_text(got, texts[_i].us, texts[_i].total);
	ck_assert_str_eq(got, texts[_i].text);
}
END_TEST

static const struct {
	const char *in, *out;
	size_t room;
} names[] = {
	{"abc", "abc", 16}, {"abc", "ab", 3}, {"a\033[2Jb", "a\\x1b[2Jb", 32},
	{"\n", "\\x0a", 8}, {"a\n", "a", 5},  {"\x7f\xc2\x9b", "\\x7f\\xc2\\x9b", 32},
	{"", "", 1},	    {"a", "", 1},
};

START_TEST(visible)
{
	char got[32];

	ck_assert_uint_eq(visible_copy(got, names[_i].room, names[_i].in),
			  strlen(names[_i].out));
	ck_assert_str_eq(got, names[_i].out);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("histogram");
	TCase *t = tcase_create("all");

	tcase_add_loop_test(t, bucket, 0, ROWS(buckets));
	tcase_add_test(t, bounds);
	tcase_add_test(t, counts);
	tcase_add_test(t, object);
	tcase_add_loop_test(t, object_missing, 0, 4);
	tcase_add_test(t, object_long);
	tcase_add_test(t, quantile);
	tcase_add_test(t, since);
	tcase_add_loop_test(t, text, 0, ROWS(texts));
	tcase_add_loop_test(t, visible, 0, ROWS(names));
	suite_add_tcase(s, t);
	return s;
}
