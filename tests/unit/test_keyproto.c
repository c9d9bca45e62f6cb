/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/keyproto.h"
#include "tests/unit/unit.h"

#define AS "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=" /* 32 times 'A' */
#define X10 "xxxxxxxxxx"
#define X120 X10 X10 X10 X10 X10 X10 X10 X10 X10 X10 X10 X10
#define X510 X120 X120 X120 X120 X10 X10 X10

/* Good lines come back unchanged from parse and format. */
static const struct {
	const char *line;
	int err;
	enum key_verb verb;
	uint64_t tag;
	const char *id, *label, *value;
} request_rows[] = {
	{"ready", 0, KEY_READY, 0, "", "", ""},
	{"option url https://a/ b", 0, KEY_OPTION, 0, "url", "", "https://a/ b"},
	{"option url ", 0, KEY_OPTION, 0, "url", "", ""},
	{"1 new abc " AS, 0, KEY_NEW, 1, "", "abc", ""},
	{"18446744073709551615 ping", 0, KEY_PING, UINT64_MAX, "", "", ""},
	{"7 get a/b=+@:._-", 0, KEY_GET, 7, "a/b=+@:._-", "", ""},
	{"7 get " X510 "xx", 0, KEY_GET, 7, X510 "xx", "", ""},
	{"7 find abc", 0, KEY_FIND, 7, "", "abc", ""},
	{"7 find " X120 "xxxxxxxx", 0, KEY_FIND, 7, "", X120 "xxxxxxxx", ""},
	{"7 list abc", 0, KEY_LIST, 7, "", "abc", ""},
	{"7 list", 0, KEY_LIST, 7, "", "", ""},
	{"7 destroy id abc", 0, KEY_DESTROY, 7, "id", "abc", ""},
	/* not of the protocol; the tag is kept for the answer */
	{"", -EPROTO},
	{" ", -EPROTO},
	{"ready ", -EPROTO},
	{"readyx", -EPROTO},
	{"option", -EPROTO},
	{"option  x", -EPROTO},
	{"option a/b x", -EPROTO},
	{"option -a x", -EPROTO},
	{"option a x\ty", -EPROTO},
	{"0 ping", -EPROTO},
	{"01 ping", -EPROTO},
	{"+1 ping", -EPROTO},
	{"18446744073709551616 ping", -EPROTO},
	{"99999999999999999999999999999 ping", -EPROTO},
	{"1", -EPROTO, 0, 1},
	{"1 ", -EPROTO, 0, 1},
	{"1  ping", -EPROTO, 0, 1},
	{"1 ping ", -EPROTO, 0, 1},
	{"1 ping x", -EPROTO, 0, 1},
	{"1 PING", -EPROTO, 0, 1},
	{"1 frobnicate", -EPROTO, 0, 1},
	{"1 frobnicatefrobnicatefrobnicate", -EPROTO, 0, 1},
	{"1 option a b", -EPROTO, 0, 1},
	{"1 get", -EPROTO, 0, 1},
	{"1 get ", -EPROTO, 0, 1},
	{"1 get .a", -EPROTO, 0, 1},
	{"1 get a..b", -EPROTO, 0, 1},
	{"1 get a%b", -EPROTO, 0, 1},
	{"1 get a b", -EPROTO, 0, 1},
	{"1 get " X510 "xxx", -EPROTO, 0, 1},
	{"1 get caf\xc3\xa9", -EPROTO},
	{"1 find a/b", -EPROTO, 0, 1},
	{"1 find " X120 "xxxxxxxxx", -EPROTO, 0, 1},
	{"1 list ", -EPROTO, 0, 1},
	{"1 destroy a", -EPROTO, 0, 1},
	{"1 destroy a b c", -EPROTO, 0, 1},
	{"1 new abc", -EPROTO, 0, 1},
	{"1 new abc ", -EPROTO, 0, 1},
	{"1 new abc QUFB", -EPROTO, 0, 1},
	{"1 new abc " AS " ", -EPROTO, 0, 1},
	{"1 new abc " AS " x", -EPROTO, 0, 1},
	{"1 new abc QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUF=", -EPROTO, 0, 1},
	{"1 new abc QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE", -EPROTO, 0, 1},
	{"1 new abc QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB", -EPROTO, 0, 1},
};

