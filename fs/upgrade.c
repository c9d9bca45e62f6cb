/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "build-config.h"
#include "fs/anchor.h"
#include "fs/control.h"
#include "fs/ctlsock.h"
#include "fs/exitcode.h"
#include "fs/history.h"
#include "fs/keeper_impl.h"
#include "fs/loglevel.h"
#include "fs/mountpoint.h"
#include "fs/serve.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/sdnotify.h"

enum { PROBE_MS = 20000, DRAIN_MS = 5000, TRIAL_MS = 10000, PROBE_READS = 20 };

void upgrade_init(struct upgrade *u)
{
	*u = (struct upgrade){
		.listen_fd = -1, .client = -1, .program = -1, .probe_out = -1};
}

static void set_phase(struct upgrade *u, enum upgrade_phase phase, uint64_t limit_ms)
{
	u->phase = phase;
	u->deadline_ms = clock_now_ms() + limit_ms;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(STEAL_FD(fd));
}

/* The end of an upgrade, one way or the other. */
static void finish(struct keeper *k, int code, const char *text)
{
	struct upgrade *u = &k->upgrade;

	if (u->client >= 0)
		ctlsock_answer(STEAL_FD(&u->client), code, text);
	if (u->probe > 0)
		kill(u->probe, SIGKILL);
	u->probe = 0;
	close_fd(&u->program);
	close_fd(&u->probe_out);
	u->phase = UPGRADE_NONE;
}

/*
 * The socket
 */

static vcf_err_t find_path(struct keeper *k)
{
	char status[sizeof(k->upgrade.path)];
	vcf_err_t err =
		mountpoint_socket(status, sizeof(status), k->p->cfg->runtime_directory,
				  k->p->cfg->mountpoint);

	return err ? err : ctlsock_path(k->upgrade.path, sizeof(k->upgrade.path), status);
}

void upgrade_listen(struct keeper *k)
{
	vcf_err_t err = find_path(k);

	if (!err) {
		k->upgrade.listen_fd = ctlsock_listen(k->upgrade.path);
		err = k->upgrade.listen_fd < 0 ? k->upgrade.listen_fd : 0;
	}
	if (err)
		log_err("%s: the control socket cannot be made, there can be no upgrade: "
			"%s",
			k->upgrade.path, strerror(-err));
}

void upgrade_close(struct keeper *k)
{
	finish(k, EXIT_FAILED, "the mount has ended");
	if (k->upgrade.listen_fd < 0)
		return;
	unlink(k->upgrade.path);
	close_fd(&k->upgrade.listen_fd);
}

void upgrade_poll(const struct upgrade *u, struct pollfd p[UPGRADE_FDS])
{
	p[0] = (struct pollfd){.fd = u->listen_fd, .events = POLLIN};
	p[1] = (struct pollfd){.fd = u->probe_out, .events = POLLIN};
}

int upgrade_timeout_ms(const struct upgrade *u)
{
	uint64_t now = clock_now_ms();

	if (u->phase == UPGRADE_NONE || u->phase == UPGRADE_BACK)
		return -1;
	return u->deadline_ms > now ? (int)(u->deadline_ms - now) : 0;
}

/*
 * Executing a program
 */

static void add_settings(const struct config_source *src, char **argv, size_t *n)
{
	for (size_t i = 0; i < src->setting_cnt; i++) {
		argv[(*n)++] = (char *)(uintptr_t) "-o";
		argv[(*n)++] = (char *)(uintptr_t)src->settings[i];
	}
}

char **upgrade_arguments(const struct keeper_params *p, const struct session *s,
			 const char *command, bool back)
{
	const struct config_source *src = p->source;
	size_t n = 0, room = 16 + 2 * src->setting_cnt;
	size_t text_room = 64 + 2 * 4096 + 64;
	char **argv = calloc(1, room * sizeof(*argv) + text_room);
	char *text = (char *)(argv + room);
	char *backing = text + 64;
	char *mountpoint = backing + 4096 + 32;

	if (!argv)
		return NULL;
	snprintf(text, 64, "--session=%d", s->head->fds[SESSION_FD_TABLES]);
	snprintf(backing, 4096 + 32, "--backing=%s", p->cfg->backing);
	snprintf(mountpoint, 4096 + 32, "--mountpoint=%s", p->cfg->mountpoint);
	argv[n++] = (char *)(uintptr_t) "vmcryptfs";
	argv[n++] = (char *)(uintptr_t)command;
	argv[n++] = text;
	argv[n++] = backing;
	argv[n++] = mountpoint;
	if (back)
		argv[n++] = (char *)(uintptr_t) "--back";
	if (p->foreground)
		argv[n++] = (char *)(uintptr_t) "-f";
	if (p->with_plaintext)
		argv[n++] = (char *)(uintptr_t) "--with-plaintext";
	add_settings(src, argv, &n);
	argv[n++] = (char *)(uintptr_t) "--";
	argv[n++] = src->path ? src->path : src->backing;
	if (!src->path)
		argv[n++] = src->mountpoint;
	return argv;
}

