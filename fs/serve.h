/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The serving process as the keeper starts it: hardens itself, makes the server, tells the keeper
 * when to mount, serves until the mount is gone.
 */
#ifndef VCF_FS_SERVE_H
#define VCF_FS_SERVE_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

#include "fs/config.h"
#include "fs/config_source.h"
#include "util/err.h"

struct session;

struct serve_params {
	const struct config *cfg;
	const struct config_source *source; /* of cfg, for a reload */
	struct session *session;
	int rootfd, devfd;
	int handshake; /* socket to the keeper */
	int helpers;   /* socket to the keeper, for helpers */
	int keeper_pid;
	bool with_plaintext;
	bool foreground;
};

/*
 * Starts the server as a clone that shares the table of descriptors and nothing else; its exit
 * code tells how it went. Returns its pid or -errno. SERVE_LEAVE_SIGNAL makes room for a successor:
 * it ends, with SERVE_LEFT, after the requests that it has begun, and leaves the session as it is.
 */
#define SERVE_LEAVE_SIGNAL (SIGRTMIN + 1)
enum { SERVE_LEFT = 100 }; /* none of exitcode.h: the keeper's alone */

NODISCARD pid_t serve_start(const struct serve_params *p);

/* No core dumps, no ptrace by others: each process does it for itself. */
void serve_harden(void);

#endif