START_TEST(requests)
{
	const char *line = request_rows[_i].line;
	char text[KEYPROTO_REQUEST_MAX + 1];
	struct key_request r;

	ck_assert_int_eq(keyproto_parse_request(&r, line, strlen(line)),
			 request_rows[_i].err);
	ck_assert(r.tag == request_rows[_i].tag);
	ck_assert(!r.secret == (request_rows[_i].err || r.verb != KEY_NEW));
	if (request_rows[_i].err)
		return;
	ck_assert_int_eq(r.verb, request_rows[_i].verb);
	ck_assert_str_eq(r.id, request_rows[_i].id);
	ck_assert_str_eq(r.label, request_rows[_i].label);
	ck_assert_str_eq(r.value, request_rows[_i].value);
	ck_assert_int_eq(keyproto_format_request(text, sizeof(text), &r),
			 (int)strlen(line) + 1);
	ck_assert_mem_eq(text, line, strlen(line));
	ck_assert_str_eq(text + strlen(line), "\n");
	secret_free(r.secret);
}
END_TEST

static const struct {
	const char *line;
	int err;
	enum key_reply_kind kind;
	uint64_t tag;
	const char *id, *label, *created, *text;
	unsigned int caps, retry_after_s;
	enum key_error error;
} reply_rows[] = {
	{"ready", 0, KEY_REPLY_READY, 0, "", "", "", ""},
	{"ready wrapped", 0, KEY_REPLY_READY, 0, "", "", "", "", KEY_CAP_WRAPPED},
	{"vmcryptfs-keys 1 x derives wrapped", 0, KEY_REPLY_HELLO, 0, "", "", "", "x",
	 KEY_CAP_DERIVES | KEY_CAP_WRAPPED},
	{"vmcryptfs-keys 1 file", 0, KEY_REPLY_HELLO, 0, "", "", "", "file"},
	{"vmcryptfs-keys 1 static derives", 0, KEY_REPLY_HELLO, 0, "", "", "", "static",
	 KEY_CAP_DERIVES},
	{"1 created a/b", 0, KEY_REPLY_CREATED, 1, "a/b", "", "", ""},
	{"1 secret " AS, 0, KEY_REPLY_SECRET, 1, "", "", "", ""},
	{"1 item a/b c -", 0, KEY_REPLY_ITEM, 1, "a/b", "c", "-", ""},
	{"1 item a c 2026-01-31T12:00:00Z", 0, KEY_REPLY_ITEM, 1, "a", "c",
	 "2026-01-31T12:00:00Z", ""},
	{"1 item a c 2026-01-31T12:00:00.123456789Z", 0, KEY_REPLY_ITEM, 1, "a", "c",
	 "2026-01-31T12:00:00.123456789Z", ""},
	{"1 end", 0, KEY_REPLY_END, 1, "", "", "", ""},
	{"1 destroyed", 0, KEY_REPLY_DESTROYED, 1, "", "", "", ""},
	{"1 gone", 0, KEY_REPLY_GONE, 1, "", "", "", ""},
	{"9 pong", 0, KEY_REPLY_PONG, 9, "", "", "", ""},
	{"1 error denied", 0, KEY_REPLY_ERROR, 1, "", "", "", "", 0, 0, KEY_DENIED},
	{"1 error notfound no such thing", 0, KEY_REPLY_ERROR, 1, "", "", "",
	 "no such thing", 0, 0, KEY_NOTFOUND},
	{"1 error unavailable retry-after=30 later", 0, KEY_REPLY_ERROR, 1, "", "", "",
	 "later", 0, 30, KEY_UNAVAILABLE},
	{"1 error unavailable retry-after=30", 0, KEY_REPLY_ERROR, 1, "", "", "", "", 0,
	 30, KEY_UNAVAILABLE},
	{"1 error quota  two blanks", 0, KEY_REPLY_ERROR, 1, "", "", "", " two blanks", 0,
	 0, KEY_QUOTA},
	{"1 error invalid " X510 "xx", 0, KEY_REPLY_ERROR, 1, "", "", "", X510 "xx", 0, 0,
	 KEY_INVALID},
	/* not of the protocol */
	{"", -EPROTO},
	{"ready ", -EPROTO},
	{"ready  x", -EPROTO},
	{"ready wrapped ", -EPROTO},
	{"vmcryptfs-keys", -EPROTO},
	{"vmcryptfs-keys 1", -EPROTO},
	{"vmcryptfs-keys 1 ", -EPROTO},
	{"vmcryptfs-keys 1 a/b", -EPROTO},
	{"vmcryptfs-keys 1 a ", -EPROTO},
	{"vmcryptfs-keys 1 a  b", -EPROTO},
	{"vmcryptfs-keys x a", -EPROTO},
	{"vmcryptfs-keys 0 a", -EPROTONOSUPPORT},
	{"vmcryptfs-keys 2 a", -EPROTONOSUPPORT},
	{"vmcryptfs-keys 10", -EPROTONOSUPPORT},
	{"1 hello", -EPROTO},
	{"1 created", -EPROTO},
	{"1 created ../x", -EPROTO},
	{"1 created a b", -EPROTO},
	{"1 secret", -EPROTO},
	{"1 secret " AS "=", -EPROTO},
	{"1 secret " AS " ", -EPROTO},
	{"1 secret  " AS, -EPROTO},
	{"1 secret QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUF=", -EPROTO},
	{"1 item a", -EPROTO},
	{"1 item a b", -EPROTO},
	{"1 item a b yesterday", -EPROTO},
	{"1 item a b 2026-01-31T12:00:00", -EPROTO},
	{"1 item a b 2026-01-31T12:00:00.Z", -EPROTO},
	{"1 item a b 2026-01-31T12:00:00.1234567890Z", -EPROTO},
	{"1 item a b 2026-01-31 12:00:00Z", -EPROTO},
	{"1 item a b - x", -EPROTO},
	{"1 pong ", -EPROTO},
	{"1 error", -EPROTO},
	{"1 error sad", -EPROTO},
	{"1 error denied retry-after=x y", -EPROTO},
	{"1 error denied retry-after=-1 y", -EPROTO},
	{"1 error denied caf\xc3\xa9", -EPROTO},
	{"1 error denied a\x7f", -EPROTO},
	{"1 error denied a\r", -EPROTO},
};

