/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The token's JSON, read by a scanner for exactly this shape: one flat object whose
 * members are strings, one array of one string, non-negative integers and booleans. A
 * general JSON library merges repeated members without a word; what was skipped would
 * then not be covered by the MAC's meaning. No recursion, no allocation.
 *
 * Source of the grammar: RFC 8259.
 */
#include <errno.h>
#include <string.h>

#include "crypto/token.h"
#include "crypto/token_fields.h"
#include "util/parse.h"

struct scan {
	const char *p;
	const char *end;
};

static void skip_blank(struct scan *s)
{
	while (s->p < s->end &&
	       (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
		s->p++;
}

/* Takes the next character if it is c; blanks before it are skipped. */
static bool take(struct scan *s, char c)
{
	skip_blank(s);
	if (s->p == s->end || *s->p != c)
		return false;
	s->p++;
	return true;
}

static bool take_word(struct scan *s, const char *word)
{
	size_t len = strlen(word);

	skip_blank(s);
	if ((size_t)(s->end - s->p) < len || memcmp(s->p, word, len) != 0)
		return false;
	s->p += len;
	return true;
}

/* The escapes a writer may use for printable ASCII; \uXXXX is none of them. */
static bool take_escape(struct scan *s, char *c)
{
	if (s->p == s->end || !strchr("\"\\/", *s->p) || !*s->p)
		return false;
	*c = *s->p++;
	return true;
}

/* A string of printable ASCII that fits room with its NUL. */
static vcf_err_t take_string(struct scan *s, char *dst, size_t room)
{
	size_t n = 0;

	if (!take(s, '"'))
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
	return take(s, '"') ? 0 : -EBADMSG;
}

/* Digits without a sign, a fraction, an exponent or a leading zero. */
static vcf_err_t take_number(struct scan *s, uint64_t max, uint64_t *out)
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

static vcf_err_t read_type(struct scan *s, struct token *t)
{
	char text[16];

	if (take_string(s, text, sizeof(text)))
		return -EBADMSG;
	return strcmp(text, TOKEN_TYPE) == 0 ? 0 : -EBADMSG;
}

static vcf_err_t read_keyslots(struct scan *s, struct token *t)
{
	char text[4];
	uint64_t slot;

	if (!take(s, '[') || take_string(s, text, sizeof(text)) || !take(s, ']'))
		return -EBADMSG;
	if (parse_u64(text, 0, TOKEN_KEYSLOT_MAX, &slot) || (text[0] == '0' && text[1]))
		return -EBADMSG;
	t->keyslot = (unsigned int)slot;
	return 0;
}

static vcf_err_t read_version(struct scan *s, struct token *t)
{
	uint64_t v;

	if (take_number(s, UINT64_MAX, &v))
		return -EBADMSG;
	return v == TOKEN_VERSION ? 0 : -EBADMSG;
}

static vcf_err_t read_service(struct scan *s, struct token *t)
{
	if (take_string(s, t->service, sizeof(t->service)))
		return -EBADMSG;
	return token_service_valid(t->service) ? 0 : -EBADMSG;
}

static vcf_err_t read_key_id(struct scan *s, struct token *t)
{
	if (take_string(s, t->key_id, sizeof(t->key_id)))
		return -EBADMSG;
	return token_key_id_valid(t->key_id) ? 0 : -EBADMSG;
}

static vcf_err_t read_derived(struct scan *s, struct token *t)
{
	t->derived = take_word(s, "true");
	return t->derived || take_word(s, "false") ? 0 : -EBADMSG;
}

static vcf_err_t read_holes(struct scan *s, struct token *t)
{
	char text[8];

	if (take_string(s, text, sizeof(text)))
		return -EBADMSG;
	for (enum token_holes h = HOLES_ZERO; h <= HOLES_NONE; h++) {
		if (strcmp(text, token_holes_name(h)) == 0) {
			t->holes = h;
			return 0;
		}
	}
	return -EBADMSG;
}

static vcf_err_t read_context(struct scan *s, struct token *t)
{
	return take_string(s, t->context, sizeof(t->context));
}

static vcf_err_t read_generation(struct scan *s, struct token *t)
{
	return take_number(s, TOKEN_GENERATION_MAX, &t->generation);
}

static vcf_err_t read_created(struct scan *s, struct token *t)
{
	if (take_string(s, t->created, sizeof(t->created)))
		return -EBADMSG;
	return token_created_valid(t->created) ? 0 : -EBADMSG;
}

static vcf_err_t read_kcv(struct scan *s, struct token *t)
{
	char text[2 * KCV_LEN + 1];

	if (take_string(s, text, sizeof(text)))
		return -EBADMSG;
	return hex_decode(t->kcv, KCV_LEN, text, strlen(text)) ? -EBADMSG : 0;
}

static vcf_err_t read_mac(struct scan *s, struct token *t)
{
	char text[BASE64_LEN(TOKEN_MAC_LEN) + 1];

	if (take_string(s, text, sizeof(text)))
		return -EBADMSG;
	return base64_decode(t->mac, TOKEN_MAC_LEN, text, strlen(text)) ? -EBADMSG : 0;
}

/* Every member is required once, in any order. */
static const struct {
	const char *name;
	vcf_err_t (*read)(struct scan *s, struct token *t);
} members[] = {
	{"type", read_type},
	{"keyslots", read_keyslots},
	{"version", read_version},
	{"service", read_service},
	{"key_id", read_key_id},
	{"derived", read_derived},
	{"holes", read_holes},
	{"context", read_context},
	{"generation", read_generation},
	{"created", read_created},
	{"kcv", read_kcv},
	{"mac", read_mac},
};
enum { MEMBER_CNT = sizeof(members) / sizeof(members[0]) };

/* Reads one "name": value; seen has a bit for each member read so far. */
static vcf_err_t read_member(struct scan *s, struct token *t, unsigned int *seen)
{
	char name[16];

	if (take_string(s, name, sizeof(name)) || !take(s, ':'))
		return -EBADMSG;
	for (unsigned int i = 0; i < MEMBER_CNT; i++) {
		if (strcmp(name, members[i].name) != 0)
			continue;
		if (*seen & 1u << i)
			return -EBADMSG;
		*seen |= 1u << i;
		return members[i].read(s, t);
	}
	return -EBADMSG;
}

vcf_err_t token_parse(struct token *out, const char *json, size_t len)
{
	struct scan s = {json, json + len};
	struct token t = {.keyslot = 0};
	unsigned int seen = 0;

	if (len > TOKEN_JSON_MAX || !take(&s, '{'))
		return -EBADMSG;
	do {
		vcf_err_t err = read_member(&s, &t, &seen);

		if (err)
			return err;
	} while (take(&s, ','));
	if (!take(&s, '}') || seen != (1u << MEMBER_CNT) - 1)
		return -EBADMSG;
	skip_blank(&s);
	if (s.p != s.end)
		return -EBADMSG;
	*out = t;
	return 0;
}
