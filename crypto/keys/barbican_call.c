/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/keys/barbican_call.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "crypto/jsonget.h"
#include "crypto/keys/barbican_parts.h"
#include "crypto/keys/keystone_parts.h"

vcf_err_t barbican_set_endpoint(struct barbican *b, const char *option, const char *urls,
				struct helper_failure *f)
{
	char plain[sizeof(b->url)];
	struct http *h = NULL;
	vcf_err_t err;

	if (keystone_urls(plain, sizeof(plain), urls, "/v1", false))
		return helper_fail(f, KEY_INVALID, "%s is too long", option);
	if (b->http && strcmp(plain, b->url) == 0)
		return 0;
	err = http_new(&h, "Barbican", option, plain, &b->transport, f);
	if (err)
		return err;
	http_free(b->http);
	b->http = h;
	b->minor = BARBICAN_MINOR_UNKNOWN;
	snprintf(b->url, sizeof(b->url), "%s", plain);
	return 0;
}

static vcf_err_t call_once(struct barbican *b, const struct barbican_call *c,
			   struct http_reply *r, struct helper_failure *f)
{
	const char *token = NULL;
	char version[32];
	vcf_err_t err = keystone_token(b->keystone, &token, f);
	struct http_header headers[] = {
		{"X-Auth-Token", token},
		{"Accept", c->accept ? c->accept : "application/json"},
		{"Content-Type", c->body ? "application/json" : NULL},
		{"OpenStack-API-Version", c->minor ? version : NULL},
		{NULL, NULL},
	};
	struct http_request q = {.method = c->method,
				 .path = c->path,
				 .headers = headers,
				 .body = c->body ? b->body : NULL,
				 .reply_max = c->reply_max,
				 .repeatable = c->repeatable};

	if (!err && !*b->endpoint)
		err = barbican_set_endpoint(b, "the endpoint in Keystone's catalog",
					    keystone_endpoint(b->keystone), f);
	if (err)
		return err;
	snprintf(version, sizeof(version), "key-manager 1.%u", c->minor);
	return http_do(b->http, &q, r, f);
}

vcf_err_t barbican_call(struct barbican *b, const struct barbican_call *c,
			struct http_reply *r, struct helper_failure *f)
{
	vcf_err_t err = call_once(b, c, r, f);

	if (err || r->status != 401)
		return err;
	keystone_refused(b->keystone);
	sleep(1);
	err = call_once(b, c, r, f);
	if (!err && r->status == 401)
		keystone_refused(b->keystone);
	return err;
}

/* What the operator can do about a 403; `right` says which one the request needs. */
static vcf_err_t fail_forbidden(const struct barbican *b, const struct http_reply *r,
				const char *what, const char *right,
				struct helper_failure *f)
{
	auto_json struct json_object *reply = http_json(r);

	if (barbican_is_quota(reply))
		return http_fail_advice(
			b->http, r, what, KEY_QUOTA,
			"raise the project's quota of secrets or consumers "
			"(PUT /v1/project-quotas/PROJECT)",
			f);
	return http_fail_advice(b->http, r, what, KEY_DENIED, right, f);
}

vcf_err_t barbican_fail(const struct barbican *b, const struct http_reply *r,
			const char *what, const char *right, struct helper_failure *f)
{
	switch (r->status) {
	case 401:
		return http_fail_advice(
			b->http, r, what, KEY_DENIED,
			"it refuses a fresh token: does it use this Keystone? an "
			"application credential's access rules must allow "
			"key-manager paths",
			f);
	case 403:
		return fail_forbidden(b, r, what, right, f);
	case 406:
		return http_fail_advice(b->http, r, what, KEY_INVALID,
					"the secret is none of vmcryptfs", f);
	default:
		return http_fail_status(b->http, r, what, f);
	}
}

vcf_err_t barbican_fail_nonsense(const struct barbican *b, const char *what,
				 struct helper_failure *f)
{
	return helper_fail(f, KEY_UNAVAILABLE,
			   "%.200s answers %s with something that is not Barbican's",
			   http_endpoint(b->http), what);
}

void barbican_secret_path(char dst[BARBICAN_PATH_MAX], const char *id, const char *rest)
{
	snprintf(dst, BARBICAN_PATH_MAX, "/v1/secrets/%s%s", id, rest);
}

vcf_err_t barbican_key_path(char dst[BARBICAN_PATH_MAX], const char *id, const char *rest,
			    struct helper_failure *f)
{
	if (!barbican_id_valid(id))
		return helper_fail(f, KEY_INVALID, "the key id is no UUID of Barbican's");
	barbican_secret_path(dst, id, rest);
	return 0;
}

/* --- microversions --- */

static void take_version(void *arg, const char *name, const char *value)
{
	unsigned int *minor = arg;

	if (strcasecmp(name, "OpenStack-API-Version") == 0)
		*minor = barbican_minor(value);
}

vcf_err_t barbican_learn_minor(struct barbican *b, struct helper_failure *f)
{
	static const struct http_header headers[] = {
		{"Accept", "application/json"},
		{"OpenStack-API-Version", "key-manager latest"},
		{NULL, NULL}};
	unsigned int minor = 0;
	struct http_request q = {.method = "GET",
				 .path = "/",
				 .headers = headers,
				 .on_header = take_version,
				 .arg = &minor};
	struct http_reply r;
	vcf_err_t err;

	if (b->minor != BARBICAN_MINOR_UNKNOWN)
		return 0;
	err = http_do(b->http, &q, &r, f);
	if (err)
		return err;
	if (r.status >= 500 || r.status == 429)
		return http_fail_status(b->http, &r, "the question for its version", f);
	b->minor = minor;
	return 0;
}
