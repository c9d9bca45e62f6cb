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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/keys/kmip_client.h"
#include "util/clock.h"
#include "util/parse.h"
#include "util/text.h"

enum {
	VERB_MS = 18000, /* the server gives a helper 20 s for a request */
	PAGE = 100,	 /* ids in one reply: the longest ones still fit */
	LIST_MAX = 1000000,
};

struct keys {
	struct kmip_client client;
	char prefix[KMIP_PREFIX_MAX + 1];
	bool activate;
};

/* --- options --- */

static vcf_err_t set_prefix(struct keys *k, const char *value)
{
	size_t len = strlen(value);

	/* Labels are of the same letters, and none of them is the '#' of a second name. */
	if (len > KMIP_PREFIX_MAX || (len && !keyproto_label_valid(value))) {
		helper_log(
			"name-prefix: up to %d of A-Z a-z 0-9 . _ : + = @ - are wanted",
			KMIP_PREFIX_MAX);
		return -EINVAL;
	}
	TEXT_CUT(k->prefix, value);
	return 0;
}

static vcf_err_t set_protocol(struct keys *k, const char *value)
{
	static const struct {
		const char *text;
		struct kmip_version v;
	} known[] = {{"auto", {0, 0}},
		     {"1.2", {1, 2}},
		     {"1.3", {1, 3}},
		     {"1.4", {1, 4}},
		     {"2.0", {2, 0}}};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strcmp(known[i].text, value) != 0)
			continue;
		k->client.fixed = known[i].v;
		return 0;
	}
	helper_log("protocol: auto, 1.2, 1.3, 1.4 or 2.0 is wanted");
	return -EINVAL;
}

static vcf_err_t set_ciphers(struct keys *k, const char *value)
{
	if (!*value || strlen(value) >= sizeof(k->client.tls.ciphers)) {
		helper_log("ciphers: 1 to %zu characters are wanted",
			   sizeof(k->client.tls.ciphers) - 1);
		return -EINVAL;
	}
	TEXT_CUT(k->client.tls.ciphers, value);
	return 0;
}

static vcf_err_t set_server(struct keys *k, const char *value)
{
	const char *fault = kmip_client_servers(&k->client, value);

	if (!fault)
		return 0;
	helper_log("server: %s", fault);
	return -EINVAL;
}

static vcf_err_t kmip_option(void *ctx, const char *name, const char *value)
{
	struct keys *k = ctx;
	vcf_err_t err;

	if (strcmp(name, "server") == 0)
		return set_server(k, value);
	if (strcmp(name, "name-prefix") == 0)
		return set_prefix(k, value);
	if (strcmp(name, "protocol") == 0)
		return set_protocol(k, value);
	if (strcmp(name, "ciphers") == 0)
		return set_ciphers(k, value);
	if (strcmp(name, "activate") == 0) {
		err = parse_bool(value, &k->activate);
		if (err)
			helper_log("activate: yes or no is wanted");
		return err;
	}
	err = -ENOENT;
	if (strcmp(name, "insecure-loopback") != 0) /* there is no KMIP without TLS */
		err = http_option(&k->client.tls.o, name, value);
	if (err == -ENOENT)
		helper_log("unknown option %s", name);
	return err ? -EINVAL : 0;
}

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

