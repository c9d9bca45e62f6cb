/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the keeper opens, and how it starts a server. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "crypto/keytable.h"
#include "fs/keeper_impl.h"
#include "fs/lifesign.h"
#include "fs/nodelock.h"
#include "fs/serve.h"
#include "util/clock.h"
#include "util/log.h"

enum {
	LIFE_WARN_MS = 10000,
	LOCK_WAIT_MS = 2000,
	LOCK_PAUSE_MS = 20,
};

/*
 * Two daemons that do not know of each other would write one image with two ideas of its size.
 * The journal's lock goes by the folder's name and the state directory; this one by the folder.
 */
static vcf_err_t lock_backing(const struct keeper *k, int rootfd)
{
	const struct timespec pause = {.tv_nsec = LOCK_PAUSE_MS * 1000000l};
	int how = k->p->cfg->shared ? LOCK_SH : LOCK_EX;
	uint64_t until = clock_now_ms() + LOCK_WAIT_MS;
	int rc = flock(rootfd, how | LOCK_NB);

	/* A server that was killed with its keeper still waits for its last transfers. */
	while (rc < 0 && errno == EWOULDBLOCK && clock_now_ms() < until) {
		nanosleep(&pause, NULL);
		rc = flock(rootfd, how | LOCK_NB);
	}
	if (rc == 0)
		return 0;
	if (errno == EWOULDBLOCK) {
		log_err("%s: another vmcryptfs serves it", k->p->cfg->backing);
		return -EBUSY;
	}
	log_dbg("%s: cannot be locked: %s", k->p->cfg->backing,
		strerror(errno)); /* NFS */
	return 0;
}

/* What keeps nodes from destroying each other's data. */
static vcf_err_t check_locks(const struct keeper *k, int rootfd)
{
	vcf_err_t err = nodelock_probe(rootfd);

	if (!err)
		return lock_backing(k, rootfd);
	log_err("%s: shared = yes needs a file system with locks (F_OFD_SETLK): %s",
		k->p->cfg->backing, strerror(-err));
	return err;
}

static vcf_err_t open_backing(struct keeper *k)
{
	int fd = open(k->p->cfg->backing, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0) {
		log_err("%s: %s", k->p->cfg->backing, strerror(errno));
		return -errno;
	}
	k->session->head->fds[SESSION_FD_BACKING] = fd;
	return k->p->cfg->shared ? check_locks(k, fd) : lock_backing(k, fd);
}

static vcf_err_t open_device(struct keeper *k)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		log_err("/dev/fuse: %s; is the fuse module loaded?", strerror(errno));
		return -errno;
	}
	k->session->head->fds[SESSION_FD_DEVICE] = fd;
	return 0;
}

vcf_err_t keeper_open_signals(struct keeper *k)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	k->sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return k->sigfd < 0 ? -errno : 0;
}

vcf_err_t keeper_open(struct keeper *k)
{
	vcf_err_t err = session_new(&k->session);

	if (!err) {
		log_follow(&k->session->head->log_level);
		err = open_backing(k);
	}
	if (!err)
		err = open_device(k);
	if (err)
		return err;
	k->session->head->keeper_pid = getpid();
	k->session->head->fds[SESSION_FD_PROGRAM] =
		open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	return keeper_open_signals(k);
}

/* What a sweep spares beside that which the session names anyway. */
void keeper_name_fds(struct keeper *k)
{
	const int mine[] = {
		[KEEPER_FD_LISTEN] = k->upgrade.listen_fd,
		[KEEPER_FD_CLIENT] = k->upgrade.client,
		[KEEPER_FD_OTHERS] = k->upgrade.program,
		k->upgrade.probe_out,
		k->sigfd,
		k->handshake[0],
		k->handshake[1],
		k->requests[0],
		k->requests[1],
		k->ready_fd,
		log_file_fd(),
	};
	int *named = k->session->head->keeper_fds;
	int cnt = sizeof(mine) / sizeof(mine[0]);

	for (int i = 0; i < SESSION_KEEPER_FDS_MAX; i++)
		named[i] = i < cnt ? mine[i] : -1;
}

