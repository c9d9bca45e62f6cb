/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "util/parse.h"

enum { SIZE, DURATION };

static const struct {
	int kind;
	const char *text;
	int err;
	uint64_t want;
} number_rows[] = {
	{SIZE, "0", 0, 0},
	{SIZE, "512", 0, 512},
	{SIZE, "64K", 0, 65536},
	{SIZE, "2M", 0, 2 << 20},
	{SIZE, "1T", 0, 1ull << 40},
	{SIZE, "16777216T", -ERANGE, 0},
	{SIZE, "", -EINVAL, 0},
	{SIZE, "K", -EINVAL, 0},
	{SIZE, " 1", -EINVAL, 0},
	{SIZE, "1 ", -EINVAL, 0},
	{SIZE, "-1", -EINVAL, 0},
	{SIZE, "1KK", -EINVAL, 0},
	{SIZE, "18446744073709551615", 0, UINT64_MAX},
	{SIZE, "18446744073709551616", -ERANGE, 0},
	{SIZE, "1000000000000000000000000", -EINVAL, 0},
	{DURATION, "60", 0, 60},
	{DURATION, "7d", 0, 604800},
	{DURATION, "2w", 0, 1209600},
	{DURATION, "3h", 0, 10800},
	{DURATION, "5m", 0, 300},
	{DURATION, "5M", -EINVAL, 0},
};

START_TEST(numbers)
{
	uint64_t got = 0;
	int err = number_rows[_i].kind == SIZE
			  ? parse_size(number_rows[_i].text, &got)
			  : parse_duration(number_rows[_i].text, &got);

	ck_assert_int_eq(err, number_rows[_i].err);
	ck_assert(got == number_rows[_i].want);
}
END_TEST

START_TEST(hex_all_bytes)
{
	unsigned char in[256], out[256];
	char text[513];

	for (int i = 0; i < 256; i++)
		in[i] = (unsigned char)i;
	hex_encode(text, in, 256);
	ck_assert_int_eq(strncmp(text, "000102", 6), 0);
	ck_assert_str_eq(text + 506, "fdfeff");
	ck_assert_int_eq(hex_decode(out, 256, text, 512), 0);
	ck_assert_mem_eq(in, out, 256);
	ck_assert_int_eq(hex_decode(out, 255, text, 512), -EINVAL);
	for (int c = 1; c < 256; c++) {
		char pair[2] = {'0', (char)c};
		bool good = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');

		ck_assert_int_eq(hex_decode(out, 1, pair, 2), good ? 0 : -EINVAL);
	}
}
END_TEST

static const struct {
	const char *plain, *text;
	int err;
} base64_rows[] = {
	/* RFC 4648 section 10 */
	{"", "", 0},
	{"f", "Zg==", 0},
	{"fo", "Zm8=", 0},
	{"foo", "Zm9v", 0},
	{"foob", "Zm9vYg==", 0},
	{"foobar", "Zm9vYmFy", 0},
	{"\xfb\xff\xbf", "+/+/", 0},
	/* sloppy forms that others accept */
	{"f", "Zh==", -EINVAL},
	{"fo", "Zm9=", -EINVAL},
	{"f", "Zg=", -EINVAL},
	{"f", "Zg", -EINVAL},
	{"f", "Z===", -EINVAL},
	{"foo", "Zm9=", -EINVAL},
	{"foo", "Zm 9", -EINVAL},
	{"foo", "Zm9\n", -EINVAL},
	{"foo", "Zm-_", -EINVAL},
	{"foo", "Zm9vYg==", -EINVAL},
	{"f", "Zg==Zg==", -EINVAL},
};

START_TEST(base64)
{
	size_t len = strlen(base64_rows[_i].plain);
	const char *text = base64_rows[_i].text;
	unsigned char out[16];
	char enc[32];

	ck_assert_int_eq(base64_decode(out, len, text, strlen(text)),
			 base64_rows[_i].err);
	if (base64_rows[_i].err)
		return;
	ck_assert(memcmp(out, base64_rows[_i].plain, len) == 0);
	base64_encode(enc, base64_rows[_i].plain, len);
	ck_assert_str_eq(enc, text);
}
END_TEST

START_TEST(bools)
{
	bool v = false;

	ck_assert_int_eq(parse_bool("yes", &v), 0);
	ck_assert(v);
	ck_assert_int_eq(parse_bool("off", &v), 0);
	ck_assert(!v);
	ck_assert_int_eq(parse_bool("Yes", &v), -EINVAL);
	ck_assert_int_eq(parse_bool("", &v), -EINVAL);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("parse");
	TCase *t = tcase_create("parse");

	tcase_add_loop_test(t, numbers, 0, ROWS(number_rows));
	tcase_add_test(t, hex_all_bytes);
	tcase_add_loop_test(t, base64, 0, ROWS(base64_rows));
	tcase_add_test(t, bools);
	suite_add_tcase(s, t);
	return s;
}
