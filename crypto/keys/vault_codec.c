/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/keys/vault_codec.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "util/parse.h"
#include "util/untrusted.h"

enum { SECRET_BASE64_LEN = BASE64_LEN(SECRET_LEN) };

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool part_valid(const char *part, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (!is_alnum(part[i]) && !strchr("_.-", part[i]))
			return false;
	}
	return len && part[0] != '.' && part[len - 1] != '.';
}

bool vault_path_valid(const char *path)
{
	if (strnlen(path, VAULT_PATH_MAX + 1) > VAULT_PATH_MAX)
		return false;
	for (;;) {
		size_t len = strcspn(path, "/");

		if (!part_valid(path, len))
			return false;
		if (!path[len])
			return true;
		path += len + 1;
	}
}

bool vault_label_valid(const char *label)
{
	return keyproto_label_valid(label) && label[strlen(label) - 1] != '.';
}

/* --- request bodies --- */

static void add_string(struct lockbuf *b, const char *text)
{
	lockbuf_add_json(b, text, strlen(text));
}

void vault_add_approle_login(struct lockbuf *b, const char *role_id,
			     const char *secret_id)
{
	lockbuf_add_text(b, "{\"role_id\":");
	add_string(b, role_id);
	lockbuf_add_text(b, ",\"secret_id\":");
	add_string(b, secret_id);
	lockbuf_add_text(b, "}");
}

void vault_add_cert_login(struct lockbuf *b, const char *role)
{
	lockbuf_add_text(b, "{");
	if (*role) {
		lockbuf_add_text(b, "\"name\":");
		add_string(b, role);
	}
	lockbuf_add_text(b, "}");
}

void vault_add_record(struct lockbuf *b, const char *label, const struct secret *secret,
		      time_t created)
{
	char hex[SECRET_HEX_LEN + 1], number[64];

	secret_hex(secret, hex);
	lockbuf_add_text(
		b,
		"{\"options\":{\"cas\":0},\"data\":{\"type\":\"symmetric\",\"value\":\"");
	lockbuf_add(b, hex, SECRET_HEX_LEN);
	secret_wipe(hex, sizeof(hex));
	lockbuf_add_text(b, "\",\"algorithm\":\"AES\",\"bit_length\":256,\"name\":");
	add_string(b, label);
	snprintf(number, sizeof(number), ",\"created\":%" PRId64 "}}", (int64_t)created);
	lockbuf_add_text(b, number);
}

static void add_context(struct lockbuf *b, const char *label)
{
	lockbuf_add_text(b, "\",\"context\":\"");
	lockbuf_add_base64(b, label, strlen(label));
	lockbuf_add_text(b, "\"}");
}

void vault_add_encrypt(struct lockbuf *b, const char *label, const struct secret *secret)
{
	lockbuf_add_text(b, "{\"plaintext\":\"");
	lockbuf_add_base64(b, secret_bytes(secret), SECRET_LEN);
	add_context(b, label);
}

void vault_add_decrypt(struct lockbuf *b, const char *label, const char *ciphertext)
{
	lockbuf_add_text(b, "{\"ciphertext\":\"");
	lockbuf_add_text(b, ciphertext);
	add_context(b, label);
}

/* --- replies --- */

/* The object that nearly all of them have their content in. */
static vcf_err_t parse_data(const char *text, size_t len, struct jsonview *data)
{
	struct jsonview root;
	vcf_err_t err = jsonview_parse(&root, text, len);

	if (err)
		return err;
	*data = jsonview_get(root, "data");
	return data->len && *data->p == '{' ? 0 : -EBADMSG;
}

static bool is_string(struct jsonview v, const char *want)
{
	char text[64];

	return jsonview_string(v, text, sizeof(text)) && strcmp(text, want) == 0;
}

/* It becomes a header's value. */
static bool token_valid(const char *token)
{
	const char *p = token;

	while (*p > 0x20 && *p < 0x7f)
		p++;
	return *token && !*p;
}

