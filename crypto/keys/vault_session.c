/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The session: requests with one token, had by a log-in (vault_login.c) or from a file.
 *
 * A token from a file (Vault Agent writes such) has no end that we know: the file is read
 * again when it has changed, and after a 403.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "crypto/keys/credential.h"
#include "crypto/keys/vault.h"

vcf_err_t vault_session_start(struct vault *v)
{
	struct helper_failure f = {.kind = KEY_UNAVAILABLE};

	if (lockbuf_new(&v->token, VAULT_TOKEN_MAX) ||
	    lockbuf_new(&v->fresh, VAULT_TOKEN_MAX) ||
	    lockbuf_new(&v->body, VAULT_BODY_MAX)) {
		helper_log("cannot lock memory: raise RLIMIT_MEMLOCK");
		return -ENOMEM;
	}
	if (http_new(&v->http, "Vault", "address", v->address, &v->http_options, &f)) {
		helper_log("%s", f.text);
		return -EINVAL;
	}
	if (v->auth != VAULT_TOKEN)
		vault_login_share(v);
	return 0;
}

void vault_session_stop(struct vault *v)
{
	http_free(v->http);
	vault_login_stop(v);
	lockbuf_free(v->token);
	lockbuf_free(v->fresh);
	lockbuf_free(v->body);
}

/* --- requests --- */

vcf_err_t vault_send(struct vault *v, const char *method, const char *path,
		     const struct lockbuf *body, const char *token, struct http_reply *r,
		     struct helper_failure *f)
{
	const struct http_header headers[] = {
		{"X-Vault-Request", "true"},
		{"X-Vault-Namespace", *v->namespace ? v->namespace : NULL},
		{"X-Vault-Token", token},
		{"Content-Type", body ? "application/json" : NULL},
		{NULL, NULL},
	};
	const struct http_request q = {
		.method = method,
		.path = path,
		.headers = headers,
		.body = body,
		.reply_max = strcmp(method, "LIST") == 0 ? HTTP_REPLY_LIMIT : 0,
		.repeatable = true,
	};

	if (body && body->full)
		return helper_fail(f, KEY_INVALID, "a request to Vault is too long");
	return http_do(v->http, &q, r, f);
}

const char *vault_advice(int status)
{
	switch (status) {
	case 404:
		return "no such mount, or not in this namespace";
	case 405:
		return "is this mount of the right kind (KV: version 2)?";
	case 412:
		return "not replicated to this server yet";
	case 429:
		return "a rate or lease quota, or a standby";
	case 472:
	case 473:
		return "a standby";
	case 501:
		return "it is not initialised";
	case 503:
		return "sealed, or without an active server";
	default:
		return "";
	}
}

vcf_err_t vault_fail(struct vault *v, const struct http_reply *r, const char *what,
		     const char *right, struct helper_failure *f)
{
	char lacks[160];

	if (r->status >= 300 && r->status < 400)
		return http_fail_status(v->http, r, what, f);
	if (r->status == 403)
		snprintf(lacks, sizeof(lacks), "a policy must allow %s", right);
	else
		snprintf(lacks, sizeof(lacks), "%s", vault_advice(r->status));
	return http_fail_advice(v->http, r, what, vault_status_kind(r->status, false),
				lacks, f);
}

vcf_err_t vault_fail_form(struct vault *v, const char *what, struct helper_failure *f)
{
	return helper_fail(f, KEY_UNAVAILABLE,
			   "%.150s answers %s with what is no answer to it; is it Vault?",
			   http_endpoint(v->http), what);
}

/* --- a token from a file --- */

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
	       a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static vcf_err_t read_token(struct vault *v, struct helper_failure *f)
{
	auto_lockbuf struct lockbuf *text = NULL;
	vcf_err_t err = credential_read(&text, "token-file", v->token_file, f);

	if (err)
		return err;
	lockbuf_reset(v->token);
	if (text->len > VAULT_TOKEN_MAX || strchr(text->data, ' ') ||
	    !keyproto_printable(text->data, text->len))
		return helper_fail(f, KEY_DENIED, "token-file holds no token");
	lockbuf_add(v->token, text->data, text->len);
	return 0;
}

static vcf_err_t token_by_file(struct vault *v, struct helper_failure *f)
{
	char path[CREDENTIAL_PATH_MAX];
	struct stat st;
	vcf_err_t err = credential_path(path, "token-file", v->token_file, f);

	if (err)
		return err;
	if (stat(path, &st) < 0)
		return helper_fail(f, KEY_DENIED, "token-file: %.300s: %s", path,
				   strerror(errno));
	if (v->token->len && same_file(&st, &v->token_stat))
		return 0;
	err = read_token(v, f);
	if (!err)
		v->token_stat = st;
	return err;
}

/* --- both --- */

static vcf_err_t have_token(struct vault *v, struct helper_failure *f)
{
	return v->auth == VAULT_TOKEN ? token_by_file(v, f) : vault_login_token(v, f);
}

/* Is another token worth a second try after a 403? Then the present one goes. */
static bool drop_token(struct vault *v, struct helper_failure *f)
{
	auto_lockbuf struct lockbuf *old = NULL;

	if (v->auth != VAULT_TOKEN)
		return vault_login_refused(v);
	if (lockbuf_new(&old, VAULT_TOKEN_MAX))
		return false;
	lockbuf_add(old, v->token->data, v->token->len);
	return !read_token(v, f) && strcmp(old->data, v->token->data) != 0;
}

static vcf_err_t call(struct vault *v, const char *method, const char *path,
		      const struct lockbuf *body, struct http_reply *r,
		      struct helper_failure *f)
{
	vcf_err_t err = have_token(v, f);

	return err ? err : vault_send(v, method, path, body, v->token->data, r, f);
}

vcf_err_t vault_call(struct vault *v, const char *method, const char *path, bool body,
		     struct http_reply *r, struct helper_failure *f)
{
	const struct lockbuf *b = body ? v->body : NULL;
	vcf_err_t err = call(v, method, path, b, r, f);

	if (!err && r->status == 403 && drop_token(v, f))
		err = call(v, method, path, b, r, f);
	lockbuf_reset(v->body);
	return err;
}
