/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Code addresses as "file+offset", by the executable mappings in /proc/PID/maps: so that a
 * figure in the log can be looked up in the program's file on another machine.
 */
#ifndef VCF_FS_PROCMAPS_H
#define VCF_FS_PROCMAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/err.h"

enum { PROCMAPS_MAX = 128, PROCMAPS_NAME_MAX = 47, PROCMAPS_TEXT_MAX = 72 };

struct procmap {
	uint64_t start, end;		  /* [start, end) in memory */
	uint64_t off;			  /* of start in the file */
	char name[PROCMAPS_NAME_MAX + 1]; /* the file's base name, "[vdso]", or "?" */
};

struct procmaps {
	size_t cnt;
	struct procmap maps[PROCMAPS_MAX];
};

/* One line of the file, without its LF. False if it is none or the mapping has no code. */
bool procmaps_parse(struct procmap *out, const char *line);

/* The mappings with code of a process (what does not fit is left out). 0 or -errno. */
NODISCARD vcf_err_t procmaps_read(struct procmaps *out, pid_t pid);

/*
 * Writes "file+0xOFFSET", or "0xADDRESS" where it lies in none of them. Returns the length.
 * Async-signal-safe.
 */
size_t procmaps_name(const struct procmaps *m, uint64_t addr,
		     char dst[PROCMAPS_TEXT_MAX]);

#endif
