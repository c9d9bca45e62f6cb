/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Source: https://docs.openstack.org/barbican/latest/api/ */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "crypto/jsonget.h"
#include "crypto/keys/barbican_parts.h"
#include "util/parse.h"

/* The newest whose meaning we know: consumers guard a secret against deletion. */
enum { MINOR_MAX = 2 };

bool barbican_id_valid(const char *id)
{
	for (size_t i = 0; i < BARBICAN_ID_LEN; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;
		bool hex =
			(id[i] >= '0' && id[i] <= '9') || (id[i] >= 'a' && id[i] <= 'f');

		if (dash ? id[i] != '-' : !hex)
			return false; /* also at an early end */
	}
	return id[BARBICAN_ID_LEN] == '\0';
}

vcf_err_t barbican_ref_id(const char *ref, char id[BARBICAN_ID_LEN + 1])
{
	const char *last = ref ? strrchr(ref, '/') : NULL;

	if (!last || !barbican_id_valid(last + 1))
		return -EBADMSG;
	memcpy(id, last + 1, BARBICAN_ID_LEN + 1);
	return 0;
}

void barbican_create_body(struct lockbuf *out, const char *label,
			  const unsigned char *secret, size_t len)
{
	lockbuf_add_text(out, "{\"name\":");
	lockbuf_add_json(out, label, strlen(label));
	lockbuf_add_text(out, ",\"secret_type\":\"symmetric\",\"algorithm\":\"aes\","
			      "\"bit_length\":256,"
			      "\"payload_content_type\":\"application/octet-stream\","
			      "\"payload_content_encoding\":\"base64\",\"payload\":\"");
	lockbuf_add_base64(out, secret, len);
	lockbuf_add_text(out, "\"}");
}

void barbican_consumer_body(struct lockbuf *out, const char *label)
{
	lockbuf_add_text(out, "{\"service\":\"vmcryptfs\",\"resource_type\":\"image\","
			      "\"resource_id\":");
	lockbuf_add_json(out, label, strlen(label));
	lockbuf_add_text(out, "}");
}

void barbican_acl_body(struct lockbuf *out, const char *users)
{
	lockbuf_add_text(out, "{\"read\":{\"project-access\":false,\"users\":[");
	while (*users) {
		size_t len = strcspn(users, ", ");

		if (len) {
			if (out->data[out->len - 1] != '[')
				lockbuf_add_text(out, ",");
			lockbuf_add_json(out, users, len);
		}
		users += len;
		users += strspn(users, ", ");
	}
	lockbuf_add_text(out, "]}}");
}

/* "2026-11-22T18:29:26.820436" is meant in UTC, and does not say so. */
static void take_created(char dst[32], const char *text)
{
	int n = text ? snprintf(dst, 32, "%s%s", text, strchr(text, 'Z') ? "" : "Z") : 32;

	if (n >= 32 || !keyproto_created_valid(dst))
		snprintf(dst, 32, "-");
}

vcf_err_t barbican_record_parse(struct json_object *o, struct barbican_record *out)
{
	const char *name = jsonget_string(o, "name");
	struct barbican_record r = {0};
	int64_t bits;

	if (barbican_ref_id(jsonget_string(o, "secret_ref"), r.id))
		return -EBADMSG;
	if (!name || strlen(name) > KEYPROTO_LABEL_MAX || !keyproto_label_valid(name) ||
	    !jsonget_is(o, "secret_type", "symmetric") ||
	    !jsonget_int(o, "bit_length", 256, 256, &bits))
		return -ENOENT;
	snprintf(r.label, sizeof(r.label), "%s", name);
	take_created(r.created, jsonget_string(o, "created"));
	*out = r;
	return 0;
}

vcf_err_t barbican_page_parse(struct json_object *o, struct barbican_page *out)
{
	struct json_object *list;

	if (!jsonget_int(o, "total", 0, INT64_C(1) << 40, &out->total) ||
	    !json_object_object_get_ex(o, "secrets", &list) ||
	    !json_object_is_type(list, json_type_array))
		return -EBADMSG;
	out->secrets = list;
	out->cnt = json_object_array_length(list);
	return 0;
}

bool barbican_is_quota(struct json_object *reply)
{
	const char *words = jsonget_string(reply, "description");

	return words && strcasestr(words, "quota");
}

unsigned int barbican_minor(const char *offered)
{
	static const char prefix[] = "key-manager 1.";
	uint64_t minor;

	if (strncmp(offered, prefix, sizeof(prefix) - 1) != 0 ||
	    parse_u64(offered + sizeof(prefix) - 1, 0, 9999, &minor))
		return 0;
	return minor < MINOR_MAX ? (unsigned int)minor : MINOR_MAX;
}
