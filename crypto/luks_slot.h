/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening a key slot, the same for LUKS1 and LUKS2, of the one form that the allow-list admits:
 * PBKDF2-SHA256, AES-256-XTS of 512-byte sectors, an anti-forensic splitter of 4000 stripes over
 * SHA-256, a PBKDF2-SHA256 digest of the volume key.
 *
 * libcryptsetup can do that too, and is what makes and changes headers. It goes through OpenSSL,
 * which spends 7 ms on the lookups and locks around 8,000 hashes of 36 bytes; libgcrypt needs 1 ms.
 *
 * Source: LUKS1 On-Disk Format Specification 1.2.3, sections 2.4 and 4; LUKS2 On-Disk Format
 * Specification 1.1.1, sections 3.2 and 4.1.
 */
#ifndef VCF_CRYPTO_LUKS_SLOT_H
#define VCF_CRYPTO_LUKS_SLOT_H

#include <stddef.h>
#include <stdint.h>

#include "crypto/keytable.h"
#include "crypto/luks_disk.h"
#include "util/err.h"

enum {
	LUKS_SALT_LEN = 32,
	LUKS_DIGEST_MAX = 32,
	LUKS_MATERIAL_LEN = VOLUME_KEY_LEN * LUKS_STRIPES, /* whole sectors */
};

/* What a header says of one slot, and of the digest that its key must have; all judged. */
struct luks_slot {
	unsigned int iterations;
	unsigned char salt[LUKS_SALT_LEN];
	uint64_t material_off; /* LUKS_MATERIAL_LEN bytes of the header */
	unsigned int digest_iterations;
	unsigned char digest_salt[LUKS_SALT_LEN];
	unsigned int digest_len; /* 20: LUKS1, 32: LUKS2 */
	unsigned char digest[LUKS_DIGEST_MAX];
};

/*
 * The volume key, from the passphrase and the slot's key material. key: in locked memory, written on
 * success only. Thread-safe; burns a millisecond for 1000 iterations.
 * -EKEYREJECTED  another passphrase, or damaged material: the digest is wrong
 * -ENOMEM        libgcrypt's secure memory is full; -EIO: libgcrypt failed
 */
NODISCARD vcf_err_t luks_slot_open(unsigned char key[VOLUME_KEY_LEN],
				   const struct luks_slot *s,
				   const unsigned char *material, const char *passphrase,
				   size_t passphrase_len);

#endif
