/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The audit trail: its lines byte by byte, and what becomes of them. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/unit.h"
#include "util/audit.h"
#include "util/clock.h"

static const struct audit_origin origin = {.mount = "/mnt", .generation = 3};

#define HEAD                                                                             \
	"{\"time\":\"2026-11-23T03:04:05.067Z\",\"event\":\"fetched\",\"outcome\":\"ok\""
#define TAIL(path)                                                                       \
	",\"host\":\"h\",\"generation\":3,\"seq\":7,\"path\":\"" path                    \
	"\",\"mount\":\"/mnt\"}\n"

/* Hostile paths. */
static const struct {
	const char *path, *escaped;
} paths[] = {
	{"a/disk", "a/disk"},
	{"", ""},
	{"a\"},{\"b", "a\\\"},{\\\"b"},
	{"a\\", "a\\\\"},
	{"a\nb\tc\x01\x7f", "a\\u000ab\\u0009c\\u0001\\u007f"},
	{"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
	 "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
	{"\xc2\x9b"
	 "2J\xc2\xa0",
	 "\\u009b2J\xc2\xa0"}, /* CSI, as some terminals take it */
	{"\xff", "\\udcff"},
	{"\xc3", "\\udcc3"},				      /* cut */
	{"\xc3(", "\\udcc3("},				      /* no continuation */
	{"\xc0\xaf", "\\udcc0\\udcaf"},			      /* overlong '/' */
	{"\xe0\x80\xaf", "\\udce0\\udc80\\udcaf"},	      /* overlong */
	{"\xed\xa0\x80", "\\udced\\udca0\\udc80"},	      /* a surrogate */
	{"\xf4\x90\x80\x80", "\\udcf4\\udc90\\udc80\\udc80"}, /* beyond U+10FFFF */
	{"\xe2\x82", "\\udce2\\udc82"},
	{"\xf0\x9f\x98", "\\udcf0\\udc9f\\udc98"},
};

START_TEST(escaping)
{
	struct audit_event e = {
		.event = "fetched", .path = paths[_i].path, .latency_ms = -1};
	char line[AUDIT_LINE_MAX], want[AUDIT_LINE_MAX];
	size_t len = audit_format(line, &e, &origin, "h", 7, 0, 1795403045067);

	snprintf(want, sizeof(want), HEAD TAIL("%s"), paths[_i].escaped);
	ck_assert_str_eq(line, want);
	ck_assert_uint_eq(len, strlen(want));
}
END_TEST

START_TEST(fields)
{
	struct audit_event e = {
		.event = "denied",
		.verb = "get",
		.path = "p",
		.uuid = "u",
		.key_id = "k",
		.service = "s",
		.has_opener = true,
		.uid = 4294967295,
		.pid = 12,
		.latency_ms = 50,
		.err = -EKEYREJECTED,
		.text = "not you",
	};
	char line[AUDIT_LINE_MAX];

	audit_format(line, &e, &origin, "h", 1, 9, 0);
	ck_assert_str_eq(
		line,
		"{\"time\":\"1970-01-01T00:00:00.000Z\",\"event\":\"denied\",\"outcome\":"
		"\"EKEYREJECTED\",\"verb\":\"get\",\"service\":\"s\",\"uuid\":\"u\",\"key_id\":\"k\","
		"\"uid\":4294967295,\"pid\":12,\"latency_ms\":50,\"host\":\"h\",\"generation\":3,"
		"\"seq\":1,\"lost\":9,\"text\":\"not you\",\"path\":\"p\",\"mount\":\"/mnt\"}\n");
}
END_TEST

/* A command's has its name and no number of a server. */
START_TEST(of_a_command)
{
	static const struct audit_origin commands[] = {
		{.mount = "/mnt", .command = "adopt"}, {.command = "keys reap"}};
	static const char *const tails[] = {
		"\"host\":\"h\",\"command\":\"adopt\",\"seq\":1,\"path\":\"p\",\"mount\":\"/mnt\"}\n",
		"\"host\":\"h\",\"command\":\"keys reap\",\"seq\":1,\"path\":\"p\"}\n"};
	struct audit_event e = {.event = "assigned", .path = "p", .latency_ms = -1};
	char line[AUDIT_LINE_MAX];

	audit_format(line, &e, &commands[_i], "h", 1, 0, 0);
	ck_assert_ptr_nonnull(strstr(line, tails[_i]));
}
END_TEST

/* The longest of everything is one whole line. */
START_TEST(longest)
{
	static char much[5000];
	struct audit_event e = {.event = "destroyed",
				.verb = "destroy",
				.has_opener = true,
				.uid = UINT32_MAX,
				.pid = UINT32_MAX,
				.latency_ms = INT64_MAX,
				.err = -EKEYREJECTED};
	struct audit_origin o = {.mount = much, .generation = UINT32_MAX};
	char line[AUDIT_LINE_MAX], host[65], service[65], id[513], uuid[37];
	size_t len;

	memset(much, '\\', sizeof(much) - 1);
	memset(host, '"', sizeof(host) - 1);
	memset(service, 's', sizeof(service) - 1);
	memset(id, 'i', sizeof(id) - 1);
	memset(uuid, 'u', sizeof(uuid) - 1);
	host[64] = service[64] = id[512] = uuid[36] = '\0';
	e.path = e.text = much;
	e.service = service;
	e.key_id = id;
	e.uuid = uuid;
	len = audit_format(line, &e, &o, host, UINT64_MAX >> 1, UINT64_MAX >> 1, 0);
	ck_assert_uint_lt(len, AUDIT_LINE_MAX);
	ck_assert_uint_eq(len, strlen(line));
	ck_assert_str_eq(line + len - 19, ",\"mount_cut\":true}\n");
	ck_assert_ptr_nonnull(strstr(line, id));
	ck_assert_ptr_nonnull(strstr(line, "\\\",\"text_cut\":true,\"path\":\""));
	ck_assert_ptr_nonnull(strstr(line, "\\\",\"path_cut\":true,\"mount\":\""));
}
END_TEST

/* --- the trail --- */

static char path[512], rotated[512];

static void start(int *ring, const char *file)
{
	struct audit_settings s = {.file = file};

	snprintf(path, sizeof(path), "%s/audit", unit_tmpdir());
	snprintf(rotated, sizeof(rotated), "%s/audit.1", unit_tmpdir());
	ck_assert_int_eq(audit_start(&s, &origin, ring), 0);
}

static void event(const char *p)
{
	struct audit_event e = {.event = "used", .path = p, .latency_ms = -1};

	audit_event(&e);
}

static int lines_in(const char *file, const char *what)
{
	char line[AUDIT_LINE_MAX];
	FILE *f = fopen(file, "r");
	int cnt = 0;

	while (f && fgets(line, sizeof(line), f))
		cnt += strstr(line, what) != NULL;
	if (f)
		fclose(f);
	return cnt;
}

static void wait_lines(const char *file, const char *what, int cnt)
{
	for (int i = 0; i < 3000 && lines_in(file, what) < cnt; i++)
		usleep(1000);
	ck_assert_int_eq(lines_in(file, what), cnt);
}

static void file_at(const char *name)
{
	struct audit_settings s = {.file = name};

	audit_change(&s);
}

START_TEST(rotation)
{
	int ring = -1;
	struct stat st;

	start(&ring, NULL);
	event("nobody");
	unlink(path);
	unlink(rotated);
	file_at(path);
	event("one");
	wait_lines(path, "\"path\":\"one\"", 1);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 07777, 0600);
	ck_assert_int_eq(rename(path, rotated), 0);
	event("two");
	wait_lines(path, "\"path\":\"two\"", 1);
	ck_assert_int_eq(lines_in(rotated, "path"), 1);
	ck_assert_int_eq(unlink(path), 0);
	event("three");
	event("four");
	audit_stop();
	ck_assert_int_eq(lines_in(path, "path"), 2);
	close(ring);
}
END_TEST

