/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Another secret for a container that has one: promote (derived -> own), adopt --reclone,
 * recover --to-service. DESIGN section 3, "Updating".
 *
 * The container gets the new secret's uuid too: a secret's label at the service is its
 * container's uuid, so that one uuid names one secret and one container, and the journal
 * can tell from the file alone which of the two secrets it has. Its volume key, and with
 * it every byte of data, stays.
 *
 * In memory (container_rekey): a free key slot with the new secret, the token, uuid, kcv and
 * MAC, and the old slot gone; then the outcome is loaded and unlocked as if from a file.
 * To the file (container_write_rekeyed), S = fdatasync:
 *
 *   LUKS2  new slot's area | S | note | second header | S | first header | S | old area
 *   LUKS1  new slot's area | S | both first pages, kept | S | note
 *          | first 4096 bytes | S | old area | kept pages
 *
 *   crash                        the file opens with   the journal's note of the new secret
 *   before "note"                old                   unused: back into the reserve
 *   after it, no header          old                   using, uuid is in no file: destroyed
 *   in the second header         old (a torn copy is   as above; the torn one is mended by the
 *                                not good)             next open
 *   between the headers, in the  new (the copy with    using, uuid is found: closed
 *   first one                    the later number)
 *   after the first header       new                   closed
 *   before the old area is       new                   closed; container_wipe_unused() at the
 *   overwritten                                        next open finds the rest
 *
 *   in the first 4096 bytes      the one that uuid    as the uuid says: the next open mends the
 *   of LUKS1                     is of                page from the kept ones (luks1_pages.h)
 *
 * `note` is the caller's (reserve_using()). A sector of 512 bytes is what is not torn.
 */
#ifndef VCF_CRYPTO_CONTAINER_REKEY_H
#define VCF_CRYPTO_CONTAINER_REKEY_H

#include "crypto/container.h"

struct rekey;

struct rekey_params {
	unsigned char uuid[UUID_LEN]; /* the new secret's label */
	const char *service, *key_id;
	const char *context; /* NULL: as before */
	const struct secret *secret;
	const struct escrow_public *escrow; /* NULL: without escrow */
};

/*
 * Changes an unlocked container in memory; its generation rises by one. On error the
 * container is of no use any more. The rekey keeps a pointer to the container.
 * -EINVAL not unlocked, or bad parameters; -ENOSPC no key slot is free, or of LUKS1 the last one is in
 * use where the first pages are to be kept; -ENOMEM;
 * -EIO libcryptsetup failed, -EBADMSG the outcome is not what was wanted (both logged).
 */
NODISCARD vcf_err_t container_rekey(struct rekey **out, struct container *c,
				    const struct rekey_params *p, const char *name);
void container_rekey_free(struct rekey *r);

/*
 * The same way for another value of the token's `holes`; secret, uuid, generation and key slot stay, so
 * that there is nothing to note, and each crash leaves the old token or the new one.
 * -EINVAL not unlocked; else as container_rekey().
 */
NODISCARD vcf_err_t container_set_holes(struct rekey **out, struct container *c,
					enum token_holes holes,
					const struct secret *secret, const char *name);

/* Whose secret opens the file now. */
enum rekey_outcome {
	REKEY_OLD,   /* the old one; nothing of the new header is in the file */
	REKEY_DOUBT, /* one of the two: the next load tells */
	REKEY_NEW,   /* the new one */
};

/*
 * Writes it to the container's file (O_RDWR), which nobody else may read or write the
 * header of meanwhile. `note` (may be NULL) runs just before the header changes; its error
 * stops all. With REKEY_NEW the error, if there is one, means that the old slot's area or
 * the first header is not written yet: the next open mends both.
 * -ESTALE the file's header is not the one that was loaded (write a mended one before).
 */
NODISCARD vcf_err_t container_write_rekeyed(const struct rekey *r, int fd,
					    vcf_err_t (*note)(void *arg), void *arg,
					    enum rekey_outcome *outcome);

/* Where the bytes go; the tests record them. */
struct rekey_io {
	vcf_err_t (*write)(void *arg, const void *buf, size_t len, uint64_t off);
	vcf_err_t (*sync)(void *arg);
	void (*punch)(void *arg, uint64_t off, uint64_t len); /* best effort */
	void *arg;
};
NODISCARD vcf_err_t container_rekey_replay(const struct rekey *r,
					   const struct rekey_io *io,
					   vcf_err_t (*note)(void *arg), void *arg,
					   enum rekey_outcome *outcome);

/*
 * Overwrites what is left of key slots that the loaded header does not name, in the file
 * and in memory: remains of a rekey that was cut short. Only of containers that were
 * rekeyed (generation > 1). *found (may be NULL): there was something.
 */
NODISCARD vcf_err_t container_wipe_unused(struct container *c, int fd, bool *found);
/* Is there something to wipe? */
bool container_has_unused(const struct container *c);

DEFINE_AUTO(rekey, struct rekey *, container_rekey_free)
#define auto_rekey __attribute__((cleanup(cleanup_rekey)))

#endif
