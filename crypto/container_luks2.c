/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * LUKS2: the allow-list. LUKS2 metadata is not authenticated; other programs have been
 * made to decrypt in place (CVE-2021-4122) or to write plaintext (CVE-2025-59054) by a
 * header that was merely valid. So: every object has exactly the members that we write,
 * with values in narrow bounds, before a key is derived.
 */
#include <stdio.h>
#include <string.h>

#include "crypto/container_parts.h"
#include "crypto/jsonget.h"
#include "crypto/luks_disk.h"
#include "util/parse.h"

struct area {
	uint64_t off, len;
};

static const char *judge_members(struct json_object *o)
{
	static const char *const names[] = {"keyslots", "tokens", "segments",
					    "digests",	"config", NULL};
	static const char *const config_names[] = {"json_size", "keyslots_size", NULL};

	if (!jsonget_only(o, names))
		return "the metadata has unknown members";
	if (!jsonget_only(jsonget_object(o, "config"), config_names))
		return "requirements or flags are set";
	return NULL;
}

static const char *judge_segment(struct json_object *segments,
				 const struct token_subject *s)
{
	static const char *const ids[] = {"0", NULL};
	static const char *const names[] = {
		"type", "offset", "size", "iv_tweak", "encryption", "sector_size", NULL};
	struct json_object *seg = jsonget_object(segments, "0");
	uint64_t data_off;
	int64_t sector_len;

	if (!jsonget_only(segments, ids))
		return "there is not exactly one segment";
	if (!jsonget_only(seg, names))
		return "the segment has unknown members";
	if (!jsonget_is(seg, "type", "crypt") || !jsonget_is(seg, "size", "dynamic") ||
	    !jsonget_is(seg, "iv_tweak", "0"))
		return "the segment is not a plain crypt segment";
	if (!jsonget_is(seg, "encryption", "aes-xts-plain64"))
		return "the segment's cipher is not aes-xts-plain64";
	if (!jsonget_u64_text(seg, "offset", &data_off) || data_off != s->data_off)
		return "the data offset is wrong";
	if (!jsonget_int(seg, "sector_size", 512, 4096, &sector_len) ||
	    sector_len != s->sector_len)
		return "the sector size is wrong";
	return NULL;
}

static const char *judge_kdf(struct json_object *kdf)
{
	static const char *const names[] = {"type", "hash", "iterations", "salt", NULL};
	int64_t n;

	if (!jsonget_is(kdf, "type", "pbkdf2") || !jsonget_is(kdf, "hash", "sha256"))
		return "a key slot's key derivation is not PBKDF2-SHA256";
	if (!jsonget_only(kdf, names))
		return "a key slot's key derivation has unknown members";
	if (!jsonget_int(kdf, "iterations", ITERATIONS_MIN, ITERATIONS_MAX, &n))
		return "a key slot's iterations are out of bounds";
	return NULL;
}

static const char *judge_af(struct json_object *af)
{
	static const char *const names[] = {"type", "stripes", "hash", NULL};
	int64_t n;

	if (!jsonget_only(af, names) || !jsonget_is(af, "type", "luks1") ||
	    !jsonget_is(af, "hash", "sha256") ||
	    !jsonget_int(af, "stripes", LUKS_STRIPES, LUKS_STRIPES, &n))
		return "a key slot's anti-forensic splitter is unknown";
	return NULL;
}

static const char *judge_area(struct json_object *area, uint64_t data_off,
			      struct area *out)
{
	static const char *const names[] = {"type",	  "offset",   "size",
					    "encryption", "key_size", NULL};
	uint64_t end;
	int64_t n;

	if (!jsonget_only(area, names) || !jsonget_is(area, "type", "raw") ||
	    !jsonget_is(area, "encryption", "aes-xts-plain64") ||
	    !jsonget_int(area, "key_size", VOLUME_KEY_LEN, VOLUME_KEY_LEN, &n))
		return "a key slot is not encrypted with aes-xts-plain64";
	if (!jsonget_u64_text(area, "offset", &out->off) ||
	    !jsonget_u64_text(area, "size", &out->len) ||
	    __builtin_add_overflow(out->off, out->len, &end) || end > data_off ||
	    out->off < LUKS2_KEYSLOTS_OFF ||
	    out->len < (uint64_t)VOLUME_KEY_LEN * LUKS_STRIPES)
		return "a key slot lies outside of the header";
	return NULL;
}

