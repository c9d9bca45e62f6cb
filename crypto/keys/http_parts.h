/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pure parts of http.c, for it and its tests: URLs and what curl's errors mean.
 */
#ifndef VCF_CRYPTO_KEYS_HTTP_PARTS_H
#define VCF_CRYPTO_KEYS_HTTP_PARTS_H

#include <stdbool.h>
#include <stddef.h>

#include "crypto/keys/helper.h"
#include "crypto/keys/http.h"

/*
 * Checks one endpoint and writes it to dst without the slashes at its end. NULL, or what is
 * wrong with it.
 */
const char *http_url_check(char dst[HTTP_URL_MAX], const char *url, size_t len,
			   bool insecure_loopback);

/* How far a request came. */
enum http_stage { HTTP_CONNECTING, HTTP_HANDSHAKE, HTTP_WAITING };

/* A request that got no whole reply. */
struct http_fault {
	const char *service, *endpoint;
	int code;	  /* CURLcode */
	const char *said; /* curl's own words, may be "" */
	long verify;	  /* X509_V_... of the peer's certificate, 0 if none */
	int os_errno;	  /* of the connect */
	bool too_large;	  /* we ended it: over reply_max */
	size_t reply_max;
	unsigned int seconds; /* that it took, for CURLE_OPERATION_TIMEDOUT */
	enum http_stage stage;
	const char *ca;	  /* what we trust, for texts; "" the system's */
	bool client_cert; /* we have one */
};

/* Fills f: always unavailable. */
vcf_err_t http_fail_fault(const struct http_fault *x, struct helper_failure *f);

/* Printable ASCII of src, cut to room with its NUL; runs of anything else become one blank. */
void http_printable(char *dst, size_t room, const char *src, size_t len);

#endif
