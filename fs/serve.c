/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/serve.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "crypto/keyservice.h"
#include "fs/control.h"
#include "fs/exitcode.h"
#include "fs/heartbeat.h"
#include "fs/history.h"
#include "fs/keysctl.h"
#include "fs/mountpoint.h"
#include "fs/reload.h"
#include "fs/server.h"
#include "fs/status.h"
#include "util/caps.h"
#include "util/log.h"
#include "util/sysfilter.h"

void serve_harden(void)
{
	/* 1, not 0: a limit of 0 still lets a pipe handler in core_pattern have the dump. */
	const struct rlimit core = {1, 1};

	if (prctl(PR_SET_DUMPABLE, 0) < 0 || setrlimit(RLIMIT_CORE, &core) < 0)
		log_warn("core dumps could not be switched off: %s", strerror(errno));
}

/*
 * The keeper's side of starting helpers. When it is gone we do it ourselves, unless the filter of
 * system calls is in force, which would also be the helper's: then those that are there must do.
 */
struct spawner {
	int sock, keeper;     /* its pidfd */
	pthread_mutex_t lock; /* one exchange at a time */
};

static bool has_ended(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

static vcf_err_t ask_keeper(struct spawner *s, const struct keyservice_program *program,
			    int fds[3], pid_t *pid)
{
	struct control c = {
		.kind = CONTROL_SPAWN, .uid = program->uid, .gid = program->gid};
	vcf_err_t err;

	snprintf(c.path, sizeof(c.path), "%s", program->path);
	err = control_send(s->sock, &c, NULL, 0);
	if (!err)
		err = control_wait(s->sock, s->keeper);
	if (!err)
		err = control_recv(s->sock, &c, fds, 3);
	if (err)
		return err;
	if (c.kind != CONTROL_SPAWNED)
		return -EPROTO;
	if (c.value < 0)
		return c.value;
	*pid = c.value;
	return fds[0] < 0 || fds[1] < 0 || fds[2] < 0 ? -EPROTO : 0;
}

static vcf_err_t spawn_by_keeper(void *arg, const struct keyservice_program *program,
				 struct keyservice_ends *ends, pid_t *pid)
{
	struct spawner *s = arg;
	int fds[3];
	vcf_err_t err;

	pthread_mutex_lock(&s->lock);
	err = has_ended(s->keeper) ? -EPIPE : ask_keeper(s, program, fds, pid);
	pthread_mutex_unlock(&s->lock);
	if ((err == -EPIPE || err == -ECONNRESET) && !sysfilter_in_force())
		return keyservice_spawn(NULL, program, ends, pid);
	if (err)
		return err;
	*ends = (struct keyservice_ends){fds[0], fds[1], fds[2]};
	return 0;
}

static void reap_by_keeper(void *arg, pid_t pid)
{
	struct spawner *s = arg;
	struct control c = {.kind = CONTROL_REAP, .value = pid};

	pthread_mutex_lock(&s->lock);
	if (has_ended(s->keeper) || control_send(s->sock, &c, NULL, 0))
		keyservice_reap(NULL, pid);
	pthread_mutex_unlock(&s->lock);
}

static void tell_ready(void *arg)
{
	const struct serve_params *p = arg;
	struct control c = {.kind = CONTROL_READY};

	history_serves(p->session);
	if (control_send(p->handshake, &c, NULL, 0))
		log_warn("the keeper does not listen");
	if (!p->foreground)
		log_leave_terminal();
}

/* Where an earlier server has served, the mount is there. */
static vcf_err_t wait_mounted(const struct serve_params *p, int keeper_fd)
{
	struct control c = {.kind = CONTROL_PREPARED};
	vcf_err_t err;

	if (history_has_served(p->session))
		return 0;
	err = control_send(p->handshake, &c, NULL, 0);
	if (!err)
		err = control_wait(p->handshake, keeper_fd);
	if (!err)
		err = control_recv(p->handshake, &c, NULL, 0);
	return !err && c.kind != CONTROL_MOUNTED ? -ECANCELED : err;
}

static _Atomic bool stop_asked, leave_asked;
static struct server *_Atomic running;

/* SIGTERM comes from the keeper when it has waited long enough. */
static void on_term(int sig)
{
	struct server *sv = running;
	int saved = errno;

	(void)sig;
	stop_asked = true;
	if (sv)
		server_stop(sv);
	errno = saved;
}

static void on_leave(int sig)
{
	leave_asked = true;
	on_term(sig);
}

/* A refusal (plaintext below) is told apart from a missing right. */
static int refusal_code(vcf_err_t err)
{
	if (err == -EPERM)
		return EXIT_REFUSED;
	if (err == -ENOTCONN)
		return EXIT_KEYSERVICE;
	return err == -EINVAL ? EXIT_CONFIG : exit_code_of(err);
}

static vcf_err_t run(struct server *sv, const struct serve_params *p, int keeper_fd)
{
	struct status_socket *status = NULL;
	struct keysctl *keys = NULL;
	struct heartbeat *hb = NULL;
	struct reload_listener *reload = NULL;
	vcf_err_t err = wait_mounted(p, keeper_fd);

	if (!err)
		err = status_listen(&status, sv, p->session);
	if (!err)
		err = keysctl_listen(&keys, sv);
	if (!err)
		err = heartbeat_start(&hb, p->session, keeper_fd,
				      (unsigned int)p->cfg->heartbeat_s);
	if (!err)
		err = reload_listen(&reload, sv, p->source, p->handshake);
	if (!err)
		err = server_start(sv, tell_ready, (void *)(uintptr_t)p);
	running = sv;
	if (stop_asked || err)
		server_stop(sv);
	server_wait(sv);
	running = NULL;
	if (reload)
		reload_unlisten(reload);
	if (hb)
		heartbeat_stop(hb);
	if (keys)
		keysctl_close(keys);
	if (status)
		status_close(status);
	return err;
}

static void set_term_handler(void)
{
	const struct sigaction sa = {.sa_handler = on_term};
	const struct sigaction leave = {.sa_handler = on_leave};
	sigset_t hangup;

	sigaction(SIGTERM, &sa, NULL);
	sigaction(SERVE_LEAVE_SIGNAL, &leave, NULL);
	signal(SIGINT, SIG_IGN); /* a terminal's Ctrl-C is the keeper's business */
	signal(SIGHUP, SIG_DFL); /* blocked, for reload_listen() */
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&hangup);
	sigaddset(&hangup, SIGHUP);
	sigprocmask(SIG_SETMASK, &hangup, NULL);
}