/* Killed with lines in the ring: the next one writes them, after a line that is not whole. */
START_TEST(inherited)
{
	int ring = -1, fd;
	uint64_t waiting, lost;

	start(&ring, "/nonexistent/audit");
	unlink(path);
	for (int i = 0; i < 10; i++)
		event("kept");
	audit_counts(&waiting, &lost);
	ck_assert_uint_eq(waiting, 10);
	ck_assert_uint_eq(lost, 0);
	audit_stop(); /* two seconds in vain: it ends as if it were killed */
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_eq(write(fd, "{\"torn", 6), 6);
	close(fd);
	start(&ring, path);
	event("new");
	audit_stop();
	ck_assert_int_eq(lines_in(path, "\"path\":\"kept\""), 10);
	ck_assert_int_eq(lines_in(path, "\"path\":\"new\""), 1);
	ck_assert_int_eq(lines_in(path, "torn"), 1);
	ck_assert_int_eq(lines_in(path, "torn{"), 0);
	ck_assert_int_eq(lines_in(path, "\"seq\":11,"), 1);
	close(ring);
}
END_TEST

/* Full: what is missing is counted, and said by the first line that finds room. Nobody waits. */
START_TEST(full)
{
	int ring = -1;
	uint64_t waiting, lost, begin = clock_now_ms();

	start(&ring, "/nonexistent/audit");
	unlink(path);
	for (int i = 0; i < 3000; i++)
		event("many");
	ck_assert_uint_lt(clock_now_ms() - begin, 900);
	audit_counts(&waiting, &lost);
	ck_assert_uint_eq(waiting, 1024);
	ck_assert_uint_eq(lost, 3000 - 1024);
	file_at(path);
	wait_lines(path, "\"path\":\"many\"", 1024);
	event("after");
	event("later");
	wait_lines(path, "\"lost\":1976,\"path\":\"after\"", 1);
	wait_lines(path, "\"path\":\"later\"", 1);
	ck_assert_int_eq(lines_in(path, "lost"), 1);
	audit_stop();
	close(ring);
}
END_TEST

