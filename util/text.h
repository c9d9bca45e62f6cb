/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copies of C strings into fixed arrays. */
#ifndef VCF_UTIL_TEXT_H
#define VCF_UTIL_TEXT_H

#include <stddef.h>
#include <string.h>

/* Copies src, cut to what fits in room bytes with its NUL; the rest of dst is zeroed. room > 0. */
static inline void text_cut(char *dst, size_t room, const char *src)
{
	size_t len = strlen(src);

	if (len >= room)
		len = room - 1;
	memcpy(dst, src, len);
	memset(dst + len, 0, room - len);
}

#define TEXT_CUT(array, src) text_cut((array), sizeof(array), (src))

#endif
