/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mode kv: one record of a KV engine of version 2 for each secret, its id is the label.
 *
 * Written with cas = 0, so that none is ever replaced; removed by DELETE of its metadata,
 * which takes all its versions (DELETE of its data would only hide the last one). A record
 * of which only metadata is left (somebody deleted or destroyed its versions) is listed
 * and can be destroyed, but not read.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "crypto/keys/vault.h"

/* A label that none of our records has, to try the right to read them. */
static const char ping_label[] = "vmcryptfs-ping";

enum { RIGHT_MAX = 320 };

/* part: "data" or "metadata"; label may be "": the folder, with a slash at its end. */
static void make_path(const struct vault *v, char dst[VAULT_URL_PATH_MAX],
		      const char *part, const char *label)
{
	snprintf(dst, VAULT_URL_PATH_MAX, "/v1/%s/%s/%s%s%s", v->mount, part, v->prefix,
		 *v->prefix ? "/" : "", label);
}

/* Fills f for a reply about a record; capability: what its request needs. */
static vcf_err_t fail(struct vault *v, const struct http_reply *r, const char *method,
		      const char *part, const char *capability, struct helper_failure *f)
{
	char what[RIGHT_MAX], right[RIGHT_MAX];

	snprintf(what, sizeof(what), "%s of %s/%s/%s", method, v->mount, part, v->prefix);
	snprintf(right, sizeof(right), "%s on %s/%s/%s%s*", capability, v->mount, part,
		 v->prefix, *v->prefix ? "/" : "");
	return vault_fail(v, r, what, right, f);
}

static vcf_err_t check_id(const char *id, struct helper_failure *f)
{
	char label[KEYPROTO_LABEL_MAX + 1];
	const char *ciphertext;

	if (vault_id_split(id, label, &ciphertext))
		return helper_fail(f, KEY_INVALID,
				   "%.100s is a key id of mode transit; mode is kv", id);
	if (!vault_label_valid(id))
		return helper_fail(f, KEY_INVALID, "not a key id of mode kv");
	return 0;
}

/* --- one record --- */

enum state { ABSENT, DELETED, ALIVE, STRANGE };

/*
 * Reads one and tells what it is. STRANGE: it is there, but no key of ours. rec is filled
 * as vault_parse_record() does; created (may be NULL) unless ABSENT. 0 or a failure.
 */
static vcf_err_t look(struct vault *v, const char *label, enum state *state,
		      struct vault_record *rec, struct helper_failure *f)
{
	char path[VAULT_URL_PATH_MAX];
	struct http_reply r;
	vcf_err_t err;

	*rec = (struct vault_record){.secret = NULL};
	make_path(v, path, "data", label);
	err = vault_call(v, "GET", path, false, &r, f);
	if (err)
		return err;
	if (r.status == 404 && vault_is_absent(r.body, r.len)) {
		*state = ABSENT;
		return 0;
	}
	err = r.status == 200 || r.status == 404 ? vault_parse_record(r.body, r.len, rec)
						 : -EREMOTEIO;
	*state = err == -ENOKEY ? DELETED : err == -EINVAL ? STRANGE : ALIVE;
	if (err == -ENOKEY || err == -EINVAL)
		err = 0;
	else if (err == -EBADMSG && r.status == 200)
		err = vault_fail_form(v, "GET of a record", f);
	else if (err)
		err = fail(v, &r, "GET", "data", "read", f);
	http_forget(v->http);
	return err;
}

static vcf_err_t fail_state(const char *id, enum state state, struct helper_failure *f)
{
	switch (state) {
	case ABSENT:
		return helper_fail(f, KEY_NOTFOUND, "%.200s: no such record", id);
	case DELETED:
		return helper_fail(f, KEY_NOTFOUND,
				   "%.200s: its record was deleted or destroyed by "
				   "somebody; perhaps it can be undeleted",
				   id);
	default:
		return helper_fail(
			f, KEY_DENIED,
			"%.200s: its record holds no symmetric key of %d bytes", id,
			SECRET_LEN);
	}
}

vcf_err_t vault_kv_get(struct vault *v, const char *id, struct secret **out,
		       struct helper_failure *f)
{
	struct vault_record rec;
	enum state state;
	vcf_err_t err = check_id(id, f);

