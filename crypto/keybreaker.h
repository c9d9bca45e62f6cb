/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A circuit breaker: a service that is down is not asked a thousand times whether it still is.
 *
 *   CLOSED --KEYBREAKER_FAILURES failures in a row--> OPEN --probe_at_ms--> PROBING
 *   PROBING --failure--> OPEN (a longer pause)     any --answer--> CLOSED
 *
 * A failure: `unavailable`, a lost helper, a helper that cannot be started. Everything else is an
 * answer, also denied, notfound, quota: the service works. While it is OPEN nothing is sent; while
 * PROBING one `ping` is under way. Pauses double from 500 ms to 5 s, half of each is random: many
 * nodes have lost the service at the same moment. No I/O, no clock, no locks.
 */
#ifndef VCF_CRYPTO_KEYBREAKER_H
#define VCF_CRYPTO_KEYBREAKER_H

#include <stdbool.h>
#include <stdint.h>

enum { KEYBREAKER_FAILURES = 5, KEYBREAKER_MIN_MS = 500, KEYBREAKER_MAX_MS = 5000 };

enum keybreaker_state { KEYBREAKER_CLOSED, KEYBREAKER_OPEN, KEYBREAKER_PROBING };

struct keybreaker { /* zeros: closed */
	enum keybreaker_state state;
	unsigned int failures; /* in a row, while CLOSED */
	unsigned int pauses;   /* in a row, while OPEN or PROBING */
	uint64_t probe_at_ms;  /* OPEN */
	uint64_t opened;       /* how often, ever */
};

/* retry_after_s: as the service asked for, 0: it did not. True: it has just opened. */
bool keybreaker_failed(struct keybreaker *b, uint64_t now_ms, unsigned int retry_after_s);

/* True: it has just closed. */
bool keybreaker_answered(struct keybreaker *b);

/* True once: a probe is to be sent now (then it is PROBING). */
bool keybreaker_probe(struct keybreaker *b, uint64_t now_ms);

/* Is a probe due? Like keybreaker_probe(), without the effect. */
bool keybreaker_probe_due(const struct keybreaker *b, uint64_t now_ms);

const char *
keybreaker_name(enum keybreaker_state state); /* "closed", "open", "probing" */

#endif
