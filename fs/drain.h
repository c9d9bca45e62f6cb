/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Draining: a mount that is about to end takes no new disks. Who has an image open keeps it, and
 * may open it again; an image of class encrypt that nobody has open is refused (ESHUTDOWN), and so is
 * a new one. Small files (derived, passthrough) go on, since Nova needs them to move guests away.
 * The flag is the session's: servers and programs that take over keep it.
 */
#ifndef VCF_FS_DRAIN_H
#define VCF_FS_DRAIN_H

#include "fs/server.h"

struct image_entry;

/* 0, or -ESHUTDOWN. */
NODISCARD vcf_err_t drain_may_open(struct server *sv, const struct node *n,
				   struct image_entry *e);
NODISCARD vcf_err_t drain_may_create(struct server *sv, const struct node *dir,
				     const char *name);

#endif
