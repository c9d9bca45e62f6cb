/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * LUKS containers of others (cryptsetup luksFormat, qemu-img create -f luks) become ours: a fresh
 * secret in a key slot of its own, our token, a new uuid; all other slots and tokens go. The volume
 * key, and with it every byte of data, stays.
 *
 * What may become ours is what our own allow-list takes afterwards: LUKS1 or LUKS2 with one segment of
 * aes-xts-plain64 and a 512-bit key, sectors of 512 or 4096 bytes, the data in the same file behind the
 * header. Nothing else is touched; each refusal has its own words.
 *
 * The way to the file is container_write_rekeyed()'s, with its table of crashes: before the switch the
 * file is the foreign container as it was, afterwards ours. Then container_wipe_unused() overwrites the
 * old slots; should it not come to that, the next open does.
 */
#ifndef VCF_CRYPTO_CONTAINER_ADOPT_H
#define VCF_CRYPTO_CONTAINER_ADOPT_H

#include "crypto/container_rekey.h"

/*
 * Reads the header of a container that is not ours; fd at least O_RDONLY. *why, a static text or one
 * that lives as long as the thread's next call, is set on each error but -errno of the file.
 * A header that was mended as it was read is to be written first (container_write_mended()).
 * -EEXIST   it is ours already
 * -EPERM    no LUKS container at all
 * -EBADMSG  one that cannot be adopted, or a damaged one
 */
NODISCARD vcf_err_t container_load_foreign(struct container **out, int fd,
					   const char **why);

/*
 * Opens any key slot with the secret's hex text, or with its raw bytes. Memory and time are what the
 * slot's own key derivation wants (Argon2: up to gigabytes, seconds).
 * -EKEYREJECTED neither opens one; -ENOMEM
 */
NODISCARD vcf_err_t container_unlock_foreign(struct container *c,
					     const struct secret *secret);

/* What the header has, for people: key slots in use, tokens. */
struct foreign_extent {
	unsigned int slots, tokens;
};
void container_foreign_extent(const struct container *c, struct foreign_extent *out);

/*
 * The new header in memory, of an unlocked one; p->context is required, and may be "". holes: what
 * whole sectors of zero ciphertext are from now on; HOLES_NONE leaves every byte as it read before.
 * Errors as container_rekey(); -ENOSPC: all eight key slots are in use, or of LUKS1 the last one.
 */
NODISCARD vcf_err_t container_adopt(struct rekey **out, struct container *c,
				    const struct rekey_params *p, enum token_holes holes,
				    const char *name);

#endif