/*
 * The keeper's pidfd; it may have died already, and its number been taken by another. Our own
 * number is noted before: should the keeper die without having done so, an anchor that takes its
 * place finds it there, or else we find here that it is dead. Never are there two servers.
 */
static int open_keeper(const struct serve_params *p)
{
	int fd;

	p->session->head->server_pid = getpid();
	fd = (int)syscall(SYS_pidfd_open, p->keeper_pid, 0);
	if (getppid() != p->keeper_pid)
		kill(getpid(), SIGKILL); /* as if it had died a moment earlier */
	return fd;
}

static int serve(const struct serve_params *p)
{
	auto_close int keeper_fd = open_keeper(p);
	struct spawner spawner = {.sock = p->helpers,
				  .keeper = keeper_fd,
				  .lock = PTHREAD_MUTEX_INITIALIZER};
	char journal[4096], site[4096];
	struct server_params sp = {
		.cfg = p->cfg,
		.rootfd = p->rootfd,
		.devfd = p->devfd,
		.session = p->session,
		.with_plaintext = p->with_plaintext,
		.journal_path = journal,
		.site_path = site,
		.spawn = spawn_by_keeper,
		.reap = reap_by_keeper,
		.spawn_arg = &spawner,
	};
	struct server *sv;
	vcf_err_t err = mountpoint_state(journal, sizeof(journal), p->cfg, "journal");

	set_term_handler();
	umask(0);
	if (!err)
		err = mountpoint_state(site, sizeof(site), p->cfg, "site");
	if (!err)
		err = server_new(&sv, &sp);
	if (err) {
		log_err("%s: %s",
			history_has_served(p->session) ? "cannot take over"
						       : "not mounted",
			err == -ENOTCONN ? "the key helper is missing or does not start"
					 : strerror(-err));
		return refusal_code(err);
	}
	sv->keeper_pid = p->keeper_pid;
	sv->config_path = p->source ? p->source->path : NULL;
	err = run(sv, p, keeper_fd);
	if (!err && sv->failed)
		err = -EIO;
	/* What was not ended by unmounting goes on: the session is the next one's. */
	if ((err || leave_asked) && history_has_served(p->session))
		_exit(err ? exit_code_of(err) : SERVE_LEFT);
	server_free(sv);
	return exit_code_of(err);
}

struct service {
	const struct serve_params *params;
	int code;
};

static void *serve_thread(void *arg)
{
	struct service *s = arg;

	s->code = serve(s->params);
	return NULL;
}

/* Before there are threads, which inherit what this one has. */
static vcf_err_t confine(void)
{
	vcf_err_t err;

	serve_harden();
	server_raise_limits();
	err = caps_keep(CAPS_SERVER);
	if (err)
		log_err("capabilities cannot be dropped: %s", strerror(-err));
	if (err)
		return err;
	err = sysfilter_server();
	if (err)
		log_err("seccomp: %s; [mount] seccomp = off goes without",
			strerror(-err));
	return err;
}

/*
 * In the clone. The C library takes its first thread for the keeper's, by its id: locks that
 * check their owner would not work there.
 */
static void __attribute__((noreturn)) serve_in_thread(const struct serve_params *p)
{
	struct service s = {.params = p, .code = EXIT_FAILED};
	pthread_t thread;
	int rc;

	if (confine())
		exit(s.code);
	rc = pthread_create(&thread, NULL, serve_thread, &s);
	if (rc)
		log_err("no thread: %s", strerror(rc));
	else
		pthread_join(thread, NULL);
	exit(s.code);
}

/* Sanitizers do not mind (gcc 12's and clang 14's find races and leaks in the clone). */
pid_t serve_start(const struct serve_params *p)
{
	long pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);

	if (pid == 0)
		serve_in_thread(p);
	return pid < 0 ? -errno : (pid_t)pid;
}
