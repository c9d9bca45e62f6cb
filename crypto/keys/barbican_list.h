/* SPDX-License-Identifier: GPL-2.0-or-later */
/* find and list of the Barbican helper: struct helper_ops; ctx is the struct barbican. */
#ifndef VCF_CRYPTO_KEYS_BARBICAN_LIST_H
#define VCF_CRYPTO_KEYS_BARBICAN_LIST_H

#include "crypto/keys/helper.h"

NODISCARD vcf_err_t barbican_find(void *ctx, const char *label, struct helper *h,
				  struct helper_failure *f);
NODISCARD vcf_err_t barbican_list(void *ctx, const char *prefix, struct helper *h,
				  struct helper_failure *f);

#endif
