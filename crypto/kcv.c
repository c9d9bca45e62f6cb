/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The check value of a volume key: DESIGN section 3, "Token". */
#include <string.h>

#include "crypto/kdf.h"
#include "crypto/keytable.h"
#include "crypto/secret.h"

vcf_err_t keytable_kcv(unsigned char kcv[KCV_LEN],
		       const unsigned char key[VOLUME_KEY_LEN],
		       const unsigned char uuid[UUID_LEN])
{
	unsigned char check_key[KDF_LEN];
	unsigned char mac[KDF_LEN];
	vcf_err_t err = hkdf_sha256(check_key, sizeof(check_key), key, VOLUME_KEY_LEN,
				    uuid, UUID_LEN, "vmcryptfs kcv v1");

	if (!err)
		err = hmac_sha256(mac, check_key, sizeof(check_key), uuid, UUID_LEN);
	if (!err)
		memcpy(kcv, mac, KCV_LEN);
	secret_wipe(check_key, sizeof(check_key));
	secret_wipe(mac, sizeof(mac));
	return err;
}