static const char *judge_keyslot(struct json_object *slot, uint64_t data_off,
				 struct area *area)
{
	static const char *const names[] = {"type", "key_size", "af",
					    "area", "kdf",	NULL};
	const char *why;
	int64_t n;

	if (!jsonget_only(slot, names) || !jsonget_is(slot, "type", "luks2") ||
	    !jsonget_int(slot, "key_size", VOLUME_KEY_LEN, VOLUME_KEY_LEN, &n))
		return "a key slot is not a plain luks2 slot of 512 bits";
	why = judge_kdf(jsonget_object(slot, "kdf"));
	if (!why)
		why = judge_af(jsonget_object(slot, "af"));
	if (!why)
		why = judge_area(jsonget_object(slot, "area"), data_off, area);
	return why;
}

static bool overlaps(const struct area *areas, int n)
{
	for (int i = 0; i < n; i++) {
		if (areas[n].off < areas[i].off + areas[i].len &&
		    areas[i].off < areas[n].off + areas[n].len)
			return true;
	}
	return false;
}

static const char *judge_keyslots(struct json_object *slots, uint64_t data_off)
{
	struct area areas[KEYSLOTS_MAX];
	int cnt = slots ? json_object_object_length(slots) : 0;
	int n = 0;

	if (cnt < 1 || cnt > KEYSLOTS_MAX)
		return "there are not 1 to 8 key slots";
	json_object_object_foreach(slots, id, slot)
	{
		const char *why = judge_keyslot(slot, data_off, &areas[n]);

		(void)id;
		if (why)
			return why;
		if (overlaps(areas, n))
			return "key slots overlap";
		n++;
	}
	return NULL;
}

static const char *judge_digest(struct json_object *digests, struct json_object *slots,
				struct json_object **out)
{
	static const char *const names[] = {"type",	  "keyslots", "segments", "hash",
					    "iterations", "salt",     "digest",	  NULL};
	const char *list[KEYSLOTS_MAX];
	struct json_object *digest = NULL;
	int64_t n;
	int cnt;

	if (!digests || json_object_object_length(digests) != 1)
		return "there is not exactly one digest";
	json_object_object_foreach(digests, id, value)
	{
		(void)id;
		digest = value;
	}
	if (!jsonget_only(digest, names) || !jsonget_is(digest, "type", "pbkdf2") ||
	    !jsonget_is(digest, "hash", "sha256"))
		return "the digest is not PBKDF2-SHA256";
	if (!jsonget_int(digest, "iterations", ITERATIONS_MIN, ITERATIONS_MAX, &n))
		return "the digest's iterations are out of bounds";
	cnt = jsonget_strings(digest, "segments", list, 1);
	if (cnt != 1 || strcmp(list[0], "0") != 0)
		return "the digest is not bound to the segment";
	cnt = jsonget_strings(digest, "keyslots", list, KEYSLOTS_MAX);
	for (int i = 0; i < cnt; i++) {
		if (!jsonget_object(slots, list[i]))
			return "the digest names a key slot that is not there";
	}
	if (cnt != json_object_object_length(slots))
		return "the digest is not bound to all key slots";
	*out = digest;
	return NULL;
}

