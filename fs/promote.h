/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Images that are under an encrypt rule with a derived secret get one of their own (DESIGN section
 * 4): after the rename that brought them there, or when they are opened. In the background, one
 * after the other; no request waits for it and no handle notices. While the key service is down
 * they wait here. A server that dies forgets the list: each image is found again when it is opened,
 * those that are open by the server that takes over.
 *
 * Thread-safe. No call blocks.
 */
#ifndef VCF_FS_PROMOTE_H
#define VCF_FS_PROMOTE_H

#include <sys/stat.h>

#include "fs/server.h"

struct promoter;

NODISCARD vcf_err_t promote_new(struct promoter **out, struct server *sv);
/* No job is under way any more. */
void promote_free(struct promoter *p);

/* The container of that inode, at `path` now, may be one. Nothing without rules.promote. */
void promote_want(struct promoter *p, uint64_t dev, uint64_t ino, const char *path);

/* A file was renamed (its class may have changed, or it waits under its old name). */
void promote_renamed(struct promoter *p, const struct stat *st, const char *from,
		     const char *to);

/* Once a second. */
void promote_tick(struct promoter *p);

/* Those that wait, and the one under way. */
size_t promote_count(struct promoter *p);

#endif
