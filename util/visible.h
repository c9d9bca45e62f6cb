/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names that anybody may have chosen, for a terminal. */
#ifndef VCF_UTIL_VISIBLE_H
#define VCF_UTIL_VISIBLE_H

#include <stddef.h>

/*
 * Copies text with control characters, and all above last, as \xNN; a backslash of its own stays one.
 * What does not fit is cut between two characters. Returns the length.
 */
static inline size_t visible_upto(char *dst, size_t room, const char *src,
				  unsigned char last)
{
	static const char digits[] = "0123456789abcdef";
	size_t n = 0;

	for (; *src; src++) {
		unsigned char c = (unsigned char)*src;
		size_t want = c >= 0x20 && c != 0x7f && c <= last ? 1 : 4;

		if (n + want >= room)
			break;
		if (want == 1) {
			dst[n++] = (char)c;
			continue;
		}
		dst[n++] = '\\';
		dst[n++] = 'x';
		dst[n++] = digits[c >> 4];
		dst[n++] = digits[c & 15];
	}
	dst[n] = '\0';
	return n;
}

/*
 * Nothing but printable ASCII, so that it can neither move the cursor nor forge a line, and its
 * length is its width.
 */
static inline size_t visible_copy(char *dst, size_t room, const char *src)
{
	return visible_upto(dst, room, src, 0x7e);
}

/* The bytes of the UTF-8 character at p, in a text that ends with 0; 0: it is none. RFC 3629. */
static inline size_t visible_utf8_len(const unsigned char *p)
{
	size_t len = p[0] < 0x80   ? 1
		     : p[0] < 0xc2 ? 0
		     : p[0] < 0xe0 ? 2
		     : p[0] < 0xf0 ? 3
				   : 4;

	if (p[0] > 0xf4 || (p[0] == 0xe0 && p[1] < 0xa0) ||
	    (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
	    (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	}
	return len;
}

#endif
