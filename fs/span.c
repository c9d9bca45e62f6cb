/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/span.h"

#include <errno.h>

vcf_err_t span_encode_size(const struct geom *g, uint64_t plen, uint64_t *clen)
{
	uint64_t r = plen % g->sector_len;
	/* n + 1 sectors and the marker: at most two sectors more than P */
	uint64_t extra = r ? g->sector_len : 0;
	uint64_t sum;

	if (g->device)
		return -EOPNOTSUPP;
	if (__builtin_add_overflow(g->data_off, plen, &sum) ||
	    __builtin_add_overflow(sum, extra, &sum) || sum > INT64_MAX)
		return -EFBIG;
	*clen = sum;
	return 0;
}

vcf_err_t span_decode_size(const struct geom *g, uint64_t clen, uint64_t *plen)
{
	uint64_t e, r;

	if (!clen && !g->device) {
		*plen = 0;
		return 0;
	}
	if (clen < g->data_off || clen > INT64_MAX)
		return -EBADMSG;
	e = clen - g->data_off;
	r = e % g->sector_len;
	if (g->device) {
		*plen = e - r;
		return 0;
	}
	if (r && e < g->sector_len)
		return -EBADMSG;
	*plen = r ? e - g->sector_len : e;
	return 0;
}

uint64_t span_coff(const struct geom *g, uint64_t sector)
{
	return g->data_off + sector * g->sector_len;
}

struct span span_of(const struct geom *g, uint64_t poff, uint64_t len)
{
	uint64_t last_byte = poff + len - 1;
	struct span s = {
		.first = poff / g->sector_len,
		.head_skip = (uint32_t)(poff % g->sector_len),
		.tail_len = (uint32_t)(last_byte % g->sector_len) + 1,
	};

	s.cnt = last_byte / g->sector_len - s.first + 1;
	return s;
}

bool span_head_partial(const struct span *s)
{
	return s->head_skip != 0;
}

bool span_tail_partial(const struct geom *g, const struct span *s)
{
	return s->tail_len != g->sector_len;
}

void span_inner(const struct geom *g, uint64_t poff, uint64_t len, uint64_t *first,
		uint64_t *cnt)
{
	uint64_t from = poff / g->sector_len + (poff % g->sector_len != 0);
	uint64_t to = (poff + len) / g->sector_len;

	*first = from;
	*cnt = to > from ? to - from : 0;
}

vcf_err_t span_end(uint64_t poff, uint64_t len, uint64_t *end)
{
	uint64_t sum;

	if (__builtin_add_overflow(poff, len, &sum) || sum > INT64_MAX)
		return -EFBIG;
	*end = sum;
	return 0;
}
