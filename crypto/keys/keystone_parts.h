/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pure parts of keystone.c, for it and its tests: requests and replies. */
#ifndef VCF_CRYPTO_KEYS_KEYSTONE_PARTS_H
#define VCF_CRYPTO_KEYS_KEYSTONE_PARTS_H

#include <json-c/json.h>
#include <stdint.h>

#include "crypto/keys/keystone.h"

/* What is missing or contradicts itself; NULL if a log-in can be tried. */
const char *keystone_options_fault(const struct keystone_options *o);

/* True for application credentials. */
bool keystone_by_app(const struct keystone_options *o);

/* What makes two log-ins the same, as one text: all options. */
void keystone_identity(const struct keystone_options *o, const char *service_type,
		       struct lockbuf *out);

/* The body of POST /v3/auth/tokens; the secret is the password or the credential's. */
void keystone_request(struct lockbuf *out, const struct keystone_options *o,
		      const struct lockbuf *secret);

/* Seconds since 1970 of "2026-11-22T19:08:58.000000Z"; the fraction is dropped. */
NODISCARD vcf_err_t keystone_time(const char *text, int64_t *out);

/*
 * Seconds that the token lives, out of the reply's body: 1 or more; -EBADMSG if it says
 * nothing sensible.
 */
int64_t keystone_lifetime(struct json_object *reply);

/*
 * The URL of a service in the reply's catalog, cut to fit. NULL, or what was not found:
 * the text is static.
 */
const char *keystone_catalog(struct json_object *reply, const char *type,
			     const char *interface, const char *region,
			     char dst[HTTP_URL_MAX]);

/*
 * Each of the URLs, separated by commas, with or without a last component ("/v3"). -ENOSPC
 * if they do not fit.
 */
NODISCARD vcf_err_t keystone_urls(char *dst, size_t room, const char *urls,
				  const char *component, bool with);

#endif
