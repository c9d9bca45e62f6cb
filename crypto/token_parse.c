/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The token's JSON; jsonscan.h says why no general library reads it. */
#include <errno.h>
#include <string.h>

#include "crypto/jsonscan.h"
#include "crypto/token.h"
#include "crypto/token_fields.h"
#include "util/parse.h"

static vcf_err_t read_type(struct jsonscan *s, void *obj)
{
	char text[16];

	if (jsonscan_string(s, text, sizeof(text)))
		return -EBADMSG;
	return strcmp(text, TOKEN_TYPE) == 0 ? 0 : -EBADMSG;
}

static vcf_err_t read_keyslots(struct jsonscan *s, void *obj)
{
	struct token *t = obj;
	char text[4];
	uint64_t slot;

	if (jsonscan_strings_of_one(s, text, sizeof(text)))
		return -EBADMSG;
	if (parse_u64(text, 0, TOKEN_KEYSLOT_MAX, &slot) || (text[0] == '0' && text[1]))
		return -EBADMSG;
	t->keyslot = (unsigned int)slot;
	return 0;
}

static vcf_err_t read_version(struct jsonscan *s, void *obj)
{
	uint64_t v;

	if (jsonscan_number(s, UINT64_MAX, &v))
		return -EBADMSG;
	return v == TOKEN_VERSION ? 0 : -EBADMSG;
}

static vcf_err_t read_service(struct jsonscan *s, void *obj)
{
	struct token *t = obj;

	if (jsonscan_string(s, t->service, sizeof(t->service)))
		return -EBADMSG;
	return token_service_valid(t->service) ? 0 : -EBADMSG;
}

static vcf_err_t read_key_id(struct jsonscan *s, void *obj)
{
	struct token *t = obj;

	if (jsonscan_string(s, t->key_id, sizeof(t->key_id)))
		return -EBADMSG;
	return token_key_id_valid(t->key_id) ? 0 : -EBADMSG;
}

static vcf_err_t read_derived(struct jsonscan *s, void *obj)
{
	struct token *t = obj;

	t->derived = jsonscan_word(s, "true");
	return t->derived || jsonscan_word(s, "false") ? 0 : -EBADMSG;
}

static vcf_err_t read_holes(struct jsonscan *s, void *obj)
{
	struct token *t = obj;
	char text[8];

	if (jsonscan_string(s, text, sizeof(text)))
		return -EBADMSG;
	for (enum token_holes h = HOLES_ZERO; h <= HOLES_NONE; h++) {
		if (strcmp(text, token_holes_name(h)) == 0) {
			t->holes = h;
			return 0;
		}
	}
	return -EBADMSG;
}

static vcf_err_t read_context(struct jsonscan *s, void *obj)
{
	struct token *t = obj;

	return jsonscan_string(s, t->context, sizeof(t->context));
}

static vcf_err_t read_generation(struct jsonscan *s, void *obj)
{
	struct token *t = obj;

	return jsonscan_number(s, TOKEN_GENERATION_MAX, &t->generation);
}

static vcf_err_t read_created(struct jsonscan *s, void *obj)
{
	struct token *t = obj;

	if (jsonscan_string(s, t->created, sizeof(t->created)))
		return -EBADMSG;
	return token_created_valid(t->created) ? 0 : -EBADMSG;
}

static vcf_err_t read_kcv(struct jsonscan *s, void *obj)
{
	struct token *t = obj;
	char text[2 * KCV_LEN + 1];

	if (jsonscan_string(s, text, sizeof(text)))
		return -EBADMSG;
	return hex_decode(t->kcv, KCV_LEN, text, strlen(text)) ? -EBADMSG : 0;
}

static vcf_err_t read_mac(struct jsonscan *s, void *obj)
{
	struct token *t = obj;
	char text[BASE64_LEN(TOKEN_MAC_LEN) + 1];

	if (jsonscan_string(s, text, sizeof(text)))
		return -EBADMSG;
	return base64_decode(t->mac, TOKEN_MAC_LEN, text, strlen(text)) ? -EBADMSG : 0;
}

/* Every member is required once, in any order. */
static const struct jsonscan_member members[] = {
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

vcf_err_t token_parse(struct token *out, const char *json, size_t len)
{
	struct token t = {.keyslot = 0};

	if (len > TOKEN_JSON_MAX || jsonscan_object(json, len, members, MEMBER_CNT, &t))
		return -EBADMSG;
	*out = t;
	return 0;
}
