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
 * A mount whose server crashed stays, and answers ENOTCONN: what lies below it is an empty folder,
 * or with overmount the ciphertext itself, and programs would go on writing there.
 */
#include "fs/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "crypto/keyservice.h"
#include "fs/control.h"
#include "fs/exitcode.h"
#include "fs/mountpoint.h"
#include "fs/serve.h"
#include "util/cleanup.h"
#include "util/log.h"

enum { STOP_GRACE_S = 10, KILL_GRACE_S = 30, HELPERS_MAX = 64 };

enum keeper_state { STARTING, MOUNTED, SERVING, STOPPING };

struct keeper {
	const struct keeper_params *p;
	enum keeper_state state;
	int rootfd, devfd, sigfd;
	int handshake[2], helpers[2]; /* [0] ours, [1] the server's */
	pid_t server;
	int server_status; /* of waitpid */
	bool server_gone;
	time_t stop_at; /* when the server is told to end, 0: not yet */
	pid_t helper_pids[HELPERS_MAX];
	int ready_fd;
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

/*
 * Two daemons that do not know of each other would write one image with two ideas of its size.
 * The journal's lock goes by the folder's name and the state directory; this one by the folder.
 */
static vcf_err_t lock_backing(const struct keeper *k)
{
	int how = k->p->cfg->shared ? LOCK_SH : LOCK_EX;

	if (flock(k->rootfd, how | LOCK_NB) == 0)
		return 0;
	if (errno == EWOULDBLOCK) {
		log_err("%s: another vmcryptfs serves it", k->p->cfg->backing);
		return -EBUSY;
	}
	log_dbg("%s: cannot be locked: %s", k->p->cfg->backing,
		strerror(errno)); /* NFS */
	return 0;
}

static vcf_err_t open_backing(struct keeper *k)
{
	k->rootfd = open(k->p->cfg->backing, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (k->rootfd < 0) {
		log_err("%s: %s", k->p->cfg->backing, strerror(errno));
		return -errno;
	}
	return lock_backing(k);
}

static vcf_err_t open_all(struct keeper *k)
{
	vcf_err_t err = open_backing(k);
	sigset_t set;

	if (err)
		return err;
	k->devfd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (k->devfd < 0) {
		log_err("/dev/fuse: %s; is the fuse module loaded?", strerror(errno));
		return -errno;
	}
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	k->sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (k->sigfd < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, k->handshake) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, k->helpers) < 0)
		return -errno;
	return 0;
}

static vcf_err_t start_server(struct keeper *k)
{
	struct serve_params sp = {
		.cfg = k->p->cfg,
		.rootfd = k->rootfd,
		.devfd = k->devfd,
		.handshake = k->handshake[1],
		.helpers = k->helpers[1],
		.keeper_pid = getpid(),
		.with_plaintext = k->p->with_plaintext,
		.foreground = k->p->foreground,
	};
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		close(k->handshake[0]);
		close(k->helpers[0]);
		close(k->sigfd);
		if (k->ready_fd >= 0)
			close(k->ready_fd);
		exit(serve(&sp));
	}
	k->server = pid;
	close(k->handshake[1]);
	close(k->helpers[1]);
	return 0;
}

static void answer_prepared(struct keeper *k, uint32_t kind)
{
	struct control c = {.kind = kind};

	if (control_send(k->handshake[0], &c, NULL, 0))
		log_dbg("the server is gone");
}

static void do_mount(struct keeper *k)
{
	vcf_err_t err = mountpoint_mount(k->p->cfg, k->devfd);

	if (err) {
		log_err("%s: mount: %s", k->p->cfg->mountpoint, strerror(-err));
		tell_caller(k, err == -EPERM ? EXIT_PERMISSION : EXIT_FAILED);
	} else {
		k->state = MOUNTED;
	}
	/* Only the server holds the device from now on: its end ends the connection. */
	close(k->devfd);
	k->devfd = -1;
	answer_prepared(k, err ? 0 : CONTROL_MOUNTED);
}

static void on_ready(struct keeper *k)
{
	k->state = SERVING;
	log_info("%s mounted on %s", k->p->cfg->backing, k->p->cfg->mountpoint);
	tell_caller(k, EXIT_OK);
	if (!k->p->foreground)
		log_leave_terminal();
}

static void on_handshake(struct keeper *k)
{
	struct control c;

	if (control_recv(k->handshake[0], &c, NULL, 0)) {
		close(k->handshake[0]);
		k->handshake[0] = -1;
		return;
	}
	if (c.kind == CONTROL_PREPARED && k->state == STARTING)
		do_mount(k);
	else if (c.kind == CONTROL_PREPARED)
		answer_prepared(
			k, 0); /* a signal came first: the server waits for an answer */
	else if (c.kind == CONTROL_READY && k->state == MOUNTED)
		on_ready(k);
}

