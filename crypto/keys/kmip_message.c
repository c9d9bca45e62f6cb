/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Replies, names and reasons. Everything read here comes from the network. */
#include "crypto/keys/kmip_message.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "crypto/keys/kmip_tags.h"
#include "util/untrusted.h"

enum { STATUS_SUCCESS = 0, STATUS_FAILED = 1 };

/* --- the frame --- */

static void copy_words(char *dst, size_t room, const struct ttlv_item *text)
{
	untrusted_text(dst, room, (const char *)text->value, text->len);
}

static vcf_err_t read_version(const struct ttlv_reader *around, struct kmip_version *out)
{
	int64_t major = 0, minor = 0;
	struct ttlv_reader r;

	if (ttlv_find_inside(around, TAG_VERSION, &r) ||
	    ttlv_find_number(&r, TAG_VERSION_MAJOR, TTLV_INTEGER, &major) ||
	    ttlv_find_number(&r, TAG_VERSION_MINOR, TTLV_INTEGER, &minor))
		return -EBADMSG;
	*out = (struct kmip_version){(int32_t)major, (int32_t)minor};
	return 0;
}

/* The one item of a reply, which is all that follows its header. */
static vcf_err_t read_frame(const void *buf, size_t len, struct kmip_version *v,
			    struct ttlv_reader *item)
{
	struct ttlv_reader whole, message, header;
	int64_t cnt = 0;

	if (ttlv_check(buf, len))
		return -EBADMSG;
	ttlv_reader_init(&whole, buf, len);
	if (ttlv_find_inside(&whole, TAG_REPLY, &message) ||
	    ttlv_find_inside(&message, TAG_REPLY_HEADER, &header) ||
	    ttlv_find_number(&header, TAG_BATCH_COUNT, TTLV_INTEGER, &cnt) || cnt != 1 ||
	    read_version(&header, v))
		return -EBADMSG;
	return ttlv_find_inside(&message, TAG_BATCH_ITEM, item) ? -EBADMSG : 0;
}

static vcf_err_t read_refusal(const struct ttlv_reader *item, struct kmip_reply *out)
{
	struct ttlv_item text;
	int64_t reason = 0;

	if (ttlv_find_number(item, TAG_RESULT_REASON, TTLV_ENUM, &reason))
		return -EBADMSG; /* required with a failure */
	out->reason = (uint32_t)reason;
	if (ttlv_find(item, TAG_RESULT_MESSAGE, TTLV_TEXT, &text) == 0)
		copy_words(out->message, sizeof(out->message), &text);
	return -EREMOTEIO;
}

/*
 * A server that cannot even read a request refuses in a version of its own choice, and without
 * repeating the operation.
 */
vcf_err_t kmip_read_reply(const void *buf, size_t len, struct kmip_version v,
			  enum kmip_op op, struct kmip_reply *out)
{
	int64_t status = 0, echo = 0;
	struct kmip_version theirs;
	struct ttlv_reader item;
	vcf_err_t err = read_frame(buf, len, &theirs, &item);

	if (err)
		return err;
	*out = (struct kmip_reply){.reason = 0};
	err = ttlv_find_number(&item, TAG_OPERATION, TTLV_ENUM, &echo);
	if ((err && err != -ENODATA) || (!err && echo != (int64_t)op))
		return -EBADMSG;
	if (ttlv_find_number(&item, TAG_RESULT_STATUS, TTLV_ENUM, &status))
		return -EBADMSG;
	if (status == STATUS_FAILED)
		return read_refusal(&item, out);
	if (status != STATUS_SUCCESS || err || theirs.major != v.major ||
	    theirs.minor != v.minor)
		return -EBADMSG;
	err = ttlv_find_inside(&item, TAG_REPLY_PAYLOAD, &out->payload);
	return err && err != -ENODATA ? -EBADMSG : 0;
}

/* --- what the server can do --- */

/* How much we like a version; 0: not at all. 2.0 is younger than our experience with it. */
static int liking(struct kmip_version v)
{
	if (v.major == 1 && v.minor >= 2 && v.minor <= 4)
		return v.minor;
	return v.major == 2 && v.minor == 0;
}

