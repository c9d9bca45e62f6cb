/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * LUKS containers with a vmcryptfs token: made, loaded, checked, unlocked. DESIGN
 * section 3.
 *
 * libcryptsetup works on a memfd that holds the first data_off bytes; no image path, no
 * device-mapper, no root. The stages, each a stronger statement than the one before:
 *
 *   peeked    size_peek(): where the data starts, how large a sector is; unproven
 *   loaded    container_load(): a header as we write it (allow-list), token parsed
 *   unlocked  container_unlock(): the secret opens the token's slot, MAC and kcv right
 *
 * No byte of data is decrypted or written before "unlocked". container_init() runs once
 * before threads; afterwards all calls are thread-safe for different containers. They
 * block on disk and burn CPU (milliseconds), never on the network.
 */
#ifndef VCF_CRYPTO_CONTAINER_H
#define VCF_CRYPTO_CONTAINER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crypto/escrow.h"
#include "crypto/secret.h"
#include "crypto/token.h"
#include "util/cleanup.h"
#include "util/err.h"

enum {
	CONTAINER_DATA_OFF = 2 * 1024 * 1024, /* of containers that we make */
	CONTAINER_PEEK_LEN =
		32 * 1024, /* both LUKS2 metadata copies; enough for a MAC check */
	CONTAINER_WHY_LEN = 192,
};

struct container;

struct container_params {
	enum luks_format format;
	uint32_t sector_len; /* 4096 or 512; LUKS1: 512 */
	unsigned char uuid[UUID_LEN];
	const struct escrow_public *escrow; /* seal the secret for this key; NULL: no */
	uint64_t data_off; /* 0: CONTAINER_DATA_OFF; else 1 MiB to 64 MiB, whole pages */
};

NODISCARD vcf_err_t container_init(void);

/*
 * Makes a new container in memory: random volume key (halves differ), one keyslot for the
 * secret, token with service, key_id, derived, holes, context and generation from `tok`
 * (created, keyslot, kcv and mac are filled in). The result is unlocked.
 * -EINVAL  bad parameters (a nil uuid and an invalid token field among them)
 * -ENOMEM  no memory, or a page for the key cannot be locked (logged)
 * -EIO     libcryptsetup failed (logged)
 */
NODISCARD vcf_err_t container_format(struct container **out,
				     const struct container_params *p,
				     const struct token *tok,
				     const struct secret *secret);

/*
 * Writes a new container's header to an empty file (O_RDWR), crash-safe: ftruncate to
 * data_off; bytes [4096, data_off) without the zero pages; fdatasync; the first 4096
 * bytes (they hold the magic) alone; fdatasync. `before_magic` (may be NULL) runs just
 * before the magic is written: the place to journal that the secret is in use; its error
 * stops the creation. On error the file is truncated to 0 again and the error returned.
 * -EEXIST  the file holds something else than an unfinished creation; it is left alone
 */
NODISCARD vcf_err_t container_write_new(const struct container *c, int fd,
					vcf_err_t (*before_magic)(void *arg), void *arg);

/*
 * The same on a block device (O_RDWR | O_EXCL), which cannot be cut to its length: only where
 * size_peek_device() finds nothing. While it is written its first page names the creation, so that
 * one that was cut short is told from what somebody else has there:
 *
 *   mark | fdatasync | bytes [4096, data_off) | fdatasync | before_magic | first page | fdatasync
 *
 * On error the space of the header is zeroed again, from its first page on.
 * -EEXIST  as there; -ENOSPC: it is smaller than a header
 */
NODISCARD vcf_err_t container_write_device(const struct container *c, int fd,
					   vcf_err_t (*before_magic)(void *arg),
					   void *arg);

/*
 * Reads and checks the header of fd (at least O_RDONLY, without O_DIRECT).
 * -ENODATA  empty file, or an unfinished creation (0 < size <= data_off, first 4096
 *           bytes zero)
 * -EPERM    not a LUKS header at all: plaintext (never adopted)
 * -EBADMSG  a LUKS header that the allow-list refuses, a damaged one, or no valid token;
 *           a line that says why is logged, starting with `name` (NULL: none)
 *
 * A header with one good copy of two, or with an older one, is mended in memory, and so is a
 * torn one of LUKS1 (luks1_pages.h); *mended tells (may be NULL). Write it back with container_write_mended() under the image's
 * lock: it writes only the copy that differs. Of two tokens the later generation counts.
 */
NODISCARD vcf_err_t container_load(struct container **out, int fd, const char *name,
				   bool *mended);
NODISCARD vcf_err_t container_write_mended(const struct container *c, int fd);

