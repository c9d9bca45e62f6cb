/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A TLS connection with a client certificate, for services that do not speak HTTP: bytes to
 * and fro, each call with a deadline. TLS 1.2 or newer; the peer's certificate and name are
 * always checked. Over libcurl (CURLOPT_CONNECT_ONLY), with the options, the files' checks
 * and the error texts of http.h. Not thread-safe.
 */
#ifndef VCF_CRYPTO_KEYS_TLS_STREAM_H
#define VCF_CRYPTO_KEYS_TLS_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crypto/keys/credential.h"
#include "crypto/keys/helper.h"
#include "crypto/keys/http.h"

struct tls_settings {
	const char *service; /* what texts call it ("KMIP"); a literal */
	struct http_options o;
	char ciphers[512]; /* of TLS 1.2, as OpenSSL names them; "": its own choice */
	char cert[CREDENTIAL_PATH_MAX], key[CREDENTIAL_PATH_MAX]; /* of tls_prepare() */
};

/*
 * Once, after the options: defaults, and the files of client-cert and client-key, which must
 * be there. 0, or what helper_fail() returned.
 */
NODISCARD vcf_err_t tls_prepare(struct tls_settings *s, struct helper_failure *f);

struct tls_stream;

/*
 * Connects to HOST:PORT, within connect-timeout. endpoint and s must live as long as the
 * stream. 0, or what helper_fail() returned: unavailable.
 */
NODISCARD vcf_err_t tls_stream_open(struct tls_stream **out, const struct tls_settings *s,
				    const char *endpoint, uint64_t deadline_ms,
				    struct helper_failure *f);

/* Ends it without a goodbye that could block; NULL is allowed. */
void tls_stream_close(struct tls_stream *s);

/* True while the peer has not ended an idle connection, as far as is known here. */
bool tls_stream_alive(struct tls_stream *s);

/*
 * Sends, receives exactly len bytes until the deadline (clock_now_ms). 0, or what
 * helper_fail() returned: unavailable; then the stream is of no more use. *got: how many of
 * them came.
 */
NODISCARD vcf_err_t tls_stream_send(struct tls_stream *s, const void *data, size_t len,
				    uint64_t deadline_ms, struct helper_failure *f);
NODISCARD vcf_err_t tls_stream_recv(struct tls_stream *s, void *dst, size_t len,
				    uint64_t deadline_ms, size_t *got,
				    struct helper_failure *f);

#endif
