/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The filters and the fence, each in a child that makes one call: its exit code is the call's errno.
 * What programs need of them the functional tests show.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "build-config.h"
#include "tests/unit/unit.h"
#include "util/fence.h"
#include "util/sysfilter.h"
#include "util/sysfilter_calls.h"

enum who { KEEPER, SERVER, LOCAL_HELPER, NET_HELPER };
enum { KILLED = -1 };

static long do_unshare(void)
{
	return unshare(0);
}

static long do_ptrace(void)
{
	return syscall(SYS_ptrace, -1, 0, 0, 0);
}

static long do_fork(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	return pid;
}

static long do_exec(void)
{
	char *none[] = {NULL};

	return execve("/nowhere", none, none);
}

static long do_inet(void)
{
	return socket(AF_INET, SOCK_STREAM, 0);
}

static long do_unix(void)
{
	return socket(AF_UNIX, SOCK_STREAM, 0);
}

static long do_alg(void)
{
	return socket(AF_ALG, SOCK_SEQPACKET, 0);
}

static long do_kill(void)
{
	return kill(getppid(), 0);
}

static long do_own_kill(void)
{
	return kill(getpid(), 0);
}

static long do_ioctl(void)
{
	return ioctl(STDIN_FILENO, TIOCSTI, "");
}

