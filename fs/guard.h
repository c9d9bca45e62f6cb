/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guard: what lies below a mount must not take a file while the mount is absent, or a program
 * would write guests' disks in the clear there. So the empty folder has mode 0, which stops
 * everybody but root, and is immutable (chattr +i), which stops root. It stays so across umount and
 * reboot; a mount may lie over such a folder.
 *
 * The folder is reached also while something is mounted over it: by a private copy of the mount
 * that it is on (open_tree(2), root only).
 */
#ifndef VCF_FS_GUARD_H
#define VCF_FS_GUARD_H

#include <stdbool.h>

#include "util/err.h"

enum guard_state {
	GUARD_ON,	 /* nobody can make a file there */
	GUARD_READ_ONLY, /* its file system is read-only: likewise */
	GUARD_MODE_ONLY, /* mode 0, but root can */
	GUARD_OFF,
	GUARD_UNKNOWN, /* it cannot be looked at */
};

/* What it means, for people. */
const char *guard_text(enum guard_state state);

/* Nothing lands there, whoever tries. */
bool guard_holds(enum guard_state state);

/*
 * A descriptor of the folder at the absolute path, below a mount of ours; -errno. -EPERM: only root
 * comes below; -EBUSY: ours lies over another file system's mount.
 */
NODISCARD int guard_open(const char *path);

/* The state of a folder, by descriptor or by path as it is seen (for everybody; not root's only). */
enum guard_state guard_look(int dirfd);
enum guard_state guard_look_at(const char *path);

/*
 * Guards a folder that is empty. -ENOTEMPTY: it is not, nothing was changed; -EOPNOTSUPP, -ENOTTY
 * or -EPERM: it could not be made immutable; the mode is 0 all the same.
 */
NODISCARD vcf_err_t guard_set(int dirfd);

/* The way back: mutable, mode 0755. -errno. */
NODISCARD vcf_err_t guard_clear(int dirfd);

#endif
