/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of imagetable share: nothing outside fs/imagetable*.c includes this.
 *
 *   imagetable.c           entries, their states and users
 *   imagetable_takeover.c  what an earlier process left
 */
#ifndef VCF_FS_IMAGETABLE_IMPL_H
#define VCF_FS_IMAGETABLE_IMPL_H

#include "fs/imagetable.h"

enum { TABLE_BITS = 12, TABLE_CNT = 1 << TABLE_BITS };

struct imagetable {
	struct server *sv;
	struct mutex lock;
	struct image_entry *hash[TABLE_CNT]; /* (l) */
};

/*
 * The entry of a node's inode, with one more reference. *lingers: it has a key, and no handle that
 * would keep its inode alive. -ENOMEM.
 */
NODISCARD vcf_err_t imagetable_find_or_add(struct imagetable *t, const struct node *n,
					   struct image_entry **out, bool *lingers);

#endif