vcf_err_t kmip_read_versions(const struct kmip_reply *r, struct kmip_version *out)
{
	struct ttlv_reader all = r->payload;
	struct ttlv_item item;
	int best = 0;

	while (ttlv_next(&all, &item) == 0) {
		struct ttlv_reader one;
		struct kmip_version v;

		/* As if it were alone: read_version() looks for the only one. */
		ttlv_reader_init(&one, item.value - TTLV_HEADER_LEN,
				 item.len + TTLV_HEADER_LEN);
		if (item.tag != TAG_VERSION || item.type != TTLV_STRUCTURE ||
		    read_version(&one, &v) || liking(v) <= best)
			continue;
		best = liking(v);
		*out = v;
	}
	return best ? 0 : -EPROTONOSUPPORT;
}

bool kmip_query_has(const struct kmip_reply *r, enum kmip_op op)
{
	struct ttlv_reader all = r->payload;
	struct ttlv_item item;

	while (ttlv_next(&all, &item) == 0)
		if (item.tag == TAG_OPERATION && item.type == TTLV_ENUM &&
		    ttlv_number(&item) == (int64_t)op)
			return true;
	return false;
}

void kmip_query_vendor(const struct kmip_reply *r, char vendor[KMIP_TEXT_MAX + 1])
{
	struct ttlv_item text;

	*vendor = '\0';
	if (ttlv_find(&r->payload, TAG_VENDOR, TTLV_TEXT, &text) == 0)
		copy_words(vendor, KMIP_TEXT_MAX + 1, &text);
}

/* --- identifiers --- */

vcf_err_t kmip_read_id(const struct kmip_reply *r, char id[TOKEN_KEY_ID_MAX + 1])
{
	char text[TOKEN_KEY_ID_MAX + 1];
	struct ttlv_item item;

	if (ttlv_find(&r->payload, TAG_UNIQUE_ID, TTLV_TEXT, &item))
		return -EBADMSG;
	if (ttlv_text(&item, text, sizeof(text)) || !token_key_id_valid(text))
		return -EINVAL;
	memcpy(id, text, strlen(text) + 1);
	return 0;
}

vcf_err_t kmip_next_id(struct kmip_reply *r, char id[TOKEN_KEY_ID_MAX + 1])
{
	char text[TOKEN_KEY_ID_MAX + 1];
	struct ttlv_item item;
	vcf_err_t err;

	do {
		err = ttlv_next(&r->payload, &item);
	} while (!err && item.tag != TAG_UNIQUE_ID);
	if (err)
		return err;
	if (item.type != TTLV_TEXT)
		return -EBADMSG;
	if (ttlv_text(&item, text, sizeof(text)) || !token_key_id_valid(text))
		return -EINVAL;
	memcpy(id, text, strlen(text) + 1);
	return 0;
}

/* --- keys --- */

/* A number that may be missing, but may not be another. */
static bool is_or_missing(const struct ttlv_reader *r, uint32_t tag, enum ttlv_type type,
			  int64_t want)
{
	int64_t got = 0;
	vcf_err_t err = ttlv_find_number(r, tag, type, &got);

	return err == -ENODATA || (!err && got == want);
}

/* Only what we have stored ourselves is a secret of ours. */
static vcf_err_t check_block(const struct ttlv_reader *block)
{
	struct ttlv_reader wrapping;
	int64_t format = 0;

	if (ttlv_find_inside(block, TAG_KEY_WRAPPING, &wrapping) != -ENODATA)
		return -EPROTOTYPE;
	if (ttlv_find_number(block, TAG_KEY_FORMAT, TTLV_ENUM, &format))
		return -EBADMSG;
	if (format != FORMAT_RAW ||
	    !is_or_missing(block, TAG_ALGORITHM, TTLV_ENUM, ALGORITHM_AES))
		return -EPROTOTYPE;
	return is_or_missing(block, TAG_LENGTH, TTLV_INTEGER, SECRET_LEN * 8) ? 0
									      : -EMSGSIZE;
}

static vcf_err_t check_object(const struct kmip_reply *r, const char *id)
{
	char got[TOKEN_KEY_ID_MAX + 1];
	int64_t type = 0;

	if (ttlv_find_number(&r->payload, TAG_OBJECT_TYPE, TTLV_ENUM, &type))
		return -EBADMSG;
	if (type != OBJECT_SYMMETRIC_KEY)
		return -EPROTOTYPE;
	if (kmip_read_id(r, got) || strcmp(got, id) != 0)
		return -ESTALE;
	return 0;
}

