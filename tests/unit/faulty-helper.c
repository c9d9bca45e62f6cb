/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A key helper with one fault, for the tests of the key service.
 *
 * Options: mode (what goes wrong), times (how often, counted over all processes; 0 or
 * none: always), directory (where it counts and keeps what `new` stores). The secret of
 * an id that was not stored is its first character 32 times.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/parse.h"

static char mode[64] = "";
static int times;
static char directory[1024] = "";
static int first_fds[16], fd_cnt;

static void say(const char *tag, const char *text)
{
	printf("%s %s\n", tag, text);
	fflush(stdout);
}

static int open_in_directory(const char *name)
{
	char path[1200];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* Counts a use of a name over all processes. */
static int count(const char *name)
{
	int fd = open_in_directory(name);
	off_t n;

	if (fd < 0 || write(fd, "x", 1) != 1)
		exit(2);
	n = lseek(fd, 0, SEEK_CUR);
	close(fd);
	return (int)n;
}

static bool is(const char *name)
{
	return strcmp(mode, name) == 0;
}

static bool faulty_now(void)
{
	return !times || count("faults") <= times;
}

/* --- the faults of `get` --- */

static void flood(char c)
{
	char block[4096];

	memset(block, c, sizeof(block));
	for (int i = 0; i < 256; i++)
		fwrite(block, 1, sizeof(block), stdout);
	fflush(stdout);
}

static void list_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;

	while (d && (e = readdir(d)) && fd_cnt < 16) {
		if (*e->d_name != '.' && atoi(e->d_name) != dirfd(d))
			first_fds[fd_cnt++] = atoi(e->d_name);
	}
	closedir(d);
}

/* What it sees of itself, as an error's text. */
static void describe(const char *tag)
{
	struct rlimit core;
	sigset_t mask;
	mode_t um = umask(0);
	int blocked = 0;

	umask(um);
	getrlimit(RLIMIT_CORE, &core);
	sigprocmask(SIG_SETMASK, NULL, &mask);
	for (int i = 1; i < NSIG; i++)
		blocked += sigismember(&mask, i) == 1;
	printf("%s error denied fds", tag);
	for (int i = 0; i < fd_cnt; i++)
		printf(" %d", first_fds[i]);
	printf(" umask %03o nnp %d leader %d core %d blocked %d pipe %d env", um,
	       prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), getsid(0) == getpid(),
	       (int)core.rlim_max, blocked, signal(SIGPIPE, SIG_DFL) == SIG_DFL);
	for (char **e = environ; *e; e++)
		printf(" %.*s", (int)strcspn(*e, "="), *e);
	printf("\n");
	fflush(stdout);
}

static const struct {
	const char *mode, *reply;
} bad_replies[] = {
	{"nonsense", "fish"},
	{"wrong-kind", "pong"},
	{"short-secret", "secret QUFB"},
	{"long-secret", "secret QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQQ=="},
	{"sloppy", "secret QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUF="},
	{"no-padding", "secret QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE"},
	{"two-blanks", "secret  QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="},
	{"non-ascii", "error denied caf\xc3\xa9"},
	{"control", "error denied a\tb"},
	{"bad-kind", "error sad it hurts"},
	{"unavailable", "error unavailable come back"},
	{"retry-after", "error unavailable retry-after=1 come back"},
	{"retry-late", "error unavailable retry-after=100 come back"},
	{"denied", "error denied not you"},
	{"echo", "error denied you sent QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="},
	{"notfound", "error notfound where"},
	{"quota", "error quota full"},
	{"invalid", "error invalid what"},
};

/* A script that cannot go on; the first line is none of the last words. */
static void last_words(void)
{
	fprintf(stderr, "a trace\nvmcryptfs-key-faulty: the credential\tis gone");
	_exit(1);
}

/* More than any pipe holds. */
static void chatter(void)
{
	for (int i = 0; i < 30000; i++)
		fprintf(stderr,
			"line %d of what nobody wants to know, not even at night, "
			"for it is long\n",
			i);
}

/* True if the fault was the answer. */
static bool fault_get(const char *tag)
{
	for (size_t i = 0; i < sizeof(bad_replies) / sizeof(bad_replies[0]); i++) {
		if (!is(bad_replies[i].mode))
			continue;
		say(tag, bad_replies[i].reply);
		return true;
	}
	if (is("slow"))
		usleep(150000);
	if (is("hang"))
		pause();
	if (is("die"))
		_exit(0);
	if (is("last-words"))
		last_words();
	if (is("chatter"))
		chatter();
	if (is("die-mid")) {
		printf("%s secret QUFB", tag);
		fflush(stdout);
		_exit(1);
	}
	if (is("flood"))
		flood('x');
	if (is("flood-lines"))
		flood('\n');
	if (is("wrong-tag"))
		say("77777", "error denied not you");
	if (is("no-tag"))
		say("ready", "");
	return is("flood") || is("flood-lines") || is("wrong-tag") || is("no-tag");
}

/* --- the store --- */

/* The text behind "LABEL " in the store, the newest; false if there is none. */
static bool load(const char *label, char text[64])
{
	FILE *f = fdopen(open_in_directory("store"), "r");
	char l[200], s[64];
	bool found = false;

	while (f && fscanf(f, "%199s %63s", l, s) == 2) {
		if (strcmp(l, label) == 0) {
			snprintf(text, 64, "%s", s);
			found = true;
		}
	}
	if (f)
		fclose(f);
	return found;
}

