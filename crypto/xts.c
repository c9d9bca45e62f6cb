/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A secure libgcrypt handle and the name of the key that it holds. Setting a key costs
 * less than a tenth of a microsecond, so there is one handle a thread and no pool: one
 * takes 3 KiB of secure memory.
 */
#include "crypto/xts.h"

#include <errno.h>
#include <gcrypt.h>
#include <stdbool.h>
#include <string.h>

#include "build-config.h"
#include "crypto/secret.h"

enum { TWEAK_LEN = 16, TWEAK_UNIT = 512 };

struct xts {
	gcry_cipher_hd_t hd;
	const struct keytable *kt; /* whose key is set; NULL: none */
	struct key_ref ref;
};

vcf_err_t xts_new(struct xts **out)
{
	auto_xts struct xts *x = calloc(1, sizeof(*x));

	if (!x)
		return -ENOMEM;
	if (gcry_cipher_open(&x->hd, GCRY_CIPHER_AES256, GCRY_CIPHER_MODE_XTS,
			     GCRY_CIPHER_SECURE))
		return -ENOMEM;
	*out = STEAL_PTR(&x);
	return 0;
}

void xts_free(struct xts *x)
{
	if (!x)
		return;
	if (x->hd)
		gcry_cipher_close(x->hd); /* wipes */
	free(x);
}

/* libgcrypt cannot unset a key: a worthless one takes its place. */
void xts_forget(struct xts *x)
{
	static const unsigned char nothing[VOLUME_KEY_LEN] = {1};

	if (!x->kt)
		return;
	x->kt = NULL;
	(void)gcry_cipher_setkey(x->hd, nothing, sizeof(nothing));
}

static bool holds(const struct xts *x, const struct keytable *kt, struct key_ref ref)
{
	return x->kt == kt && x->ref.slot == ref.slot &&
	       x->ref.generation == ref.generation;
}

vcf_err_t xts_use(struct xts *x, const struct keytable *kt, struct key_ref ref)
{
	const unsigned char *key = keytable_key(kt, ref);

	if (!key) {
		xts_forget(x);
		return -ENOKEY;
	}
	if (holds(x, kt, ref))
		return 0;
	x->kt = kt; /* before the key: what fails half-way is forgotten too */
	if (gcry_cipher_setkey(x->hd, key, VOLUME_KEY_LEN)) {
		xts_forget(x);
		return -EIO;
	}
	x->ref = ref;
	return 0;
}

typedef gcry_error_t cipher_fn(gcry_cipher_hd_t, void *, size_t, const void *, size_t);

/* libgcrypt steps its tweak by one a call whatever the length: so it is set each time. */
static vcf_err_t one_sector(struct xts *x, cipher_fn *fn, unsigned char *dst,
			    const unsigned char *src, uint32_t len, uint64_t unit)
{
	unsigned char tweak[TWEAK_LEN] = {0};

	for (int i = 0; i < 8; i++)
		tweak[i] = (unsigned char)(unit >> 8 * i);
	if (gcry_cipher_setiv(x->hd, tweak, sizeof(tweak)))
		return -EIO;
	if (src == dst)
		return fn(x->hd, dst, len, NULL, 0) ? -EIO : 0;
	return fn(x->hd, dst, len, src, len) ? -EIO : 0;
}

static vcf_err_t run(struct xts *x, cipher_fn *fn, void *dst, const void *src, size_t len,
		     uint32_t sector_len, uint64_t sector)
{
	if ((sector_len != 512 && sector_len != 4096) || len % sector_len)
		return -EINVAL;
	if (!x->kt)
		return -ENOKEY;
	if (VCF_BENCH_NO_CIPHER) {
		if (dst != src)
			memcpy(dst, src, len);
		return 0;
	}
	for (size_t off = 0; off < len; off += sector_len, sector++) {
		vcf_err_t err = one_sector(x, fn, (unsigned char *)dst + off,
					   (const unsigned char *)src + off, sector_len,
					   sector * (sector_len / TWEAK_UNIT));
		if (err)
			return err;
	}
	return 0;
}

vcf_err_t xts_encrypt(struct xts *x, void *dst, const void *src, size_t len,
		      uint32_t sector_len, uint64_t sector)
{
	return run(x, gcry_cipher_encrypt, dst, src, len, sector_len, sector);
}

vcf_err_t xts_decrypt(struct xts *x, void *dst, const void *src, size_t len,
		      uint32_t sector_len, uint64_t sector)
{
	return run(x, gcry_cipher_decrypt, dst, src, len, sector_len, sector);
}
