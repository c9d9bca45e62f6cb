/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/keys/http.h"

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/keys/credential.h"
#include "crypto/keys/deadline.h"
#include "crypto/keys/http_parts.h"
#include "util/clock.h"

enum { HEADERS_LEN_MAX = 64 * 1024, CONNECT_TIMEOUT_S = 5, REQUEST_TIMEOUT_S = 15 };

struct http {
	const char *service;
	struct http_options o;
	char endpoints[HTTP_ENDPOINTS_MAX][HTTP_URL_MAX];
	size_t endpoint_cnt;
	size_t current; /* whose turn it is */
	size_t asked;	/* who had the last request: texts name this one */
	char client_key[CREDENTIAL_PATH_MAX], client_cert[CREDENTIAL_PATH_MAX];
	CURL *curl;
	struct lockbuf *body; /* of the last reply */
	char said[CURL_ERROR_SIZE];
	/* The request under way. */
	const struct http_request *q;
	size_t reply_max, headers_len;
	bool too_large;
};

/* --- making one --- */

static vcf_err_t add_endpoint(struct http *h, const char *option, const char *url,
			      size_t len, struct helper_failure *f)
{
	const char *fault;

	if (h->endpoint_cnt == HTTP_ENDPOINTS_MAX)
		return helper_fail(f, KEY_INVALID, "%s: more than %d endpoints", option,
				   HTTP_ENDPOINTS_MAX);
	fault = http_url_check(h->endpoints[h->endpoint_cnt], url, len,
			       h->o.insecure_loopback);
	if (fault)
		return helper_fail(f, KEY_INVALID, "%s: %.*s %s", option,
				   (int)(len > 200 ? 200 : len), url, fault);
	h->endpoint_cnt++;
	return 0;
}

static vcf_err_t add_endpoints(struct http *h, const char *option, const char *urls,
			       struct helper_failure *f)
{
	const char *end;
	vcf_err_t err;

	do {
		urls += strspn(urls, " ");
		end = urls + strcspn(urls, ", ");
		err = add_endpoint(h, option, urls, (size_t)(end - urls), f);
		if (err)
			return err;
		end += strspn(end, " ");
		urls = end + 1;
	} while (*end == ',');
	if (*end)
		return helper_fail(f, KEY_INVALID, "%s: separate URLs with commas",
				   option);
	return 0;
}

/* curl reads both files itself, so they are looked at before. */
static vcf_err_t check_client_cert(struct http *h, struct helper_failure *f)
{
	vcf_err_t err;

	if (!*h->o.client_cert != !*h->o.client_key)
		return helper_fail(
			f, KEY_INVALID,
			"client-cert and client-key belong together: one is not set");
	if (!*h->o.client_cert)
		return 0;
	err = credential_path(h->client_cert, "client-cert", h->o.client_cert, f);
	if (!err)
		err = credential_path(h->client_key, "client-key", h->o.client_key, f);
	return err ? err : credential_check("client-key", h->o.client_key, f);
}

static size_t on_body(char *data, size_t size, size_t cnt, void *arg)
{
	struct http *h = arg;

	if (size * cnt > h->reply_max - h->body->len) {
		h->too_large = true;
		return 0;
	}
	lockbuf_add(h->body, data, size * cnt);
	return size * cnt;
}

/* A reply's header, "Name: value" without what ends the line. */
static void split_header(const struct http_request *q, char *line)
{
	char *colon = strchr(line, ':');
	char *value;

	if (!colon)
		return;
	*colon = '\0';
	value = colon + 1 + strspn(colon + 1, " \t");
	q->on_header(q->arg, line, value);
}

static size_t on_header(char *data, size_t size, size_t cnt, void *arg)
{
	struct http *h = arg;
	size_t len = size * cnt, n = len;
	char *line;

	h->headers_len += len;
	if (h->headers_len > HEADERS_LEN_MAX) {
		h->too_large = true;
		return 0;
	}
	while (n > 0 &&
	       (data[n - 1] == '\n' || data[n - 1] == '\r' || data[n - 1] == ' '))
		n--;
	if (!h->q->on_header || n == 0 || memchr(data, '\0', n))
		return len;
	line = strndup(data, n);
	if (!line)
		return 0;
	split_header(h->q, line);
	secret_wipe(line, n); /* it may be a token */
	free(line);
	return len;
}

