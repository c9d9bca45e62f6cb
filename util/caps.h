/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The capabilities that a process keeps. Each of ours has no other than it uses, and cannot get one
 * back: security.md argues them one by one, tests/func/rights.sh looks.
 */
#ifndef VCF_UTIL_CAPS_H
#define VCF_UTIL_CAPS_H

#include <linux/capability.h>
#include <stdint.h>

#include "util/err.h"

#define CAPS_BIT(cap) (UINT64_C(1) << (cap))

/*
 * The server: the owner, mode, times, device nodes and attributes of files are what callers of other
 * users ask for; their own identity while a file is made; memory that is locked; idle threads.
 * CAP_SYS_RESOURCE is not among them: with it the disk's reserved blocks and the quota would not
 * count for what guests write. CAP_SYS_ADMIN is for extended attributes (trusted.*, where libvirt
 * remembers owners; most of security.*): what else it is good for the filter of calls refuses.
 */
#define CAPS_SERVER                                                                      \
	(CAPS_BIT(CAP_CHOWN) | CAPS_BIT(CAP_DAC_OVERRIDE) | CAPS_BIT(CAP_FOWNER) |       \
	 CAPS_BIT(CAP_FSETID) | CAPS_BIT(CAP_SETGID) | CAPS_BIT(CAP_SETUID) |            \
	 CAPS_BIT(CAP_IPC_LOCK) | CAPS_BIT(CAP_SYS_ADMIN) | CAPS_BIT(CAP_SYS_NICE) |     \
	 CAPS_BIT(CAP_MKNOD) | CAPS_BIT(CAP_SETFCAP))

/*
 * The keeper: what it mounts and unmounts, helpers of other users and their end, the stacks of a
 * server that hangs, the limits of the next one; and all that a server has, which is its clone.
 */
#define CAPS_KEEPER                                                                      \
	(CAPS_SERVER | CAPS_BIT(CAP_KILL) | CAPS_BIT(CAP_SETPCAP) |                      \
	 CAPS_BIT(CAP_SYS_PTRACE) | CAPS_BIT(CAP_SYS_RESOURCE))

/* A helper without a user of its own: its folder may be another user's. One that has a user has none. */
#define CAPS_HELPER CAPS_BIT(CAP_DAC_OVERRIDE)

/*
 * Keeps those of `keep` that the calling thread has; the bounding set likewise, as far as it may
 * (CAP_SETPCAP); none are inheritable or ambient. no_new_privs is set. Async-signal-safe.
 * Returns 0 or -errno.
 */
NODISCARD vcf_err_t caps_keep(uint64_t keep);

/* The bounding set alone. */
NODISCARD vcf_err_t caps_bound(uint64_t keep);

#endif
