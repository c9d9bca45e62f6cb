/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keys in a KMIP server: one Symmetric Key object (AES, 256 bits) a secret; the key id is the
 * server's own unique identifier, the label is in the object's Name.
 *
 * With `activate` (the default) a new object is activated at once: an object's state then says
 * what is true of it, and there are servers that hand out active keys only. An active object
 * cannot be destroyed: it is revoked before (cessation of operation). What is done in two
 * steps may stop after the first, so `get` activates what is still waiting for it, and
 * `destroy` goes on from any state.
 *
 * Options: server, name-prefix, activate, protocol, ciphers, and those of http_option() but
 * insecure-loopback. contrib/doc/key-services.md explains them.
 */
#include <errno.h>
#include <string.h>

#include "crypto/keys/kmip_parts.h"
#include "util/clock.h"

enum { VERB_MS = 18000 }; /* where nobody says how long a request may take */

/* --- start and stop --- */

static vcf_err_t kmip_start(void *ctx)
{
	struct keys *k = ctx;
	struct helper_failure f;

	if (k->client.server_cnt == 0) {
		helper_log("the option server is missing");
		return -EINVAL;
	}
	if (kmip_client_start(&k->client, &f)) {
		helper_log("%s", f.text);
		return -EINVAL;
	}
	return 0;
}

static void kmip_stop(void *ctx)
{
	struct keys *k = ctx;

	kmip_client_stop(&k->client);
}

/* --- single steps --- */

void kmip_begin_verb(struct keys *k)
{
	k->client.deadline_ms = helper_deadline_ms();
	if (k->client.deadline_ms == UINT64_MAX)
		k->client.deadline_ms = clock_now_ms() + VERB_MS;
}

/* An operation on one object whose answer says no more. *reason: 0 if it is not a refusal. */
static vcf_err_t simple(struct keys *k, enum kmip_op op, const char *id, uint32_t *reason,
			struct helper_failure *f)
{
	struct kmip_call call = {.op = op, .id = id};
	struct kmip_reply r;
	vcf_err_t err = kmip_client_do(&k->client, &call, &r, f);

	*reason = err ? r.reason : 0;
	return err;
}

vcf_err_t kmip_fail_reply(const struct keys *k, const char *what,
			  struct helper_failure *f)
{
	return helper_fail(f, KEY_UNAVAILABLE, "KMIP at %s: %s",
			   kmip_client_endpoint(&k->client), what);
}

vcf_err_t kmip_attributes_of(struct keys *k, const char *id, struct kmip_attributes *out,
			     struct helper_failure *f)
{
	struct kmip_call call = {.op = KMIP_GET_ATTRIBUTES, .id = id};
	struct kmip_reply r;
	vcf_err_t err = kmip_client_do(&k->client, &call, &r, f);

	if (err)
		return err;
	if (kmip_read_attributes(&r, k->client.version, k->prefix, out))
		return kmip_fail_reply(k, "GetAttributes has a reply without attributes",
				       f);
	return 0;
}

bool kmip_is_destroyed(const struct kmip_attributes *a)
{
	return a->state == KMIP_DESTROYED || a->state == KMIP_DESTROYED_COMPROMISED;
}

/* --- new --- */

/* A server that wants names to be unique: is that why it refused? */
static bool name_taken(struct keys *k, const char *label, int n)
{
	struct helper_failure ignored;
	bool exists;

	return kmip_name_exists(k, label, n, &exists, &ignored) == 0 && exists;
}

static vcf_err_t read_new_id(struct keys *k, const struct kmip_reply *r, const char *name,
			     char id[TOKEN_KEY_ID_MAX + 1], struct helper_failure *f)
{
	vcf_err_t err = kmip_read_id(r, id);

	if (err == -EINVAL)
		return helper_fail(
			f, KEY_INVALID,
			"KMIP at %s gives identifiers that a container's header "
			"cannot hold; it has kept an unused key %s",
			kmip_client_endpoint(&k->client), name);
	return err ? kmip_fail_reply(k, "Register has a reply without an identifier", f)
		   : 0;
}

static vcf_err_t register_key(struct keys *k, const char *label,
			      const struct secret *secret, char id[TOKEN_KEY_ID_MAX + 1],
			      struct helper_failure *f)
{
	char name[KMIP_NAME_MAX + 1];
	struct kmip_call call = {
		.op = KMIP_REGISTER, .name = name, .key = secret_bytes(secret)};
	vcf_err_t err = -EINVAL;