static const char *token_text(struct json_object *value)
{
	return json_object_to_json_string_ext(
		value, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
}

static const char *read_token(struct token *t, struct json_object *value,
			      struct json_object *slots)
{
	const char *text = token_text(value);
	char id[16];

	if (!jsonget_is(value, "type", "vmcryptfs"))
		return "there is a token of another type";
	if (token_parse(t, text, strlen(text)))
		return "the token cannot be read";
	snprintf(id, sizeof(id), "%u", t->keyslot);
	return jsonget_object(slots, id) ? NULL
					 : "the token names a key slot that is not there";
}

static const char *read_escrow(struct container *c, struct json_object *value)
{
	const char *text = token_text(value);

	if (*c->escrow.recipient)
		return "there are two escrow tokens";
	return escrow_parse(&c->escrow, text, strlen(text))
		       ? "the escrow token cannot be read"
		       : NULL;
}

/*
 * One token, or two while a key change is under way: then the later generation counts,
 * for its secret is in the key service before its token is in the header.
 */
static const char *judge_tokens(struct container *c, struct json_object *tokens,
				struct json_object *slots)
{
	struct token list[TOKENS_MAX];
	const char *why = NULL;
	int cnt = 0;

	if (!tokens || json_object_object_length(tokens) < 1)
		return "no token";
	json_object_object_foreach(tokens, id, value)
	{
		(void)id;
		if (jsonget_is(value, "type", ESCROW_TYPE))
			why = read_escrow(c, value);
		else if (cnt == TOKENS_MAX)
			why = "there are more than two tokens";
		else
			why = read_token(&list[cnt++], value, slots);
		if (why)
			return why;
	}
	if (!cnt)
		return "no token";
	if (cnt == 2 && list[0].generation == list[1].generation)
		return "two tokens are of the same generation";
	c->token = list[cnt == 2 && list[1].generation > list[0].generation];
	if (*c->escrow.recipient && c->escrow.keyslot != c->token.keyslot)
		return "the escrow token is of another key slot";
	return NULL;
}

static bool read_bytes(void *dst, size_t len, struct json_object *o, const char *name)
{
	const char *text = jsonget_string(o, name);

	return text && base64_decode(dst, len, text, strlen(text)) == 0;
}

/* The slot that the token names, and the digest; their numbers were judged. */
static const char *read_slot(struct luks_slot *s, struct json_object *slot,
			     struct json_object *digest)
{
	struct json_object *kdf = jsonget_object(slot, "kdf");
	int64_t n, m;

	if (!jsonget_int(kdf, "iterations", ITERATIONS_MIN, ITERATIONS_MAX, &n) ||
	    !jsonget_int(digest, "iterations", ITERATIONS_MIN, ITERATIONS_MAX, &m) ||
	    !jsonget_u64_text(jsonget_object(slot, "area"), "offset", &s->material_off))
		return "the token's key slot cannot be read";
	if (!read_bytes(s->salt, LUKS_SALT_LEN, kdf, "salt"))
		return "the salt of the token's key slot is not of 32 bytes";
	if (!read_bytes(s->digest_salt, LUKS_SALT_LEN, digest, "salt") ||
	    !read_bytes(s->digest, LUKS_DIGEST_MAX, digest, "digest"))
		return "the digest or its salt is not of 32 bytes";
	s->iterations = (unsigned int)n;
	s->digest_iterations = (unsigned int)m;
	s->digest_len = LUKS_DIGEST_MAX;
	return NULL;
}

static const char *read_token_slot(struct container *c, struct json_object *slots,
				   struct json_object *digest)
{
	char id[16];

	snprintf(id, sizeof(id), "%u", c->token.keyslot);
	return read_slot(&c->slot, jsonget_object(slots, id), digest);
}

const char *container_judge_luks2(struct container *c)
{
	auto_json struct json_object *o = NULL;
	struct json_object *slots, *digest;
	const char *text;
	const char *why;

	if (crypt_dump_json(c->cd, &text, 0) < 0)
		return "the metadata cannot be read";
	o = json_tokener_parse(text);
	slots = jsonget_object(o, "keyslots");
	why = judge_members(o);
	if (!why)
		why = judge_segment(jsonget_object(o, "segments"), &c->subject);
	if (!why)
		why = judge_keyslots(slots, c->subject.data_off);
	if (!why)
		why = judge_digest(jsonget_object(o, "digests"), slots, &digest);
	if (!why)
		why = judge_tokens(c, jsonget_object(o, "tokens"), slots);
	if (!why)
		why = read_token_slot(c, slots, digest);
	return why;
}
