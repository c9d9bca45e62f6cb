/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The block devices that a configuration names ([device NAME]), without a mount: their first
 * attributes, and what is on each.
 */
#ifndef VCF_FS_DEVICE_CONFIG_H
#define VCF_FS_DEVICE_CONFIG_H

#include <stdint.h>

#include "crypto/container.h"
#include "fs/config.h"
#include "util/err.h"

struct device_attr {
	uint32_t mode; /* permissions */
	uint32_t uid, gid;
};

/* What the file has when its mount begins. -EINVAL: no such user, or no permissions. */
NODISCARD vcf_err_t device_first_attr(struct device_attr *out, const struct config *d);

/*
 * Opens a device by its configured path; symbolic links (/dev/VG/LV) are followed, for an operator
 * wrote it. The descriptor, -ENOTBLK, or -errno.
 */
NODISCARD int device_open(const struct config *d, int flags);

/* What one look at a device tells. */
struct device_look {
	const char *name; /* of its file */
	const char *path;
	int fd; /* O_RDONLY, closed after the call; or -1 */
	vcf_err_t
		err; /* why it cannot be looked at: fd and peek are not there. Never -ENOENT */
	struct peek peek;
};

/* Calls fn for each device; what is not zero ends that and is returned. */
NODISCARD int device_each(const struct config *c,
			  int (*fn)(void *arg, const struct device_look *l), void *arg);

/* The device whose path leads to that block device (st_rdev), or NULL. */
const struct config *device_by_rdev(const struct config *c, uint64_t rdev);

#endif
