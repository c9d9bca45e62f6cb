/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pure parts of barbican.c, for it and its tests: requests, replies, ids. */
#ifndef VCF_CRYPTO_KEYS_BARBICAN_PARTS_H
#define VCF_CRYPTO_KEYS_BARBICAN_PARTS_H

#include <json-c/json.h>
#include <stdbool.h>

#include "crypto/keyproto.h"
#include "crypto/keys/lockbuf.h"

enum { BARBICAN_ID_LEN = 36 };

/* True for a UUID in its usual form, lower case: the only key ids there are. */
bool barbican_id_valid(const char *id);

/*
 * The UUID at the end of a reference; its host and path are not looked at, for they are
 * whatever the service thinks that it is called. -EBADMSG if there is none.
 */
NODISCARD vcf_err_t barbican_ref_id(const char *ref, char id[BARBICAN_ID_LEN + 1]);

/* The body of POST /v1/secrets. Cinder stores the keys of encrypted volumes so. */
void barbican_create_body(struct lockbuf *out, const char *label,
			  const unsigned char *secret, size_t len);

/* The body of POST and DELETE /v1/secrets/ID/consumers. */
void barbican_consumer_body(struct lockbuf *out, const char *label);

/* The body of PUT /v1/secrets/ID/acl; users: ids separated by commas, may be "". */
void barbican_acl_body(struct lockbuf *out, const char *users);

/* A record, out of its metadata. */
struct barbican_record {
	char id[BARBICAN_ID_LEN + 1];
	char label[KEYPROTO_LABEL_MAX + 1];
	char created[32];
};

/*
 * 0; -ENOENT: a record, but none of ours (another kind of secret, a name that is no label);
 * -EBADMSG: no record at all.
 */
NODISCARD vcf_err_t barbican_record_parse(struct json_object *o,
					  struct barbican_record *out);

/* A page of GET /v1/secrets. */
struct barbican_page {
	struct json_object *secrets; /* the array */
	size_t cnt;
	int64_t total;
};

NODISCARD vcf_err_t barbican_page_parse(struct json_object *o, struct barbican_page *out);

/* A 403: is it a quota (and not a right) that is missing? */
bool barbican_is_quota(struct json_object *reply);

/*
 * The microversion to ask for, of what the service offers at most ("key-manager 1.1", its
 * header OpenStack-API-Version): at most 1.2. 0: none.
 */
unsigned int barbican_minor(const char *offered);

#endif
