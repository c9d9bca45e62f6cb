/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The key services of a command that makes no secrets: what verify, repair, header, trim, ... ask.
 * Unlike offline.h without a journal, so that several such commands may be at work.
 */
#ifndef VCF_FS_TOOLKEYS_H
#define VCF_FS_TOOLKEYS_H

#include <stddef.h>

#include "crypto/container.h"
#include "crypto/keyservice.h"
#include "fs/config.h"
#include "util/err.h"

struct toolkeys {
	const struct config *cfg;
	struct keyservice *ks[CONFIG_SERVICES_MAX]; /* in the order of cfg's */
};

/*
 * Crypto, and the services of cfg; helpers start when they are asked something. An exit code, with a
 * message. toolkeys_end() in every case, on a zeroed or begun one.
 */
NODISCARD int toolkeys_begin(struct toolkeys *k, const struct config *cfg,
			     const char *command);
void toolkeys_end(struct toolkeys *k);

/*
 * The secret of a loaded container, that of a derived one as well; path: for the audit trail.
 * -ENOKEY     the service has no such secret any more
 * -ENOTCONN   the token's service is not configured
 * -errno      the service said no, or did not answer
 * why: what there is to say then. Thread-safe.
 */
enum { TOOLKEYS_WHY_LEN = 384 };
NODISCARD vcf_err_t toolkeys_get(struct toolkeys *k, const struct container *c,
				 const char *path, struct secret **out,
				 char why[TOOLKEYS_WHY_LEN]);

/* The same, and unlocks the container with it. -EKEYREJECTED, -EBADMSG: as container_unlock(). */
NODISCARD vcf_err_t toolkeys_unlock(struct toolkeys *k, struct container *c,
				    const char *path, struct secret **out,
				    char why[TOOLKEYS_WHY_LEN]);

#endif
