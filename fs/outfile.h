/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A plaintext copy outside the backing folder: DIR/.NAME.vmcryptfs until it is complete; what a run
 * that was cut short has left of that name is begun anew.
 */
#ifndef VCF_FS_OUTFILE_H
#define VCF_FS_OUTFILE_H

#include <limits.h>

#include "util/err.h"

struct outfile {
	char path[PATH_MAX], beside[PATH_MAX];
	int fd; /* O_RDWR, mode 0600 */
};

/*
 * output: the file; or (NULL) below dir, as `rel` or else as the last component of `from`, with the
 * folders that it needs. -EEXIST: it is there; -EPERM: it would lie in the backing folder.
 */
NODISCARD vcf_err_t outfile_begin(struct outfile *o, const char *output, const char *dir,
				  const char *from, const char *rel, const char *backing);
/* Synced, and in its place. -EEXIST. */
NODISCARD vcf_err_t outfile_end(struct outfile *o);
/* Removes what did not come to its place. */
void outfile_fini(struct outfile *o);

#endif
