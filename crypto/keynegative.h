/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which ids the service has just refused (notfound, denied): for one second it is not asked again
 * for them, so that a storm of opens of one bad image is one request a second. Never longer: a
 * right that was granted, a secret that was restored counts at once. A few ids; the oldest go
 * first. No clock, no locks.
 */
#ifndef VCF_CRYPTO_KEYNEGATIVE_H
#define VCF_CRYPTO_KEYNEGATIVE_H

#include <stddef.h>
#include <stdint.h>

#include "crypto/token.h"
#include "util/err.h"

enum { KEYNEGATIVE_MS = 1000, KEYNEGATIVE_CNT = 64, KEYNEGATIVE_TEXT_MAX = 127 };

struct keynegative_entry {
	char id[TOKEN_KEY_ID_MAX + 1]; /* "": free */
	char text[KEYNEGATIVE_TEXT_MAX + 1];
	vcf_err_t err;
	uint64_t until_ms;
};

struct keynegative { /* zeros: empty */
	struct keynegative_entry entries[KEYNEGATIVE_CNT];
	size_t next;
};

/* Remembers an answer, if it is one of those two. */
void keynegative_note(struct keynegative *n, const char *id, vcf_err_t err,
		      const char *text, uint64_t now_ms);

/* What was answered within the last second, or NULL. */
const struct keynegative_entry *keynegative_find(const struct keynegative *n,
						 const char *id, uint64_t now_ms);

/* The service has it after all (it was just made), or may answer otherwise (id NULL: all). */
void keynegative_forget(struct keynegative *n, const char *id);

#endif