vcf_err_t kmip_read_key(const struct kmip_reply *r, const char *id,
			const unsigned char **key)
{
	struct ttlv_reader object, block, value;
	struct ttlv_item material;
	vcf_err_t err = check_object(r, id);

	if (err)
		return err;
	if (ttlv_find_inside(&r->payload, TAG_SYMMETRIC_KEY, &object) ||
	    ttlv_find_inside(&object, TAG_KEY_BLOCK, &block))
		return -EBADMSG;
	err = check_block(&block);
	if (err)
		return err;
	if (ttlv_find_inside(&block, TAG_KEY_VALUE, &value) ||
	    ttlv_find(&value, TAG_KEY_MATERIAL, TTLV_BYTES, &material))
		return -EBADMSG;
	if (material.len != SECRET_LEN)
		return -EMSGSIZE;
	*key = material.value;
	return 0;
}

/* --- attributes --- */

void kmip_name(char dst[KMIP_NAME_MAX + 1], const char *prefix, const char *label, int n)
{
	if (n <= 1)
		snprintf(dst, KMIP_NAME_MAX + 1, "%s%s", prefix, label);
	else
		snprintf(dst, KMIP_NAME_MAX + 1, "%s%s#%d", prefix, label, n % 10);
}

/* The label in a name; false if the name is none of ours. */
static bool label_of_name(const char *name, const char *prefix,
			  char label[KEYPROTO_LABEL_MAX + 1])
{
	size_t skip = strlen(prefix), len;

	if (strncmp(name, prefix, skip) != 0)
		return false;
	name += skip;
	len = strlen(name);
	if (len > 2 && name[len - 2] == '#' && name[len - 1] >= '2' &&
	    name[len - 1] <= '0' + KMIP_NAMES)
		len -= 2;
	if (len > KEYPROTO_LABEL_MAX)
		return false;
	memcpy(label, name, len);
	label[len] = '\0';
	return keyproto_label_valid(label);
}

struct collected {
	struct kmip_attributes *out;
	const char *prefix;
	bool labelled;
};

/* An object may have several names, of others too. Two labels are as good as none. */
static void take_name(struct collected *c, const struct ttlv_item *value)
{
	char name[KMIP_NAME_MAX + 1], label[KEYPROTO_LABEL_MAX + 1];
	struct ttlv_reader inside;

	if (value->type != TTLV_STRUCTURE)
		return;
	ttlv_inside(value, &inside);
	if (ttlv_find_text(&inside, TAG_NAME_VALUE, name, sizeof(name)) ||
	    !label_of_name(name, c->prefix, label))
		return;
	if (c->labelled)
		*c->out->label = '\0';
	else
		memcpy(c->out->label, label, strlen(label) + 1);
	c->labelled = true;
}

static void take(struct collected *c, uint32_t tag, const struct ttlv_item *value)
{
	if (tag == TAG_NAME)
		take_name(c, value);
	else if (tag == TAG_STATE && value->type == TTLV_ENUM)
		c->out->state = (enum kmip_state)ttlv_number(value);
	else if (tag == TAG_INITIAL_DATE && value->type == TTLV_DATE)
		c->out->initial_date = ttlv_number(value);
}

/* Which attribute a 1.x {name, value} is, in tags of 2.0; 0: none that we know. */
static uint32_t attribute_tag(const struct ttlv_item *attribute, struct ttlv_item *value)
{
	struct ttlv_reader inside, all;
	char name[32];
	vcf_err_t err;

	ttlv_inside(attribute, &inside);
	all = inside;
	while ((err = ttlv_next(&all, value)) == 0 && value->tag != TAG_ATTRIBUTE_VALUE)
		;
	if (err || ttlv_find_text(&inside, TAG_ATTRIBUTE_NAME, name, sizeof(name)))
		return 0;
	if (strcmp(name, "Name") == 0)
		return TAG_NAME;
	if (strcmp(name, "State") == 0)
		return TAG_STATE;
	return strcmp(name, "Initial Date") == 0 ? TAG_INITIAL_DATE : 0;
}

