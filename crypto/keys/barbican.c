/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * OpenStack Barbican: one symmetric secret of 256 bits for each image, named by its label.
 * The key id is the secret's UUID. Options and what an operator has to prepare:
 * contrib/doc/key-services.md.
 *
 * new      POST /v1/secrets with the payload, one request; then, if asked for, an ACL and
 *          a consumer, which tells people and newer Barbicans that it is in use
 * get      GET /v1/secrets/ID/payload: 32 raw bytes, not more, not fewer
 * find     GET /v1/secrets?name=LABEL
 * list     GET /v1/secrets, page by page
 * destroy  GET /v1/secrets/ID (is it the one that is meant?), from 1.2 on DELETE of our own
 *          consumer, DELETE /v1/secrets/ID; never by force
 *
 * Every request carries a token of Keystone's; a 401 gets one new log-in and one repeat.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "crypto/jsonget.h"
#include "crypto/keys/barbican_call.h"
#include "crypto/keys/barbican_list.h"
#include "crypto/keys/barbican_parts.h"
#include "crypto/keys/credential.h"
#include "crypto/keys/helper.h"
#include "crypto/keys/http.h"
#include "crypto/keys/keystone.h"
#include "util/parse.h"

enum { BODY_MAX = 8 * 1024 };

/* --- options --- */

static vcf_err_t set_text(char *dst, size_t room, const char *name, const char *value)
{
	if (!*value || strlen(value) >= room) {
		helper_log("%s: 1 to %zu characters are wanted", name, room - 1);
		return -EINVAL;
	}
	snprintf(dst, room, "%s", value);
	return 0;
}

static vcf_err_t set_acl(struct barbican *b, const char *value)
{
	b->private = strcmp(value, "private") == 0;
	if (b->private || strcmp(value, "project") == 0)
		return 0;
	helper_log("acl: project or private is wanted");
	return -EINVAL;
}

static vcf_err_t set_consumers(struct barbican *b, const char *value)
{
	bool yes;

	if (parse_bool(value, &yes)) {
		helper_log("consumers: yes or no is wanted");
		return -EINVAL;
	}
	b->no_consumers = !yes;
	return 0;
}

static vcf_err_t barbican_option(void *ctx, const char *name, const char *value)
{
	struct barbican *b = ctx;
	vcf_err_t err;

	if (strcmp(name, "endpoint") == 0)
		return set_text(b->endpoint, sizeof(b->endpoint), name, value);
	if (strcmp(name, "acl") == 0)
		return set_acl(b, value);
	if (strcmp(name, "acl-users") == 0)
		return set_text(b->acl_users, sizeof(b->acl_users), name, value);
	if (strcmp(name, "consumers") == 0)
		return set_consumers(b, value);
	err = keystone_option(&b->auth, name, value);
	if (err == -ENOENT)
		err = http_option(&b->transport, name, value);
	if (err == -ENOENT) {
		helper_log("unknown option %s", name);
		err = -EINVAL;
	}
	return err;
}

static vcf_err_t start_parts(struct barbican *b, struct helper_failure *f)
{
	const char *type = *b->endpoint ? NULL : "key-manager";
	vcf_err_t err;

	if (*b->acl_users && !b->private)
		return helper_fail(f, KEY_INVALID, "acl-users is for acl = private only");
	err = keystone_new(&b->keystone, &b->auth, &b->transport, type, f);
	if (!err && *b->endpoint)
		err = barbican_set_endpoint(b, "endpoint", b->endpoint, f);
	if (!err && lockbuf_new(&b->body, BODY_MAX))
		err = helper_fail(
			f, KEY_UNAVAILABLE,
			"cannot lock memory for requests: raise RLIMIT_MEMLOCK");
	return err;
}

static vcf_err_t barbican_start(void *ctx)
{
	struct helper_failure f = {0};
	vcf_err_t err = start_parts(ctx, &f);

	if (err)
		helper_log("%s", f.text);
	return err;
}

/* --- new --- */

/* It exists and its id is known; whatever fails now must not make the server make another. */
static void add_consumer(struct barbican *b, const char *id, const char *label)
{
	char path[BARBICAN_PATH_MAX];
	struct barbican_call c = {.method = "POST", .path = path, .body = true};
	struct helper_failure f = {0};
	struct http_reply r;
	vcf_err_t err = barbican_learn_minor(b, &f);

	if (!err && b->minor == 0)
		return;
	c.minor = b->minor;
	barbican_secret_path(path, id, "/consumers");
	lockbuf_reset(b->body);
	barbican_consumer_body(b->body, label);
	if (!err)
		err = barbican_call(b, &c, &r, &f);
	if (!err && r.status != 200 && r.status != 201)
		err = barbican_fail(
			b, &r, "POST of a consumer",
			"it needs the same roles as reading; or set consumers = no", &f);
	if (err && !b->consumers_failed)
		helper_log("secret %s has no consumer: %s", id, f.text);
	b->consumers_failed = err;
}