/* What somebody put in the file's place gets nothing, and the line comes once it is gone. */
static const char *const places[] = {"symlink", "fifo", "folder"};

static int put_in_place(const char *kind)
{
	if (strcmp(kind, "symlink") == 0)
		return symlink(rotated, path);
	return strcmp(kind, "fifo") == 0 ? mkfifo(path, 0666) : mkdir(path, 0700);
}

START_TEST(no_file)
{
	int ring = -1;
	uint64_t waiting, lost;

	start(&ring, NULL);
	unlink(path);
	unlink(rotated);
	ck_assert_int_eq(put_in_place(places[_i]), 0);
	file_at(path);
	event("line");
	usleep(50 * 1000);
	audit_counts(&waiting, &lost);
	ck_assert_uint_eq(waiting, 1);
	ck_assert_int_lt(access(rotated, F_OK), 0);
	ck_assert_int_eq(remove(path), 0);
	event("next"); /* it does not wait for its second */
	wait_lines(path, "\"path\":\"line\"", 1);
	audit_stop();
	close(ring);
}
END_TEST

/* A /dev of its own with a socket "log". -1 where that is not allowed. */
static int own_syslog(void)
{
	const struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
	int sock;

	if (unshare(CLONE_NEWNS) < 0 ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", "/dev", "tmpfs", 0, NULL) < 0)
		return -1;
	sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return bind(sock, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ? -1 : sock;
}

/* Exit code: 0 good, 77 not possible here. */
static int syslog_child(void)
{
	const struct audit_settings s = {.syslog = true};
	const struct timeval limit = {.tv_sec = 5};
	char line[2 * AUDIT_LINE_MAX];
	int ring = -1, sock = own_syslog();
	ssize_t n;

	if (sock < 0)
		return 77;
	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (audit_start(&s, &origin, &ring))
		return 1;
	event("disk");
	n = recv(sock, line, sizeof(line) - 1, 0);
	if (n <= 0)
		return 2;
	line[n] = '\0';
	audit_stop();
	return strncmp(line, "<85>vmcryptfs-audit[", 20) == 0 &&
			       strstr(line, "]: {\"time\":") &&
			       strstr(line, "\"path\":\"disk\"") && line[n - 1] == '}'
		       ? 0
		       : 3;
}

START_TEST(to_syslog)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(syslog_child());
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	if (WEXITSTATUS(status) != 77)
		ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("audit");
	TCase *t = tcase_create("audit");

	tcase_add_loop_test(t, escaping, 0, ROWS(paths));
	tcase_add_test(t, fields);
	tcase_add_loop_test(t, of_a_command, 0, 2);
	tcase_add_test(t, longest);
	tcase_add_test(t, to_syslog);
	tcase_add_test(t, rotation);
	tcase_add_test(t, full);
	tcase_add_test(t, inherited);
	tcase_add_loop_test(t, no_file, 0, ROWS(places));
	suite_add_tcase(s, t);
	return s;
}
