/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * New settings for a server at work (SIGHUP): rules, key helper, deletion, formats of new
 * images, log. Nothing is restarted but key helpers, and no request is disturbed; while the
 * files are compared with new rules for the last time, requests that make, link or rename
 * files wait.
 */
#ifndef VCF_FS_RELOAD_H
#define VCF_FS_RELOAD_H

#include "fs/config.h"
#include "fs/config_source.h"
#include "fs/server.h"
#include "util/err.h"

/*
 * Applies `fresh` (finished, paths resolved), which it takes over in any case. Refused with
 * nothing changed and the reason logged:
 *   -EINVAL    an option differs that a mount keeps until its end
 *   -EPERM     an existing file would change between plain and encrypted, or its instance; the
 *              first ones are listed. From derived to encrypt and back may change: both are
 *              containers, and what they are stands in them.
 *   -ENOTCONN  the key helper does not start with its new settings
 *   -errno     the files cannot all be looked at, the log file cannot be opened, memory
 * One thread at a time.
 */
NODISCARD vcf_err_t reload_apply(struct server *sv, struct config *fresh);

/* Settings of earlier reloads: a request may still use them, so they go with the server. */
void reload_free_kept(struct server *sv);

/*
 * A thread that waits for SIGHUP, which all threads of the process block, reads the source
 * again, applies it, and tells the keeper (CONTROL_RELOADED). All pointers stay the caller's
 * and outlive it.
 */
struct reload_listener;
NODISCARD vcf_err_t reload_listen(struct reload_listener **out, struct server *sv,
				  const struct config_source *src, int keeper_sock);
void reload_unlisten(struct reload_listener *l);

#endif
