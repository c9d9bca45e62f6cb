/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/history.h"

#include <string.h>
#include <time.h>

#include "fs/session.h"
#include "util/clock.h"

void history_get(struct history *out, const struct session *s)
{
	const struct session_head *h = s->head;
	uint32_t stalls = h->stalls;

	*out = (struct history){
		.generation = h->generation,
		.deaths = h->deaths,
		.hangs = h->hangs,
		.upgrades = h->upgrades,
		.replayed = h->replayed,
		.resent = h->resent,
		.poisoned = h->poisoned,
		.dropped = h->dropped,
		.last_signal = h->last_signal,
		.last_in_flight = h->last_in_flight,
		.death_age_ms = clock_now_ms() - h->death_ms,
		.stall_mean_ms =
			stalls ? (double)h->stall_sum_us / 1000 / (double)stalls : 0,
		.stall_max_ms = (double)h->stall_max_us / 1000,
		.stall_last_ms = (double)h->stall_last_us / 1000,
		.stall_sum_s = (double)h->stall_sum_us / 1e6,
		.stalls = stalls,
		.uptime_s = (uint64_t)(time(NULL) - h->mounted_at),
	};
}

bool history_has_served(const struct session *s)
{
	return s->head->serving != 0;
}

void history_serves(struct session *s)
{
	struct session_head *h = s->head;
	uint64_t since = h->stalled_ms;
	uint64_t us = (clock_now_ms() - since) * 1000;

	if (since) {
		h->stalls++;
		h->stalled_ms = 0;
		h->stall_sum_us += us;
		h->stall_last_us = us;
		if (us > h->stall_max_us)
			h->stall_max_us = us;
	}
	h->serving = h->generation;
}

void history_stalls(struct session *s)
{
	if (!s->head->stalled_ms)
		s->head->stalled_ms = clock_now_ms();
}

void history_died(struct session *s, uint32_t signal, uint32_t in_flight)
{
	struct session_head *h = s->head;

	h->deaths++;
	h->last_signal = signal;
	h->last_in_flight = in_flight;
	h->death_ms = clock_now_ms();
	history_stalls(s);
}
