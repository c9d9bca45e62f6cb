/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which containers have a name below the mount: asked at mount (recovery of deletions) and
 * before a secret is destroyed. Each question walks the tree.
 */
#ifndef VCF_FS_LINKED_H
#define VCF_FS_LINKED_H

#include <stdbool.h>
#include <stddef.h>

#include "crypto/journal.h"
#include "fs/server.h"

/* The containers' uuids, sorted, and the plaintext files that a mount must not hide. */
struct linked {
	unsigned char (*uuids)[UUID_LEN];
	size_t cnt, room;
	size_t plaintext_cnt;
};

/*
 * Walks the tree, and looks at the devices; plaintext files under encrypt rules are counted and the first ones logged
 * (at level err, or info where `tolerate`).
 */
NODISCARD vcf_err_t linked_scan(struct linked *l, const struct server *sv, bool tolerate);
bool linked_has(const struct linked *l, const unsigned char uuid[UUID_LEN]);
void linked_fini(struct linked *l);

/*
 * Called for a container that has a name: its header as it is, unproven. t is NULL if the header
 * cannot be read, uuid as well if not even that can be told: the file may be none. The same one may
 * come again, under another name. Non-zero ends the walk.
 */
typedef vcf_err_t linked_look_fn(void *arg, const char *path, const unsigned char *uuid,
				 const struct token *t);

/* Of a mount: none is missed, whatever is renamed meanwhile. -errno: not all were seen. */
NODISCARD vcf_err_t linked_walk(struct server *sv, linked_look_fn *look, void *arg);

/* Of a folder, and the devices of its configuration, that nobody serves. */
NODISCARD vcf_err_t linked_walk_tree(int rootfd, const struct rules *r,
				     const struct config *cfg, linked_look_fn *look,
				     void *arg);

/* deletion_config.in_use; arg is the server. */
NODISCARD vcf_err_t linked_in_use(void *arg, const struct journal_entry *entries,
				  size_t cnt, bool *in_use);

/*
 * Something has got that name (rename, link); sv->tree_lock is held. A walk that is under way may
 * have passed the new place already and not come to the old one: it looks at these again.
 */
void linked_moved(struct server *sv, const char *path, bool folder);

#endif
