/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Life of a mount, seen from here:
 *
 *   STARTING  the server checks (tree, helper, memory, journal)      --PREPARED--> mount(2)
 *   MOUNTED   the kernel's FUSE_INIT is on its way                    --READY-->    the caller may go
 *   SERVING   until the mount is gone, the server ends, or a signal
 *   STOPPING  SIGTERM/SIGINT: unmounted, or detached where busy; the server ends when the last
 *             file is closed, or is told to after STOP_GRACE_S
 *
 * A server that dies once it has served is replaced: the next generation begins with READY. The
 * mount stays meanwhile, and requests wait for it. Only one that ends by itself with 0, or that
 * was killed because it did not stop in time, ends the mount; one that was asked to leave is
 * replaced, also where the upgrade it left for has been cancelled.
 *
 * The server is a clone that shares our table of descriptors (CLONE_FILES) and nothing else: what
 * it has open survives it. So nobody closes what the other needs, no end of file tells of a
 * peer's death (pidfds and SIGCHLD do), and whatever is to outlive a server is named in the
 * session: the rest is closed before the next one starts.
 */
#include "fs/keeper.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fs/control.h"
#include "fs/exitcode.h"
#include "fs/hangdump.h"
#include "fs/history.h"
#include "fs/holders.h"
#include "fs/keeper_impl.h"
#include "fs/mountpoint.h"
#include "fs/serve.h"
#include "util/caps.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/sysfilter.h"

enum {
	STOP_GRACE_MS = 10000,
	KILL_GRACE_MS = 30000,
	STOP_TICK_MS = 200,
	HANG_TICK_MS = 5000,
	HANG_START_MS = 30000,
	READ_AHEAD_KIB =
		1024, /* of one buffered reader: one request of the largest size */
};

static void tell_caller(struct keeper *k, int code)
{
	unsigned char byte = (unsigned char)code;

	if (k->ready_fd < 0)
		return;
	if (write(k->ready_fd, &byte, 1) < 0)
		log_dbg("the caller of mount is gone");
	close(k->ready_fd);
	k->ready_fd = -1;
}

static void answer_prepared(struct keeper *k, uint32_t kind)
{
	struct control c = {.kind = kind};

	if (control_send(k->handshake[0], &c, NULL, 0))
		log_dbg("the server is gone");
}

static void do_mount(struct keeper *k)
{
	vcf_err_t err =
		mountpoint_mount(k->p->cfg, k->session->head->fds[SESSION_FD_DEVICE]);

	if (err) {
		log_err("%s: mount: %s", k->p->cfg->mountpoint, strerror(-err));
		tell_caller(k, err == -EPERM ? EXIT_PERMISSION : EXIT_FAILED);
	} else {
		k->state = MOUNTED;
		k->session->head->mounted_at = time(NULL);
	}
	answer_prepared(k, err ? 0 : CONTROL_MOUNTED);
}

/* Asked again of each generation until one has answered. */
static void ask_reload(struct keeper *k)
{
	k->reload_asked = true;
	if (k->server && k->ready_ms)
		kill(k->server, SIGHUP);
}

/* Our own log is re-opened at once; whether the rest applies is the server's to judge. */
static void on_hangup(struct keeper *k)
{
	if (config_apply_log(k->p->cfg))
		log_dbg("lines still go to the old file"); /* it was logged why */
	keeper_notify_reload(k);
	ask_reload(k);
}

/*
 * Servers to come are made from our memory, so it has to be what this one uses: if the file has
 * changed again meanwhile, it is read once more by both.
 */
static void on_reloaded(struct keeper *k, const struct control *c)
{
	vcf_err_t err;

	k->reload_asked = false;
	if (c->value) {
		keeper_notify_reloaded(k, false);
		return;
	}
	err = config_follow(k->p->cfg, k->p->source, c->digest);
	if (err == -EAGAIN) {
		ask_reload(k);
		return;
	}
	keeper_notify_reloaded(k, !err);
	if (err)
		log_warn("the configuration changed while it was reloaded (%s): the next "
			 "server would use the old one; reload again",
			 strerror(-err));
}

