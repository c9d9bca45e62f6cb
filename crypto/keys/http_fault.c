/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an operator is told when no whole reply came. The texts are explained one by one in
 * contrib/doc/key-services.md.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

#include "crypto/keys/http_parts.h"

/* Of OpenSSL's x509_vfy.h, which are part of its ABI. */
enum {
	V_NOT_YET_VALID = 9,
	V_EXPIRED = 10,
	V_SELF_SIGNED = 18,
	V_SELF_SIGNED_IN_CHAIN = 19,
	V_NO_ISSUER_LOCALLY = 20,
	V_NO_FIRST = 21,
};

void http_printable(char *dst, size_t room, const char *src, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len && n + 1 < room; i++) {
		if (src[i] > ' ' && src[i] < 0x7f)
			dst[n++] = src[i];
		else if (n && dst[n - 1] != ' ')
			dst[n++] = ' ';
	}
	while (n && dst[n - 1] == ' ')
		n--;
	dst[n] = '\0';
}

static const char *const stage_names[] = {
	[HTTP_CONNECTING] = "connection",
	[HTTP_HANDSHAKE] = "TLS handshake",
	[HTTP_WAITING] = "whole reply",
};

#define FAIL(x, f, fmt, ...)                                                             \
	helper_fail(f, KEY_UNAVAILABLE, "%s at %.200s: " fmt, (x)->service,              \
		    (x)->endpoint __VA_OPT__(, ) __VA_ARGS__)

/* The peer's certificate. curl itself compares the name, and OpenSSL knows nothing of it. */
static vcf_err_t fail_verify(const struct http_fault *x, struct helper_failure *f)
{
	const char *ca = *x->ca ? x->ca : "this system's CA certificates";

	if (strcasestr(x->said, "subject name"))
		return FAIL(
			x, f,
			"its TLS certificate is for another host: use a name that is in "
			"the certificate, or renew the certificate");
	switch (x->verify) {
	case V_EXPIRED:
		return FAIL(x, f,
			    "its TLS certificate has expired: renew it (or set this "
			    "machine's clock)");
	case V_NOT_YET_VALID:
		return FAIL(
			x, f,
			"its TLS certificate is not valid yet: set this machine's clock");
	case V_SELF_SIGNED:
	case V_SELF_SIGNED_IN_CHAIN:
	case V_NO_ISSUER_LOCALLY:
	case V_NO_FIRST:
		return FAIL(
			x, f,
			"its TLS certificate is not signed by a CA that %.150s names: set "
			"ca-file to the CA's certificate",
			ca);
	default:
		return FAIL(x, f, "its TLS certificate is refused (%ld): %.150s",
			    x->verify, x->said);
	}
}

/* A handshake that broke: with an alert, the peer did not like us. */
static vcf_err_t fail_handshake(const struct http_fault *x, struct helper_failure *f)
{
	bool certificate = strcasestr(x->said, "certificate required") ||
			   strcasestr(x->said, "bad certificate") ||
			   strcasestr(x->said, "alert unknown ca") ||
			   strcasestr(x->said, "certificate expired") ||
			   strcasestr(x->said, "unsupported certificate") ||
			   strcasestr(x->said, "handshake failure");

	if (certificate && x->client_cert)
		return FAIL(
			x, f,
			"it refuses our TLS certificate: check client-cert and client-key "
			"(%.150s)",
			x->said);
	if (certificate)
		return FAIL(x, f,
			    "it wants a TLS client certificate: set client-cert and "
			    "client-key (%.150s)",
			    x->said);
	if (strcasestr(x->said, "wrong version number"))
		return FAIL(x, f, "it does not speak TLS on this port");
	if (strcasestr(x->said, "unexpected eof"))
		return FAIL(x, f, "it ended the connection without a whole reply");
	return FAIL(x, f, "TLS fails: %.200s", x->said);
}

/*
 * With TLS 1.3 a server looks at the client's certificate when the client believes to be
 * through; often its alert is lost with the connection.
 */
static vcf_err_t fail_reset(const struct http_fault *x, struct helper_failure *f)
{
	if (strncmp(x->endpoint, "http://", 7) == 0)
		return FAIL(x, f, "it broke off the connection");
	return FAIL(x, f,
		    "it broke off the connection; if that stays so, perhaps it %s: %s "
		    "client-cert and client-key",
		    x->client_cert ? "does not like our TLS certificate"
				   : "wants a TLS client certificate",
		    x->client_cert ? "check" : "set");
}

static bool was_reset(const struct http_fault *x)
{
	return x->code == CURLE_SEND_ERROR || strcasestr(x->said, "reset by peer") ||
	       strcasestr(x->said, "broken pipe") || strcasestr(x->said, "getpeername");
}

static vcf_err_t fail_transfer(const struct http_fault *x, struct helper_failure *f)
{
	if (x->too_large)
		return FAIL(x, f, "its reply is larger than %zu bytes", x->reply_max);
	switch (x->code) {
	case CURLE_PARTIAL_FILE:
		return FAIL(x, f, "its reply was cut off");
	case CURLE_GOT_NOTHING:
		return FAIL(x, f, "it ended the connection without a reply");
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_UNSUPPORTED_PROTOCOL:
		return FAIL(x, f, "what answers there does not speak HTTP");
	case CURLE_OPERATION_TIMEDOUT:
		return FAIL(x, f, "no %s within %u s", stage_names[x->stage], x->seconds);
	default:
		return FAIL(x, f, "%.200s",
			    *x->said ? x->said : curl_easy_strerror(x->code));
	}
}

vcf_err_t http_fail_fault(const struct http_fault *x, struct helper_failure *f)
{
	switch (x->code) {
	case CURLE_COULDNT_RESOLVE_HOST:
		return FAIL(x, f,
			    "its host name is not known to DNS: check the name and "
			    "/etc/resolv.conf");
	case CURLE_COULDNT_CONNECT:
		return FAIL(x, f, "cannot connect: %s",
			    x->os_errno ? strerror(x->os_errno) : x->said);
	case CURLE_PEER_FAILED_VERIFICATION:
		return fail_verify(x, f);
	case CURLE_SSL_CACERT_BADFILE:
		return FAIL(x, f,
			    "ca-file or ca-dir (%.150s) cannot be read, or is no PEM",
			    x->ca);
	case CURLE_SSL_CERTPROBLEM:
		return FAIL(
			x, f,
			"client-cert and client-key cannot be used: not PEM, or the key is "
			"of another certificate (%.150s)",
			x->said);
	case CURLE_SSL_CLIENTCERT:
	case CURLE_SSL_CONNECT_ERROR:
		return fail_handshake(x, f);
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
		if (was_reset(x))
			return fail_reset(x, f);
		if (strcasestr(x->said, "SSL"))
			return fail_handshake(x, f);
		return fail_transfer(x, f);
	default: /* the one code or the other, as it happens to notice it */
		return was_reset(x) ? fail_reset(x, f) : fail_transfer(x, f);
	}
}
