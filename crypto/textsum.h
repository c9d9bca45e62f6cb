/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A SHA-256 over text that comes in pieces: it finds files that were cut or mixed up. */
#ifndef VCF_CRYPTO_TEXTSUM_H
#define VCF_CRYPTO_TEXTSUM_H

#include <stddef.h>

#include "util/err.h"

enum { TEXTSUM_HEX_LEN = 64 };

struct textsum;

NODISCARD vcf_err_t textsum_new(struct textsum **out);
void textsum_add(struct textsum *s, const char *text, size_t len);
/* Of all that was added so far; lower-case hex. */
NODISCARD vcf_err_t textsum_hex(struct textsum *s, char hex[TEXTSUM_HEX_LEN + 1]);
void textsum_free(struct textsum *s);

#endif
