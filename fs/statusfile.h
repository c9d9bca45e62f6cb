/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding the status sockets of mounts, for commands.
 */
#ifndef VCF_FS_STATUSFILE_H
#define VCF_FS_STATUSFILE_H

#include <json-c/json.h>
#include <limits.h>

#include "util/err.h"

/* $VMCRYPTFS_RUNTIME_DIRECTORY, or the configuration's default. */
const char *statusfile_default_directory(void);

/* The status object of a mount: the socket in `runtime`. The caller puts it. */
NODISCARD vcf_err_t statusfile_read(struct json_object **out, const char *runtime,
				    const char *mountpoint);

/*
 * The control socket of a mount (ctlsock.h), beside the status socket, whose name in `runtime` may
 * be a link. -errno.
 */
NODISCARD vcf_err_t statusfile_control(char *dst, size_t room, const char *runtime,
				       const char *mountpoint);

/* All mounts whose sockets lie in `runtime`, as an array. */
NODISCARD vcf_err_t statusfile_read_all(struct json_object **out, const char *runtime);

/*
 * An absolute path without touching its last component (it may be a dead mount). -errno; errno
 * is set as well.
 */
NODISCARD vcf_err_t statusfile_resolve(const char *path, char dst[PATH_MAX]);

#endif
