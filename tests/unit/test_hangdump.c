/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lines of /proc, and dumps of real children: one that is stuck in a pipe's read, one that
 * is stopped, one that has no handler.
 */
#include "fs/hangdump.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/procmaps.h"
#include "tests/unit/unit.h"
#include "util/log.h"

static const struct {
	const char *line;
	bool want;
	uint64_t start, off;
	const char *name;
} maps_rows[] = {
	{"55d0a000-55d0b000 r-xp 00002000 08:01 1234   /usr/sbin/vmcryptfs", true,
	 0x55d0a000, 0x2000, "vmcryptfs"},
	{"7f00-7f10 r-xp 00000000 00:00 0 [vdso]", true, 0x7f00, 0, "[vdso]"},
	{"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0   [vsyscall]", true,
	 0xffffffffff600000, 0, "[vsyscall]"},
	{"7f00-7f10 rwxp 00000000 00:00 0 ", true, 0x7f00, 0, "?"},
	{"7f00-7f10 r-xp 00000010 08:01 9 /a/with blank.so (deleted)", true, 0x7f00, 0x10,
	 "with blank.so (deleted)"},
	{"7f00-7f10 r--p 00000000 08:01 9 /usr/lib/libc.so.6", false, 0, 0, NULL},
	{"7f10-7f00 r-xp 00000000 08:01 9 /usr/lib/libc.so.6", false, 0, 0, NULL},
	{"", false, 0, 0, NULL},
	{"nonsense", false, 0, 0, NULL},
	{"7f00-7f10 r-xp", false, 0, 0, NULL},
};

START_TEST(maps_lines)
{
	struct procmap m;

	ck_assert_int_eq(procmaps_parse(&m, maps_rows[_i].line), maps_rows[_i].want);
	if (!maps_rows[_i].want)
		return;
	ck_assert_uint_eq(m.start, maps_rows[_i].start);
	ck_assert_uint_eq(m.off, maps_rows[_i].off);
	ck_assert_str_eq(m.name, maps_rows[_i].name);
}
END_TEST

static const struct {
	uint64_t addr;
	const char *want;
} name_rows[] = {
	{0x1000, "prog+0x200"},
	{0x1fff, "prog+0x11ff"},
	{0x2000, "0x2000"},
	{0xfff, "0xfff"},
	{0, "0x0"},
	{UINT64_MAX, "0xffffffffffffffff"},
	{0x8000000000000000, "[top]+0x0"},
};

START_TEST(addresses)
{
	static const struct procmaps m = {
		.cnt = 2,
		.maps = {{0x1000, 0x2000, 0x200, "prog"},
			 {0x8000000000000000, 0x8000000000001000, 0, "[top]"}}};
	char text[PROCMAPS_TEXT_MAX];

	ck_assert_uint_eq(procmaps_name(&m, name_rows[_i].addr, text),
			  strlen(name_rows[_i].want));
	ck_assert_str_eq(text, name_rows[_i].want);
}
END_TEST

static const struct {
	const char *text;
	bool want;
	bool running;
	long nr;
	uint64_t sp, pc;
} syscall_rows[] = {
	{"running\n", true, true, 0, 0, 0},
	{"-1 0x7ffc10 0x55d0\n", true, false, -1, 0x7ffc10, 0x55d0},
	{"0 0x3 0x7ffc 0x1000 0x0 0x0 0x0 0x7ffc20 0x7f01\n", true, false, 0, 0x7ffc20,
	 0x7f01},
	{"202 0x1 0x2 0x3 0x4 0x5 0x6 0xffffffffffffffff 0x1", true, false, 202,
	 UINT64_MAX, 1},
	{"202 0x1 0x2 0x3 0x4 0x5 0x6 0x7", false, false, 0, 0, 0},
	{"-1 0x1", false, false, 0, 0, 0},
	{"", false, false, 0, 0, 0},
};

START_TEST(syscall_lines)
{
	struct hangdump_syscall s;

	ck_assert_int_eq(hangdump_parse_syscall(&s, syscall_rows[_i].text),
			 syscall_rows[_i].want);
	if (!syscall_rows[_i].want)
		return;
	ck_assert_int_eq(s.running, syscall_rows[_i].running);
	ck_assert_int_eq(s.nr, syscall_rows[_i].nr);
	ck_assert_uint_eq(s.sp, syscall_rows[_i].sp);
	ck_assert_uint_eq(s.pc, syscall_rows[_i].pc);
}
END_TEST

static const struct {
	const char *text;
	const char *comm; /* NULL: none */
	char state;
} stat_rows[] = {
	{"12 (vmcryptfs) D 1 12", "vmcryptfs", 'D'},
	{"12 (a) S (b) R 1", "a) S (b", 'R'},
	{"12 () Z 1", "", 'Z'},
	{"12 (x)", NULL, 0},
	{"12 x) S", NULL, 0},
	{")(", NULL, 0},
	{"", NULL, 0},
};

