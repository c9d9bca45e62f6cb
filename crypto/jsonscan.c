/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/jsonscan.h"

#include <errno.h>
#include <string.h>

#include "util/parse.h"

static void skip_blank(struct jsonscan *s)
{
	while (s->p < s->end &&
	       (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
		s->p++;
}

bool jsonscan_char(struct jsonscan *s, char c)
{
	skip_blank(s);
	if (s->p == s->end || *s->p != c)
		return false;
	s->p++;
	return true;
}

bool jsonscan_word(struct jsonscan *s, const char *word)
{
	size_t len = strlen(word);

	skip_blank(s);
	if ((size_t)(s->end - s->p) < len || memcmp(s->p, word, len) != 0)
		return false;
	s->p += len;
	return true;
}

/* The escapes a writer may use for printable ASCII; \uXXXX is none of them. */
static bool take_escape(struct jsonscan *s, char *c)
{
	if (s->p == s->end || !strchr("\"\\/", *s->p) || !*s->p)
		return false;
	*c = *s->p++;
	return true;
}

vcf_err_t jsonscan_string(struct jsonscan *s, char *dst, size_t room)
{
	size_t n = 0;

	if (!jsonscan_char(s, '"'))
		return -EBADMSG;
	while (s->p < s->end && *s->p != '"') {
		char c = *s->p++;

		if (c == '\\' && !take_escape(s, &c))
			return -EBADMSG;
		if (c < 0x20 || c > 0x7e || n + 1 >= room)
			return -EBADMSG;
		dst[n++] = c;
	}
	dst[n] = '\0';
	return jsonscan_char(s, '"') ? 0 : -EBADMSG;
}

vcf_err_t jsonscan_number(struct jsonscan *s, uint64_t max, uint64_t *out)
{
	char digits[24];
	size_t n = 0;

	skip_blank(s);
	while (s->p < s->end && *s->p >= '0' && *s->p <= '9' && n + 1 < sizeof(digits))
		digits[n++] = *s->p++;
	digits[n] = '\0';
	if (digits[0] == '0' && n > 1)
		return -EBADMSG;
	return parse_u64(digits, 0, max, out) ? -EBADMSG : 0;
}

vcf_err_t jsonscan_strings_of_one(struct jsonscan *s, char *dst, size_t room)
{
	if (!jsonscan_char(s, '[') || jsonscan_string(s, dst, room) ||
	    !jsonscan_char(s, ']'))
		return -EBADMSG;
	return 0;
}

/* Reads one "name": value; seen has a bit for each member read so far. */
static vcf_err_t read_member(struct jsonscan *s, const struct jsonscan_member *members,
			     unsigned int cnt, void *obj, unsigned int *seen)
{
	char name[16];

	if (jsonscan_string(s, name, sizeof(name)) || !jsonscan_char(s, ':'))
		return -EBADMSG;
	for (unsigned int i = 0; i < cnt; i++) {
		if (strcmp(name, members[i].name) != 0)
			continue;
		if (*seen & 1u << i)
			return -EBADMSG;
		*seen |= 1u << i;
		return members[i].read(s, obj);
	}
	return -EBADMSG;
}

vcf_err_t jsonscan_object(const char *json, size_t len,
			  const struct jsonscan_member *members, unsigned int cnt,
			  void *obj)
{
	struct jsonscan s = {json, json + len};
	unsigned int seen = 0;

	if (!jsonscan_char(&s, '{'))
		return -EBADMSG;
	do {
		vcf_err_t err = read_member(&s, members, cnt, obj, &seen);

		if (err)
			return err;
	} while (jsonscan_char(&s, ','));
	if (!jsonscan_char(&s, '}') || seen != (1u << cnt) - 1)
		return -EBADMSG;
	skip_blank(&s);
	return s.p == s.end ? 0 : -EBADMSG;
}