/* The same, with the reason of -EBADMSG in `why` instead of the log; "" with other errors. */
NODISCARD vcf_err_t container_load_why(struct container **out, int fd,
				       char why[CONTAINER_WHY_LEN], bool *mended);

/*
 * The same from a saved header of CONTAINER_PEEK_LEN bytes (else -EINVAL): enough for
 * container_mac_check(), not for container_unlock().
 */
NODISCARD vcf_err_t container_load_saved(struct container **out, const void *hdr,
					 size_t len, const char *name);

/*
 * Opens the slot that the token names, checks MAC and kcv.
 * -EKEYREJECTED the secret does not open the slot; -EBADMSG MAC or kcv wrong; a line that
 * says why is logged, starting with `name` (NULL: none).
 */
NODISCARD vcf_err_t container_unlock(struct container *c, const struct secret *secret,
				     const char *name);

/*
 * Lets go of the copy of the header, 0.3 MiB and more, while one waits for the secret. What was read
 * of it stays: token, subject, escrow, and the place of the key slot, which container_unlock_file()
 * reads from the file (at least O_RDONLY). Of other calls only container_mac_check() and
 * container_free() are allowed then.
 * -errno, -EIO of the file; else as container_unlock()
 */
void container_drop_header(struct container *c);
NODISCARD vcf_err_t container_unlock_file(struct container *c, int fd,
					  const struct secret *secret, const char *name);

/* Is its volume key the one that the other, which need not be unlocked, names? c is unlocked. */
bool container_has_key_of(const struct container *c, const struct container *other);

/*
 * The loaded header as a file of its own (O_RDWR, empty): data_off bytes, holes where they are zero;
 * durable.
 */
NODISCARD vcf_err_t container_write_backup(const struct container *c, int fd);

/*
 * Puts the header in place of whatever the first data_off bytes of a file (O_RDWR, at least so long)
 * are, which do not open it:
 *
 *   what follows the metadata | fdatasync | LUKS2: second copy | fdatasync | first copy or page
 *   | fdatasync | holes where it is zero
 *
 * So the file opens with nothing, or with this header; a run that was cut short is done again.
 */
NODISCARD vcf_err_t container_write_restored(const struct container *c, int fd);

/* Checks the MAC alone, without a keyslot: is `secret` the one this header was made with?
 */
NODISCARD vcf_err_t container_mac_check(const struct container *c,
					const struct secret *secret);

/* Valid after load/format; owned by the container. Without escrow its recipient is empty. */
const struct escrow *container_escrow(const struct container *c);
const struct token *container_token(const struct container *c);
const struct token_subject *container_subject(const struct container *c);

/* The volume key: only after unlock/format, only for keytable_put(). */
const unsigned char *container_volume_key(const struct container *c);

/* Wipes and frees. */
void container_free(struct container *c);

/*
 * The size peek: what a header says of data offset and sector size, unauthenticated.
 * buf   the first len bytes of the file (CONTAINER_PEEK_LEN, fewer if the file is
 * shorter) size  the file's size
 */
enum peek_kind {
	PEEK_EMPTY,	/* size 0, or an unfinished creation: P = 0                     */
	PEEK_CONTAINER, /* LUKS; data_off and sector_len are set                        */
	PEEK_PLAINTEXT, /* anything else                                                */
	PEEK_DAMAGED,	/* LUKS magic, but the geometry cannot be read or is impossible */
};

struct peek {
	enum peek_kind kind;
	enum luks_format format;
	uint32_t sector_len;
	uint64_t data_off;
	char uuid_text[UUID_TEXT_LEN + 1];
};

/* Pure and thread-safe; never fails (what it cannot read is PEEK_DAMAGED). */
void size_peek(struct peek *out, const void *buf, size_t len, uint64_t size);

/*
 * The same of a block device of that size, where nothing may be taken for empty that somebody else
 * could have written:
 *   PEEK_EMPTY      all CONTAINER_DATA_OFF bytes are zero, or a creation of ours was cut short
 *   PEEK_CONTAINER  by its first page: one whose first page is gone (lvcreate zeroes that of a new
 *                   volume, which may lie over an old one) is not taken for what follows
 *   PEEK_PLAINTEXT  all else
 */
NODISCARD vcf_err_t size_peek_device(struct peek *out, int fd, uint64_t size);

/*
 * Reads what size_peek() needs from fd. A block device has size 0 for fstat(2), and goes by
 * size_peek_device(). 0 or -errno.
 */
NODISCARD vcf_err_t size_peek_fd(struct peek *out, int fd, uint64_t size);

DEFINE_AUTO(container, struct container *, container_free)
#define auto_container __attribute__((cleanup(cleanup_container)))

#endif
