/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "crypto/keys/vault_codec.h"
#include "tests/unit/unit.h"

#define UUID "0b5ee2b2-5a0a-4b39-9a25-6cf4a8f7d9aa"
#define HEX8 "0011223344556677"
#define HEX32 HEX8 HEX8 HEX8 HEX8
#define CIPHER "vault:v1:abcdEFGH0123+/=="
#define META "\"metadata\":{\"version\":1,\"destroyed\":false,\"deletion_time\":\"\"}"
#define X10 "xxxxxxxxxx"
#define X120 X10 X10 X10 X10 X10 X10 X10 X10 X10 X10 X10 X10

static const struct {
	const char *path;
	bool valid;
} path_rows[] = {
	{"secret", true},
	{"a/b-c/d_e.f", true},
	{X120 "xxxxxxxx", true},
	{X120 "xxxxxxxxx", false},
	{"", false},
	{"/a", false},
	{"a/", false},
	{"a//b", false},
	{"a/../b", false},
	{".a", false},
	{"a.", false},
	{"a./b", false},
	{"a?b", false},
	{"a%2fb", false},
	{"a b", false},
	{"caf\xc3\xa9", false},
};

START_TEST(paths)
{
	ck_assert(vault_path_valid(path_rows[_i].path) == path_rows[_i].valid);
}
END_TEST

/* --- bodies --- */

static struct lockbuf *buffer(void)
{
	struct lockbuf *b;

	ck_assert_int_eq(lockbuf_new(&b, VAULT_TOKEN_MAX), 0);
	return b;
}

static struct secret *some_secret(void)
{
	struct secret *s;

	ck_assert_int_eq(secret_new_hex(&s, HEX32, SECRET_HEX_LEN), 0);
	return s;
}

START_TEST(bodies)
{
	auto_lockbuf struct lockbuf *b = buffer();
	auto_secret struct secret *s = some_secret();

	vault_add_approle_login(b, "role\"", "se\\cret");
	ck_assert_str_eq(b->data,
			 "{\"role_id\":\"role\\\"\",\"secret_id\":\"se\\\\cret\"}");
	lockbuf_reset(b);
	vault_add_cert_login(b, "");
	ck_assert_str_eq(b->data, "{}");
	lockbuf_reset(b);
	vault_add_cert_login(b, "node");
	ck_assert_str_eq(b->data, "{\"name\":\"node\"}");
	lockbuf_reset(b);
	vault_add_record(b, "abc", s, 1790000000);
	ck_assert_str_eq(b->data,
			 "{\"options\":{\"cas\":0},\"data\":{\"type\":\"symmetric\","
			 "\"value\":\"" HEX32 "\",\"algorithm\":\"AES\","
			 "\"bit_length\":256,\"name\":\"abc\",\"created\":1790000000}}");
	lockbuf_reset(b);
	vault_add_encrypt(b, "abc", s);
	ck_assert_str_eq(
		b->data,
		"{\"plaintext\":\"ABEiM0RVZncAESIzRFVmdwARIjNEVWZ3ABEiM0RVZnc=\","
		"\"context\":\"YWJj\"}");
	lockbuf_reset(b);
	vault_add_decrypt(b, "abc", CIPHER);
	ck_assert_str_eq(b->data, "{\"ciphertext\":\"" CIPHER "\",\"context\":\"YWJj\"}");
	ck_assert(!b->full);
}
END_TEST

/* --- replies --- */

