/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as a reply of Vault's, and as a key id. What is taken from them must be of the
 * form that the protocol and the next request rely on.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/keys/vault_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static struct lockbuf *token;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return secret_arena_init() || lockbuf_new(&token, VAULT_TOKEN_MAX);
}

static void must(int good)
{
	if (!good)
		abort();
}

static void fuzz_login(const char *text, size_t len)
{
	uint32_t lease_s = 0;

	if (vault_parse_login(text, len, token, &lease_s)) {
		must(token->len == 0 && !*token->data);
		return;
	}
	must(token->len > 0 && token->len == strlen(token->data));
	must(keyproto_printable(token->data, token->len) && !strchr(token->data, ' '));
	must(lease_s <= VAULT_LEASE_MAX);
}

static void fuzz_record(const char *text, size_t len)
{
	struct vault_record rec = {NULL, ""};
	vcf_err_t err = vault_parse_record(text, len, &rec);

	must(!err == (rec.secret != NULL));
	must(!*rec.name || keyproto_label_valid(rec.name));
	secret_free(rec.secret);
}

static void fuzz_list(const char *text, size_t len)
{
	char label[KEYPROTO_LABEL_MAX + 1];
	struct jsonview keys, one;
	size_t pos = 0, before = 0;

	if (vault_parse_list(text, len, &keys))
		return;
	while (jsonview_next(keys, &pos, &one)) {
		must(pos > before && pos <= keys.len && one.len);
		before = pos;
		must(!vault_list_label(one, label) || keyproto_label_valid(label));
	}
}

static void fuzz_transit(const char *text, size_t len)
{
	char id[TOKEN_KEY_ID_MAX + 1];
	struct secret *s = NULL;

	if (!vault_parse_encrypted(text, len, "label", id))
		must(token_key_id_valid(id) && strncmp(id, "label:vault:v", 13) == 0);
	must(!vault_parse_decrypted(text, len, &s) == (s != NULL));
	secret_free(s);
}

static void fuzz_others(const char *text, size_t len)
{
	char created[32], reasons[64];
	bool b;

	if (!vault_parse_created(text, len, created))
		must(keyproto_created_valid(created));
	must(vault_parse_written(text, len) <= 0 && vault_parse_key(text, len, &b) <= 0 &&
	     vault_parse_mount(text, len, &b) <= 0);
	if (vault_errors(text, len, reasons, sizeof(reasons)))
		must(!vault_is_absent(text, len));
	must(keyproto_printable(reasons, strlen(reasons)));
}

static void fuzz_id(const char *text, size_t len)
{
	char id[TOKEN_KEY_ID_MAX + 2], label[KEYPROTO_LABEL_MAX + 1];
	char again[TOKEN_KEY_ID_MAX + 2];
	const char *ciphertext;

	if (len >= sizeof(id))
		return;
	memcpy(id, text, len);
	id[len] = '\0';
	if (!vault_id_split(id, label, &ciphertext))
		return;
	must(keyproto_label_valid(label));
	snprintf(again, sizeof(again), "%s:%s", label, ciphertext);
	must(strcmp(again, id) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *text = (const char *)data;

	fuzz_login(text, len);
	fuzz_record(text, len);
	fuzz_list(text, len);
	fuzz_transit(text, len);
	fuzz_others(text, len);
	fuzz_id(text, len);
	return 0;
}