	for (int n = 1; n <= KMIP_NAMES; n++) {
		struct kmip_reply r;
		struct helper_failure why;

		kmip_name(name, k->prefix, label, n);
		err = kmip_client_do(&k->client, &call, &r, f);
		if (!err)
			return read_new_id(k, &r, name, id, f);
		why = *f;
		if (!r.reason || f->kind != KEY_INVALID || !name_taken(k, label, n))
			return err;
		*f = why;
	}
	return err;
}

/* Where that is not allowed, nothing is left behind either. */
static vcf_err_t activate_new(struct keys *k, const char *id, struct helper_failure *f)
{
	struct helper_failure ignored;
	uint32_t reason;
	vcf_err_t err = simple(k, KMIP_ACTIVATE, id, &reason, f);

	if (err && reason && simple(k, KMIP_DESTROY, id, &reason, &ignored))
		helper_log(
			"%s; the key %s, just made and not used, could not be destroyed",
			ignored.text, id);
	return err;
}

static vcf_err_t kmip_new(void *ctx, const char *label, const struct secret *secret,
			  char id[TOKEN_KEY_ID_MAX + 1], struct helper_failure *f)
{
	struct keys *k = ctx;
	vcf_err_t err;

	kmip_begin_verb(k);
	err = register_key(k, label, secret, id, f);
	kmip_client_forget(&k->client);
	if (!err && k->activate)
		err = activate_new(k, id, f);
	return err;
}

/* --- get --- */

static vcf_err_t fail_key(const struct keys *k, const char *id, vcf_err_t err,
			  struct helper_failure *f)
{
	const char *what = "its reply is for another key";

	if (err == -EBADMSG)
		return kmip_fail_reply(k, "Get has a malformed reply", f);
	if (err == -EMSGSIZE)
		what = "it is not 256 bits long";
	else if (err == -EPROTOTYPE)
		what = "it is not a raw AES key";
	return helper_fail(f, KEY_DENIED,
			   "KMIP at %s: key %.200s is no secret of ours: %s",
			   kmip_client_endpoint(&k->client), id, what);
}

static vcf_err_t get_once(struct keys *k, const char *id, struct secret **out,
			  uint32_t *reason, struct helper_failure *f)
{
	struct kmip_call call = {.op = KMIP_GET, .id = id};
	auto_secret struct secret *s = NULL;
	const unsigned char *key;
	struct kmip_reply r;
	vcf_err_t err = kmip_client_do(&k->client, &call, &r, f);

	*reason = err ? r.reason : 0;
	if (err)
		return err;
	err = kmip_read_key(&r, id, &key);
	if (err)
		return fail_key(k, id, err, f);
	if (secret_new(&s))
		return helper_fail(f, KEY_UNAVAILABLE, "no memory for a secret");
	memcpy(secret_bytes(s), key, SECRET_LEN);
	*out = STEAL_PTR(&s);
	return 0;
}

/* A refused key may be one that nobody has activated yet, or that has been destroyed. */
static vcf_err_t get_again(struct keys *k, const char *id, struct secret **out,
			   struct helper_failure *f)
{
	struct helper_failure second;
	struct kmip_attributes a;
	uint32_t reason;

	if (kmip_attributes_of(k, id, &a, &second)) {
		if (second.kind == KEY_NOTFOUND)
			*f = second;
		return keyproto_errno(f->kind);
	}
	if (kmip_is_destroyed(&a))
		return helper_fail(f, KEY_NOTFOUND,
				   "KMIP at %s: key %.200s has been destroyed",
				   kmip_client_endpoint(&k->client), id);
	if (a.state != KMIP_PRE_ACTIVE || !k->activate ||
	    simple(k, KMIP_ACTIVATE, id, &reason, &second))
		return keyproto_errno(f->kind);
	return get_once(k, id, out, &reason, f);
}

static vcf_err_t kmip_get(void *ctx, const char *id, struct secret **out,
			  struct helper_failure *f)
{
	struct keys *k = ctx;
	uint32_t reason;
	vcf_err_t err;

