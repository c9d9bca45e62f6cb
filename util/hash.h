/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * FNV-1a, 64 bits: to tell things apart, not to withstand anybody. Source: draft-eastlake-fnv.
 */
#ifndef VCF_UTIL_HASH_H
#define VCF_UTIL_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_FNV1A_START 0xcbf29ce484222325ull

/* Goes on from h (at first HASH_FNV1A_START) with len bytes. */
static inline uint64_t hash_fnv1a(uint64_t h, const void *data, size_t len)
{
	const unsigned char *p = (const unsigned char *)data;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 0x100000001b3ull;
	return h;
}

#endif
