/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A buffer of fixed room for texts with secrets in them: requests, replies, credentials.
 *
 * It is locked (no swap), not dumped, not inherited by a fork, and wiped when emptied or
 * freed. Pages are locked as they are touched, so a large room costs little; all of it
 * counts against RLIMIT_MEMLOCK. What does not fit sets `full` and is dropped: check it
 * once, at the end. Not thread-safe.
 */
#ifndef VCF_CRYPTO_KEYS_LOCKBUF_H
#define VCF_CRYPTO_KEYS_LOCKBUF_H

#include <stdbool.h>
#include <stddef.h>

#include "util/cleanup.h"
#include "util/err.h"

struct lockbuf {
	char *data; /* always ends with a NUL behind len */
	size_t len, room;
	bool full;
};

/* A buffer for `room` bytes; 0, -ENOMEM or -EPERM (RLIMIT_MEMLOCK). */
NODISCARD vcf_err_t lockbuf_new(struct lockbuf **out, size_t room);

/* Wipes and frees; NULL is allowed. */
void lockbuf_free(struct lockbuf *b);

/* Wipes what is in it; then it is empty. NULL is allowed. */
void lockbuf_reset(struct lockbuf *b);

void lockbuf_add(struct lockbuf *b, const void *data, size_t len);
void lockbuf_add_text(struct lockbuf *b, const char *text);

/* The bytes in base64 of RFC 4648 section 4. */
void lockbuf_add_base64(struct lockbuf *b, const void *data, size_t len);

/* A JSON string with its quotes. len bytes of UTF-8; control characters are escaped. */
void lockbuf_add_json(struct lockbuf *b, const char *text, size_t len);

/* The part of a URL: all but A-Z a-z 0-9 - . _ ~ becomes %XX. */
void lockbuf_add_url(struct lockbuf *b, const char *text);

DEFINE_AUTO(lockbuf, struct lockbuf *, lockbuf_free)
#define auto_lockbuf __attribute__((cleanup(cleanup_lockbuf)))

#endif
