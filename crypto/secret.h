/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * struct secret: the 32 random bytes that a key service keeps for one image.
 *
 * They lie in one locked, not dumped, never inherited-by-core arena and are wiped when
 * freed. secret_bytes() and secret_hex() are called only in crypto/. Thread-safe.
 */
#ifndef VCF_CRYPTO_SECRET_H
#define VCF_CRYPTO_SECRET_H

#include <stdbool.h>
#include <stddef.h>

#include "util/cleanup.h"
#include "util/err.h"

enum { SECRET_LEN = 32, SECRET_HEX_LEN = 64 };

struct secret;

/*
 * Sets up the arena, once, before any secret is made.
 * Returns 0, or -ENOMEM/-EPERM if the memory cannot be locked: raise RLIMIT_MEMLOCK (the
 * log line names the size needed).
 */
NODISCARD vcf_err_t secret_arena_init(void);

/* A secret of zeros; the caller fills it through secret_bytes(). -ENOMEM when the arena
 * is full. */
NODISCARD vcf_err_t secret_new(struct secret **out);

/* A fresh random secret (getrandom). */
NODISCARD vcf_err_t secret_new_random(struct secret **out);

/* A secret from its 64 lower-case hex digits; -EINVAL if it is anything else. */
NODISCARD vcf_err_t secret_new_hex(struct secret **out, const char *hex, size_t len);

/* A copy. */
NODISCARD vcf_err_t secret_dup(struct secret **out, const struct secret *s);

/* Wipes and frees; NULL is allowed. */
void secret_free(struct secret *s);

/* The raw bytes, SECRET_LEN of them; valid until secret_free(). */
unsigned char *secret_bytes(const struct secret *s);

/* Writes the LUKS passphrase (64 hex digits and a NUL) to dst; the caller wipes it. */
void secret_hex(const struct secret *s, char dst[SECRET_HEX_LEN + 1]);

/* Constant-time comparison. */
bool secret_equal(const struct secret *a, const struct secret *b);

/* A wipe that no optimiser removes. */
void secret_wipe(void *p, size_t len);

/* Random bytes from getrandom(2); never fails after boot (aborts otherwise). */
void secret_random(void *p, size_t len);

DEFINE_AUTO(secret, struct secret *, secret_free)
#define auto_secret __attribute__((cleanup(cleanup_secret)))

#endif