static void on_ready(struct keeper *k)
{
	k->ready_ms = clock_now_ms();
	keeper_pin_keys(k);
	if (k->reload_asked)
		ask_reload(k);
	upgrade_on_ready(k);
	/* SIGHUP may have come just before: the program before said that it reloads, this one did. */
	if (k->resumed && !k->reload_asked)
		keeper_notify_ready(k);
	k->resumed = false;
	if (k->state != MOUNTED)
		return;
	k->state = SERVING;
	upgrade_listen(k);
	mountpoint_read_ahead(k->p->cfg->mountpoint, READ_AHEAD_KIB);
	keeper_notify_ready(k);
	log_info("%s mounted on %s", k->p->cfg->backing, k->p->cfg->mountpoint);
	tell_caller(k, EXIT_OK);
	if (!k->p->foreground)
		log_leave_terminal();
}

static void on_handshake(struct keeper *k)
{
	struct control c;

	if (control_recv(k->handshake[0], &c, NULL, 0))
		return;
	if (c.kind == CONTROL_PREPARED && k->state == STARTING)
		do_mount(k);
	else if (c.kind == CONTROL_PREPARED)
		answer_prepared(
			k, 0); /* a signal came first: the server waits for an answer */
	else if (c.kind == CONTROL_READY && !k->ready_ms)
		on_ready(k);
	else if (c.kind == CONTROL_RELOADED)
		on_reloaded(k, &c);
}

/*
 * A server has died
 */

/* The kernel has ended the connection: unmounted, or aborted by root. */
bool keeper_connection_gone(const struct keeper *k)
{
	struct pollfd p = {.fd = k->session->head->fds[SESSION_FD_DEVICE]};

	return poll(&p, 1, 0) > 0 && p.revents & (POLLERR | POLLNVAL);
}

static bool is_final(struct keeper *k, int status)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	if (k->killed || !history_has_served(k->session))
		return true;
	k->gone = keeper_connection_gone(k);
	return k->gone;
}

/* It made room for a successor: no death. */
static bool has_left(int status)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == SERVE_LEFT;
}

static void note_end(struct keeper *k, pid_t pid, int status)
{
	uint32_t generation = k->session->head->generation;
	unsigned int cnt = session_in_flight(k->session);
	bool killed = WIFSIGNALED(status);

	if (has_left(status)) {
		history_stalls(k->session);
		return;
	}
	history_died(k->session, killed ? (uint32_t)WTERMSIG(status) : 0, cnt);
	log_err("the server (pid %d, generation %u) %s %d with %u requests in flight; "
		"generation %u takes over",
		(int)pid, generation, killed ? "was killed by signal" : "ended with code",
		killed ? WTERMSIG(status) : WEXITSTATUS(status), cnt, generation + 1);
}

/* READY and RELOADED may still lie in the socket. */
static void last_words(struct keeper *k)
{
	struct pollfd p = {.fd = k->handshake[0], .events = POLLIN};

	while (k->state != STARTING && poll(&p, 1, 0) > 0 && p.revents & POLLIN)
		on_handshake(k);
}

static void on_server_end(struct keeper *k, pid_t pid, int status)
{
	uint64_t now = clock_now_ms();
	int64_t served_ms = -1;

	last_words(k);
	k->server = 0;
	k->session->head->server_pid = 0;
	if (upgrade_on_server_end(k, status))
		return;
	if (is_final(k, status)) {
		k->server_status = has_left(status) ? 0 : status;
		k->ended = true;
		if (WIFSIGNALED(status))
			log_err("the server (pid %d) was killed by signal %d", (int)pid,
				WTERMSIG(status));
		return;
	}
	note_end(k, pid, status);
	if (k->ready_ms)
		served_ms = (int64_t)(now - k->ready_ms);
	k->restart_ms = now;
	if (!has_left(status))
		k->restart_ms += restart_pause_ms(&k->restart, status, served_ms);
	keeper_clear_up(k);
}