/* Errors of single options cannot come: all are known to the curl that we were built for. */
static void set_tls(const struct http *h)
{
	CURL *c = h->curl;

	curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(c, CURLOPT_CA_CACHE_TIMEOUT,
			 60L);		     /* a new ca-file is seen soon */
	if (*h->o.ca_file || *h->o.ca_dir) { /* these alone, none of the system's */
		curl_easy_setopt(c, CURLOPT_CAINFO, *h->o.ca_file ? h->o.ca_file : NULL);
		curl_easy_setopt(c, CURLOPT_CAPATH, *h->o.ca_dir ? h->o.ca_dir : NULL);
	}
	if (*h->client_cert) {
		curl_easy_setopt(c, CURLOPT_SSLCERT, h->client_cert);
		curl_easy_setopt(c, CURLOPT_SSLKEY, h->client_key);
	}
}

static void set_constants(struct http *h)
{
	CURL *c = h->curl;

	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, h->said);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR,
			 h->o.insecure_loopback ? "https,http" : "https");
	curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(c, CURLOPT_PROXY, "");
	curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(c, CURLOPT_HTTPAUTH, CURLAUTH_NONE);
	curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(c, CURLOPT_MAXCONNECTS, 2L);
	curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
	/* A name server that is silent keeps curl's own thread, not us: there are others. */
	curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, h);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, h);
	curl_easy_setopt(c, CURLOPT_USERAGENT, "vmcryptfs");
	set_tls(h);
}

static vcf_err_t start_curl(struct http *h)
{
	static bool ready;

	if (!ready && curl_global_init(CURL_GLOBAL_DEFAULT))
		return -ENOMEM;
	ready = true;
	h->curl = curl_easy_init();
	if (!h->curl)
		return -ENOMEM;
	set_constants(h);
	return 0;
}

DEFINE_AUTO(http, struct http *, http_free)

vcf_err_t http_new(struct http **out, const char *service, const char *option,
		   const char *urls, const struct http_options *o,
		   struct helper_failure *f)
{
	struct http *h __attribute__((cleanup(cleanup_http))) = calloc(1, sizeof(*h));
	vcf_err_t err;

	if (!h)
		return helper_fail(f, KEY_UNAVAILABLE, "no memory");
	h->service = service;
	h->o = *o;
	if (!h->o.connect_timeout_s)
		h->o.connect_timeout_s = CONNECT_TIMEOUT_S;
	if (!h->o.request_timeout_s)
		h->o.request_timeout_s = REQUEST_TIMEOUT_S;
	err = add_endpoints(h, option, urls, f);
	if (!err)
		err = check_client_cert(h, f);
	if (err)
		return err;
	if (lockbuf_new(&h->body, HTTP_REPLY_LIMIT))
		return helper_fail(
			f, KEY_UNAVAILABLE,
			"cannot lock memory for replies: raise RLIMIT_MEMLOCK");
	if (start_curl(h))
		return helper_fail(f, KEY_UNAVAILABLE, "libcurl cannot be set up");
	*out = STEAL_PTR(&h);
	return 0;
}

void http_free(struct http *h)
{
	if (!h)
		return;
	if (h->curl)
		curl_easy_cleanup(h->curl);
	lockbuf_free(h->body);
	free(h);
}

const char *http_endpoint(const struct http *h)
{
	return h->endpoints[h->asked];
}

void http_forget(struct http *h)
{
	lockbuf_reset(h->body);
}

/* --- a request --- */

static void free_headers(struct curl_slist **list)
{
	for (struct curl_slist *i = *list; i; i = i->next)
		secret_wipe(i->data, strlen(i->data)); /* tokens */
	curl_slist_free_all(*list);
}
#define auto_headers __attribute__((cleanup(free_headers)))