START_TEST(stat_lines)
{
	struct hangdump_stat s;

	ck_assert_int_eq(hangdump_parse_stat(&s, stat_rows[_i].text),
			 stat_rows[_i].comm != NULL);
	if (!stat_rows[_i].comm)
		return;
	ck_assert_str_eq(s.comm, stat_rows[_i].comm);
	ck_assert_int_eq(s.state, stat_rows[_i].state);
}
END_TEST

static const struct {
	const char *text;
	bool want;
} caught_rows[] = {
	{"Name:\tx\nSigCgt:\t0000000000000800\nCapInh:\t0\n", true},
	{"Name:\tx\nSigCgt:\tfffffffffffff7ff\n", false},
	{"Name:\tx\nSigBlk:\t0000000000000800\n", false},
	{"", false},
};

START_TEST(caught_lines)
{
	ck_assert_int_eq(hangdump_parse_caught(caught_rows[_i].text),
			 caught_rows[_i].want);
}
END_TEST

/* --- children --- */

static int stuck_pipe[2], ready_pipe[2];

static void *get_stuck(void *arg)
{
	char byte;

	(void)arg;
	if (write(ready_pipe[1], "r", 1) == 1 && read(stuck_pipe[0], &byte, 1) < 0)
		_exit(2);
	_exit(3); /* the read was to be restarted */
}

static void child(bool install)
{
	pthread_t t;

	if (install && hangdump_install())
		_exit(1);
	if (pthread_create(&t, NULL, get_stuck, NULL))
		_exit(1);
	pthread_join(t, NULL);
	_exit(1);
}

static pid_t start_child(bool install)
{
	char byte;
	pid_t pid;

	ck_assert_int_eq(pipe(stuck_pipe), 0);
	ck_assert_int_eq(pipe(ready_pipe), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		child(install);
	ck_assert_int_eq(read(ready_pipe[0], &byte, 1), 1);
	usleep(20000); /* until it is in its read */
	return pid;
}

static void end_child(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, WNOHANG), 0); /* it lives */
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	for (int i = 0; i < 2; i++) {
		close(stuck_pipe[i]);
		close(ready_pipe[i]);
	}
}

enum { NONE, HANDLER, STOPPED };

static const struct {
	int how;
	const char *has[4], *has_not[4];
} dump_rows[] = {
	{HANDLER,
	 {"2 threads follow", "state S", "frame 0: ", "test_hangdump+0x"},
	 {NULL}},
	{STOPPED, {"2 threads follow", "state T"}, {" frame 0", "state S"}},
	{NONE, {"2 threads follow", "state S"}, {" frame 0"}},
};

static char log_path[256];

static const char *dump(pid_t pid)
{
	static char text[65536];
	FILE *f;
	size_t n;

	ck_assert_int_eq(truncate(log_path, 0), 0);
	hangdump_log(pid);
	f = fopen(log_path, "r");
	ck_assert_ptr_nonnull(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	return text;
}

START_TEST(dumps)
{
	const char *text;
	pid_t pid;

	snprintf(log_path, sizeof(log_path), "%s/log", unit_tmpdir());
	ck_assert_int_eq(log_set_file(log_path), 0);
	pid = start_child(dump_rows[_i].how != NONE);
	if (dump_rows[_i].how == STOPPED)
		kill(pid, SIGSTOP);
	usleep(20000);
	text = dump(pid);
	for (int i = 0; i < 4 && dump_rows[_i].has[i]; i++)
		ck_assert_msg(strstr(text, dump_rows[_i].has[i]), "no '%s' in:\n%s",
			      dump_rows[_i].has[i], text);
	for (int i = 0; i < 4 && dump_rows[_i].has_not[i]; i++)
		ck_assert_msg(!strstr(text, dump_rows[_i].has_not[i]), "'%s' in:\n%s",
			      dump_rows[_i].has_not[i], text);
	end_child(pid);
}
END_TEST

/* No process: one line, no more. */
START_TEST(gone)
{
	snprintf(log_path, sizeof(log_path), "%s/log", unit_tmpdir());
	ck_assert_int_eq(log_set_file(log_path), 0);
	ck_assert_ptr_nonnull(strstr(dump(0x3ffffff), "0 threads follow"));
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("hangdump");
	TCase *tc = tcase_create("hangdump");

	tcase_add_loop_test(tc, maps_lines, 0, ROWS(maps_rows));
	tcase_add_loop_test(tc, addresses, 0, ROWS(name_rows));
	tcase_add_loop_test(tc, syscall_lines, 0, ROWS(syscall_rows));
	tcase_add_loop_test(tc, stat_lines, 0, ROWS(stat_rows));
	tcase_add_loop_test(tc, caught_lines, 0, ROWS(caught_rows));
	tcase_add_loop_test(tc, dumps, 0, ROWS(dump_rows));
	tcase_add_test(tc, gone);
	suite_add_tcase(s, tc);
	return s;
}