	if (!err)
		err = look(v, id, &state, &rec, f);
	if (err)
		return err;
	if (state != ALIVE)
		return fail_state(id, state, f);
	*out = rec.secret;
	return 0;
}

/* --- new --- */

/*
 * A mount of version 1 would take the request for a write to a path of its own. Whoever
 * may use a mount may ask this; if not, the first write tells.
 */
static vcf_err_t check_mount(struct vault *v, struct helper_failure *f)
{
	char path[VAULT_URL_PATH_MAX];
	struct http_reply r;
	bool kv2 = true;
	vcf_err_t err;

	if (v->mount_checked)
		return 0;
	snprintf(path, sizeof(path), "/v1/sys/internal/ui/mounts/%s", v->mount);
	err = vault_call(v, "GET", path, false, &r, f);
	if (err)
		return err;
	if (r.status == 200 && !vault_parse_mount(r.body, r.len, &kv2) && !kv2)
		return helper_fail(f, KEY_DENIED,
				   "the mount %s is no KV engine of version 2", v->mount);
	v->mount_checked = r.status == 200 || r.status == 403 || r.status == 404;
	return 0;
}

/* A record is in the way: it is this very secret (a lost reply), or another. */
static vcf_err_t compare_old(struct vault *v, const char *label,
			     const struct secret *secret, struct helper_failure *f)
{
	struct vault_record rec;
	enum state state;
	bool same;
	vcf_err_t err = look(v, label, &state, &rec, f);

	if (err)
		return err;
	same = state == ALIVE && secret_equal(rec.secret, secret);
	secret_free(rec.secret);
	if (same)
		return 0;
	if (state == ABSENT)
		return helper_fail(f, KEY_UNAVAILABLE, "%s was in the way and is gone",
				   label);
	return helper_fail(f, KEY_INVALID, "%s exists already, %s", label,
			   state == DELETED ? "as a deleted record"
					    : "with another secret");
}

/*
 * The reply to a write. A policy that allows to create but not to update answers 403
 * where others say that the record is there.
 */
static vcf_err_t end_new(struct vault *v, const struct http_reply *r, const char *label,
			 const struct secret *secret, struct helper_failure *f)
{
	struct helper_failure other = {.kind = KEY_DENIED};
	char reasons[256];

	if (r->status == 200 && !vault_parse_written(r->body, r->len))
		return 0;
	if (r->status == 200 || r->status == 204)
		return helper_fail(f, KEY_DENIED,
				   "the mount %s is no KV engine of version 2", v->mount);
	vault_errors(r->body, r->len, reasons, sizeof(reasons));
	if (r->status == 400 && vault_is_cas_mismatch(reasons))
		return compare_old(v, label, secret, f);
	fail(v, r, "POST", "data", "create", f);
	if (r->status != 403)
		return keyproto_errno(f->kind);
	if (!compare_old(v, label, secret, &other))
		return 0;
	if (other.kind == KEY_INVALID) /* it is there: that is why */
		*f = other;
	return keyproto_errno(f->kind);
}

vcf_err_t vault_kv_new(struct vault *v, const char *label, const struct secret *secret,
		       char id[TOKEN_KEY_ID_MAX + 1], struct helper_failure *f)
{
	char path[VAULT_URL_PATH_MAX];
	struct http_reply r;
	vcf_err_t err;

	if (!vault_label_valid(label))
		return helper_fail(f, KEY_INVALID,
				   "Vault takes no path that ends in a dot");
	err = check_mount(v, f);
	if (err)
		return err;
	make_path(v, path, "data", label);
	vault_add_record(v->body, label, secret, time(NULL));
	err = vault_call(v, "POST", path, true, &r, f);
	if (!err)
		err = end_new(v, &r, label, secret, f);
	if (!err)
		snprintf(id, TOKEN_KEY_ID_MAX + 1, "%s", label);
	return err;
}

/* --- find and list --- */

/* "-" if the policy does not let us read it. *gone: it went meanwhile. */
static vcf_err_t read_created(struct vault *v, const char *label, char created[32],
			      bool *gone, struct helper_failure *f)
{
	char path[VAULT_URL_PATH_MAX];
	struct http_reply r;
	vcf_err_t err;

	*gone = false;
	snprintf(created, 32, "-");
	if (v->metadata_denied)
		return 0;
	make_path(v, path, "metadata", label);
	err = vault_call(v, "GET", path, false, &r, f);
	if (err)
		return err;
	if (r.status == 200 && vault_parse_created(r.body, r.len, created))
		snprintf(created, 32, "-");
	*gone = r.status == 404 && vault_is_absent(r.body, r.len);
	v->metadata_denied = r.status == 403;
	if (r.status == 200 || r.status == 403 || *gone)
		return 0;
	return fail(v, &r, "GET", "metadata", "read", f);
}

