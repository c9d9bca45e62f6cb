/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * systemd credentials for a helper that has a user of its own. $CREDENTIALS_DIRECTORY belongs to the
 * unit's user; so the helper gets a mount namespace in which copies of its own lie there: in memory
 * that is never swapped (ramfs), read-only, nobody else's to see, and gone with the helper.
 *
 * Mounts of the host that are unmounted later are unmounted there as well, where the host shares them
 * (as systemd does). What others would miss is `leave's to unmount first.
 */
#ifndef VCF_CRYPTO_KEYCREDENTIALS_H
#define VCF_CRYPTO_KEYCREDENTIALS_H

#include <sys/types.h>

#include "util/err.h"

enum { KEYCREDENTIALS_MAX = 1024 * 1024 }; /* in all, as systemd has it */

/*
 * In the helper's process, as root, before it becomes uid and gid. leave() is called in the new
 * namespace. 0, also where there is no such folder; -EPERM where no namespace may be made; -errno.
 */
NODISCARD vcf_err_t keycredentials_give(uid_t uid, gid_t gid, void (*leave)(void));

#endif
