/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/parse.h"

#include <errno.h>
#include <string.h>

vcf_err_t parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
	uint64_t v = 0;

	if (!*text)
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*text - '0'), &v))
			return -ERANGE;
	}
	if (v < min || v > max)
		return -ERANGE;
	*out = v;
	return 0;
}

vcf_err_t parse_bool(const char *text, bool *out)
{
	static const struct {
		const char *text;
		bool value;
	} words[] = {
		{"yes", true}, {"no", false},  {"true", true}, {"false", false},
		{"on", true},  {"off", false}, {"1", true},    {"0", false},
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(text, words[i].text) == 0) {
			*out = words[i].value;
			return 0;
		}
	}
	return -EINVAL;
}

struct suffix {
	char letter;
	uint64_t factor;
};

/* A number with at most one suffix letter of the list, which ends with letter 0. */
static vcf_err_t parse_suffixed(const char *text, const struct suffix *list,
				uint64_t *out)
{
	char digits[24];
	size_t len = strlen(text);
	uint64_t factor = 1;
	uint64_t v;
	vcf_err_t err;

	if (!len || len >= sizeof(digits))
		return -EINVAL;
	for (; list->letter; list++) {
		if (text[len - 1] == list->letter) {
			factor = list->factor;
			len--;
			break;
		}
	}
	memcpy(digits, text, len);
	digits[len] = '\0';
	err = parse_u64(digits, 0, UINT64_MAX, &v);
	if (err)
		return err;
	if (__builtin_mul_overflow(v, factor, &v))
		return -ERANGE;
	*out = v;
	return 0;
}

vcf_err_t parse_size(const char *text, uint64_t *bytes)
{
	static const struct suffix list[] = {
		{'K', 1ull << 10},
		{'M', 1ull << 20},
		{'G', 1ull << 30},
		{'T', 1ull << 40},
		{0, 0},
	};

	return parse_suffixed(text, list, bytes);
}

vcf_err_t parse_duration(const char *text, uint64_t *seconds)
{
	static const struct suffix list[] = {
		{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}, {0, 0},
	};

	return parse_suffixed(text, list, seconds);
}

/* 0..15 to its digit without a table or a branch: an index would leak through the cache.
 */
static char nibble_to_hex(unsigned int n)
{
	return (char)('0' + n + (((9u - n) >> 8) & ('a' - '0' - 10)));
}

void hex_encode(char *dst, const void *src, size_t len)
{
	const unsigned char *p = src;

	for (size_t i = 0; i < len; i++) {
		dst[2 * i] = nibble_to_hex(p[i] >> 4);
		dst[2 * i + 1] = nibble_to_hex(p[i] & 15);
	}
	dst[2 * len] = '\0';
}

/* All ones if lo <= c <= hi, else 0, without a branch; all values are below 2^31. */
static unsigned int in_range(unsigned int c, unsigned int lo, unsigned int hi)
{
	return (((c - lo) | (hi - c)) >> 31) - 1;
}

static unsigned int hex_to_nibble(unsigned int c, unsigned int *bad)
{
	unsigned int digit = in_range(c, '0', '9');
	unsigned int letter = in_range(c, 'a', 'f');

	*bad |= ~(digit | letter);
	return (digit & (c - '0')) | (letter & (c - 'a' + 10));
}

vcf_err_t hex_decode(void *dst, size_t len, const char *text, size_t text_len)
{
	unsigned char *p = dst;
	unsigned int bad = 0;

	if (text_len != 2 * len)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		unsigned int hi = hex_to_nibble((unsigned char)text[2 * i], &bad);
		unsigned int lo = hex_to_nibble((unsigned char)text[2 * i + 1], &bad);

		p[i] = (unsigned char)(hi << 4 | lo);
	}
	return bad ? -EINVAL : 0;
}

static char sextet_to_base64(unsigned int v)
{
	unsigned int c = 'A' + v;

	c += in_range(v, 26, 51) & ('a' - 'A' - 26);
	c += in_range(v, 52, 61) & (unsigned int)('0' - 'A' - 52);
	c += in_range(v, 62, 62) & (unsigned int)('+' - 'A' - 62);
	c += in_range(v, 63, 63) & (unsigned int)('/' - 'A' - 63);
	return (char)c;
}

void base64_encode(char *dst, const void *src, size_t len)
{
	const unsigned char *p = src;

	for (size_t i = 0; i < len; i += 3) {
		unsigned int b1 = i + 1 < len ? p[i + 1] : 0;
		unsigned int b2 = i + 2 < len ? p[i + 2] : 0;
		unsigned int v = (unsigned int)p[i] << 16 | b1 << 8 | b2;

		*dst++ = sextet_to_base64(v >> 18);
		*dst++ = sextet_to_base64(v >> 12 & 63);
		*dst++ = i + 1 < len ? sextet_to_base64(v >> 6 & 63) : '=';
		*dst++ = i + 2 < len ? sextet_to_base64(v & 63) : '=';
	}
	*dst = '\0';
}

static unsigned int base64_to_sextet(unsigned int c, unsigned int *bad)
{
	unsigned int upper = in_range(c, 'A', 'Z');
	unsigned int lower = in_range(c, 'a', 'z');
	unsigned int digit = in_range(c, '0', '9');
	unsigned int plus = in_range(c, '+', '+');
	unsigned int slash = in_range(c, '/', '/');

	*bad |= ~(upper | lower | digit | plus | slash);
	return (upper & (c - 'A')) | (lower & (c - 'a' + 26)) | (digit & (c - '0' + 52)) |
	       (plus & 62) | (slash & 63);
}

vcf_err_t base64_decode(void *dst, size_t len, const char *text, size_t text_len)
{
	unsigned char *p = dst;
	size_t tail = (3 - len % 3) % 3; /* '=' characters at the end */
	unsigned int bad = 0;

	if (text_len != BASE64_LEN(len))
		return -EINVAL;
	for (size_t i = 0, o = 0; i < text_len; i += 4) {
		size_t pads = i + 4 == text_len ? tail : 0;
		unsigned int v = 0;

		for (size_t k = 0; k < 4; k++) {
			unsigned int c = (unsigned char)text[i + k];

			if (k >= 4 - pads) {
				bad |= c ^ '=';
				c = 'A';
			}
			v = v << 6 | base64_to_sextet(c, &bad);
		}
		for (size_t k = 0; k < 3; k++, v <<= 8) {
			if (k < 3 - pads)
				p[o++] = (unsigned char)(v >> 16);
			else
				bad |= v >> 16 & 0xff;
		}
	}
	return bad ? -EINVAL : 0;
}
