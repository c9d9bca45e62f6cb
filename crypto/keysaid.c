/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/keysaid.h"

#include <string.h>

#include "util/text.h"
#include "util/untrusted.h"

/* 20 lines at once, one more each 2 s. */
enum { LINE_MS = 2000, BURST_MS = 20 * LINE_MS };

static void give_out(struct keysaid *s, keysaid_emit_fn *emit, void *arg)
{
	if (!*s->held)
		return;
	emit(arg, s->held);
	memcpy(s->before, s->held, sizeof(s->before));
	*s->held = '\0';
}

static void end_line(struct keysaid *s, uint64_t now_ms, keysaid_emit_fn *emit, void *arg)
{
	size_t len = s->cut ? untrusted_cut_len(s->raw, s->raw_len) : s->raw_len;
	char text[KEYSAID_TEXT_MAX];

	untrusted_text(text, sizeof(text), s->raw, len);
	s->raw_len = 0;
	s->cut = false;
	if (!*text)
		return;
	give_out(s, emit, arg);
	TEXT_CUT(s->held, text);
	s->held_ms = now_ms;
}

void keysaid_feed(struct keysaid *s, const char *data, size_t len, uint64_t now_ms,
		  keysaid_emit_fn *emit, void *arg)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i] == '\n')
			end_line(s, now_ms, emit, arg);
		else if (s->raw_len < sizeof(s->raw))
			s->raw[s->raw_len++] = data[i];
		else
			s->cut = true;
	}
}

void keysaid_tick(struct keysaid *s, uint64_t now_ms, keysaid_emit_fn *emit, void *arg)
{
	if (keysaid_next_ms(s) <= now_ms)
		give_out(s, emit, arg);
}

uint64_t keysaid_next_ms(const struct keysaid *s)
{
	return *s->held ? s->held_ms + KEYSAID_HOLD_MS : UINT64_MAX;
}

const char *keysaid_last(struct keysaid *s, keysaid_emit_fn *emit, void *arg)
{
	end_line(s, 0, emit, arg);
	if (*s->held) {
		memcpy(s->before, s->held, sizeof(s->before));
		*s->held = '\0';
	}
	return s->before;
}

void keysaid_forget(struct keysaid *s)
{
	*s->before = '\0';
}

bool keysaid_may_log(struct keysaid_limit *l, uint64_t now_ms)
{
	if (l->full_ms < now_ms)
		l->full_ms = now_ms;
	if (l->full_ms + LINE_MS > now_ms + BURST_MS) {
		l->left_out++;
		return false;
	}
	l->full_ms += LINE_MS;
	return true;
}

uint64_t keysaid_left_out_ms(const struct keysaid_limit *l)
{
	return l->left_out ? l->full_ms + LINE_MS - BURST_MS : UINT64_MAX;
}

uint64_t keysaid_left_out(struct keysaid_limit *l, uint64_t now_ms)
{
	uint64_t cnt = l->left_out;

	if (keysaid_left_out_ms(l) > now_ms)
		return 0;
	l->left_out = 0;
	return cnt && keysaid_may_log(l, now_ms) ? cnt : 0;
}
