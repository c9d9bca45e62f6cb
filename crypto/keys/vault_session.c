/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The session: one token, had by a log-in or from a file.
 *
 *   none      -- log-in, or the file --> good
 *   good      -- renew_ms -------------> old: a log-in replaces it; while the service
 *                                        cannot be had it is used on
 *   good, old -- end_ms, a 403 --------> none (a 403: at most once a request, and once
 *                                        in RELOGIN_MS: rights that are missing for good
 *                                        shall not make a token for each request)
 *
 * A token from a file (Vault Agent writes such) has no end that we know: the file is read
 * again when it has changed, and after a 403.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "crypto/keys/credential.h"
#include "crypto/keys/vault.h"
#include "util/clock.h"

enum { RELOGIN_MS = 1000, RETRY_MS = 5000, MARGIN_S = 60 };

vcf_err_t vault_session_start(struct vault *v)
{
	struct helper_failure f = {.kind = KEY_UNAVAILABLE};

	if (lockbuf_new(&v->token, VAULT_TOKEN_MAX) ||
	    lockbuf_new(&v->body, VAULT_BODY_MAX)) {
		helper_log("cannot lock memory: raise RLIMIT_MEMLOCK");
		return -ENOMEM;
	}
	if (http_new(&v->http, "Vault", "address", v->address, &v->http_options, &f)) {
		helper_log("%s", f.text);
		return -EINVAL;
	}
	return 0;
}

void vault_session_stop(struct vault *v)
{
	http_free(v->http);
	lockbuf_free(v->token);
	lockbuf_free(v->body);
}

/* --- requests --- */

static vcf_err_t send(struct vault *v, const char *method, const char *path,
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

/* What an operator can do about it. */
static const char *advice(int status)
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
		snprintf(lacks, sizeof(lacks), "%s", advice(r->status));
	return http_fail_advice(v->http, r, what, vault_status_kind(r->status, false),
				lacks, f);
}

vcf_err_t vault_fail_form(struct vault *v, const char *what, struct helper_failure *f)
{
	return helper_fail(f, KEY_UNAVAILABLE,
			   "%.150s answers %s with what is no answer to it; is it Vault?",
			   http_endpoint(v->http), what);
}

/* --- a token by a log-in --- */

static vcf_err_t add_approle(struct vault *v, struct lockbuf *body,
			     struct helper_failure *f)
{
	auto_lockbuf struct lockbuf *secret_id = NULL;
	vcf_err_t err =
		credential_read(&secret_id, "secret-id-file", v->secret_id_file, f);

	if (err)
		return err;
	if (!keyproto_printable(secret_id->data, secret_id->len))
		return helper_fail(f, KEY_DENIED,
				   "secret-id-file holds more than a "
				   "line of printable characters");
	vault_add_approle_login(body, v->role_id, secret_id->data);
	return 0;
}

static vcf_err_t fail_login(struct vault *v, const struct http_reply *r,
			    struct helper_failure *f)
{
	enum key_error kind = vault_status_kind(r->status, true);
	const char *hint = advice(r->status);

	if (r->status >= 300 && r->status < 400)
		return http_fail_status(v->http, r, "the log-in", f);
	if (r->status == 400 || r->status == 403)
		hint = v->auth == VAULT_APPROLE
			       ? "check role-id and secret-id-file: revoked, expired, "
				 "used up, or for other addresses?"
			       : "check client-cert and cert-role: does the role trust "
				 "its CA, is its name allowed?";
	else if (r->status == 404)
		hint = "no such auth-mount, or not in this namespace";
	return http_fail_advice(v->http, r, "the log-in", kind, hint, f);
}

/* The children of one server shall not all log in at the same moment. */
static void set_times(struct vault *v, uint64_t now, uint32_t lease_s)
{
	uint64_t lease = (uint64_t)lease_s * 1000, margin = lease / 5;
	uint32_t dice;

	if (margin > MARGIN_S * 1000)
		margin = MARGIN_S * 1000;
	secret_random(&dice, sizeof(dice));
	v->logged_in_ms = now;
	v->metadata_denied = false; /* the policies may be others now */
	v->end_ms = lease_s ? now + lease : UINT64_MAX;
	v->renew_ms = lease_s ? v->end_ms - margin - dice % (margin + 1) : UINT64_MAX;
}

static vcf_err_t add_login(struct vault *v, struct lockbuf *body,
			   struct helper_failure *f)
{
	if (v->auth == VAULT_APPROLE)
		return add_approle(v, body, f);
	vault_add_cert_login(body, v->cert_role);
	return 0;
}

static vcf_err_t take_login(struct vault *v, const struct http_reply *r, uint64_t now,
			    struct helper_failure *f)
{
	uint32_t lease_s;

	if (r->status != 200)
		return fail_login(v, r, f);
	if (vault_parse_login(r->body, r->len, v->token, &lease_s))
		return vault_fail_form(v, "the log-in", f);
	set_times(v, now, lease_s);
	return 0;
}

static vcf_err_t log_in(struct vault *v, struct helper_failure *f)
{
	auto_lockbuf struct lockbuf *body = NULL;
	uint64_t now = clock_now_ms();
	char path[VAULT_URL_PATH_MAX];
	struct http_reply r;
	vcf_err_t err;

	if (lockbuf_new(&body, VAULT_BODY_MAX))
		return helper_fail(f, KEY_UNAVAILABLE, "cannot lock memory for a log-in");
	snprintf(path, sizeof(path), "/v1/auth/%s/login", v->auth_mount);
	err = add_login(v, body, f);
	if (!err)
		err = send(v, "POST", path, body, NULL, &r, f);
	if (!err)
		err = take_login(v, &r, now, f);
	http_forget(v->http);
	return err;
}

/* The old token is still good and its successor cannot be had: later, then. */
static bool bridge(struct vault *v, const struct helper_failure *f)
{
	uint64_t now = clock_now_ms();

	if (f->kind != KEY_UNAVAILABLE || !v->token->len || now >= v->end_ms)
		return false;
	v->renew_ms = now + RETRY_MS;
	return true;
}

static vcf_err_t token_by_login(struct vault *v, struct helper_failure *f)
{
	uint64_t now = clock_now_ms();
	vcf_err_t err;

	if (v->token->len && now < v->renew_ms)
		return 0;
	if (now >= v->end_ms)
		lockbuf_reset(v->token);
	err = log_in(v, f);
	return err && bridge(v, f) ? 0 : err;
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
	return v->auth == VAULT_TOKEN ? token_by_file(v, f) : token_by_login(v, f);
}

/* Is another token worth a second try after a 403? Then the present one goes. */
static bool drop_token(struct vault *v, struct helper_failure *f)
{
	auto_lockbuf struct lockbuf *old = NULL;

	if (v->auth != VAULT_TOKEN) {
		if (clock_now_ms() - v->logged_in_ms < RELOGIN_MS)
			return false;
		lockbuf_reset(v->token);
		return true;
	}
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

	return err ? err : send(v, method, path, body, v->token->data, r, f);
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
