/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The exit codes of the command: an interface, documented in the man page; numbers are
 * never given a new meaning.
 */
#ifndef VCF_FS_EXITCODE_H
#define VCF_FS_EXITCODE_H

#include <errno.h>

#include "util/err.h"

enum exit_code {
	EXIT_OK = 0,
	EXIT_FAILED = 1,     /* it did not work; the message says why */
	EXIT_USAGE = 2,	     /* the command line is wrong */
	EXIT_CONFIG = 3,     /* the configuration is wrong */
	EXIT_NOT_FOUND = 4,  /* not mounted; no such file or image */
	EXIT_BUSY = 5,	     /* in use; mounted already */
	EXIT_REFUSED = 6,    /* it would not be safe */
	EXIT_KEYSERVICE = 7, /* the key service said no, or did not answer */
	EXIT_PERMISSION = 8, /* the caller may not */
	/* Of check-mount and guard, beside 4: not mounted, and no file can be made below. */
	EXIT_OTHER_MOUNT = 10, /* another file system is mounted there */
	EXIT_DEAD = 11,	       /* mounted, but the daemon is gone */
	EXIT_HUNG = 12,	       /* mounted, but nothing answers in time */
	EXIT_BARE = 13,	       /* not mounted, and files can be made below */
};

/* The code for an error that nothing better is known of. */
static inline enum exit_code exit_code_of(vcf_err_t err)
{
	switch (err) {
	case 0:
		return EXIT_OK;
	case -ENOENT:
		return EXIT_NOT_FOUND;
	case -EBUSY:
	case -ETXTBSY:
		return EXIT_BUSY;
	case -ENOKEY:
	case -EKEYREJECTED:
	case -ETIMEDOUT:
	case -EDQUOT:
		return EXIT_KEYSERVICE;
	case -EOPNOTSUPP:
		return EXIT_REFUSED;
	case -EACCES:
	case -EPERM:
		return EXIT_PERMISSION;
	default:
		return EXIT_FAILED;
	}
}

#endif
