/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/escrow.h"

#include <endian.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "crypto/jsonscan.h"
#include "util/parse.h"

enum { ESCROW_VERSION = 1, KEYSLOT_MAX = 31 };

static const char magic[8] = "VMCESCR1"; /* without a NUL */

struct plain {
	char magic[8];
	unsigned char uuid[UUID_LEN];
	uint64_t generation_be;
	unsigned char secret[SECRET_LEN];
} __attribute__((packed));
_Static_assert(sizeof(struct plain) + crypto_box_SEALBYTES == ESCROW_SEALED_LEN,
	       "what is sealed");
_Static_assert(crypto_box_PUBLICKEYBYTES == ESCROW_KEY_LEN &&
		       (int)crypto_box_SECRETKEYBYTES == (int)SECRET_LEN,
	       "X25519 keys");

vcf_err_t escrow_init(void)
{
	return sodium_init() < 0 ? -EIO : 0;
}

vcf_err_t escrow_public_of(struct escrow_public *out, const struct secret *private_key)
{
	unsigned char digest[crypto_hash_sha256_BYTES];

	if (private_key &&
	    crypto_scalarmult_base(out->key, secret_bytes(private_key)) < 0)
		return -EIO;
	crypto_hash_sha256(digest, out->key, sizeof(out->key));
	hex_encode(out->recipient, digest, ESCROW_RECIPIENT_LEN / 2);
	return 0;
}

/* In a struct secret's page would be nicer, but it holds 32 bytes; locked for the call. */
static void forget(struct plain *p)
{
	sodium_munlock(p, sizeof(*p)); /* wipes it */
}

vcf_err_t escrow_seal(struct escrow *out, const struct escrow_public *pub,
		      const unsigned char uuid[UUID_LEN], uint64_t generation,
		      const struct secret *secret)
{
	struct plain p;
	int rc;

	if (sodium_mlock(&p, sizeof(p)) < 0)
		return -ENOMEM;
	memcpy(p.magic, magic, sizeof(p.magic));
	memcpy(p.uuid, uuid, UUID_LEN);
	p.generation_be = htobe64(generation);
	memcpy(p.secret, secret_bytes(secret), SECRET_LEN);
	rc = crypto_box_seal(out->sealed, (unsigned char *)&p, sizeof(p), pub->key);
	forget(&p);
	if (rc < 0)
		return -EIO;
	memcpy(out->recipient, pub->recipient, sizeof(out->recipient));
	return 0;
}

static vcf_err_t take_secret(struct secret **out, const struct plain *p,
			     const unsigned char uuid[UUID_LEN], uint64_t generation)
{
	vcf_err_t err;

	if (memcmp(p->magic, magic, sizeof(p->magic)) != 0 ||
	    memcmp(p->uuid, uuid, UUID_LEN) != 0 ||
	    be64toh(p->generation_be) != generation)
		return -EBADMSG;
	err = secret_new(out);
	if (!err)
		memcpy(secret_bytes(*out), p->secret, SECRET_LEN);
	return err;
}

vcf_err_t escrow_open(struct secret **out, const struct escrow *e,
		      const struct secret *private_key,
		      const unsigned char uuid[UUID_LEN], uint64_t generation)
{
	struct escrow_public pub;
	struct plain p;
	vcf_err_t err = escrow_public_of(&pub, private_key);

	if (err)
		return err;
	if (strcmp(pub.recipient, e->recipient) != 0)
		return -ENOKEY;
	if (sodium_mlock(&p, sizeof(p)) < 0)
		return -ENOMEM;
	if (crypto_box_seal_open((unsigned char *)&p, e->sealed, sizeof(e->sealed),
				 pub.key, secret_bytes(private_key)) < 0)
		err = -EBADMSG;
	else
		err = take_secret(out, &p, uuid, generation);
	forget(&p);
	return err;
}

/* --- the token's text --- */

static vcf_err_t read_type(struct jsonscan *s, void *obj)
{
	char text[24];

	if (jsonscan_string(s, text, sizeof(text)))
		return -EBADMSG;
	return strcmp(text, ESCROW_TYPE) == 0 ? 0 : -EBADMSG;
}

static vcf_err_t read_keyslots(struct jsonscan *s, void *obj)
{
	struct escrow *e = obj;
	char text[4];
	uint64_t slot;

	if (jsonscan_strings_of_one(s, text, sizeof(text)) ||
	    parse_u64(text, 0, KEYSLOT_MAX, &slot) || (text[0] == '0' && text[1]))
		return -EBADMSG;
	e->keyslot = (unsigned int)slot;
	return 0;
}

static vcf_err_t read_version(struct jsonscan *s, void *obj)
{
	uint64_t v;

	if (jsonscan_number(s, UINT64_MAX, &v))
		return -EBADMSG;
	return v == ESCROW_VERSION ? 0 : -EBADMSG;
}

static vcf_err_t read_recipient(struct jsonscan *s, void *obj)
{
	struct escrow *e = obj;
	unsigned char bytes[ESCROW_RECIPIENT_LEN / 2];

	if (jsonscan_string(s, e->recipient, sizeof(e->recipient)) ||
	    hex_decode(bytes, sizeof(bytes), e->recipient, strlen(e->recipient)))
		return -EBADMSG;
	return 0;
}

static vcf_err_t read_sealed(struct jsonscan *s, void *obj)
{
	struct escrow *e = obj;
	char text[BASE64_LEN(ESCROW_SEALED_LEN) + 1];

	if (jsonscan_string(s, text, sizeof(text)) ||
	    base64_decode(e->sealed, sizeof(e->sealed), text, strlen(text)))
		return -EBADMSG;
	return 0;
}

static const struct jsonscan_member members[] = {
	{"type", read_type},	   {"keyslots", read_keyslots},
	{"version", read_version}, {"recipient", read_recipient},
	{"sealed", read_sealed},
};

vcf_err_t escrow_parse(struct escrow *out, const char *json, size_t len)
{
	struct escrow e = {.keyslot = 0};

	if (len > ESCROW_JSON_MAX ||
	    jsonscan_object(json, len, members, sizeof(members) / sizeof(members[0]), &e))
		return -EBADMSG;
	*out = e;
	return 0;
}

ssize_t escrow_format(char *dst, size_t room, const struct escrow *e)
{
	char sealed[BASE64_LEN(ESCROW_SEALED_LEN) + 1];
	int n;

	if (e->keyslot > KEYSLOT_MAX)
		return -EINVAL;
	base64_encode(sealed, e->sealed, sizeof(e->sealed));
	n = snprintf(dst, room,
		     "{\"type\":\"" ESCROW_TYPE "\",\"keyslots\":[\"%u\"],\"version\":%d,"
		     "\"recipient\":\"%s\",\"sealed\":\"%s\"}",
		     e->keyslot, ESCROW_VERSION, e->recipient, sealed);
	return n < 0 || (size_t)n >= room || n > ESCROW_JSON_MAX ? -ENOSPC : n;
}
