/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/untrusted.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum {
	UUID_TEXT_LEN = 36,
	TOKEN_RUN_MAX = 15, /* after the prefix of a token */
};

struct out {
	char *dst;
	size_t room, len;
};

static void put(struct out *o, const char *s, size_t len)
{
	size_t left = o->room - 1 - o->len;

	if (len > left)
		len = left;
	memcpy(o->dst + o->len, s, len);
	o->len += len;
}

/* Not by isalnum(3), which heeds the locale. */
static bool is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* The backslash is that of JSON, where many write "\/" for the slash of base64. */
static bool is_run(char c)
{
	return is_alnum(c) || (c && strchr("+/=_-%~.\\", c));
}

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_border(char c)
{
	return c == '/' || c == '.' || c == '=';
}

static bool is_uuid(const char *s, size_t len)
{
	if (len < UUID_TEXT_LEN || (len > UUID_TEXT_LEN && !is_border(s[UUID_TEXT_LEN])))
		return false;
	for (int i = 0; i < UUID_TEXT_LEN; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? s[i] != '-' : !is_hex(s[i]))
			return false;
	}
	return true;
}

/* An absolute path: base64 of 32 bytes ends in '=', hex and base64url have no '/'. */
static bool is_path(const char *s, size_t len)
{
	size_t part = 0;

	if (*s != '/' || s[len - 1] == '/')
		return false;
	for (size_t i = 1; i < len; i++) {
		if (strchr("+=%~", s[i]) || (s[i] == '/' && s[i - 1] == '/'))
			return false;
		part = s[i] == '/' ? 0 : part + 1;
		if (part > UNTRUSTED_RUN_MAX)
			return false;
	}
	return true;
}

/* What stands before the dot in the tokens of Vault and OpenBao, which are short. */
static bool is_token_prefix(const char *s, size_t len)
{
	static const char *const names[] = {"s", "b", "r", "hvs", "hvb", "hvr"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (len == strlen(names[i]) && memcmp(s, names[i], len) == 0)
			return true;
	}
	return false;
}

static void put_piece(struct out *o, const char *s, size_t len, size_t max)
{
	char text[48];
	int n;

	if (len <= max) {
		put(o, s, len);
		return;
	}
	n = snprintf(text, sizeof(text), "[... %zu characters]", len);
	if ((size_t)n < o->room - o->len)
		put(o, text, (size_t)n);
}

static void put_run(struct out *o, const char *s, size_t len)
{
	size_t from = 0, i = 0, max = UNTRUSTED_RUN_MAX;

	if (is_path(s, len)) {
		put(o, s, len);
		return;
	}
	while (i < len) {
		size_t broken = 0;

		if (s[i] == '.')
			broken = 1;
		else if ((i == 0 || is_border(s[i - 1])) && is_uuid(s + i, len - i))
			broken = UUID_TEXT_LEN;
		if (broken) {
			put_piece(o, s + from, i - from, max);
			put(o, s + i, broken);
			max = broken == 1 && is_token_prefix(s + from, i - from)
				      ? TOKEN_RUN_MAX
				      : UNTRUSTED_RUN_MAX;
			from = i + broken;
		}
		i += broken ? broken : 1;
	}
	put_piece(o, s + from, len - from, max);
}

void untrusted_text(char *dst, size_t room, const char *src, size_t len)
{
	struct out o = {.dst = dst, .room = room};
	size_t n;

	for (size_t i = 0; i < len && o.len + 1 < room; i += n) {
		n = 0;
		while (i + n < len && is_run(src[i + n]))
			n++;
		if (n) {
			put_run(&o, src + i, n);
			continue;
		}
		n = 1;
		if (src[i] > ' ' && src[i] < 0x7f)
			put(&o, src + i, 1);
		else if (o.len && dst[o.len - 1] != ' ')
			put(&o, " ", 1);
	}
	while (o.len && dst[o.len - 1] == ' ')
		o.len--;
	dst[o.len] = '\0';
}

/* By pieces: untrusted_text() judges what lies between dots, slashes and UUIDs by itself. */
size_t untrusted_cut_len(const char *src, size_t len)
{
	size_t piece = 0;

	while (piece < len && is_run(src[len - 1 - piece]) &&
	       piece <= UNTRUSTED_RUN_MAX) {
		if (is_border(src[len - 1 - piece])) {
			len -= piece + 1;
			piece = 0;
		} else {
			piece++;
		}
	}
	return piece <= UNTRUSTED_RUN_MAX ? len - piece : len;
}
