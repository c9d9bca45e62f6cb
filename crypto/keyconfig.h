/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A key service's own copy of its configuration, with the defaults filled in.
 */
#ifndef VCF_CRYPTO_KEYCONFIG_H
#define VCF_CRYPTO_KEYCONFIG_H

#include "crypto/keyservice.h"
#include "util/err.h"

enum { KEYCONFIG_CHILDREN_MAX = 64 };

/* 0 or -ENOMEM; keyconfig_free() is needed in both cases. */
NODISCARD vcf_err_t keyconfig_copy(struct keyservice_config *cfg,
				   const struct keyservice_config *from);

/* Frees what keyconfig_copy() made, wiping option values; zeros are allowed. */
void keyconfig_free(struct keyservice_config *cfg);

#endif
