/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

#include "crypto/keys/http_parts.h"

static void url_cleanup(CURLU **u)
{
	curl_url_cleanup(*u);
}

static void part_free(char **p)
{
	curl_free(*p);
}
#define auto_part __attribute__((cleanup(part_free)))

/* Names that can only mean this machine. curl itself never asks DNS for localhost. */
static bool is_loopback(const char *host)
{
	struct in_addr v4;

	if (strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
		return true;
	/* Anything that is no address would be asked of DNS. */
	return inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}

static bool has_part(CURLU *u, CURLUPart part)
{
	auto_part char *text = NULL;

	return curl_url_get(u, part, &text, 0) == CURLUE_OK && text && *text;
}

static const char *check_scheme(CURLU *u, bool insecure_loopback)
{
	auto_part char *scheme = NULL;
	auto_part char *host = NULL;

	if (curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) ||
	    curl_url_get(u, CURLUPART_HOST, &host, 0) || !*host)
		return "is no URL";
	if (strcmp(scheme, "https") == 0)
		return NULL;
	if (strcmp(scheme, "http") != 0)
		return "does not begin with https://";
	if (!is_loopback(host))
		return "does not begin with https:// (http is for this machine itself only)";
	return insecure_loopback
		       ? NULL
		       : "is http: set insecure-loopback = yes if secrets may go "
			 "unencrypted over this machine's loopback";
}

/* "scheme://h": curl also takes one slash, or three. */
static bool has_two_slashes(const char *text)
{
	const char *at = strstr(text, "://");

	return at && at == text + strcspn(text, ":/") && at[3] && at[3] != '/';
}

const char *http_url_check(char dst[HTTP_URL_MAX], const char *url, size_t len,
			   bool insecure_loopback)
{
	CURLU *u __attribute__((cleanup(url_cleanup))) = curl_url();
	const char *fault;
	char text[HTTP_URL_MAX];

	if (!u)
		return "cannot be read: no memory";
	if (len == 0)
		return "is empty";
	if (len >= HTTP_URL_MAX)
		return "is too long";
	memcpy(text, url, len);
	text[len] = '\0';
	if (!keyproto_printable(text, len) || strpbrk(text, " \"<>\\^`{|}"))
		return "has characters that no URL has";
	if (!has_two_slashes(text) ||
	    curl_url_set(u, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME))
		return "is no URL";
	fault = check_scheme(u, insecure_loopback);
	if (fault)
		return fault;
	if (strchr(text, '@') || has_part(u, CURLUPART_USER))
		return "has a user in it: credentials belong into their own options";
	if (strpbrk(text, "?#"))
		return "has a query or a fragment";
	while (len > 0 && text[len - 1] == '/')
		text[--len] = '\0';
	snprintf(dst, HTTP_URL_MAX, "%s", text);
	return NULL;
}
