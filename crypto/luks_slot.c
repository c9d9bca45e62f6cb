/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The material is decrypted and merged sector by sector: no more of it is ever in the clear than
 * the scratch has room for, which lies in libgcrypt's secure memory (locked, wiped when freed).
 * PBKDF2 works there too, since what it derives goes there.
 */
#include "crypto/luks_slot.h"

#include <endian.h>
#include <errno.h>
#include <gcrypt.h>
#include <string.h>

enum { HASH_LEN = 32, IV_LEN = 16, COUNTER_LEN = 4 };
_Static_assert(LUKS_MATERIAL_LEN % LUKS_SECTOR_LEN == 0, "no sector in part");
_Static_assert(LUKS_SECTOR_LEN % VOLUME_KEY_LEN == 0, "no stripe in two sectors");
_Static_assert(VOLUME_KEY_LEN % HASH_LEN == 0, "no hash in part");

struct scratch {
	unsigned char slot_key[VOLUME_KEY_LEN];
	unsigned char sector[LUKS_SECTOR_LEN]; /* of the material, decrypted */
	unsigned char key[VOLUME_KEY_LEN]; /* the stripes so far, in the end the key */
	unsigned char hashed[COUNTER_LEN + HASH_LEN];
	unsigned char digest[LUKS_DIGEST_MAX];
};

static void close_cipher(gcry_cipher_hd_t *hd)
{
	if (*hd)
		gcry_cipher_close(*hd);
}

static vcf_err_t pbkdf2(void *out, size_t len, const void *pass, size_t pass_len,
			const unsigned char salt[LUKS_SALT_LEN], unsigned int iterations)
{
	return gcry_kdf_derive(pass, pass_len, GCRY_KDF_PBKDF2, GCRY_MD_SHA256, salt,
			       LUKS_SALT_LEN, iterations, len, out)
		       ? -EIO
		       : 0;
}

/* aes-xts-plain64: sectors are counted from the start of the material. */
static vcf_err_t decrypt_sector(struct scratch *s, gcry_cipher_hd_t hd,
				const unsigned char *material, size_t sector)
{
	const uint64_t count_le = htole64(sector);
	unsigned char iv[IV_LEN] = {0};

	memcpy(iv, &count_le, sizeof(count_le));
	if (gcry_cipher_setiv(hd, iv, sizeof(iv)) ||
	    gcry_cipher_decrypt(hd, s->sector, LUKS_SECTOR_LEN,
				material + sector * LUKS_SECTOR_LEN, LUKS_SECTOR_LEN))
		return -EIO;
	return 0;
}

/* Each hash's worth of the key becomes SHA-256(its number, big-endian | itself). */
static void diffuse(struct scratch *s)
{
	for (uint32_t i = 0; i < VOLUME_KEY_LEN / HASH_LEN; i++) {
		unsigned char *part = s->key + (size_t)i * HASH_LEN;
		const uint32_t i_be = htobe32(i);

		memcpy(s->hashed, &i_be, COUNTER_LEN);
		memcpy(s->hashed + COUNTER_LEN, part, HASH_LEN);
		gcry_md_hash_buffer(GCRY_MD_SHA256, part, s->hashed, sizeof(s->hashed));
	}
}

/* key = (... diffuse(diffuse(stripe 0) ^ stripe 1) ...) ^ the last stripe */
static vcf_err_t merge(struct scratch *s, gcry_cipher_hd_t hd,
		       const unsigned char *material)
{
	memset(s->key, 0, sizeof(s->key));
	for (size_t i = 0; i < LUKS_STRIPES; i++) {
		const size_t at = i * VOLUME_KEY_LEN % LUKS_SECTOR_LEN;
		vcf_err_t err = at ? 0
				   : decrypt_sector(s, hd, material,
						    i * VOLUME_KEY_LEN / LUKS_SECTOR_LEN);
		if (err)
			return err;
		if (i)
			diffuse(s);
		for (size_t k = 0; k < VOLUME_KEY_LEN; k++)
			s->key[k] ^= s->sector[at + k];
	}
	return 0;
}

static vcf_err_t open_material(struct scratch *s, const unsigned char *material)
{
	gcry_cipher_hd_t hd __attribute__((cleanup(close_cipher))) = NULL;

	if (gcry_cipher_open(&hd, GCRY_CIPHER_AES256, GCRY_CIPHER_MODE_XTS,
			     GCRY_CIPHER_SECURE))
		return -ENOMEM;
	if (gcry_cipher_setkey(hd, s->slot_key, sizeof(s->slot_key)))
		return -EIO;
	return merge(s, hd, material);
}

/* In the same time whatever differs. */
static bool equal(const unsigned char *a, const unsigned char *b, size_t len)
{
	unsigned char diff = 0;

	for (size_t i = 0; i < len; i++)
		diff |= a[i] ^ b[i];
	return !diff;
}

static vcf_err_t check_digest(struct scratch *s, const struct luks_slot *slot)
{
	vcf_err_t err = pbkdf2(s->digest, slot->digest_len, s->key, sizeof(s->key),
			       slot->digest_salt, slot->digest_iterations);

	if (err)
		return err;
	return equal(s->digest, slot->digest, slot->digest_len) ? 0 : -EKEYREJECTED;
}

static vcf_err_t open_slot(struct scratch *s, const struct luks_slot *slot,
			   const unsigned char *material, const char *passphrase,
			   size_t passphrase_len)
{
	vcf_err_t err = pbkdf2(s->slot_key, sizeof(s->slot_key), passphrase,
			       passphrase_len, slot->salt, slot->iterations);

	if (!err)
		err = open_material(s, material);
	return err ? err : check_digest(s, slot);
}

vcf_err_t luks_slot_open(unsigned char key[VOLUME_KEY_LEN], const struct luks_slot *s,
			 const unsigned char *material, const char *passphrase,
			 size_t passphrase_len)
{
	struct scratch *scratch = gcry_malloc_secure(sizeof(*scratch));
	vcf_err_t err;

	if (!scratch)
		return -ENOMEM;
	err = open_slot(scratch, s, material, passphrase, passphrase_len);
	if (!err)
		memcpy(key, scratch->key, VOLUME_KEY_LEN);
	gcry_free(scratch);
	return err;
}
