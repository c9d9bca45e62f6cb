/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Source: https://docs.openstack.org/api-ref/identity/v3/, "Authentication and token management" */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "crypto/jsonget.h"
#include "crypto/keys/keystone_parts.h"

static void add_member(struct lockbuf *out, const char *name, const char *value)
{
	lockbuf_add_json(out, name, strlen(name));
	lockbuf_add_text(out, ":");
	lockbuf_add_json(out, value, strlen(value));
}

/* "id":..., or "name":... with its domain; domains are "Default" unless said. */
static void add_named(struct lockbuf *out, const char *id, const char *name,
		      const char *domain_id, const char *domain_name)
{
	if (*id) {
		add_member(out, "id", id);
		return;
	}
	add_member(out, "name", name);
	lockbuf_add_text(out, ",\"domain\":{");
	if (*domain_id)
		add_member(out, "id", domain_id);
	else
		add_member(out, "name", *domain_name ? domain_name : "Default");
	lockbuf_add_text(out, "}");
}

static void add_user(struct lockbuf *out, const struct keystone_options *o)
{
	lockbuf_add_text(out, "\"user\":{");
	add_named(out, o->user_id, o->username, o->user_domain_id, o->user_domain_name);
}

static void add_app(struct lockbuf *out, const struct keystone_options *o,
		    const struct lockbuf *secret)
{
	lockbuf_add_text(out, "{\"auth\":{\"identity\":{\"methods\":["
			      "\"application_credential\"],\"application_credential\":{");
	if (*o->app_id) {
		add_member(out, "id", o->app_id);
	} else {
		add_member(out, "name", o->app_name);
		lockbuf_add_text(out, ",");
		add_user(out, o);
		lockbuf_add_text(out, "}");
	}
	lockbuf_add_text(out, ",\"secret\":");
	lockbuf_add_json(out, secret->data, secret->len);
	lockbuf_add_text(out, "}}}}");
}

static void add_password(struct lockbuf *out, const struct keystone_options *o,
			 const struct lockbuf *secret)
{
	lockbuf_add_text(out, "{\"auth\":{\"identity\":{\"methods\":[\"password\"],"
			      "\"password\":{");
	add_user(out, o);
	lockbuf_add_text(out, ",\"password\":");
	lockbuf_add_json(out, secret->data, secret->len);
	lockbuf_add_text(out, "}}},\"scope\":{\"project\":{");
	add_named(out, o->project_id, o->project_name, o->project_domain_id,
		  o->project_domain_name);
	lockbuf_add_text(out, "}}}}");
}

void keystone_request(struct lockbuf *out, const struct keystone_options *o,
		      const struct lockbuf *secret)
{
	if (keystone_by_app(o))
		add_app(out, o, secret);
	else
		add_password(out, o, secret);
}

vcf_err_t keystone_time(const char *text, int64_t *out)
{
	struct tm tm = {0};
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

	if (!rest)
		return -EINVAL;
	if (*rest == '.') {
		size_t digits = strspn(rest + 1, "0123456789");

		if (digits < 1 || digits > 9)
			return -EINVAL;
		rest += 1 + digits;
	}
	if (strcmp(rest, "Z") != 0)
		return -EINVAL;
	*out = timegm(&tm);
	return 0;
}

int64_t keystone_lifetime(struct json_object *reply)
{
	struct json_object *token = jsonget_object(reply, "token");
	const char *issued = jsonget_string(token, "issued_at");
	const char *expires = jsonget_string(token, "expires_at");
	int64_t from, to;

	if (!issued || !expires || keystone_time(issued, &from) ||
	    keystone_time(expires, &to) || to <= from)
		return -EBADMSG;
	return to - from;
}

static struct json_object *list_of(struct json_object *o, const char *name)
{
	struct json_object *list;

	if (!json_object_is_type(o, json_type_object) ||
	    !json_object_object_get_ex(o, name, &list) ||
	    !json_object_is_type(list, json_type_array))
		return NULL;
	return list;
}

static const char *endpoint_of(struct json_object *service, const char *interface,
			       const char *region)
{
	struct json_object *list = list_of(service, "endpoints");

	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *e = json_object_array_get_idx(list, i);

		if (!jsonget_is(e, "interface", interface))
			continue;
		if (!*region || jsonget_is(e, "region_id", region) ||
		    jsonget_is(e, "region", region))
			return jsonget_string(e, "url");
	}
	return NULL;
}

const char *keystone_catalog(struct json_object *reply, const char *type,
			     const char *interface, const char *region,
			     char dst[HTTP_URL_MAX])
{
	struct json_object *list = list_of(jsonget_object(reply, "token"), "catalog");
	bool found = false;

	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *service = json_object_array_get_idx(list, i);
		const char *url;

		if (!jsonget_is(service, "type", type))
			continue;
		found = true;
		url = endpoint_of(service, interface, region);
		if (url && strlen(url) < HTTP_URL_MAX) {
			snprintf(dst, HTTP_URL_MAX, "%s", url);
			return NULL;
		}
	}
	return found ? "has it, but not with this interface and region"
		     : "does not have it";
}
