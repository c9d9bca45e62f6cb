/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/keybreaker.h"

#include "crypto/secret.h"

static uint64_t pause_ms(unsigned int n)
{
	uint64_t whole =
		n > 4 ? KEYBREAKER_MAX_MS : (uint64_t)KEYBREAKER_MIN_MS << (n - 1);
	uint32_t dice;

	secret_random(&dice, sizeof(dice));
	return whole / 2 + dice % (whole / 2 + 1);
}

static void open_for(struct keybreaker *b, uint64_t now_ms, unsigned int retry_after_s)
{
	uint64_t pause = pause_ms(++b->pauses);

	if (pause < retry_after_s * UINT64_C(1000))
		pause = retry_after_s * UINT64_C(1000);
	b->state = KEYBREAKER_OPEN;
	b->probe_at_ms = now_ms + pause;
}

bool keybreaker_failed(struct keybreaker *b, uint64_t now_ms, unsigned int retry_after_s)
{
	switch (b->state) {
	case KEYBREAKER_CLOSED:
		if (++b->failures < KEYBREAKER_FAILURES)
			return false;
		b->pauses = 0;
		b->opened++;
		open_for(b, now_ms, retry_after_s);
		return true;
	case KEYBREAKER_PROBING:
		open_for(b, now_ms, retry_after_s);
		return false;
	case KEYBREAKER_OPEN: /* what was under way when it opened */
		return false;
	}
	return false;
}

bool keybreaker_answered(struct keybreaker *b)
{
	bool was_open = b->state != KEYBREAKER_CLOSED;

	b->state = KEYBREAKER_CLOSED;
	b->failures = 0;
	b->pauses = 0;
	return was_open;
}

bool keybreaker_probe_due(const struct keybreaker *b, uint64_t now_ms)
{
	return b->state == KEYBREAKER_OPEN && b->probe_at_ms <= now_ms;
}

bool keybreaker_probe(struct keybreaker *b, uint64_t now_ms)
{
	if (!keybreaker_probe_due(b, now_ms))
		return false;
	b->state = KEYBREAKER_PROBING;
	return true;
}

const char *keybreaker_name(enum keybreaker_state state)
{
	static const char *const names[] = {"closed", "open", "probing"};

	return names[state];
}