static void check_reply_fields(const struct key_reply *r, int i)
{
	ck_assert_int_eq(r->kind, reply_rows[i].kind);
	ck_assert(r->tag == reply_rows[i].tag);
	ck_assert_str_eq(r->id, reply_rows[i].id);
	ck_assert_str_eq(r->label, reply_rows[i].label);
	ck_assert_str_eq(r->created, reply_rows[i].created);
	ck_assert_str_eq(r->text, reply_rows[i].text);
	ck_assert_uint_eq(r->caps, reply_rows[i].caps);
	ck_assert_uint_eq(r->retry_after_s, reply_rows[i].retry_after_s);
	ck_assert_int_eq(r->error, reply_rows[i].error);
	ck_assert(!r->secret == (r->kind != KEY_REPLY_SECRET));
}

START_TEST(replies)
{
	const char *line = reply_rows[_i].line;
	char text[KEYPROTO_REPLY_MAX + 1];
	struct key_reply r;

	ck_assert_int_eq(keyproto_parse_reply(&r, line, strlen(line)),
			 reply_rows[_i].err);
	if (reply_rows[_i].err) {
		ck_assert_ptr_null(r.secret);
		return;
	}
	check_reply_fields(&r, _i);
	ck_assert_int_eq(keyproto_format_reply(text, sizeof(text), &r),
			 (int)strlen(line) + 1);
	ck_assert_mem_eq(text, line, strlen(line));
	secret_free(r.secret);
}
END_TEST

START_TEST(secret_bytes_survive)
{
	struct key_reply r;

	ck_assert_int_eq(keyproto_parse_reply(&r, "1 secret " AS, 9 + 44), 0);
	for (int i = 0; i < SECRET_LEN; i++)
		ck_assert_int_eq(secret_bytes(r.secret)[i], 'A');
	secret_free(r.secret);
}
END_TEST

START_TEST(lengths)
{
	static char line[KEYPROTO_REPLY_MAX + 16], out[KEYPROTO_REPLY_MAX + 16];
	static struct key_request q;
	struct key_reply r;

	memset(line, 'x', sizeof(line));
	memcpy(line, "option a ", 9);
	ck_assert_int_eq(keyproto_parse_request(&q, line, KEYPROTO_REQUEST_MAX - 1), 0);
	ck_assert_int_eq(keyproto_format_request(out, sizeof(out), &q),
			 KEYPROTO_REQUEST_MAX);
	ck_assert_int_eq(keyproto_format_request(out, KEYPROTO_REQUEST_MAX, &q), -ENOSPC);
	ck_assert_int_eq(keyproto_parse_request(&q, line, KEYPROTO_REQUEST_MAX), -EPROTO);

	memcpy(line, "1 error denied ", 15);
	ck_assert_int_eq(keyproto_parse_reply(&r, line, KEYPROTO_REPLY_MAX - 1), 0);
	ck_assert_uint_eq(strlen(r.text), KEYPROTO_TEXT_MAX);
	for (size_t room = 0; room < 10; room++)
		ck_assert_int_eq(keyproto_format_reply(out, room, &r), -ENOSPC);
	ck_assert_int_eq(keyproto_parse_reply(&r, line, KEYPROTO_REPLY_MAX), -EPROTO);
}
END_TEST

