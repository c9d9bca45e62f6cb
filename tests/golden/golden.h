/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Golden containers: one of every released format, kept for ever, read by all later
 * versions. What they hold is defined here, for their maker and for test_golden.
 *
 * A .pages file is an image without its zero pages: "VCFPAGES", le64 size of the image,
 * then for each page le64 offset and 4096 bytes.
 *
 * Secret: bytes 00 01 .. 1f. Plaintext: GOLDEN_SECTORS whole sectors, then GOLDEN_TAIL
 * bytes, so that the file's size is data_off + (GOLDEN_SECTORS + 1) * S + GOLDEN_TAIL.
 * Sector GOLDEN_HOLE is a hole.
 */
#ifndef VCF_TESTS_GOLDEN_H
#define VCF_TESTS_GOLDEN_H

#include <gcrypt.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "crypto/keytable.h"
#include "crypto/token.h"

#define GOLDEN_MAGIC "VCFPAGES"

enum { GOLDEN_PAGE = 4096, GOLDEN_SECTORS = 3, GOLDEN_HOLE = 1, GOLDEN_TAIL = 100 };

static const struct golden {
	const char *name;
	enum luks_format format;
	uint32_t sector_len;
	unsigned char uuid[UUID_LEN];
} golden_list[] = {
	{"v1-luks2-4096", FORMAT_LUKS2, 4096, "golden--luks2-4k"},
	{"v1-luks2-512", FORMAT_LUKS2, 512, "golden-luks2-512"},
	{"v1-luks1", FORMAT_LUKS1, 512, "golden-----luks1"},
};

static const struct token golden_token = {
	.service = "default",
	.key_id = "http://keys.example:9311/v1/secrets/"
		  "1f0c54a5-6e0a-4d36-9d3f-f8b7a3b3b5a9",
	.context = "8f2f1a52-3c67-4c39-8f2e-6f1b7f0c9a10",
	.holes = HOLES_ZERO,
	.generation = 3,
};

/* Plaintext byte at this offset, holes apart. */
static inline unsigned char golden_byte(uint64_t poff)
{
	return (unsigned char)(poff * 131 + poff / 256 + 7);
}

/* One sector of AES-256-XTS, plain64 in units of 512 bytes, by libgcrypt itself. */
static inline bool golden_xts(bool encrypt, unsigned char *sector, uint32_t sector_len,
			      uint64_t index, const unsigned char key[VOLUME_KEY_LEN])
{
	uint64_t unit = index * (sector_len / 512);
	unsigned char iv[16] = {0};
	gcry_cipher_hd_t hd;
	gcry_error_t err;

	for (int i = 0; i < 8; i++)
		iv[i] = (unsigned char)(unit >> (8 * i));
	if (gcry_cipher_open(&hd, GCRY_CIPHER_AES256, GCRY_CIPHER_MODE_XTS, 0))
		return false;
	err = gcry_cipher_setkey(hd, key, VOLUME_KEY_LEN);
	if (!err)
		err = gcry_cipher_setiv(hd, iv, sizeof(iv));
	if (!err)
		err = encrypt ? gcry_cipher_encrypt(hd, sector, sector_len, NULL, 0)
			      : gcry_cipher_decrypt(hd, sector, sector_len, NULL, 0);
	gcry_cipher_close(hd);
	return !err;
}

#endif
