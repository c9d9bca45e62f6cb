/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Another program takes the daemon's place under a mount that is in use. The keeper's steps:
 *
 *   PROBING   `NEW upgrade-probe` in a child: does it accept the session's state and the mount's
 *             configuration, may it lock memory? If not, its words go to the caller, and nothing
 *             has changed. The same where the configuration is not the one in use
 *   DRAINING  the server ends after the requests that it has begun (else it is killed: a
 *             successor copes with both). Helpers end: they are of the old version
 *   then      an anchor (anchor.h) is cloned, and the keeper executes NEW, in place: the same
 *             process, the descriptors that the session names, `mount --resume`
 *   TRIAL     NEW's keeper starts its server. READY: done. Not within TRIAL_MS, or a crash: it
 *             executes the old program, from the session's SESSION_FD_PROGRAM
 *   BACK      that one goes on as before
 *
 * Should the keeper die between, the anchor goes on in its place. Requests wait meanwhile.
 */
#ifndef VCF_FS_UPGRADE_H
#define VCF_FS_UPGRADE_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "fs/keeper.h"

struct keeper;
struct session;

enum upgrade_phase {
	UPGRADE_NONE,
	UPGRADE_PROBING,
	UPGRADE_DRAINING,
	UPGRADE_TRIAL,
	UPGRADE_BACK
};

/* Words of a program that passes the probe: /bin/true would as well. */
#define UPGRADE_PROBE_WORDS "can take over:"

enum { UPGRADE_TEXT_MAX = 1024, UPGRADE_FDS = 2 };

struct upgrade {
	enum upgrade_phase phase;
	int listen_fd;
	char path[108]; /* of the socket */
	int client;	/* who asked for it */
	int program;	/* the new one */
	pid_t probe;
	int probe_out;
	char text[UPGRADE_TEXT_MAX]; /* what it said */
	size_t text_len;
	uint64_t deadline_ms; /* of the phase */
};

void upgrade_init(struct upgrade *u);

/* Makes the control socket. Without it there is no upgrade (logged). */
void upgrade_listen(struct keeper *k);
void upgrade_close(struct keeper *k);

/* What to poll for, and what to do about it. */
void upgrade_poll(const struct upgrade *u, struct pollfd p[UPGRADE_FDS]);
void upgrade_on_events(struct keeper *k, const struct pollfd p[UPGRADE_FDS]);
int upgrade_timeout_ms(const struct upgrade *u); /* -1: none */
void upgrade_on_time(struct keeper *k);

/* A child has ended; true if it was one of ours. */
bool upgrade_on_child(struct keeper *k, pid_t pid, int status);

/*
 * The server has ended; true if that was a step of the upgrade. Does not return where another
 * program takes over.
 */
bool upgrade_on_server_end(struct keeper *k, int status);
void upgrade_on_ready(struct keeper *k);

/* The mount is to end: no further step. */
void upgrade_cancel(struct keeper *k);

/* In the new program, or back in the old one: what is known from the session. */
void upgrade_resume(struct keeper *k, bool back);

/*
 * The arguments for another program: `command`, the session's descriptor, and those that a mount
 * of the same is made with. NULL: no memory. One allocation.
 */
char **upgrade_arguments(const struct keeper_params *p, const struct session *s,
			 const char *command, bool back);

/*
 * Executes a program with all descriptors that the session names and no other. Returns only on
 * failure: -errno.
 */
vcf_err_t upgrade_execute(struct session *s, int program, char *const argv[]);

#endif