static void take_item(struct collected *c, const struct ttlv_item *item, bool old)
{
	struct ttlv_item value;

	if (!old)
		take(c, item->tag, item);
	else if (item->tag == TAG_ATTRIBUTE && item->type == TTLV_STRUCTURE)
		take(c, attribute_tag(item, &value), &value);
}

vcf_err_t kmip_read_attributes(const struct kmip_reply *r, struct kmip_version v,
			       const char *prefix, struct kmip_attributes *out)
{
	struct collected c = {.out = out, .prefix = prefix};
	struct ttlv_reader all = r->payload;
	struct ttlv_item item;

	*out = (struct kmip_attributes){.initial_date = -1};
	if (v.major >= 2 && ttlv_find_inside(&r->payload, TAG_ATTRIBUTES, &all))
		return -EBADMSG;
	while (ttlv_next(&all, &item) == 0)
		take_item(&c, &item, v.major < 2);
	return 0;
}

/* --- words --- */

/* Reasons with a meaning of their own; others: the request itself is wrong (invalid). */
static const struct {
	uint32_t reason;
	enum key_error kind;
	const char *name;
} reasons[] = {
	{0x01, KEY_NOTFOUND, "Item Not Found"},
	{0x02, KEY_INVALID, "Response Too Large"},
	{0x03, KEY_DENIED, "Authentication Not Successful"},
	{0x04, KEY_INVALID, "Invalid Message"},
	{0x05, KEY_INVALID, "Operation Not Supported"},
	{0x06, KEY_INVALID, "Missing Data"},
	{0x07, KEY_INVALID, "Invalid Field"},
	{0x08, KEY_INVALID, "Feature Not Supported"},
	{0x09, KEY_UNAVAILABLE, "Operation Canceled By Requester"},
	{0x0a, KEY_UNAVAILABLE, "Cryptographic Failure"},
	{0x0b, KEY_INVALID, "Illegal Operation"},
	{0x0c, KEY_DENIED, "Permission Denied"},
	{0x0d, KEY_DENIED, "Object Archived"},
	{0x14, KEY_DENIED, "Attestation Required"},
	{0x15, KEY_DENIED, "Attestation Failed"},
	{0x16, KEY_DENIED, "Sensitive"},
	{0x17, KEY_DENIED, "Not Extractable"},
	{0x18, KEY_INVALID, "Object Already Exists"},
	{0x1a, KEY_QUOTA, "Usage Limit Exceeded"},
	{0x2a, KEY_UNAVAILABLE, "Internal Server Error"},
	{0x2d, KEY_INVALID, "Invalid Attribute Value"},
	{0x35, KEY_INVALID, "Non Unique Name Attribute"},
	{0x36, KEY_NOTFOUND, "Object Destroyed"},
	{0x37, KEY_NOTFOUND, "Object Not Found"},
	{0x39, KEY_DENIED, "Not Authorised"},
	{0x3a, KEY_QUOTA, "Server Limit Exceeded"},
	{0x3f, KEY_INVALID, "Unsupported Protocol Version"},
	{0x43, KEY_DENIED, "Wrong Key Lifecycle State"},
	{0x44, KEY_UNAVAILABLE, "Protection Storage Unavailable"},
	{0x100, KEY_UNAVAILABLE, "General Failure"},
};

enum { REASON_CNT = sizeof(reasons) / sizeof(reasons[0]) };

enum key_error kmip_reason_kind(uint32_t reason)
{
	for (size_t i = 0; i < REASON_CNT; i++)
		if (reasons[i].reason == reason)
			return reasons[i].kind;
	return KEY_INVALID;
}

const char *kmip_reason_name(uint32_t reason)
{
	for (size_t i = 0; i < REASON_CNT; i++)
		if (reasons[i].reason == reason)
			return reasons[i].name;
	return "another reason";
}

const char *kmip_op_name(enum kmip_op op)
{
	switch (op) {
	case KMIP_REGISTER:
		return "Register";
	case KMIP_LOCATE:
		return "Locate";
	case KMIP_GET:
		return "Get";
	case KMIP_GET_ATTRIBUTES:
		return "GetAttributes";
	case KMIP_ACTIVATE:
		return "Activate";
	case KMIP_REVOKE:
		return "Revoke";
	case KMIP_DESTROY:
		return "Destroy";
	case KMIP_QUERY:
		return "Query";
	default:
		return "DiscoverVersions";
	}
}
