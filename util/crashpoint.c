/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/crashpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/io.h"

enum { LIST_MAX = 4096, PATH_LEN = 512 };

static _Atomic unsigned long passes;
static _Atomic bool later;

static void die(void)
{
	kill(getpid(), SIGKILL);
	for (;;)
		pause(); /* the signal may take another thread first */
}

/* Is `line` (to its end or a newline) this point, and which pass is it that counts? */
static bool is_named(const char *line, const char *name, unsigned long *pass)
{
	size_t len = strlen(name);

	*pass = 1;
	if (strncmp(line, name, len) != 0)
		return false;
	if (line[len] == ':')
		*pass = strtoul(line + len + 1, NULL, 10);
	return line[len] == '\0' || line[len] == ':' || line[len] == '\n';
}

void crashpoint_taken_over(void)
{
	later = true;
}

static void check_environment(const char *name)
{
	const char *want = getenv("VCF_CRASH");
	unsigned long pass;

	if (!want || later || !is_named(want, name, &pass) ||
	    atomic_fetch_add(&passes, 1) + 1 != pass)
		return;
	if (getenv("VCF_CRASH_ALL"))
		kill(getppid(), SIGKILL);
	die();
}

/*
 * The list
 */

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct stat list_seen;	  /* (list_lock) the list whose first line is counted */
static unsigned long list_passes; /* (list_lock) */

static bool is_same_list(const struct stat *st)
{
	return st->st_ino == list_seen.st_ino &&
	       st->st_mtim.tv_sec == list_seen.st_mtim.tv_sec &&
	       st->st_mtim.tv_nsec == list_seen.st_mtim.tv_nsec;
}

/* Counts from the time that the line became the first one. */
static unsigned long count_pass(const struct stat *st)
{
	if (!is_same_list(st))
		list_passes = 0;
	list_seen = *st;
	return ++list_passes;
}

static ssize_t read_list(const char *path, char text[LIST_MAX], struct stat *st)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : io_pread_full(fd, text, LIST_MAX - 1, 0);

	if (n < 0 || fstat(fd, st) < 0)
		return -1;
	text[n] = '\0';
	return n;
}

/* What comes after the first line is all that the next process finds. */
static void drop_line(const char *path, const char *text)
{
	const char *rest = strchr(text, '\n');
	char tmp[PATH_LEN];
	auto_close int fd = -1;

	snprintf(tmp, sizeof(tmp), "%s.next", path);
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	rest = rest ? rest + 1 : "";
	if (fd < 0 || io_write_full(fd, rest, strlen(rest)) || rename(tmp, path) < 0)
		abort();
}

static void check_list(const char *name)
{
	const char *path = getenv("VCF_CRASH_FILE");
	char text[LIST_MAX];
	unsigned long pass;
	struct stat st;

	if (!path)
		return;
	pthread_mutex_lock(&list_lock);
	if (read_list(path, text, &st) > 0 && is_named(text, name, &pass) &&
	    count_pass(&st) >= pass) {
		drop_line(path, text);
		die(); /* with the lock: nobody passes the next line's point */
	}
	pthread_mutex_unlock(&list_lock);
}

static void trace(const char *name)
{
	const char *path = getenv("VCF_CRASH_TRACE");
	auto_close int fd = -1;
	char line[128];
	int len;

	if (!path)
		return;
	fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	len = snprintf(line, sizeof(line), "%d %s\n", (int)getpid(), name);
	if (fd >= 0 && write(fd, line, (size_t)len) < 0)
		abort();
}

void crashpoint_pass(const char *name)
{
	int saved = errno;

	trace(name);
	check_environment(name);
	check_list(name);
	errno = saved;
}
