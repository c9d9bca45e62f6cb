/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The program as mount(8) and umount(8) call it, by the names mount.fuse.vmcryptfs,
 * mount.vmcryptfs and umount.fuse.vmcryptfs, for /etc/fstab:
 *
 *   SOURCE TARGET [-sfnv] [-t TYPE] [-o OPTION,...]    SOURCE: a configuration, or a backing folder
 *   TARGET [-lfnv] [-t TYPE]
 */
#ifndef VCF_FS_MOUNTHELPER_H
#define VCF_FS_MOUNTHELPER_H

#include <stdbool.h>

#include "util/err.h"

/* Is this one of those names (argv[0])? */
bool mounthelper_is_called(const char *program);

/* An exit status of mount(8): 0; 1: invocation, permissions; 32: failed. */
int mounthelper_run(int argc, char **argv);

/* --- parts, for tests --- */

enum { MOUNTHELPER_SETTING_MAX = 1024 };

/*
 * One option of an fstab's line: what `vmcryptfs mount` takes for it after -o is written to
 * `setting` ("": nothing). -EOPNOTSUPP: not to be had, *why says so; -EINVAL: nobody knows it.
 */
NODISCARD vcf_err_t mounthelper_option(char setting[MOUNTHELPER_SETTING_MAX],
				       const char *option, const char **why);

#endif
