/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "tests/unit/unit.h"
#include "util/untrusted.h"

#define X20 "0123456789abcdefABCD"
#define X40 X20 X20
#define UUID "0b4e8ba8-5c1f-4a5c-9f5e-3f2d1a0b9c8d"
#define BASE64 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

static const struct {
	const char *text, *want;
} text_rows[] = {
	{"", ""},
	{"permission denied", "permission denied"},
	{" a\r\n\tb\x01\xc3\xa9 ", "a b"},
	{"\n\n", ""},
	{"\"a\": {b}", "\"a\": {b}"},
	/* The border. */
	{X40, X40},
	{X40 "x", "[... 41 characters]"},
	{"token " X40 "x.", "token [... 41 characters]."},
	{"\"" X40 X40 "\", no", "\"[... 80 characters]\", no"},
	{X40 " " X40, X40 " " X40},
	{X40 ":" X40, X40 ":" X40},
	/* What secrets and tokens look like. */
	{BASE64, "[... 44 characters]"},
	{"7 new label " BASE64, "7 new label [... 44 characters]"},
	{"/" BASE64, "[... 45 characters]"},
	{"gAAAAABk-_" X40 "==", "[... 52 characters]"},
	{"eyJhbGciOiJIUzI1NiJ9." X40 X40 "." X40 "abc",
	 "eyJhbGciOiJIUzI1NiJ9.[... 80 characters].[... 43 characters]"},
	{"hvs.CAESI" X40, "hvs.[... 45 characters]"},
	{"token s.iyNUhq8Ov4hIAx6snw5mB2nL: no", "token s.[... 24 characters]: no"},
	{"s.abcdefghijklmno s.abcdefghijklmnop",
	 "s.abcdefghijklmno s.[... 16 characters]"},
	{"bs." X20, "bs." X20},
	{"vault:v1:" BASE64, "vault:v1:[... 44 characters]"},
	{"a%2Fb~" X40, "[... 46 characters]"},
	{"{\"s\":\"" X20 "\\/" X20 "abc=\"}", "{\"s\":\"[... 46 characters]\"}"},
	/* UUIDs, alone and in references. */
	{"secret " UUID " is gone", "secret " UUID " is gone"},
	{"https://kms.example.org:9311/v1/secrets/" UUID "/payload",
	 "https://kms.example.org:9311/v1/secrets/" UUID "/payload"},
	{"v1/secrets/" UUID, "v1/secrets/" UUID},
	{UUID "." UUID, UUID "." UUID},
	{UUID "/" X40 "x", UUID "[... 42 characters]"},
	{UUID "x" X20, "[... 57 characters]"},
	{"x" UUID X20, "[... 57 characters]"},
	{"x" UUID UUID, "[... 73 characters]"},
	/* Names of hosts and files. */
	{"compute-0001.az1.region-one.cloud.example.org:443",
	 "compute-0001.az1.region-one.cloud.example.org:443"},
	{"/etc/vmcryptfs/credentials/application-credential.secret: no",
	 "/etc/vmcryptfs/credentials/application-credential.secret: no"},
	{"/etc/" X40 "x", "[... 46 characters]"},
	{"/etc//" X40, "[... 46 characters]"},
	{"/etc/" X40 "/", "[... 46 characters]"},
	{"etc/" X20 "/" X20, "[... 45 characters]"},
};

START_TEST(texts)
{
	char dst[256];

	untrusted_text(dst, sizeof(dst), text_rows[_i].text, strlen(text_rows[_i].text));
	ck_assert_str_eq(dst, text_rows[_i].want);
}
END_TEST

START_TEST(bytes)
{
	for (int c = 0; c < 256; c++) {
		char in[] = {'a', (char)c, 'b'}, dst[8];

		untrusted_text(dst, sizeof(dst), in, 3);
		ck_assert_int_eq(dst[1], c > 0x20 && c < 0x7f ? c : ' ');
		ck_assert_str_eq(dst + 2, "b");
	}
}
END_TEST

/* In any room the text ends in time; a run that does not fit is not shown in part. */
START_TEST(rooms)
{
	static const char text[] = "ab " X40 "x\tcd";

	for (size_t room = 1; room < 40; room++) {
		char dst[40];

		memset(dst, 'z', sizeof(dst));
		untrusted_text(dst, room, text, sizeof(text) - 1);
		ck_assert_uint_lt(strlen(dst), room);
		ck_assert_ptr_null(strchr(dst, '0'));
		for (size_t i = room; i < sizeof(dst); i++)
			ck_assert_int_eq(dst[i], 'z');
	}
}
END_TEST

static const struct {
	const char *text;
	size_t len;
} cut_rows[] = {
	{"", 0},
	{"abc", 0},
	{"abc def", 4},
	{"abc ", 4},
	{"abc " X40, 4},
	{"abc " X40 "x", 45},
	/* The end of a secret's first part, behind what is shown for itself. */
	{"abc a.example.org." X40, 4},
	{"abc /" X20 "/" X20 "/" X20, 4},
	{"abc " X40 "x/" X20, 45},
	{"abc " UUID "=" X20, 4},
};

START_TEST(cuts)
{
	ck_assert_uint_eq(untrusted_cut_len(cut_rows[_i].text, strlen(cut_rows[_i].text)),
			  cut_rows[_i].len);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("untrusted");
	TCase *t = tcase_create("text");

	tcase_add_loop_test(t, texts, 0, ROWS(text_rows));
	tcase_add_test(t, bytes);
	tcase_add_test(t, rooms);
	tcase_add_loop_test(t, cuts, 0, ROWS(cut_rows));
	suite_add_tcase(s, t);
	return s;
}
