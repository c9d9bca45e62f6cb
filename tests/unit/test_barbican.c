/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the Barbican helper says and understands, and Keystone's part of it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "crypto/keys/barbican_parts.h"
#include "crypto/keys/keystone_parts.h"
#include "tests/unit/unit.h"

#define ID "0123abcd-4567-89ef-0123-456789abcdef"

static const struct {
	const char *id;
	bool good;
} id_rows[] = {
	{ID, true},
	{"00000000-0000-0000-0000-000000000000", true},
	{"", false},
	{"0123abcd", false},
	{"0123ABCD-4567-89ef-0123-456789abcdef", false},
	{"0123abcd-4567-89ef-0123-456789abcde", false},
	{ID "0", false},
	{ID "/payload", false},
	{"0123abcd4567-89ef-0123-456789abcdef00", false},
	{"0123abcd-4567-89ef-0123-456789abcdeg", false},
};

START_TEST(ids)
{
	ck_assert_int_eq(barbican_id_valid(id_rows[_i].id), id_rows[_i].good);
}
END_TEST

static const struct {
	const char *ref;
	int err;
} ref_rows[] = {
	{"http://localhost:9311/v1/secrets/" ID, 0},
	{"https://elsewhere.example/x/y/" ID, 0},
	{"/" ID, 0},
	{NULL, -EBADMSG},
	{"", -EBADMSG},
	{ID, -EBADMSG},
	{"http://h/v1/secrets/" ID "/", -EBADMSG},
	{"http://h/v1/secrets/x", -EBADMSG},
};

START_TEST(refs)
{
	char id[BARBICAN_ID_LEN + 1] = "";

	ck_assert_int_eq(barbican_ref_id(ref_rows[_i].ref, id), ref_rows[_i].err);
	if (!ref_rows[_i].err)
		ck_assert_str_eq(id, ID);
}
END_TEST

START_TEST(bodies)
{
	unsigned char secret[32] = {0};
	struct lockbuf *b = NULL;

	ck_assert_int_eq(lockbuf_new(&b, 4096), 0);
	barbican_create_body(b, "la\"bel", secret, sizeof(secret));
	ck_assert_str_eq(
		b->data,
		"{\"name\":\"la\\\"bel\",\"secret_type\":\"symmetric\",\"algorithm\":\"aes\","
		"\"bit_length\":256,\"payload_content_type\":"
		"\"application/octet-stream\",\"payload_content_encoding\":\"base64\","
		"\"payload\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"}");
	lockbuf_reset(b);
	barbican_consumer_body(b, "x");
	ck_assert_str_eq(b->data,
			 "{\"service\":\"vmcryptfs\",\"resource_type\":\"image\","
			 "\"resource_id\":\"x\"}");
	lockbuf_free(b);
}
END_TEST

static const struct {
	const char *users, *want;
} acl_rows[] = {
	{"", "{\"read\":{\"project-access\":false,\"users\":[]}}"},
	{"a", "{\"read\":{\"project-access\":false,\"users\":[\"a\"]}}"},
	{" a, b,,c ",
	 "{\"read\":{\"project-access\":false,\"users\":[\"a\",\"b\",\"c\"]}}"},
	{"\"]", "{\"read\":{\"project-access\":false,\"users\":[\"\\\"]\"]}}"},
};

START_TEST(acls)
{
	struct lockbuf *b = NULL;

	ck_assert_int_eq(lockbuf_new(&b, 4096), 0);
	barbican_acl_body(b, acl_rows[_i].users);
	ck_assert_str_eq(b->data, acl_rows[_i].want);
	lockbuf_free(b);
}
END_TEST

#define RECORD(name, type, bits, created)                                                \
	"{\"name\":" name ",\"secret_type\":\"" type "\",\"bit_length\":" bits           \
	",\"created\":" created ",\"secret_ref\":\"http://h/v1/secrets/" ID "\"}"
#define WHEN "\"2026-11-22T18:29:26.820436\""

static const struct {
	const char *json;
	int err;
	const char *created;
} record_rows[] = {
	{RECORD("\"l\"", "symmetric", "256", WHEN), 0, "2026-11-22T18:29:26.820436Z"},
	{RECORD("\"l\"", "symmetric", "256", "\"2026-11-22T18:29:26\""), 0,
	 "2026-11-22T18:29:26Z"},
	{RECORD("\"l\"", "symmetric", "256", "null"), 0, "-"},
	{RECORD("\"l\"", "symmetric", "256", "\"yesterday\""), 0, "-"},
	{RECORD("\"l\"", "symmetric", "256", "\"2026-11-22T18:29:26 item x y\""), 0, "-"},
	{RECORD("\"l\"", "passphrase", "256", WHEN), -ENOENT},
	{RECORD("\"l\"", "symmetric", "512", WHEN), -ENOENT},
	{RECORD("\"l\"", "symmetric", "null", WHEN), -ENOENT},
	{RECORD("null", "symmetric", "256", WHEN), -ENOENT},
	{RECORD("\"two words\"", "symmetric", "256", WHEN), -ENOENT},
	{RECORD("\"../x\"", "symmetric", "256", WHEN), -ENOENT},
	{"{\"name\":\"l\"}", -EBADMSG},
	{"{\"name\":\"l\",\"secret_ref\":7}", -EBADMSG},
	{"[]", -EBADMSG},
};

