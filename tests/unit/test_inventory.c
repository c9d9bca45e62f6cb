/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files of JSON lines, and what inventories must say before anything is made of them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <uuid/uuid.h>

#include "fs/inventory.h"
#include "fs/jsonlines.h"
#include "tests/unit/unit.h"
#include "util/log.h"
#include "util/parse.h"

#define TYPE "vmcryptfs-inventory"
#define UUID_A "11111111-1111-8111-8111-111111111111"
#define UUID_B "22222222-2222-8222-8222-222222222222"
#define UUID_C "33333333-3333-8333-8333-333333333333"

enum { NOW = 1800000000 };

static const char *path_of(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", unit_tmpdir(), name);
	return path;
}

struct made {
	const char *host, *site, *service, *folder, *folders;
	int age_s;
	bool incomplete;
	int wrong_count;
	const char *id;
};

static const struct made good = {"one", "s", "default", "f", "f", 60, false, 0};

static void put_line(struct jsonlines_writer *w, const char *text)
{
	struct json_object *o = json_tokener_parse(text);

	ck_assert_ptr_nonnull(o);
	jsonlines_put(w, o);
}

static void put_texts(struct json_object *o, const char *key, const char *texts)
{
	struct json_object *list = json_object_new_array();

	for (const char *p = texts; *p; p += strspn(p, ",")) {
		size_t n = strcspn(p, ",");

		json_object_array_add(list, json_object_new_string_len(p, (int)n));
		p += n;
	}
	json_object_object_add(o, key, list);
}

/* lines: NULL-terminated. */
static const char *make(const char *name, const struct made *m, const char *const *lines)
{
	FILE *f = fopen(path_of(name), "w");
	struct json_object *o = jsonlines_head(TYPE);
	struct jsonlines_writer *w;
	uint64_t cnt = 0;

	ck_assert_ptr_nonnull(f);
	while (lines[cnt])
		cnt++;
	ck_assert_int_eq(jsonlines_new(&w, f), 0);
	json_put_text(o, "host", m->host);
	json_put_text(o, "host_id", m->id ? m->id : "");
	json_put_text(o, "site", m->site);
	put_texts(o, "services", m->service);
	json_put_text(o, "folder", m->folder);
	put_texts(o, "folders", m->folders);
	json_put_time(o, "time", NOW - m->age_s);
	json_put_flag(o, "complete", !m->incomplete);
	json_put_number(o, "count", cnt + (uint64_t)m->wrong_count);
	jsonlines_put(w, o);
	for (uint64_t i = 0; i < cnt; i++)
		put_line(w, lines[i]);
	ck_assert_int_eq(jsonlines_end(w), 0);
	fclose(f);
	return path_of(name);
}

static const char *const some[] = {
	"{\"type\":\"container\",\"path\":\"a\",\"uuid\":\"" UUID_A
	"\",\"service\":\"default\",\"key_id\":\"k1\"}",
	"{\"type\":\"journal\",\"state\":\"destroying\",\"path\":\"b\",\"uuid\":\"" UUID_B
	"\",\"service\":\"default\",\"key_id\":\"k2\",\"due\":\"2026-01-01T00:00:00Z\"}",
	"{\"type\":\"journal\",\"state\":\"creating\",\"path\":\"\",\"uuid\":\"" UUID_C
	"\",\"service\":\"default\",\"key_id\":\"\"}",
	NULL,
};

static const struct inventory_demand demand = {
	.site = "s", .service = "default", .hosts = "one", .max_age_s = 3600, .now = NOW};

/* --- the whole truth --- */

static const struct {
	const char *what;
	struct made made;
	const char *hosts;
	vcf_err_t read, check;
} truths[] = {
	{"good", {"one", "s", "default", "f", "f", 60, false, 0}, "one", 0, 0},
	{"two services", {"one", "s", "x,default", "f", "f", 60, false, 0}, "one", 0, 0},
	{"commas", {"one", "s", "default", "f", "f", 60, false, 0}, ",one,,", 0, 0},
	{"just fresh", {"one", "s", "default", "f", "f", 3600, false, 0}, "one", 0, 0},
	{"too old", {"one", "s", "default", "f", "f", 3601, false, 0}, "one", 0, -EPERM},
	{"clocks", {"one", "s", "default", "f", "f", -300, false, 0}, "one", 0, 0},
	{"future", {"one", "s", "default", "f", "f", -301, false, 0}, "one", 0, -EPERM},
	{"site", {"one", "t", "default", "f", "f", 60, false, 0}, "one", 0, -EPERM},
	{"service", {"one", "s", "other", "f", "f", 60, false, 0}, "one", 0, -EPERM},
	{"folders", {"one", "s", "default", "f", "f,g", 60, false, 0}, "one", 0, -EPERM},
	{"missing host",
	 {"one", "s", "default", "f", "f", 60, false, 0},
	 "one,on",
	 0,
	 -EPERM},
	{"other host",
	 {"one", "s", "default", "f", "f", 60, false, 0},
	 "onetwo",
	 0,
	 -EPERM},
	{"incomplete",
	 {"one", "s", "default", "f", "f", 60, true, 0},
	 "one",
	 -EBADMSG,
	 0},
	{"count", {"one", "s", "default", "f", "f", 60, false, 1}, "one", -EBADMSG, 0},
	{"no host", {"", "s", "default", "f", "f", 60, false, 0}, "one", -EBADMSG, 0},
	{"no folder", {"one", "s", "default", "", "f", 60, false, 0}, "one", -EBADMSG, 0},
};

