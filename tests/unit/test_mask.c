/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>
#include <string.h>

#include "fs/mask.h"
#include "fs/support.h"
#include "fs/tarfile.h"
#include "tests/unit/unit.h"

#define HEX32 "00112233445566778899aabbccddeeff"
#define UUID "f47ac10b-58cc-4372-a567-0e02b2c3d479"

static const struct {
	const char *line, *want;
} rows[] = {
	{"", ""},
	{"plain words, 12 of them: fine", "plain words, 12 of them: fine"},
	{UUID "/disk: read of 4096 bytes", UUID "/disk: read of 4096 bytes"},
	{"/var/lib/nova/instances/" UUID "/disk",
	 "/var/lib/nova/instances/" UUID "/disk"},
	/* hex */
	{"x " HEX32 HEX32 " y", "x [masked] y"},
	{HEX32, "[masked]"},
	{"0123456789abcdef0123456789abcde", "0123456789abcdef0123456789abcde"}, /* 31 */
	{"/run/keys/" HEX32, "/run/keys/[masked]"},
	{"a" HEX32 "z", "[masked]z"},
	{"zz" HEX32 ".part", "zz[masked].part"},
	/* behind a word */
	{"password=hunter2 and more", "password=[masked]"},
	{"PASSWORD : x", "PASSWORD : [masked]"},
	{"  \"secret\": \"short\",", "  \"secret\": \"[masked]"},
	{"X-Auth-Token: abc", "X-Auth-Token: [masked]"},
	{"application-credential-secret = a b",
	 "application-credential-secret = [masked]"},
	{"secret_id=x", "secret_id=[masked]"},
	{"curl: Authorization: Basic dXNlcg==", "curl: Authorization: [masked]"},
	{"sent Bearer abc to it", "sent Bearer [masked]"},
	{"; password is set", "; password is set"},
	{"secret " UUID " at gold is destroyed", "secret " UUID " at gold is destroyed"},
	{"password-file = ", "password-file = "},
	{"one: token: x; password: y", "one: token: [masked]"},
	/* by looks */
	{"got AAEC/wQF+gcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8= there", "got [masked]= there"},
	{"/AECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", "/[masked]"},
	{"use hvs.CAESIJ1x2bqzvKe9ZzAbCd now", "use [masked] now"},
	{"s.Xl3hZq7Gk2pTq8VbNnM4aS1d", "[masked]"},
	{"gAAAAABlabcdefghijklmn_-x", "[masked]"},
	{"(eyJhbGciOiJIUzI1NiJ9.e30.abc)", "([masked])"},
	{"url=https://u:Zm9vYmFyYmF6cXV1eDEyMzQ1Njc4OTBhYmNk@h/",
	 "url=https://u:[masked]"},
	{"averylongnameofnothinginparticularthatisnotsecret",
	 "averylongnameofnothinginparticularthatisnotsecret"},
};

static char *filter(void (*fn)(FILE *to, const char *text), const char *text)
{
	char *got = NULL;
	size_t len;
	FILE *to = open_memstream(&got, &len);

	fn(to, text);
	fclose(to);
	return got;
}

START_TEST(line)
{
	char *got = filter(mask_line, rows[_i].line);

	ck_assert_str_eq(got, rows[_i].want);
	free(got);
}
END_TEST

START_TEST(text)
{
	char *got = filter(mask_text, "a\n\ntoken=x\nlast");

	ck_assert_str_eq(got, "a\n\ntoken=[masked]\nlast\n");
	free(got);
}
END_TEST

static const struct {
	const char *name, *value;
	bool shown;
} options[] = {
	{"mode", "kv", true},
	{"auth", "approle", true},
	{"request-timeout", "20", true},
	{"request-timeout", "hvs.CAESIJ1x2bqzvKe9ZzAbCd", false},
	{"auth", "http://u:p@h", false},
	{"auth", "abcdefghijklmnopqrstuvwxyz-abcdefghijklmnop", false},
	{"password", "x", false},
	{"secret", "00", false},
	{"address", "a", false},
	{"user", "nova", false},
	{"unheard-of", "1", false},
};

START_TEST(harmless)
{
	ck_assert_int_eq(support_is_harmless(options[_i].name, options[_i].value),
			 options[_i].shown);
}
END_TEST

/* The sum is the one that tar computes: of known fields, by hand. */
START_TEST(archive)
{
	char *got = NULL;
	size_t len;
	FILE *to = open_memstream(&got, &len);
	unsigned int sum = 0;

	tarfile_add(to, "a/b", "hello", 5, 1);
	tarfile_add(to, "empty", "", 0, 1);
	tarfile_end(to);
	fclose(to);
	ck_assert_uint_eq(len, 512 + 512 + 512 + 1024);
	ck_assert_str_eq(got, "a/b");
	ck_assert_str_eq(got + 124, "00000000005");
	ck_assert_mem_eq(got + 257, "ustar\00000", 8);
	ck_assert_mem_eq(got + 512, "hello", 5);
	for (int i = 0; i < 512; i++)
		sum += i >= 148 && i < 156 ? ' ' : (unsigned char)got[i];
	ck_assert_uint_eq(strtoul(got + 148, NULL, 8), sum);
	free(got);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("mask");
	TCase *t = tcase_create("all");

	tcase_add_loop_test(t, line, 0, ROWS(rows));
	tcase_add_test(t, text);
	tcase_add_loop_test(t, harmless, 0, ROWS(options));
	tcase_add_test(t, archive);
	suite_add_tcase(s, t);
	return s;
}
