/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/config_compare.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/unit.h"

static struct config *base(void)
{
	static const char *const settings[] = {
		"mount.backing=/b",	      "mount.mountpoint=/m",  "mount.log-file=/l",
		"rules.passthrough=locks/**", "rules.derived=*.part", "rules.bind=^(a)/",
		"key-service.helper=file",    "file.directory=/k",    "file.other=1",
	};
	struct config *c = NULL;

	ck_assert_int_eq(config_new(&c), 0);
	for (int i = 0; i < ROWS(settings); i++)
		ck_assert_int_eq(config_set(c, settings[i]), 0);
	return c;
}

static const struct {
	const char *setting; /* on top of the base */
	const char *fixed;   /* the option that refuses it, NULL: none */
	bool rules;	     /* they differ */
	const char *list;
} rows[] = {
	{"mount.log-level=info", NULL, false, ""}, /* the default */
	{"mount.log-level=dbg", NULL, false, "log-level"},
	{"mount.log-file=/other", NULL, false, "log-file"},
	{"mount.log-file=", "log-file", false, "log-file"},
	{"mount.backing=/c", "backing", false, "backing"},
	{"mount.mountpoint=/c", "mountpoint", false, "mountpoint"},
	{"mount.overmount=yes", "overmount", false, "overmount"},
	{"mount.guard=no", "guard", false, "guard"},
	{"mount.shared=yes", "shared", false, "shared"},
	{"mount.writeback=yes", "writeback", false, "writeback"},
	{"mount.xattr=no", "xattr", false, "xattr"},
	{"mount.allow-other=no", "allow-other", false, "allow-other"},
	{"mount.default-permissions=no", "default-permissions", false,
	 "default-permissions"},
	{"mount.nosuid=no", "nosuid", false, "nosuid"},
	{"mount.nodev=no", "nodev", false, "nodev"},
	{"mount.state-directory=/c", "state-directory", false, "state-directory"},
	{"mount.runtime-directory=/c", "runtime-directory", false, "runtime-directory"},
	{"mount.threads=3", "threads", false, "threads"},
	{"mount.near-caller=no", "near-caller", false, "near-caller"},
	{"mount.asynchronous=no", "asynchronous", false, "asynchronous"},
	{"mount.heartbeat=5", "heartbeat", false, "heartbeat"},
	{"mount.site=s", "site", false, "site"},
	{"mount.seccomp=log", "seccomp", false, "seccomp"},
	{"rules.passthrough=x", NULL, true, "[rules]"},
	{"rules.encrypt=**", NULL, true, "[rules]"},
	{"rules.bind=^(b)/", NULL, true, "[rules]"},
	{"rules.bind=", NULL, true, "[rules]"},
	{"rules.service=gold x/**", NULL, true, "[rules]"},
	{"rules.promote=no", NULL, false, "promote"},
	{"format.type=luks1", NULL, false, "type"},
	{"format.sector-size=512", NULL, false, "sector-size"},
	{"key-service.helper=vault", NULL, false, "helper"},
	{"key-service.children=5", NULL, false, "children"},
	{"key-service.timeout=5", NULL, false, "timeout"},
	{"key-service.user=nobody", NULL, false, "user"},
	{"key-service.linger=5", NULL, false, "linger"},
	{"key-service.user=nobody", NULL, false, "user"},
	{"key-service.reserve=5", NULL, false, "reserve"},
	{"key-service.on-delete=keep", NULL, false, "on-delete"},
	{"key-service.destroy-delay=5", NULL, false, "destroy-delay"},
	{"audit.file=/a", NULL, false, "file"},
	{"audit.syslog=yes", NULL, false, "syslog"},
	{"audit.used=yes", NULL, false, "used"},
	{"key-service.destroy-rate=5", NULL, false, "destroy-rate"},
	{"key-service.destroyer=controller", NULL, false, "destroyer"},
	{"metrics.listen=127.0.0.1:1", NULL, false, "listen"},
	{"metrics.file=/m.prom", NULL, false, "file"},
	{"metrics.interval=5", NULL, false, "interval"},
	{"metrics.per-image=yes", NULL, false, "per-image"},
	{"metrics.image-limit=5", NULL, false, "image-limit"},
	{"escrow.public-key=/k.pub", NULL, false, "public-key"},
	{"file.directory=/k2", NULL, false, "[file]"},
	{"file.directory=/k", NULL, false, ""},
	{"file.third=1", NULL, false, "[file]"},
	{"vault.address=x", NULL, false, "[vault]"},
	{"service gold.helper=file", NULL, false, "[service gold]"},
	{"service gold.directory=/g", NULL, false, "[service gold]"},
	{"device a.path=/dev/x", NULL, false, "[device a]"},
	{"device a.owner=0:0", NULL, false, "[device a]"},
	{"device a.mode=0660", NULL, false, "[device a]"},
	{"device a.discard=yes", NULL, false, "[device a]"},
};