static void restart_server(struct keeper *k)
{
	vcf_err_t err;

	if (keeper_connection_gone(k)) {
		k->gone = k->ended = true;
		return;
	}
	if (clock_now_ms() < k->restart_ms)
		return;
	err = keeper_start_server(k);
	if (!err)
		return;
	log_err("the server cannot be started: %s", strerror(-err));
	k->restart_ms = clock_now_ms() + RESTART_PAUSE_MAX_MS;
}

/*
 * The end of the mount
 */

/* In a child: all but the log goes, the device above all. */
static void close_fds(void)
{
	int log = log_file_fd();

	if (log > 3)
		close_range(3, (unsigned int)log - 1, 0);
	close_range(log >= 3 ? (unsigned int)log + 1 : 3, ~0u, 0);
}

static void tell_users(const struct keeper *k)
{
	struct holders h;

	if (holders_find(&h, k->p->cfg->mountpoint))
		return;
	holders_log(&h, k->p->cfg->mountpoint);
	holders_free(&h);
}

/*
 * Not by this process: with mapped files the kernel may have to write to the server first, which
 * somebody must be there to restart.
 */
static void start_unmount(struct keeper *k)
{
	const char *mp = k->p->cfg->mountpoint;
	int err = 0;

	k->unmounter = fork();
	if (k->unmounter < 0)
		log_err("%s: cannot be unmounted: %s", mp, strerror(errno));
	if (k->unmounter)
		return;
	close_fds();
	if (umount2(mp, UMOUNT_NOFOLLOW) < 0) {
		err = errno;
		tell_users(k);
		umount2(mp, MNT_DETACH | UMOUNT_NOFOLLOW);
	}
	_exit(err);
}

static void on_unmounter_end(struct keeper *k, int status)
{
	k->unmounter = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status))
		log_info("%s: %s; detached, serving open files for %d s more",
			 k->p->cfg->mountpoint, strerror(WEXITSTATUS(status)),
			 STOP_GRACE_MS / 1000);
}

/* Unmounts; where files are open, the tree is detached at once and the users get a grace time. */
static void on_stop(struct keeper *k)
{
	keeper_notify_stopping();
	if (k->state == STARTING) {
		if (k->server) /* else it has just ended: kill(0) would be for our callers */
			kill(k->server, SIGTERM);
		k->state = STOPPING;
		return;
	}
	if (k->state == STOPPING) {
		k->stop_ms = clock_now_ms(); /* the second signal: now */
		return;
	}
	upgrade_cancel(k);
	k->state = STOPPING;
	k->stop_ms = clock_now_ms() + STOP_GRACE_MS;
	k->session->head->stopping = 1;
	start_unmount(k);
}

/* The unmount goes on by itself; here it is only the grace time that begins anew. */
void keeper_recall_stop(struct keeper *k)
{
	if (!k->session->head->stopping)
		return;
	k->state = STOPPING;
	k->stop_ms = clock_now_ms() + STOP_GRACE_MS;
}

static void enforce_stop(struct keeper *k)
{
	uint64_t now = clock_now_ms();

	if (!k->stop_ms || now < k->stop_ms)
		return;
	if (!k->server) {
		k->ended = true; /* between two generations */
	} else if (now < k->stop_ms + KILL_GRACE_MS) {
		kill(k->server, SIGTERM);
	} else {
		k->killed = true;
		kill(k->server, SIGKILL); /* it hangs, perhaps in the disk */
	}
}

/*
 * The loop
 */

static void on_child(struct keeper *k)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == k->server)
			on_server_end(k, pid, status);
		else if (pid == k->unmounter)
			on_unmounter_end(k, status);
		else if (!upgrade_on_child(k, pid, status))
			helpers_ended(&k->helpers, pid);
	}
}

