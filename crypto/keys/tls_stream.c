/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/keys/tls_stream.h"

#include <curl/curl.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/keys/http_parts.h"
#include "util/clock.h"

enum { CONNECT_TIMEOUT_S = 5, REQUEST_TIMEOUT_S = 15 };

struct tls_stream {
	const struct tls_settings *set;
	const char *endpoint;
	CURL *curl;
	curl_socket_t fd;
	bool connected;
	uint64_t begun_ms; /* the opening, or the last sending */
	char said[CURL_ERROR_SIZE];
};

DEFINE_AUTO(tls_stream, struct tls_stream *, tls_stream_close)
#define auto_stream __attribute__((cleanup(cleanup_tls_stream)))

/* --- settings --- */

vcf_err_t tls_prepare(struct tls_settings *s, struct helper_failure *f)
{
	vcf_err_t err;

	if (!s->o.connect_timeout_s)
		s->o.connect_timeout_s = CONNECT_TIMEOUT_S;
	if (!s->o.request_timeout_s)
		s->o.request_timeout_s = REQUEST_TIMEOUT_S;
	if (!*s->o.client_cert || !*s->o.client_key)
		return helper_fail(f, KEY_INVALID,
				   "client-cert and client-key are needed: a %s server "
				   "knows its clients by their certificates",
				   s->service);
	err = credential_path(s->cert, "client-cert", s->o.client_cert, f);
	if (!err)
		err = credential_path(s->key, "client-key", s->o.client_key, f);
	if (!err)
		err = credential_check("client-key", s->o.client_key, f);
	if (!err && curl_global_init(CURL_GLOBAL_DEFAULT))
		err = helper_fail(f, KEY_UNAVAILABLE, "libcurl cannot be set up");
	return err;
}

/* --- failures --- */

static enum http_stage stage_of(const struct tls_stream *s)
{
	double tcp = 0;

	if (s->connected)
		return HTTP_WAITING;
	curl_easy_getinfo(s->curl, CURLINFO_CONNECT_TIME, &tcp);
	return tcp > 0 ? HTTP_HANDSHAKE : HTTP_CONNECTING;
}

static vcf_err_t fail(const struct tls_stream *s, CURLcode code, struct helper_failure *f)
{
	const struct http_options *o = &s->set->o;
	long verify = 0, os_errno = 0;
	char said[CURL_ERROR_SIZE];
	struct http_fault x = {
		.service = s->set->service,
		.endpoint = s->endpoint,
		.code = (int)code,
		.said = said,
		.stage = stage_of(s),
		.seconds = (unsigned int)((clock_now_ms() - s->begun_ms + 500) / 1000),
		.ca = *o->ca_file ? o->ca_file : o->ca_dir,
		.client_cert = true,
	};

	http_printable(said, sizeof(said), s->said, strlen(s->said));
	curl_easy_getinfo(s->curl, CURLINFO_SSL_VERIFYRESULT, &verify);
	curl_easy_getinfo(s->curl, CURLINFO_OS_ERRNO, &os_errno);
	x.verify = verify;
	x.os_errno = (int)os_errno;
	return http_fail_fault(&x, f);
}

/* --- opening --- */

static void set_tls(CURL *c, const struct tls_settings *s)
{
	curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(c, CURLOPT_SSL_ENABLE_ALPN, 0L); /* it is not HTTP */
	curl_easy_setopt(c, CURLOPT_SSL_SESSIONID_CACHE, 0L);
	if (*s->o.ca_file || *s->o.ca_dir) { /* these alone, none of the system's */
		curl_easy_setopt(c, CURLOPT_CAINFO, *s->o.ca_file ? s->o.ca_file : NULL);
		curl_easy_setopt(c, CURLOPT_CAPATH, *s->o.ca_dir ? s->o.ca_dir : NULL);
	}
	curl_easy_setopt(c, CURLOPT_SSLCERT, s->cert);
	curl_easy_setopt(c, CURLOPT_SSLKEY, s->key);
	if (*s->ciphers)
		curl_easy_setopt(c, CURLOPT_SSL_CIPHER_LIST, s->ciphers);
}

static void set_constants(struct tls_stream *s, long timeout_ms)
{
	CURL *c = s->curl;

	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, s->said);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "https");
	curl_easy_setopt(c, CURLOPT_CONNECT_ONLY, 1L);
	curl_easy_setopt(c, CURLOPT_PROXY, "");
	curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, timeout_ms);
	/* A name server that is silent keeps curl's own thread, not us: there are others. */
	curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L);
	set_tls(c, s->set);
}

