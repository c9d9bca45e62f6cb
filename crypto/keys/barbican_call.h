/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A connection to one Barbican: requests with a token, failures in an operator's words,
 * microversions. For barbican.c alone.
 */
#ifndef VCF_CRYPTO_KEYS_BARBICAN_CALL_H
#define VCF_CRYPTO_KEYS_BARBICAN_CALL_H

#include <stdbool.h>

#include "crypto/keys/helper.h"
#include "crypto/keys/http.h"
#include "crypto/keys/keystone.h"

enum { BARBICAN_MINOR_UNKNOWN = ~0u, BARBICAN_PATH_MAX = 80 };

/* The helper: its options, and what is made of them. */
struct barbican {
	struct keystone_options auth;
	struct http_options transport;
	char endpoint[HTTP_ENDPOINTS_MAX * HTTP_URL_MAX]; /* option; "": of the catalog */
	char acl_users[2048];
	bool private, no_consumers;
	struct keystone *keystone;
	struct http *http;
	char url[HTTP_ENDPOINTS_MAX * HTTP_URL_MAX]; /* what http was made for */
	struct lockbuf *body;			     /* of requests */
	unsigned int minor;			     /* microversion 1.minor; 0: none */
	bool consumers_failed;			     /* has been logged */
};

/* (Re-)makes the connection if the URLs are not those that it was made for. */
NODISCARD vcf_err_t barbican_set_endpoint(struct barbican *b, const char *option,
					  const char *urls, struct helper_failure *f);

/* One request. */
struct barbican_call {
	const char *method, *path, *accept;
	bool body;	    /* b->body */
	bool repeatable;    /* for another endpoint */
	unsigned int minor; /* microversion; 0: none */
	size_t reply_max;
};

/*
 * A request with a token; a refused one is exchanged once. After a second only: Keystone
 * counts revocations in seconds, and a token of the same second would be void from birth.
 */
NODISCARD vcf_err_t barbican_call(struct barbican *b, const struct barbican_call *c,
				  struct http_reply *r, struct helper_failure *f);

/*
 * A status that is none of those that the verb expects. what: "POST of a secret"; right: what
 * the operator can do about a 403.
 */
vcf_err_t barbican_fail(const struct barbican *b, const struct http_reply *r,
			const char *what, const char *right, struct helper_failure *f);

/* A reply that Barbican would not give. */
vcf_err_t barbican_fail_nonsense(const struct barbican *b, const char *what,
				 struct helper_failure *f);

/* "/v1/secrets/ID" and the rest. */
void barbican_secret_path(char dst[BARBICAN_PATH_MAX], const char *id, const char *rest);

/* The same of an id that somebody else gave; 0, or what helper_fail() returned: it is none. */
NODISCARD vcf_err_t barbican_key_path(char dst[BARBICAN_PATH_MAX], const char *id,
				      const char *rest, struct helper_failure *f);

/*
 * Fills b->minor: asks what the service offers, once. A request for its newest is answered with
 * its number. An old or strange one is taken without; then consumers do not exist.
 */
NODISCARD vcf_err_t barbican_learn_minor(struct barbican *b, struct helper_failure *f);

#endif
