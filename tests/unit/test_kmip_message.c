/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Our messages against recorded ones (kmip-vectors.txt), and what must not be believed. */
#include <errno.h>
#include <string.h>

#include "crypto/keys/kmip_message.h"
#include "tests/unit/kmip_vectors.h"
#include "tests/unit/unit.h"
#include "util/parse.h"

static const struct kmip_version v12 = {1, 2}, v14 = {1, 4}, v20 = {2, 0};
static unsigned char message[KMIP_VECTOR_MAX];

/* --- requests are what the other client sent --- */

enum { DISCOVER, QUERY, REGISTER, SIMPLE, REVOKE, LOCATE };

static const struct {
	int kind;
	const char *vector;
	enum kmip_op op;
	const char *text;
} request_rows[] = {
	{DISCOVER, "discover-request", 0, NULL},
	{QUERY, "query-request", 0, NULL},
	{REGISTER, "register-request", 0, "disk-0005"},
	{SIMPLE, "activate-request", KMIP_ACTIVATE, "1"},
	{SIMPLE, "get-request", KMIP_GET, "1"},
	{SIMPLE, "destroy-request", KMIP_DESTROY, "1"},
	{SIMPLE, "get-unknown-request", KMIP_GET, "999999"},
	{REVOKE, "revoke-request", 0, "1"},
	{LOCATE, "locate-request", 0, "disk-0003"},
	{LOCATE, "locate-none-request", 0, "nothing"},
};

static ssize_t write_row(int i, unsigned char *dst, size_t room)
{
	unsigned char key[SECRET_LEN];

	for (int k = 0; k < SECRET_LEN; k++)
		key[k] = (unsigned char)k;
	switch (request_rows[i].kind) {
	case DISCOVER:
		return kmip_write_discover(dst, room, v12);
	case QUERY:
		return kmip_write_query(dst, room, v12);
	case REGISTER:
		return kmip_write_register(dst, room, v12, request_rows[i].text, key);
	case SIMPLE:
		return kmip_write_simple(dst, room, v12, request_rows[i].op,
					 request_rows[i].text);
	case REVOKE:
		return kmip_write_revoke(dst, room, v12, request_rows[i].text);
	default:
		return kmip_write_locate(dst, room, v12, request_rows[i].text, 0, 0);
	}
}

START_TEST(requests)
{
	unsigned char out[KMIP_REQUEST_ROOM];
	size_t len = kmip_vector(message, request_rows[_i].vector);

	ck_assert_int_eq(write_row(_i, out, sizeof(out)), (ssize_t)len);
	ck_assert_mem_eq(out, message, len);
	for (size_t room = 0; room < len; room++)
		ck_assert_int_eq(write_row(_i, out, room), -ENOSPC);
}
END_TEST

/* The longest texts fit the room that callers give. */
START_TEST(longest_requests)
{
	unsigned char out[KMIP_REQUEST_ROOM], key[SECRET_LEN] = {0};
	char id[TOKEN_KEY_ID_MAX + 1], name[KMIP_NAME_MAX + 1];

	memset(id, 'i', TOKEN_KEY_ID_MAX);
	id[TOKEN_KEY_ID_MAX] = '\0';
	memset(name, 'n', KMIP_NAME_MAX);
	name[KMIP_NAME_MAX] = '\0';
	ck_assert_int_gt(kmip_write_register(out, sizeof(out), v14, name, key), 0);
	ck_assert_int_gt(kmip_write_revoke(out, sizeof(out), v14, id), 0);
	ck_assert_int_gt(kmip_write_get_attributes(out, sizeof(out), v14, id), 0);
	ck_assert_int_gt(kmip_write_locate(out, sizeof(out), v14, name, 1000, 100), 0);
}
END_TEST

/* --- replies --- */

