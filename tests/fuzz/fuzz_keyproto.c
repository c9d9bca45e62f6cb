/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as a line of the key-helper protocol. What parses must come back from format
 * and parse as the same; an error's text may have been cut.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/keyproto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static char line[KEYPROTO_REPLY_MAX + 1];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return secret_arena_init();
}

static void must(int good)
{
	if (!good)
		abort();
}

static void must_equal_secrets(struct secret *a, struct secret *b)
{
	must(!a == !b);
	must(!a || secret_equal(a, b));
	secret_free(a);
	secret_free(b);
}

static void fuzz_request(const char *text, size_t len)
{
	static struct key_request r, again;
	ssize_t n;

	if (keyproto_parse_request(&r, text, len)) {
		must(!r.secret);
		return;
	}
	n = keyproto_format_request(line, sizeof(line), &r);
	must(n > 0 && keyproto_parse_request(&again, line, (size_t)n - 1) == 0);
	must(r.verb == again.verb && r.tag == again.tag);
	must(!strcmp(r.id, again.id) && !strcmp(r.label, again.label));
	must(!strcmp(r.value, again.value));
	must_equal_secrets(r.secret, again.secret);
}

static void fuzz_reply(const char *text, size_t len)
{
	static struct key_reply r, again;
	ssize_t n;

	if (keyproto_parse_reply(&r, text, len)) {
		must(!r.secret);
		return;
	}
	n = keyproto_format_reply(line, sizeof(line), &r);
	must(n > 0 && keyproto_parse_reply(&again, line, (size_t)n - 1) == 0);
	must(r.kind == again.kind && r.tag == again.tag && r.caps == again.caps);
	must(!strcmp(r.id, again.id) && !strcmp(r.label, again.label));
	must(!strcmp(r.created, again.created));
	must(r.error == again.error);
	must_equal_secrets(r.secret, again.secret);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	fuzz_request((const char *)data, len);
	fuzz_reply((const char *)data, len);
	return 0;
}
