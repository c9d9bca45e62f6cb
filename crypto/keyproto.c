/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The grammar, and reading: a cursor takes words off the line; each take_ function
 * returns false if the next word is not what it wants.
 */
#include "crypto/keyproto.h"

#include <errno.h>
#include <string.h>

#include "util/parse.h"

enum { CREATED_LEN = 19 };

static const char *const verb_names[] = {
	[KEY_NEW] = "new",   [KEY_GET] = "get",		[KEY_FIND] = "find",
	[KEY_LIST] = "list", [KEY_DESTROY] = "destroy", [KEY_PING] = "ping",
};

static const char *const reply_names[] = {
	[KEY_REPLY_CREATED] = "created",     [KEY_REPLY_SECRET] = "secret",
	[KEY_REPLY_ITEM] = "item",	     [KEY_REPLY_END] = "end",
	[KEY_REPLY_DESTROYED] = "destroyed", [KEY_REPLY_GONE] = "gone",
	[KEY_REPLY_PONG] = "pong",	     [KEY_REPLY_ERROR] = "error",
};

static const struct {
	const char *name;
	vcf_err_t err;
} errors[] = {
	[KEY_DENIED] = {"denied", -EKEYREJECTED},
	[KEY_NOTFOUND] = {"notfound", -ENOKEY},
	[KEY_UNAVAILABLE] = {"unavailable", -ETIMEDOUT},
	[KEY_QUOTA] = {"quota", -EDQUOT},
	[KEY_INVALID] = {"invalid", -EINVAL},
};

#define LENGTH(a) (sizeof(a) / sizeof((a)[0]))

vcf_err_t keyproto_errno(enum key_error error)
{
	return errors[error].err;
}

const char *keyproto_error_name(enum key_error error)
{
	return errors[error].name;
}

const char *keyproto_verb_name(enum key_verb verb)
{
	return verb_names[verb];
}

const char *keyproto_reply_name(enum key_reply_kind kind)
{
	return reply_names[kind];
}

bool keyproto_label_valid(const char *label)
{
	return strnlen(label, KEYPROTO_LABEL_MAX + 1) <= KEYPROTO_LABEL_MAX &&
	       token_key_id_valid(label) && !strchr(label, '/');
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

bool keyproto_created_valid(const char *text)
{
	static const char shape[] = "dddd-dd-ddTdd:dd:dd";
	const char *p = text + CREATED_LEN;

	if (strcmp(text, "-") == 0)
		return true;
	for (size_t i = 0; i < CREATED_LEN; i++) {
		if (shape[i] == 'd' ? !is_digit(text[i]) : text[i] != shape[i])
			return false;
	}
	if (*p == '.') {
		size_t digits = strspn(p + 1, "0123456789");

		if (digits < 1 || digits > 9)
			return false;
		p += 1 + digits;
	}
	return strcmp(p, "Z") == 0;
}

int keyproto_created_cmp(const char *a, const char *b)
{
	int diff = strncmp(a, b, CREATED_LEN);

	if (diff || *a == '-')
		return diff;
	/* "Z" or ".5Z": a letter would order after a digit or a dot */
	for (a += CREATED_LEN, b += CREATED_LEN; *a == *b; a++, b++) {
		if (*a == 'Z')
			return 0;
	}
	if (*a == 'Z' || *b == 'Z')
		return *a == 'Z' ? -1 : 1;
	return *a - *b;
}

/* --- reading --- */

struct cursor {
	const char *p; /* NULL when the line is used up */
	const char *end;
};

bool keyproto_printable(const char *line, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (line[i] < 0x20 || line[i] > 0x7e)
			return false;
	}
	return true;
}

static bool take_word(struct cursor *c, const char **word, size_t *len)
{
	const char *blank;

	if (!c->p)
		return false;
	blank = memchr(c->p, ' ', (size_t)(c->end - c->p));
	*word = c->p;
	*len = (size_t)((blank ? blank : c->end) - c->p);
	c->p = blank ? blank + 1 : NULL;
	return *len > 0;
}

static bool take_text(struct cursor *c, char *dst, size_t room)
{
	const char *word;
	size_t len;

	if (!take_word(c, &word, &len) || len >= room)
		return false;
	memcpy(dst, word, len);
	dst[len] = '\0';
	return true;
}

