/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The vmcryptfs token: which secret of which service opens a container, and a MAC over
 * all that the container says of itself. DESIGN section 3, "Token". Pure: text in, struct
 * out.
 *
 * Everything parsed here is hostile until token_mac_check() has passed.
 */
#ifndef VCF_CRYPTO_TOKEN_H
#define VCF_CRYPTO_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crypto/keytable.h"
#include "crypto/secret.h"
#include "util/err.h"

enum {
	TOKEN_VERSION = 1,
	TOKEN_SERVICE_MAX = 64,	 /* characters */
	TOKEN_KEY_ID_MAX = 512,	 /* characters of [A-Za-z0-9._:/+=@-] */
	TOKEN_CONTEXT_MAX = 255, /* bytes, printable ASCII */
	TOKEN_CREATED_MAX = 31,
	TOKEN_JSON_MAX = 3072 - 16, /* it must fit bytes 1024..4095 of a LUKS1 header */
	TOKEN_MAC_LEN = 32,
	UUID_TEXT_LEN = 36,
};

enum token_holes { HOLES_ZERO, HOLES_NONE };
enum luks_format { FORMAT_LUKS1, FORMAT_LUKS2 };

struct token {
	char service[TOKEN_SERVICE_MAX + 1];
	char key_id[TOKEN_KEY_ID_MAX + 1];
	char context[TOKEN_CONTEXT_MAX + 1]; /* "" outside any instance */
	char created[TOKEN_CREATED_MAX + 1]; /* UTC, 2026-01-31T12:00:00Z */
	enum token_holes holes;
	bool derived;
	unsigned int keyslot;
	uint64_t generation;
	unsigned char kcv[KCV_LEN]; /* "kcv" in hex: without it a saved header's MAC could
				     * not be checked once the keyslot is wiped (deletion,
				     * step 4) */
	unsigned char mac[TOKEN_MAC_LEN];
};

/* What the MAC covers beside the token (kcv is in the token): the container's own
 * parameters. */
struct token_subject {
	unsigned char uuid[UUID_LEN];
	char uuid_text[UUID_TEXT_LEN + 1];
	enum luks_format format;
	unsigned int key_bits; /* 512 */
	uint32_t sector_len;
	uint64_t data_off;
};

/* 1..512 of [A-Za-z0-9._:/+=@-], no leading dot, no "..". */
bool token_key_id_valid(const char *id);

/* 1..64 of [A-Za-z0-9._-], no leading dot or '-'. */
bool token_service_valid(const char *name);

/*
 * Parses a token's JSON text (not NUL-terminated).
 * Returns 0, or -EBADMSG if anything is missing, unknown, of the wrong type, repeated,
 * out of range or of another version.
 */
NODISCARD vcf_err_t token_parse(struct token *out, const char *json, size_t len);

/* Writes the JSON text and a NUL; returns its length or -ENOSPC. */
NODISCARD ssize_t token_format(char *dst, size_t room, const struct token *t);

/* Computes the MAC of t and s under the secret. */
NODISCARD vcf_err_t token_mac(unsigned char mac[TOKEN_MAC_LEN], const struct token *t,
			      const struct token_subject *s, const struct secret *secret);

/* 0, or -EBADMSG if t->mac is not the MAC (constant-time comparison). */
NODISCARD vcf_err_t token_mac_check(const struct token *t, const struct token_subject *s,
				    const struct secret *secret);

/*
 * The secret of a derived image: HKDF(site secret, salt = uuid, "vmcryptfs derived v1").
 */
NODISCARD vcf_err_t token_derive_secret(struct secret **out, const struct secret *site,
					const unsigned char uuid[UUID_LEN]);

#endif
