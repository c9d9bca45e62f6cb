/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Size and span arithmetic: plaintext bytes to ciphertext bytes and sectors. Pure.
 *
 *   P  plaintext size     S  sector_len     D  data_off     r = P mod S     n = P div S
 *
 *   r = 0    backing size D + P
 *   else     D + (n+1)*S + r: the last sector padded with zeros, then r marker bytes,
 *            always a hole. The map is not monotonic: kS -> kS-1 grows the file
 *   device   no marker: P = floor((size - D) / S) * S
 *
 * Source: DESIGN section 3, "The guest's size is the guest's size".
 */
#ifndef VCF_FS_SPAN_H
#define VCF_FS_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/err.h"

struct geom {
	uint64_t data_off;   /* D, a multiple of 4096 */
	uint32_t sector_len; /* S, 512 or 4096 (tests: any power of two >= 2) */
	bool device;
};

/* The backing size for P. -EFBIG: beyond INT64_MAX; -EOPNOTSUPP: a device. */
NODISCARD vcf_err_t span_encode_size(const struct geom *g, uint64_t plen, uint64_t *clen);

/*
 * P for a backing size. -EBADMSG: torn (size in 1..D-1 or D+1..D+S-1); a device smaller
 * than D. size 0 of a file: P = 0.
 */
NODISCARD vcf_err_t span_decode_size(const struct geom *g, uint64_t clen, uint64_t *plen);

/* The backing offset of a sector. */
uint64_t span_coff(const struct geom *g, uint64_t sector);

/*
 * The sectors that [poff, poff + len) touches; len > 0 and no overflow (callers checked).
 */
struct span {
	uint64_t first;	    /* first sector touched */
	uint64_t cnt;	    /* sectors touched */
	uint32_t head_skip; /* bytes of the first sector before poff */
	uint32_t tail_len;  /* bytes used of the last sector, 1..S */
};
struct span span_of(const struct geom *g, uint64_t poff, uint64_t len);

/*
 * True if the range starts after the first sector's start (ends before the last sector's
 * end). A single sector may be both; it is covered whole if it is neither.
 */
bool span_head_partial(const struct span *s);
bool span_tail_partial(const struct geom *g, const struct span *s);

/*
 * The sectors that lie whole inside [poff, poff + len): *first, *cnt (0 if none).
 */
void span_inner(const struct geom *g, uint64_t poff, uint64_t len, uint64_t *first,
		uint64_t *cnt);

/* poff + len, or -EFBIG where it exceeds INT64_MAX. */
NODISCARD vcf_err_t span_end(uint64_t poff, uint64_t len, uint64_t *end);

#endif