/* The rest of the line, cut to fit; may be empty. */
static void take_rest(struct cursor *c, char *dst, size_t room)
{
	size_t len = c->p ? (size_t)(c->end - c->p) : 0;

	if (len >= room)
		len = room - 1;
	if (len)
		memcpy(dst, c->p, len);
	dst[len] = '\0';
	c->p = NULL;
}

static bool take_number(struct cursor *c, uint64_t min, uint64_t *out)
{
	char text[24];

	return take_text(c, text, sizeof(text)) && (text[0] != '0' || !text[1]) &&
	       parse_u64(text, min, UINT64_MAX, out) == 0;
}

static bool take_id(struct cursor *c, char dst[TOKEN_KEY_ID_MAX + 1])
{
	return take_text(c, dst, TOKEN_KEY_ID_MAX + 1) && token_key_id_valid(dst);
}

static bool take_label(struct cursor *c, char dst[KEYPROTO_LABEL_MAX + 1])
{
	return take_text(c, dst, KEYPROTO_LABEL_MAX + 1) && keyproto_label_valid(dst);
}

/* The index of the next word in a list of names, or -1. */
static int take_name(struct cursor *c, const char *const *names, size_t cnt)
{
	char text[16];

	if (!take_text(c, text, sizeof(text)))
		return -1;
	for (size_t i = 0; i < cnt; i++) {
		if (names[i] && strcmp(names[i], text) == 0)
			return (int)i;
	}
	return -1;
}

/* A secret is the last word of its line, so nothing has to be undone after it. */
static vcf_err_t take_secret(struct cursor *c, struct secret **out)
{
	auto_secret struct secret *s = NULL;
	const char *word;
	size_t len;
	vcf_err_t err;

	if (!take_word(c, &word, &len) || c->p)
		return -EPROTO;
	err = secret_new(&s);
	if (err)
		return err;
	if (base64_decode(secret_bytes(s), SECRET_LEN, word, len))
		return -EPROTO;
	*out = STEAL_PTR(&s);
	return 0;
}

static vcf_err_t verdict(const struct cursor *c, bool good)
{
	return good && !c->p ? 0 : -EPROTO;
}

static vcf_err_t parse_setup(struct key_request *out, struct cursor *c)
{
	static const char *const names[] = {"option", "ready"};

	switch (take_name(c, names, LENGTH(names))) {
	case 0:
		out->verb = KEY_OPTION;
		if (!take_text(c, out->id, sizeof(out->id)) ||
		    !token_service_valid(out->id))
			return -EPROTO;
		take_rest(c, out->value, sizeof(out->value));
		return 0;
	case 1:
		out->verb = KEY_READY;
		return verdict(c, true);
	default:
		return -EPROTO;
	}
}

static vcf_err_t parse_tagged(struct key_request *out, struct cursor *c)
{
	int verb;

	if (!take_number(c, 1, &out->tag))
		return -EPROTO;
	verb = take_name(c, verb_names, LENGTH(verb_names));
	if (verb < 0)
		return -EPROTO;
	out->verb = (enum key_verb)verb;
	switch (out->verb) {
	case KEY_NEW:
		if (!take_label(c, out->label))
			return -EPROTO;
		return take_secret(c, &out->secret);
	case KEY_GET:
		return verdict(c, take_id(c, out->id));
	case KEY_FIND:
		return verdict(c, take_label(c, out->label));
	case KEY_LIST: /* without a prefix: all */
		return verdict(c, !c->p || take_label(c, out->label));
	case KEY_DESTROY:
		return verdict(c, take_id(c, out->id) && take_label(c, out->label));
	default:
		return verdict(c, true);
	}
}

vcf_err_t keyproto_parse_request(struct key_request *out, const char *line, size_t len)
{
	struct cursor c = {.p = line, .end = line + len};

	memset(out, 0, sizeof(*out));
	if (!len || len >= KEYPROTO_REQUEST_MAX || !keyproto_printable(line, len))
		return -EPROTO;
	if (is_digit(*line))
		return parse_tagged(out, &c);
	return parse_setup(out, &c);
}

static const struct {
	const char *name;
	enum key_cap cap;
} caps[] = {
	{"derives", KEY_CAP_DERIVES},
	{"wrapped", KEY_CAP_WRAPPED},
	{"deadline", KEY_CAP_DEADLINE},
};