static vcf_err_t add_header(struct curl_slist **list, struct lockbuf *line,
			    const char *name, const char *value)
{
	struct curl_slist *longer;

	if (!keyproto_printable(value, strlen(value)))
		return -EINVAL; /* a line's end would begin another header */
	lockbuf_reset(line);
	lockbuf_add_text(line, name);
	lockbuf_add_text(line,
			 *value ? ": " : ":"); /* without a value: not sent at all */
	lockbuf_add_text(line, value);
	if (line->full)
		return -EMSGSIZE;
	longer = curl_slist_append(*list, line->data);
	if (!longer)
		return -ENOMEM;
	*list = longer;
	return 0;
}

static vcf_err_t make_headers(struct curl_slist **list, const struct http_request *q)
{
	auto_lockbuf struct lockbuf *line = NULL;
	vcf_err_t err = lockbuf_new(&line, HTTP_HEADER_MAX);

	if (!err)
		err = add_header(list, line, "Expect", "");
	for (const struct http_header *i = q->headers; !err && i && i->name; i++) {
		if (i->value)
			err = add_header(list, line, i->name, i->value);
	}
	return err;
}

static bool is_get(const struct http_request *q)
{
	return strcmp(q->method, "GET") == 0 || strcmp(q->method, "LIST") == 0;
}

/* Other endpoints want their turn as well. */
static void set_time(struct http *h, size_t endpoints_left)
{
	uint64_t end = helper_deadline_ms(), now = clock_now_ms(), left = UINT64_MAX, ms;
	uint64_t connect_ms = h->o.connect_timeout_s * UINT64_C(1000);

	if (end != UINT64_MAX)
		left = end > now ? end - now : 0;
	ms = deadline_share_ms(left, endpoints_left,
			       h->o.request_timeout_s * UINT64_C(1000));
	curl_easy_setopt(h->curl, CURLOPT_TIMEOUT_MS, (long)ms);
	curl_easy_setopt(h->curl, CURLOPT_CONNECTTIMEOUT_MS,
			 (long)(connect_ms < ms ? connect_ms : ms));
}

static void set_request(struct http *h, const struct http_request *q, const char *url,
			struct curl_slist *headers)
{
	CURL *c = h->curl;

	curl_easy_setopt(c, CURLOPT_URL, url);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(c, CURLOPT_HTTPGET, 1L); /* undoes the last request's POST */
	if (q->body) {
		curl_easy_setopt(c, CURLOPT_POST, 1L);
		curl_easy_setopt(c, CURLOPT_POSTFIELDS, q->body->data); /* no copy */
		curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE, (long)q->body->len);
	}
	curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, q->method);
	curl_easy_setopt(c, CURLOPT_FRESH_CONNECT,
			 !is_get(q) && !q->repeatable ? 1L : 0L);
	curl_easy_setopt(c, CURLOPT_MAXFILESIZE, (long)h->reply_max);
}

static long info_long(const struct http *h, CURLINFO info)
{
	long v = 0;

	curl_easy_getinfo(h->curl, info, &v);
	return v;
}

static double info_seconds(const struct http *h, CURLINFO info)
{
	double v = 0;

	curl_easy_getinfo(h->curl, info, &v);
	return v;
}

static enum http_stage stage_of(const struct http *h)
{
	if (info_seconds(h, CURLINFO_PRETRANSFER_TIME) > 0)
		return HTTP_WAITING;
	return info_seconds(h, CURLINFO_CONNECT_TIME) > 0 ? HTTP_HANDSHAKE
							  : HTTP_CONNECTING;
}

