/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A guest's name in the arguments of its QEMU. */
#include "fs/holders.h"

#include <string.h>

#include "tests/unit/unit.h"

#define UUID "5d1a6a2e-7a0c-4a0e-8f0e-0123456789ab"

static const struct {
	const char *args; /* with a blank for each zero byte */
	const char *guest, *uuid;
} rows[] = {
	{"", "", ""},
	{"qemu-system-x86_64", "", ""},
	{"qemu-system-x86_64 -name", "", ""},
	{"qemu-system-x86_64 -name web", "web", ""},
	{"/usr/bin/qemu-system-x86_64 -name guest=web,debug-threads=on -uuid " UUID,
	 "web", UUID},
	{"/usr/bin/kvm -S -uuid " UUID " -name guest=a,,b", "a,b", UUID},
	{"qemu-kvm -name guest= -m 1", "", ""},
	{"qemu-img convert -name x", "x", ""},
	{"find / -name core", "", ""},
	{"qemu-system-arm -uuid", "", ""},
};

START_TEST(guests)
{
	struct holder h = {0};
	char args[300];
	size_t len = strlen(rows[_i].args);

	memcpy(args, rows[_i].args, len + 1);
	for (size_t i = 0; i < len; i++)
		args[i] = args[i] == ' ' ? '\0' : args[i];
	/* /proc ends the last one with a zero byte as well. */
	holders_parse_guest(&h, args, len ? len + 1 : 0);
	ck_assert_str_eq(h.guest, rows[_i].guest);
	ck_assert_str_eq(h.uuid, rows[_i].uuid);
}
END_TEST

/* Too long for us: cut, and ended. */
START_TEST(long_ones)
{
	struct holder h = {0};
	char args[600] = "qemu";

	memcpy(args + 5, "-name", 6);
	memset(args + 11, 'x', 500);
	holders_parse_guest(&h, args, 11 + 500);
	ck_assert_uint_eq(strlen(h.guest), sizeof(h.guest) - 1);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("holders");
	TCase *t = tcase_create("holders");

	tcase_add_loop_test(t, guests, 0, ROWS(rows));
	tcase_add_test(t, long_ones);
	suite_add_tcase(s, t);
	return s;
}
