/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parts of the keeper: keeper.c (the life of a mount), keeper_start.c (what it opens, how a
 * server starts), keeper_notify.c (what systemd is told), upgrade.c (another program takes its place). One thread, no locks.
 */
#ifndef VCF_FS_KEEPER_IMPL_H
#define VCF_FS_KEEPER_IMPL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fs/heartbeat.h"
#include "fs/helpers.h"
#include "fs/keeper.h"
#include "fs/restart.h"
#include "fs/session.h"
#include "fs/upgrade.h"

enum keeper_state { STARTING, MOUNTED, SERVING, STOPPING };

struct keeper {
	const struct keeper_params *p;
	struct session *session;
	enum keeper_state state;
	int sigfd;
	int handshake[2], requests[2]; /* [0] ours, [1] the server's */
	struct helpers helpers;
	pid_t server;	   /* 0: none runs */
	pid_t unmounter;   /* 0: none runs */
	int server_status; /* of waitpid, when `ended` */
	bool ended;	   /* no other server comes */
	bool hung;	   /* it was killed for that */
	struct heartbeat_watch watch;
	bool killed; /* by us: it did not stop in time */
	bool gone;   /* the connection is, under a server that died */
	struct restart restart;
	uint64_t ready_ms;   /* when this generation became ready, 0: not yet */
	uint64_t restart_ms; /* when the next one starts */
	uint64_t stop_ms;    /* when the server is told to end, 0: not yet */
	int ready_fd;	     /* to the caller of mount, -1: it knows */
	struct upgrade upgrade;
	bool pinned;	   /* the keys' memory */
	bool reload_asked; /* SIGHUP came, and no server has answered it */
	bool resumed; /* another program was the keeper before, and no server has been ready since */
	char told[96];			 /* to systemd, last */
	uint64_t status_ms, watchdog_ms; /* when systemd is told next */
};

/* Where in the session's keeper_fds a successor by upgrade finds these. */
enum { KEEPER_FD_LISTEN, KEEPER_FD_CLIENT, KEEPER_FD_OTHERS };

/* The backing folder, the device, signals; for a new session. -errno, logged. */
NODISCARD vcf_err_t keeper_open(struct keeper *k);
NODISCARD vcf_err_t keeper_open_signals(struct keeper *k);

/* Tells the session which descriptors are ours: before each sweep. */
void keeper_name_fds(struct keeper *k);

/*
 * Locks the keys' memory in this process as well, once: a lock ends with the process that took it,
 * and between two servers, or where an upgrade has ended the one before, nobody else has one.
 */
void keeper_pin_keys(struct keeper *k);

/* Starts the next generation. -errno. */
NODISCARD vcf_err_t keeper_start_server(struct keeper *k);

/* The kernel has ended the connection: unmounted, or aborted by root. */
bool keeper_connection_gone(const struct keeper *k);

/* In another process that takes the keeper's place: a stop that was begun goes on. */
void keeper_recall_stop(struct keeper *k);

/* The server has ended and is to be replaced: its descriptors and busy helpers go. */
void keeper_clear_up(struct keeper *k);
/* The server has ended: waits until none of its transfers is under way (lifesign.h). */
void keeper_await_life(struct keeper *k);

/* keeper_notify.c: what systemd is told. _tick() in each round of the loop. */
void keeper_notify_ready(struct keeper *k);
void keeper_notify_reload(struct keeper *k);
void keeper_notify_reloaded(struct keeper *k, bool done);
void keeper_notify_stopping(void);
void keeper_notify_moved(void); /* this process is another one than before */
void keeper_notify_tick(struct keeper *k);
int keeper_notify_timeout_ms(const struct keeper *k); /* -1: none */

#endif
