/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What befell the servers of a mount, over all generations: kept in the session's head, by the
 * keeper and the one server that runs; read by the status.
 */
#ifndef VCF_FS_HISTORY_H
#define VCF_FS_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

struct session;

struct history {
	uint32_t generation, deaths, hangs, upgrades;
	uint32_t replayed, resent, poisoned, dropped;
	uint32_t last_signal, last_in_flight; /* of the last death */
	uint64_t death_age_ms;
	/* From one server's end to the next one's serving. */
	double stall_mean_ms, stall_max_ms, stall_last_ms, stall_sum_s;
	uint32_t stalls;
	uint64_t uptime_s; /* of the mount */
};

void history_get(struct history *out, const struct session *s);

/* Has any server got so far as to serve? */
bool history_has_served(const struct session *s);

/* The running generation serves. A stall ends. */
void history_serves(struct session *s);

/* The running generation died. */
void history_died(struct session *s, uint32_t signal, uint32_t in_flight);

/* Nobody serves from now on, if not since before. */
void history_stalls(struct session *s);

#endif
