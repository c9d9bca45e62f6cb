/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading JSON (RFC 8259) where it lies: nothing is allocated and nothing copied but what
 * the caller asks for, so that a reply with a secret in it stays in its one locked buffer.
 *
 * A document is checked whole first, by jsonview_parse(); after that a value is a piece
 * of its text. Strict: no comments, no trailing commas, one document, depth at most 32.
 * What is missing or of another type is not found and never converted; so is a member
 * that an object has twice, for readers differ in which of the two they take. A member
 * whose name is written with escapes is not found either.
 *
 * Pure and thread-safe.
 */
#ifndef VCF_CRYPTO_JSONVIEW_H
#define VCF_CRYPTO_JSONVIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/err.h"

/* One value: its text without blanks around it. {NULL, 0}: nothing; finds nothing. */
struct jsonview {
	const char *p;
	size_t len;
};

/* 0 and the outermost value, or -EBADMSG. The views live as long as the text. */
NODISCARD vcf_err_t jsonview_parse(struct jsonview *out, const char *text, size_t len);

/* The value of an object's member; nothing if there is none, or two. */
struct jsonview jsonview_get(struct jsonview object, const char *name);

/*
 * The next element of an array: *pos starts at 0 and is the function's own. False at the
 * end, and for what is no array.
 */
bool jsonview_next(struct jsonview array, size_t *pos, struct jsonview *out);

/*
 * A string's text, unescaped, with a NUL. False if it is no string, holds a NUL or half a
 * surrogate pair, or does not fit; dst is then wiped.
 */
bool jsonview_string(struct jsonview v, char *dst, size_t room);

/* A whole number in [min, max]. */
bool jsonview_int(struct jsonview v, int64_t min, int64_t max, int64_t *out);

bool jsonview_bool(struct jsonview v, bool *out);

bool jsonview_is_null(struct jsonview v);

#endif
