/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The journal's bytes: file header and records, both ways. Pure but for the SHA-256 of
 * libgcrypt; thread-safe.
 *
 * A file is one header block of 4096 bytes, then records, each starting on a multiple of
 * 512 bytes and padded with zeros to one, then zeros (room allocated ahead). All numbers
 * are little-endian.
 *
 *   header   0 magic "VMCRJRNL"   8 version   12 header length   16 file id (random)
 *            32 host id   48 created   56 first sequence number   64 next entry id
 *            72 checksum
 *   record   0 magic "VJr1"   4 kind (1 add, 2 set)   6 fields   8 length   12 state
 *            16 sequence number   24 entry id   32 checksum   48 due   56 created
 *            64 dev   72 ino   80 uuid   96 bitmap of header blocks   104 length of
 * service, 106 of key id, 108 of path   110 derived   111 a header is saved 112 service,
 * key id, path, header blocks; zeros to the next 512
 *
 * A checksum is SHA-256, cut to 16 bytes, over the file id and the header or the record
 * (to its length) with the checksum's own bytes zero. The random file id makes it a
 * record of this file: nothing that an image's header or a reused disk block holds can
 * pass for one. A saved container header is kept without its 512-byte blocks of zeros;
 * bit n of the bitmap says that block n follows.
 */
#ifndef VCF_CRYPTO_JOURNAL_RECORD_H
#define VCF_CRYPTO_JOURNAL_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crypto/journal.h"
#include "util/err.h"

enum {
	JOURNAL_VERSION = 1,
	JOURNAL_HEADER_LEN = 4096,
	JOURNAL_ALIGN = 512,
	JOURNAL_ID_LEN = 16,
	JOURNAL_RECORD_MAX =
		36 * 1024, /* fixed part, texts, a header without a zero block */
};

struct journal_header {
	unsigned char file_id[JOURNAL_ID_LEN];
	unsigned char host_id[JOURNAL_ID_LEN]; /* zeros: unknown */
	time_t created;
	uint64_t first_seq, next_id;
};

/* Which fields of the entry a record sets; the state is always set. */
enum {
	JOURNAL_F_KEY = 1,   /* key_id */
	JOURNAL_F_DUE = 2,   /* due */
	JOURNAL_F_PLACE = 4, /* dev, ino, path */
};

struct journal_record {
	bool add; /* a new entry: every field counts */
	bool has_header;
	unsigned int fields;
	uint64_t seq;
	struct journal_entry entry;
};

/* Writes JOURNAL_HEADER_LEN bytes. -EIO if libgcrypt fails. */
NODISCARD vcf_err_t journal_header_encode(void *dst, const struct journal_header *h);

/* From JOURNAL_HEADER_LEN bytes. -EBADMSG damaged or another file, -ENOTSUP a later
 * version. */
NODISCARD vcf_err_t journal_header_decode(struct journal_header *h, const void *src);

/*
 * dst  JOURNAL_RECORD_MAX bytes     hdr  CONTAINER_PEEK_LEN bytes or NULL (add only)
 * Returns the padded length, or -EINVAL (a text without its NUL), -EIO.
 */
NODISCARD ssize_t journal_record_encode(void *dst, const unsigned char *file_id,
					const struct journal_record *r, const void *hdr);

/*
 * src  at least JOURNAL_ALIGN bytes of a record. Returns its padded length as it says
 * itself, unchecked; 0 if the block is all zeros (the end); -EBADMSG if it cannot be a
 * record.
 */
NODISCARD ssize_t journal_record_peek(const void *src);

/*
 * src  the whole record, of the length that journal_record_peek() told
 * hdr  NULL, or room for CONTAINER_PEEK_LEN bytes (set if r->has_header)
 * 0, -EBADMSG, -EIO.
 */
NODISCARD vcf_err_t journal_record_decode(struct journal_record *r, void *hdr,
					  const unsigned char *file_id, const void *src,
					  size_t len);

/* Carries a record's fields over to the entry. */
void journal_record_apply(struct journal_entry *e, const struct journal_record *r);

#endif
