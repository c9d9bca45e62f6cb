/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "crypto/token.h"
#include "tests/unit/unit.h"
#include "util/parse.h"

static const struct token example = {
	.service = "default",
	.key_id = "5cc9ee79-a12b-4f4b-87c7-3e7b2a5fc7b0",
	.context = "a \"quoted\" \\ context",
	.created = "2026-01-31T12:00:00Z",
	.holes = HOLES_ZERO,
	.derived = false,
	.keyslot = 0,
	.generation = 7,
	.kcv = {1, 2, 3},
	.mac = {4, 5, 6},
};

static const struct token_subject subject = {
	.uuid = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67,
		 0x89, 0xab, 0xcd, 0xef},
	.uuid_text = "01234567-89ab-cdef-0123-456789abcdef",
	.format = FORMAT_LUKS2,
	.key_bits = 512,
	.sector_len = 4096,
	.data_off = 2097152,
};

static void expect_same(const struct token *a, const struct token *b)
{
	ck_assert_str_eq(a->service, b->service);
	ck_assert_str_eq(a->key_id, b->key_id);
	ck_assert_str_eq(a->context, b->context);
	ck_assert_str_eq(a->created, b->created);
	ck_assert_int_eq(a->holes, b->holes);
	ck_assert_int_eq(a->derived, b->derived);
	ck_assert_uint_eq(a->keyslot, b->keyslot);
	ck_assert_uint_eq(a->generation, b->generation);
	ck_assert_mem_eq(a->kcv, b->kcv, KCV_LEN);
	ck_assert_mem_eq(a->mac, b->mac, TOKEN_MAC_LEN);
}

START_TEST(text_is_fixed)
{
	char json[TOKEN_JSON_MAX + 1];
	ssize_t len = token_format(json, sizeof(json), &example);

	ck_assert_str_eq(
		json,
		"{\"type\":\"vmcryptfs\",\"keyslots\":[\"0\"],\"version\":1,"
		"\"service\":\"default\","
		"\"key_id\":\"5cc9ee79-a12b-4f4b-87c7-3e7b2a5fc7b0\",\"derived\":false,"
		"\"holes\":\"zero\",\"context\":\"a \\\"quoted\\\" \\\\ context\","
		"\"generation\":7,\"created\":\"2026-01-31T12:00:00Z\","
		"\"kcv\":\"01020300000000000000000000000000\","
		"\"mac\":\"BAUGAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"}");
	ck_assert_int_eq(len, (ssize_t)strlen(json));
	ck_assert_int_eq(token_format(json, (size_t)len, &example), -ENOSPC);
}
END_TEST

START_TEST(round_trip)
{
	char json[TOKEN_JSON_MAX + 1];
	struct token t = example;
	struct token back;
	ssize_t len;

	t.derived = _i & 1;
	t.holes = _i & 2 ? HOLES_NONE : HOLES_ZERO;
	t.generation = _i & 4 ? INT64_MAX : 0;
	t.keyslot = _i & 8 ? 31 : 0;
	memset(t.key_id, 'k', _i & 1 ? TOKEN_KEY_ID_MAX : 1);
	memset(t.context, _i & 2 ? '"' : ' ', TOKEN_CONTEXT_MAX);
	memset(t.service, 's', TOKEN_SERVICE_MAX);
	len = token_format(json, sizeof(json), &t);
	ck_assert_int_gt(len, 0);
	ck_assert_int_eq(token_parse(&back, json, (size_t)len), 0);
	expect_same(&t, &back);
}
END_TEST

/* Parts of a right token; a row replaces one of them. */
static const char *const parts[] = {
	"\"type\":\"vmcryptfs\"",
	"\"keyslots\":[\"0\"]",
	"\"version\":1",
	"\"service\":\"default\"",
	"\"key_id\":\"a\"",
	"\"derived\":false",
	"\"holes\":\"zero\"",
	"\"context\":\"\"",
	"\"generation\":1",
	"\"created\":\"2026-01-31T12:00:00Z\"",
	"\"kcv\":\"000102030405060708090a0b0c0d0e0f\"",
	"\"mac\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"",
};
enum {
	TYPE,
	SLOTS,
	VERSION,
	SERVICE,
	KEY_ID,
	DERIVED,
	HOLES,
	CONTEXT,
	GEN,
	CREATED,
	KCV,
	MAC
};

