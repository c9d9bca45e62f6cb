/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mode transit: the service encrypts the secret and keeps nothing of it; what it answers
 * is the key id and lies in the image's header. The transit key must be a derived one: its
 * context, the label, is what binds a wrapped secret to its image (the associated data of
 * other keys would do so, too, but Vault's rewrap takes none).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "crypto/keys/vault.h"

static void make_path(const struct vault *v, char dst[VAULT_URL_PATH_MAX],
		      const char *operation)
{
	snprintf(dst, VAULT_URL_PATH_MAX, "/v1/%s/%s/%s", v->transit_mount, operation,
		 v->transit_key);
}

static vcf_err_t fail(struct vault *v, const struct http_reply *r, const char *operation,
		      struct helper_failure *f)
{
	char what[320], right[320];

	snprintf(what, sizeof(what), "%s with %s", operation, v->transit_key);
	snprintf(right, sizeof(right), "update on %s/%s/%s", v->transit_mount, operation,
		 v->transit_key);
	return vault_fail(v, r, what, right, f);
}

static vcf_err_t check_reply(struct vault *v, const struct http_reply *r,
			     struct helper_failure *f)
{
	bool derived;

	if (r->status == 403) /* a policy may keep us from asking */
		return 0;
	if (r->status == 404)
		return helper_fail(f, KEY_DENIED, "%s has no key %s", v->transit_mount,
				   v->transit_key);
	if (r->status != 200)
		return vault_fail(v, r, "the question for the transit key", "", f);
	if (vault_parse_key(r->body, r->len, &derived))
		return vault_fail_form(v, "the question for the transit key", f);
	if (derived)
		return 0;
	return helper_fail(f, KEY_DENIED,
			   "the transit key %s is not a derived one: make another "
			   "with derived=true",
			   v->transit_key);
}

/* Once. Who may not ask goes without; then nobody binds but the header's MAC. */
static vcf_err_t check_key(struct vault *v, struct helper_failure *f)
{
	char path[VAULT_URL_PATH_MAX];
	struct http_reply r;
	vcf_err_t err;

	if (v->key_checked)
		return 0;
	make_path(v, path, "keys");
	err = vault_call(v, "GET", path, false, &r, f);
	if (!err)
		err = check_reply(v, &r, f);
	v->key_checked = !err;
	return err;
}

static vcf_err_t encrypt(struct vault *v, const char *label, const struct secret *secret,
			 char id[TOKEN_KEY_ID_MAX + 1], struct helper_failure *f)
{
	char path[VAULT_URL_PATH_MAX];
	struct http_reply r;
	vcf_err_t err;

	make_path(v, path, "encrypt");
	vault_add_encrypt(v->body, label, secret);
	err = vault_call(v, "POST", path, true, &r, f);
	if (err)
		return err;
	if (r.status != 200)
		return fail(v, &r, "encrypt", f);
	if (vault_parse_encrypted(r.body, r.len, label, id))
		return vault_fail_form(v, "encrypt", f);
	return 0;
}

vcf_err_t vault_transit_new(struct vault *v, const char *label,
			    const struct secret *secret, char id[TOKEN_KEY_ID_MAX + 1],
			    struct helper_failure *f)
{
	vcf_err_t err = check_key(v, f);

	return err ? err : encrypt(v, label, secret, id, f);
}

static vcf_err_t split(const char *id, char label[KEYPROTO_LABEL_MAX + 1],
		       const char **ciphertext, struct helper_failure *f)
{
	if (vault_id_split(id, label, ciphertext))
		return 0;
	return helper_fail(f, KEY_INVALID, "not a key id of mode transit");
}

/* 400: another key's, another label's, or older than the key lets one decrypt. */
static vcf_err_t fail_decrypt(struct vault *v, const struct http_reply *r,
			      struct helper_failure *f)
{
	vcf_err_t err = fail(v, r, "decrypt", f);

	if (r->status != 400)
		return err;
	f->kind = KEY_DENIED;
	return keyproto_errno(KEY_DENIED);
}

vcf_err_t vault_transit_get(struct vault *v, const char *id, struct secret **out,
			    struct helper_failure *f)
{
	char label[KEYPROTO_LABEL_MAX + 1], path[VAULT_URL_PATH_MAX];
	const char *ciphertext;
	struct http_reply r;
	vcf_err_t err = split(id, label, &ciphertext, f);

	if (err)
		return err;
	make_path(v, path, "decrypt");
	vault_add_decrypt(v->body, label, ciphertext);
	err = vault_call(v, "POST", path, true, &r, f);
	if (err)
		return err;
	if (r.status != 200)
		return fail_decrypt(v, &r, f);
	switch (vault_parse_decrypted(r.body, r.len, out)) {
	case 0:
		break;
	case -EINVAL:
		err = helper_fail(f, KEY_DENIED,
				  "it decrypts to what is no secret of %d bytes",
				  SECRET_LEN);
		break;
	default:
		err = vault_fail_form(v, "decrypt", f);
	}
	http_forget(v->http);
	return err;
}

/* Nothing is there that could be destroyed: gone with the header that the id lay in. */
vcf_err_t vault_transit_destroy(const char *id, const char *label, bool *gone,
				struct helper_failure *f)
{
	char own[KEYPROTO_LABEL_MAX + 1];
	const char *ciphertext;
	vcf_err_t err = split(id, own, &ciphertext, f);

	if (!err && strcmp(own, label) != 0)
		err = helper_fail(f, KEY_INVALID, "the record's label is another");
	*gone = !err;
	return err;
}

/* Encrypts something of no worth. */
vcf_err_t vault_transit_ping(struct vault *v, struct helper_failure *f)
{
	auto_secret struct secret *zeros = NULL;
	char id[TOKEN_KEY_ID_MAX + 1];

	if (secret_new(&zeros))
		return helper_fail(f, KEY_UNAVAILABLE, "no memory for a secret");
	return vault_transit_new(v, "vmcryptfs-ping", zeros, id, f);
}