static void keep_fd(void *arg, int fd)
{
	(void)arg;
	if (fd >= 0)
		fcntl(fd, F_SETFD, 0);
}

static void drop_fd(void *arg, int fd)
{
	(void)arg;
	if (fd >= 0)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
}

vcf_err_t upgrade_execute(struct session *s, int program, char *const argv[])
{
	vcf_err_t err;

	for (int i = KEEPER_FD_OTHERS; i < SESSION_KEEPER_FDS_MAX; i++)
		s->head->keeper_fds[i] = -1;
	session_each_fd(s, keep_fd, NULL);
	sdnotify_export();
	execveat(program, "", argv, environ, AT_EMPTY_PATH);
	err = -errno;
	sdnotify_hide();
	session_each_fd(s, drop_fd, NULL);
	return err;
}

/*
 * PROBING
 */

/*
 * Why it is not executed, or NULL. A program that lies in a mount of ours would wait for the server
 * that it replaces; without DONT_SYNC even the question would.
 */
static const char *program_fault(int fd)
{
	const int flags = AT_EMPTY_PATH | AT_STATX_DONT_SYNC;
	struct statx st;

	if (fd < 0 || statx(fd, "", flags, STATX_BASIC_STATS, &st) < 0)
		return "there is no program";
	if (mountpoint_is_our_device(st.stx_dev_major, st.stx_dev_minor))
		return "the program must not lie in a mount of vmcryptfs";
	if (!S_ISREG(st.stx_mode) || (st.stx_uid != 0 && st.stx_uid != geteuid()) ||
	    st.stx_mode & (S_IWGRP | S_IWOTH))
		return "the program must be a file of root's or the daemon's own user, "
		       "and writable by nobody else";
	return NULL;
}

/* In a child of fork(2), which has a table of its own. */
static void __attribute__((noreturn)) run_probe(const struct keeper *k, int out)
{
	char **argv = upgrade_arguments(k->p, k->session, "upgrade-probe", false);
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (!argv || dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0 ||
	    fcntl(k->session->head->fds[SESSION_FD_TABLES], F_SETFD, 0) < 0)
		_exit(EXIT_FAILED);
	execveat(k->upgrade.program, "", argv, environ, AT_EMPTY_PATH);
	dprintf(STDERR_FILENO, "it cannot be executed: %s\n", strerror(errno));
	_exit(EXIT_FAILED);
}

