/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The token's fields, its JSON text and its MAC: DESIGN section 3, "Token".
 *
 * The MAC's input is a list of fields, each with its length in front, so that no two
 * different lists give the same bytes. Numbers are decimal text, the uuid is its
 * lower-case text, derived is "true" or "false", kcv is lower-case hex.
 */
#include "crypto/token.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "crypto/kdf.h"
#include "crypto/token_fields.h"
#include "util/parse.h"

bool token_context_valid(const char *context)
{
	size_t len = strnlen(context, TOKEN_CONTEXT_MAX + 1);

	for (size_t i = 0; i < len; i++) {
		if (context[i] < 0x20 || context[i] > 0x7e)
			return false;
	}
	return len <= TOKEN_CONTEXT_MAX;
}

bool token_created_valid(const char *created)
{
	static const char shape[] = "dddd-dd-ddTdd:dd:ddZ";

	for (size_t i = 0; i < sizeof(shape); i++) {
		bool digit = created[i] >= '0' && created[i] <= '9';

		if (shape[i] == 'd' ? !digit : created[i] != shape[i])
			return false;
	}
	return true;
}

bool token_valid(const struct token *t)
{
	return token_service_valid(t->service) && token_key_id_valid(t->key_id) &&
	       token_context_valid(t->context) && token_created_valid(t->created) &&
	       t->keyslot <= TOKEN_KEYSLOT_MAX && t->generation <= TOKEN_GENERATION_MAX &&
	       (t->holes == HOLES_ZERO || t->holes == HOLES_NONE);
}

const char *token_holes_name(enum token_holes holes)
{
	return holes == HOLES_NONE ? "none" : "zero";
}

const char *token_format_name(enum luks_format format)
{
	return format == FORMAT_LUKS1 ? "luks1" : "luks2";
}

/* Of the fields only the context may hold characters that JSON escapes. */
static void escape(char *dst, const char *src)
{
	for (; *src; src++) {
		if (*src == '"' || *src == '\\')
			*dst++ = '\\';
		*dst++ = *src;
	}
	*dst = '\0';
}

ssize_t token_format(char *dst, size_t room, const struct token *t)
{
	char context[2 * TOKEN_CONTEXT_MAX + 1];
	char kcv[2 * KCV_LEN + 1];
	char mac[BASE64_LEN(TOKEN_MAC_LEN) + 1];
	int n;

	if (!token_valid(t))
		return -EINVAL;
	escape(context, t->context);
	hex_encode(kcv, t->kcv, KCV_LEN);
	base64_encode(mac, t->mac, TOKEN_MAC_LEN);
	n = snprintf(dst, room,
		     "{\"type\":\"" TOKEN_TYPE "\",\"keyslots\":[\"%u\"],\"version\":%d,"
		     "\"service\":\"%s\",\"key_id\":\"%s\",\"derived\":%s,"
		     "\"holes\":\"%s\",\"context\":\"%s\",\"generation\":%" PRIu64 ","
		     "\"created\":\"%s\",\"kcv\":\"%s\",\"mac\":\"%s\"}",
		     t->keyslot, TOKEN_VERSION, t->service, t->key_id,
		     t->derived ? "true" : "false", token_holes_name(t->holes), context,
		     t->generation, t->created, kcv, mac);
	if (n < 0 || (size_t)n >= room || n > TOKEN_JSON_MAX)
		return -ENOSPC;
	return n;
}

/* The MAC's input; its parts are bounded by the fields' own limits. */
struct message {
	unsigned char bytes[2048];
	size_t len;
	bool full;
};

static void add(struct message *m, const char *text)
{
	size_t len = strlen(text);

	if (m->full || sizeof(m->bytes) - m->len < len + 4) {
		m->full = true;
		return;
	}
	for (int shift = 24; shift >= 0; shift -= 8)
		m->bytes[m->len++] = (unsigned char)(len >> shift);
	memcpy(m->bytes + m->len, text, len);
	m->len += len;
}

static void add_number(struct message *m, uint64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, v);
	add(m, text);
}

/* The order is part of the on-disk format. */
static vcf_err_t message_fill(struct message *m, const struct token *t,
			      const struct token_subject *s)
{
	char kcv[2 * KCV_LEN + 1];

	hex_encode(kcv, t->kcv, KCV_LEN);
	add(m, "vmcryptfs");
	add_number(m, TOKEN_VERSION);
	add(m, s->uuid_text);
	add(m, token_format_name(s->format));
	add(m, "aes-xts-plain64");
	add_number(m, s->key_bits);
	add_number(m, s->sector_len);
	add_number(m, s->data_off);
	add(m, token_holes_name(t->holes));
	add(m, t->service);
	add(m, t->key_id);
	add(m, t->derived ? "true" : "false");
	add(m, t->context);
	add_number(m, t->generation);
	add(m, t->created);
	add(m, kcv);
	return m->full ? -EINVAL : 0;
}

vcf_err_t token_mac(unsigned char mac[TOKEN_MAC_LEN], const struct token *t,
		    const struct token_subject *s, const struct secret *secret)
{
	struct message m = {.len = 0};
	unsigned char key[KDF_LEN];
	vcf_err_t err = message_fill(&m, t, s);

	if (err)
		return err;
	err = hkdf_sha256(key, sizeof(key), secret_bytes(secret), SECRET_LEN, s->uuid,
			  UUID_LEN, "vmcryptfs header v1");
	if (!err)
		err = hmac_sha256(mac, key, sizeof(key), m.bytes, m.len);
	secret_wipe(key, sizeof(key));
	return err;
}

vcf_err_t token_mac_check(const struct token *t, const struct token_subject *s,
			  const struct secret *secret)
{
	unsigned char mac[TOKEN_MAC_LEN];
	unsigned int diff = 0;
	vcf_err_t err = token_mac(mac, t, s, secret);

	if (err)
		return err;
	for (size_t i = 0; i < TOKEN_MAC_LEN; i++)
		diff |= mac[i] ^ t->mac[i];
	secret_wipe(mac, sizeof(mac)); /* the right answer to a forged question */
	return diff ? -EBADMSG : 0;
}

vcf_err_t token_derive_secret(struct secret **out, const struct secret *site,
			      const unsigned char uuid[UUID_LEN])
{
	auto_secret struct secret *s = NULL;
	vcf_err_t err = secret_new(&s);

	if (!err)
		err = hkdf_sha256(secret_bytes(s), SECRET_LEN, secret_bytes(site),
				  SECRET_LEN, uuid, UUID_LEN, "vmcryptfs derived v1");
	if (err)
		return err;
	*out = STEAL_PTR(&s);
	return 0;
}