START_TEST(differences)
{
	auto_config struct config *a = base();
	auto_config struct config *b = base();
	const struct config_option *o;
	char list[128];
	size_t cnt;

	ck_assert_uint_eq(config_digest(a), config_digest(b));
	ck_assert_int_eq(config_set(b, rows[_i].setting), 0);
	o = config_fixed_difference(a, b);
	if (rows[_i].fixed)
		ck_assert_str_eq(o ? o->name : "none", rows[_i].fixed);
	else
		ck_assert_msg(!o, "%s", rows[_i].setting);
	ck_assert_int_eq(config_same_rules(a, b), !rows[_i].rules);
	cnt = config_list_differences(a, b, list, sizeof(list));
	ck_assert_str_eq(list, rows[_i].list);
	ck_assert_uint_eq(cnt, *rows[_i].list ? 1 : 0);
	ck_assert_int_eq(config_digest(a) == config_digest(b), !*rows[_i].list);
}
END_TEST

/* Nothing but what may change without a mount; a new option has to be decided on here. */
START_TEST(whole_table)
{
	for (size_t i = 0; i < config_option_cnt; i++) {
		const struct config_option *o = &config_options[i];
		char want[64];
		bool found = o->type == CONFIG_RULE;

		snprintf(want, sizeof(want), "%s%s.%s=", o->section,
			 strcmp(o->section, "device") == 0 ? " a" : "", o->name);
		for (int r = 0; r < ROWS(rows); r++)
			found |= strncmp(rows[r].setting, want, strlen(want)) == 0;
		ck_assert_msg(found, "no row for %s", want);
	}
}
END_TEST

START_TEST(taken_away)
{
	auto_config struct config *a = base();
	auto_config struct config *b = base();
	char list[128], small[12];

	ck_assert_int_eq(config_set(a, "vault.address=x"), 0);
	ck_assert_uint_eq(config_list_differences(a, b, list, sizeof(list)), 1);
	ck_assert_str_eq(list, "[vault]");
	ck_assert_int_eq(config_set(b, "key-service.linger=5"), 0);
	ck_assert_int_eq(config_set(b, "rules.bind=^(b)/"), 0);
	ck_assert_uint_eq(config_list_differences(a, b, list, sizeof(list)), 3);
	ck_assert_str_eq(list, "[rules], linger, [vault]");
	ck_assert_uint_eq(config_list_differences(a, b, small, sizeof(small)), 3);
	ck_assert_str_eq(small, "[rules], li");
	ck_assert_int_eq(config_set(a, "service gold.reserve=5"), 0);
	ck_assert_uint_eq(config_list_differences(a, b, list, sizeof(list)), 4);
	ck_assert_str_eq(list, "[rules], linger, [service gold], [vault]");
	ck_assert_int_eq(config_set(b, "service gold.reserve=4"), 0);
	ck_assert_uint_eq(config_list_differences(a, b, list, sizeof(list)), 4);
}
END_TEST

/* The first log file is one that the mount did not have. */
START_TEST(first_log_file)
{
	auto_config struct config *a = base();
	auto_config struct config *b = base();

	ck_assert_int_eq(config_set(a, "mount.log-file="), 0);
	ck_assert_ptr_null(config_fixed_difference(a, b));
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("config_compare");
	TCase *tc = tcase_create("config_compare");

	tcase_add_loop_test(tc, differences, 0, ROWS(rows));
	tcase_add_test(tc, whole_table);
	tcase_add_test(tc, taken_away);
	tcase_add_test(tc, first_log_file);
	suite_add_tcase(s, tc);
	return s;
}