static const struct {
	const char *vector;
	enum kmip_op op;
	struct kmip_version v;
	vcf_err_t err;
	uint32_t reason;
	const char *text;
} reply_rows[] = {
	{"query-reply", KMIP_QUERY, {1, 2}, 0, 0, ""},
	{"discover-reply", KMIP_DISCOVER_VERSIONS, {1, 2}, 0, 0, ""},
	{"register-reply", KMIP_REGISTER, {1, 2}, 0, 0, ""},
	{"locate-none-reply", KMIP_LOCATE, {1, 2}, 0, 0, ""},
	{"get-reply", KMIP_GET, {1, 2}, 0, 0, ""},
	{"get-1.4-reply", KMIP_GET, {1, 4}, 0, 0, ""},
	{"get-2.0-reply", KMIP_GET, {2, 0}, 0, 0, ""},
	{"get-unknown-reply",
	 KMIP_GET,
	 {1, 2},
	 -EREMOTEIO,
	 0x01,
	 "Could not locate object: 999999"},
	{"get-denied-reply",
	 KMIP_GET,
	 {1, 2},
	 -EREMOTEIO,
	 0x0c,
	 "Could not locate object: 6"},
	{"destroy-active-reply",
	 KMIP_DESTROY,
	 {1, 2},
	 -EREMOTEIO,
	 0x0c,
	 "Object is active and cannot be destroyed."},
	/* the answer to something else */
	{"get-reply", KMIP_ACTIVATE, {1, 2}, -EBADMSG, 0, ""},
	{"get-unknown-reply", KMIP_LOCATE, {1, 2}, -EBADMSG, 0, ""},
	{"get-reply", KMIP_GET, {1, 4}, -EBADMSG, 0, ""},
	{"get-reply", KMIP_GET, {2, 2}, -EBADMSG, 0, ""},
	{"get-request", KMIP_GET, {1, 2}, -EBADMSG, 0, ""},
};

START_TEST(replies)
{
	struct kmip_reply r = {.reason = 0};
	size_t len = kmip_vector(message, reply_rows[_i].vector);

	ck_assert_int_eq(
		kmip_read_reply(message, len, reply_rows[_i].v, reply_rows[_i].op, &r),
		reply_rows[_i].err);
	ck_assert_int_eq(r.reason, reply_rows[_i].reason);
	ck_assert_str_eq(r.message, reply_rows[_i].text);
}
END_TEST

/* One byte of a good reply exchanged: where it is, what it becomes. */
static const struct {
	const char *what;
	size_t at;
	unsigned char value;
} spoilt_rows[] = {
	{"two items announced", 0x53, 2},     {"another batch item tag", 0x5a, 0x10},
	{"an operation not asked", 0x6b, 8},  {"status pending", 0x7b, 2},
	{"status undone", 0x7b, 3},	      {"status 4", 0x7b, 4},
	{"failed without a reason", 0x7b, 1}, {"protocol 3.2", 0x23, 3},
};

START_TEST(spoilt)
{
	struct kmip_reply r;
	size_t len = kmip_vector(message, "get-reply");

	message[spoilt_rows[_i].at] = spoilt_rows[_i].value;
	ck_assert_msg(kmip_read_reply(message, len, v12, KMIP_GET, &r) == -EBADMSG, "%s",
		      spoilt_rows[_i].what);
}
END_TEST

/* A second batch item behind the first one. */
START_TEST(two_items)
{
	struct kmip_reply r;
	size_t len = kmip_vector(message, "activate-reply"), item = 0x58;

	memcpy(message + len, message + item, len - item);
	message[7] = (unsigned char)(len + len - item - 8);
	message[6] = (unsigned char)((len + len - item - 8) >> 8);
	ck_assert_int_eq(kmip_read_reply(message, 2 * len - item, v12, KMIP_ACTIVATE, &r),
			 -EBADMSG);
}
END_TEST

static void read_good(const char *vector, enum kmip_op op, struct kmip_version v,
		      struct kmip_reply *r)
{
	size_t len = kmip_vector(message, vector);

	ck_assert_int_eq(kmip_read_reply(message, len, v, op, r), 0);
}

/* --- keys --- */