static vcf_err_t start_probe(struct keeper *k)
{
	struct upgrade *u = &k->upgrade;
	int out[2];

	if (pipe2(out, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	u->probe = fork();
	if (u->probe == 0)
		run_probe(k, out[1]);
	close(out[1]);
	u->probe_out = out[0];
	u->text_len = 0;
	u->text[0] = '\0';
	return u->probe < 0 ? -errno : 0;
}

/* Not more at once than a pipe holds: it may be a program that writes for ever. */
static void read_probe(struct upgrade *u)
{
	char spill[4096];
	ssize_t n = 0;

	for (int i = 0; i < PROBE_READS; i++) {
		size_t room = sizeof(u->text) - 1 - u->text_len;

		n = room ? read(u->probe_out, u->text + u->text_len, room)
			 : read(u->probe_out, spill, sizeof(spill));
		if (n <= 0)
			break;
		if (room)
			u->text_len += (size_t)n;
	}
	u->text[u->text_len] = '\0';
	for (char *p = u->text; (p = strchr(p, '\n')); p++)
		*p = p[1] ? ';' : '\0';
	if (n == 0 || (n < 0 && errno != EAGAIN))
		close_fd(&u->probe_out);
}

/* Why there can be no upgrade just now, or NULL. */
static const char *obstacle(const struct keeper *k)
{
	if (k->upgrade.phase != UPGRADE_NONE)
		return "another upgrade is under way";
	if (k->state != SERVING)
		return "the mount is about to end";
	return k->ready_ms && k->server ? NULL : "no server is at work just now";
}

static void reply(int client, int *fd, int code, const char *text)
{
	close_fd(fd);
	ctlsock_answer(client, code, text);
}

/* The session's flag: also servers to come refuse new images. */
static void on_drain(struct keeper *k, int client, int *fd, bool draining)
{
	k->session->head->draining = draining;
	log_info("%s: %s", k->p->cfg->mountpoint,
		 draining ? "draining: no image is opened that nobody uses"
			  : "no longer draining");
	reply(client, fd, EXIT_OK, "");
}

static void on_request(struct keeper *k)
{
	struct upgrade *u = &k->upgrade;
	struct control c;
	int fd = -1;
	int client = ctlsock_accept(u->listen_fd, &c, &fd);
	const char *fault;
	vcf_err_t err;

	if (client < 0)
		return;
	if (c.kind == CONTROL_LOG_LEVEL) {
		int code = loglevel_set(k->session, c.value, c.path, sizeof(c.path));

		return reply(client, &fd, code, c.path);
	}
	if (c.kind == CONTROL_DRAIN)
		return on_drain(k, client, &fd, c.value != 0);
	if (c.kind != CONTROL_UPGRADE)
		return reply(client, &fd, EXIT_USAGE, "the daemon does not know that");
	if (obstacle(k))
		return reply(client, &fd, EXIT_BUSY, obstacle(k));
	fault = program_fault(fd);
	if (fault)
		return reply(client, &fd, EXIT_REFUSED, fault);
	u->client = client;
	u->program = fd;
	log_info("upgrade to %s asked for", c.path);
	set_phase(u, UPGRADE_PROBING, PROBE_MS);
	err = start_probe(k);
	if (err)
		finish(k, EXIT_FAILED, strerror(-err));
}

void upgrade_on_events(struct keeper *k, const struct pollfd p[UPGRADE_FDS])
{
	if (p[1].revents && k->upgrade.probe_out >= 0)
		read_probe(&k->upgrade);
	if (p[0].revents)
		on_request(k);
}

/*
 * DRAINING
 */

static void drain(struct keeper *k)
{
	set_phase(&k->upgrade, UPGRADE_DRAINING, DRAIN_MS);
	kill(k->server, SERVE_LEAVE_SIGNAL);
}

/* Warnings may stand before the words. */
static bool has_passed(const struct upgrade *u, int status)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_OK &&
	       strstr(u->text, UPGRADE_PROBE_WORDS);
}

/*
 * The new program reads the configuration itself, and who takes over does not compare rules with
 * existing files: that is a reload's work, which may also refuse.
 */
static const char *stale_config(const struct keeper *k)
{
	vcf_err_t err = config_is_current(k->p->cfg, k->p->source);

	if (!err)
		return NULL;
	if (err == -EAGAIN)
		return "the configuration has changed since the daemon read it: reload "
		       "it first (SIGHUP), or undo the change";
	return "the configuration cannot be read any more: see the daemon's log";
}

static void on_probe_end(struct keeper *k, int status)
{
	struct upgrade *u = &k->upgrade;
	int code = EXIT_REFUSED;
	const char *why;

	u->probe = 0;
	if (u->phase != UPGRADE_PROBING)
		return;
	if (u->probe_out >= 0)
		read_probe(u);
	why = obstacle(&(struct keeper){
		.state = k->state, .ready_ms = k->ready_ms, .server = k->server});
	if (why)
		code = EXIT_BUSY;
	else if (has_passed(u, status))
		why = stale_config(k);
	else
		why = *u->text && !has_passed(u, 0)
			      ? u->text
			      : "it is not a vmcryptfs that can take over";
	if (!why)
		return drain(k);
	log_info("no upgrade: %s", why);
	finish(k, code, why);
}

bool upgrade_on_child(struct keeper *k, pid_t pid, int status)
{
	if (pid != k->upgrade.probe)
		return false;
	on_probe_end(k, status);
	return true;
}

void upgrade_on_time(struct keeper *k)
{
	struct upgrade *u = &k->upgrade;

	if (upgrade_timeout_ms(u) != 0)
		return;
	if (u->phase == UPGRADE_PROBING && u->probe > 0) {
		kill(u->probe, SIGKILL);
	} else if (k->server) {
		log_info(u->phase == UPGRADE_DRAINING
				 ? "requests take long: the server is ended"
				 : "the new program does not serve: it is ended");
		kill(k->server, SIGKILL);
	}
	u->deadline_ms = clock_now_ms() + DRAIN_MS; /* not again at once */
}

void upgrade_cancel(struct keeper *k)
{
	if (k->upgrade.phase == UPGRADE_PROBING || k->upgrade.phase == UPGRADE_DRAINING)
		finish(k, EXIT_BUSY, "the mount is about to end");
}

/*
 * The change
 */

/* The anchor goes on here as the keeper, with the old program. */
static void be_keeper(struct keeper *k)
{
	k->session->head->keeper_pid = getpid();
	k->session->head->server_pid = 0;
	memset(&k->helpers, 0, sizeof(k->helpers));
	k->unmounter = 0;
	keeper_recall_stop(k);
	k->pinned = true; /* since it is the anchor */
	keeper_notify_moved();
	session_each_fd(k->session, drop_fd, NULL);
	keeper_clear_up(k);
	log_err("%s: the new program's keeper ended: the old program goes on, as process "
		"%d",
		k->p->cfg->mountpoint, (int)getpid());
	finish(k, EXIT_FAILED, "the new program ended: the old one goes on");
}

static void change(struct keeper *k)
{
	char **argv = upgrade_arguments(k->p, k->session, "mount", false);
	pid_t anchor = argv ? anchor_start(k->session) : -ENOMEM;
	vcf_err_t err = anchor < 0 ? anchor : 0;

	if (anchor == 0) {
		be_keeper(k);
	} else if (!err) {
		err = upgrade_execute(k->session, k->upgrade.program, argv);
		kill(anchor, SIGKILL);
	}
	free(argv);
	if (!err)
		return;
	log_err("no upgrade: the program cannot be executed: %s", strerror(-err));
	finish(k, EXIT_FAILED, strerror(-err));
}

static void go_back(struct keeper *k)
{
	char **argv = upgrade_arguments(k->p, k->session, "mount", true);
	vcf_err_t err = -ENOMEM;

	log_err("%s: this program does not serve: back to the one before",
		k->p->cfg->mountpoint);
	if (argv)
		err = upgrade_execute(k->session,
				      k->session->head->fds[SESSION_FD_PROGRAM], argv);
	free(argv);
	log_err("the program before cannot be executed: %s", strerror(-err));
	finish(k, EXIT_FAILED, "neither the new program nor the old one serves");
}

/* A kill from outside says nothing of the program: it has its time. */
static bool has_failed(const struct upgrade *u, int status)
{
	return WIFEXITED(status) || WTERMSIG(status) != SIGKILL ||
	       clock_now_ms() >= u->deadline_ms;
}

bool upgrade_on_server_end(struct keeper *k, int status)
{
	struct upgrade *u = &k->upgrade;

	if (keeper_connection_gone(k))
		return false;
	if (u->phase == UPGRADE_DRAINING) {
		history_stalls(k->session);
		helpers_drop(&k->helpers, k->session);
		keeper_clear_up(k);
		change(k);
		return true;
	}
	if (u->phase != UPGRADE_TRIAL || !has_failed(u, status))
		return false;
	helpers_drop(&k->helpers, k->session);
	keeper_clear_up(k);
	go_back(k);
	return true;
}

/*
 * After it
 */

void upgrade_resume(struct keeper *k, bool back)
{
	struct upgrade *u = &k->upgrade;
	const int *named = k->session->head->keeper_fds;

	u->listen_fd = named[KEEPER_FD_LISTEN];
	u->client = named[KEEPER_FD_CLIENT];
	session_each_fd(k->session, drop_fd, NULL);
	if (find_path(k))
		log_dbg("the control socket's path is too long");
	if (back) {
		set_phase(u, UPGRADE_BACK, 0);
		return;
	}
	u->program = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	set_phase(u, UPGRADE_TRIAL, TRIAL_MS);
}

static void succeed(struct keeper *k)
{
	struct session_head *h = k->session->head;
	char text[128];

	if (h->fds[SESSION_FD_PROGRAM] >= 0)
		close(h->fds[SESSION_FD_PROGRAM]);
	h->fds[SESSION_FD_PROGRAM] = STEAL_FD(&k->upgrade.program);
	h->upgrades++;
	snprintf(text, sizeof(text), "vmcryptfs %s serves, generation %u", VCF_VERSION,
		 h->generation);
	log_info("upgraded: %s", text);
	finish(k, EXIT_OK, text);
}

void upgrade_on_ready(struct keeper *k)
{
	if (k->upgrade.phase == UPGRADE_TRIAL)
		succeed(k);
	else if (k->upgrade.phase == UPGRADE_BACK)
		finish(k, EXIT_FAILED,
		       "the new program did not serve: the old one goes on");
}
