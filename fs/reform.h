/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * encrypt, decrypt, convert: a file is read, and written anew in another form, with a secret of its
 * own where it is a container; then the new one takes its place (replace.h), or lies somewhere else.
 *
 * Nobody has the file open meanwhile: daemons by offline_claim(), others as far as the kernel tells.
 */
#ifndef VCF_FS_REFORM_H
#define VCF_FS_REFORM_H

#include <stdbool.h>

#include "fs/offline.h"
#include "fs/tool.h"

enum reform_kind { REFORM_ENCRYPT, REFORM_DECRYPT, REFORM_CONVERT };

struct reform {
	enum reform_kind kind;
	struct tool tool;
	struct offline offline;
	bool all;	  /* what tool_find() finds, in place of paths */
	bool no_verify;	  /* what was written is not compared */
	bool wipe;	  /* the old bytes are overwritten: encrypt */
	bool destroy_now; /* the old secret: convert, decrypt */
	/* convert: 0: as it is; else as configured */
	bool has_format;
	enum luks_format format;
	uint32_t sector_len;
	uint64_t data_off;
	/* decrypt: one of these */
	const char *output, *output_dir;
	bool replace;
};

/* Runs it on the paths; an exit code. Everything but the options is done here. */
NODISCARD int reform_run(struct reform *r, int argc, char **argv);

#endif
