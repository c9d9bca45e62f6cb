/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A token by a log-in, the same one for all helpers of a service (loginshare.h).
 *
 *   none      -- log-in, or another helper's --> good
 *   good      -- renew_ms -------------> old: a log-in replaces it; while the service
 *                                        cannot be had it is used on
 *   good, old -- end_ms, a 403 --------> none (a 403: at most once a request, and once
 *                                        in RELOGIN_MS: rights that are missing for good
 *                                        shall not make a token for each request)
 *
 * All helpers that share a token know the same three times of it, so they renew it together:
 * one logs in, the others take what it got.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "crypto/keys/credential.h"
#include "crypto/keys/loginshare.h"
#include "crypto/keys/vault.h"
#include "util/clock.h"

enum { RELOGIN_MS = 1000, RETRY_MS = 5000, MARGIN_S = 60 };

/* What is shared: this, and the token behind it. */
struct shared_login {
	uint64_t logged_in_ms, end_ms;
};

/* --- logging in --- */

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
	const char *hint = vault_advice(r->status);

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

static void take_fresh(struct vault *v)
{
	struct lockbuf *old = v->token;

	v->token = v->fresh;
	v->fresh = old;
	lockbuf_reset(old);
	v->metadata_denied = false; /* the policies may be others now */
}

/* The hosts of a site that started together shall not all log in at the same moment. */
static void set_times(struct vault *v, uint64_t now, uint32_t lease_s)
{
	uint64_t lease = (uint64_t)lease_s * 1000, margin = lease / 5;
	uint32_t dice;

	if (margin > MARGIN_S * 1000)
		margin = MARGIN_S * 1000;
	secret_random(&dice, sizeof(dice));
	v->logged_in_ms = now;
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

/* A reply that is no log-in leaves the token that we have. */
static vcf_err_t take_login(struct vault *v, const struct http_reply *r, uint64_t now,
			    struct helper_failure *f)
{
	uint32_t lease_s;

	if (r->status != 200)
		return fail_login(v, r, f);
	if (vault_parse_login(r->body, r->len, v->fresh, &lease_s))
		return vault_fail_form(v, "the log-in", f);
	take_fresh(v);
	set_times(v, now, lease_s);
	return 0;
}

static vcf_err_t log_in(void *arg, struct helper_failure *f)
{
	struct vault *v = arg;
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
		err = vault_send(v, "POST", path, body, NULL, &r, f);
	if (!err)
		err = take_login(v, &r, now, f);
	http_forget(v->http);
	return err;
}

/* --- sharing --- */

/* What makes two log-ins the same: where, as whom, and whom it trusts. */
static void add_identity(const struct vault *v, struct lockbuf *out)
{
	const char *const parts[] = {
		"vault 1",     v->auth == VAULT_CERT ? "cert" : "approle",
		v->address,    v->namespace,
		v->auth_mount, v->cert_role,
		v->role_id,    v->secret_id_file,
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		lockbuf_add_text(out, parts[i]);
		lockbuf_add_text(out, "\n");
	}
	http_options_identity(&v->http_options, out);
}

void vault_login_share(struct vault *v)
{
	auto_lockbuf struct lockbuf *identity = NULL;

	if (lockbuf_new(&identity, sizeof(*v)))
		return;
	add_identity(v, identity);
	if (identity->full || loginshare_new(&v->share, identity->data))
		v->share = NULL;
}

void vault_login_stop(struct vault *v)
{
	loginshare_free(v->share);
}

static uint64_t publish(void *arg, struct lockbuf *login)
{
	const struct vault *v = arg;
	const struct shared_login head = {v->logged_in_ms, v->end_ms};

	lockbuf_add(login, &head, sizeof(head));
	lockbuf_add(login, v->token->data, v->token->len);
	return v->renew_ms;
}

static vcf_err_t adopt(void *arg, const struct lockbuf *login, uint64_t until_ms)
{
	struct vault *v = arg;
	struct shared_login head;

	if (login->len <= sizeof(head))
		return -EAGAIN;
	memcpy(&head, login->data, sizeof(head));
	lockbuf_reset(v->fresh);
	lockbuf_add(v->fresh, login->data + sizeof(head), login->len - sizeof(head));
	if (v->fresh->full)
		return -EAGAIN;
	take_fresh(v);
	v->logged_in_ms = head.logged_in_ms;
	v->renew_ms = until_ms;
	v->end_ms = head.end_ms;
	return 0;
}

/* --- the token --- */

/* The old token is still good and its successor cannot be had: later, then. */
static bool bridge(struct vault *v, const struct helper_failure *f)
{
	uint64_t now = clock_now_ms();

	if (f->kind != KEY_UNAVAILABLE || !v->token->len || now >= v->end_ms)
		return false;
	v->renew_ms = now + RETRY_MS;
	return true;
}

vcf_err_t vault_login_token(struct vault *v, struct helper_failure *f)
{
	static const struct login login = {log_in, adopt, publish};
	uint64_t now = clock_now_ms();
	vcf_err_t err;

	if (v->token->len && now < v->renew_ms)
		return 0;
	if (now >= v->end_ms)
		lockbuf_reset(v->token);
	err = loginshare_renew(v->share, &login, v, f);
	return err && bridge(v, f) ? 0 : err;
}

bool vault_login_refused(struct vault *v)
{
	if (clock_now_ms() - v->logged_in_ms < RELOGIN_MS)
		return false;
	lockbuf_reset(v->token);
	loginshare_refused(v->share);
	return true;
}