static const struct {
	const char *text;
	int err;
	const char *token;
	uint32_t lease_s;
} login_rows[] = {
	{"{\"auth\":{\"client_token\":\"hvs.abc\",\"lease_duration\":1200,"
	 "\"renewable\":true},\"data\":null}",
	 0, "hvs.abc", 1200},
	{"{\"auth\":{\"client_token\":\"s.1\",\"lease_duration\":0}}", 0, "s.1", 0},
	{"", -EBADMSG, ""},
	{"<html>", -EBADMSG, ""},
	{"{}", -EBADMSG, ""},
	{"{\"auth\":null}", -EBADMSG, ""},
	{"{\"auth\":{\"client_token\":\"\",\"lease_duration\":1}}", -EBADMSG, ""},
	{"{\"auth\":{\"client_token\":\"a\"}}", -EBADMSG, ""},
	{"{\"auth\":{\"client_token\":\"a\",\"lease_duration\":-1}}", -EBADMSG, ""},
	{"{\"auth\":{\"client_token\":\"a\",\"lease_duration\":\"1\"}}", -EBADMSG, ""},
	{"{\"auth\":{\"client_token\":\"a b\",\"lease_duration\":1}}", -EBADMSG, ""},
	{"{\"auth\":{\"client_token\":\"a\\r\\nX: y\",\"lease_duration\":1}}", -EBADMSG,
	 ""},
	{"{\"auth\":{\"client_token\":1,\"lease_duration\":1}}", -EBADMSG, ""},
	{"{\"auth\":{\"client_token\":\"a\",\"lease_duration\":1}", -EBADMSG, ""},
};

START_TEST(logins)
{
	auto_lockbuf struct lockbuf *token = buffer();
	const char *text = login_rows[_i].text;
	uint32_t lease = 0;

	lockbuf_add_text(token, "an older one, which must go");
	ck_assert_int_eq(vault_parse_login(text, strlen(text), token, &lease),
			 login_rows[_i].err);
	ck_assert_str_eq(token->data, login_rows[_i].token);
	ck_assert_uint_eq(token->len, strlen(login_rows[_i].token));
	ck_assert_uint_eq(lease, login_rows[_i].lease_s);
}
END_TEST

#define RECORD(members) "{\"data\":{\"data\":{" members "}," META "}}"

static const struct {
	const char *text;
	int err;
	const char *name;
} record_rows[] = {
	{RECORD("\"type\":\"symmetric\",\"value\":\"" HEX32 "\",\"name\":\"" UUID "\""),
	 0, UUID},
	/* as castellan may write it */
	{RECORD("\"type\":\"symmetric\",\"value\":\"" HEX32
		"\",\"name\":1790000000,\"algorithm\":null,\"bit_length\":null"),
	 0, ""},
	{RECORD("\"type\":\"symmetric\",\"value\":\"" HEX32 "\",\"name\":\"a b\""), 0,
	 ""},
	{RECORD("\"type\":\"symmetric\",\"value\":\"" HEX32 "00\",\"name\":\"a\""),
	 -EINVAL, "a"},
	{RECORD("\"type\":\"symmetric\",\"value\":\"" HEX8 "\",\"name\":\"a\""), -EINVAL,
	 "a"},
	{RECORD("\"type\":\"symmetric\",\"value\":7,\"name\":\"a\""), -EINVAL, "a"},
	{RECORD("\"type\":\"passphrase\",\"value\":\"" HEX32 "\",\"name\":\"a\""),
	 -EINVAL, "a"},
	{RECORD("\"foo\":\"bar\""), -EINVAL, ""},
	{"{\"data\":{\"data\":null," META "}}", -ENOKEY, ""},
	{"{\"data\":{\"data\":null}}", -EBADMSG, ""},
	{"{\"data\":{\"data\":[]," META "}}", -EBADMSG, ""},
	/* version 1 has no metadata */
	{"{\"data\":{\"type\":\"symmetric\",\"value\":\"" HEX32 "\"}}", -EBADMSG, ""},
	{"{\"data\":null}", -EBADMSG, ""},
	{"{\"errors\":[]}", -EBADMSG, ""},
	{"", -EBADMSG, ""},
	{"{\"data\":{\"data\":{\"type\":\"symmetric\",\"value\":\"" HEX32, -EBADMSG, ""},
};

START_TEST(records)
{
	struct vault_record r = {NULL, ""};
	const char *text = record_rows[_i].text;

	ck_assert_int_eq(vault_parse_record(text, strlen(text), &r), record_rows[_i].err);
	ck_assert_str_eq(r.name, record_rows[_i].name);
	ck_assert(!r.secret == (record_rows[_i].err != 0));
	if (r.secret) {
		auto_secret struct secret *want = some_secret();

		ck_assert(secret_equal(r.secret, want));
	}
	secret_free(r.secret);
}
END_TEST