static const struct {
	const char *vector, *id;
	struct kmip_version v;
	vcf_err_t err;
	const char *hex;
} key_rows[] = {
	{"get-reply",
	 "1",
	 {1, 2},
	 0,
	 "62e04100086ba01c3dddd4b8486344018e076e47e191e355a5c44f0878797ffc"},
	{"get-2.0-reply",
	 "6",
	 {2, 0},
	 0,
	 "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"},
	{"get-reply", "2", {1, 2}, -ESTALE, NULL},
	{"get-512-reply", "2", {1, 2}, -EMSGSIZE, NULL},
	{"get-secretdata-reply", "4", {1, 2}, -EPROTOTYPE, NULL},
	{"get-opaque-reply", "5", {1, 2}, -EPROTOTYPE, NULL},
};

START_TEST(keys)
{
	unsigned char want[SECRET_LEN];
	const unsigned char *key = NULL;
	struct kmip_reply r;

	read_good(key_rows[_i].vector, KMIP_GET, key_rows[_i].v, &r);
	ck_assert_int_eq(kmip_read_key(&r, key_rows[_i].id, &key), key_rows[_i].err);
	if (key_rows[_i].err)
		return;
	ck_assert_int_eq(hex_decode(want, sizeof(want), key_rows[_i].hex, 64), 0);
	ck_assert_mem_eq(key, want, sizeof(want));
}
END_TEST

/* The block of a Get reply, made anew. */
static const struct {
	const char *what;
	uint32_t format, algorithm;
	int32_t bits;
	size_t len;
	bool wrapped;
	vcf_err_t err;
} made_rows[] = {
	{"ours", 1, 3, 256, 32, false, 0},
	{"algorithm and length not said", 1, 0, 0, 32, false, 0},
	{"transparent", 7, 3, 256, 32, false, -EPROTOTYPE},
	{"3DES", 1, 2, 256, 32, false, -EPROTOTYPE},
	{"wrapped", 1, 3, 256, 32, true, -EPROTOTYPE},
	{"said to have 128 bits", 1, 3, 128, 32, false, -EMSGSIZE},
	{"16 bytes", 1, 3, 256, 16, false, -EMSGSIZE},
	{"31 bytes", 1, 3, 256, 31, false, -EMSGSIZE},
	{"33 bytes", 1, 3, 256, 33, false, -EMSGSIZE},
	{"no bytes", 1, 3, 256, 0, false, -EMSGSIZE},
};

static size_t make_payload(int i, unsigned char *dst, size_t room)
{
	static const unsigned char key[64] = {1};
	struct ttlv_writer w;
	ssize_t n;

	ttlv_writer_init(&w, dst, room);
	ttlv_put_enum(&w, 0x420057, 2);
	ttlv_put_text(&w, 0x420094, "id");
	ttlv_begin(&w, 0x42008f);
	ttlv_begin(&w, 0x420040);
	ttlv_put_enum(&w, 0x420042, made_rows[i].format);
	ttlv_begin(&w, 0x420045);
	ttlv_put_bytes(&w, 0x420043, key, made_rows[i].len);
	ttlv_end(&w);
	if (made_rows[i].algorithm)
		ttlv_put_enum(&w, 0x420028, made_rows[i].algorithm);
	if (made_rows[i].bits)
		ttlv_put_int(&w, 0x42002a, made_rows[i].bits);
	if (made_rows[i].wrapped) {
		ttlv_begin(&w, 0x420046);
		ttlv_end(&w);
	}
	ttlv_end(&w);
	ttlv_end(&w);
	n = ttlv_finish(&w);
	ck_assert_int_gt(n, 0);
	return (size_t)n;
}

START_TEST(made_keys)
{
	struct kmip_reply r = {.reason = 0};
	const unsigned char *key;

	ttlv_reader_init(&r.payload, message, make_payload(_i, message, sizeof(message)));
	ck_assert_msg(kmip_read_key(&r, "id", &key) == made_rows[_i].err, "%s",
		      made_rows[_i].what);
}
END_TEST

/* --- the other payloads --- */

