/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/keys/keystone.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "crypto/jsonget.h"
#include "crypto/keys/credential.h"
#include "crypto/keys/keystone_parts.h"
#include "crypto/keys/loginshare.h"
#include "util/clock.h"

enum {
	TOKEN_MAX = 8 * 1024,
	BODY_MAX = 32 * 1024,	 /* a credential escaped, and names */
	REPLY_MAX = 1024 * 1024, /* the catalog of a large site */
	SPARE_MS = 60 * 1000,	 /* a token with less left is renewed */
};

struct keystone {
	struct keystone_options o;
	const char *service_type;
	struct http *http;
	struct lockbuf *token;	  /* empty: none */
	bool logged_in;		  /* once at least */
	struct loginshare *share; /* NULL: alone */
	uint64_t renew_ms;	  /* clock_now_ms() */
	char endpoint[HTTP_URL_MAX];
};

DEFINE_AUTO(keystone, struct keystone *, keystone_free)

static vcf_err_t make_http(struct keystone *k, const struct http_options *http,
			   struct helper_failure *f)
{
	struct http_options o = *http;
	char urls[HTTP_ENDPOINTS_MAX * HTTP_URL_MAX];

	if (*k->o.ca_file) {
		snprintf(o.ca_file, sizeof(o.ca_file), "%s", k->o.ca_file);
		*o.ca_dir = '\0';
	}
	if (keystone_urls(urls, sizeof(urls), k->o.auth_url, "/v3", true))
		return helper_fail(f, KEY_INVALID, "auth-url is too long");
	return http_new(&k->http, "Keystone", "auth-url", urls, &o, f);
}

static const char *secret_option(const struct keystone *k, const char **where)
{
	bool app = keystone_by_app(&k->o);

	*where = app ? k->o.app_secret_file : k->o.password_file;
	return app ? "application-credential-secret-file" : "password-file";
}

/* Without, each helper logs in for itself. */
static void make_share(struct keystone *k, const struct http_options *http)
{
	auto_lockbuf struct lockbuf *identity = NULL;

	if (lockbuf_new(&identity, sizeof(k->o) + KEYSTONE_NAME_MAX + sizeof(*http)))
		return;
	keystone_identity(&k->o, k->service_type, identity);
	http_options_identity(http, identity);
	if (identity->full || loginshare_new(&k->share, identity->data))
		k->share = NULL;
}

vcf_err_t keystone_new(struct keystone **out, const struct keystone_options *o,
		       const struct http_options *http, const char *service_type,
		       struct helper_failure *f)
{
	struct keystone *k __attribute__((cleanup(cleanup_keystone))) =
		calloc(1, sizeof(*k));
	const char *fault = keystone_options_fault(o);
	const char *option, *where;
	vcf_err_t err;

	if (fault)
		return helper_fail(f, KEY_INVALID, "%s", fault);
	if (!k || lockbuf_new(&k->token, TOKEN_MAX))
		return helper_fail(
			f, KEY_UNAVAILABLE,
			"cannot lock memory for a token: raise RLIMIT_MEMLOCK");
	k->o = *o;
	k->service_type = service_type;
	option = secret_option(k, &where);
	err = credential_check(option, where, f); /* to say it at once */
	if (!err)
		err = make_http(k, http, f);
	if (err)
		return err;
	make_share(k, http);
	*out = STEAL_PTR(&k);
	return 0;
}

void keystone_free(struct keystone *k)
{
	if (!k)
		return;
	http_free(k->http);
	loginshare_free(k->share);
	lockbuf_free(k->token);
	free(k);
}

void keystone_refused(struct keystone *k)
{
	if (k->token->len)
		loginshare_refused(k->share);
	lockbuf_reset(k->token);
}

const char *keystone_endpoint(const struct keystone *k)
{
	return k->endpoint;
}

/* --- logging in --- */

static void take_token(void *arg, const char *name, const char *value)
{
	struct keystone *k = arg;

	if (strcasecmp(name, "X-Subject-Token") != 0)
		return;
	lockbuf_reset(k->token);
	lockbuf_add_text(k->token, value);
}

/* Keystone's 404 of an application credential that was taken back; others are no Keystone's. */
static bool is_unknown_credential(const struct http_reply *r)
{
	char text[64];

	http_error_text(r, text, sizeof(text));
	return r->status == 404 && strncmp(text, "Could not find ", 15) == 0;
}

static vcf_err_t fail_login(const struct keystone *k, const struct http_reply *r,
			    struct helper_failure *f)
{
	bool app = keystone_by_app(&k->o);

	switch (is_unknown_credential(r) ? 401 : r->status) {
	case 401:
		return http_fail_advice(
			k->http, r, "the log-in", KEY_DENIED,
			app ? "check the application credential: its id or name, "
			      "application-credential-secret-file, its expiry, and that its "
			      "user still has the role"
			    : "check username, password-file, project and domains, and that "
			      "the user has a role in the project",
			f);
	case 300:
	case 404:
		return http_fail_advice(k->http, r, "the log-in", KEY_UNAVAILABLE,
					"auth-url is not Keystone's v3", f);
	case 400:
		return http_fail_advice(
			k->http, r, "the log-in", KEY_DENIED,
			"check names and ids of user, project and domains", f);
	default:
		return http_fail_status(k->http, r, "the log-in", f);
	}
}

