/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What systemd is told, over a socket of our own. */
#include "util/sdnotify.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/unit.h"
#include "util/cleanup.h"

/* A socket of that name, '@' for an abstract one. */
static int listen_at(const char *name)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t len = strlen(name);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	memcpy(addr.sun_path, name, len);
	if (*name == '@')
		addr.sun_path[0] = '\0';
	unlink(name);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)),
			 0);
	return fd;
}

static const char *received(int fd)
{
	static char text[2048];
	ssize_t n = recv(fd, text, sizeof(text) - 1, 0);

	if (n < 0)
		return NULL;
	text[n] = '\0';
	return text;
}

static void set_env(const char *socket, const char *usec, const char *pid)
{
	const char *const pairs[][2] = {{"NOTIFY_SOCKET", socket},
					{"WATCHDOG_USEC", usec},
					{"WATCHDOG_PID", pid}};

	for (int i = 0; i < 3; i++) {
		if (pairs[i][1])
			setenv(pairs[i][0], pairs[i][1], 1);
		else
			unsetenv(pairs[i][0]);
	}
}

static const char *name_of(bool abstract)
{
	static char name[100];

	if (abstract)
		snprintf(name, sizeof(name), "@vcf-sdnotify-%d", (int)getpid());
	else
		snprintf(name, sizeof(name), "%s/notify", unit_tmpdir());
	return name;
}

START_TEST(told)
{
	const char *name = name_of(_i);
	auto_close int fd = listen_at(name);

	set_env(name, NULL, NULL);
	sdnotify_init();
	ck_assert(sdnotify_wanted());
	sdnotify_send("READY=1\nSTATUS=%d images\n", 7);
	ck_assert_str_eq(received(fd), "READY=1\nSTATUS=7 images\n");
	ck_assert_ptr_null(received(fd));
	ck_assert_ptr_null(getenv("NOTIFY_SOCKET"));
	ck_assert_uint_eq(sdnotify_watchdog_ms(), 0);
}
END_TEST

START_TEST(environment)
{
	const char *name = name_of(false);
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	set_env(name, "3000000", pid);
	sdnotify_init();
	ck_assert_ptr_null(getenv("NOTIFY_SOCKET"));
	ck_assert_ptr_null(getenv("WATCHDOG_USEC"));
	ck_assert_ptr_null(getenv("WATCHDOG_PID"));
	sdnotify_export();
	ck_assert_str_eq(getenv("NOTIFY_SOCKET"), name);
	ck_assert_str_eq(getenv("WATCHDOG_USEC"), "3000000");
	ck_assert_str_eq(getenv("WATCHDOG_PID"), pid);
	sdnotify_init(); /* as the program that is executed does */
	ck_assert_uint_eq(sdnotify_watchdog_ms(), 1500);
	ck_assert_ptr_null(getenv("NOTIFY_SOCKET"));
	sdnotify_export();
	sdnotify_hide();
	ck_assert_ptr_null(getenv("WATCHDOG_PID"));
}
END_TEST

#define A_SOCKET "/run/none"
#define LONG_50 "/0123456789012345678901234567890123456789012345678"

static const struct {
	const char *socket, *usec, *pid;
	bool wanted;
	uint64_t watchdog_ms;
} rows[] = {
	{NULL, NULL, NULL, false, 0},
	{NULL, "2000000", NULL, false, 0}, /* nobody would hear it */
	{"", "2000000", NULL, false, 0},
	{"/", NULL, NULL, false, 0},
	{"@", NULL, NULL, false, 0},
	{"vsock:2:1", NULL, NULL, false, 0},
	{"relative", NULL, NULL, false, 0},
	{LONG_50 LONG_50 LONG_50, NULL, NULL, false, 0},
	{A_SOCKET, NULL, NULL, true, 0},
	{A_SOCKET, "2000000", NULL, true, 1000},
	{A_SOCKET, "100", NULL, true, 1},
	{A_SOCKET, "0", NULL, true, 0},
	{A_SOCKET, "-1", NULL, true, 0},
	{A_SOCKET, "12x", NULL, true, 0},
	{A_SOCKET, "2000000", "1", true, 0}, /* another process's */
	{A_SOCKET, "2000000", "x", true, 0},
};

START_TEST(parsed)
{
	set_env(rows[_i].socket, rows[_i].usec, rows[_i].pid);
	sdnotify_init();
	ck_assert_int_eq(sdnotify_wanted(), rows[_i].wanted);
	ck_assert_uint_eq(sdnotify_watchdog_ms(), rows[_i].watchdog_ms);
	sdnotify_send("READY=1\n"); /* nobody listens there: no harm */
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("sdnotify");
	TCase *t = tcase_create("sdnotify");

	tcase_add_loop_test(t, told, 0, 2);
	tcase_add_test(t, environment);
	tcase_add_loop_test(t, parsed, 0, ROWS(rows));
	suite_add_tcase(s, t);
	return s;
}
