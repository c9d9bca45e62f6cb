/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parts of the kmip helper (kmip.c). */
#ifndef VCF_CRYPTO_KEYS_KMIP_PARTS_H
#define VCF_CRYPTO_KEYS_KMIP_PARTS_H

#include <stdbool.h>
#include <stddef.h>

#include "crypto/keys/kmip_client.h"

struct keys {
	struct kmip_client client;
	char prefix[KMIP_PREFIX_MAX + 1]; /* what our names begin with */
	bool activate;
};

/* As in struct helper_ops; ctx: a struct keys. */
vcf_err_t kmip_option(void *ctx, const char *name, const char *value);
vcf_err_t kmip_find(void *ctx, const char *label, struct helper *h,
		    struct helper_failure *f);
vcf_err_t kmip_list(void *ctx, const char *prefix, struct helper *h,
		    struct helper_failure *f);

/* From now on a verb's time runs. */
void kmip_begin_verb(struct keys *k);

/* A reply that cannot be used: unavailable. */
vcf_err_t kmip_fail_reply(const struct keys *k, const char *what,
			  struct helper_failure *f);

/* Label, state and date of one object. 0, or what helper_fail() returned. */
NODISCARD vcf_err_t kmip_attributes_of(struct keys *k, const char *id,
				       struct kmip_attributes *out,
				       struct helper_failure *f);

bool kmip_is_destroyed(const struct kmip_attributes *a);

/* Does an object with the n-th name of this label exist? 0, or what helper_fail() returned. */
NODISCARD vcf_err_t kmip_name_exists(struct keys *k, const char *label, int n,
				     bool *exists, struct helper_failure *f);

#endif
