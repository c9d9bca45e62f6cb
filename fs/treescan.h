/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One walk over the backing directory: what the rules make of each regular file and what
 * it is. Used at mount (refuse plaintext under encrypt; collect the linked containers'
 * uuids), by `check-tree`, and before a secret is destroyed. Never follows symlinks,
 * never crosses into another file system's mount of ours, never opens anything but
 * regular files.
 */
#ifndef VCF_FS_TREESCAN_H
#define VCF_FS_TREESCAN_H

#include <sys/stat.h>

#include "crypto/container.h"
#include "fs/rules.h"
#include "util/err.h"

struct treescan_file {
	const char *path; /* relative to the root */
	enum file_class cls;
	struct stat st;
	struct peek peek; /* treescan(): not filled for passthrough files */
	vcf_err_t err;	  /* the file could not be read (then peek is not filled) */
};

/*
 * Calls fn for each regular file; a non-zero answer stops the walk and is returned.
 * rootfd is not changed (reopened). Returns 0, fn's answer, or -errno if the root cannot
 * be read; folders that cannot be read, and other file systems, are logged and skipped.
 */
NODISCARD vcf_err_t treescan(int rootfd, const struct rules *r,
			     int (*fn)(void *arg, const struct treescan_file *f),
			     void *arg);

/*
 * The same for those who must not miss a file: what cannot be looked at ends the walk with its
 * error, passthrough files are peeked at, and file systems mounted below are walked, too. Without
 * rules (NULL) files are only named: no class, no peek.
 */
NODISCARD vcf_err_t treescan_all(int rootfd, const struct rules *r,
				 int (*fn)(void *arg, const struct treescan_file *f),
				 void *arg);

#endif
