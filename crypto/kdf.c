/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/kdf.h"

#include <errno.h>
#include <gcrypt.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "crypto/secret.h"
#include "util/cleanup.h"
#include "util/log.h"

/* Room for the MAC contexts of a few threads; the data path's cipher handles come on top.
 */
enum { SECURE_MEMORY_LEN = 1024 * 1024 };

/*
 * libgcrypt locks its pool of secure memory but lets it into core dumps, and a cipher's key
 * schedule begins with the key itself. The pool has no name: its mapping is found by an address.
 */
static void keep_out_of_cores(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	void *probe = gcry_malloc_secure(16);
	unsigned long start, end;
	char line[512];

	while (maps && probe && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx", &start, &end) != 2 ||
		    (uintptr_t)probe < start || (uintptr_t)probe >= end)
			continue;
		/* NOLINTNEXTLINE(performance-no-int-to-ptr): an address from the kernel */
		if (madvise((void *)start, end - start, MADV_DONTDUMP) == 0)
			break;
	}
	gcry_free(probe);
	if (maps)
		fclose(maps);
}

vcf_err_t crypto_init(void)
{
	if (gcry_control(GCRYCTL_INITIALIZATION_FINISHED_P))
		return 0;
	if (!gcry_check_version(GCRYPT_VERSION)) {
		log_err("libgcrypt is older than %s", GCRYPT_VERSION);
		return -ENOTSUP;
	}
	gcry_control(GCRYCTL_INIT_SECMEM, SECURE_MEMORY_LEN, 0);
	gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
	keep_out_of_cores();
	return 0;
}

static void close_mac(gcry_mac_hd_t *hd)
{
	if (*hd)
		gcry_mac_close(*hd);
}

/* HMAC over two pieces; either may be empty. */
static vcf_err_t hmac2(unsigned char out[KDF_LEN], const void *key, size_t key_len,
		       const void *a, size_t a_len, const void *b, size_t b_len)
{
	gcry_mac_hd_t hd __attribute__((cleanup(close_mac))) = NULL;
	unsigned char mac[KDF_LEN];
	size_t mac_len = sizeof(mac);

	if (gcry_mac_open(&hd, GCRY_MAC_HMAC_SHA256, GCRY_MAC_FLAG_SECURE, NULL) ||
	    gcry_mac_setkey(hd, key, key_len) || gcry_mac_write(hd, a, a_len) ||
	    gcry_mac_write(hd, b, b_len) || gcry_mac_read(hd, mac, &mac_len))
		return -EIO;
	memcpy(out, mac, sizeof(mac));
	secret_wipe(mac, sizeof(mac));
	return 0;
}

vcf_err_t hmac_sha256(unsigned char out[KDF_LEN], const void *key, size_t key_len,
		      const void *data, size_t len)
{
	return hmac2(out, key, key_len, data, len, "", 0);
}

/* The expand step: T(i) = HMAC(PRK, T(i-1) | info | i), RFC 5869 section 2.3. */
static vcf_err_t expand(unsigned char *out, size_t out_len,
			const unsigned char prk[KDF_LEN], const char *info)
{
	unsigned char tail[KDF_LEN + 256 + 1];
	size_t info_len = strlen(info);
	size_t prev = 0; /* length of T(i-1), at the start of tail */
	vcf_err_t err = 0;

	if (info_len > 256 || out_len > 255 * KDF_LEN)
		return -EINVAL;
	for (unsigned char i = 1; out_len && !err; i++) {
		size_t n = out_len < KDF_LEN ? out_len : KDF_LEN;

		memcpy(tail + prev, info, info_len);
		tail[prev + info_len] = i;
		err = hmac2(tail, prk, KDF_LEN, tail, prev + info_len + 1, "", 0);
		if (err)
			break;
		memcpy(out, tail, n);
		prev = KDF_LEN;
		out += n;
		out_len -= n;
	}
	secret_wipe(tail, sizeof(tail));
	return err;
}

vcf_err_t hkdf_sha256(void *out, size_t out_len, const void *ikm, size_t ikm_len,
		      const void *salt, size_t salt_len, const char *info)
{
	static const unsigned char zeros[KDF_LEN];
	unsigned char prk[KDF_LEN];
	vcf_err_t err;

	if (!salt_len) {
		salt = zeros;
		salt_len = sizeof(zeros);
	}
	err = hmac_sha256(prk, salt, salt_len, ikm, ikm_len);
	if (!err)
		err = expand(out, out_len, prk, info);
	secret_wipe(prk, sizeof(prk));
	return err;
}