	kmip_begin_verb(k);
	err = get_once(k, id, out, &reason, f);
	if (err && reason && (f->kind == KEY_DENIED || f->kind == KEY_INVALID))
		err = get_again(k, id, out, f);
	kmip_client_forget(&k->client);
	return err;
}

/* --- destroy --- */

static vcf_err_t revoke_key(struct keys *k, const char *id, enum kmip_state state,
			    struct helper_failure *f)
{
	uint32_t reason;
	vcf_err_t err;

	if (state != KMIP_ACTIVE && state != KMIP_STATE_UNKNOWN)
		return 0;
	err = simple(k, KMIP_REVOKE, id, &reason, f);
	return err && reason && state == KMIP_STATE_UNKNOWN ? 0 : err;
}

static vcf_err_t destroy_steps(struct keys *k, const char *id, const char *label,
			       bool *gone, struct helper_failure *f)
{
	struct kmip_attributes a;
	uint32_t reason;
	vcf_err_t err = kmip_attributes_of(k, id, &a, f);

	if (err)
		return err;
	*gone = kmip_is_destroyed(&a);
	if (*gone)
		return 0;
	if (strcmp(a.label, label) != 0)
		return helper_fail(f, KEY_INVALID, "the record's label is another");
	err = revoke_key(k, id, a.state, f);
	return err ? err : simple(k, KMIP_DESTROY, id, &reason, f);
}

static vcf_err_t kmip_destroy(void *ctx, const char *id, const char *label, bool *gone,
			      struct helper_failure *f)
{
	struct keys *k = ctx;
	vcf_err_t err;

	kmip_begin_verb(k);
	err = destroy_steps(k, id, label, gone, f);
	if (!err || f->kind != KEY_NOTFOUND)
		return err;
	*gone = true;
	return 0;
}

/* --- ping --- */

/* A server need not answer Query; one that does must offer what is needed. */
static vcf_err_t check_operations(struct keys *k, struct helper_failure *f)
{
	static const enum kmip_op needed[] = {
		KMIP_REGISTER, KMIP_GET,      KMIP_GET_ATTRIBUTES, KMIP_LOCATE,
		KMIP_DESTROY,  KMIP_ACTIVATE, KMIP_REVOKE};
	static const struct kmip_call call = {.op = KMIP_QUERY};
	size_t cnt = sizeof(needed) / sizeof(needed[0]) - (k->activate ? 0 : 2);
	char vendor[KMIP_TEXT_MAX + 1];
	struct kmip_reply r;
	vcf_err_t err = kmip_client_do(&k->client, &call, &r, f);

	if (err)
		return r.reason == KMIP_OPERATION_NOT_SUPPORTED ? 0 : err;
	kmip_query_vendor(&r, vendor);
	for (size_t i = 0; i < cnt; i++)
		if (!kmip_query_has(&r, needed[i]))
			return helper_fail(
				f, KEY_INVALID, "KMIP at %s (%s) does not offer %s%s",
				kmip_client_endpoint(&k->client), vendor,
				kmip_op_name(needed[i]),
				needed[i] == KMIP_ACTIVATE || needed[i] == KMIP_REVOKE
					? ": set activate = no"
					: "");
	return 0;
}

static vcf_err_t kmip_ping(void *ctx, struct helper_failure *f)
{
	struct keys *k = ctx;
	bool exists;
	vcf_err_t err;

	kmip_begin_verb(k);
	err = check_operations(k, f);
	return err ? err : kmip_name_exists(k, "ping", 1, &exists, f);
}

static void kmip_paths(void *ctx, struct fence *fence)
{
	const struct keys *k = ctx;

	http_options_paths(&k->client.tls.o, fence);
}

int main(void)
{
	static const struct helper_ops ops = {
		.name = "kmip",
		.caps = KEY_CAP_DEADLINE,
		.network = true,
		.option = kmip_option,
		.paths = kmip_paths,
		.start = kmip_start,
		.new_secret = kmip_new,
		.get = kmip_get,
		.find = kmip_find,
		.list = kmip_list,
		.destroy = kmip_destroy,
		.ping = kmip_ping,
		.stop = kmip_stop,
	};
	static struct keys keys = {
		.client = {.tls = {.service = "KMIP"}},
		.prefix = "vmcryptfs-",
		.activate = true,
	};

	return helper_main(&ops, &keys);
}