/* The rest of a line: words, of which some are known. */
static vcf_err_t parse_caps(struct key_reply *out, struct cursor *c)
{
	char word[33];

	while (c->p) {
		if (!take_text(c, word, sizeof(word)))
			return -EPROTO;
		for (size_t i = 0; i < LENGTH(caps); i++) {
			if (strcmp(word, caps[i].name) == 0)
				out->caps |= caps[i].cap;
		}
	}
	return 0;
}

const char *keyproto_cap_name(unsigned int cap)
{
	for (size_t i = 0; i < LENGTH(caps); i++) {
		if (cap == (unsigned int)caps[i].cap)
			return caps[i].name;
	}
	return NULL;
}

static vcf_err_t parse_hello(struct key_reply *out, struct cursor *c)
{
	uint64_t version;

	out->kind = KEY_REPLY_HELLO;
	if (!take_number(c, 0, &version))
		return -EPROTO;
	if (version != KEYPROTO_VERSION)
		return -EPROTONOSUPPORT;
	if (!take_text(c, out->text, sizeof(out->text)) ||
	    !token_service_valid(out->text))
		return -EPROTO;
	return parse_caps(out, c);
}

static vcf_err_t parse_untagged(struct key_reply *out, struct cursor *c)
{
	static const char *const names[] = {KEYPROTO_HELLO, "ready"};

	switch (take_name(c, names, LENGTH(names))) {
	case 0:
		return parse_hello(out, c);
	case 1:
		out->kind = KEY_REPLY_READY;
		return parse_caps(out, c);
	default:
		return -EPROTO;
	}
}

static bool take_retry_after(struct cursor *c, unsigned int *out)
{
	static const char word[] = "retry-after=";
	struct cursor number = *c;
	uint64_t v;

	if (!c->p || (size_t)(c->end - c->p) < sizeof(word) - 1 ||
	    memcmp(c->p, word, sizeof(word) - 1) != 0)
		return true;
	number.p += sizeof(word) - 1;
	if (!take_number(&number, 0, &v))
		return false;
	*out = v < KEYPROTO_RETRY_AFTER_MAX ? (unsigned int)v : KEYPROTO_RETRY_AFTER_MAX;
	*c = number;
	return true;
}

static vcf_err_t parse_error(struct key_reply *out, struct cursor *c)
{
	char name[16];

	if (!take_text(c, name, sizeof(name)))
		return -EPROTO;
	for (size_t i = 0; i < LENGTH(errors); i++) {
		if (strcmp(errors[i].name, name) != 0)
			continue;
		out->error = (enum key_error)i;
		if (!take_retry_after(c, &out->retry_after_s))
			return -EPROTO;
		take_rest(c, out->text, sizeof(out->text));
		return 0;
	}
	return -EPROTO;
}

static bool take_item(struct cursor *c, struct key_reply *out)
{
	return take_id(c, out->id) && take_label(c, out->label) &&
	       take_text(c, out->created, sizeof(out->created)) &&
	       keyproto_created_valid(out->created);
}

static vcf_err_t parse_answer(struct key_reply *out, struct cursor *c)
{
	int kind;

	if (!take_number(c, 1, &out->tag))
		return -EPROTO;
	kind = take_name(c, reply_names, LENGTH(reply_names));
	if (kind < 0)
		return -EPROTO;
	out->kind = (enum key_reply_kind)kind;
	switch (out->kind) {
	case KEY_REPLY_CREATED:
		return verdict(c, take_id(c, out->id));
	case KEY_REPLY_SECRET:
		return take_secret(c, &out->secret);
	case KEY_REPLY_ITEM:
		return verdict(c, take_item(c, out));
	case KEY_REPLY_ERROR:
		return parse_error(out, c);
	default:
		return verdict(c, true);
	}
}

vcf_err_t keyproto_parse_reply(struct key_reply *out, const char *line, size_t len)
{
	struct cursor c = {.p = line, .end = line + len};

	memset(out, 0, sizeof(*out));
	if (!len || len >= KEYPROTO_REPLY_MAX || !keyproto_printable(line, len))
		return -EPROTO;
	if (is_digit(*line))
		return parse_answer(out, &c);
	return parse_untagged(out, &c);
}
