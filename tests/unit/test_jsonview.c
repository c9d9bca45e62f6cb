/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <string.h>

#include "crypto/jsonview.h"
#include "tests/unit/unit.h"

#define D8 "[[[[[[[["
#define E8 "]]]]]]]]"
#define D31 D8 D8 D8 "[[[[[[["
#define E31 E8 E8 E8 "]]]]]]]"

static const struct {
	const char *text;
	int err;
} document_rows[] = {
	{"{}", 0},
	{" \t\r\n{ } \n", 0},
	{"[]", 0},
	{"\"\"", 0},
	{"0", 0},
	{"-0", 0},
	{"-1.5e+10", 0},
	{"1E9", 0},
	{"true", 0},
	{"false", 0},
	{"null", 0},
	{"{\"a\":1,\"b\":[true , {\"c\":null}]}", 0},
	{"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"", 0},
	{"\"caf\xc3\xa9\x7f\"", 0},
	{"[" D31 E31 "]", 0},
	{"", -EBADMSG},
	{" ", -EBADMSG},
	{"{", -EBADMSG},
	{"}", -EBADMSG},
	{"[", -EBADMSG},
	{"[}", -EBADMSG},
	{"{]", -EBADMSG},
	{"{,}", -EBADMSG},
	{"[1,]", -EBADMSG},
	{"[,1]", -EBADMSG},
	{"[1 2]", -EBADMSG},
	{"{\"a\"}", -EBADMSG},
	{"{\"a\":}", -EBADMSG},
	{"{\"a\":1,}", -EBADMSG},
	{"{a:1}", -EBADMSG},
	{"{1:1}", -EBADMSG},
	{"{} {}", -EBADMSG},
	{"{}x", -EBADMSG},
	{"01", -EBADMSG},
	{"+1", -EBADMSG},
	{"1.", -EBADMSG},
	{".5", -EBADMSG},
	{"1e", -EBADMSG},
	{"1e+", -EBADMSG},
	{"-", -EBADMSG},
	{"nul", -EBADMSG},
	{"nulll", -EBADMSG},
	{"True", -EBADMSG},
	{"NaN", -EBADMSG},
	{"'a'", -EBADMSG},
	{"\"a", -EBADMSG},
	{"\"a\\\"", -EBADMSG},
	{"\"a\\", -EBADMSG},
	{"\"\\x41\"", -EBADMSG},
	{"\"\\u12\"", -EBADMSG},
	{"\"\\u12g4\"", -EBADMSG},
	{"\"\\u12", -EBADMSG},
	{"\"a\nb\"", -EBADMSG},
	{"\"a\x1f\"", -EBADMSG},
	{"// x\n{}", -EBADMSG},
	{"[[" D31 E31 "]]", -EBADMSG},
};

START_TEST(documents)
{
	const char *text = document_rows[_i].text;
	struct jsonview v;

	ck_assert_int_eq(jsonview_parse(&v, text, strlen(text)), document_rows[_i].err);
}
END_TEST

/* A NUL in the text is no end of it. */
START_TEST(nul_bytes)
{
	struct jsonview v;

	ck_assert_int_eq(jsonview_parse(&v, "{}\0", 3), -EBADMSG);
	ck_assert_int_eq(jsonview_parse(&v, "\"a\0b\"", 5), -EBADMSG);
	ck_assert_int_eq(jsonview_parse(&v, "\"\\\0\"", 4), -EBADMSG);
}
END_TEST

static const struct {
	const char *text, *want; /* NULL: no string, or it does not fit into 8 bytes */
} string_rows[] = {
	{"\"\"", ""},
	{"\"abc\"", "abc"},
	{"\"1234567\"", "1234567"},
	{"\"12345678\"", NULL},
	{"\"\\\"\\\\\\/\"", "\"\\/"},
	{"\"\\b\\f\\n\\r\\t\"", "\b\f\n\r\t"},
	{"\"\\u0041\\u00E9\\u20ac\"", "A\xc3\xa9\xe2\x82\xac"},
	{"\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80"},
	{"\"\\u0000\"", NULL},
	{"\"\\ud83d\"", NULL},
	{"\"\\ud83dx\"", NULL},
	{"\"\\ud83d\\u0041\"", NULL},
	{"\"\\ude00\"", NULL},
	{"1", NULL},
	{"null", NULL},
	{"[\"a\"]", NULL},
};

START_TEST(strings)
{
	char text[8] = "xxxxxxx";
	const char *want = string_rows[_i].want;
	struct jsonview v;

	ck_assert_int_eq(
		jsonview_parse(&v, string_rows[_i].text, strlen(string_rows[_i].text)),
		0);
	ck_assert(jsonview_string(v, text, sizeof(text)) == (want != NULL));
	ck_assert_str_eq(text, want ? want : "");
}
END_TEST

static const struct {
	const char *text;
	bool good;
	int64_t want;
} number_rows[] = {
	{"0", true, 0},
	{"-0", true, 0},
	{"-5", true, -5},
	{"1200", true, 1200},
	{"1201", false},
	{"-6", false},
	{"1.0", false},
	{"1e2", false},
	{"\"1\"", false},
	{"true", false},
	{"99999999999999999999", false},
	{"999999999999999999999999999999", false},
};

START_TEST(numbers)
{
	int64_t got = 77;
	struct jsonview v;

	ck_assert_int_eq(
		jsonview_parse(&v, number_rows[_i].text, strlen(number_rows[_i].text)),
		0);
	ck_assert(jsonview_int(v, -5, 1200, &got) == number_rows[_i].good);
	ck_assert_int_eq(got, number_rows[_i].good ? number_rows[_i].want : 77);
}
END_TEST

static const char tree[] =
	"{ \"a\" : {\"b\":[1,\"x\", [] ,{\"c\":false}]} , \"d\":null, \"t\":true,"
	" \"twice\":1, \"e\\u0066\":1, \"twice\":2, \"\":3 }";

static struct jsonview root(void)
{
	struct jsonview v;

	ck_assert_int_eq(jsonview_parse(&v, tree, strlen(tree)), 0);
	return v;
}

START_TEST(members)
{
	struct jsonview r = root();
	bool b = false;

	ck_assert(jsonview_is_null(jsonview_get(r, "d")));
	ck_assert(jsonview_bool(jsonview_get(r, "t"), &b) && b);
	ck_assert_uint_eq(jsonview_get(r, "").len, 1);
	ck_assert_ptr_null(jsonview_get(r, "x").p);
	ck_assert_ptr_null(jsonview_get(r, "twice").p);
	ck_assert_ptr_null(jsonview_get(r, "ef").p);
	ck_assert_ptr_null(jsonview_get(r, "b").p);
	ck_assert_ptr_null(jsonview_get(jsonview_get(r, "t"), "x").p);
	ck_assert_ptr_null(jsonview_get(jsonview_get(r, "x"), "y").p);
	ck_assert(!jsonview_is_null(jsonview_get(r, "x")));
	ck_assert(!jsonview_bool(jsonview_get(r, "d"), &b));
}
END_TEST

START_TEST(elements)
{
	struct jsonview array = jsonview_get(jsonview_get(root(), "a"), "b"), v;
	size_t pos = 0, none = 0;
	int64_t n = 0;
	char text[4];
	bool b = true;

	ck_assert(jsonview_next(array, &pos, &v) && jsonview_int(v, 1, 1, &n));
	ck_assert(jsonview_next(array, &pos, &v) && jsonview_string(v, text, 4));
	ck_assert_str_eq(text, "x");
	ck_assert(jsonview_next(array, &pos, &v));
	ck_assert(!jsonview_next(v, &none, &v));
	ck_assert(jsonview_next(array, &pos, &v));
	ck_assert(jsonview_bool(jsonview_get(v, "c"), &b) && !b);
	ck_assert(!jsonview_next(array, &pos, &v));
	ck_assert(!jsonview_next(root(), &none, &v));
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("jsonview");
	TCase *t = tcase_create("jsonview");

	tcase_add_loop_test(t, documents, 0, ROWS(document_rows));
	tcase_add_test(t, nul_bytes);
	tcase_add_loop_test(t, strings, 0, ROWS(string_rows));
	tcase_add_loop_test(t, numbers, 0, ROWS(number_rows));
	tcase_add_test(t, members);
	tcase_add_test(t, elements);
	suite_add_tcase(s, t);
	return s;
}