START_TEST(versions)
{
	struct kmip_version v = {0, 0};
	struct kmip_reply r;

	read_good("discover-reply", KMIP_DISCOVER_VERSIONS, v12, &r);
	ck_assert_int_eq(kmip_read_versions(&r, &v), 0);
	ck_assert(v.major == 1 && v.minor == 4);
	read_good("activate-reply", KMIP_ACTIVATE, v12, &r);
	ck_assert_int_eq(kmip_read_versions(&r, &v), -EPROTONOSUPPORT);
}
END_TEST

START_TEST(query)
{
	char vendor[KMIP_TEXT_MAX + 1];
	struct kmip_reply r;

	read_good("query-reply", KMIP_QUERY, v12, &r);
	ck_assert(kmip_query_has(&r, KMIP_REGISTER));
	ck_assert(kmip_query_has(&r, KMIP_DESTROY));
	ck_assert(!kmip_query_has(&r, (enum kmip_op)0x04));
	kmip_query_vendor(&r, vendor);
	ck_assert_str_eq(vendor, "PyKMIP 0.10.0 Software Server");
}
END_TEST

START_TEST(ids)
{
	char id[TOKEN_KEY_ID_MAX + 1] = "";
	struct kmip_reply r;

	read_good("register-reply", KMIP_REGISTER, v12, &r);
	ck_assert_int_eq(kmip_read_id(&r, id), 0);
	ck_assert_str_eq(id, "6");
	read_good("locate-reply", KMIP_LOCATE, v12, &r);
	ck_assert_int_eq(kmip_next_id(&r, id), 0);
	ck_assert_str_eq(id, "4");
	ck_assert_int_eq(kmip_next_id(&r, id), -ENODATA);
	read_good("locate-none-reply", KMIP_LOCATE, v12, &r);
	ck_assert_int_eq(kmip_next_id(&r, id), -ENODATA);
	ck_assert_int_eq(kmip_read_id(&r, id), -EBADMSG);
}
END_TEST

static const struct {
	const char *id;
	vcf_err_t err;
} id_rows[] = {
	{"1", 0},	   {"0b6f0e1c-6ab5-4ef8-9d7f-6d1f4b0f3c11", 0},
	{"", -EINVAL},	   {"a b", -EINVAL},
	{"../x", -EINVAL}, {"a\nb", -EINVAL},
	{"{1}", -EINVAL},
};

START_TEST(strange_ids)
{
	char id[TOKEN_KEY_ID_MAX + 1] = "unchanged";
	struct kmip_reply r = {.reason = 0};
	struct ttlv_writer w;

	ttlv_writer_init(&w, message, sizeof(message));
	ttlv_put_text(&w, 0x420094, id_rows[_i].id);
	ttlv_reader_init(&r.payload, message, w.len);
	ck_assert_int_eq(kmip_read_id(&r, id), id_rows[_i].err);
	ck_assert_str_eq(id, id_rows[_i].err ? "unchanged" : id_rows[_i].id);
	ck_assert_int_eq(kmip_next_id(&r, id), id_rows[_i].err);
	ck_assert_int_eq(kmip_next_id(&r, id), -ENODATA);
}
END_TEST

START_TEST(attributes)
{
	struct kmip_attributes a;
	struct kmip_reply r;

	read_good("attributes-reply", KMIP_GET_ATTRIBUTES, v12, &r);
	ck_assert_int_eq(kmip_read_attributes(&r, v12, "disk-", &a), 0);
	ck_assert_str_eq(a.label, "0001");
	ck_assert_int_eq(a.state, KMIP_ACTIVE);
	ck_assert_int_eq(a.initial_date, 1795372176);
	ck_assert_int_eq(kmip_read_attributes(&r, v12, "", &a), 0);
	ck_assert_str_eq(a.label, "disk-0001");
	ck_assert_int_eq(kmip_read_attributes(&r, v12, "vmcryptfs-", &a), 0);
	ck_assert_str_eq(a.label, "");
}
END_TEST