vcf_err_t vault_parse_login(const char *text, size_t len, struct lockbuf *token,
			    uint32_t *lease_s)
{
	struct jsonview root, auth;
	int64_t lease;

	lockbuf_reset(token);
	if (jsonview_parse(&root, text, len))
		return -EBADMSG;
	auth = jsonview_get(root, "auth");
	if (!jsonview_int(jsonview_get(auth, "lease_duration"), 0, VAULT_LEASE_MAX,
			  &lease))
		return -EBADMSG;
	if (!jsonview_string(jsonview_get(auth, "client_token"), token->data,
			     token->room + 1))
		return -EBADMSG;
	token->len = strlen(token->data);
	if (!token_valid(token->data)) {
		lockbuf_reset(token);
		return -EBADMSG;
	}
	*lease_s = (uint32_t)lease;
	return 0;
}

static vcf_err_t parse_value(struct jsonview record, struct secret **out)
{
	char hex[SECRET_HEX_LEN + 1];
	vcf_err_t err = -EINVAL;

	if (!is_string(jsonview_get(record, "type"), "symmetric"))
		return -EINVAL;
	if (jsonview_string(jsonview_get(record, "value"), hex, sizeof(hex)))
		err = secret_new_hex(out, hex, strlen(hex));
	secret_wipe(hex, sizeof(hex));
	return err;
}

vcf_err_t vault_parse_record(const char *text, size_t len, struct vault_record *out)
{
	struct jsonview data, record, metadata;
	vcf_err_t err = parse_data(text, len, &data);

	if (err)
		return err;
	record = jsonview_get(data, "data");
	metadata = jsonview_get(data, "metadata");
	if (!metadata.len || *metadata.p != '{')
		return -EBADMSG;
	if (jsonview_is_null(record))
		return -ENOKEY;
	if (!record.len || *record.p != '{')
		return -EBADMSG;
	if (!jsonview_string(jsonview_get(record, "name"), out->name,
			     sizeof(out->name)) ||
	    !keyproto_label_valid(out->name))
		out->name[0] = '\0';
	return parse_value(record, &out->secret);
}

vcf_err_t vault_parse_written(const char *text, size_t len)
{
	struct jsonview data;
	int64_t version;
	vcf_err_t err = parse_data(text, len, &data);

	if (err)
		return err;
	return jsonview_int(jsonview_get(data, "version"), 1, 1, &version) ? 0 : -EBADMSG;
}

vcf_err_t vault_parse_created(const char *text, size_t len, char created[32])
{
	struct jsonview data;
	vcf_err_t err = parse_data(text, len, &data);

	if (err)
		return err;
	if (!jsonview_string(jsonview_get(data, "created_time"), created, 32) ||
	    !keyproto_created_valid(created))
		return -EBADMSG;
	return 0;
}

vcf_err_t vault_parse_list(const char *text, size_t len, struct jsonview *keys)
{
	struct jsonview data;
	vcf_err_t err = parse_data(text, len, &data);

	if (err)
		return err;
	*keys = jsonview_get(data, "keys");
	return keys->len && *keys->p == '[' ? 0 : -EBADMSG;
}

bool vault_list_label(struct jsonview name, char label[KEYPROTO_LABEL_MAX + 1])
{
	return jsonview_string(name, label, KEYPROTO_LABEL_MAX + 1) &&
	       vault_label_valid(label);
}

vcf_err_t vault_parse_encrypted(const char *text, size_t len, const char *label,
				char id[TOKEN_KEY_ID_MAX + 1])
{
	char ciphertext[TOKEN_KEY_ID_MAX + 1], whole[TOKEN_KEY_ID_MAX + 1];
	char again[KEYPROTO_LABEL_MAX + 1];
	const char *unused;
	struct jsonview data;
	int n;
	vcf_err_t err = parse_data(text, len, &data);

	if (err)
		return err;
	if (!jsonview_string(jsonview_get(data, "ciphertext"), ciphertext,
			     sizeof(ciphertext)))
		return -EBADMSG;
	n = snprintf(whole, sizeof(whole), "%s:%s", label, ciphertext);
	if (n >= (int)sizeof(whole))
		return -ENOSPC;
	if (!vault_id_split(whole, again, &unused) || strcmp(again, label) != 0)
		return -EBADMSG;
	memcpy(id, whole, (size_t)n + 1);
	return 0;
}

vcf_err_t vault_parse_decrypted(const char *text, size_t len, struct secret **out)
{
	char plain[SECRET_BASE64_LEN + 1];
	auto_secret struct secret *s = NULL;
	struct jsonview data, value;
	vcf_err_t err = parse_data(text, len, &data);

	if (err)
		return err;
	value = jsonview_get(data, "plaintext");
	if (!value.len || *value.p != '"')
		return -EBADMSG;
	err = secret_new(&s);
	if (err)
		return err;
	if (!jsonview_string(value, plain, sizeof(plain)) ||
	    base64_decode(secret_bytes(s), SECRET_LEN, plain, strlen(plain)))
		err = -EINVAL;
	secret_wipe(plain, sizeof(plain));
	if (!err)
		*out = STEAL_PTR(&s);
	return err;
}