START_TEST(whole_truth)
{
	auto_inventory struct inventory *inv = NULL;
	struct inventory_demand d = demand;

	d.hosts = truths[_i].hosts;
	ck_assert_int_eq(inventory_new(&inv), 0);
	ck_assert_msg(inventory_read(inv, make("t", &truths[_i].made, some)) ==
			      truths[_i].read,
		      "%s", truths[_i].what);
	if (!truths[_i].read)
		ck_assert_msg(inventory_check(inv, &d) == truths[_i].check, "%s",
			      truths[_i].what);
}
END_TEST

START_TEST(several)
{
	auto_inventory struct inventory *inv = NULL;
	struct inventory_demand d = demand;
	struct made two = good, other = good;

	d.hosts = "one,two";
	two.host = "two";
	two.age_s = 100;
	other.folder = "g";
	other.folders = "f,g";
	ck_assert_int_eq(inventory_new(&inv), 0);
	ck_assert_int_eq(inventory_read(inv, make("a", &good, some)), 0);
	ck_assert_int_eq(inventory_check(inv, &d), -EPERM);
	ck_assert_int_eq(inventory_read(inv, make("b", &two, some)), 0);
	ck_assert_int_eq(inventory_read(inv, make("c", &other, some)), 0);
	ck_assert_int_eq(inventory_check(inv, &d), 0);
	ck_assert_int_eq(inventory_oldest(inv), NOW - 100);
	ck_assert_int_eq(inventory_read(inv, make("again", &two, some)), 0);
	ck_assert_int_eq(inventory_check(inv, &d), -EPERM);
}
END_TEST

START_TEST(two_machines)
{
	auto_inventory struct inventory *inv = NULL;
	struct made other = good;

	other.folder = "g";
	other.folders = "f,g";
	ck_assert_int_eq(inventory_new(&inv), 0);
	ck_assert_int_eq(inventory_read(inv, make("a", &good, some)), 0);
	ck_assert_int_eq(inventory_read(inv, make("c", &other, some)), 0);
	ck_assert_int_eq(inventory_check(inv, &demand), 0);
	other.folder = "h";
	other.id = "another machine";
	ck_assert_int_eq(inventory_read(inv, make("d", &other, some)), 0);
	ck_assert_int_eq(inventory_check(inv, &demand), -EPERM);
}
END_TEST

START_TEST(unreadable)
{
	static const char *const lines[] = {"{\"type\":\"unreadable\",\"path\":\"a\"}",
					    NULL};
	auto_inventory struct inventory *inv = NULL;
	struct inventory_demand d = demand;

	ck_assert_int_eq(inventory_new(&inv), 0);
	ck_assert_int_eq(inventory_read(inv, make("u", &good, lines)), 0);
	ck_assert_int_eq(inventory_check(inv, &d), 0);
	d.all_known = true;
	ck_assert_int_eq(inventory_check(inv, &d), -EPERM);
}
END_TEST

/* --- questions --- */

static const struct {
	const char *key, *uuid;
	bool names_key, names_uuid, uses;
} questions[] = {
	{"k1", UUID_A, true, true, true},
	{"k1", UUID_B, true, true, true},
	{"k2", UUID_B, true, true, false}, /* waits for its destroy: no use */
	{"k2", UUID_A, true, true, true},
	{"k3", UUID_C, false, true, true}, /* being made: its id is not known */
	{"k3", UUID_B, false, true, false},
	{"", UUID_C, false, true, true},
	{"k", "44444444-4444-8444-8444-444444444444", false, false, false},
};

START_TEST(answers)
{
	auto_inventory struct inventory *inv = NULL;
	unsigned char uuid[UUID_LEN];

	ck_assert_int_eq(uuid_parse(questions[_i].uuid, uuid), 0);
	ck_assert_int_eq(inventory_new(&inv), 0);
	ck_assert_int_eq(inventory_read(inv, make("q", &good, some)), 0);
	ck_assert_int_eq(inventory_check(inv, &demand), 0);
	ck_assert(inventory_names_key(inv, questions[_i].key) == questions[_i].names_key);
	ck_assert(inventory_names_uuid(inv, uuid) == questions[_i].names_uuid);
	ck_assert(inventory_uses(inv, questions[_i].key, uuid) == questions[_i].uses);
	ck_assert(inventory_lacks_key(inv, uuid) ==
		  (strcmp(questions[_i].uuid, UUID_C) == 0));
}
END_TEST

static const char *const bad_lines[] = {
	"{\"type\":\"container\",\"uuid\":\"x\",\"key_id\":\"k\"}",
	"{\"type\":\"container\",\"uuid\":\"" UUID_A "\",\"key_id\":\"../k\"}",
	"{\"type\":\"unknown\",\"uuid\":\"" UUID_A "\",\"key_id\":\"k\"}",
	"{\"uuid\":\"" UUID_A "\"}",
	"{\"type\":\"container\"}",
};

