/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON by a scanner for exactly one shape: a flat object whose members are strings, arrays of one
 * string, non-negative integers and booleans, each of them there once. A general JSON library
 * merges repeated members without a word; what was skipped would then not be covered by a MAC's
 * meaning. No recursion, no allocation. Pure.
 *
 * Source of the grammar: RFC 8259.
 */
#ifndef VCF_CRYPTO_JSONSCAN_H
#define VCF_CRYPTO_JSONSCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/err.h"

struct jsonscan {
	const char *p;
	const char *end;
};

/* Takes the next character if it is c; blanks before it are skipped. */
bool jsonscan_char(struct jsonscan *s, char c);
/* The same for a word ("true"). */
bool jsonscan_word(struct jsonscan *s, const char *word);
/* A string of printable ASCII that fits room with its NUL. -EBADMSG. */
NODISCARD vcf_err_t jsonscan_string(struct jsonscan *s, char *dst, size_t room);
/* Digits without a sign, a fraction, an exponent or a leading zero. -EBADMSG. */
NODISCARD vcf_err_t jsonscan_number(struct jsonscan *s, uint64_t max, uint64_t *out);
/* An array of one string. -EBADMSG. */
NODISCARD vcf_err_t jsonscan_strings_of_one(struct jsonscan *s, char *dst, size_t room);

struct jsonscan_member {
	const char *name;
	vcf_err_t (*read)(struct jsonscan *s, void *obj);
};

/*
 * Reads a whole text (not NUL-terminated): an object with exactly these members, at most 31, in any
 * order. -EBADMSG: it is anything else.
 */
NODISCARD vcf_err_t jsonscan_object(const char *json, size_t len,
				    const struct jsonscan_member *members,
				    unsigned int cnt, void *obj);

#endif
