/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A cursor goes over the text; each skip_ function moves it behind what it wants, or
 * returns false. The same functions check a document and find their way in it later.
 */
#include "crypto/jsonview.h"

#include <errno.h>
#include <string.h>

#include "crypto/secret.h"
#include "util/parse.h"

enum { DEPTH_MAX = 32 };

struct cursor {
	const char *p;
	const char *end;
};

static bool skip_value(struct cursor *c, int depth);

static void skip_blanks(struct cursor *c)
{
	while (c->p < c->end &&
	       (*c->p == ' ' || *c->p == '\t' || *c->p == '\n' || *c->p == '\r'))
		c->p++;
}

static bool skip_char(struct cursor *c, char ch)
{
	if (c->p == c->end || *c->p != ch)
		return false;
	c->p++;
	return true;
}

/* A character between two values, with blanks around it. */
static bool skip_mark(struct cursor *c, char ch)
{
	skip_blanks(c);
	if (!skip_char(c, ch))
		return false;
	skip_blanks(c);
	return true;
}

static bool skip_word(struct cursor *c, const char *word)
{
	size_t len = strlen(word);

	if ((size_t)(c->end - c->p) < len || memcmp(c->p, word, len) != 0)
		return false;
	c->p += len;
	return true;
}

static bool skip_digits(struct cursor *c)
{
	const char *from = c->p;

	while (c->p < c->end && *c->p >= '0' && *c->p <= '9')
		c->p++;
	return c->p > from;
}

static bool skip_number(struct cursor *c)
{
	skip_char(c, '-');
	if (!skip_char(c, '0') && !skip_digits(c))
		return false;
	if (skip_char(c, '.') && !skip_digits(c))
		return false;
	if (skip_char(c, 'e') || skip_char(c, 'E')) {
		if (!skip_char(c, '+'))
			skip_char(c, '-');
		return skip_digits(c);
	}
	return true;
}

static int hex_value(char ch)
{
	if (ch >= '0' && ch <= '9')
		return ch - '0';
	if (ch >= 'a' && ch <= 'f')
		return ch - 'a' + 10;
	if (ch >= 'A' && ch <= 'F')
		return ch - 'A' + 10;
	return -1;
}

/* What stands after "\u". */
static bool take_hex4(struct cursor *c, uint32_t *out)
{
	*out = 0;
	if (c->end - c->p < 4)
		return false;
	for (int i = 0; i < 4; i++) {
		int v = hex_value(*c->p++);

		if (v < 0)
			return false;
		*out = *out << 4 | (uint32_t)v;
	}
	return true;
}

/* What stands after a backslash. */
static bool skip_escape(struct cursor *c)
{
	uint32_t unused;

	if (skip_char(c, 'u'))
		return take_hex4(c, &unused);
	if (c->p == c->end || *c->p == '\0' || !strchr("\"\\/bfnrt", *c->p))
		return false;
	c->p++;
	return true;
}

static bool skip_string(struct cursor *c)
{
	if (!skip_char(c, '"'))
		return false;
	while (c->p < c->end) {
		unsigned char ch = (unsigned char)*c->p++;

		if (ch == '"')
			return true;
		if (ch < 0x20 || (ch == '\\' && !skip_escape(c)))
			return false;
	}
	return false;
}

static bool skip_name(struct cursor *c)
{
	return skip_string(c) && skip_mark(c, ':');
}

/* The rest of an object or an array behind its first mark. */
static bool skip_members(struct cursor *c, bool named, int depth)
{
	char close = named ? '}' : ']';

	skip_blanks(c);
	if (skip_char(c, close))
		return true;
	do {
		if ((named && !skip_name(c)) || !skip_value(c, depth))
			return false;
	} while (skip_mark(c, ','));
	return skip_char(c, close);
}

static bool skip_value(struct cursor *c, int depth)
{
	if (c->p == c->end || depth == DEPTH_MAX)
		return false;
	switch (*c->p) {
	case '{':
	case '[':
		return skip_members(c, *c->p++ == '{', depth + 1);
	case '"':
		return skip_string(c);
	case 't':
		return skip_word(c, "true");
	case 'f':
		return skip_word(c, "false");
	case 'n':
		return skip_word(c, "null");
	default:
		return skip_number(c);
	}
}

vcf_err_t jsonview_parse(struct jsonview *out, const char *text, size_t len)
{
	struct cursor c = {.p = text, .end = text + len};
	const char *from;

	skip_blanks(&c);
	from = c.p;
	if (!skip_value(&c, 0))
		return -EBADMSG;
	*out = (struct jsonview){.p = from, .len = (size_t)(c.p - from)};
	skip_blanks(&c);
	return c.p == c.end ? 0 : -EBADMSG;
}

/* --- finding: the text has been checked --- */

static bool begins(struct jsonview v, char mark)
{
	return v.len && *v.p == mark;
}

static struct cursor inside(struct jsonview v, size_t pos)
{
	struct cursor c = {.p = v.p + pos, .end = v.p + v.len};