/*
 * Only where a record says that one may be: anybody can hold an address space for as long as he
 * likes, by a read of /proc/PID/cmdline into memory that does not come, maybe of this very mount.
 * Nobody else does anything about it, whoever looks into the dead process waits as well: so this
 * does not return to the loop, as waitpid(2) would not have in the normal case.
 */
void keeper_await_life(struct keeper *k)
{
	const struct timespec pause = {.tv_nsec = 1000 * 1000};
	int *fd = &k->session->head->fds[SESSION_FD_LIFE];
	uint64_t warn_ms = clock_now_ms() + LIFE_WARN_MS;

	if (*fd < 0)
		return;
	while (session_async_cnt(k->session) && !lifesign_is_over(*fd)) {
		nanosleep(&pause, NULL);
		keeper_notify_tick(
			k); /* ended by a watchdog, it would take the mount along */
		if (clock_now_ms() < warn_ms)
			continue;
		log_warn("the disk still writes for the server that has ended, and "
			 "another process reads its memory: waiting for both");
		warn_ms = clock_now_ms() + LIFE_WARN_MS;
	}
	close(*fd);
	*fd = -1;
}

void keeper_clear_up(struct keeper *k)
{
	keeper_await_life(k);
	helpers_settle(&k->helpers, k->session);
	keeper_name_fds(k);
	if (session_sweep(k->session))
		log_warn("no memory to close the dead server's descriptors");
}

void keeper_pin_keys(struct keeper *k)
{
	vcf_err_t err;

	if (k->pinned)
		return;
	k->pinned = true; /* or not worth another try */
	err = keytable_pin(k->session->head->fds[SESSION_FD_KEYS]);
	if (err)
		log_warn("the keeper cannot lock the memory of volume keys: %s; between "
			 "two servers they may get into swap; raise RLIMIT_MEMLOCK "
			 "(ulimit -l, LimitMEMLOCK=)",
			 strerror(-err));
}

/* New ones for each generation: no message of a dead one is left in them. */
static vcf_err_t renew_sockets(struct keeper *k)
{
	int *pairs[] = {k->handshake, k->requests};

	for (int i = 0; i < 2; i++) {
		for (int j = 0; j < 2; j++) {
			if (pairs[i][j] >= 0)
				close(pairs[i][j]);
			pairs[i][j] = -1;
		}
		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pairs[i]) < 0)
			return -errno;
	}
	return 0;
}

vcf_err_t keeper_start_server(struct keeper *k)
{
	struct session_head *h = k->session->head;
	struct serve_params sp = {
		.cfg = k->p->cfg,
		.source = k->p->source,
		.session = k->session,
		.rootfd = h->fds[SESSION_FD_BACKING],
		.devfd = h->fds[SESSION_FD_DEVICE],
		.keeper_pid = getpid(),
		.with_plaintext = k->p->with_plaintext,
		.foreground = k->p->foreground,
	};
	vcf_err_t err = renew_sockets(k);
	pid_t pid;

	if (err)
		return err;
	keeper_await_life(k); /* one that another keeper's server left */
	h->fds[SESSION_FD_LIFE] = lifesign_new();
	keeper_name_fds(k);
	sp.handshake = k->handshake[1];
	sp.helpers = k->requests[1];
	h->generation++;
	h->beat_ms = clock_now_ms();
	k->ready_ms = 0;
	k->restart_ms = 0;
	k->hung = false;
	k->watch = (struct heartbeat_watch){.checked_ms = clock_now_ms()};
	pid = serve_start(&sp);
	if (pid < 0)
		return pid;
	k->server = pid;
	h->server_pid = pid;
	return 0;
}