static vcf_err_t find_endpoint(struct keystone *k, struct json_object *reply,
			       struct helper_failure *f)
{
	const char *interface = *k->o.interface ? k->o.interface : "public";
	const char *fault;

	if (!k->service_type)
		return 0;
	fault = keystone_catalog(reply, k->service_type, interface, k->o.region,
				 k->endpoint);
	if (!fault)
		return 0;
	return helper_fail(
		f, KEY_UNAVAILABLE,
		"Keystone's catalog %s: no service of type %s, interface %s, region "
		"%s; set endpoint, interface or region",
		fault, k->service_type, interface, *k->o.region ? k->o.region : "(any)");
}

static vcf_err_t read_login(struct keystone *k, const struct http_reply *r,
			    struct helper_failure *f)
{
	auto_json struct json_object *reply = http_json(r);
	int64_t life = keystone_lifetime(reply);
	vcf_err_t err;

	if (life < 1 || k->token->len == 0 || k->token->full)
		return helper_fail(
			f, KEY_UNAVAILABLE,
			"%.200s answers the log-in with something that is no token: "
			"is auth-url right?",
			http_endpoint(k->http));
	err = find_endpoint(k, reply, f);
	if (err)
		return err;
	/* Early by a fifth of a short life, by a minute of a long one. */
	life *= 1000;
	life -= life / 5 < SPARE_MS ? life / 5 : SPARE_MS;
	k->renew_ms = clock_now_ms() + (uint64_t)life;
	return 0;
}

static vcf_err_t post_login(struct keystone *k, const struct lockbuf *body,
			    struct helper_failure *f)
{
	static const struct http_header headers[] = {{"Content-Type", "application/json"},
						     {"Accept", "application/json"},
						     {NULL, NULL}};
	struct http_request q = {
		.method = "POST",
		.path = k->service_type ? "/auth/tokens" : "/auth/tokens?nocatalog",
		.headers = headers,
		.body = body,
		.reply_max = REPLY_MAX,
		.repeatable = true, /* a token more does no harm */
		.on_header = take_token,
		.arg = k,
	};
	struct http_reply r;
	vcf_err_t err;

	lockbuf_reset(k->token);
	err = http_do(k->http, &q, &r, f);
	if (err)
		return err;
	err = r.status == 201 ? read_login(k, &r, f) : fail_login(k, &r, f);
	http_forget(k->http);
	return err;
}

static vcf_err_t log_in(struct keystone *k, struct helper_failure *f)
{
	auto_lockbuf struct lockbuf *secret = NULL;
	auto_lockbuf struct lockbuf *body = NULL;
	const char *where, *option = secret_option(k, &where);
	vcf_err_t err = credential_read(&secret, option, where, f);

	if (err)
		return err;
	if (lockbuf_new(&body, BODY_MAX))
		return helper_fail(
			f, KEY_UNAVAILABLE,
			"cannot lock memory for a log-in: raise RLIMIT_MEMLOCK");
	keystone_request(body, &k->o, secret);
	if (body->full)
		return helper_fail(f, KEY_DENIED, "the log-in's request is too long");
	err = post_login(k, body, f);
	if (err)
		lockbuf_reset(k->token);
	return err;
}

/* --- sharing: "ENDPOINT LF TOKEN" --- */

static uint64_t publish(void *arg, struct lockbuf *login)
{
	const struct keystone *k = arg;

	lockbuf_add_text(login, k->endpoint);
	lockbuf_add_text(login, "\n");
	lockbuf_add(login, k->token->data, k->token->len);
	return k->renew_ms;
}

static vcf_err_t adopt(void *arg, const struct lockbuf *login, uint64_t until_ms)
{
	struct keystone *k = arg;
	const char *lf = strchr(login->data, '\n');
	size_t len = lf ? (size_t)(lf - login->data) : HTTP_URL_MAX;

	if (len >= HTTP_URL_MAX)
		return -EAGAIN;
	memcpy(k->endpoint, login->data, len);
	k->endpoint[len] = '\0';
	lockbuf_reset(k->token);
	lockbuf_add_text(k->token, lf + 1);
	k->renew_ms = until_ms;
	return k->token->full || !k->token->len ? -EAGAIN : 0;
}

static void wait_jitter(struct keystone *k)
{
	uint32_t random;

	if (k->logged_in || !k->o.jitter_s)
		return;
	secret_random(&random, sizeof(random));
	usleep(random % (k->o.jitter_s * 1000 * 1000));
}

static vcf_err_t log_in_here(void *arg, struct helper_failure *f)
{
	struct keystone *k = arg;

	wait_jitter(k);
	k->logged_in = true;
	return log_in(k, f);
}

vcf_err_t keystone_token(struct keystone *k, const char **token, struct helper_failure *f)
{
	static const struct login login = {log_in_here, adopt, publish};
	vcf_err_t err = 0;

	if (k->token->len == 0 || clock_now_ms() >= k->renew_ms)
		err = loginshare_renew(k->share, &login, k, f);
	if (err)
		return err;
	*token = k->token->data;
	return 0;
}
