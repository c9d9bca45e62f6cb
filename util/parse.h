/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Text to values and back, strictly: no leading or trailing blanks, no empty text, no
 * overflow. All calls are pure and thread-safe and return 0 or -EINVAL (-ERANGE where a
 * number is too large, -ENOSPC where the output does not fit). Outputs are written on
 * success only.
 */
#ifndef VCF_UTIL_PARSE_H
#define VCF_UTIL_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/err.h"

/* A decimal number in [min, max]. */
NODISCARD vcf_err_t parse_u64(const char *text, uint64_t min, uint64_t max,
			      uint64_t *out);

/* "yes", "no", "true", "false", "on", "off", "1", "0". */
NODISCARD vcf_err_t parse_bool(const char *text, bool *out);

/* Bytes: a number with an optional K, M, G, T (powers of 1024). */
NODISCARD vcf_err_t parse_size(const char *text, uint64_t *bytes);

/* Seconds: a number with an optional s, m, h, d, w. */
NODISCARD vcf_err_t parse_duration(const char *text, uint64_t *seconds);

/*
 * Lower-case hex. hex_encode writes 2 * len characters and a NUL; hex_decode wants
 * exactly 2 * len lower-case digits. Both run in time independent of the values (key
 * material).
 */
void hex_encode(char *dst, const void *src, size_t len);
NODISCARD vcf_err_t hex_decode(void *dst, size_t len, const char *text, size_t text_len);

/*
 * Base64 of RFC 4648 section 4, strict: padded, no blanks, unused bits zero.
 * base64_encode writes BASE64_LEN(len) characters and a NUL. base64_decode wants text_len
 * characters that decode to exactly len bytes.
 */
#define BASE64_LEN(len) (((size_t)(len) + 2) / 3 * 4)
void base64_encode(char *dst, const void *src, size_t len);
NODISCARD vcf_err_t base64_decode(void *dst, size_t len, const char *text,
				  size_t text_len);

#endif
