/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * AES-256-XTS of whole sectors, as dm-crypt's aes-xts-plain64 does it.
 *
 * One handle belongs to one thread. It remembers the key it was set to, so that runs on
 * one image set the key once. crypto_init() must have run.
 *
 * sector  index of the first sector, in units of sector_len, counted from the data offset
 * tweak   sector * (sector_len / 512) + 8-byte little-endian, zero-padded to 16 bytes:
 * LUKS2 has no iv_large_sectors, so the tweak counts 512-byte units whatever the sector
 * size. Source: IEEE 1619-2018 5.1; Linux
 * Documentation/admin-guide/device-mapper/dm-crypt.rst.
 */
#ifndef VCF_CRYPTO_XTS_H
#define VCF_CRYPTO_XTS_H

#include <stddef.h>
#include <stdint.h>

#include "crypto/keytable.h"
#include "util/cleanup.h"
#include "util/err.h"

struct xts;

/* -ENOMEM when libgcrypt's secure memory is full. */
NODISCARD vcf_err_t xts_new(struct xts **out);
void xts_free(struct xts *x);

/*
 * Sets the key of a record, if it is not the one set already.
 * -ENOKEY if ref no longer names a record.
 */
NODISCARD vcf_err_t xts_use(struct xts *x, const struct keytable *kt, struct key_ref ref);

/* Forgets the key (a handle must not keep a key that the table has wiped). */
void xts_forget(struct xts *x);

/*
 * Encrypts or decrypts len bytes (a multiple of sector_len, 512 or 4096) from src to dst;
 * they may be the same buffer but not overlap otherwise. -EINVAL on a bad length,
 * -ENOKEY without a key, -EIO if libgcrypt fails.
 */
NODISCARD vcf_err_t xts_encrypt(struct xts *x, void *dst, const void *src, size_t len,
				uint32_t sector_len, uint64_t sector);
NODISCARD vcf_err_t xts_decrypt(struct xts *x, void *dst, const void *src, size_t len,
				uint32_t sector_len, uint64_t sector);

DEFINE_AUTO(xts, struct xts *, xts_free)
#define auto_xts __attribute__((cleanup(cleanup_xts)))

#endif