START_TEST(records)
{
	struct json_object *o = json_tokener_parse(record_rows[_i].json);
	struct barbican_record r;

	ck_assert_int_eq(barbican_record_parse(o, &r), record_rows[_i].err);
	if (!record_rows[_i].err) {
		ck_assert_str_eq(r.id, ID);
		ck_assert_str_eq(r.label, "l");
		ck_assert_str_eq(r.created, record_rows[_i].created);
	}
	json_object_put(o);
}
END_TEST

static const struct {
	const char *json;
	int cnt; /* -1: refused */
	int64_t total;
} page_rows[] = {
	{"{\"secrets\":[],\"total\":0}", 0, 0},
	{"{\"secrets\":[{},{}],\"next\":\"http://evil/\",\"total\":300}", 2, 300},
	{"{\"secrets\":[]}", -1},
	{"{\"total\":1}", -1},
	{"{\"secrets\":{},\"total\":1}", -1},
	{"{\"secrets\":[],\"total\":-1}", -1},
	{"{\"secrets\":[],\"total\":\"1\"}", -1},
	{"[]", -1},
};

START_TEST(pages)
{
	struct json_object *o = json_tokener_parse(page_rows[_i].json);
	struct barbican_page page;

	if (page_rows[_i].cnt < 0) {
		ck_assert_int_eq(barbican_page_parse(o, &page), -EBADMSG);
	} else {
		ck_assert_int_eq(barbican_page_parse(o, &page), 0);
		ck_assert_uint_eq(page.cnt, (size_t)page_rows[_i].cnt);
		ck_assert_int_eq(page.total, page_rows[_i].total);
	}
	json_object_put(o);
}
END_TEST

static const struct {
	const char *offered;
	unsigned int want;
} minor_rows[] = {
	{"key-manager 1.0", 0},
	{"key-manager 1.1", 1},
	{"key-manager 1.2", 2},
	{"key-manager 1.3", 2},
	{"key-manager 1.17", 2},
	{"key-manager 2.1", 0},
	{"", 0},
	{"compute 1.1", 0},
	{"key-manager 1.", 0},
	{"key-manager 1.x", 0},
	{"key-manager latest", 0},
	{"key-manager 1.1 ", 0},
};

START_TEST(minors)
{
	ck_assert_uint_eq(barbican_minor(minor_rows[_i].offered), minor_rows[_i].want);
}
END_TEST

/* --- Keystone --- */

static const struct {
	const char *text;
	int64_t want; /* -1: refused */
} time_rows[] = {
	{"1970-01-01T00:00:00Z", 0},
	{"2026-11-22T19:08:58.000000Z", 1795374538},
	{"2024-02-29T00:00:00.5Z", 1709164800},
	{"2026-11-22T19:08:58", -1},
	{"2026-11-22T19:08:58+01:00", -1},
	{"2026-11-22T19:08:58.Z", -1},
	{"2026-11-22T19:08:58Zx", -1},
	{"", -1},
};

START_TEST(times)
{
	int64_t t = 0;
	vcf_err_t err = keystone_time(time_rows[_i].text, &t);

	ck_assert_int_eq(err != 0, time_rows[_i].want < 0);
	if (!err)
		ck_assert_int_eq(t, time_rows[_i].want);
}
END_TEST

static const struct {
	const char *json;
	int64_t want;
} life_rows[] = {
	{"{\"token\":{\"issued_at\":\"2026-11-22T18:00:00.0Z\",\"expires_at\":"
	 "\"2026-11-22T19:00:00.0Z\"}}",
	 3600},
	{"{\"token\":{\"issued_at\":\"2026-11-22T18:00:00.0Z\",\"expires_at\":"
	 "\"2026-11-22T18:00:00.0Z\"}}",
	 -EBADMSG},
	{"{\"token\":{\"expires_at\":\"2026-11-22T18:00:00.0Z\"}}", -EBADMSG},
	{"{\"token\":{\"issued_at\":1,\"expires_at\":2}}", -EBADMSG},
	{"{}", -EBADMSG},
	{"[]", -EBADMSG},
};

