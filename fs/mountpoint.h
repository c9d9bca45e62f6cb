/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mounting, unmounting and finding mounts, without fusermount: the daemon's own rights (root, or
 * a user namespace of its own) must do.
 */
#ifndef VCF_FS_MOUNTPOINT_H
#define VCF_FS_MOUNTPOINT_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/config.h"
#include "util/err.h"

#define MOUNTPOINT_TYPE "fuse.vmcryptfs"

/*
 * Mounts devfd at cfg->mountpoint with the configured options. Where a mount of ours is there whose
 * daemon is gone, this one takes its place, if the kernel can (6.5) without a moment in which the
 * folder below is seen. -errno.
 */
NODISCARD vcf_err_t mountpoint_mount(const struct config *cfg, int devfd);

struct mountpoint_info {
	bool ours;
	char type[64];
	char point[PATH_MAX];  /* in our namespace */
	char source[PATH_MAX]; /* of ours: the backing folder */
};

/* A mount of our namespace by its id (STATX_MNT_ID). -ENOENT, -errno. */
NODISCARD vcf_err_t mountpoint_by_id(struct mountpoint_info *out, uint64_t id);

/* What lies at path: no mount of ours on top; ours alone; ours over another file system's. -errno. */
enum { MOUNTPOINT_BARE, MOUNTPOINT_OVER_FOLDER, MOUNTPOINT_OVER_OTHERS };
NODISCARD int mountpoint_stack(const char *path);

/*
 * Is one of our file systems the topmost mount at path? Reads /proc/self/mountinfo and touches
 * nothing below path. 1, 0 or -errno.
 */
NODISCARD int mountpoint_is_ours(const char *path);

/* The device number of our mount at path. -ENOENT, -errno. */
NODISCARD vcf_err_t mountpoint_device(const char *path, unsigned int *major,
				      unsigned int *minor);

/* Is this the device number of one of our mounts? Likewise. */
NODISCARD bool mountpoint_is_our_device(unsigned int major, unsigned int minor);

/*
 * Lets the kernel read so far ahead of buffered readers of the mount; its own limit for FUSE is
 * 128 KiB, whatever FUSE_INIT is answered. Best effort (root, a writable /sys), after FUSE_INIT.
 */
void mountpoint_read_ahead(const char *path, unsigned int kib);

/* 0: a mount may be made there, also over one whose daemon is gone. -EBUSY: ours is; -errno. */
NODISCARD vcf_err_t mountpoint_is_free(const char *path);

/* The mount of ours that path lies in: its mountpoint. -ENOENT, -errno. */
NODISCARD vcf_err_t mountpoint_of(const char *path, char *dst, size_t room);

/* Calls fn for each mountpoint of ours. */
NODISCARD vcf_err_t mountpoint_each(void (*fn)(void *arg, const char *mountpoint),
				    void *arg);

/* Likewise for each, whosever. */
NODISCARD vcf_err_t mountpoint_each_any(void (*fn)(void *arg, const char *mountpoint),
					void *arg);

/*
 * The names of a mount's files: RUNTIME/HASH.sock by mountpoint (a socket's path is short),
 * STATE/ESCAPED-BACKING/{journal,site} by backing directory. -ENAMETOOLONG.
 */
NODISCARD vcf_err_t mountpoint_socket(char *dst, size_t room,
				      const char *runtime_directory,
				      const char *mountpoint);
NODISCARD vcf_err_t mountpoint_state(char *dst, size_t room, const struct config *cfg,
				     const char *name);

#endif
