/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <string.h>

#include "crypto/keys/kmip_parts.h"
#include "util/parse.h"
#include "util/text.h"

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

vcf_err_t kmip_option(void *ctx, const char *name, const char *value)
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
