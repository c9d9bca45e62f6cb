/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HMAC-SHA256 and HKDF-SHA256 over libgcrypt's MAC interface.
 *
 * crypto_init() must have run. Thread-safe. -EIO if libgcrypt fails (it does not in
 * practice). Source: RFC 2104, RFC 5869 (libgcrypt 1.10 has no HKDF).
 */
#ifndef VCF_CRYPTO_KDF_H
#define VCF_CRYPTO_KDF_H

#include <stddef.h>

#include "util/err.h"

enum { KDF_LEN = 32 };

/*
 * Initialises libgcrypt (version check, secure memory), once, before the first thread.
 * -ENOTSUP if the library is older than the one we were built for.
 */
NODISCARD vcf_err_t crypto_init(void);

NODISCARD vcf_err_t hmac_sha256(unsigned char out[KDF_LEN], const void *key,
				size_t key_len, const void *data, size_t len);

/* HKDF extract and expand; out_len <= 255 * 32. info is a C string (its NUL not
 * included). */
NODISCARD vcf_err_t hkdf_sha256(void *out, size_t out_len, const void *ikm,
				size_t ikm_len, const void *salt, size_t salt_len,
				const char *info);

#endif
