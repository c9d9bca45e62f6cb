/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <string.h>

#include "fs/topview.h"
#include "tests/unit/unit.h"

#define IMAGE(path, uuid, opens, wb, wsum, counts)                                       \
	"{\"path\":\"" path "\",\"uuid\":\"" uuid "\",\"ino\":7,\"opens\":" #opens       \
	",\"bytes_written\":" #wb ",\"write_latency\":{\"sum_us\":" #wsum                \
	",\"counts\":" counts "}}"

static struct topview *view(const char *images, const char *io,
			    const struct topview *before)
{
	char text[4096];
	struct json_object *o;
	struct topview *v;

	snprintf(
		text, sizeof(text),
		"{\"mountpoint\":\"/m\\u001b\",\"uptime\":5,\"generation\":2,\"deaths\":1,"
		"\"parked\":3,\"key_services\":[{\"state\":\"ok\"},{\"state\":\"slow\"}],"
		"\"destroy_queue\":{\"waiting\":4},\"io\":%s,\"images\":[%s]}",
		io, images);
	o = json_tokener_parse(text);
	ck_assert_ptr_nonnull(o);
	ck_assert_int_eq(topview_new(&v, o, before, before ? 2 : 0), 0);
	json_object_put(o);
	return v;
}

#define IO(bytes, sum, counts)                                                           \
	"{\"bytes_written\":" #bytes ",\"write_latency\":{\"sum_us\":" #sum              \
	",\"counts\":" counts "}}"

/* b is new, c began anew. */
static struct topview *second(struct topview *first)
{
	return view(
		IMAGE("a", "1", 1, 4194304, 400, "[10,10]") "," IMAGE(
			"b\\u001b[2J", "2", 0, 1048576, 4,
			"[1]") "," IMAGE("c", "3", 2, 2097152, 8192, "[0,0,0,0,0,0,0,4]"),
		IO(9437184, 9000, "[11,10,0,0,0,0,0,4]"), first);
}

static struct topview *first_view(void)
{
	return view(IMAGE("c", "3", 2, 8388608, 9000,
			  "[9,9]") "," IMAGE("a", "1", 1, 2097152, 240, "[10]"),
		    IO(1048576, 100, "[5]"), NULL);
}

START_TEST(rates)
{
	struct topview *f = first_view(), *s = second(f);

	ck_assert_uint_eq(s->cnt, 3);
	ck_assert_uint_eq(s->open, 2);
	topview_sort(s, TOPVIEW_NAME);
	ck_assert_str_eq(s->rows[0].name, "a");
	ck_assert_double_eq_tol(s->rows[0].iops[IOSTAT_WRITE], 5, 1e-9);
	ck_assert_double_eq_tol(s->rows[0].rate[IOSTAT_WRITE], 1048576, 1e-9);
	ck_assert_double_eq_tol(s->rows[0].mean_us, 16, 1e-9);
	ck_assert_double_eq_tol(s->rows[1].iops[IOSTAT_WRITE], 0.5, 1e-9);
	ck_assert_double_eq_tol(s->rows[2].iops[IOSTAT_WRITE], 2, 1e-9);
	ck_assert_double_eq_tol(s->rows[2].rate[IOSTAT_WRITE], 1048576, 1e-9);
	ck_assert_double_eq_tol(s->all.iops[IOSTAT_WRITE], 10, 1e-9);
	topview_free(f);
	topview_free(s);
}
END_TEST

static const struct {
	enum topview_key key;
	const char *order;
} orders[] = {
	{TOPVIEW_IOPS, "acb"}, {TOPVIEW_BYTES, "acb"}, {TOPVIEW_MEAN, "cab"},
	{TOPVIEW_P99, "cab"},  {TOPVIEW_OPENS, "cab"}, {TOPVIEW_NAME, "abc"},
};

START_TEST(order)
{
	struct topview *f = first_view(), *s = second(f);
	char got[4] = "";

	topview_sort(s, orders[_i].key);
	for (int i = 0; i < 3; i++)
		got[i] = s->rows[i].name[0];
	ck_assert_str_eq(got, orders[_i].order);
	topview_free(f);
	topview_free(s);
}
END_TEST

START_TEST(lines)
{
	struct topview *f = first_view(), *s = second(f);
	char line[TOPVIEW_WIDTH_MAX];

	topview_head(line, TOPVIEW_WIDTH_MAX, f, 2);
	ck_assert_str_eq(line, "measuring ...");
	topview_head(line, TOPVIEW_WIDTH_MAX, s, 0);
	ck_assert_str_eq(line, "/m\\x1b  up 5 s, generation 2, deaths 1");
	topview_head(line, TOPVIEW_WIDTH_MAX, s, 1);
	ck_assert_str_eq(line,
			 "images 3, open 2; key service SLOW; waiting for keys 3, to be "
			 "destroyed 4");
	topview_head(line, 9, s, 3);
	ck_assert_str_eq(line, "     R/s ");
	topview_sort(s, TOPVIEW_NAME);
	topview_line(line, TOPVIEW_WIDTH_MAX, &s->rows[1]);
	ck_assert_str_eq(
		line, "       0        0       0.0       0.5      4 us      8 us     0  "
		      "b\\x1b[2J");
	topview_line(line, 72, &s->rows[1]);
	ck_assert_uint_eq(strlen(line), 72);
	topview_free(f);
	topview_free(s);
}
END_TEST

START_TEST(keys)
{
	for (int i = 0; i < TOPVIEW_KEYS; i++)
		ck_assert_int_eq(topview_parse_key(topview_key_name((enum topview_key)i)),
				 i);
	ck_assert_int_eq(topview_parse_key("none"), TOPVIEW_KEYS);
}
END_TEST

START_TEST(nothing)
{
	struct json_object *o = json_object_new_object();
	struct topview *v;

	ck_assert_int_eq(topview_new(&v, o, NULL, 0), 0);
	ck_assert_uint_eq(v->cnt, 0);
	topview_free(v);
	json_object_put(o);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("topview");
	TCase *t = tcase_create("all");

	tcase_add_test(t, rates);
	tcase_add_loop_test(t, order, 0, ROWS(orders));
	tcase_add_test(t, lines);
	tcase_add_test(t, keys);
	tcase_add_test(t, nothing);
	suite_add_tcase(s, t);
	return s;
}