static const struct {
	int part;
	const char *text;
	vcf_err_t want;
} parse_rows[] = {
	{TYPE, "\"type\":\"vmcryptfs\"", 0},
	{TYPE, " \"type\" :\t\"vmcryptfs\"\n", 0},
	{TYPE, "\"type\":\"luks2-keyring\"", -EBADMSG},
	{TYPE, "\"type\":\"vmcryptfs2\"", -EBADMSG},
	{TYPE, "\"type\":1", -EBADMSG},
	{TYPE, "\"Type\":\"vmcryptfs\"", -EBADMSG},
	{TYPE, "\"extra\":\"vmcryptfs\"", -EBADMSG},
	{TYPE, "\"type\":\"vmcryptfs\",\"extra\":1", -EBADMSG},
	{TYPE, "\"type\":\"vmcryptfs\",\"type\":\"vmcryptfs\"", -EBADMSG},
	{TYPE, "", -EBADMSG},
	{SLOTS, "\"keyslots\":[\"31\"]", 0},
	{SLOTS, "\"keyslots\":[ \"7\" ]", 0},
	{SLOTS, "\"keyslots\":[\"32\"]", -EBADMSG},
	{SLOTS, "\"keyslots\":[\"00\"]", -EBADMSG},
	{SLOTS, "\"keyslots\":[\"-1\"]", -EBADMSG},
	{SLOTS, "\"keyslots\":[\"\"]", -EBADMSG},
	{SLOTS, "\"keyslots\":[0]", -EBADMSG},
	{SLOTS, "\"keyslots\":[]", -EBADMSG},
	{SLOTS, "\"keyslots\":[\"0\",\"1\"]", -EBADMSG},
	{SLOTS, "\"keyslots\":[[\"0\"]]", -EBADMSG},
	{VERSION, "\"version\":2", -EBADMSG},
	{VERSION, "\"version\":01", -EBADMSG},
	{VERSION, "\"version\":1.0", -EBADMSG},
	{VERSION, "\"version\":-1", -EBADMSG},
	{VERSION, "\"version\":\"1\"", -EBADMSG},
	{VERSION, "\"version\":", -EBADMSG},
	{VERSION, "\"version\":111111111111111111111111111111", -EBADMSG},
	{SERVICE, "\"service\":\"\"", -EBADMSG},
	{SERVICE, "\"service\":\"../etc\"", -EBADMSG},
	{SERVICE, "\"service\":\"a/b\"", -EBADMSG},
	{SERVICE, "\"service\":\"-x\"", -EBADMSG},
	{SERVICE, "\"service\":\"a b\"", -EBADMSG},
	{SERVICE, "\"service\":null", -EBADMSG},
	{KEY_ID, "\"key_id\":\"http:\\/\\/h:9311\\/v1\\/a@b=+_-.c\"", 0},
	{KEY_ID, "\"key_id\":\"../x\"", -EBADMSG},
	{KEY_ID, "\"key_id\":\"a/../x\"", -EBADMSG},
	{KEY_ID, "\"key_id\":\".hidden\"", -EBADMSG},
	{KEY_ID, "\"key_id\":\"\"", -EBADMSG},
	{KEY_ID, "\"key_id\":\"a\\nb\"", -EBADMSG},
	{KEY_ID, "\"key_id\":\"a\nb\"", -EBADMSG},
	{KEY_ID, "\"key_id\":\"a\\u0041\"", -EBADMSG},
	{KEY_ID, "\"key_id\":\"a b\"", -EBADMSG},
	{KEY_ID, "\"key_id\":\"a\x7f\"", -EBADMSG},
	{KEY_ID, "\"key_id\":\"a\xc3\xa4\"", -EBADMSG},
	{KEY_ID, "\"key_id\":\"a", -EBADMSG},
	{DERIVED, "\"derived\":true", 0},
	{DERIVED, "\"derived\":\"true\"", -EBADMSG},
	{DERIVED, "\"derived\":1", -EBADMSG},
	{DERIVED, "\"derived\":truefalse", -EBADMSG},
	{HOLES, "\"holes\":\"none\"", 0},
	{HOLES, "\"holes\":\"some\"", -EBADMSG},
	{CONTEXT, "\"context\":\"x\\\"y\\\\z\"", 0},
	{CONTEXT, "\"context\":\"\t\"", -EBADMSG},
	{CONTEXT, "\"context\":\"\\", -EBADMSG},
	{GEN, "\"generation\":0", 0},
	{GEN, "\"generation\":9223372036854775807", 0},
	{GEN, "\"generation\":9223372036854775808", -EBADMSG},
	{GEN, "\"generation\":18446744073709551616", -EBADMSG},
	{GEN, "\"generation\":1e3", -EBADMSG},
	{CREATED, "\"created\":\"2026-01-31T12:00:00\"", -EBADMSG},
	{CREATED, "\"created\":\"2026-01-31T12:00:00Zx\"", -EBADMSG},
	{CREATED, "\"created\":\"yesterday\"", -EBADMSG},
	{CREATED, "\"created\":\"\"", -EBADMSG},
	{KCV, "\"kcv\":\"000102030405060708090a0b0c0d0e\"", -EBADMSG},
	{KCV, "\"kcv\":\"000102030405060708090A0B0C0D0E0F\"", -EBADMSG},
	{KCV, "\"kcv\":\"000102030405060708090a0b0c0d0e0f00\"", -EBADMSG},
	{MAC, "\"mac\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=\"", -EBADMSG},
	{MAC, "\"mac\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\"", -EBADMSG},
	{MAC, "\"mac\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd\"", -EBADMSG},
	{MAC, "\"mac\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"} x", -EBADMSG},
	{MAC, "\"mac\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\",", -EBADMSG},
};

