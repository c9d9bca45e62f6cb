/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A fence around the file system (Landlock): after fence_close() the process opens nothing but what
 * lies below the paths that were allowed, and executes nothing. What it has open it keeps.
 *
 * A path is looked up when it is allowed, and meant is what is there then: for a file that others
 * replace by a rename, allow its folder.
 *
 * Order: fence_new(), fence_allow()..., fence_close() or fence_free(). One thread.
 */
#ifndef VCF_UTIL_FENCE_H
#define VCF_UTIL_FENCE_H

#include <stdbool.h>

#include "util/err.h"

struct fence;

enum fence_right {
	FENCE_READ,
	FENCE_WRITE, /* and read; files can be made, linked and removed */
};

/* True if the kernel can do it (5.13 and later, and not switched off). */
bool fence_available(void);

/*
 * network  TCP connections may be made (none may ever be accepted); without it none, as far as the
 *          kernel can tell (6.7)
 * Returns 0, or -EOPNOTSUPP where the kernel has none, or -errno.
 */
NODISCARD vcf_err_t fence_new(struct fence **out, bool network);

/* What is not there is passed over. The first other error is what fence_close() returns. */
void fence_allow(struct fence *f, enum fence_right right, const char *path);

/* The folder of the file, and where the file is a symbolic link that of its target. "" is none. */
void fence_allow_near(struct fence *f, const char *file);

/* For ever, for this thread and what it starts. Frees f in any case. no_new_privs must be set. */
NODISCARD vcf_err_t fence_close(struct fence *f);
void fence_free(struct fence *f);

#endif