static const struct {
	const char *text;
	int written, created, list, key, mount; /* what each parser makes of it */
} other_rows[] = {
	{"{\"data\":{\"version\":1}}", 0, -EBADMSG, -EBADMSG, -EBADMSG, 0},
	{"{\"data\":{\"version\":2}}", -EBADMSG, -EBADMSG, -EBADMSG, -EBADMSG, 0},
	{"{\"data\":{\"created_time\":\"2018-03-22T02:24:06.945319214Z\"}}", -EBADMSG, 0,
	 -EBADMSG, -EBADMSG, 0},
	{"{\"data\":{\"created_time\":\"yesterday\"}}", -EBADMSG, -EBADMSG, -EBADMSG,
	 -EBADMSG, 0},
	{"{\"data\":{\"keys\":[]}}", -EBADMSG, -EBADMSG, 0, -EBADMSG, 0},
	{"{\"data\":{\"keys\":{}}}", -EBADMSG, -EBADMSG, -EBADMSG, -EBADMSG, 0},
	{"{\"data\":{\"derived\":true}}", -EBADMSG, -EBADMSG, -EBADMSG, 0, 0},
	{"{\"data\":{\"derived\":1}}", -EBADMSG, -EBADMSG, -EBADMSG, -EBADMSG, 0},
	{"{\"data\":{}", -EBADMSG, -EBADMSG, -EBADMSG, -EBADMSG, -EBADMSG},
	{"[]", -EBADMSG, -EBADMSG, -EBADMSG, -EBADMSG, -EBADMSG},
	{"{\"data\":[]}", -EBADMSG, -EBADMSG, -EBADMSG, -EBADMSG, -EBADMSG},
	{"", -EBADMSG, -EBADMSG, -EBADMSG, -EBADMSG, -EBADMSG},
};

START_TEST(others)
{
	const char *text = other_rows[_i].text;
	size_t len = strlen(text);
	struct jsonview keys;
	char created[32];
	bool b;

	ck_assert_int_eq(vault_parse_written(text, len), other_rows[_i].written);
	ck_assert_int_eq(vault_parse_created(text, len, created), other_rows[_i].created);
	ck_assert_int_eq(vault_parse_list(text, len, &keys), other_rows[_i].list);
	ck_assert_int_eq(vault_parse_key(text, len, &b), other_rows[_i].key);
	ck_assert_int_eq(vault_parse_mount(text, len, &b), other_rows[_i].mount);
}
END_TEST

static const struct {
	const char *text;
	bool kv2;
} mount_rows[] = {
	{"{\"data\":{\"type\":\"kv\",\"options\":{\"version\":\"2\"}}}", true},
	{"{\"data\":{\"type\":\"kv\",\"options\":{\"version\":\"1\"}}}", false},
	{"{\"data\":{\"type\":\"kv\",\"options\":null}}", false},
	{"{\"data\":{\"type\":\"transit\",\"options\":{\"version\":\"2\"}}}", false},
};

START_TEST(mounts)
{
	const char *text = mount_rows[_i].text;
	bool kv2 = !mount_rows[_i].kv2;

	ck_assert_int_eq(vault_parse_mount(text, strlen(text), &kv2), 0);
	ck_assert(kv2 == mount_rows[_i].kv2);
}
END_TEST

/* Folders and what is no label of ours are passed over. */
START_TEST(listing)
{
	static const char text[] =
		"{\"data\":{\"keys\":[\"" UUID "\",\"sub/\",\"a b\",7,\"b.\",\"c\"]}}";
	char label[KEYPROTO_LABEL_MAX + 1], all[256] = "";
	struct jsonview keys, one;
	size_t pos = 0;

	ck_assert_int_eq(vault_parse_list(text, strlen(text), &keys), 0);
	while (jsonview_next(keys, &pos, &one)) {
		if (vault_list_label(one, label))
			strcat(strcat(all, label), " ");
	}
	ck_assert_str_eq(all, UUID " c ");
}
END_TEST