START_TEST(bad_line)
{
	auto_inventory struct inventory *inv = NULL;
	const char *const lines[] = {bad_lines[_i], NULL};

	ck_assert_int_eq(inventory_new(&inv), 0);
	ck_assert_int_eq(inventory_read(inv, make("l", &good, lines)), -EBADMSG);
}
END_TEST

/* --- saved headers --- */

#define HEADER(runs)                                                                     \
	"{\"type\":\"journal\",\"state\":\"destroying\",\"uuid\":\"" UUID_A              \
	"\",\"key_id\":\"k\"" runs "}"

static const struct {
	const char *line;
	vcf_err_t err;
} headers[] = {
	{HEADER(""), -ENODATA},
	{HEADER(",\"header\":[]"), 0},
	{HEADER(",\"header\":[[512,\"AQID\"]]"), 0},
	{HEADER(",\"header\":[[512,\"AQI=\"],[32256,\"AQ==\"]]"), 0},
	{HEADER(",\"header\":[[511,\"AQID\"]]"), -EBADMSG},
	{HEADER(",\"header\":[[32768,\"AQID\"]]"), -EBADMSG},
	{HEADER(",\"header\":[[512,\"AQI\"]]"), -EBADMSG},
	{HEADER(",\"header\":[[512,\"\"]]"), -EBADMSG},
	{HEADER(",\"header\":[[512,\"====\"]]"), -EBADMSG},
	{HEADER(",\"header\":[[512]]"), -EBADMSG},
	{HEADER(",\"header\":[512]"), -EBADMSG},
	{HEADER(",\"header\":\"x\""), -EBADMSG},
	{HEADER(",\"bad_header\":true"), -EBADMSG},
};

static int get_header(void *arg, const struct inventory_use *use)
{
	static unsigned char hdr[CONTAINER_PEEK_LEN];

	ck_assert_int_eq(use->kind, INVENTORY_DUE);
	*(vcf_err_t *)arg = inventory_header(use, hdr);
	return 0;
}

START_TEST(header)
{
	auto_inventory struct inventory *inv = NULL;
	const char *const lines[] = {headers[_i].line, NULL};
	vcf_err_t err = 1;

	ck_assert_int_eq(inventory_new(&inv), 0);
	ck_assert_int_eq(inventory_read(inv, make("h", &good, lines)), 0);
	ck_assert_int_eq(inventory_each(inv, get_header, &err), 0);
	ck_assert_int_eq(err, headers[_i].err);
}
END_TEST

/* --- files --- */

/* Each byte of a file counts: no change of one goes unseen. */
START_TEST(every_byte_counts)
{
	char bytes[4096];
	const char *path = make("e", &good, some);
	FILE *f = fopen(path, "r");
	size_t len = fread(bytes, 1, sizeof(bytes), f);

	fclose(f);
	for (size_t i = 0; i + 1 < len; i += 7) {
		auto_inventory struct inventory *inv = NULL;

		bytes[i] ^= 1;
		f = fopen(path_of("e"), "w");
		fwrite(bytes, 1, len, f);
		fclose(f);
		bytes[i] ^= 1;
		ck_assert_int_eq(inventory_new(&inv), 0);
		ck_assert_msg(inventory_read(inv, path_of("e")) == -EBADMSG, "byte %zu",
			      i);
	}
}
END_TEST

static const struct {
	const char *text;
	long long want;
} times[] = {
	{"1970-01-01T00:00:00Z", 0},
	{"2027-01-15T08:00:00Z", NOW},
	{"2027-01-15T08:00:00.123Z", NOW},
	{"2027-01-15T08:00:00", -1},
	{"2027-01-15 08:00:00Z", -1},
	{"2027-01-15T08:00:00Z ", -1},
	{"-", -1},
	{"", -1},
};

START_TEST(utc)
{
	char text[32];

	ck_assert_int_eq((long long)utc_parse(times[_i].text), times[_i].want);
	utc_format(text, NOW);
	ck_assert_str_eq(text, "2027-01-15T08:00:00Z");
}
END_TEST

static void quiet(void)
{
	ck_assert_int_eq(log_set_file(path_of("log")), 0);
}

Suite *unit_suite(void)
{
	Suite *s = suite_create("inventory");
	TCase *tc = tcase_create("inventory");

	tcase_add_checked_fixture(tc, quiet, NULL);
	tcase_add_loop_test(tc, whole_truth, 0, ROWS(truths));
	tcase_add_test(tc, several);
	tcase_add_test(tc, two_machines);
	tcase_add_test(tc, unreadable);
	tcase_add_loop_test(tc, answers, 0, ROWS(questions));
	tcase_add_loop_test(tc, bad_line, 0, ROWS(bad_lines));
	tcase_add_loop_test(tc, header, 0, ROWS(headers));
	tcase_add_test(tc, every_byte_counts);
	tcase_add_loop_test(tc, utc, 0, ROWS(times));
	suite_add_tcase(s, tc);
	return s;
}
