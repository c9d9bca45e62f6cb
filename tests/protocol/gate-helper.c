/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A key helper that the test holds in its hand. Option `directory`: keys lie in it, named by their
 * label; its file "gate", while it exists, says what becomes of new and get:
 *   hold            the answer waits until the file is gone or says something else
 *   error KIND ...  that is the answer
 * Each request is noted in the file "asked", each process in "pids".
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char directory[1024];

static void path_of(char dst[1300], const char *name)
{
	snprintf(dst, 1300, "%s/%.255s", directory, name);
}

/* A file's first line; "" if there is none. */
static void read_line(const char *name, char *text, int room)
{
	char path[1300];
	FILE *f;

	path_of(path, name);
	f = fopen(path, "re");
	if (!f || !fgets(text, room, f))
		*text = '\0';
	if (f)
		fclose(f);
	text[strcspn(text, "\n")] = '\0';
}

static void append(const char *name, const char *text)
{
	char path[1300];
	int fd;

	path_of(path, name);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0 || dprintf(fd, "%s\n", text) < 0)
		_exit(2);
	close(fd);
}

static void say(const char *tag, const char *text)
{
	printf("%s %s\n", tag, text);
	fflush(stdout);
}

/* True if the gate gave the answer. */
static bool gate(const char *tag)
{
	const struct timespec pause = {.tv_nsec = 2000000};
	char text[256];

	read_line("gate", text, sizeof(text));
	while (strcmp(text, "hold") == 0) {
		nanosleep(&pause, NULL);
		read_line("gate", text, sizeof(text));
	}
	if (*text)
		say(tag, text);
	return *text;
}

static void do_get(const char *tag, const char *id)
{
	char secret[64], line[128];

	append("asked", "get");
	if (gate(tag))
		return;
	read_line(id, secret, sizeof(secret));
	snprintf(line, sizeof(line), "secret %s", secret);
	say(tag, *secret ? line : "error notfound no such key");
}

static void do_new(const char *tag, const char *label, const char *secret)
{
	char line[300];

	append("asked", "new");
	if (gate(tag))
		return;
	append(label, secret);
	snprintf(line, sizeof(line), "created %s", label);
	say(tag, line);
}

static void do_find(const char *tag, const char *label)
{
	char secret[64];

	read_line(label, secret, sizeof(secret));
	if (*secret)
		printf("%s item %s %s 2026-01-01T00:00:00Z\n", tag, label, label);
	say(tag, "end");
}

static void do_destroy(const char *tag, const char *id)
{
	char path[1300];

	path_of(path, id);
	say(tag, unlink(path) == 0 ? "destroyed" : "gone");
}

static void do_line(char *line)
{
	const char *tag = strtok(line, " \n");
	const char *verb = strtok(NULL, " \n");
	const char *a = strtok(NULL, " \n");
	const char *b = strtok(NULL, " \n");

	if (!verb)
		_exit(3);
	if (strcmp(verb, "get") == 0)
		do_get(tag, a);
	else if (strcmp(verb, "new") == 0)
		do_new(tag, a, b);
	else if (strcmp(verb, "find") == 0)
		do_find(tag, a);
	else if (strcmp(verb, "destroy") == 0)
		do_destroy(tag, a);
	else if (strcmp(verb, "ping") == 0)
		say(tag, "pong");
	else
		say(tag, "error invalid unknown verb");
}

static void do_option(const char *name, const char *value)
{
	char pid[24];

	if (strcmp(name, "directory") != 0)
		return;
	snprintf(directory, sizeof(directory), "%.*s", (int)strcspn(value, "\n"), value);
	snprintf(pid, sizeof(pid), "%d", getpid());
	append("pids", pid);
}

int main(void)
{
	char line[8192 + 1], name[64];

	say("vmcryptfs-keys", "1 gate");
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
