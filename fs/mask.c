/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/mask.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

enum { HEX_MIN = 32, WORD_MIN = 32, COMPONENT_MIN = 20, PREFIXED_MIN = 20 };

static const char masked[] = "[masked]";

/* --- behind a telling word --- */

static const char *skip_class(const char *p, const char *class)
{
	return p + strspn(p, class);
}

/* p is behind the telling word: where its value begins, or NULL: it has none. */
static const char *value_behind(const char *p)
{
	while (isalnum((unsigned char)*p) || *p == '_' || *p == '-')
		p++;
	p = skip_class(p, "\"' \t");
	if (*p != '=' && *p != ':')
		return NULL;
	p = skip_class(p + 1, "\"' \t");
	return *p ? p : NULL;
}

/* Where something secret begins that goes on to the line's end, or the end. */
static const char *told_secret(const char *line)
{
	static const char *const words[] = {"password", "passwd",	 "passphrase",
					    "secret",	"token",	 "credential",
					    "api-key",	"authorization", "cookie"};
	const char *first = line + strlen(line);
	const char *at;

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		for (at = line; (at = strcasestr(at, words[i])); at++) {
			const char *value = value_behind(at + strlen(words[i]));

			if (value && value < first)
				first = value;
		}
	}
	at = strcasestr(line, "bearer ");
	return at && at + 7 < first ? at + 7 : first;
}

/* --- by its looks --- */

static bool is_mixed(const char *p, size_t len)
{
	bool upper = false, lower = false, digit = false;

	for (size_t i = 0; i < len; i++) {
		upper |= isupper((unsigned char)p[i]) != 0;
		lower |= islower((unsigned char)p[i]) != 0;
		digit |= isdigit((unsigned char)p[i]) != 0;
	}
	return upper && lower && digit;
}

static bool has_token_prefix(const char *p, size_t len)
{
	static const char *const prefixes[] = {"hvs.", "hvb.", "hvr.",	"s.",
					       "b.",   "r.",   "gAAAA", "eyJ"};

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		size_t n = strlen(prefixes[i]);

		if (len >= PREFIXED_MIN && strncmp(p, prefixes[i], n) == 0)
			return true;
	}
	return false;
}

/* Long runs of hex digits inside, or all as it is. */
static void put_hex_masked(FILE *to, const char *p, size_t len)
{
	while (len) {
		size_t hex = 0, other;

		while (hex < len && isxdigit((unsigned char)p[hex]))
			hex++;
		if (hex >= HEX_MIN)
			fputs(masked, to);
		else
			fwrite(p, 1, hex, to);
		for (other = hex; other < len && !isxdigit((unsigned char)p[other]);)
			other++;
		fwrite(p + hex, 1, other - hex, to);
		p += other;
		len -= other;
	}
}

static void put_path(FILE *to, const char *p, size_t len)
{
	while (len) {
		const char *slash = memchr(p, '/', len);
		size_t n = slash ? (size_t)(slash - p) : len;

		if (n >= COMPONENT_MIN && is_mixed(p, n))
			fputs(masked, to);
		else
			put_hex_masked(to, p, n);
		if (slash)
			fputc('/', to);
		n += slash != NULL;
		p += n;
		len -= n;
	}
}

static void put_word(FILE *to, const char *p, size_t len)
{
	if (has_token_prefix(p, len) ||
	    (*p != '/' && len >= WORD_MIN && is_mixed(p, len)))
		fputs(masked, to);
	else
		put_path(to, p, len);
}

void mask_line(FILE *to, const char *line)
{
	static const char between[] = " \t\"'`,;()[]{}<>|=:&\\";
	const char *end = told_secret(line);
	const char *p = line;

	while (p < end) {
		size_t len = strcspn(p, between);

		if (len > (size_t)(end - p))
			len = (size_t)(end - p);
		if (len)
			put_word(to, p, len);
		p += len;
		if (p < end)
			fputc(*p++, to);
	}
	if (*end)
		fputs(masked, to);
}

void mask_text(FILE *to, const char *text)
{
	while (*text) {
		size_t len = strcspn(text, "\n");
		auto_free char *line = strndup(text, len);

		if (line)
			mask_line(to, line);
		fputc('\n', to);
		text += len + (text[len] == '\n');
	}
}