static vcf_err_t connect_now(struct tls_stream *s, uint64_t deadline_ms,
			     struct helper_failure *f)
{
	uint64_t now = clock_now_ms();
	uint64_t left = s->set->o.connect_timeout_s * UINT64_C(1000);
	char url[HTTP_URL_MAX];
	CURLcode code = CURLE_OPERATION_TIMEDOUT;

	if (deadline_ms <= now)
		return fail(s, code, f);
	if (deadline_ms - now < left)
		left = deadline_ms - now;
	set_constants(s, (long)left);
	snprintf(url, sizeof(url), "https://%s/", s->endpoint);
	curl_easy_setopt(s->curl, CURLOPT_URL, url);
	code = curl_easy_perform(s->curl);
	if (!code)
		code = curl_easy_getinfo(s->curl, CURLINFO_ACTIVESOCKET, &s->fd);
	if (code)
		return fail(s, code, f);
	s->connected = true;
	return 0;
}

vcf_err_t tls_stream_open(struct tls_stream **out, const struct tls_settings *set,
			  const char *endpoint, uint64_t deadline_ms,
			  struct helper_failure *f)
{
	auto_stream struct tls_stream *s = calloc(1, sizeof(*s));
	vcf_err_t err;

	if (s)
		s->curl = curl_easy_init();
	if (!s || !s->curl)
		return helper_fail(f, KEY_UNAVAILABLE, "no memory");
	s->set = set;
	s->endpoint = endpoint;
	s->fd = CURL_SOCKET_BAD;
	s->begun_ms = clock_now_ms();
	err = connect_now(s, deadline_ms, f);
	if (err)
		return err;
	*out = STEAL_PTR(&s);
	return 0;
}

void tls_stream_close(struct tls_stream *s)
{
	if (!s)
		return;
	if (s->curl)
		curl_easy_cleanup(s->curl);
	free(s);
}

/* Nothing is owed to us while it is idle: what comes then is its end, or a ticket of TLS 1.3. */
bool tls_stream_alive(struct tls_stream *s)
{
	struct pollfd p = {.fd = s->fd, .events = POLLIN};
	char byte;
	size_t n;

	return poll(&p, 1, 0) == 0 ||
	       curl_easy_recv(s->curl, &byte, 1, &n) == CURLE_AGAIN;
}

/* --- bytes --- */

/* Until the socket is ready; false after the deadline. */
static bool wait_for(const struct tls_stream *s, short events, uint64_t deadline_ms)
{
	struct pollfd p = {.fd = s->fd, .events = events};

	for (;;) {
		uint64_t now = clock_now_ms();
		int rc;

		if (now >= deadline_ms)
			return false;
		rc = poll(&p, 1, (int)(deadline_ms - now));
		if (rc > 0 || (rc < 0 && errno != EINTR))
			return true;
	}
}

/* TLS may want to read in order to write, but only in a handshake, which is over. */
vcf_err_t tls_stream_send(struct tls_stream *s, const void *data, size_t len,
			  uint64_t deadline_ms, struct helper_failure *f)
{
	const char *at = data;

	s->begun_ms = clock_now_ms();
	while (len) {
		size_t n = 0;
		CURLcode code;

		*s->said = '\0';
		code = curl_easy_send(s->curl, at, len, &n);
		if (code == CURLE_AGAIN && !wait_for(s, POLLOUT, deadline_ms))
			code = CURLE_OPERATION_TIMEDOUT;
		if (code && code != CURLE_AGAIN)
			return fail(s, code, f);
		at += n;
		len -= n;
	}
	return 0;
}

vcf_err_t tls_stream_recv(struct tls_stream *s, void *dst, size_t len,
			  uint64_t deadline_ms, size_t *got, struct helper_failure *f)
{
	*got = 0;
	while (*got < len) {
		size_t n = 0;
		CURLcode code;

		*s->said = '\0';
		code = curl_easy_recv(s->curl, (char *)dst + *got, len - *got, &n);
		if (code == CURLE_AGAIN && !wait_for(s, POLLIN, deadline_ms))
			code = CURLE_OPERATION_TIMEDOUT;
		else if (!code && n == 0)
			code = CURLE_GOT_NOTHING;
		if (code && code != CURLE_AGAIN)
			return fail(s, code, f);
		*got += n;
	}
	return 0;
}
