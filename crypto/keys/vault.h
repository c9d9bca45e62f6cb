/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of the Vault helper share.
 *
 *   vault.c          the helper: requests, and which mode answers them
 *   vault_options.c  the section [vault]
 *   vault_session.c  logging in, one token for all requests, what failures mean
 *   vault_kv.c       mode kv         vault_transit.c  mode transit
 *   vault_codec.c    bodies, replies, ids (pure)
 *
 * One thread. All requests may be repeated at another endpoint: a record is written with
 * cas = 0 and compared when it is there already; to encrypt twice leaves nothing behind.
 */
#ifndef VCF_CRYPTO_KEYS_VAULT_H
#define VCF_CRYPTO_KEYS_VAULT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "crypto/keys/helper.h"
#include "crypto/keys/http.h"
#include "crypto/keys/lockbuf.h"
#include "crypto/keys/loginshare.h"
#include "crypto/keys/vault_codec.h"

enum vault_mode { VAULT_KV, VAULT_TRANSIT };
enum vault_auth { VAULT_APPROLE, VAULT_TOKEN, VAULT_CERT };

enum { VAULT_TEXT_MAX = 1024, VAULT_URL_PATH_MAX = 1024, VAULT_BODY_MAX = 16 * 1024 };

struct vault {
	/* the options */
	struct http_options http_options;
	char address[4096];
	char namespace[VAULT_PATH_MAX + 1];
	char mount[VAULT_PATH_MAX + 1], prefix[VAULT_PATH_MAX + 1];
	char transit_mount[VAULT_PATH_MAX + 1], transit_key[VAULT_PATH_MAX + 1];
	char auth_mount[VAULT_PATH_MAX + 1], cert_role[VAULT_PATH_MAX + 1];
	char role_id[VAULT_TEXT_MAX];
	char secret_id_file[VAULT_TEXT_MAX], token_file[VAULT_TEXT_MAX];
	enum vault_mode mode;
	enum vault_auth auth;

	struct http *http;
	struct lockbuf *body; /* of the request under way */

	/* the session */
	struct lockbuf *token;	/* empty: none */
	struct lockbuf *fresh;	/* the next one, while it is looked at */
	uint64_t logged_in_ms;	/* when it was had */
	uint64_t renew_ms;	/* from then on a new one is wanted ... */
	uint64_t end_ms;	/* ... and from then on it is no good */
	struct stat token_stat; /* auth = token: of the file that it is from */

	struct loginshare *share; /* NULL: alone, or auth = token */

	bool mount_checked;   /* kv: it is version 2, or may not be asked */
	bool key_checked;     /* transit: the key is derived, or may not be asked */
	bool metadata_denied; /* kv: the time of creation may not be read */
};

/* --- vault_options.c --- */

void vault_options_init(struct vault *v);

/* One option; -EINVAL: unknown or bad, and logged. */
NODISCARD vcf_err_t vault_option(struct vault *v, const char *name, const char *value);

/* After the last one: is all there, does it go together? -EINVAL, logged. */
NODISCARD vcf_err_t vault_options_check(struct vault *v);

/* --- vault_session.c --- */

NODISCARD vcf_err_t vault_session_start(struct vault *v);
void vault_session_stop(struct vault *v);

/*
 * One request, logged in; a 403 makes it log in anew once and ask again, for Vault gives
 * it to expired tokens, too. body: v->body is sent (and emptied). 0 with a reply of any
 * status, or what helper_fail() returned.
 */
NODISCARD vcf_err_t vault_call(struct vault *v, const char *method, const char *path,
			       bool body, struct http_reply *r, struct helper_failure *f);

/*
 * Fills f for a reply that is not wanted. what: the request, for the text; right: the
 * capability that it needs, with its path. Returns the failure's errno.
 */
vcf_err_t vault_fail(struct vault *v, const struct http_reply *r, const char *what,
		     const char *right, struct helper_failure *f);

/* The same for a reply of status 200 that is not understood. */
vcf_err_t vault_fail_form(struct vault *v, const char *what, struct helper_failure *f);

/* One request with this token; NULL: none. */
NODISCARD vcf_err_t vault_send(struct vault *v, const char *method, const char *path,
			       const struct lockbuf *body, const char *token,
			       struct http_reply *r, struct helper_failure *f);

/* What an operator can do about a status; "". */
const char *vault_advice(int status);

/* --- vault_login.c --- */

/* Once, after the options: log-ins are shared from now on. Where that fails, they are not. */
void vault_login_share(struct vault *v);
void vault_login_stop(struct vault *v);

/* Sees to it that v->token is good. 0, or what helper_fail() returned. */
NODISCARD vcf_err_t vault_login_token(struct vault *v, struct helper_failure *f);

/* After a 403: is another token worth a second try? Then the present one goes. */
bool vault_login_refused(struct vault *v);

/* --- vault_kv.c and vault_transit.c: struct helper_ops --- */

NODISCARD vcf_err_t vault_kv_new(struct vault *v, const char *label,
				 const struct secret *secret,
				 char id[TOKEN_KEY_ID_MAX + 1], struct helper_failure *f);
NODISCARD vcf_err_t vault_kv_get(struct vault *v, const char *id, struct secret **out,
				 struct helper_failure *f);
NODISCARD vcf_err_t vault_kv_find(struct vault *v, const char *label, struct helper *h,
				  struct helper_failure *f);
NODISCARD vcf_err_t vault_kv_list(struct vault *v, const char *prefix, struct helper *h,
				  struct helper_failure *f);
NODISCARD vcf_err_t vault_kv_destroy(struct vault *v, const char *id, const char *label,
				     bool *gone, struct helper_failure *f);
NODISCARD vcf_err_t vault_kv_ping(struct vault *v, struct helper_failure *f);

NODISCARD vcf_err_t vault_transit_new(struct vault *v, const char *label,
				      const struct secret *secret,
				      char id[TOKEN_KEY_ID_MAX + 1],
				      struct helper_failure *f);
NODISCARD vcf_err_t vault_transit_get(struct vault *v, const char *id,
				      struct secret **out, struct helper_failure *f);
NODISCARD vcf_err_t vault_transit_destroy(const char *id, const char *label, bool *gone,
					  struct helper_failure *f);
NODISCARD vcf_err_t vault_transit_ping(struct vault *v, struct helper_failure *f);

#endif
