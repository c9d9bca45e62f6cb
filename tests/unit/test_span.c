/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Exhaustive at small S against a brute-force model; rows for the ends of the range. */
#include <errno.h>
#include <string.h>

#include "fs/span.h"
#include "tests/unit/unit.h"

enum { D = 16, SIZES_MAX = 200, P_MAX = 80 };

static const uint32_t sector_rows[] = {2, 4, 8};

static struct geom small(uint32_t sector_len)
{
	return (struct geom){.data_off = D, .sector_len = sector_len};
}

/* Every backing size is torn or the one code of one P; every P has a code. */
START_TEST(sizes_exhaustive)
{
	struct geom g = small(sector_rows[_i]);
	uint64_t s = g.sector_len;
	int code_of[SIZES_MAX];

	memset(code_of, -1, sizeof(code_of));
	for (uint64_t p = 0; p <= P_MAX; p++) {
		uint64_t clen = 0, back = 0;
		uint64_t want = p % s ? D + (p / s + 1) * s + p % s : D + p;

		ck_assert_int_eq(span_encode_size(&g, p, &clen), 0);
		ck_assert_uint_eq(clen, want);
		ck_assert_int_eq(code_of[clen], -1);
		code_of[clen] = (int)p;
		ck_assert_int_eq(span_decode_size(&g, clen, &back), 0);
		ck_assert_uint_eq(back, p);
	}
	for (uint64_t clen = 0; clen <= P_MAX; clen++) {
		bool torn = (clen >= 1 && clen < D) || (clen > D && clen < D + s);
		uint64_t p = 0;

		ck_assert_int_eq(span_decode_size(&g, clen, &p), torn ? -EBADMSG : 0);
		if (!torn)
			ck_assert_int_eq(clen ? code_of[clen] : 0, (int)p);
	}
}
END_TEST

START_TEST(spans_exhaustive)
{
	struct geom g = small(sector_rows[_i]);
	uint64_t s = g.sector_len;

	for (uint64_t poff = 0; poff < 4 * s; poff++) {
		for (uint64_t len = 1; len < 4 * s; len++) {
			struct span sp = span_of(&g, poff, len);
			uint64_t end = poff + len, first = 0, cnt = 0, whole = 0;
			uint64_t last = sp.first + sp.cnt - 1, from = UINT64_MAX;

			ck_assert(sp.first * s <= poff && poff < (sp.first + 1) * s);
			ck_assert(last * s < end && end <= (last + 1) * s);
			ck_assert_uint_eq(sp.first * s + sp.head_skip, poff);
			ck_assert_uint_eq(last * s + sp.tail_len, end);
			ck_assert(span_head_partial(&sp) == (poff > sp.first * s));
			ck_assert(span_tail_partial(&g, &sp) == (end < (last + 1) * s));
			span_inner(&g, poff, len, &first, &cnt);
			for (uint64_t k = 0; k < 10; k++) {
				if (k * s < poff || (k + 1) * s > end)
					continue;
				from = from == UINT64_MAX ? k : from;
				whole++;
			}
			ck_assert_uint_eq(cnt, whole);
			if (cnt)
				ck_assert_uint_eq(first, from);
			ck_assert_uint_eq(span_coff(&g, last), D + last * s);
		}
	}
}
END_TEST

START_TEST(devices)
{
	struct geom g = small(sector_rows[_i]);
	uint64_t clen = 0, p = 0;

	g.device = true;
	ck_assert_int_eq(span_encode_size(&g, 8, &clen), -EOPNOTSUPP);
	for (clen = 0; clen < 100; clen++) {
		int err = span_decode_size(&g, clen, &p);

		ck_assert_int_eq(err, clen < D ? -EBADMSG : 0);
		if (!err)
			ck_assert_uint_eq(p, (clen - D) / g.sector_len * g.sector_len);
	}
}
END_TEST

#define BIG_D (2ull << 20)

static const struct {
	uint32_t sector_len;
	uint64_t plen;
	int err;
	uint64_t clen;
} big_rows[] = {
	{4096, 0, 0, BIG_D},
	{4096, 1, 0, BIG_D + 4097},
	{4096, 4095, 0, BIG_D + 8191},
	{4096, 4096, 0, BIG_D + 4096},
	{512, 4095, 0, BIG_D + 4096 + 511},
	{4096, 1ull << 41, 0, BIG_D + (1ull << 41)},
	{4096, INT64_MAX - BIG_D, -EFBIG, 0}, /* D + P would fit, the marker does not */
	{4096, (INT64_MAX & ~4095ull) - BIG_D, 0, INT64_MAX & ~4095ull},
	{4096, INT64_MAX, -EFBIG, 0},
	{4096, UINT64_MAX, -EFBIG, 0},
	{4096, UINT64_MAX - BIG_D, -EFBIG, 0},
};

START_TEST(big_sizes)
{
	struct geom g = {.data_off = BIG_D, .sector_len = big_rows[_i].sector_len};
	uint64_t clen = 0, back = 0;
	int err = span_encode_size(&g, big_rows[_i].plen, &clen);

	ck_assert_int_eq(err, big_rows[_i].err);
	ck_assert_uint_eq(clen, big_rows[_i].clen);
	if (err)
		return;
	ck_assert_int_eq(span_decode_size(&g, clen, &back), 0);
	ck_assert_uint_eq(back, big_rows[_i].plen);
}
END_TEST

static const struct {
	uint64_t poff, len;
	int err;
} end_rows[] = {
	{0, 0, 0},
	{INT64_MAX, 0, 0},
	{INT64_MAX, 1, -EFBIG},
	{1, INT64_MAX, -EFBIG},
	{UINT64_MAX, 1, -EFBIG},
	{1, UINT64_MAX, -EFBIG},
};

START_TEST(ends)
{
	uint64_t end = 0;

	ck_assert_int_eq(span_end(end_rows[_i].poff, end_rows[_i].len, &end),
			 end_rows[_i].err);
	if (!end_rows[_i].err)
		ck_assert_uint_eq(end, end_rows[_i].poff + end_rows[_i].len);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *s = suite_create("span");
	TCase *t = tcase_create("span");

	tcase_add_loop_test(t, sizes_exhaustive, 0, ROWS(sector_rows));
	tcase_add_loop_test(t, spans_exhaustive, 0, ROWS(sector_rows));
	tcase_add_loop_test(t, devices, 0, ROWS(sector_rows));
	tcase_add_loop_test(t, big_sizes, 0, ROWS(big_rows));
	tcase_add_loop_test(t, ends, 0, ROWS(end_rows));
	suite_add_tcase(s, t);
	return s;
}
