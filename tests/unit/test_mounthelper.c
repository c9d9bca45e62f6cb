/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What becomes of the options of an fstab's line. */
#include "fs/mounthelper.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fs/cmd.h"
#include "tests/unit/unit.h"

/* The program's, which a test program has no use for. */
const struct command commands[] = {{NULL, NULL, NULL, NULL}};

static const struct {
	const char *option, *setting;
	vcf_err_t want;
	bool why;
} rows[] = {
	{"rw", "", 0, false},
	{"_netdev", "", 0, false},
	{"user=joe", "", 0, false},
	{"x-systemd.requires=key.service", "", 0, false},
	{"comment=a.b=c", "", 0, false},
	{"suid", "mount.nosuid=no", 0, false},
	{"nodev", "mount.nodev=yes", 0, false},
	{"allow_other", "mount.allow-other=yes", 0, false},
	{"file.directory=/k", "file.directory=/k", 0, false},
	{"key-service.linger=1", "key-service.linger=1", 0, false},
	{"ro", NULL, -EOPNOTSUPP, true},
	{"remount", NULL, -EOPNOTSUPP, true},
	{"noexec", NULL, -EOPNOTSUPP, true},
	{"roo", NULL, -EINVAL, false},
	{"linger=1", NULL, -EINVAL, false},
	{".a=b", NULL, -EINVAL, false},
	{"a=b.c", NULL, -EINVAL, false},
};

START_TEST(options)
{
	char setting[MOUNTHELPER_SETTING_MAX] = "untouched";
	const char *why;

	ck_assert_int_eq(mounthelper_option(setting, rows[_i].option, &why),
			 rows[_i].want);
	ck_assert_int_eq(why != NULL, rows[_i].why);
	ck_assert_str_eq(setting, rows[_i].setting ? rows[_i].setting : "untouched");
}
END_TEST

START_TEST(too_long)
{
	char setting[MOUNTHELPER_SETTING_MAX];
	char option[2 * MOUNTHELPER_SETTING_MAX] = "a.b=";
	const char *why;

	memset(option + 4, 'x', MOUNTHELPER_SETTING_MAX);
	ck_assert_int_eq(mounthelper_option(setting, option, &why), -EINVAL);
}
END_TEST

static const struct {
	const char *program;
	bool want;
} names[] = {
	{"/sbin/mount.fuse.vmcryptfs", true},
	{"mount.vmcryptfs", true},
	{"/sbin/umount.fuse.vmcryptfs", true},
	{"/usr/sbin/vmcryptfs", false},
	{"mount.d/vmcryptfs", false},
	{"", false},
	{NULL, false},
};

START_TEST(called)
{
	ck_assert_int_eq(mounthelper_is_called(names[_i].program), names[_i].want);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("mounthelper");
	TCase *t = tcase_create("mounthelper");

	tcase_add_loop_test(t, options, 0, ROWS(rows));
	tcase_add_test(t, too_long);
	tcase_add_loop_test(t, called, 0, ROWS(names));
	suite_add_tcase(s, t);
	return s;
}
