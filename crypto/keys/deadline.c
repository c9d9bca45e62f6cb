/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/keys/deadline.h"

enum { MARGIN_MAX_MS = 2000 };

static uint64_t min_ms(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t deadline_budget_ms(uint64_t given_ms)
{
	return given_ms - min_ms(given_ms / 10, MARGIN_MAX_MS);
}

uint64_t deadline_share_ms(uint64_t left_ms, size_t cnt, uint64_t want_ms)
{
	uint64_t share = left_ms;

	if (cnt > 1 && left_ms != UINT64_MAX)
		share -= min_ms(left_ms / cnt, DEADLINE_RESERVE_MS) * (cnt - 1);
	share = min_ms(share, want_ms);
	return share < DEADLINE_MIN_MS ? DEADLINE_MIN_MS : share;
}
