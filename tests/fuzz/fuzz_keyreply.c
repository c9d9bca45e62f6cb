/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What key services reply: no body does harm, whoever reads it, and what is made of it has the
 * form of the helpers' protocol. The first byte says where it came from.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "crypto/jsonget.h"
#include "crypto/keys/barbican_parts.h"
#include "crypto/keys/http_parts.h"
#include "crypto/keys/keystone_parts.h"
#include "crypto/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(bool good)
{
	if (!good)
		abort();
}

static void try_text(const struct http_reply *r)
{
	char text[160];

	http_error_text(r, text, sizeof(text));
	must(keyproto_printable(text, strlen(text)));
}

static void try_keystone(struct json_object *o)
{
	char url[HTTP_URL_MAX] = "";
	int64_t life = keystone_lifetime(o);

	must(life != 0);
	if (!keystone_catalog(o, "key-manager", "public", "", url))
		must(strlen(url) < sizeof(url));
}

static void try_record(struct json_object *o)
{
	struct barbican_record r;

	if (barbican_record_parse(o, &r))
		return;
	must(barbican_id_valid(r.id) && token_key_id_valid(r.id));
	must(keyproto_label_valid(r.label) && keyproto_created_valid(r.created));
}

static void try_barbican(struct json_object *o)
{
	struct barbican_page page;

	barbican_is_quota(o);
	try_record(o);
	if (barbican_page_parse(o, &page))
		return;
	for (size_t i = 0; i < page.cnt; i++)
		try_record(json_object_array_get_idx(page.secrets, i));
}

static void try_words(const char *text)
{
	char id[BARBICAN_ID_LEN + 1], urls[256], url[HTTP_URL_MAX];

	must(barbican_minor(text) <= 2);
	if (!barbican_ref_id(text, id))
		must(barbican_id_valid(id));
	if (!keystone_urls(urls, sizeof(urls), text, "/v3", true))
		must(strlen(urls) < sizeof(urls));
	if (!http_url_check(url, text, strlen(text), false))
		must(strncasecmp(url, "https://", 8) == 0 && !strpbrk(url, " \r\n@?#"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	auto_json struct json_object *o = NULL;
	auto_free char *body = NULL;
	struct http_reply r = {0};

	if (len < 1)
		return 0;
	body = strndup((const char *)data + 1, len - 1);
	must(body);
	r.body = body;
	r.len = strlen(body);
	try_text(&r);
	try_words(body);
	o = http_json(&r);
	if (data[0] & 1)
		try_keystone(o);
	else
		try_barbican(o);
	return 0;
}
