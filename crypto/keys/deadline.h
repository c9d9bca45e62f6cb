/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The time that a helper has for an answer, and what part of it one endpoint may take. The server
 * ends a helper that is late (option deadline-ms of the protocol); a helper that asks several
 * endpoints must have come to the one that works by then. Pure.
 */
#ifndef VCF_CRYPTO_KEYS_DEADLINE_H
#define VCF_CRYPTO_KEYS_DEADLINE_H

#include <stddef.h>
#include <stdint.h>

enum {
	DEADLINE_RESERVE_MS = 5000, /* that is enough for an endpoint that is well */
	DEADLINE_MIN_MS = 100,
	DEADLINE_MAX_MS = 24 * 3600 * 1000,
};

/* Of what the server gives, what is to be used: the answer has its way to go. */
uint64_t deadline_budget_ms(uint64_t given_ms);

/*
 * What one try may take of left_ms while cnt endpoints (with this one) have not been asked: all
 * but 5 s for each of the others, or the same for each where there is not so much; at most
 * want_ms, at least DEADLINE_MIN_MS. left_ms UINT64_MAX: there is no end.
 */
uint64_t deadline_share_ms(uint64_t left_ms, size_t cnt, uint64_t want_ms);

#endif