/* Names of one object, in the form of 2.0, and the label that they give. */
static const struct {
	const char *names[3], *label;
} name_rows[] = {
	{{"p-abc"}, "abc"},
	{{"p-abc#2"}, "abc"},
	{{"p-abc#4"}, "abc"},
	{{"p-abc#5"}, ""},
	{{"p-abc#1"}, ""},
	{{"p-#2"}, ""},
	{{"p-"}, ""},
	{{"p"}, ""},
	{{"q-abc"}, ""},
	{{"p-a b"}, ""},
	{{"p-.a"}, ""},
	{{"somebody's", "p-abc"}, "abc"},
	{{"p-abc", "somebody's"}, "abc"},
	{{"p-abc", "p-def"}, ""},
	{{"p-abc", "p-def", "p-abc"}, ""},
};

START_TEST(names)
{
	struct kmip_reply r = {.reason = 0};
	struct kmip_attributes a;
	struct ttlv_writer w;

	ttlv_writer_init(&w, message, sizeof(message));
	ttlv_begin(&w, 0x420125);
	for (int i = 0; i < 3 && name_rows[_i].names[i]; i++) {
		ttlv_begin(&w, 0x420053);
		ttlv_put_text(&w, 0x420055, name_rows[_i].names[i]);
		ttlv_put_enum(&w, 0x420054, 1);
		ttlv_end(&w);
	}
	ttlv_put_enum(&w, 0x42008d, 5);
	ttlv_end(&w);
	ttlv_reader_init(&r.payload, message, w.len);
	ck_assert_int_eq(kmip_read_attributes(&r, v20, "p-", &a), 0);
	ck_assert_str_eq(a.label, name_rows[_i].label);
	ck_assert_int_eq(a.state, KMIP_DESTROYED);
	ck_assert_int_eq(a.initial_date, -1);
}
END_TEST

START_TEST(made_names)
{
	char name[KMIP_NAME_MAX + 1];

	kmip_name(name, "vmcryptfs-", "abc", 1);
	ck_assert_str_eq(name, "vmcryptfs-abc");
	kmip_name(name, "", "abc", 3);
	ck_assert_str_eq(name, "abc#3");
}
END_TEST

static const struct {
	uint32_t reason;
	enum key_error kind;
} reason_rows[] = {
	{0x01, KEY_NOTFOUND},	 {0x36, KEY_NOTFOUND},	   {0x03, KEY_DENIED},
	{0x0c, KEY_DENIED},	 {0x39, KEY_DENIED},	   {0x3a, KEY_QUOTA},
	{0x2a, KEY_UNAVAILABLE}, {0x100, KEY_UNAVAILABLE}, {0x04, KEY_INVALID},
	{0x7777, KEY_INVALID},
};

START_TEST(reasons)
{
	ck_assert_int_eq(kmip_reason_kind(reason_rows[_i].reason), reason_rows[_i].kind);
	ck_assert_ptr_nonnull(kmip_reason_name(reason_rows[_i].reason));
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("kmip_message");
	TCase *t = tcase_create("kmip_message");

	tcase_add_loop_test(t, requests, 0, ROWS(request_rows));
	tcase_add_test(t, longest_requests);
	tcase_add_loop_test(t, replies, 0, ROWS(reply_rows));
	tcase_add_loop_test(t, spoilt, 0, ROWS(spoilt_rows));
	tcase_add_test(t, two_items);
	tcase_add_loop_test(t, keys, 0, ROWS(key_rows));
	tcase_add_loop_test(t, made_keys, 0, ROWS(made_rows));
	tcase_add_test(t, versions);
	tcase_add_test(t, query);
	tcase_add_test(t, ids);
	tcase_add_loop_test(t, strange_ids, 0, ROWS(id_rows));
	tcase_add_test(t, attributes);
	tcase_add_loop_test(t, names, 0, ROWS(name_rows));
	tcase_add_test(t, made_names);
	tcase_add_loop_test(t, reasons, 0, ROWS(reason_rows));
	suite_add_tcase(s, t);
	return s;
}
