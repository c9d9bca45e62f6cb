/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/iostat.h"

#include <string.h>

#include "fs/session.h"

static void add(struct iostat_sum *to, const struct iostat *from)
{
	for (int i = 0; i < HISTOGRAM_CNT; i++) {
		uint64_t n =
			atomic_load_explicit(&from->took.cnt[i], memory_order_relaxed);

		to->cnt[i] += n;
		to->requests += n;
	}
	to->sum_ns += from->took.sum_ns;
	to->bytes += from->bytes;
	to->errors += from->errors;
}

void iostat_copy(struct iostat_sum *to, const struct iostat *from)
{
	memset(to, 0, sizeof(*to));
	add(to, from);
}

void iostat_sum(struct iostat_sum to[IOSTAT_WAYS], const struct session *s)
{
	memset(to, 0, IOSTAT_WAYS * sizeof(*to));
	for (int i = 0; i < SESSION_SLOTS_MAX; i++) {
		for (int way = 0; way < IOSTAT_WAYS; way++)
			add(&to[way], &s->slots[i].io[way]);
	}
}
