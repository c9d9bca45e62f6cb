/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The text of tokens, escrow tokens too: what is accepted is written back as text that means the same. */
#include <stdlib.h>
#include <string.h>

#include "crypto/escrow.h"
#include "crypto/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(bool good)
{
	if (!good)
		abort();
}

static void fuzz_escrow(const uint8_t *data, size_t len)
{
	char json[ESCROW_JSON_MAX + 1];
	struct escrow a, b;
	ssize_t n;

	if (escrow_parse(&a, (const char *)data, len))
		return;
	n = escrow_format(json, sizeof(json), &a);
	must(n > 0 && escrow_parse(&b, json, (size_t)n) == 0);
	must(a.keyslot == b.keyslot && strcmp(a.recipient, b.recipient) == 0 &&
	     memcmp(a.sealed, b.sealed, sizeof(a.sealed)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char json[TOKEN_JSON_MAX + 1];
	struct token a = {.keyslot = 0};
	struct token b = {.keyslot = 0};
	ssize_t n;

	fuzz_escrow(data, len);
	if (token_parse(&a, (const char *)data, len))
		return 0;
	n = token_format(json, sizeof(json), &a);
	must(n > 0 && token_parse(&b, json, (size_t)n) == 0);
	must(strcmp(a.service, b.service) == 0 && strcmp(a.key_id, b.key_id) == 0 &&
	     strcmp(a.context, b.context) == 0 && strcmp(a.created, b.created) == 0);
	must(a.holes == b.holes && a.derived == b.derived && a.keyslot == b.keyslot &&
	     a.generation == b.generation);
	must(memcmp(a.kcv, b.kcv, KCV_LEN) == 0 &&
	     memcmp(a.mac, b.mac, TOKEN_MAC_LEN) == 0);
	must(token_key_id_valid(a.key_id) && !strstr(a.key_id, ".."));
	return 0;
}
