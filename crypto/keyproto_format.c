/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing lines: struct out remembers that something did not fit or was not valid, so
 * that only the end looks.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "crypto/keyproto.h"
#include "util/parse.h"

enum { SECRET_BASE64_LEN = BASE64_LEN(SECRET_LEN) };

struct out {
	char *dst;
	size_t room, len;
	vcf_err_t err;
};

static void put_char(struct out *o, char ch)
{
	if (o->len + 1 >= o->room) {
		o->err = o->err ? o->err : -ENOSPC;
		return;
	}
	o->dst[o->len++] = ch;
}

/* A word and the blank before it, unless it is the first. */
static void put_word(struct out *o, const char *word)
{
	if (o->len)
		put_char(o, ' ');
	for (; *word; word++)
		put_char(o, *word);
}

static void put_number(struct out *o, const char *before, uint64_t v)
{
	char text[48];

	snprintf(text, sizeof(text), "%s%" PRIu64, before, v);
	put_word(o, text);
}

static void put_valid(struct out *o, bool valid, const char *word)
{
	if (!valid)
		o->err = -EINVAL;
	put_word(o, word);
}

static void put_id(struct out *o, const char *id)
{
	put_valid(o, token_key_id_valid(id), id);
}

static void put_label(struct out *o, const char *label)
{
	put_valid(o, keyproto_label_valid(label), label);
}

static void put_secret(struct out *o, const struct secret *s)
{
	char text[SECRET_BASE64_LEN + 1];

	if (!s) {
		o->err = -EINVAL;
		return;
	}
	base64_encode(text, secret_bytes(s), SECRET_LEN);
	put_word(o, text);
	secret_wipe(text, sizeof(text));
}

static void put_visible(struct out *o, const char *text)
{
	size_t len = strnlen(text, KEYPROTO_TEXT_MAX);

	put_char(o, ' ');
	for (size_t i = 0; i < len; i++)
		put_char(o, text[i] >= 0x20 && text[i] <= 0x7e ? text[i] : '?');
}

/* The whole line with its LF may have max characters. */
static ssize_t put_end(struct out *o, size_t max)
{
	put_char(o, '\n');
	if (!o->err && o->len > max)
		o->err = -ENOSPC;
	if (o->err) {
		secret_wipe(o->dst, o->len);
		return o->err;
	}
	o->dst[o->len] = '\0';
	return (ssize_t)o->len;
}

static void put_option(struct out *o, const struct key_request *r)
{
	put_word(o, "option");
	put_valid(o, token_service_valid(r->id), r->id);
	put_valid(o, keyproto_printable(r->value, strlen(r->value)), r->value);
}

static void put_tag(struct out *o, uint64_t tag)
{
	if (!tag)
		o->err = -EINVAL;
	put_number(o, "", tag);
}

static void put_tagged(struct out *o, const struct key_request *r)
{
	put_tag(o, r->tag);
	put_word(o, keyproto_verb_name(r->verb));
	switch (r->verb) {
	case KEY_NEW:
		put_label(o, r->label);
		put_secret(o, r->secret);
		break;
	case KEY_GET:
		put_id(o, r->id);
		break;
	case KEY_FIND:
		put_label(o, r->label);
		break;
	case KEY_LIST:
		if (*r->label)
			put_label(o, r->label);
		break;
	case KEY_DESTROY:
		put_id(o, r->id);
		put_label(o, r->label);
		break;
	default:
		break;
	}
}

ssize_t keyproto_format_request(char *dst, size_t room, const struct key_request *r)
{
	struct out o = {.dst = dst, .room = room};

	if (r->verb == KEY_OPTION)
		put_option(&o, r);
	else if (r->verb == KEY_READY)
		put_word(&o, "ready");
	else
		put_tagged(&o, r);
	return put_end(&o, KEYPROTO_REQUEST_MAX);
}

static void put_caps(struct out *o, unsigned int caps)
{
	for (unsigned int cap = 1; cap && cap <= caps; cap <<= 1) {
		if (caps & cap && keyproto_cap_name(cap))
			put_word(o, keyproto_cap_name(cap));
	}
}

static void put_hello(struct out *o, const struct key_reply *r)
{
	put_word(o, KEYPROTO_HELLO);
	put_number(o, "", KEYPROTO_VERSION);
	put_valid(o, token_service_valid(r->text), r->text);
	put_caps(o, r->caps);
}

static void put_ready(struct out *o, const struct key_reply *r)
{
	put_word(o, "ready");
	put_caps(o, r->caps);
}

/* A service's own words may begin like the field before them: then that stands there, as 0. */
static void put_error(struct out *o, const struct key_reply *r)
{
	static const char field[] = "retry-after=";

	put_word(o, keyproto_error_name(r->error));
	if (r->retry_after_s || strncmp(r->text, field, sizeof(field) - 1) == 0)
		put_number(o, field, r->retry_after_s);
	if (*r->text)
		put_visible(o, r->text);
}

static void put_answer(struct out *o, const struct key_reply *r)
{
	put_tag(o, r->tag);
	put_word(o, keyproto_reply_name(r->kind));
	switch (r->kind) {
	case KEY_REPLY_CREATED:
		put_id(o, r->id);
		break;
	case KEY_REPLY_SECRET:
		put_secret(o, r->secret);
		break;
	case KEY_REPLY_ITEM:
		put_id(o, r->id);
		put_label(o, r->label);
		put_valid(o, keyproto_created_valid(r->created), r->created);
		break;
	case KEY_REPLY_ERROR:
		put_error(o, r);
		break;
	default:
		break;
	}
}

ssize_t keyproto_format_reply(char *dst, size_t room, const struct key_reply *r)
{
	struct out o = {.dst = dst, .room = room};

	if (r->kind == KEY_REPLY_HELLO)
		put_hello(&o, r);
	else if (r->kind == KEY_REPLY_READY)
		put_ready(&o, r);
	else
		put_answer(&o, r);
	return put_end(&o, KEYPROTO_REPLY_MAX);
}