/* A secret that was to be private and is not is none: it is taken back. */
static void take_back(struct barbican *b, const char *id)
{
	char path[BARBICAN_PATH_MAX];
	struct barbican_call c = {.method = "DELETE", .path = path};
	struct helper_failure f = {0};
	struct http_reply r;

	barbican_secret_path(path, id, "");
	if (barbican_call(b, &c, &r, &f) || r.status != 204)
		helper_log("secret %s could not be taken back: delete it by hand", id);
}

static vcf_err_t set_private(struct barbican *b, const char *id, struct helper_failure *f)
{
	char path[BARBICAN_PATH_MAX];
	struct barbican_call c = {
		.method = "PUT", .path = path, .body = true, .repeatable = true};
	struct http_reply r;
	vcf_err_t err;

	barbican_secret_path(path, id, "/acl");
	lockbuf_reset(b->body);
	barbican_acl_body(b->body, b->acl_users);
	err = barbican_call(b, &c, &r, f);
	if (!err && r.status != 200)
		err = barbican_fail(b, &r, "PUT of an ACL",
				    "acl = private needs the secret's creator "
				    "or an admin",
				    f);
	return err;
}

static vcf_err_t create(struct barbican *b, const char *label,
			const struct secret *secret, char id[BARBICAN_ID_LEN + 1],
			struct helper_failure *f)
{
	const struct barbican_call c = {
		.method = "POST", .path = "/v1/secrets", .body = true};
	auto_json struct json_object *reply = NULL;
	struct http_reply r;
	vcf_err_t err;

	lockbuf_reset(b->body);
	barbican_create_body(b->body, label, secret_bytes(secret), SECRET_LEN);
	err = barbican_call(b, &c, &r, f);
	lockbuf_reset(b->body);
	if (err)
		return err;
	if (r.status == 413)
		return http_fail_advice(b->http, &r, "POST of a secret", KEY_QUOTA,
					"max_allowed_secret_in_bytes is too small", f);
	if (r.status != 201)
		return barbican_fail(
			b, &r, "POST of a secret",
			"creating needs the role creator (member with the newer policies) "
			"in the project",
			f);
	reply = http_json(&r);
	if (barbican_ref_id(jsonget_string(reply, "secret_ref"), id))
		return barbican_fail_nonsense(b, "POST of a secret", f);
	return 0;
}

static vcf_err_t barbican_new(void *ctx, const char *label, const struct secret *secret,
			      char id[TOKEN_KEY_ID_MAX + 1], struct helper_failure *f)
{
	struct barbican *b = ctx;
	vcf_err_t err = create(b, label, secret, id, f);

	if (!err && b->private) {
		err = set_private(b, id, f);
		if (err)
			take_back(b, id);
	}
	if (!err && !b->no_consumers)
		add_consumer(b, id, label);
	return err;
}

/* --- get --- */

static vcf_err_t take_payload(struct barbican *b, const struct http_reply *r,
			      struct secret **out, struct helper_failure *f)
{
	if (*r->content_type && strcmp(r->content_type, "application/octet-stream") != 0)
		return helper_fail(f, KEY_INVALID,
				   "the payload is %.60s: no secret of vmcryptfs",
				   r->content_type);
	if (r->len < SECRET_LEN) /* without Content-Length a cut-off reply looks so */
		return helper_fail(f, KEY_UNAVAILABLE,
				   "%.200s sent %zu bytes of payload in place of %d",
				   http_endpoint(b->http), r->len, SECRET_LEN);
	if (r->len > SECRET_LEN)
		return helper_fail(
			f, KEY_INVALID,
			"the payload has more than %d bytes: no secret of vmcryptfs",
			SECRET_LEN);
	if (secret_new(out))
		return helper_fail(f, KEY_UNAVAILABLE, "no memory for a secret");
	memcpy(secret_bytes(*out), r->body, SECRET_LEN);
	return 0;
}

static vcf_err_t barbican_get(void *ctx, const char *id, struct secret **out,
			      struct helper_failure *f)
{
	struct barbican *b = ctx;
	char path[BARBICAN_PATH_MAX];
	const struct barbican_call c = {
		.method = "GET", .path = path, .accept = "application/octet-stream"};
	struct http_reply r;
	vcf_err_t err = barbican_key_path(path, id, "/payload", f);

	if (!err)
		err = barbican_call(b, &c, &r, f);
	if (err)
		return err;
	if (r.status == 200)
		err = take_payload(b, &r, out, f);
	else
		err = barbican_fail(
			b, &r, "GET of a payload",
			"reading needs the role creator or observer (member with the newer "
			"policies) in the project, and the secret's ACL must admit this user",
			f);
	http_forget(b->http);
	return err;
}

/* --- destroy --- */

static const char delete_right[] =
	"deleting needs the role creator and the same project (member with the newer policies), "
	"an ACL that is not private to somebody else, and access rules that allow DELETE";

