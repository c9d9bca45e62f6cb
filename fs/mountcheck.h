/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is a path, as the caller's own mount namespace has it, on a vmcryptfs that answers? Needs neither
 * a socket of the daemon nor any right but that to look at the folder, so it works in a container
 * as well.
 */
#ifndef VCF_FS_MOUNTCHECK_H
#define VCF_FS_MOUNTCHECK_H

#include "fs/exitcode.h"
#include "util/err.h"

/* The root's attribute of this name is answered by the server itself: its version. */
#define MOUNTCHECK_XATTR "vmcryptfs.version"

enum { MOUNTCHECK_TEXT_MAX = 1024 };

struct mountcheck {
	int code;			/* EXIT_OK: it is there and answers; exitcode.h */
	char text[MOUNTCHECK_TEXT_MAX]; /* a sentence without the path */
};

/*
 * Looks in a child process, which a file system that hangs may hold for ever; this one waits
 * timeout_ms for it. -errno: no child.
 */
NODISCARD vcf_err_t mountcheck(struct mountcheck *out, const char *path, int timeout_ms);

#endif