START_TEST(format_refuses)
{
	struct key_reply r = {.kind = KEY_REPLY_CREATED, .tag = 1, .id = "a b"};
	char out[600];

	ck_assert_int_eq(keyproto_format_reply(out, sizeof(out), &r), -EINVAL);
	snprintf(r.id, sizeof(r.id), "a\nb");
	ck_assert_int_eq(keyproto_format_reply(out, sizeof(out), &r), -EINVAL);
	snprintf(r.id, sizeof(r.id), "a");
	r.tag = 0;
	ck_assert_int_eq(keyproto_format_reply(out, sizeof(out), &r), -EINVAL);
	r.tag = 1;
	r.kind = KEY_REPLY_SECRET;
	ck_assert_int_eq(keyproto_format_reply(out, sizeof(out), &r), -EINVAL);
	r.kind = KEY_REPLY_ERROR;
	snprintf(r.text, sizeof(r.text), "a\nb\x7f\xc3\xa9");
	ck_assert_int_gt(keyproto_format_reply(out, sizeof(out), &r), 0);
	ck_assert_str_eq(out, "1 error denied a?b???\n");
}
END_TEST

START_TEST(retry_after_is_cut)
{
	static const char line[] = "1 error unavailable retry-after=99999999999 x";
	struct key_reply r;

	ck_assert_int_eq(keyproto_parse_reply(&r, line, strlen(line)), 0);
	ck_assert_uint_eq(r.retry_after_s, KEYPROTO_RETRY_AFTER_MAX);
}
END_TEST

START_TEST(text_is_no_retry_after)
{
	struct key_reply r = {.kind = KEY_REPLY_ERROR, .tag = 1, .text = "retry-after=9 x"};
	char out[600];

	ck_assert_int_gt(keyproto_format_reply(out, sizeof(out), &r), 0);
	ck_assert_str_eq(out, "1 error denied retry-after=0 retry-after=9 x\n");
	ck_assert_int_eq(keyproto_parse_reply(&r, out, strlen(out) - 1), 0);
	ck_assert_uint_eq(r.retry_after_s, 0);
	ck_assert_str_eq(r.text, "retry-after=9 x");
}
END_TEST

/* In order. */
static const char *const created_rows[] = {
	"-",
	"2025-12-31T23:59:59Z",
	"2026-01-01T00:00:00Z",
	"2026-01-01T00:00:00.05Z",
	"2026-01-01T00:00:00.1Z",
	"2026-01-01T00:00:00.15Z",
	"2026-01-01T00:00:00.2Z",
	"2026-01-01T00:00:01Z",
};

START_TEST(created_order)
{
	for (int i = 0; i < ROWS(created_rows); i++) {
		int got = keyproto_created_cmp(created_rows[_i], created_rows[i]);

		ck_assert(keyproto_created_valid(created_rows[i]));
		ck_assert_int_eq((got > 0) - (got < 0), (_i > i) - (_i < i));
	}
}
END_TEST

static const struct {
	const char *text;
	bool id, service;
} name_rows[] = {
	{"", false, false},
	{"a", true, true},
	{"A.b_c-9", true, true},
	{"-a", true, false},
	{".a", false, false},
	{"a.", true, true},
	{"a..b", false, true},
	{"..", false, false},
	{"a/b", true, false},
	{"/a", true, false},
	{"a:b+c=d@e", true, false},
	{"a b", false, false},
	{"a\n", false, false},
	{"a\xc3\xa9", false, false},
	{"a%2e", false, false},
	{X10 X10 X10 X10 X10 X10 "xxxx", true, true},
	{X10 X10 X10 X10 X10 X10 "xxxxx", true, false},
	{X510 "xx", true, false},
	{X510 "xxx", false, false},
};

START_TEST(names)
{
	const char *text = name_rows[_i].text;

	ck_assert_int_eq(token_key_id_valid(text), name_rows[_i].id);
	ck_assert_int_eq(token_service_valid(text), name_rows[_i].service);
}
END_TEST

START_TEST(error_table)
{
	static const int want[] = {
		[KEY_DENIED] = -EKEYREJECTED,	[KEY_NOTFOUND] = -ENOKEY,
		[KEY_UNAVAILABLE] = -ETIMEDOUT, [KEY_QUOTA] = -EDQUOT,
		[KEY_INVALID] = -EINVAL,
	};

	for (int i = 0; i < ROWS(want); i++)
		ck_assert_int_eq(keyproto_errno((enum key_error)i), want[i]);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("keyproto");
	TCase *t = tcase_create("keyproto");

	tcase_add_loop_test(t, requests, 0, ROWS(request_rows));
	tcase_add_loop_test(t, replies, 0, ROWS(reply_rows));
	tcase_add_test(t, secret_bytes_survive);
	tcase_add_test(t, lengths);
	tcase_add_test(t, format_refuses);
	tcase_add_test(t, retry_after_is_cut);
	tcase_add_test(t, text_is_no_retry_after);
	tcase_add_loop_test(t, created_order, 0, ROWS(created_rows));
	tcase_add_loop_test(t, names, 0, ROWS(name_rows));
	tcase_add_test(t, error_table);
	suite_add_tcase(s, t);
	return s;
}
