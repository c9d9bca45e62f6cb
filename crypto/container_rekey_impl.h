/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What container_rekey.c, container_rekey_io.c and container_adopt.c share. */
#ifndef VCF_CRYPTO_CONTAINER_REKEY_IMPL_H
#define VCF_CRYPTO_CONTAINER_REKEY_IMPL_H

#include "crypto/container_parts.h"
#include "crypto/container_rekey.h"
#include "crypto/luks1_pages.h"

enum { REKEY_PAGE = 4096 };

struct rekey_area {
	uint64_t off, len; /* whole pages */
};

struct rekey {
	const struct container *c;
	unsigned char *old_head; /* the file's first rekey_head_len() bytes */
	struct rekey_area
		old_area; /* of length 0: none, or container_wipe_unused() comes later */
	struct rekey_area new_area; /* of length 0: the key slot stays */
	unsigned char
		*kept; /* LUKS1: the bytes of kept_area (luks1_pages.h); else NULL */
	struct rekey_area kept_area;
};

/* All that is no key slot's area: both copies of LUKS2, the one of LUKS1. */
size_t rekey_head_len(const struct container *c);

/* -EIO if libcryptsetup cannot tell, or tells something impossible. */
NODISCARD vcf_err_t rekey_slot_area(const struct container *c, int slot,
				    struct rekey_area *a);

/* Changes the header in memory, from the unlocked one to the one that is to be written. */
typedef vcf_err_t rekey_change_fn(struct rekey *r, struct container *c,
				  const struct rekey_params *p);

/* container_rekey() with another way to change it; logs what fails. */
NODISCARD vcf_err_t rekey_make(struct rekey **out, struct container *c,
			       const struct rekey_params *p, rekey_change_fn *fn,
			       const char *name);

/* Steps of it. A free slot with the new secret, and the token's fields; -ENOSPC. */
NODISCARD vcf_err_t rekey_add_slot(struct rekey *r, struct container *c,
				   const struct rekey_params *p);
/* The tokens, the uuid, the MAC. */
NODISCARD vcf_err_t rekey_set_identity(struct container *c, const struct rekey_params *p);

#endif