static const struct {
	const char *ciphertext;
	int err;
} cipher_rows[] = {
	{CIPHER, 0},
	{"vault:v123456789:AAAA", 0},
	{"vault:v1:", -EBADMSG},
	{"vault:v:AAAA", -EBADMSG},
	{"vault:v1234567890:AAAA", -EBADMSG},
	{"vault:v1:AA=A", -EBADMSG},
	{"vault:v1:AA-A", -EBADMSG},
	{"vault:v1:AA A", -EBADMSG},
	{"other:v1:AAAA", -EBADMSG},
	{"", -EBADMSG},
	{"vault:v1:" X120 X120 X120 X120, -ENOSPC},
	{"vault:v1:" X120 X120 X120 X120 X120, -EBADMSG},
};

START_TEST(encrypted)
{
	char text[1024], id[TOKEN_KEY_ID_MAX + 1], label[KEYPROTO_LABEL_MAX + 1];
	const char *ciphertext;

	snprintf(text, sizeof(text), "{\"data\":{\"ciphertext\":\"%s\"}}",
		 cipher_rows[_i].ciphertext);
	ck_assert_int_eq(vault_parse_encrypted(text, strlen(text), UUID, id),
			 cipher_rows[_i].err);
	if (cipher_rows[_i].err)
		return;
	ck_assert(token_key_id_valid(id));
	ck_assert(vault_id_split(id, label, &ciphertext));
	ck_assert_str_eq(label, UUID);
	ck_assert_str_eq(ciphertext, cipher_rows[_i].ciphertext);
}
END_TEST

static const struct {
	const char *id, *label; /* NULL: no id of transit's */
} id_rows[] = {
	{UUID ":" CIPHER, UUID},
	{"a:vault:v1:AAAA", "a"},
	{"vault:v1:vault:v2:AAAA", "vault:v1"},
	{"vault:v1:AAAA:vault:v2:BBBB", "vault:v1:AAAA"},
	{UUID, NULL},
	{CIPHER, NULL},
	{":" CIPHER, NULL},
	{"a/b:" CIPHER, NULL},
	{"..:" CIPHER, NULL},
	{X120 "xxxxxxxx:" CIPHER, X120 "xxxxxxxx"},
	{X120 "xxxxxxxxx:" CIPHER, NULL},
	{"a:vault:v1:AAAA:", NULL},
	{"a:vault:v1:AAAA\n", NULL},
};

START_TEST(ids)
{
	char label[KEYPROTO_LABEL_MAX + 1];
	const char *ciphertext;

	ck_assert(vault_id_split(id_rows[_i].id, label, &ciphertext) ==
		  (id_rows[_i].label != NULL));
	if (id_rows[_i].label)
		ck_assert_str_eq(label, id_rows[_i].label);
}
END_TEST

static const struct {
	const char *text;
	int err;
} plain_rows[] = {
	{"{\"data\":{\"plaintext\":\"ABEiM0RVZncAESIzRFVmdwARIjNEVWZ3ABEiM0RVZnc=\"}}",
	 0},
	{"{\"data\":{\"plaintext\":\"ABEiM0RVZncAESIzRFVmdwARIjNEVWZ3ABEiM0RVZne=\"}}",
	 -EINVAL},
	{"{\"data\":{\"plaintext\":\"AAAA\"}}", -EINVAL},
	{"{\"data\":{\"plaintext\":\"\"}}", -EINVAL},
	{"{\"data\":{\"plaintext\":null}}", -EBADMSG},
	{"{\"data\":{}}", -EBADMSG},
};

START_TEST(decrypted)
{
	auto_secret struct secret *s = NULL, *want = some_secret();

	ck_assert_int_eq(vault_parse_decrypted(plain_rows[_i].text,
					       strlen(plain_rows[_i].text), &s),
			 plain_rows[_i].err);
	ck_assert(!s == (plain_rows[_i].err != 0));
	ck_assert(!s || secret_equal(s, want));
}
END_TEST

