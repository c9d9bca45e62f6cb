/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the token's parser, writer and MAC agree on about single fields. Pure.
 */
#ifndef VCF_CRYPTO_TOKEN_FIELDS_H
#define VCF_CRYPTO_TOKEN_FIELDS_H

#include "crypto/token.h"

#define TOKEN_TYPE "vmcryptfs"

enum { TOKEN_KEYSLOT_MAX = 31 }; /* LUKS2 has 32, LUKS1 8 */

/* JSON readers keep integers in int64_t. */
#define TOKEN_GENERATION_MAX ((uint64_t)INT64_MAX)

/* "zero" or "none". */
const char *token_holes_name(enum token_holes holes);

/* "luks1" or "luks2". */
const char *token_format_name(enum luks_format format);

/* 0..255 printable ASCII characters. */
bool token_context_valid(const char *context);

/* The shape of 2026-01-31T12:00:00Z. */
bool token_created_valid(const char *created);

/* All that token_parse() demands of the fields of a struct, kcv and mac aside. */
bool token_valid(const struct token *t);

#endif
