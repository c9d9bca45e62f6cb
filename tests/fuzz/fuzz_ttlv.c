/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as a KMIP reply: every reader on it. What is accepted keeps its promises: ids that
 * a header can hold, labels of the grammar, keys that lie inside the message.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/keys/kmip_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(int good)
{
	if (!good)
		abort();
}

static void must_be_text(const char *text)
{
	must(strlen(text) <= KMIP_TEXT_MAX && keyproto_printable(text, strlen(text)));
}

/* Without ttlv_check(): the readers must stand on their own. */
static void fuzz_items(const uint8_t *data, size_t len)
{
	struct ttlv_reader r;
	struct ttlv_item item;
	size_t before = len;

	(void)ttlv_check(data, len);
	ttlv_reader_init(&r, data, len);
	while (ttlv_next(&r, &item) == 0) {
		must(r.left < before && item.value >= data);
		must(item.len <= len && (size_t)(item.value - data) <= len - item.len);
		before = r.left;
	}
}

static void fuzz_ids(struct kmip_reply r)
{
	char id[TOKEN_KEY_ID_MAX + 1];
	vcf_err_t err;

	if (kmip_read_id(&r, id) == 0)
		must(token_key_id_valid(id));
	while ((err = kmip_next_id(&r, id)) == 0 || err == -EINVAL)
		must(err || token_key_id_valid(id));
}

static void fuzz_key(const struct kmip_reply *r, const uint8_t *data, size_t len)
{
	char id[TOKEN_KEY_ID_MAX + 1];
	const unsigned char *key;

	if (kmip_read_id(r, id) || kmip_read_key(r, id, &key))
		return;
	must(key >= data && (size_t)(key - data) + SECRET_LEN <= len);
}

static void fuzz_payload(struct kmip_reply r, struct kmip_version v, const uint8_t *data,
			 size_t len)
{
	char vendor[KMIP_TEXT_MAX + 1];
	struct kmip_version best;
	struct kmip_attributes a;

	fuzz_ids(r);
	fuzz_key(&r, data, len);
	if (kmip_read_versions(&r, &best) == 0)
		must(best.major == 1 || best.major == 2);
	(void)kmip_query_has(&r, KMIP_GET);
	kmip_query_vendor(&r, vendor);
	must_be_text(vendor);
	if (kmip_read_attributes(&r, v, "disk-", &a) == 0)
		must(!*a.label || keyproto_label_valid(a.label));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const enum kmip_op ops[] = {KMIP_REGISTER,	  KMIP_LOCATE, KMIP_GET,
					   KMIP_GET_ATTRIBUTES,	  KMIP_REVOKE, KMIP_QUERY,
					   KMIP_DISCOVER_VERSIONS};
	static const struct kmip_version versions[] = {{1, 2}, {1, 4}, {2, 0}};

	fuzz_items(data, len);
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		for (size_t k = 0; k < sizeof(versions) / sizeof(versions[0]); k++) {
			struct kmip_reply r = {.reason = 0};
			vcf_err_t err =
				kmip_read_reply(data, len, versions[k], ops[i], &r);

			must(!err || err == -EBADMSG || err == -EREMOTEIO);
			must_be_text(r.message);
			if (!err)
				fuzz_payload(r, versions[k], data, len);
		}
	return 0;
}
