/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A configuration read again, from another working directory, and what the keeper makes of it. */
#include "fs/config_source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/config_compare.h"
#include "tests/unit/unit.h"
#include "util/log.h"

static char dir[200];

static const char *in_dir(const char *name)
{
	static char path[4][256];
	static int turn;

	turn = (turn + 1) % 4;
	snprintf(path[turn], sizeof(path[0]), "%s/%s", dir, name);
	return path[turn];
}

static void setup(void)
{
	snprintf(dir, sizeof(dir), "%s", unit_tmpdir());
	ck_assert_int_eq(log_set_file(in_dir("log")), 0);
	mkdir(in_dir("back"), 0755);
	mkdir(in_dir("mnt"), 0755);
	ck_assert_int_eq(chdir(dir), 0);
}

static void teardown(void)
{
	log_set_level(LOG_LEVEL_INFO);
	ck_assert_int_eq(chdir("/"), 0);
}

static void write_conf(const char *rest)
{
	FILE *f = fopen(in_dir("conf"), "w");

	ck_assert_ptr_nonnull(f);
	fprintf(f,
		"[mount]\nbacking = %s/back\nmountpoint = %s/mnt\n"
		"state-directory = %s/state\nruntime-directory = %s/run\n%s",
		dir, dir, dir, dir, rest);
	fclose(f);
	ck_assert_int_eq(chmod(in_dir("conf"), 0600), 0);
}

#define HELPER "[key-service]\nhelper = static\nlinger = 7\n"

START_TEST(file_and_settings)
{
	struct config_source src = {0};
	auto_config struct config *cfg = NULL;
	auto_config struct config *again = NULL;

	write_conf(HELPER);
	ck_assert_int_eq(config_source_file(&src, "conf"), 0);
	ck_assert_int_eq(config_source_setting(&src, "key-service.children=9"), 0);
	ck_assert_int_eq(config_source_setting(&src, "key-service.children=3"), 0);
	ck_assert_int_eq(config_load(&cfg, &src), 0);
	ck_assert_uint_eq(cfg->children, 3); /* the last one counts */
	ck_assert_uint_eq(cfg->linger_s, 7);
	ck_assert_int_eq(chdir("/"), 0);
	write_conf("[key-service]\nhelper = static\nlinger = 8\nchildren = 2\n");
	ck_assert_int_eq(config_load_again(&again, &src), 0);
	ck_assert_uint_eq(again->children, 3); /* -o is stronger */
	ck_assert_uint_eq(again->linger_s, 8);
	config_source_fini(&src);
}
END_TEST

START_TEST(quick_form)
{
	struct config_source src = {0};
	auto_config struct config *cfg = NULL;

	ck_assert_int_eq(config_source_backing(&src, "none"), -ENOENT);
	ck_assert_int_eq(config_source_backing(&src, "./back"), 0);
	ck_assert_int_eq(config_source_mountpoint(&src, "mnt/"), 0);
	ck_assert_int_eq(config_source_setting(&src, "file.directory=/k"), 0);
	ck_assert_int_eq(chdir("/"), 0);
	ck_assert_int_eq(config_load_again(&cfg, &src), 0);
	ck_assert_str_eq(cfg->backing, in_dir("back"));
	ck_assert_str_eq(cfg->mountpoint, in_dir("mnt"));
	ck_assert_str_eq(cfg->helper, "file");
	ck_assert(!cfg->guard);
	config_source_fini(&src);
}
END_TEST

static const struct {
	const char *rest, *setting;
	vcf_err_t want;
} fault_rows[] = {
	{HELPER, NULL, 0},
	{HELPER "nonsense = 1\n", NULL, -EINVAL},
	{HELPER, "key-service.children=0", -EINVAL},
	{"", NULL, -EINVAL}, /* no helper: only the quick form implies one */
	{"[file]\ndirectory = /k\n", NULL, -EINVAL},
	{NULL, NULL, -ENOENT},
};