static void spawn_helper(struct keeper *k, const char *program)
{
	struct control c = {.kind = CONTROL_SPAWNED};
	int fds[2] = {-1, -1};
	pid_t pid = 0;
	int slot = 0;

	while (slot < HELPERS_MAX && k->helper_pids[slot])
		slot++;
	c.value = slot < HELPERS_MAX
			  ? keyservice_spawn(NULL, program, &fds[0], &fds[1], &pid)
			  : -EAGAIN;
	if (!c.value) {
		k->helper_pids[slot] = pid;
		c.value = pid;
	}
	if (control_send(k->helpers[0], &c, fds, c.value > 0 ? 2 : 0))
		log_dbg("the server is gone");
	for (int i = 0; i < 2; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
}

static void reap_helper(struct keeper *k, pid_t pid)
{
	for (int i = 0; i < HELPERS_MAX; i++) {
		if (pid > 0 && k->helper_pids[i] == pid)
			kill(-pid, SIGKILL); /* its session; SIGCHLD clears the slot */
	}
}

static void on_helpers(struct keeper *k)
{
	struct control c;

	if (control_recv(k->helpers[0], &c, NULL, 0)) {
		close(k->helpers[0]);
		k->helpers[0] = -1;
		return;
	}
	if (c.kind == CONTROL_SPAWN)
		spawn_helper(k, c.path);
	else if (c.kind == CONTROL_REAP)
		reap_helper(k, c.value);
}

static void on_child(struct keeper *k)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == k->server) {
			k->server_gone = true;
			k->server_status = status;
			continue;
		}
		for (int i = 0; i < HELPERS_MAX; i++) {
			if (k->helper_pids[i] == pid)
				k->helper_pids[i] = 0;
		}
	}
}

static time_t now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

/* Unmounts; where files are open, the tree is detached at once and the users get a grace time. */
static void on_stop(struct keeper *k)
{
	const char *mp = k->p->cfg->mountpoint;

	if (k->state == STARTING) {
		kill(k->server, SIGTERM);
		k->state = STOPPING;
		return;
	}
	if (k->state == STOPPING) {
		k->stop_at = now_s(); /* the second signal: now */
		return;
	}
	k->state = STOPPING;
	k->stop_at = now_s() + STOP_GRACE_S;
	if (umount2(mp, UMOUNT_NOFOLLOW) == 0)
		return;
	log_info("%s: %s; detached, serving open files for %d s more", mp,
		 strerror(errno), STOP_GRACE_S);
	if (umount2(mp, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
		log_dbg("%s: detach: %s", mp, strerror(errno));
}

static void on_signal(struct keeper *k)
{
	struct signalfd_siginfo si;

	while (read(k->sigfd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGCHLD)
			on_child(k);
		else if (si.ssi_signo == SIGTERM || si.ssi_signo == SIGINT)
			on_stop(k);
	}
}

static void supervise(struct keeper *k)
{
	while (!k->server_gone) {
		struct pollfd fds[] = {
			{.fd = k->sigfd, .events = POLLIN},
			{.fd = k->handshake[0], .events = POLLIN},
			{.fd = k->helpers[0], .events = POLLIN},
		};

		if (poll(fds, 3, k->stop_at ? 200 : -1) < 0 && errno != EINTR)
			break;
		if (fds[0].revents)
			on_signal(k);
		if (fds[1].revents)
			on_handshake(k);
		if (fds[2].revents)
			on_helpers(k);
		if (k->stop_at && now_s() >= k->stop_at + KILL_GRACE_S && !k->server_gone)
			kill(k->server, SIGKILL); /* it hangs, perhaps in the disk */
		else if (k->stop_at && now_s() >= k->stop_at && !k->server_gone)
			kill(k->server, SIGTERM);
	}
}

static void end_helpers(struct keeper *k)
{
	for (int i = 0; i < HELPERS_MAX; i++) {
		if (k->helper_pids[i])
			kill(k->helper_pids[i], SIGTERM);
	}
}

/* A mount that never served goes; one that did stays after a crash (see above). */
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

/* What the server's end means. */
static int conclude(struct keeper *k)
{
	bool crashed = !WIFEXITED(k->server_status);
	int code = crashed ? EXIT_FAILED : WEXITSTATUS(k->server_status);

	if (crashed)
		log_err("the server (pid %d) was killed by signal %d", (int)k->server,
			WTERMSIG(k->server_status));
	clean_mount(k, crashed || code);
	if (k->state == STARTING && !code)
		code = EXIT_FAILED;
	tell_caller(k, code);
	if (!crashed && !code)
		log_info("%s unmounted", k->p->cfg->mountpoint);
	return code;
}

int keeper_run(const struct keeper_params *p)
{
	struct keeper k = {.p = p,
			   .ready_fd = p->ready_fd,
			   .rootfd = -1,
			   .devfd = -1,
			   .sigfd = -1,
			   .handshake = {-1, -1},
			   .helpers = {-1, -1}};
	vcf_err_t err;
	int code;

	serve_harden();
	err = open_all(&k);
	if (!err)
		err = start_server(&k);
	if (err) {
		code = exit_code_of(err);
		tell_caller(&k, code);
		return code;
	}
	supervise(&k);
	end_helpers(&k);
	return conclude(&k);
}
