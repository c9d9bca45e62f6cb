/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a key helper says on stderr, on its way into the log. Pure: bytes and times in, lines out.
 * The words are a stranger's: each line is made printable, cut, and rid of what could be a secret
 * (util/untrusted.h).
 *
 * The newest line is held back for a moment: if the helper ends meanwhile, it is the reason, and
 * part of the line that reports the end (keysaid_last()).
 */
#ifndef VCF_CRYPTO_KEYSAID_H
#define VCF_CRYPTO_KEYSAID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	KEYSAID_RAW_MAX = 512, /* of one line; the rest of it is left out */
	KEYSAID_TEXT_MAX = 320,
	KEYSAID_HOLD_MS = 100,
};

/* One helper's. Start with zeros. */
struct keysaid {
	char raw[KEYSAID_RAW_MAX];
	size_t raw_len;
	bool cut;		       /* the line was longer */
	char held[KEYSAID_TEXT_MAX];   /* not given out yet; "": none */
	uint64_t held_ms;	       /* since when */
	char before[KEYSAID_TEXT_MAX]; /* the last one given out since keysaid_forget() */
};

/* Gets each line once. */
typedef void keysaid_emit_fn(void *arg, const char *line);

void keysaid_feed(struct keysaid *s, const char *data, size_t len, uint64_t now_ms,
		  keysaid_emit_fn *emit, void *arg);

/* Gives out the line that was held back for long enough. */
void keysaid_tick(struct keysaid *s, uint64_t now_ms, keysaid_emit_fn *emit, void *arg);

/* When to call that; UINT64_MAX: not at all. */
uint64_t keysaid_next_ms(const struct keysaid *s);

/*
 * The helper has ended. Its last line since keysaid_forget(), also one without its LF; "" if there
 * is none. It is not given out any more.
 */
const char *keysaid_last(struct keysaid *s, keysaid_emit_fn *emit, void *arg);

/* It has given an answer: what it said before is no reason for what comes. */
void keysaid_forget(struct keysaid *s);

/*
 * How many lines of a service's helpers are logged: a few at once, then some a minute. Start with
 * zeros.
 */
struct keysaid_limit {
	uint64_t full_ms; /* when all may be used again */
	uint64_t left_out;
};

bool keysaid_may_log(struct keysaid_limit *l, uint64_t now_ms);

/* The number of lines left out since the last time, once another one may be logged; else 0. */
uint64_t keysaid_left_out(struct keysaid_limit *l, uint64_t now_ms);

/* When that will be; UINT64_MAX: none was left out. */
uint64_t keysaid_left_out_ms(const struct keysaid_limit *l);

#endif