START_TEST(faults)
{
	struct config_source src = {0};
	struct config *cfg = NULL;

	unlink(in_dir("conf"));
	if (fault_rows[_i].rest)
		write_conf(fault_rows[_i].rest);
	ck_assert_int_eq(config_source_file(&src, in_dir("conf")), 0);
	if (fault_rows[_i].setting)
		ck_assert_int_eq(config_source_setting(&src, fault_rows[_i].setting), 0);
	ck_assert_int_eq(config_load(&cfg, &src), fault_rows[_i].want);
	ck_assert_int_eq(cfg == NULL, fault_rows[_i].want != 0);
	config_free(cfg);
	config_source_fini(&src);
}
END_TEST

START_TEST(too_many_settings)
{
	struct config_source src = {0};

	for (int i = 0; i < CONFIG_SOURCE_SETTINGS_MAX; i++)
		ck_assert_int_eq(config_source_setting(&src, "a.b=c"), 0);
	ck_assert_int_eq(config_source_setting(&src, "a.b=c"), -E2BIG);
}
END_TEST

/* The keeper takes what the server has taken, or nothing. */
START_TEST(follow)
{
	struct config_source src = {0};
	auto_config struct config *cfg = NULL;
	auto_config struct config *server = NULL;

	write_conf(HELPER);
	ck_assert_int_eq(config_source_file(&src, in_dir("conf")), 0);
	ck_assert_int_eq(config_load_again(&cfg, &src), 0);
	write_conf("[key-service]\nhelper = static\nlinger = 8\n");
	ck_assert_int_eq(config_load_again(&server, &src), 0);
	ck_assert_int_eq(config_follow(cfg, &src, config_digest(cfg)), -EAGAIN);
	ck_assert_uint_eq(cfg->linger_s, 7);
	ck_assert_int_eq(config_follow(cfg, &src, config_digest(server)), 0);
	ck_assert_uint_eq(cfg->linger_s, 8);
	unlink(in_dir("conf"));
	ck_assert_int_eq(config_follow(cfg, &src, config_digest(server)), -ENOENT);
	ck_assert_uint_eq(cfg->linger_s, 8);
	config_source_fini(&src);
}
END_TEST

static long size_of(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 ? -1 : (long)st.st_size;
}

START_TEST(log_rotation)
{
	auto_config struct config *cfg = NULL;
	char old[256];
	long len;

	snprintf(old, sizeof(old), "%s.1", in_dir("rotated"));
	ck_assert_int_eq(config_new(&cfg), 0);
	cfg->log_file = strdup(in_dir("rotated"));
	ck_assert_int_eq(config_apply_log(cfg), 0);
	log_info("one");
	ck_assert_int_eq(rename(in_dir("rotated"), old), 0);
	log_info("two");
	len = size_of(old);
	ck_assert_int_eq(config_apply_log(cfg), 0);
	log_info("three");
	ck_assert_int_gt(size_of(in_dir("rotated")), 0);
	ck_assert_int_eq(size_of(old), len);
	ck_assert_int_eq(config_assign(cfg, "mount", "log-level", "err", "test"), 0);
	ck_assert_int_eq(config_apply_log(cfg), 0);
	len = size_of(in_dir("rotated"));
	log_info("four");
	ck_assert_int_eq(size_of(in_dir("rotated")), len);
	free(cfg->log_file);
	cfg->log_file = strdup(in_dir("none/log"));
	ck_assert_int_eq(config_apply_log(cfg), -ENOENT);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("config_source");
	TCase *tc = tcase_create("config_source");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, file_and_settings);
	tcase_add_test(tc, quick_form);
	tcase_add_loop_test(tc, faults, 0, ROWS(fault_rows));
	tcase_add_test(tc, too_many_settings);
	tcase_add_test(tc, follow);
	tcase_add_test(tc, log_rotation);
	suite_add_tcase(s, tc);
	return s;
}
