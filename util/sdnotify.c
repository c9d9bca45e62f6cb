/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/sdnotify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/log.h"

enum { TEXT_MAX = 1024 };

static const char *const names[] = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"};
enum { SOCKET, USEC, PID, NAME_CNT };

static char values[NAME_CNT][sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
static uint64_t watchdog_ms;

static uint64_t number(const char *text)
{
	char *end;
	unsigned long long n;

	errno = 0;
	n = strtoull(text, &end, 10);
	return errno || end == text || *end || *text == '-' ? 0 : n;
}

/* Another process's watchdog is none of ours. */
static uint64_t read_watchdog(void)
{
	uint64_t ms = number(values[USEC]) / 2000;

	if (*values[PID] && number(values[PID]) != (uint64_t)getpid())
		return 0;
	return number(values[USEC]) && !ms ? 1 : ms;
}

static bool is_address(const char *value)
{
	return (*value == '/' || *value == '@') && value[1] &&
	       strlen(value) < sizeof(values[0]) - 1;
}

void sdnotify_init(void)
{
	for (int i = 0; i < NAME_CNT; i++) {
		const char *value = getenv(names[i]);

		values[i][0] = '\0';
		if (value && strlen(value) < sizeof(values[i]))
			memcpy(values[i], value, strlen(value) + 1);
	}
	if (!is_address(values[SOCKET]))
		memset(values, 0, sizeof(values));
	watchdog_ms = read_watchdog();
	sdnotify_hide();
}

bool sdnotify_wanted(void)
{
	return *values[SOCKET];
}

uint64_t sdnotify_watchdog_ms(void)
{
	return watchdog_ms;
}

void sdnotify_hide(void)
{
	for (int i = 0; i < NAME_CNT; i++)
		unsetenv(names[i]);
}

void sdnotify_export(void)
{
	for (int i = 0; i < NAME_CNT; i++) {
		if (*values[i] && setenv(names[i], values[i], 1) < 0)
			log_dbg("%s: %s", names[i], strerror(errno));
	}
}

/* The length counts: an abstract name begins with a zero byte and has none at its end. */
static socklen_t fill_address(struct sockaddr_un *addr)
{
	size_t len = strlen(values[SOCKET]);

	*addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(addr->sun_path, values[SOCKET], len);
	if (*addr->sun_path == '@')
		*addr->sun_path = '\0';
	else
		len++;
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

static void send_text(const char *text, int flags)
{
	const struct timeval patience = {.tv_sec = 1};
	auto_close int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un addr;
	socklen_t len = fill_address(&addr);

	if (fd < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0 ||
	    sendto(fd, text, strlen(text), MSG_NOSIGNAL | flags, (struct sockaddr *)&addr,
		   len) < 0)
		log_dbg("systemd is not told: %s", strerror(errno));
}

__attribute__((format(printf, 2, 0))) static void
send_format(int flags, const char *format, va_list ap)
{
	char text[TEXT_MAX];

	if (!sdnotify_wanted())
		return;
	vsnprintf(text, sizeof(text), format, ap);
	send_text(text, flags);
}

void sdnotify_send(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	send_format(0, format, ap);
	va_end(ap);
}

void sdnotify_hint(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	send_format(MSG_DONTWAIT, format, ap);
	va_end(ap);
}
