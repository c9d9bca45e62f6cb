/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Starting and ending helper processes, and which programs may be helpers.
 *
 * Between fork and exec only async-signal-safe calls are made: all that the child needs
 * is prepared before. The child says why it could not execute over a pipe that a
 * successful exec closes.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "build-config.h"
#include "crypto/keycredentials.h"
#include "crypto/keyservice.h"
#include "util/caps.h"
#include "util/cleanup.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/sysfilter.h"

enum { ENV_MAX = 4, ENV_LEN = 4096, ZOMBIES_MAX = 64, SYMLINKS_MAX = 16, EXEC_MS = 5000 };
enum { HELPER_MEMLOCK = 16 * 1024 * 1024 };

struct environment {
	char text[ENV_MAX][ENV_LEN];
	char *list[ENV_MAX + 1];
};

/* What the child needs, made by the parent. */
struct launch {
	const struct keyservice_program *program;
	int in, out, err, report; /* the child's ends; err -1: our stderr */
	struct environment env;
};

static void add_value(struct environment *env, int *cnt, const char *name,
		      const char *value)
{
	int n;

	if (!value)
		return;
	n = snprintf(env->text[*cnt], ENV_LEN, "%s=%s", name, value);
	if (n >= ENV_LEN)
		return; /* none is better than half of one */
	env->list[*cnt] = env->text[*cnt];
	(*cnt)++;
}

static void add_env(struct environment *env, int *cnt, const char *name,
		    const char *fallback)
{
	const char *value = getenv(name);

	add_value(env, cnt, name, value ? value : fallback);
}

static void fill_env(struct environment *env)
{
	int cnt = 0;

	add_env(env, &cnt, "PATH",
		"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	add_env(env, &cnt, "LANG", NULL);
	add_env(env, &cnt, "CREDENTIALS_DIRECTORY", NULL);
	add_value(env, &cnt, SYSFILTER_VARIABLE, sysfilter_variable());
	env->list[cnt] = NULL;
}

/* Descriptors in the child: 0, 1, 2 and, until the exec, the report. */
static vcf_err_t child_descriptors(const struct launch *l, int *report)
{
	int in = fcntl(l->in, F_DUPFD_CLOEXEC, 3);
	int out = fcntl(l->out, F_DUPFD_CLOEXEC, 3);
	int err = l->err < 0 ? -1 : fcntl(l->err, F_DUPFD_CLOEXEC, 3);

	*report = fcntl(l->report, F_DUPFD_CLOEXEC, 3);
	if (in < 0 || out < 0 || *report < 0 || (l->err >= 0 && err < 0))
		return -errno;
	if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0)
		return -errno;
	if (err >= 0 && dup2(err, STDERR_FILENO) < 0)
		return -errno;
	if (fcntl(STDERR_FILENO, F_GETFD) < 0 && open("/dev/null", O_WRONLY) < 0)
		return -errno;
	if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		return -errno;
	return 0;
}

static void child_signals(void)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		sigaction(i, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static vcf_err_t child_limits(void)
{
	/* 1, not 0: a limit of 0 still lets a pipe in core_pattern have the secrets. */
	struct rlimit core = {1, 1};

	umask(077);
	return setsid() < 0 || setrlimit(RLIMIT_CORE, &core) < 0 ? -errno : 0;
}

/*
 * The helper locks its memory under its own user's limit, which a parent with the right to may
 * raise; one that has none needs little. It has no right to lock more than that.
 */
static void child_memlock(void)
{
	struct rlimit lock = {HELPER_MEMLOCK, HELPER_MEMLOCK};

	setrlimit(RLIMIT_MEMLOCK, &lock);
}

/* The bounding set goes while we may still take from it. */
static vcf_err_t child_user(const struct keyservice_program *p)
{
	bool same = p->uid == KEYSERVICE_SAME_USER;
	vcf_err_t err = 0;

	if (same)
		return caps_keep(CAPS_HELPER);
	if (p->leave_mounts)
		err = keycredentials_give(p->uid, p->gid, p->leave_mounts);
	if (err == -EPERM) /* a container: it will say itself what it cannot read */
		err = 0;
	if (!err)
		err = caps_bound(0);
	if (err)
		return err;
	if (setgroups(0, NULL) < 0 || setresgid(p->gid, p->gid, p->gid) < 0 ||
	    setresuid(p->uid, p->uid, p->uid) < 0)
		return -errno;
	return caps_keep(0);
}

static void __attribute__((noreturn)) child_main(const struct launch *l)
{
	int report = l->report;
	char *argv[] = {(char *)(uintptr_t)l->program->path, NULL};
	vcf_err_t err;

	child_signals();
	err = child_descriptors(l, &report);
	if (!err)
		err = child_limits();
	child_memlock();
	if (!err)
		err = child_user(l->program);
	if (!err) {
		execve(l->program->path, argv, l->env.list);
		err = -errno;
	}
	if (write(report, &err, sizeof(err)) < 0)
		_exit(126);
	_exit(127);
}

/* Forks with all signals blocked, so that none of our handlers runs in the child. */
static pid_t fork_quiet(const struct launch *l)
{
	sigset_t all, before;
	pid_t pid;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		child_main(l);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return pid < 0 ? -errno : pid;
}

/*
 * 0 once the child has executed its program. -ETIMEDOUT: its disk does not answer; who waits here
 * may be the keeper, which has servers to look after.
 */
static vcf_err_t wait_exec(int report)
{
	struct pollfd p = {.fd = report, .events = POLLIN};
	vcf_err_t err = 0;
	ssize_t n;
	int rc;

	do {
		rc = poll(&p, 1, EXEC_MS);
	} while (rc < 0 && errno == EINTR);
	if (rc <= 0)
		return rc ? -errno : -ETIMEDOUT;
	do {
		n = read(report, &err, sizeof(err));
	} while (n < 0 && errno == EINTR);
	return n == sizeof(err) ? err : 0;
}

static vcf_err_t make_pipe(int *rd, int *wr)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC) < 0)
		return -errno;
	*rd = fd[0];
	*wr = fd[1];
	return 0;
}