START_TEST(lives)
{
	struct json_object *o = json_tokener_parse(life_rows[_i].json);

	ck_assert_int_eq(keystone_lifetime(o), life_rows[_i].want);
	json_object_put(o);
}
END_TEST

#define CATALOG                                                                                     \
	"{\"token\":{\"catalog\":[{\"type\":\"identity\",\"endpoints\":[{\"interface\":\"public\"," \
	"\"region_id\":\"R1\",\"url\":\"https://ks\"}]},{\"type\":\"key-manager\",\"endpoints\":["  \
	"{\"interface\":\"public\",\"region_id\":\"R1\",\"region\":\"R1\",\"url\":\"https://p1\"}," \
	"{\"interface\":\"internal\",\"region_id\":\"R1\",\"url\":\"https://i1\"},"                 \
	"{\"interface\":\"public\",\"region\":\"R2\",\"url\":\"https://p2\"},"                      \
	"{\"interface\":\"admin\",\"region\":\"R2\",\"url\":7}]}]}}"

static const struct {
	const char *json, *interface, *region, *want; /* want NULL: not found */
} catalog_rows[] = {
	{CATALOG, "public", "", "https://p1"},
	{CATALOG, "public", "R1", "https://p1"},
	{CATALOG, "public", "R2", "https://p2"},
	{CATALOG, "internal", "", "https://i1"},
	{CATALOG, "internal", "R2", NULL},
	{CATALOG, "admin", "", NULL},
	{"{\"token\":{\"catalog\":[]}}", "public", "", NULL},
	{"{\"token\":{\"catalog\":{}}}", "public", "", NULL},
	{"{\"token\":{\"catalog\":[7,{\"type\":\"key-manager\"}]}}", "public", "", NULL},
	{"{}", "public", "", NULL},
};

START_TEST(catalogs)
{
	struct json_object *o = json_tokener_parse(catalog_rows[_i].json);
	char url[HTTP_URL_MAX] = "";
	const char *fault = keystone_catalog(o, "key-manager", catalog_rows[_i].interface,
					     catalog_rows[_i].region, url);

	ck_assert_int_eq(fault == NULL, catalog_rows[_i].want != NULL);
	if (!fault)
		ck_assert_str_eq(url, catalog_rows[_i].want);
	json_object_put(o);
}
END_TEST

static const struct {
	const char *urls, *component;
	bool with;
	const char *want;
} suffix_rows[] = {
	{"https://k", "/v3", true, "https://k/v3"},
	{"https://k/", "/v3", true, "https://k/v3"},
	{"https://k/v3", "/v3", true, "https://k/v3"},
	{"https://k/identity/v3//", "/v3", true, "https://k/identity/v3"},
	{"https://a, https://b/v3/", "/v3", true, "https://a/v3, https://b/v3"},
	{"https://b/v1/", "/v1", false, "https://b"},
	{"https://b/v1,https://c", "/v1", false, "https://b,https://c"},
	{"https://a,", "/v3", true, "https://a/v3,/v3"},
	{"https://0123456789012345678901234567890123456789012345678901234567", "/v3",
	 true, NULL},
};

START_TEST(suffixes)
{
	char dst[64];
	vcf_err_t err = keystone_urls(dst, sizeof(dst), suffix_rows[_i].urls,
				      suffix_rows[_i].component, suffix_rows[_i].with);

	ck_assert_int_eq(err, suffix_rows[_i].want ? 0 : -ENOSPC);
	if (!err)
		ck_assert_str_eq(dst, suffix_rows[_i].want);
}
END_TEST

#define APP_ID                                                                           \
	"{\"auth\":{\"identity\":{\"methods\":[\"application_credential\"],"             \
	"\"application_credential\":{"
#define PASSWORD                                                                         \
	"{\"auth\":{\"identity\":{\"methods\":[\"password\"],\"password\":{\"user\":{"
#define DEFAULT ",\"domain\":{\"name\":\"Default\"}}"