vcf_err_t vault_parse_key(const char *text, size_t len, bool *derived)
{
	struct jsonview data;
	vcf_err_t err = parse_data(text, len, &data);

	if (err)
		return err;
	return jsonview_bool(jsonview_get(data, "derived"), derived) ? 0 : -EBADMSG;
}

vcf_err_t vault_parse_mount(const char *text, size_t len, bool *kv2)
{
	struct jsonview data, options;
	vcf_err_t err = parse_data(text, len, &data);

	if (err)
		return err;
	options = jsonview_get(data, "options");
	*kv2 = is_string(jsonview_get(data, "type"), "kv") &&
	       is_string(jsonview_get(options, "version"), "2");
	return 0;
}

/* --- reasons --- */

static void append(char *dst, size_t room, const char *text)
{
	char shown[1024];
	size_t len = strlen(dst);

	untrusted_text(shown, sizeof(shown), text, strlen(text));
	snprintf(dst + len, room - len, "%s%s", len ? "; " : "", shown);
}

bool vault_errors(const char *text, size_t len, char *dst, size_t room)
{
	struct jsonview root, one;
	char reason[1024];
	size_t pos = 0;

	*dst = '\0';
	if (jsonview_parse(&root, text, len))
		return false;
	root = jsonview_get(root, "errors");
	while (jsonview_next(root, &pos, &one)) {
		if (!jsonview_string(one, reason, sizeof(reason)))
			snprintf(reason, sizeof(reason), "(a long reason)");
		append(dst, room, reason);
	}
	return *dst != '\0';
}

bool vault_is_absent(const char *text, size_t len)
{
	struct jsonview root, one;
	size_t pos = 0;

	if (jsonview_parse(&root, text, len))
		return false;
	root = jsonview_get(root, "errors");
	return root.len && *root.p == '[' && !jsonview_next(root, &pos, &one);
}

bool vault_is_cas_mismatch(const char *reasons)
{
	return strstr(reasons, "check-and-set parameter did not match") != NULL;
}

/* --- transit ids --- */

static bool ciphertext_valid(const char *text)
{
	static const char head[] = "vault:v";
	size_t len;

	if (strncmp(text, head, sizeof(head) - 1) != 0)
		return false;
	text += sizeof(head) - 1;
	len = strspn(text, "0123456789");
	if (!len || len > 9 || text[len] != ':')
		return false;
	text += len + 1;
	for (len = 0; is_alnum(text[len]) || text[len] == '+' || text[len] == '/';)
		len++;
	return len && !text[len + strspn(text + len, "=")];
}

/* A label may hold ':', base64 does not: the last one that begins a ciphertext counts. */
static const char *last_ciphertext(const char *id)
{
	const char *found = NULL;

	for (const char *p = strchr(id, ':'); p; p = strchr(p + 1, ':')) {
		if (ciphertext_valid(p + 1))
			found = p;
	}
	return found;
}

bool vault_id_split(const char *id, char label[KEYPROTO_LABEL_MAX + 1],
		    const char **ciphertext)
{
	const char *colon = token_key_id_valid(id) ? last_ciphertext(id) : NULL;
	size_t len = colon ? (size_t)(colon - id) : 0;

	if (!len || len > KEYPROTO_LABEL_MAX)
		return false;
	memcpy(label, id, len);
	label[len] = '\0';
	*ciphertext = colon + 1;
	return keyproto_label_valid(label);
}

/* --- statuses --- */

enum key_error vault_status_kind(long status, bool login)
{
	switch (status) {
	case 400:
		return login ? KEY_DENIED : KEY_INVALID;
	case 413:
	case 422:
		return KEY_INVALID;
	case 401:
	case 403:
	case 404: /* no such mount, key or namespace; a missing record was told apart */
	case 405: /* another kind of mount */
		return KEY_DENIED;
	default: /* 307 429 472 473: a standby; 412: not replicated yet; 503: sealed */
		return KEY_UNAVAILABLE;
	}
}