static vcf_err_t set_nonblock(int fd)
{
	return fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

/* Starts it and waits for the exec. The child's ends are the caller's to close. */
static vcf_err_t launch(struct launch *l, pid_t *pid)
{
	auto_close int rd = -1;
	auto_close int wr = -1;
	vcf_err_t err = make_pipe(&rd, &wr);

	if (err)
		return err;
	l->report = wr;
	fill_env(&l->env);
	*pid = fork_quiet(l);
	if (*pid < 0)
		return *pid;
	close(STEAL_FD(&wr));
	err = wait_exec(rd);
	if (err == -ETIMEDOUT) /* the keeper reaps it; elsewhere it stays a zombie */
		kill(*pid, SIGKILL);
	while (err && err != -ETIMEDOUT && waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
		;
	return err;
}

/*
 * The helper's end of its stderr blocks: it waits for the next server, if it has that much to say
 * while there is none. Its own user may open /dev/stderr again, as scripts do.
 */
static vcf_err_t make_stderr(const struct keyservice_program *program, int *rd, int *wr)
{
	vcf_err_t err;

	if (!program->log_stderr)
		return 0;
	err = make_pipe(rd, wr);
	if (!err && program->uid != KEYSERVICE_SAME_USER &&
	    fchown(*wr, program->uid, program->gid) < 0)
		log_dbg("%s: chown of its stderr: %s", program->path, strerror(errno));
	return err ? err : set_nonblock(*rd);
}

vcf_err_t keyservice_spawn(void *arg, const struct keyservice_program *program,
			   struct keyservice_ends *ends, pid_t *pid)
{
	auto_close int child_in = -1;
	auto_close int child_out = -1;
	auto_close int child_err = -1;
	auto_close int our_to = -1;
	auto_close int our_from = -1;
	auto_close int our_err = -1;
	auto_free struct launch *l = calloc(1, sizeof(*l));
	vcf_err_t err;

	if (!l)
		return -ENOMEM;
	err = make_pipe(&child_in, &our_to);
	if (!err)
		err = make_pipe(&our_from, &child_out);
	if (!err)
		err = make_stderr(program, &our_err, &child_err);
	if (!err)
		err = set_nonblock(our_to);
	if (!err)
		err = set_nonblock(our_from);
	if (err)
		return err;
	l->program = program;
	l->in = child_in;
	l->out = child_out;
	l->err = child_err;
	err = launch(l, pid);
	if (err)
		return err;
	ends->to = STEAL_FD(&our_to);
	ends->from = STEAL_FD(&our_from);
	ends->err = STEAL_FD(&our_err);
	return 0;
}

/* Killed ones that were not dead at once (in disk sleep): looked after at the next call,
 * for the caller's thread must not wait. */
static struct mutex zombie_lock = MUTEX_INIT(RANK_KEYSERVICE);
static pid_t zombies[ZOMBIES_MAX]; /* (l) 0: free */

static bool reaped(pid_t pid)
{
	return waitpid(pid, NULL, WNOHANG) != 0;
}

void keyservice_reap(void *arg, pid_t pid)
{
	SCOPED_LOCK(&zombie_lock);

	/* What it started itself is in its session and group. */
	kill(-pid, SIGKILL);
	kill(pid, SIGKILL);
	for (int i = 0; i < 20; i++) {
		if (reaped(pid)) {
			pid = 0;
			break;
		}
		usleep(500);
	}
	for (int i = 0; i < ZOMBIES_MAX; i++) {
		if (zombies[i] && reaped(zombies[i]))
			zombies[i] = 0;
		if (!zombies[i]) {
			zombies[i] = pid;
			pid = 0;
		}
	}
}

/* --- which programs may be helpers --- */

static vcf_err_t refuse(const char *path, const char *why)
{
	log_err("%s: %s; not used as a key helper", path, why);
	return -EPERM;
}

static bool ours(const struct stat *st)
{
	return st->st_uid == 0 || st->st_uid == geteuid();
}

/* Writable by somebody who is neither root nor us. */
static bool open_to_others(const struct stat *st)
{
	return st->st_mode & S_IWOTH || (st->st_mode & S_IWGRP && st->st_gid != 0);
}

static vcf_err_t check_folder(const char *path, const struct stat *st)
{
	if (!ours(st))
		return refuse(path, "belongs to another user");
	if (open_to_others(st) && !(st->st_mode & S_ISVTX))
		return refuse(path, "is writable by others");
	return 0;
}

static vcf_err_t check_file(const char *path, const struct stat *st)
{
	if (!S_ISREG(st->st_mode))
		return refuse(path, "is not a regular file");
	if (!ours(st))
		return refuse(path, "belongs to another user");
	if (open_to_others(st))
		return refuse(path, "is writable by others");
	if (access(path, X_OK) < 0)
		return refuse(path, "is not executable");
	return 0;
}

/* Puts a symlink's target, made absolute, and the rest of the path behind it into dst. */
static vcf_err_t follow(char dst[PATH_MAX], const char *link, const char *rest)
{
	char target[PATH_MAX];
	ssize_t len = readlink(link, target, sizeof(target) - 1);
	const char *slash = strrchr(link, '/');
	int n;

	if (len < 0)
		return -errno;
	target[len] = '\0';
	if (*target == '/')
		n = snprintf(dst, PATH_MAX, "%s%s", target, rest);
	else
		n = snprintf(dst, PATH_MAX, "%.*s/%s%s", (int)(slash - link), link,
			     target, rest);
	return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/*
 * Looks at one path from the root on, up to its first symlink: then *again is set and
 * next is the path to look at instead.
 */
static vcf_err_t walk(const char *path, char next[PATH_MAX], bool *again)
{
	char part[PATH_MAX] = "/";
	vcf_err_t err = 0;
	struct stat st;

	*again = false;
	for (size_t len = 1; !err; len += strcspn(path + len, "/")) {
		snprintf(part, sizeof(part), "%.*s", (int)len, path);
		if (lstat(part, &st) < 0)
			return -errno;
		if (S_ISLNK(st.st_mode)) {
			*again = true;
			return ours(&st) ? follow(next, part, path + len)
					 : refuse(part, "belongs to another user");
		}
		if (!path[len])
			return check_file(part, &st);
		err = check_folder(part, &st);
		len += len > 1; /* over the '/' */
	}
	return err;
}

vcf_err_t keyservice_check_program(const char *path)
{
	char now[PATH_MAX], next[PATH_MAX];
	bool again = true;
	vcf_err_t err = 0;

	if (*path != '/' || strlen(path) >= sizeof(now))
		return refuse(path, "is not an absolute path");
	snprintf(now, sizeof(now), "%s", path);
	for (int i = 0; again && !err; i++) {
		if (i > SYMLINKS_MAX)
			return refuse(path, "has too many symlinks");
		err = walk(now, next, &again);
		memcpy(now, next, sizeof(now));
	}
	if (err && err != -EPERM)
		log_err("%s: %s; not used as a key helper", path, strerror(-err));
	return err;
}

static bool name_valid(const char *name)
{
	size_t len = strnlen(name, TOKEN_SERVICE_MAX + 1);

	return len >= 1 && len <= TOKEN_SERVICE_MAX &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

static vcf_err_t own_folder(char *dst, size_t room)
{
	ssize_t len = readlink("/proc/self/exe", dst, room - 1);
	char *slash;

	if (len < 0)
		return -errno;
	dst[len] = '\0';
	slash = strrchr(dst, '/');
	if (!slash)
		return -ENOENT;
	*slash = '\0';
	return 0;
}

static vcf_err_t find_by_name(char *dst, size_t room, const char *name)
{
	static const char *const folders[] = {"", "/keys", "/../crypto/keys"};
	char own[PATH_MAX];
	vcf_err_t err = own_folder(own, sizeof(own));

	if (err)
		return err;
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		if ((size_t)snprintf(dst, room, "%s%s/vmcryptfs-key-%s", own, folders[i],
				     name) < room &&
		    access(dst, F_OK) == 0)
			return 0;
	}
	if ((size_t)snprintf(dst, room, VCF_HELPERDIR "/vmcryptfs-key-%s", name) >= room)
		return -ENAMETOOLONG;
	return 0;
}

vcf_err_t keyservice_find_program(char *dst, size_t room, const char *name)
{
	vcf_err_t err = 0;

	if (*name == '/') {
		if ((size_t)snprintf(dst, room, "%s", name) >= room)
			return -ENAMETOOLONG;
	} else if (name_valid(name)) {
		err = find_by_name(dst, room, name);
	} else {
		log_err("%s: a key helper's name has only a-z, 0-9 and '-'", name);
		return -EINVAL;
	}
	return err ? err : keyservice_check_program(dst);
}
