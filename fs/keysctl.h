/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The server's socket for `vmcryptfs keys`: RUNTIME/HASH.keys, mode 0600, for root and the
 * daemon's own user. One connection, one request (keysop.h): JSON text up to the end of the
 * client's side, then the answer up to the end of ours.
 */
#ifndef VCF_FS_KEYSCTL_H
#define VCF_FS_KEYSCTL_H

#include <json-c/json.h>
#include <stddef.h>
#include <stdio.h>

#include "fs/server.h"
#include "util/err.h"

struct keysctl;

/* Answers in a thread of its own until keysctl_close(). -errno with a log line. */
NODISCARD vcf_err_t keysctl_listen(struct keysctl **out, struct server *sv);
void keysctl_close(struct keysctl *k);

/* RUNTIME/HASH.keys of a mount. -ENAMETOOLONG. */
NODISCARD vcf_err_t keysctl_path(char *dst, size_t room, const char *runtime,
				 const char *mountpoint);

/*
 * The client's side: sends the request, copies the answer to `to`. -ENOENT, -ECONNREFUSED: nobody
 * serves the mount; -EACCES; -errno.
 */
NODISCARD vcf_err_t keysctl_call(const char *path, struct json_object *request, FILE *to);

#endif