/* Is it what is meant? */
static vcf_err_t check_label(struct barbican *b, const char *id, const char *label,
			     bool *gone, struct helper_failure *f)
{
	char path[BARBICAN_PATH_MAX];
	const struct barbican_call c = {.method = "GET", .path = path};
	auto_json struct json_object *reply = NULL;
	struct barbican_record record;
	struct http_reply r;
	vcf_err_t err;

	err = barbican_key_path(path, id, "", f);
	if (!err)
		err = barbican_call(b, &c, &r, f);
	if (err)
		return err;
	if (r.status == 404) {
		*gone = true;
		return 0;
	}
	if (r.status != 200)
		return barbican_fail(b, &r, "GET of a secret's name", delete_right, f);
	reply = http_json(&r);
	err = barbican_record_parse(reply, &record);
	if (err == -EBADMSG)
		return barbican_fail_nonsense(b, "GET of a secret's name", f);
	if (err || strcmp(record.label, label) != 0)
		return helper_fail(f, KEY_INVALID, "secret %s has another name", id);
	return 0;
}

/* From 1.2 on a secret with consumers is not deleted. Ours goes; those of others are heeded. */
static vcf_err_t remove_consumer(struct barbican *b, const char *id, const char *label,
				 struct helper_failure *f)
{
	char path[BARBICAN_PATH_MAX];
	struct barbican_call c = {
		.method = "DELETE", .path = path, .body = true, .repeatable = true};
	struct http_reply r;
	vcf_err_t err = barbican_learn_minor(b, f);

	if (err || b->minor < 2)
		return err;
	c.minor = b->minor;
	barbican_secret_path(path, id, "/consumers");
	lockbuf_reset(b->body);
	barbican_consumer_body(b->body, label);
	err = barbican_call(b, &c, &r, f);
	if (!err && r.status != 200 && r.status != 204 && r.status != 404)
		err = barbican_fail(b, &r, "DELETE of a consumer", delete_right, f);
	return err;
}

static vcf_err_t delete_secret(struct barbican *b, const char *id, bool *gone,
			       struct helper_failure *f)
{
	char path[BARBICAN_PATH_MAX];
	const struct barbican_call c = {
		.method = "DELETE",
		.path = path,
		.repeatable = true,
		.minor = b->minor >= 2 && b->minor != BARBICAN_MINOR_UNKNOWN ? b->minor
									     : 0};
	struct http_reply r;
	vcf_err_t err;

	barbican_secret_path(path, id, "");
	err = barbican_call(b, &c, &r, f);
	if (err)
		return err;
	*gone = r.status == 404;
	if (r.status == 204 || *gone)
		return 0;
	if (r.status == 400 || r.status == 409)
		return http_fail_advice(
			b->http, &r, "DELETE of a secret", KEY_DENIED,
			"somebody else is its consumer: see `openstack secret "
			"consumer list`",
			f);
	return barbican_fail(b, &r, "DELETE of a secret", delete_right, f);
}

static vcf_err_t barbican_destroy(void *ctx, const char *id, const char *label,
				  bool *gone, struct helper_failure *f)
{
	struct barbican *b = ctx;
	vcf_err_t err = check_label(b, id, label, gone, f);

	if (err || *gone)
		return err;
	if (!b->no_consumers)
		err = remove_consumer(b, id, label, f);
	return err ? err : delete_secret(b, id, gone, f);
}

/* --- the rest --- */

static vcf_err_t barbican_ping(void *ctx, struct helper_failure *f)
{
	struct barbican *b = ctx;
	const struct barbican_call c = {.method = "GET", .path = "/v1/secrets?limit=1"};
	struct http_reply r;
	vcf_err_t err = barbican_call(b, &c, &r, f);

	if (!err && r.status != 200)
		err = barbican_fail(
			b, &r, "GET of the list of secrets",
			"it needs the role creator or observer (member with the newer "
			"policies) in the project",
			f);
	return err;
}

static void barbican_stop(void *ctx)
{
	struct barbican *b = ctx;

	http_free(b->http);
	keystone_free(b->keystone);
	lockbuf_free(b->body);
}

static void barbican_paths(void *ctx, struct fence *fence)
{
	const struct barbican *b = ctx;

	http_options_paths(&b->transport, fence);
	credential_paths(fence, b->auth.ca_file);
	credential_paths(fence, b->auth.app_secret_file);
	credential_paths(fence, b->auth.password_file);
}

int main(void)
{
	static const struct helper_ops ops = {
		.name = "barbican",
		.caps = KEY_CAP_DEADLINE,
		.network = true,
		.option = barbican_option,
		.paths = barbican_paths,
		.start = barbican_start,
		.new_secret = barbican_new,
		.get = barbican_get,
		.find = barbican_find,
		.list = barbican_list,
		.destroy = barbican_destroy,
		.ping = barbican_ping,
		.stop = barbican_stop,
	};
	static struct barbican barbican = {.minor = BARBICAN_MINOR_UNKNOWN,
					   .auth.jitter_s = KEYSTONE_JITTER_S};

	return helper_main(&ops, &barbican);
}
