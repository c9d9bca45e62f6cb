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
#include "fs/config_source.h"

struct keeper_params {
	struct config *cfg; /* changes when a server has accepted a reload */
	const struct config_source *source;
	bool foreground;
	bool with_plaintext;
	int ready_fd; /* gets the exit code as one byte once it is known (0: mounted), or -1 */
};

/*
 * Goes on with a mount in place of another program (upgrade.h), whose session's descriptor is
 * tables_fd; `back`: as the one before that, which failed. Returns like keeper_run(); an exit code
 * before anything was served leaves all to the anchor.
 */
int keeper_resume(const struct keeper_params *p, int tables_fd, bool back);

/* Serves until unmounted; returns the exit code (exitcode.h). */
int keeper_run(const struct keeper_params *p);

#endif
