/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The lines of the audit trail. Pure. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "util/audit.h"

enum {
	PATH_ROOM = 560, /* of the escaped text; the sum of all has to fit a line */
	ID_ROOM = 540,
	WORD_ROOM = 140,
	TEXT_ROOM = 140,
};

struct line {
	char *dst;
	size_t len;
};

static void put(struct line *l, const char *text, size_t len)
{
	if (len > AUDIT_LINE_MAX - 3 - l->len) /* room for "}\n" and a NUL */
		len = AUDIT_LINE_MAX - 3 - l->len;
	memcpy(l->dst + l->len, text, len);
	l->len += len;
}

static void put_text(struct line *l, const char *text)
{
	put(l, text, strlen(text));
}

/* The length of the valid UTF-8 sequence at p (RFC 3629), 0 if there is none. */
static size_t utf8_len(const unsigned char *p)
{
	static const struct {
		unsigned char first, last, low,
			high; /* of the first and the second byte */
		size_t len;
	} forms[] = {
		{0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
		{0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3},
		{0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
		{0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
	};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		size_t k = 2;

		if (p[0] < forms[i].first || p[0] > forms[i].last)
			continue;
		if (p[1] < forms[i].low || p[1] > forms[i].high)
			return 0;
		while (k < forms[i].len && (p[k] & 0xc0) == 0x80)
			k++;
		return k == forms[i].len ? k : 0;
	}
	return 0;
}

/* One character as JSON has it; returns how many bytes of p it took. */
static size_t escape(char out[8], size_t *out_len, const unsigned char *p)
{
	size_t len = 1;

	if (*p == '"' || *p == '\\') {
		*out_len = (size_t)snprintf(out, 8, "\\%c", *p);
	} else if (*p < 0x20 || *p == 0x7f) {
		*out_len = (size_t)snprintf(out, 8, "\\u%04x", *p);
	} else if (*p < 0x80) {
		out[0] = (char)*p;
		*out_len = 1;
	} else if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) {
		/* U+0080 to U+009F, more control characters: some terminals obey them */
		len = 2;
		*out_len = (size_t)snprintf(out, 8, "\\u%04x", p[1]);
	} else if ((len = utf8_len(p))) {
		memcpy(out, p, len);
		*out_len = len;
	} else {
		len = 1;
		*out_len = (size_t)snprintf(out, 8, "\\udc%02x", *p);
	}
	return len;
}

/* ,"name":"value", cut to room bytes between the quotes; nothing where value is NULL. */
static void put_string(struct line *l, const char *name, const char *value, size_t room)
{
	const unsigned char *p = (const unsigned char *)value;
	size_t end;

	if (!value)
		return;
	put_text(l, ",\"");
	put_text(l, name);
	put_text(l, "\":\"");
	end = l->len + room;
	while (*p) {
		char out[8];
		size_t out_len, len = escape(out, &out_len, p);

		if (l->len + out_len > end)
			break;
		put(l, out, out_len);
		p += len;
	}
	put_text(l, "\"");
	if (!*p)
		return;
	put_text(l, ",\"");
	put_text(l, name);
	put_text(l, "_cut\":true");
}

static void put_number(struct line *l, const char *name, int64_t value)
{
	char text[64];

	snprintf(text, sizeof(text), ",\"%s\":%" PRId64, name, value);
	put_text(l, text);
}

static void put_time(struct line *l, int64_t time_ms)
{
	time_t s = (time_t)(time_ms / 1000);
	char text[64];
	struct tm tm;

	gmtime_r(&s, &tm);
	snprintf(text, sizeof(text), "{\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%03dZ\"",
		 tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
		 tm.tm_sec, (int)(time_ms % 1000));
	put_text(l, text);
}

static void put_outcome(struct line *l, vcf_err_t err)
{
	const char *name = err ? strerrorname_np(-err) : "ok";

	put_string(l, "outcome", name ? name : "unknown", WORD_ROOM);
}

size_t audit_format(char dst[AUDIT_LINE_MAX], const struct audit_event *e,
		    const struct audit_origin *o, const char *host, uint64_t seq,
		    uint64_t lost, int64_t time_ms)
{
	struct line l = {.dst = dst};

	put_time(&l, time_ms);
	put_string(&l, "event", e->event, WORD_ROOM);
	put_outcome(&l, e->err);
	put_string(&l, "verb", e->verb, WORD_ROOM);
	put_string(&l, "service", e->service, WORD_ROOM);
	put_string(&l, "uuid", e->uuid, WORD_ROOM);
	put_string(&l, "key_id", e->key_id, ID_ROOM);
	if (e->has_opener) {
		put_number(&l, "uid", e->uid);
		put_number(&l, "pid", e->pid);
	}
	if (e->latency_ms >= 0)
		put_number(&l, "latency_ms", e->latency_ms);
	put_string(&l, "host", host, WORD_ROOM);
	put_string(&l, "command", o->command, WORD_ROOM);
	if (!o->command)
		put_number(&l, "generation", o->generation);
	put_number(&l, "seq", (int64_t)seq);
	if (lost)
		put_number(&l, "lost", (int64_t)lost);
	put_string(&l, "text", e->text, TEXT_ROOM);
	put_string(&l, "path", e->path, PATH_ROOM);
	/* Last, for it may be long: what is left of the line. */
	if (l.len + 32 < AUDIT_LINE_MAX)
		put_string(&l, "mount", o->mount, AUDIT_LINE_MAX - 32 - l.len);
	memcpy(dst + l.len, "}\n", 3);
	return l.len + 2;
}
