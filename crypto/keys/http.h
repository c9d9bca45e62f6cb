/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HTTPS for key helpers, over libcurl: one service with one or more endpoints, one kept
 * connection, one request at a time. Not thread-safe.
 *
 * https only, unless insecure-loopback allows http to this very machine. TLS 1.2 or newer;
 * the peer's certificate and name are always checked. No redirects, proxies, netrc,
 * cookies or compression. A reply has a largest size; its body is in locked memory and
 * wiped with the next request. Request bodies are the caller's (struct lockbuf), not copied
 * into curl's own options. What curl and the TLS library hold while a request is under way
 * lies in ordinary heap: helpers link wipefree.c, which wipes whatever anybody frees. Their
 * stacks and buffers still in use are not wiped; the process is not dumpable.
 *
 * Endpoints: a request goes to the one that worked last. One that cannot be reached, answers
 * 5xx (not 501) or as a standby (307, 472, 473), or does not answer within its share of the
 * time (deadline.h), loses its turn to the next; the request itself is only repeated there if
 * it may be (http_request.repeatable, or it has not been sent).
 *
 * Failures: whatever keeps a whole reply from coming is `unavailable`, so the server tries
 * again: refused, DNS, time-outs, a cut-off or too large reply; and also certificates that
 * do not fit, for an operator may mend that while guests wait. The text names the
 * endpoint, the cause and the option to look at.
 */
#ifndef VCF_CRYPTO_KEYS_HTTP_H
#define VCF_CRYPTO_KEYS_HTTP_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

#include "crypto/keys/helper.h"
#include "crypto/keys/lockbuf.h"

enum {
	HTTP_REPLY_MAX = 64 * 1024,	/* unless the request says otherwise */
	HTTP_REPLY_LIMIT = 1024 * 1024, /* the most that it may say */
	HTTP_ENDPOINTS_MAX = 8,
	HTTP_URL_MAX = 512,
	HTTP_HEADER_MAX = 16 * 1024, /* a header of a request, with its name */
	HTTP_JSON_DEPTH = 16,
};

/* --- options, the same for all helpers --- */

struct http_options {
	char ca_file[1024], ca_dir[1024];
	char client_cert[1024], client_key[1024];
	unsigned int connect_timeout_s; /* 0: 5 */
	unsigned int request_timeout_s; /* 0: 15; less if the server gives less */
	bool insecure_loopback;
};

/*
 * Takes one of ca-file, ca-dir, client-cert, client-key (absolute paths; the key also a
 * systemd credential's name), connect-timeout, request-timeout, insecure-loopback.
 * 0; -ENOENT if it is none of these; -EINVAL: bad, and logged. Start with zeros.
 */
NODISCARD vcf_err_t http_option(struct http_options *o, const char *name,
				const char *value);

/*
 * Appends what says whom it trusts and as whom it shows itself: what was had over a weaker trust is
 * not for a service with a stronger one.
 */
/* What these options name. */
void http_options_paths(const struct http_options *o, struct fence *fence);

void http_options_identity(const struct http_options *o, struct lockbuf *out);

/* --- a service --- */

struct http;

/*
 * service  what texts call it ("Barbican"); a literal
 * option   the option that `urls` is from; a literal
 * urls     https://HOST[:PORT][/PATH], several separated by commas
 * o        copied
 * 0, or what helper_fail() returned (invalid: an URL; denied: the client key's file).
 */
NODISCARD vcf_err_t http_new(struct http **out, const char *service, const char *option,
			     const char *urls, const struct http_options *o,
			     struct helper_failure *f);

/* Ends the connection, wipes and frees; NULL is allowed. */
void http_free(struct http *h);

/* The endpoint that the last request went to, for texts; before any, the first. */
const char *http_endpoint(const struct http *h);

struct http_header {
	const char *name;
	const char *value; /* printable ASCII; NULL: the header is left out */
};

struct http_request {
	const char *method; /* GET POST PUT PATCH DELETE LIST */
	const char *path;   /* appended to the endpoint: "/v1/x?y=z", escaped */
	const struct http_header
		*headers;	    /* ends with a name that is NULL; may be NULL */
	const struct lockbuf *body; /* NULL: none */
	size_t reply_max;	    /* 0: HTTP_REPLY_MAX */
	/*
	 * May another endpoint be asked too, when one may have done it already? True for
	 * GET in any case. A POST that makes something must not be: that would be a
	 * second one. It also never goes over a kept connection, since curl repeats a
	 * request by itself when such a connection turns out to be dead.
	 */
	bool repeatable;
	/* Called for each header of the final reply; name and value end with a NUL. */
	void (*on_header)(void *arg, const char *name, const char *value);
	void *arg;
};

struct http_reply {
	int status;
	const char *body; /* NUL behind it; until the next request, http_forget or free */
	size_t len;
	char content_type[64];	    /* lower case, without parameters */
	unsigned int retry_after_s; /* 0: not said */
};

/*
 * One request. 0 with a whole reply of any status, or what helper_fail() returned:
 * unavailable, or invalid if the request itself cannot be sent.
 */
NODISCARD vcf_err_t http_do(struct http *h, const struct http_request *q,
			    struct http_reply *r, struct helper_failure *f);

/* Wipes the last reply's body. */
void http_forget(struct http *h);

/* --- replies --- */

/*
 * Fills f for a status that the caller has no better text for, and returns its errno:
 * 408, 425, 429, 5xx and 3xx unavailable (with retry-after); 401 and 403 denied;
 * 404 and 410 notfound; 507 quota; all else invalid. what: "POST of a secret".
 */
vcf_err_t http_fail_status(const struct http *h, const struct http_reply *r,
			   const char *what, struct helper_failure *f);

/* The same with a kind and an advice of the caller's ("" for none). */
vcf_err_t http_fail_advice(const struct http *h, const struct http_reply *r,
			   const char *what, enum key_error kind, const char *advice,
			   struct helper_failure *f);

/*
 * What a service says in a JSON error, made fit for the log (util/untrusted.h): {"description"},
 * {"error":{"message"}}, {"error":"..."}, {"errors":["..."]}, {"message"}. For all else
 * only what kind of thing the body is; pages of HTML are never quoted.
 */
void http_error_text(const struct http_reply *r, char *dst, size_t room);

/*
 * The body as JSON, whole, at most HTTP_JSON_DEPTH deep; NULL if it is not. The caller
 * puts it. json-c's copies lie in the heap (wipefree.c).
 */
struct json_object *http_json(const struct http_reply *r);

#endif