	skip_blanks(&c);
	return c;
}

static struct jsonview take_value(struct cursor *c)
{
	const char *from = c->p;

	if (!skip_value(c, 0))
		return (struct jsonview){NULL, 0};
	return (struct jsonview){.p = from, .len = (size_t)(c->p - from)};
}

static bool is_name(const char *from, const struct cursor *c, const char *name)
{
	size_t len = strlen(name);

	return (size_t)(c->p - from) == len + 2 && memcmp(from + 1, name, len) == 0;
}

struct jsonview jsonview_get(struct jsonview object, const char *name)
{
	struct jsonview found = {NULL, 0};
	struct cursor c;

	if (!begins(object, '{'))
		return found;
	c = inside(object, 1);
	while (c.p < c.end && *c.p == '"') {
		const char *from = c.p;
		struct jsonview v;
		bool match;

		skip_string(&c);
		match = is_name(from, &c, name);
		skip_mark(&c, ':');
		v = take_value(&c);
		if (match && found.p)
			return (struct jsonview){NULL, 0};
		if (match)
			found = v;
		skip_mark(&c, ',');
	}
	return found;
}

bool jsonview_next(struct jsonview array, size_t *pos, struct jsonview *out)
{
	struct cursor c;

	if (!begins(array, '['))
		return false;
	c = inside(array, *pos ? *pos : 1);
	if (c.p == c.end || *c.p == ']')
		return false;
	*out = take_value(&c);
	skip_mark(&c, ',');
	*pos = (size_t)(c.p - array.p);
	return true;
}

/* --- values --- */

struct out {
	char *dst;
	size_t room, len;
	bool full;
};

static void put(struct out *o, uint32_t byte)
{
	if (o->len + 1 < o->room)
		o->dst[o->len++] = (char)byte;
	else
		o->full = true;
}

static void put_utf8(struct out *o, uint32_t cp)
{
	if (cp < 0x80) {
		put(o, cp);
	} else if (cp < 0x800) {
		put(o, 0xc0 | cp >> 6);
		put(o, 0x80 | (cp & 0x3f));
	} else if (cp < 0x10000) {
		put(o, 0xe0 | cp >> 12);
		put(o, 0x80 | (cp >> 6 & 0x3f));
		put(o, 0x80 | (cp & 0x3f));
	} else {
		put(o, 0xf0 | cp >> 18);
		put(o, 0x80 | (cp >> 12 & 0x3f));
		put(o, 0x80 | (cp >> 6 & 0x3f));
		put(o, 0x80 | (cp & 0x3f));
	}
}

/* RFC 8259 section 7: what is beyond 16 bits is written as two. */
static bool take_code_point(struct cursor *c, uint32_t *cp)
{
	uint32_t low;

	if (!take_hex4(c, cp) || *cp == 0 || (*cp >= 0xdc00 && *cp < 0xe000))
		return false;
	if (*cp < 0xd800 || *cp >= 0xe000)
		return true;
	if (!skip_word(c, "\\u") || !take_hex4(c, &low) || low < 0xdc00 || low >= 0xe000)
		return false;
	*cp = 0x10000 + ((*cp - 0xd800) << 10) + (low - 0xdc00);
	return true;
}

static bool unescape(struct cursor *c, struct out *o)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	uint32_t cp;

	if (!skip_char(c, 'u')) {
		put(o, (unsigned char)to[strchr(from, *c->p++) - from]);
		return true;
	}
	if (!take_code_point(c, &cp))
		return false;
	put_utf8(o, cp);
	return true;
}

bool jsonview_string(struct jsonview v, char *dst, size_t room)
{
	struct out o = {.dst = dst, .room = room};
	struct cursor c;
	bool good = begins(v, '"');

	if (good) {
		c = (struct cursor){.p = v.p + 1, .end = v.p + v.len - 1};
		while (good && c.p < c.end) {
			if (*c.p != '\\')
				put(&o, (unsigned char)*c.p++);
			else
				good = (c.p++, unescape(&c, &o));
		}
	}
	if (!good || o.full || !room) {
		secret_wipe(dst, room);
		return false;
	}
	dst[o.len] = '\0';
	return true;
}

bool jsonview_int(struct jsonview v, int64_t min, int64_t max, int64_t *out)
{
	bool minus = begins(v, '-');
	char text[24];
	uint64_t n;
	int64_t value;

	if (!v.len || v.len >= sizeof(text))
		return false;
	memcpy(text, v.p + minus, v.len - minus);
	text[v.len - minus] = '\0';
	if (parse_u64(text, 0, INT64_MAX, &n))
		return false;
	value = minus ? -(int64_t)n : (int64_t)n;
	if (value < min || value > max)
		return false;
	*out = value;
	return true;
}

bool jsonview_bool(struct jsonview v, bool *out)
{
	if (!begins(v, 't') && !begins(v, 'f'))
		return false;
	*out = *v.p == 't';
	return true;
}

bool jsonview_is_null(struct jsonview v)
{
	return begins(v, 'n');
}
