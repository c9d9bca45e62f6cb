/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What replies say: errors of several services' forms, and JSON. */
#include <stdio.h>
#include <string.h>

#include "crypto/jsonget.h"
#include "crypto/keys/http_parts.h"
#include "util/untrusted.h"

static void put_tokener(struct json_tokener **t)
{
	if (*t)
		json_tokener_free(*t);
}

struct json_object *http_json(const struct http_reply *r)
{
	struct json_tokener *t __attribute__((cleanup(put_tokener))) =
		json_tokener_new_ex(HTTP_JSON_DEPTH);
	auto_json struct json_object *o = NULL;

	if (!t || r->len == 0 || r->len > HTTP_REPLY_LIMIT ||
	    memchr(r->body, '\0', r->len))
		return NULL;
	json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	/* With its NUL: so that a number at the end is known to be whole. */
	o = json_tokener_parse_ex(t, r->body, (int)r->len + 1);
	if (json_tokener_get_error(t) != json_tokener_success)
		return NULL;
	return STEAL_PTR(&o);
}

/* The words of an error, in any of the forms that http.h lists; NULL if there are none. */
static const char *error_words(struct json_object *o)
{
	struct json_object *error = jsonget_object(o, "error");
	const char *words = jsonget_string(o, "description");
	const char *list[1];

	if (!words && error)
		words = jsonget_string(error, "message");
	if (!words)
		words = jsonget_string(o, "error");
	if (!words)
		words = jsonget_string(o, "message");
	if (!words && jsonget_strings(o, "errors", list, 1) == 1)
		words = list[0];
	return words;
}

static bool is_html(const struct http_reply *r)
{
	return strstr(r->content_type, "html") ||
	       (r->len && r->body[strspn(r->body, " \t\r\n")] == '<');
}

void http_error_text(const struct http_reply *r, char *dst, size_t room)
{
	auto_json struct json_object *o = http_json(r);
	const char *words = o ? error_words(o) : NULL;

	if (words)
		untrusted_text(dst, room, words, strlen(words));
	else if (r->len == 0)
		snprintf(dst, room, "no text");
	else if (is_html(r))
		snprintf(dst, room, "a page of HTML, perhaps of a proxy");
	else
		snprintf(dst, room, "%zu bytes that are no known form of error", r->len);
}

vcf_err_t http_fail_advice(const struct http *h, const struct http_reply *r,
			   const char *what, enum key_error kind, const char *advice,
			   struct helper_failure *f)
{
	char text[160];
	vcf_err_t err;

	http_error_text(r, text, sizeof(text));
	err = helper_fail(f, kind, "%.150s answers %d to %s: %s%s%s", http_endpoint(h),
			  r->status, what, text, *advice ? "; " : "", advice);
	f->retry_after_s = r->retry_after_s;
	return err;
}

vcf_err_t http_fail_status(const struct http *h, const struct http_reply *r,
			   const char *what, struct helper_failure *f)
{
	if (r->status >= 300 && r->status < 400)
		return http_fail_advice(
			h, r, what, KEY_UNAVAILABLE,
			"redirects are not followed, set the endpoint to the "
			"final URL",
			f);
	if (r->status == 507)
		return http_fail_advice(h, r, what, KEY_QUOTA, "", f);
	if (r->status >= 500 || r->status == 429 || r->status == 408 || r->status == 425)
		return http_fail_advice(h, r, what, KEY_UNAVAILABLE, "", f);
	if (r->status == 401 || r->status == 403)
		return http_fail_advice(h, r, what, KEY_DENIED, "", f);
	if (r->status == 404 || r->status == 410)
		return http_fail_advice(h, r, what, KEY_NOTFOUND, "", f);
	return http_fail_advice(h, r, what, KEY_INVALID, "", f);
}