static void on_signal(struct keeper *k)
{
	struct signalfd_siginfo si;

	while (read(k->sigfd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGCHLD)
			on_child(k);
		else if (si.ssi_signo == SIGTERM || si.ssi_signo == SIGINT)
			on_stop(k);
		else if (si.ssi_signo == SIGHUP)
			on_hangup(k);
	}
}

static bool requests_wait(const struct keeper *k)
{
	struct pollfd p = {.fd = k->session->head->fds[SESSION_FD_DEVICE],
			   .events = POLLIN};

	return session_in_flight(k->session) > 0 || session_has_unbegun(k->session) ||
	       (poll(&p, 1, 0) > 0 && p.revents & POLLIN);
}

/* How often to look; 0: not at all. */
static int hang_tick_ms(const struct keeper *k)
{
	uint64_t ms = k->p->cfg->heartbeat_s * 250;

	return (int)(ms < HANG_TICK_MS ? ms : HANG_TICK_MS);
}

/* One that takes over has more time. In its first start a server may wait for the key service. */
static void check_hang(struct keeper *k)
{
	struct session_head *h = k->session->head;
	uint64_t limit = k->p->cfg->heartbeat_s * 1000;
	uint64_t silent;

	if (!limit || !k->server || k->hung || !h->serving)
		return;
	silent = heartbeat_silent_ms(&k->watch, k->session, (uint64_t)hang_tick_ms(k));
	if (!k->ready_ms && limit < HANG_START_MS)
		limit = HANG_START_MS;
	if (silent < limit || !requests_wait(k))
		return;
	k->hung = true;
	log_err("the server (pid %d, generation %u) hangs: no sign of life for %u s, "
		"%u requests in flight",
		(int)k->server, h->generation, (unsigned int)(silent / 1000),
		session_in_flight(k->session));
	hangdump_log(k->server);
	h->hangs++;
	kill(k->server, SIGKILL);
}

