/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TTLV, the encoding of KMIP messages: items of tag (3 bytes), type (1), length (4, without
 * the padding) and value, padded to 8 bytes; structures are items whose value is items. All
 * numbers are big-endian. Pure: bytes in, bytes out, no allocation. Thread-safe.
 * Source: Key Management Interoperability Protocol Specification 1.4, section 9.1.
 *
 * What is read is hostile until ttlv_check() has passed for the whole message; the reading
 * functions check bounds again by themselves.
 */
#ifndef VCF_CRYPTO_KEYS_TTLV_H
#define VCF_CRYPTO_KEYS_TTLV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/err.h"

enum {
	TTLV_HEADER_LEN = 8,
	TTLV_DEPTH_MAX = 16, /* structures in structures; ours need 8 */
};

enum ttlv_type {
	TTLV_STRUCTURE = 1,
	TTLV_INTEGER = 2,
	TTLV_LONG = 3,
	TTLV_BIG = 4,
	TTLV_ENUM = 5,
	TTLV_BOOL = 6,
	TTLV_TEXT = 7,
	TTLV_BYTES = 8,
	TTLV_DATE = 9,
	TTLV_INTERVAL = 10,
};

/* --- writing --- */

/* A message being made in the caller's buffer. What does not fit sets `failed`. */
struct ttlv_writer {
	unsigned char *buf;
	size_t room, len;
	size_t open[TTLV_DEPTH_MAX]; /* where the structures being written begin */
	unsigned int depth;
	bool failed;
};

void ttlv_writer_init(struct ttlv_writer *w, void *buf, size_t room);

/* A structure holds what is written between its begin and its end. */
void ttlv_begin(struct ttlv_writer *w, uint32_t tag);
void ttlv_end(struct ttlv_writer *w);

void ttlv_put_int(struct ttlv_writer *w, uint32_t tag, int32_t value);
void ttlv_put_enum(struct ttlv_writer *w, uint32_t tag, uint32_t value);
void ttlv_put_text(struct ttlv_writer *w, uint32_t tag, const char *text);
void ttlv_put_bytes(struct ttlv_writer *w, uint32_t tag, const void *data, size_t len);

/* The length of the whole, or -ENOSPC: it did not fit, or begins and ends do not match. */
NODISCARD ssize_t ttlv_finish(const struct ttlv_writer *w);

/* --- reading --- */

/* Items one after the other: a message, or the inside of a structure. */
struct ttlv_reader {
	const unsigned char *at;
	size_t left;
};

struct ttlv_item {
	uint32_t tag;
	enum ttlv_type type;
	const unsigned char *value; /* in the reader's buffer */
	size_t len;
};

/* 0 if these bytes are well-formed items to the last level, else -EBADMSG. */
NODISCARD vcf_err_t ttlv_check(const void *buf, size_t len);

/*
 * The length of the whole message that begins with these 8 bytes, which must be a structure
 * with that tag: at least 8, at most max; else -EBADMSG, -EMSGSIZE.
 */
NODISCARD ssize_t ttlv_message_len(const unsigned char header[TTLV_HEADER_LEN],
				   uint32_t tag, size_t max);

void ttlv_reader_init(struct ttlv_reader *r, const void *buf, size_t len);

/* The next item. 0, -ENODATA at the end, -EBADMSG. */
NODISCARD vcf_err_t ttlv_next(struct ttlv_reader *r, struct ttlv_item *out);

/*
 * The item with this tag among those that r has left, r itself stays. 0, -ENODATA if there is
 * none, -EBADMSG if it has another type, or if there are two.
 */
NODISCARD vcf_err_t ttlv_find(const struct ttlv_reader *r, uint32_t tag,
			      enum ttlv_type type, struct ttlv_item *out);

/* The same for a structure: a reader of its inside. */
NODISCARD vcf_err_t ttlv_find_inside(const struct ttlv_reader *r, uint32_t tag,
				     struct ttlv_reader *out);

/* The same for a number: integer, enumeration (below 2^32), date. */
NODISCARD vcf_err_t ttlv_find_number(const struct ttlv_reader *r, uint32_t tag,
				     enum ttlv_type type, int64_t *out);

/* The same for a text, as a C string: -EBADMSG too if it does not fit or holds a NUL. */
NODISCARD vcf_err_t ttlv_find_text(const struct ttlv_reader *r, uint32_t tag, char *dst,
				   size_t room);

/* An item's value; its type must be the right one. */
void ttlv_inside(const struct ttlv_item *item, struct ttlv_reader *out);
int64_t ttlv_number(const struct ttlv_item *item);
NODISCARD vcf_err_t ttlv_text(const struct ttlv_item *item, char *dst, size_t room);

#endif
