/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Block devices as files of the mount ([device NAME]): names in the root that the backing folder does
 * not have. Behind the node is the device's own inode, so that all that is done with descriptors is as
 * for a file; what differs:
 *
 *   size       that of the device, asked anew with each stat: it grows below (lvextend), not here
 *   owner,     in the session (session.h), first as configured: those of the device node say who may
 *   mode       reach the ciphertext. They last until the mount's end
 *   times      of the device node
 *   claim      while an image has its key and is open, one descriptor of it is open with O_EXCL: no
 *              file system, mapping or other daemon gets the device. It is the record's sentinel
 *   name       can be neither removed, renamed, linked nor replaced
 *
 * Locking: server.device_lock for records and claims.
 */
#ifndef VCF_FS_DEVICE_H
#define VCF_FS_DEVICE_H

#include <stdbool.h>
#include <sys/stat.h>

#include "fs/imagetable.h"
#include "fs/server.h"

/* Is it the name of a device in the root? Also while the device is not there. */
bool device_has_name(struct server *sv, const struct node *dir, const char *name);

/* For a name of which that is true: O_PATH, or -ENOENT, -ENXIO (no block device), -errno. */
NODISCARD int device_open_name(struct server *sv, const char *name);

/* The number of its record in the session, for node.device. -ENFILE. */
NODISCARD vcf_err_t device_number(struct server *sv, const char *name, uint32_t *number);

/* The attributes as shown; an open image learns of the device's size. */
NODISCARD vcf_err_t device_show(struct server *sv, struct node *n, struct stat *st);

/* Sets owner and permissions as a SETATTR says (FUSE_SET_ATTR_*). */
void device_set(struct server *sv, const struct node *n, const struct stat *attr,
		int to_set);

/* P, by an open descriptor, of a device without a header. */
NODISCARD vcf_err_t device_empty_len(struct server *sv, int fd, uint64_t *plen);

/* What O_DIRECT wants of it. */
uint32_t device_align(int fd);

/*
 * A descriptor that claims the device; pathfd leads to it. -EBUSY: it is in use by somebody else
 * (logged by `name`).
 */
NODISCARD int device_claim_fd(struct server *sv, int pathfd, const char *name);

/* An opened image's entry has its claim; without an image there is nothing to claim. */
NODISCARD vcf_err_t device_claim(struct server *sv, struct image_entry *e,
				 const struct node *n);

/* At mount, by a reload: no such name is in the backing folder. -EEXIST, logged. */
NODISCARD vcf_err_t device_check_names(const struct server *sv, const struct config *cfg);

/* At mount: says which devices cannot be used, and syncs the headers of all. */
void device_settle(struct server *sv);

/* By a reload: an open one stays what it is. -EBUSY, logged. */
NODISCARD vcf_err_t device_check_reload(struct server *sv, const struct config *fresh);

#endif