/* --- reasons and statuses --- */

static const struct {
	const char *text;
	bool any;
	const char *want;
	bool absent;
} error_rows[] = {
	{"{\"errors\":[\"permission denied\"]}", true, "permission denied"},
	{"{\"errors\":[\"1 error occurred:\\n\\t* x\\n\\n\",\"b\\u00e9\\u001b[0m\"]}",
	 true, "1 error occurred: * x; b [0m"},
	{"{\"errors\":[\"" X120 "\"]}", true, "[... 120 characters]"},
	{"{\"errors\":[\"" X10 " " X10 " " X10 " " X10 "\"]}", true,
	 X10 " " X10 " " X10 " xxxxxx"},
	{"{\"errors\":[]}", false, "", true},
	{"{\"errors\":[\"\"]}", false, ""},
	{"{\"errors\":\"a\"}", false, ""},
	{"{\"data\":{}}", false, ""},
	{"<html>503</html>", false, ""},
	{"", false, ""},
};

START_TEST(reasons)
{
	char text[40] = "older";

	ck_assert(vault_errors(error_rows[_i].text, strlen(error_rows[_i].text), text,
			       sizeof(text)) == error_rows[_i].any);
	ck_assert_str_eq(text, error_rows[_i].want);
	ck_assert(vault_is_absent(error_rows[_i].text, strlen(error_rows[_i].text)) ==
		  error_rows[_i].absent);
}
END_TEST

static const struct {
	long status;
	enum key_error kind, login;
} status_rows[] = {
	{301, KEY_UNAVAILABLE, KEY_UNAVAILABLE}, {307, KEY_UNAVAILABLE, KEY_UNAVAILABLE},
	{400, KEY_INVALID, KEY_DENIED},		 {401, KEY_DENIED, KEY_DENIED},
	{403, KEY_DENIED, KEY_DENIED},		 {404, KEY_DENIED, KEY_DENIED},
	{405, KEY_DENIED, KEY_DENIED},		 {412, KEY_UNAVAILABLE, KEY_UNAVAILABLE},
	{413, KEY_INVALID, KEY_INVALID},	 {423, KEY_UNAVAILABLE, KEY_UNAVAILABLE},
	{429, KEY_UNAVAILABLE, KEY_UNAVAILABLE}, {472, KEY_UNAVAILABLE, KEY_UNAVAILABLE},
	{473, KEY_UNAVAILABLE, KEY_UNAVAILABLE}, {500, KEY_UNAVAILABLE, KEY_UNAVAILABLE},
	{501, KEY_UNAVAILABLE, KEY_UNAVAILABLE}, {503, KEY_UNAVAILABLE, KEY_UNAVAILABLE},
};

START_TEST(statuses)
{
	ck_assert_int_eq(vault_status_kind(status_rows[_i].status, false),
			 status_rows[_i].kind);
	ck_assert_int_eq(vault_status_kind(status_rows[_i].status, true),
			 status_rows[_i].login);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("vault_codec");
	TCase *t = tcase_create("vault_codec");

	tcase_add_loop_test(t, paths, 0, ROWS(path_rows));
	tcase_add_test(t, bodies);
	tcase_add_loop_test(t, logins, 0, ROWS(login_rows));
	tcase_add_loop_test(t, records, 0, ROWS(record_rows));
	tcase_add_loop_test(t, others, 0, ROWS(other_rows));
	tcase_add_loop_test(t, mounts, 0, ROWS(mount_rows));
	tcase_add_test(t, listing);
	tcase_add_loop_test(t, encrypted, 0, ROWS(cipher_rows));
	tcase_add_loop_test(t, ids, 0, ROWS(id_rows));
	tcase_add_loop_test(t, decrypted, 0, ROWS(plain_rows));
	tcase_add_loop_test(t, reasons, 0, ROWS(error_rows));
	tcase_add_loop_test(t, statuses, 0, ROWS(status_rows));
	suite_add_tcase(s, t);
	return s;
}
