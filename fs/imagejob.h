/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The jobs that take an entry from COLD to READY and back. They run on executors, so they may
 * block on the disk; what waits for the key service is continued by its callback.
 */
#ifndef VCF_FS_IMAGEJOB_H
#define VCF_FS_IMAGEJOB_H

#include "fs/imagetable.h"

/*
 * Starts a job for an entry that the caller has set BUSY; it ends in imagetable_finish().
 * n names the file and its instance; create: write a header to the empty file. The job takes its
 * own reference to the entry. -ENOMEM etc.: not started.
 */
NODISCARD vcf_err_t imagejob_start(struct server *sv, struct image_entry *e,
				   const struct node *n, bool create);

/* Closes an idle entry that the caller has set BUSY and referenced. */
NODISCARD vcf_err_t imagejob_close(struct server *sv, struct image_entry *e);

/* What that job does, on the caller's thread: page cache and key go. Not in a request's handler. */
void imagejob_drop_key(struct server *sv, struct image_entry *e);

#endif