static size_t compose(char *dst, size_t room, int part, const char *text)
{
	size_t n = (size_t)snprintf(dst, room, "{");

	for (int i = 0; i < ROWS(parts); i++)
		n += (size_t)snprintf(dst + n, room - n, "%s%s", i ? "," : "",
				      i == part ? text : parts[i]);
	return n + (size_t)snprintf(dst + n, room - n, "}");
}

START_TEST(parsing)
{
	char json[4096];
	struct token t;
	size_t len =
		compose(json, sizeof(json), parse_rows[_i].part, parse_rows[_i].text);

	ck_assert_msg(token_parse(&t, json, len) == parse_rows[_i].want, "%s", json);
}
END_TEST

/* Every proper prefix is refused and nothing is read past the end (ASan sees it). */
START_TEST(truncated)
{
	char json[4096];
	size_t len = compose(json, sizeof(json), -1, NULL);
	struct token t;

	ck_assert_int_eq(token_parse(&t, json, len), 0);
	for (size_t n = 0; n < len; n++) {
		auto_free char *copy = malloc(n + 1);

		memcpy(copy, json, n);
		copy[n] = '}';
		ck_assert_int_eq(token_parse(&t, copy, n), -EBADMSG);
	}
}
END_TEST

START_TEST(long_fields)
{
	char text[700] = "\"key_id\":\"";
	char json[4096];
	struct token t;
	size_t n = strlen(text);

	memset(text + n, 'k', (size_t)_i);
	strcpy(text + n + _i, "\"");
	n = compose(json, sizeof(json), KEY_ID, text);
	ck_assert_int_eq(token_parse(&t, json, n), _i <= TOKEN_KEY_ID_MAX ? 0 : -EBADMSG);
	memset(json + n, ' ', sizeof(json) - n);
	ck_assert_int_eq(token_parse(&t, json, TOKEN_JSON_MAX + 1), -EBADMSG);
}
END_TEST

static void subject_change(struct token *t, struct token_subject *s, int field)
{
	switch (field) {
	case 0:
		t->service[0] ^= 1;
		break;
	case 1:
		t->key_id[0] ^= 1;
		break;
	case 2:
		t->derived = true;
		break;
	case 3:
		t->holes = HOLES_NONE;
		break;
	case 4:
		t->context[0] ^= 1;
		break;
	case 5:
		t->generation++;
		break;
	case 6:
		t->created[3]++;
		break;
	case 7:
		s->uuid_text[0] ^= 1;
		break;
	case 8:
		s->uuid[0] ^= 1;
		break;
	case 9:
		s->sector_len = 512;
		break;
	case 10:
		s->data_off += 4096;
		break;
	case 11:
		s->format = FORMAT_LUKS1;
		break;
	case 12:
		s->key_bits = 256;
		break;
	case 13:
		t->kcv[15] ^= 1;
		break;
	case 14:
		t->mac[31] ^= 1;
		break;
	}
}