static vcf_err_t send_item(struct vault *v, const char *label, struct helper *h,
			   struct helper_failure *f)
{
	char created[32];
	bool gone;
	vcf_err_t err = read_created(v, label, created, &gone, f);

	if (!err && !gone)
		helper_item(h, label, label, created);
	return err;
}

/* Reads the record itself: nodes that may not look at metadata must find, too. */
vcf_err_t vault_kv_find(struct vault *v, const char *label, struct helper *h,
			struct helper_failure *f)
{
	struct vault_record rec;
	enum state state;
	vcf_err_t err;

	if (!vault_label_valid(label))
		return 0;
	err = look(v, label, &state, &rec, f);
	if (err)
		return err;
	secret_free(rec.secret);
	return state == ABSENT ? 0 : send_item(v, label, h, f);
}

static vcf_err_t send_items(struct vault *v, const struct lockbuf *text,
			    const char *prefix, struct helper *h,
			    struct helper_failure *f)
{
	char label[KEYPROTO_LABEL_MAX + 1];
	struct jsonview keys, one;
	size_t pos = 0;
	vcf_err_t err = vault_parse_list(text->data, text->len, &keys);

	if (err)
		return vault_fail_form(v, "LIST", f);
	while (!err && jsonview_next(keys, &pos, &one)) {
		if (vault_list_label(one, label) &&
		    strncmp(label, prefix, strlen(prefix)) == 0)
			err = send_item(v, label, h, f);
	}
	return err;
}

vcf_err_t vault_kv_list(struct vault *v, const char *prefix, struct helper *h,
			struct helper_failure *f)
{
	auto_lockbuf struct lockbuf *text = NULL;
	char path[VAULT_URL_PATH_MAX];
	struct http_reply r;
	vcf_err_t err;

	make_path(v, path, "metadata", "");
	err = vault_call(v, "LIST", path, false, &r, f);
	if (err)
		return err;
	if (r.status == 404 && vault_is_absent(r.body, r.len))
		return 0;
	if (r.status != 200)
		return fail(v, &r, "LIST", "metadata", "list", f);
	if (lockbuf_new(&text, r.len))
		return helper_fail(f, KEY_UNAVAILABLE, "cannot lock memory for a list");
	lockbuf_add(text, r.body, r.len);
	return send_items(v, text, prefix, h, f);
}

/* --- destroy --- */

/* A record's own name says whose it is; where none can be read, the place that it is at. */
static vcf_err_t check_label(struct vault *v, const char *id, const char *label,
			     bool *gone, struct helper_failure *f)
{
	struct vault_record rec;
	enum state state;
	vcf_err_t err = look(v, id, &state, &rec, f);

	if (err)
		return err;
	secret_free(rec.secret);
	*gone = state == ABSENT;
	if (*gone || strcmp(state == DELETED ? id : rec.name, label) == 0)
		return 0;
	return helper_fail(f, KEY_INVALID, "the record's label is another");
}

vcf_err_t vault_kv_destroy(struct vault *v, const char *id, const char *label, bool *gone,
			   struct helper_failure *f)
{
	char path[VAULT_URL_PATH_MAX];
	struct http_reply r;
	vcf_err_t err = check_id(id, f);

	if (!err)
		err = check_label(v, id, label, gone, f);
	if (err || *gone)
		return err;
	make_path(v, path, "metadata", id);
	err = vault_call(v, "DELETE", path, false, &r, f);
	if (err)
		return err;
	*gone = r.status == 404 && vault_is_absent(r.body, r.len);
	if (*gone || r.status == 204 || r.status == 200)
		return 0;
	return fail(v, &r, "DELETE", "metadata", "delete", f);
}

vcf_err_t vault_kv_ping(struct vault *v, struct helper_failure *f)
{
	struct vault_record rec;
	enum state state;
	vcf_err_t err = look(v, ping_label, &state, &rec, f);

	if (!err)
		secret_free(rec.secret);
	return err;
}