static vcf_err_t fail_curl(struct http *h, CURLcode code, struct helper_failure *f)
{
	char said[CURL_ERROR_SIZE];
	struct http_fault x = {
		.service = h->service,
		.endpoint = http_endpoint(h),
		.code = (int)code,
		.said = said,
		.verify = info_long(h, CURLINFO_SSL_VERIFYRESULT),
		.os_errno = (int)info_long(h, CURLINFO_OS_ERRNO),
		.too_large = h->too_large || code == CURLE_FILESIZE_EXCEEDED,
		.reply_max = h->reply_max,
		.ca = *h->o.ca_file ? h->o.ca_file : h->o.ca_dir,
		.client_cert = *h->client_cert,
		.stage = stage_of(h),
		.seconds = (unsigned int)(info_seconds(h, CURLINFO_TOTAL_TIME) + 0.5),
	};

	http_printable(said, sizeof(said), h->said, strlen(h->said));
	return http_fail_fault(&x, f);
}

static void fill_reply(const struct http *h, struct http_reply *r)
{
	const char *type = NULL;
	curl_off_t wait = 0;

	*r = (struct http_reply){.status = (int)info_long(h, CURLINFO_RESPONSE_CODE),
				 .body = h->body->data,
				 .len = h->body->len};
	curl_easy_getinfo(h->curl, CURLINFO_CONTENT_TYPE, &type);
	curl_easy_getinfo(h->curl, CURLINFO_RETRY_AFTER, &wait);
	if (type)
		http_printable(r->content_type, sizeof(r->content_type), type,
			       strcspn(type, "; "));
	for (char *c = r->content_type; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	if (wait > 0)
		r->retry_after_s = wait < KEYPROTO_RETRY_AFTER_MAX
					   ? (unsigned int)wait
					   : KEYPROTO_RETRY_AFTER_MAX;
}

/* One request to the current endpoint. *sent: it may have been received. */
static vcf_err_t attempt(struct http *h, const struct http_request *q,
			 struct http_reply *r, bool *sent, struct helper_failure *f)
{
	auto_headers struct curl_slist *headers = NULL;
	char url[HTTP_URL_MAX + 2048];
	CURLcode code;
	int n;

	*sent = false;
	h->asked = h->current;
	n = snprintf(url, sizeof(url), "%s%s", http_endpoint(h), q->path);
	if (n >= (int)sizeof(url) || make_headers(&headers, q))
		return helper_fail(f, KEY_INVALID, "a request to %s cannot be made",
				   h->service);
	h->q = q;
	h->reply_max = q->reply_max ? q->reply_max : HTTP_REPLY_MAX;
	h->headers_len = 0;
	h->too_large = false;
	*h->said = '\0';
	lockbuf_reset(h->body);
	set_request(h, q, url, headers);
	code = curl_easy_perform(h->curl);
	curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, NULL);
	*sent = info_long(h, CURLINFO_REQUEST_SIZE) > 0;
	if (code) {
		lockbuf_reset(h->body);
		return fail_curl(h, code, f);
	}
	fill_reply(h, r);
	return 0;
}

static bool endpoint_failed(vcf_err_t err, const struct http_reply *r,
			    const struct helper_failure *f)
{
	if (err)
		return f->kind == KEY_UNAVAILABLE;
	if (r->status == 307 || r->status == 472 || r->status == 473)
		return true; /* a standby of Vault's */
	return r->status >= 500 && r->status != 501;
}

/* The next endpoint's turn. */
static void turn(struct http *h, vcf_err_t err, const struct http_reply *r,
		 const struct helper_failure *f)
{
	const char *next;

	h->current = (h->current + 1) % h->endpoint_cnt;
	next = h->endpoints[h->current];
	if (err)
		helper_log("%s; going on with %s", f->text, next);
	else
		helper_log("%s answers %d; going on with %s", http_endpoint(h), r->status,
			   next);
}

vcf_err_t http_do(struct http *h, const struct http_request *q, struct http_reply *r,
		  struct helper_failure *f)
{
	vcf_err_t err = 0;

	for (size_t i = 0; i < h->endpoint_cnt; i++) {
		bool sent;

		set_time(h, h->endpoint_cnt - i);
		err = attempt(h, q, r, &sent, f);
		if (h->endpoint_cnt == 1 || !endpoint_failed(err, r, f))
			break;
		turn(h, err, r, f);
		if (sent && !is_get(q) && !q->repeatable)
			break;
	}
	return err;
}