START_TEST(mac_covers)
{
	auto_secret struct secret *secret = NULL;
	struct token_subject s = subject;
	struct token t = example;

	ck_assert_int_eq(secret_new(&secret), 0);
	ck_assert_int_eq(token_mac(t.mac, &t, &s, secret), 0);
	ck_assert_int_eq(token_mac_check(&t, &s, secret), 0);
	subject_change(&t, &s, _i);
	ck_assert_int_eq(token_mac_check(&t, &s, secret), -EBADMSG);
}
END_TEST

/* Fields that run into each other must not give the same MAC. */
START_TEST(mac_is_unambiguous)
{
	auto_secret struct secret *secret = NULL;
	struct token t = example;

	ck_assert_int_eq(secret_new(&secret), 0);
	strcpy(t.service, "ab");
	strcpy(t.key_id, "c");
	ck_assert_int_eq(token_mac(t.mac, &t, &subject, secret), 0);
	strcpy(t.service, "a");
	strcpy(t.key_id, "bc");
	ck_assert_int_eq(token_mac_check(&t, &subject, secret), -EBADMSG);
}
END_TEST

/* Computed by tests/unit/token_mac.py, which knows DESIGN section 3 and nothing of ours.
 */
START_TEST(mac_vector)
{
	auto_secret struct secret *secret = NULL;
	unsigned char mac[TOKEN_MAC_LEN];
	unsigned char kcv[KCV_LEN];
	unsigned char key[VOLUME_KEY_LEN];
	char hex[2 * TOKEN_MAC_LEN + 1];

	ck_assert_int_eq(secret_new(&secret), 0);
	for (int i = 0; i < SECRET_LEN; i++)
		secret_bytes(secret)[i] = (unsigned char)i;
	for (int i = 0; i < VOLUME_KEY_LEN; i++)
		key[i] = (unsigned char)i;
	ck_assert_int_eq(token_mac(mac, &example, &subject, secret), 0);
	hex_encode(hex, mac, sizeof(mac));
	ck_assert_str_eq(
		hex, "e4bc04888331f3189ab94f8dc8bd7a46af17ace9c99969d772abf9cb736d844a");
	ck_assert_int_eq(keytable_kcv(kcv, key, subject.uuid), 0);
	hex_encode(hex, kcv, sizeof(kcv));
	ck_assert_str_eq(hex, "cd28a120c801b3a4d0065b885888055b");
}
END_TEST

START_TEST(derived_secrets)
{
	auto_secret struct secret *site = NULL;
	auto_secret struct secret *a = NULL;
	char hex[SECRET_HEX_LEN + 1];

	ck_assert_int_eq(secret_new(&site), 0);
	for (int i = 0; i < SECRET_LEN; i++)
		secret_bytes(site)[i] = (unsigned char)i;
	ck_assert_int_eq(token_derive_secret(&a, site, subject.uuid), 0);
	secret_hex(a, hex);
	ck_assert_str_eq(
		hex, "66ab40b72b223a4c71cb0cd63f8c1c077190a3501b83171b5624524925c4792a");
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("token");
	TCase *t = tcase_create("token");

	tcase_add_test(t, text_is_fixed);
	tcase_add_loop_test(t, round_trip, 0, 16);
	tcase_add_loop_test(t, parsing, 0, ROWS(parse_rows));
	tcase_add_test(t, truncated);
	tcase_add_loop_test(t, long_fields, 510, 515);
	tcase_add_loop_test(t, mac_covers, 0, 15);
	tcase_add_test(t, mac_is_unambiguous);
	tcase_add_test(t, mac_vector);
	tcase_add_test(t, derived_secrets);
	suite_add_tcase(s, t);
	return s;
}