static int sooner(int a, int b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

static int timeout_ms(const struct keeper *k)
{
	uint64_t now = clock_now_ms();
	int tick = hang_tick_ms(k);
	int ms = sooner(upgrade_timeout_ms(&k->upgrade), keeper_notify_timeout_ms(k));

	if (!k->server)
		return sooner(ms, k->restart_ms > now ? (int)(k->restart_ms - now) : 0);
	if (k->stop_ms)
		return sooner(ms, STOP_TICK_MS);
	return sooner(ms, tick && history_has_served(k->session) ? tick : -1);
}

static void wait_events(struct keeper *k)
{
	struct pollfd fds[] = {
		{.fd = k->sigfd, .events = POLLIN},
		{.fd = k->handshake[0], .events = POLLIN},
		{.fd = k->requests[0], .events = POLLIN},
		/* While nobody reads it: the end of the connection. */
		{.fd = k->server ? -1 : k->session->head->fds[SESSION_FD_DEVICE]},
		{.fd = -1},
		{.fd = -1},
	};

	upgrade_poll(&k->upgrade, &fds[4]);
	if (poll(fds, 4 + UPGRADE_FDS, timeout_ms(k)) <= 0)
		return;
	upgrade_on_events(k, &fds[4]);
	if (fds[1].revents && k->server)
		on_handshake(k);
	if (fds[2].revents && k->server)
		helpers_serve(&k->helpers, k->requests[0]);
	if (fds[0].revents)
		on_signal(k);
}

static void supervise(struct keeper *k)
{
	while (!k->ended) {
		wait_events(k);
		check_hang(k);
		upgrade_on_time(k);
		enforce_stop(k);
		if (!k->server && !k->ended)
			restart_server(k);
		keeper_notify_tick(k);
	}
}

/* Only the device matters: its end is the connection's. */
static void let_go(struct keeper *k)
{
	int *devfd = &k->session->head->fds[SESSION_FD_DEVICE];

	upgrade_close(k);
	helpers_end(&k->helpers);
	keeper_await_life(k);
	if (*devfd >= 0)
		close(STEAL_FD(devfd));
	if (k->unmounter)
		waitpid(k->unmounter, NULL, 0);
}

/* A mount that never served goes; one that did stays after a crash, and answers ENOTCONN: below
 * it programs would go on writing into an empty folder, or with overmount the ciphertext. */
static void clean_mount(struct keeper *k, bool failed)
{
	const char *mp = k->p->cfg->mountpoint;

	if (k->state == STARTING || mountpoint_is_ours(mp) <= 0)
		return;
	if (k->state == SERVING && failed)
		log_err("%s: left as it is, so that nobody writes below it: mount again, "
			"or "
			"'vmcryptfs umount'",
			mp);
	else if (umount2(mp, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL)
		log_warn("%s: cannot be unmounted: %s", mp, strerror(errno));
}

/* What the last server's end means. */
static int conclude(struct keeper *k)
{
	bool crashed = !WIFEXITED(k->server_status);
	int code = crashed ? EXIT_FAILED : WEXITSTATUS(k->server_status);

	clean_mount(k, crashed || code || k->gone);
	if (k->state == STARTING && !code)
		code = EXIT_FAILED;
	tell_caller(k, code);
	if (!crashed && !code)
		log_info("%s unmounted", k->p->cfg->mountpoint);
	return code;
}

static vcf_err_t init(struct keeper *k, const struct keeper_params *p)
{
	vcf_err_t err;

	*k = (struct keeper){.p = p,
			     .ready_fd = p->ready_fd,
			     .sigfd = -1,
			     .handshake = {-1, -1},
			     .requests = {-1, -1}};
	upgrade_init(&k->upgrade);
	serve_harden();
	if (hangdump_install())
		log_dbg("no stacks of a server that hangs");
	err = caps_keep(CAPS_KEEPER);
	if (err) {
		log_err("capabilities cannot be dropped: %s", strerror(-err));
		return err;
	}
	sysfilter_set_mode(p->cfg->seccomp);
	return 0;
}

/* Before there are children. What the program before has left is in force. */
static vcf_err_t filter_calls(struct keeper *k)
{
	_Atomic uint32_t *there = &k->session->head->filtered;
	uint32_t rules = sysfilter_keeper_rules();
	vcf_err_t err = rules == *there ? 0 : sysfilter_keeper();

	if (err)
		log_err("seccomp: %s; [mount] seccomp = off goes without",
			strerror(-err));
	else if (rules)
		*there = rules;
	return err;
}

static int serve_mount(struct keeper *k)
{
	int code;

	supervise(k);
	keeper_notify_stopping();
	let_go(k);
	code = conclude(k);
	log_follow(NULL);
	session_free(k->session, false);
	return code;
}

int keeper_run(const struct keeper_params *p)
{
	struct keeper k;
	vcf_err_t err;
	int code;

	err = init(&k, p);
	if (!err)
		err = keeper_open(&k);
	if (!err)
		err = filter_calls(&k);
	if (!err)
		err = keeper_start_server(&k);
	if (!err)
		return serve_mount(&k);
	code = exit_code_of(err);
	tell_caller(&k, code);
	log_follow(NULL);
	if (k.session)
		session_free(k.session, false);
	return code;
}

int keeper_resume(const struct keeper_params *p, int tables_fd, bool back)
{
	struct keeper k;
	vcf_err_t err;

	err = init(&k, p);
	if (!err)
		err = session_attach(&k.session, tables_fd);
	if (!err)
		err = filter_calls(&k);
	if (!err)
		err = keeper_open_signals(&k);
	if (err)
		return exit_code_of(err);
	log_follow(&k.session->head->log_level);
	k.state = SERVING;
	k.resumed = true;
	keeper_recall_stop(&k);
	k.session->head->keeper_pid = getpid();
	keeper_pin_keys(&k);
	upgrade_resume(&k, back);
	keeper_clear_up(&k);
	return serve_mount(&k);
}
