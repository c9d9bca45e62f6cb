/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The serving process as the keeper starts it: hardens itself, makes the server, tells the keeper
 * when to mount, serves until the mount is gone.
 */
#ifndef VCF_FS_SERVE_H
#define VCF_FS_SERVE_H

#include <stdbool.h>

#include "fs/config.h"

struct serve_params {
	const struct config *cfg;
	int rootfd, devfd;
	int handshake; /* socket to the keeper */
	int helpers;   /* socket to the keeper, for helpers */
	int keeper_pid;
	bool with_plaintext;
	bool foreground;
};

/* Runs in the child; returns its exit code. */
int serve(const struct serve_params *p);

/* No core dumps, no ptrace by others: each process does it for itself. */
void serve_harden(void);

#endif