static void begin_verb(struct keys *k)
{
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

static vcf_err_t fail_reply(const struct keys *k, const char *what,
			    struct helper_failure *f)
{
	return helper_fail(f, KEY_UNAVAILABLE, "KMIP at %s: %s",
			   kmip_client_endpoint(&k->client), what);
}

static vcf_err_t attributes(struct keys *k, const char *id, struct kmip_attributes *out,
			    struct helper_failure *f)
{
	struct kmip_call call = {.op = KMIP_GET_ATTRIBUTES, .id = id};
	struct kmip_reply r;
	vcf_err_t err = kmip_client_do(&k->client, &call, &r, f);

	if (err)
		return err;
	if (kmip_read_attributes(&r, k->client.version, k->prefix, out))
		return fail_reply(k, "GetAttributes has a reply without attributes", f);
	return 0;
}

static bool is_destroyed(const struct kmip_attributes *a)
{
	return a->state == KMIP_DESTROYED || a->state == KMIP_DESTROYED_COMPROMISED;
}

/* --- lists of ids --- */

struct ids {
	char **id;
	size_t cnt, room;
};

static void free_ids(struct ids *l)
{
	for (size_t i = 0; i < l->cnt; i++)
		free(l->id[i]);
	free(l->id);
}
#define auto_ids __attribute__((cleanup(free_ids)))

static vcf_err_t add_id(struct ids *l, const char *id)
{
	if (l->cnt == l->room) {
		size_t room = l->room ? 2 * l->room : 64;
		char **more =
			l->cnt < LIST_MAX ? realloc(l->id, room * sizeof(*more)) : NULL;

		if (!more)
			return -ENOMEM;
		l->id = more;
		l->room = room;
	}
	l->id[l->cnt] = strdup(id);
	return l->id[l->cnt] ? (l->cnt++, 0) : -ENOMEM;
}

static int compare_ids(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What is made while pages are read moves others to the next page: they come twice. */
static void sort_ids(struct ids *l)
{
	size_t kept = 0;

	if (l->cnt)
		qsort(l->id, l->cnt, sizeof(*l->id), compare_ids);
	for (size_t i = 0; i < l->cnt; i++) {
		if (kept && strcmp(l->id[kept - 1], l->id[i]) == 0)
			free(l->id[i]);
		else
			l->id[kept++] = l->id[i];
	}
	l->cnt = kept;
}

static vcf_err_t take_ids(struct keys *k, struct kmip_reply *r, struct ids *l,
			  struct helper_failure *f)
{
	char id[TOKEN_KEY_ID_MAX + 1];
	vcf_err_t err;

	while ((err = kmip_next_id(r, id)) == 0) {
		if (add_id(l, id))
			return helper_fail(f, KEY_UNAVAILABLE, "no memory for all ids");
	}
	return err == -ENODATA ? 0 : fail_reply(k, "Locate has a malformed reply", f);
}

/* One Locate; there are servers for which nothing found is an error. */
static vcf_err_t locate(struct keys *k, const struct kmip_call *call, struct ids *l,
			struct helper_failure *f)
{
	struct kmip_reply r;
	vcf_err_t err = kmip_client_do(&k->client, call, &r, f);

	if (err && r.reason == KMIP_ITEM_NOT_FOUND)
		return 0;
	return err ? err : take_ids(k, &r, l, f);
}

static vcf_err_t locate_name(struct keys *k, const char *label, int n, struct ids *l,
			     struct helper_failure *f)
{
	char name[KMIP_NAME_MAX + 1];
	struct kmip_call call = {.op = KMIP_LOCATE, .name = name, .max = PAGE};

	kmip_name(name, k->prefix, label, n);
	return locate(k, &call, l, f);
}

/* Whole: the server has no offset (before 1.3), or pays no heed to it. */
static bool unpaged(const struct keys *k, const struct ids *l, size_t last, size_t before)
{
	if (k->client.version.major == 1 && k->client.version.minor < 3)
		return true;
	return before && before < l->cnt && strcmp(l->id[last], l->id[before]) == 0;
}

static vcf_err_t locate_all(struct keys *k, struct ids *l, struct helper_failure *f)
{
	struct kmip_call call = {.op = KMIP_LOCATE, .max = PAGE};
	size_t last = 0, before = 0;
	vcf_err_t err;

	while ((err = locate(k, &call, l, f)) == 0 && l->cnt > before) {
		if (!call.max)
			break;
		if (unpaged(k, l, last, before)) {
			call.max = call.offset = 0;
			continue;
		}
		last = before;
		before = l->cnt;
		call.offset = (int32_t)l->cnt;
	}
	return err;
}

/* --- new --- */

/* A server that wants names to be unique: is that why it refused? */
static bool name_taken(struct keys *k, const char *label, int n)
{
	struct helper_failure ignored;
	auto_ids struct ids l = {.cnt = 0};

	return locate_name(k, label, n, &l, &ignored) == 0 && l.cnt > 0;
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
	return err ? fail_reply(k, "Register has a reply without an identifier", f) : 0;
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

	begin_verb(k);
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
		return fail_reply(k, "Get has a malformed reply", f);
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

	if (attributes(k, id, &a, &second)) {
		if (second.kind == KEY_NOTFOUND)
			*f = second;
		return keyproto_errno(f->kind);
	}
	if (is_destroyed(&a))
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

	begin_verb(k);
	err = get_once(k, id, out, &reason, f);
	if (err && reason && (f->kind == KEY_DENIED || f->kind == KEY_INVALID))
		err = get_again(k, id, out, f);
	kmip_client_forget(&k->client);
	return err;
}

/* --- find and list --- */

/* whole: the label must be `want`, else begin so. What has gone meanwhile is passed over. */
static vcf_err_t send_item(struct keys *k, const char *id, const char *want, bool whole,
			   struct helper *h, struct helper_failure *f)
{
	struct kmip_attributes a;
	char created[32] = "-";
	vcf_err_t err = attributes(k, id, &a, f);

	if (err)
		return f->kind == KEY_NOTFOUND ? 0 : err;
	if (!*a.label || is_destroyed(&a) || strncmp(a.label, want, strlen(want)) != 0 ||
	    (whole && strcmp(a.label, want) != 0))
		return 0;
	if (a.initial_date >= 0)
		helper_format_time(created, (time_t)a.initial_date);
	if (!keyproto_created_valid(created))
		snprintf(created, sizeof(created), "-");
	helper_item(h, id, a.label, created);
	return 0;
}

static vcf_err_t send_items(struct keys *k, struct ids *l, const char *want, bool whole,
			    struct helper *h, struct helper_failure *f)
{
	vcf_err_t err = 0;

	sort_ids(l);
	for (size_t i = 0; !err && i < l->cnt; i++)
		err = send_item(k, l->id[i], want, whole, h, f);
	return err;
}

static vcf_err_t kmip_find(void *ctx, const char *label, struct helper *h,
			   struct helper_failure *f)
{
	struct keys *k = ctx;
	auto_ids struct ids l = {.cnt = 0};
	vcf_err_t err = 0;

	begin_verb(k);
	for (int n = 1; !err && n <= KMIP_NAMES; n++)
		err = locate_name(k, label, n, &l, f);
	return err ? err : send_items(k, &l, label, true, h, f);
}

/* The whole of it may take longer than any one request. */
static vcf_err_t kmip_list(void *ctx, const char *prefix, struct helper *h,
			   struct helper_failure *f)
{
	struct keys *k = ctx;
	auto_ids struct ids l = {.cnt = 0};
	vcf_err_t err;

	k->client.deadline_ms = UINT64_MAX;
	err = locate_all(k, &l, f);
	return err ? err : send_items(k, &l, prefix, false, h, f);
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
	vcf_err_t err = attributes(k, id, &a, f);

	if (err)
		return err;
	*gone = is_destroyed(&a);
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

	begin_verb(k);
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
	auto_ids struct ids l = {.cnt = 0};
	vcf_err_t err;

	begin_verb(k);
	err = check_operations(k, f);
	return err ? err : locate_name(k, "ping", 1, &l, f);
}

int main(void)
{
	static const struct helper_ops ops = {
		.name = "kmip",
		.option = kmip_option,
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
