/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The keeper: the small parent that owns the mount and /dev/fuse, starts the server and the key
 * helpers, passes signals on and unmounts. It parses nothing, uses no network and no crypto
 * library.
 */
#ifndef VCF_FS_KEEPER_H
#define VCF_FS_KEEPER_H

#include <stdbool.h>

#include "fs/config.h"

struct keeper_params {
	const struct config *cfg;
	bool foreground;
	bool with_plaintext;
	int ready_fd; /* gets the exit code as one byte once it is known (0: mounted), or -1 */
};

/* Serves until unmounted; returns the exit code (exitcode.h). */
int keeper_run(const struct keeper_params *p);

#endif