static long do_prctl(void)
{
	return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static long do_pread(void)
{
	char c;

	return pread(-1, &c, 1, 0);
}

static const struct {
	enum who who;
	long (*call)(void);
	int want; /* errno, 0, or KILLED */
} rows[] = {
	{KEEPER, do_unshare, 0},
	{KEEPER, do_ptrace, EPERM},
	{KEEPER, do_exec, ENOENT},
	{KEEPER, do_inet, 0},
	{KEEPER, do_kill, 0},
	{KEEPER, do_fork, 0},
	{SERVER, do_pread, EBADF},
	{SERVER, do_unshare, KILLED},
	{SERVER, do_ptrace, KILLED},
	{SERVER, do_fork, KILLED},
	{SERVER, do_exec, KILLED},
	{SERVER, do_inet, EAFNOSUPPORT},
	{SERVER, do_alg, EAFNOSUPPORT},
	{SERVER, do_unix, 0},
	{SERVER, do_kill, VCF_CRASH_POINTS ? 0 : EPERM},
	{SERVER, do_own_kill, 0},
	{LOCAL_HELPER, do_inet, EAFNOSUPPORT},
	{LOCAL_HELPER, do_unix, EAFNOSUPPORT},
	{LOCAL_HELPER, do_exec, KILLED},
	{LOCAL_HELPER, do_ioctl, ENOTTY},
	{LOCAL_HELPER, do_prctl, EINVAL},
	{LOCAL_HELPER, do_kill, VCF_CRASH_POINTS ? 0 : EPERM},
	{NET_HELPER, do_inet, 0},
	{NET_HELPER, do_unix, 0},
	{NET_HELPER, do_alg, EAFNOSUPPORT},
	{NET_HELPER, do_fork, KILLED},
	{NET_HELPER, do_unshare, KILLED},
};

static vcf_err_t filter(enum who who)
{
	if (who == KEEPER)
		return sysfilter_keeper();
	if (who == SERVER)
		return sysfilter_server();
	return sysfilter_helper(who == NET_HELPER);
}

/* The child's end: an exit code, or KILLED by SIGSYS. */
static int end_of(pid_t pid)
{
	int status;

	ck_assert_int_gt(pid, 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	ck_assert_int_eq(WTERMSIG(status), SIGSYS);
	return KILLED;
}

static void quiet(void)
{
	int fd = open("/dev/null", O_RDWR);

	dup2(fd, STDERR_FILENO);
}

START_TEST(calls)
{
	pid_t pid;

	if (sysfilter_is_off())
		return; /* a sanitizer's build */
	pid = fork();
	if (pid == 0) {
		quiet();
		if (filter(rows[_i].who))
			_exit(255);
		errno = 0;
		_exit(rows[_i].call() < 0 ? errno : 0);
	}
	ck_assert_msg(end_of(pid) == rows[_i].want, "row %d", _i);
}
END_TEST

START_TEST(modes)
{
	static const struct {
		const char *word;
		enum sysfilter_mode mode;
		const char *said;
	} words[] = {{NULL, SYSFILTER_KILL, NULL},
		     {"kill", SYSFILTER_KILL, NULL},
		     {"log", SYSFILTER_LOG, "log"},
		     {"off", SYSFILTER_OFF, "off"},
		     {"none", SYSFILTER_KILL, NULL}};

	for (int i = 0; i < ROWS(words); i++) {
		if (words[i].word)
			setenv(SYSFILTER_VARIABLE, words[i].word, 1);
		sysfilter_take_mode();
		ck_assert_pstr_eq(sysfilter_variable(), words[i].said);
		unsetenv(SYSFILTER_VARIABLE);
	}
	sysfilter_set_mode(SYSFILTER_OFF);
	ck_assert(sysfilter_is_off());
	ck_assert_int_eq(sysfilter_server(), 0);
	ck_assert_int_eq(unshare(0), 0);
	sysfilter_set_mode(SYSFILTER_KILL);
}
END_TEST

START_TEST(log_goes_on)
{
	pid_t pid;

	if (sysfilter_is_off())
		return;
	pid = fork();
	if (pid == 0) {
		sysfilter_set_mode(SYSFILTER_LOG);
		_exit(sysfilter_server() || sysfilter_in_force() ? 255
								 : do_unshare() < 0);
	}
	ck_assert_int_eq(end_of(pid), 0);
}
END_TEST

/* A name that is misspelt would be skipped in silence. */
START_TEST(names)
{
	const char *const *const lists[] = {calls_common, calls_server, calls_refused};

	for (int i = 0; i < ROWS(lists); i++) {
		for (const char *const *p = lists[i]; *p; p++)
			ck_assert_msg(seccomp_syscall_resolve_name(*p) != __NR_SCMP_ERROR,
				      "%s", *p);
	}
}
END_TEST

START_TEST(descriptions)
{
	siginfo_t si = {.si_signo = SIGSYS, .si_code = 1};
	char text[SYSFILTER_TEXT_MAX];

	si.si_syscall = 100000;
	ck_assert(sysfilter_describe(text, &si));
	ck_assert_str_eq(text, "system call 100000 (unknown) is refused (seccomp)");
	si.si_code = SI_USER;
	ck_assert(!sysfilter_describe(text, &si));
	si.si_signo = SIGSEGV;
	si.si_code = 1;
	ck_assert(!sysfilter_describe(text, &si));
}
END_TEST

/*
 * The fence
 */

static char inside[256], outside[256];

static int open_error(const char *path, int flags)
{
	return open(path, flags | O_CLOEXEC, 0600) < 0 ? errno : 0;
}

static const struct {
	enum fence_right right;
	const char *where; /* below the test's folder */
	int flags, want;
} fence_rows[] = {
	{FENCE_READ, "in/file", O_RDONLY, 0},
	{FENCE_READ, "in/file", O_WRONLY, EACCES},
	{FENCE_READ, "in/new", O_WRONLY | O_CREAT, EACCES},
	{FENCE_READ, "in", O_RDONLY | O_DIRECTORY, 0},
	{FENCE_READ, "out/file", O_RDONLY, EACCES},
	{FENCE_READ, "out", O_RDONLY | O_DIRECTORY, EACCES},
	{FENCE_WRITE, "in/file", O_RDWR | O_TRUNC, 0},
	{FENCE_WRITE, "in/new", O_WRONLY | O_CREAT, 0},
	{FENCE_WRITE, "out/file", O_RDWR, EACCES},
	{FENCE_WRITE, "out/new", O_WRONLY | O_CREAT, EACCES},
};

static int behind_fence(enum fence_right right, const char *path, int flags)
{
	struct fence *f;

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (fence_new(&f, false))
		return 255;
	fence_allow(f, right, inside);
	fence_allow(f, right, "/no/such/path");
	return fence_close(f) ? 255 : open_error(path, flags);
}

START_TEST(fenced)
{
	char path[512];
	pid_t pid;

	if (!fence_available())
		return;
	snprintf(path, sizeof(path), "%s/%s", unit_tmpdir(), fence_rows[_i].where);
	pid = fork();
	if (pid == 0)
		_exit(behind_fence(fence_rows[_i].right, path, fence_rows[_i].flags));
	ck_assert_msg(end_of(pid) == fence_rows[_i].want, "row %d", _i);
}
END_TEST

/* The folder of a symbolic link's target as well. */
START_TEST(near)
{
	char link[512], target[512];
	struct fence *f;
	pid_t pid;

	if (!fence_available())
		return;
	snprintf(link, sizeof(link), "%s/link", inside);
	snprintf(target, sizeof(target), "%s/file", outside);
	ck_assert_int_eq(symlink(target, link), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		if (fence_new(&f, true))
			_exit(255);
		fence_allow_near(f, link);
		fence_allow_near(f, "");
		_exit(fence_close(f) || open_error(link, O_RDONLY) ||
		      open_error("/etc/passwd", O_RDONLY) != EACCES);
	}
	ck_assert_int_eq(end_of(pid), 0);
	unlink(link);
}
END_TEST

static void make_folders(void)
{
	const char *folders[] = {"in", "out"};
	char *paths[] = {inside, outside};
	char file[512];

	for (int i = 0; i < 2; i++) {
		snprintf(paths[i], sizeof(inside), "%s/%s", unit_tmpdir(), folders[i]);
		ck_assert_int_eq(mkdir(paths[i], 0700), 0);
		snprintf(file, sizeof(file), "%s/file", paths[i]);
		ck_assert_int_ge(open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600), 0);
	}
}

Suite *unit_suite(void)
{
	Suite *s = suite_create("sysfilter");
	TCase *t = tcase_create("sysfilter");
	TCase *f = tcase_create("fence");

	tcase_add_loop_test(t, calls, 0, ROWS(rows));
	tcase_add_test(t, modes);
	tcase_add_test(t, log_goes_on);
	tcase_add_test(t, names);
	tcase_add_test(t, descriptions);
	suite_add_tcase(s, t);
	tcase_add_unchecked_fixture(f, make_folders, NULL);
	tcase_add_loop_test(f, fenced, 0, ROWS(fence_rows));
	tcase_add_test(f, near);
	suite_add_tcase(s, f);
	return s;
}
