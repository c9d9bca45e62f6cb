/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of replace share: nothing outside fs/replace*.c includes this.
 *
 *   replace.c         the new file, the exchange, the end of the old one
 *   replace_settle.c  what a run that was cut short has left
 */
#ifndef VCF_FS_REPLACE_IMPL_H
#define VCF_FS_REPLACE_IMPL_H

#include "fs/replace.h"

#define REPLACE_TEMP_END ".vmcryptfs" /* oldsecret_beside() */

/* A path's last component. */
const char *replace_name(const char *path);
/* The folder that a file is in; or -errno. */
NODISCARD int replace_folder(const char *path);

/*
 * A new file that is not wanted: emptied first, so that the next run sees by its inode that no
 * container has the secret, whatever this one comes to.
 */
NODISCARD vcf_err_t replace_empty(int fd);

/* The old file's last name, then its header, where it is a container; old: of it, or -1. */
NODISCARD vcf_err_t replace_remove(int dirfd, const char *temp, int old,
				   const char *path);

#endif