static const struct {
	struct keystone_options o;
	const char *want, *fault;
} login_rows[] = {
	{{.auth_url = "u", .app_id = "i", .app_secret_file = "f"},
	 APP_ID "\"id\":\"i\",\"secret\":\"s\\\"\"}}}}"},
	{{.auth_url = "u", .app_name = "n", .user_id = "x", .app_secret_file = "f"},
	 APP_ID "\"name\":\"n\",\"user\":{\"id\":\"x\"},\"secret\":\"s\\\"\"}}}}"},
	{{.auth_url = "u", .app_name = "n", .username = "x", .app_secret_file = "f"},
	 APP_ID "\"name\":\"n\",\"user\":{\"name\":\"x\"" DEFAULT
		",\"secret\":\"s\\\"\"}}}}"},
	{{.auth_url = "u", .username = "n", .password_file = "f", .project_name = "p"},
	 PASSWORD
	 "\"name\":\"n\",\"domain\":{\"name\":\"Default\"},\"password\":\"s\\\"\"}}},\"scope\":{\"project\":{"
	 "\"name\":\"p\"" DEFAULT "}}}"},
	{{.auth_url = "u",
	  .user_id = "i",
	  .password_file = "f",
	  .project_name = "p",
	  .project_domain_id = "d"},
	 PASSWORD
	 "\"id\":\"i\",\"password\":\"s\\\"\"}}},\"scope\":{\"project\":{\"name\":\"p\","
	 "\"domain\":{\"id\":\"d\"}}}}}"},
	{{.auth_url = "u", .user_id = "i", .password_file = "f", .project_id = "p"},
	 PASSWORD
	 "\"id\":\"i\",\"password\":\"s\\\"\"}}},\"scope\":{\"project\":{\"id\":\"p\"}}}}"},
	{{.app_id = "i", .app_secret_file = "f"}, NULL, "auth-url"},
	{{.auth_url = "u"}, NULL, "application-credential-id"},
	{{.auth_url = "u", .app_id = "i"}, NULL, "application-credential-secret-file"},
	{{.auth_url = "u", .app_name = "i", .app_secret_file = "f"}, NULL, "user-id"},
	{{.auth_url = "u", .app_name = "i", .app_id = "i", .app_secret_file = "f"},
	 NULL,
	 "one"},
	{{.auth_url = "u", .app_id = "i", .app_secret_file = "f", .project_name = "p"},
	 NULL,
	 "its own project"},
	{{.auth_url = "u", .username = "n", .project_id = "p"}, NULL, "password-file"},
	{{.auth_url = "u", .username = "n", .password_file = "f"}, NULL, "project-name"},
	{{.auth_url = "u", .app_id = "i", .app_secret_file = "f", .interface = "x"},
	 NULL,
	 "interface"},
};

START_TEST(logins)
{
	const struct keystone_options *o = &login_rows[_i].o;
	const char *fault = keystone_options_fault(o);
	struct lockbuf *secret = NULL, *body = NULL;

	if (!login_rows[_i].want) {
		ck_assert_msg(fault && strstr(fault, login_rows[_i].fault), "%s",
			      fault ? fault : "accepted");
		return;
	}
	ck_assert_ptr_null(fault);
	ck_assert_int_eq(lockbuf_new(&secret, 8), 0);
	ck_assert_int_eq(lockbuf_new(&body, 1024), 0);
	lockbuf_add_text(secret, "s\"");
	keystone_request(body, o, secret);
	ck_assert_str_eq(body->data, login_rows[_i].want);
	lockbuf_free(secret);
	lockbuf_free(body);
}
END_TEST

static const struct {
	const char *name, *value;
	int err;
} option_rows[] = {
	{"auth-url", "https://k", 0},
	{"username", "x", 0},
	{"username", "", -EINVAL},
	{"password", "x", -EINVAL},
	{"application-credential-secret", "x", -EINVAL},
	{"token", "x", -EINVAL},
	{"colour", "x", -ENOENT},
};

START_TEST(options)
{
	struct keystone_options o = {0};

	ck_assert_int_eq(keystone_option(&o, option_rows[_i].name, option_rows[_i].value),
			 option_rows[_i].err);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("barbican");
	TCase *t = tcase_create("all");

	tcase_add_loop_test(t, ids, 0, ROWS(id_rows));
	tcase_add_loop_test(t, refs, 0, ROWS(ref_rows));
	tcase_add_test(t, bodies);
	tcase_add_loop_test(t, acls, 0, ROWS(acl_rows));
	tcase_add_loop_test(t, records, 0, ROWS(record_rows));
	tcase_add_loop_test(t, pages, 0, ROWS(page_rows));
	tcase_add_loop_test(t, minors, 0, ROWS(minor_rows));
	tcase_add_loop_test(t, times, 0, ROWS(time_rows));
	tcase_add_loop_test(t, lives, 0, ROWS(life_rows));
	tcase_add_loop_test(t, catalogs, 0, ROWS(catalog_rows));
	tcase_add_loop_test(t, suffixes, 0, ROWS(suffix_rows));
	tcase_add_loop_test(t, logins, 0, ROWS(login_rows));
	tcase_add_loop_test(t, options, 0, ROWS(option_rows));
	suite_add_tcase(s, t);
	return s;
}