static void store(const char *label, const char *text)
{
	int fd = open_in_directory("store");

	dprintf(fd, "%s %s\n", label, text);
	close(fd);
}

static void do_get(const char *tag, const char *id)
{
	char raw[32], text[64] = "";

	count("gets");
	if (is("describe")) {
		describe(tag);
		return;
	}
	if (*mode && strncmp(mode, "new", 3) != 0 && faulty_now() && fault_get(tag))
		return;
	memset(raw, *id, sizeof(raw));
	if (!load(id, text))
		base64_encode(text, raw, sizeof(raw));
	printf("%s secret %s\n", tag, text);
	if (is("unasked"))
		printf("%s pong\n", tag);
	fflush(stdout);
	if (is("killed") && count("served") == 10)
		_exit(1);
}

static void do_new(const char *tag, const char *label, const char *text)
{
	bool fault = strncmp(mode, "new", 3) == 0 && faulty_now();

	if (fault && is("new-lost"))
		_exit(1);
	if (fault && is("new-other")) { /* an older record of the same label */
		store(label, "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=");
		_exit(1);
	}
	count("news");
	store(label, text);
	if (fault && is("new-done"))
		_exit(1);
	if (fault && is("new-done-unavailable")) {
		say(tag, "error unavailable gateway timeout");
		return;
	}
	printf("%s created %s\n", tag, label);
	fflush(stdout);
}

static void do_find(const char *tag, const char *label)
{
	char text[64];

	count("finds");
	if (is("items")) {
		printf("%s item b %s 2026-01-02T00:00:00Z\n", tag, label);
		printf("%s item c %s 2026-01-03T00:00:00Z\n", tag, label);
		printf("%s item a %s 2026-01-01T00:00:00Z\n", tag, label);
	}
	if (load(label, text))
		printf("%s item %s %s 2026-01-01T00:00:00Z\n", tag, label, label);
	say(tag, "end");
}

/* Six items; list-slow: 250 ms before each; list-broken: ends after two, some times; list-other:
 * one without the prefix. */
static void do_list(const char *tag, const char *prefix)
{
	bool fault = is("list-broken") && faulty_now();

	count("lists");
	for (int i = 0; i < 6; i++) {
		if (is("list-slow"))
			usleep(250000);
		if (fault && i == 2)
			_exit(1);
		printf("%s item id%d %s%d 2026-01-01T00:00:00Z\n", tag, i,
		       is("list-other") ? "x" : prefix, i);
		fflush(stdout);
	}
	say(tag, "end");
}

/* Mode "down": the service is, as long as the file "down" is there. */
static bool service_down(void)
{
	char path[1200];

	snprintf(path, sizeof(path), "%s/down", directory);
	return is("down") && access(path, F_OK) == 0;
}

static void do_line(char *line)
{
	char *tag = strtok(line, " \n");
	char *verb = strtok(NULL, " \n");
	char *a = strtok(NULL, " \n");
	char *b = strtok(NULL, " \n");

	if (!verb)
		_exit(3);
	if (is("down"))
		count(service_down() ? "vain" : "served");
	if (service_down())
		say(tag, "error unavailable down");
	else if (strcmp(verb, "get") == 0)
		do_get(tag, a);
	else if (strcmp(verb, "new") == 0)
		do_new(tag, a, b);
	else if (strcmp(verb, "find") == 0)
		do_find(tag, a);
	else if (strcmp(verb, "list") == 0)
		do_list(tag, a ? a : "");
	else if (strcmp(verb, "destroy") == 0)
		say(tag, is("gone") ? "gone" : "destroyed");
	else if (strcmp(verb, "ping") == 0)
		say(tag, "pong");
	else
		say(tag, "error invalid unknown verb");
}

static void do_option(const char *name, char *value)
{
	value[strcspn(value, "\n")] = '\0';
	if (strcmp(name, "mode") == 0)
		snprintf(mode, sizeof(mode), "%s", value);
	else if (strcmp(name, "times") == 0)
		times = atoi(value);
	else if (strcmp(name, "directory") == 0)
		snprintf(directory, sizeof(directory), "%s", value);
}

/* The options come after the hello, so its faults are told by the program's name. */
static void say_hello(const char *name)
{
	if (strstr(name, "mute"))
		pause();
	if (strstr(name, "exits"))
		exit(1);
	if (strstr(name, "babbles"))
		say("good morning,", "server");
	if (strstr(name, "version"))
		say("vmcryptfs-keys", "2 faulty");
	else
		say("vmcryptfs-keys", strstr(name, "derives") ? "1 faulty derives"
							      : "1 faulty frobnicates");
	if (strstr(name, "hasty"))
		printf("ready\n");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	char line[8192 + 1], name[64];

	list_fds();
	say_hello(strrchr(argv[0], '/'));
	while (fgets(line, sizeof(line), stdin)) {
		int at = 0;

		if (strcmp(line, "ready\n") == 0) {
			printf("ready\n");
			fflush(stdout);
		} else if (sscanf(line, "option %63s %n", name, &at) == 1) {
			do_option(name, line + at);
		} else {
			do_line(line);
		}
	}
	return 0;
}
