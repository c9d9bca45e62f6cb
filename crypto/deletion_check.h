/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Does a secret belong to the header that was saved when its container went? */
#ifndef VCF_CRYPTO_DELETION_CHECK_H
#define VCF_CRYPTO_DELETION_CHECK_H

#include "crypto/journal.h"
#include "crypto/secret.h"
#include "util/err.h"

/*
 * The header names the entry's own uuid, service and key id, and its MAC is right under the
 * secret. hdr: CONTAINER_PEEK_LEN bytes. 0; -EBADMSG or another error: no.
 */
NODISCARD vcf_err_t deletion_check_header(const struct journal_entry *e, const void *hdr,
					  const struct secret *secret);

/* Errors of it that say nothing of the header. */
bool deletion_check_passing(vcf_err_t err);

#endif
