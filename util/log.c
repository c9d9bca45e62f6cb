/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Log lines. Settings change at start-up, and at a reload by one thread; a line is formatted
 * into a local buffer and leaves in one write(2), so lines of several threads and processes do
 * not mix.
 */
#include "util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "util/visible.h"

enum { LINE_MAX_LEN = 2048, SYSLOG_WAIT_MS = 500, START_MAX = 32 };

static _Atomic enum log_level max_level = LOG_LEVEL_INFO;
static const _Atomic uint32_t *_Atomic asked_level; /* NULL, or log_follow()'s */
static _Atomic int out_fd = STDERR_FILENO;
static _Atomic bool to_syslog;
static _Atomic bool to_fd = true;
static _Atomic bool tee_stderr;
static bool left_terminal;

void log_set_level(enum log_level level)
{
	max_level = level;
}

void log_follow(const _Atomic uint32_t *level)
{
	asked_level = level;
}

static bool is_left_out(enum log_level level)
{
	const _Atomic uint32_t *asked = asked_level;
	uint32_t most = asked ? *asked : 0;

	return level > (most ? most - 1 : max_level);
}

void log_set_target(enum log_target target)
{
	to_syslog = target != LOG_TO_STDERR;
	to_fd = target != LOG_TO_SYSLOG;
}

int log_file_fd(void)
{
	return out_fd > STDERR_FILENO ? out_fd : -1;
}

vcf_err_t log_set_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return -errno;
	if (out_fd == STDERR_FILENO) {
		out_fd = fd;
	} else { /* under the number that other threads are just writing to */
		dup3(fd, out_fd, O_CLOEXEC);
		close(fd);
	}
	if (left_terminal) {
		dup2(out_fd, STDOUT_FILENO);
		dup2(out_fd, STDERR_FILENO);
	}
	to_syslog = false;
	to_fd = true;
	return 0;
}

void log_tee(void)
{
	tee_stderr = out_fd != STDERR_FILENO;
}

void log_leave_terminal(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int out = out_fd == STDERR_FILENO ? null : out_fd;

	tee_stderr = false;
	if (null < 0)
		return;
	dup2(null, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	close(null);
	left_terminal = true;
}

static void write_line(int fd, enum log_level level, const char *text)
{
	static const char *const names[] = {"err", "warn", "info", "dbg"};
	char line[LINE_MAX_LEN + 128];
	struct timespec now;
	struct tm tm;
	int n;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	n = snprintf(line, sizeof(line),
		     "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ vmcryptfs[%d] %s: ",
		     tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
		     tm.tm_sec, now.tv_nsec / 1000000, (int)getpid(), names[level]);
	n += (int)visible_upto(line + n, sizeof(line) - (size_t)n - 1, text, 0xff);
	line[n++] = '\n';
	if (write(fd, line, (size_t)n) < 0)
		return; /* nowhere left to say it */
}

/*
 * A line to syslog(3)'s socket. Not by syslog(3): that keeps a descriptor, and would use and close
 * it after another process of the shared table (keeper.h) has put something else at its number.
 * Every call in it is on POSIX's list of safe ones.
 */
static void send_syslog(const char *line, size_t len)
{
	static const struct sockaddr_un addr = {.sun_family = AF_UNIX,
						.sun_path = "/dev/log"};
	int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct pollfd p = {.fd = sock, .events = POLLOUT};

	if (sock < 0)
		return;
	if (connect(sock, (const struct sockaddr *)&addr, sizeof(addr)) == 0 &&
	    send(sock, line, len, MSG_NOSIGNAL) < 0 && errno == EAGAIN &&
	    poll(&p, 1, SYSLOG_WAIT_MS) == 1)
		send(sock, line, len, MSG_NOSIGNAL);
	close(sock);
}

/* RFC 3164, as syslog(3) writes it; control characters are syslogd's to show. */
static void write_syslog(int prio, const char *text)
{
	char line[LINE_MAX_LEN + 64], stamp[32];
	time_t now = time(NULL);
	struct tm tm;
	int n;

	strftime(stamp, sizeof(stamp), "%b %e %H:%M:%S", localtime_r(&now, &tm));
	n = snprintf(line, sizeof(line), "<%d>%s vmcryptfs[%d]: %s", LOG_DAEMON | prio,
		     stamp, (int)getpid(), text);
	if (n > 0)
		send_syslog(line,
			    (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

void log_line(enum log_level level, const char *fmt, ...)
{
	static const int prio[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};
	char text[LINE_MAX_LEN];
	int saved = errno;
	va_list ap;

	if (is_left_out(level))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (to_syslog)
		write_syslog(prio[level], text);
	if (to_fd)
		write_line(out_fd, level, text);
	if (tee_stderr && level <= LOG_LEVEL_WARN)
		write_line(STDERR_FILENO, level, text);
	if (level == LOG_LEVEL_WARN && getenv("VCF_WARN_FATAL"))
		abort();
	errno = saved;
}

/* start: "<NN>", of syslog(3), and the beginning of the line. */
static void say_from_signal(const char *start, const char *text)
{
	char line[START_MAX + 300 + 1];
	size_t len = strlen(start);
	int saved = errno;

	memcpy(line, start, len);
	while (*text && len < sizeof(line) - 1)
		line[len++] = *text++;
	if (to_syslog)
		send_syslog(line, len);
	line[len++] = '\n';
	if (to_fd && write(out_fd, line + 4, len - 4) < 0)
		errno = saved; /* nowhere left to say it */
	errno = saved;
}

void log_from_signal(const char *text)
{
	if (!is_left_out(LOG_LEVEL_INFO))
		say_from_signal("<30>vmcryptfs info: ", text); /* LOG_DAEMON | LOG_INFO */
}

void log_err_from_signal(const char *text)
{
	say_from_signal("<27>vmcryptfs err: ", text); /* LOG_DAEMON | LOG_ERR */
}
