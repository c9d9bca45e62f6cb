/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What goes to Vault and OpenBao and what comes back: request bodies, replies, key ids,
 * the meaning of statuses. Pure: text in, structs out, no sockets.
 * Source: the HTTP API's documentation (KV version 2, Transit, AppRole, TLS certificates).
 *
 * kv       a record of its own for each image at MOUNT/data/PREFIX/ID. The id is the label.
 *          Its fields are those that OpenStack's castellan writes and reads.
 * transit  nothing is stored there: the id is LABEL:vault:vN:BASE64, the secret encrypted
 *          by the service under a key that is derived with the label as its context. So
 *          a label can be told from its id, and an id under another label decrypts to
 *          nothing.
 */
#ifndef VCF_CRYPTO_KEYS_VAULT_CODEC_H
#define VCF_CRYPTO_KEYS_VAULT_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "crypto/jsonview.h"
#include "crypto/keyproto.h"
#include "crypto/keys/lockbuf.h"
#include "crypto/secret.h"
#include "util/err.h"

enum {
	VAULT_PATH_MAX = 128,	/* of a mount, a prefix, a key's name */
	VAULT_TOKEN_MAX = 4096, /* batch tokens are long */
	VAULT_LEASE_MAX = 10 * 365 * 86400,
};

/* Parts of [A-Za-z0-9_.-] with '/' between; none empty, or with a dot at either end. */
bool vault_path_valid(const char *path);

/* True for a label or kv id that Vault takes as a path: none ends in a dot. */
bool vault_label_valid(const char *label);

/* --- request bodies; they are appended --- */

void vault_add_approle_login(struct lockbuf *b, const char *role_id,
			     const char *secret_id);

/* role: of the certificate method, "" for any that fits */
void vault_add_cert_login(struct lockbuf *b, const char *role);

/* A record that must not exist yet. */
void vault_add_record(struct lockbuf *b, const char *label, const struct secret *secret,
		      time_t created);

void vault_add_encrypt(struct lockbuf *b, const char *label, const struct secret *secret);
void vault_add_decrypt(struct lockbuf *b, const char *label, const char *ciphertext);

/* --- replies: -EBADMSG unless they are JSON with what is wanted in it --- */

/* token is emptied first. lease_s 0: the token does not expire. */
NODISCARD vcf_err_t vault_parse_login(const char *text, size_t len, struct lockbuf *token,
				      uint32_t *lease_s);

struct vault_record {
	struct secret *secret;		   /* the caller's */
	char name[KEYPROTO_LABEL_MAX + 1]; /* "" if it has none that could be a label */
};

/*
 * -ENOKEY: a deleted or destroyed version, of which the metadata is left. -EINVAL: a
 * record, but not of a symmetric key of SECRET_LEN bytes.
 */
NODISCARD vcf_err_t vault_parse_record(const char *text, size_t len,
				       struct vault_record *out);

/* The reply to a written record: it is the first version of its path. */
NODISCARD vcf_err_t vault_parse_written(const char *text, size_t len);

/* Of a record's metadata: when it was made, as the protocol wants it. */
NODISCARD vcf_err_t vault_parse_created(const char *text, size_t len, char created[32]);

/* The array of names of a listing, for jsonview_next(). */
NODISCARD vcf_err_t vault_parse_list(const char *text, size_t len, struct jsonview *keys);

/* A name of a listing that can be one of our records'. */
bool vault_list_label(struct jsonview name, char label[KEYPROTO_LABEL_MAX + 1]);

/* -ENOSPC if label and ciphertext make no key id. */
NODISCARD vcf_err_t vault_parse_encrypted(const char *text, size_t len, const char *label,
					  char id[TOKEN_KEY_ID_MAX + 1]);

/* -EINVAL: decrypted, but not to SECRET_LEN bytes. */
NODISCARD vcf_err_t vault_parse_decrypted(const char *text, size_t len,
					  struct secret **out);

/* Of a transit key: may it be used as this helper wants it? */
NODISCARD vcf_err_t vault_parse_key(const char *text, size_t len, bool *derived);

/* Of a mount: is it a KV engine of version 2? */
NODISCARD vcf_err_t vault_parse_mount(const char *text, size_t len, bool *kv2);

/*
 * The reasons of a reply {"errors":[...]}, "; " between them; printable, cut to fit.
 * False, and an empty text, if it has none.
 */
bool vault_errors(const char *text, size_t len, char *dst, size_t room);

/* True for {"errors":[]}: with a 404, that there is no record at this path. */
bool vault_is_absent(const char *text, size_t len);

/* True for the reason of a write that found a record in its place. */
bool vault_is_cas_mismatch(const char *reasons);

/* --- transit ids --- */

/*
 * Takes an id apart: the label, and where in it the ciphertext begins. False if it is
 * none of transit's.
 */
bool vault_id_split(const char *id, char label[KEYPROTO_LABEL_MAX + 1],
		    const char **ciphertext);

/* --- statuses --- */

/* What a status above 299 means; login: of a log-in, where a 400 is a wrong credential. */
enum key_error vault_status_kind(long status, bool login);

#endif
