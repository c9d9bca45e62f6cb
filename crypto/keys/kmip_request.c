/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests. A 1.x attribute is {name, value}; in 2.0 it is the value with a tag of its own. */
#include <errno.h>
#include <string.h>

#include "crypto/keys/kmip_message.h"
#include "crypto/keys/kmip_tags.h"

/* A request up to the inside of its payload, which three ttlv_end() close. */
static void begin(struct ttlv_writer *w, void *buf, size_t room, struct kmip_version v,
		  enum kmip_op op)
{
	ttlv_writer_init(w, buf, room);
	ttlv_begin(w, TAG_REQUEST);
	ttlv_begin(w, TAG_REQUEST_HEADER);
	ttlv_begin(w, TAG_VERSION);
	ttlv_put_int(w, TAG_VERSION_MAJOR, v.major);
	ttlv_put_int(w, TAG_VERSION_MINOR, v.minor);
	ttlv_end(w);
	ttlv_put_int(w, TAG_BATCH_COUNT, 1);
	ttlv_end(w);
	ttlv_begin(w, TAG_BATCH_ITEM);
	ttlv_put_enum(w, TAG_OPERATION, op);
	ttlv_begin(w, TAG_REQUEST_PAYLOAD);
}

static ssize_t finish(struct ttlv_writer *w)
{
	ttlv_end(w);
	ttlv_end(w);
	ttlv_end(w);
	return ttlv_finish(w);
}

/* What is around an attribute's value: *tag becomes the value's. */
static void begin_attribute(struct ttlv_writer *w, struct kmip_version v,
			    const char *name, uint32_t *tag)
{
	if (v.major >= 2)
		return;
	ttlv_begin(w, TAG_ATTRIBUTE);
	ttlv_put_text(w, TAG_ATTRIBUTE_NAME, name);
	*tag = TAG_ATTRIBUTE_VALUE;
}

static void end_attribute(struct ttlv_writer *w, struct kmip_version v)
{
	if (v.major < 2)
		ttlv_end(w);
}

static void put_name(struct ttlv_writer *w, struct kmip_version v, const char *name)
{
	uint32_t tag = TAG_NAME;

	begin_attribute(w, v, "Name", &tag);
	ttlv_begin(w, tag);
	ttlv_put_text(w, TAG_NAME_VALUE, name);
	ttlv_put_enum(w, TAG_NAME_TYPE, NAME_UNINTERPRETED_TEXT);
	ttlv_end(w);
	end_attribute(w, v);
}

static void put_usage(struct ttlv_writer *w, struct kmip_version v)
{
	uint32_t tag = TAG_USAGE_MASK;

	begin_attribute(w, v, "Cryptographic Usage Mask", &tag);
	ttlv_put_int(w, tag, USAGE_ENCRYPT | USAGE_DECRYPT);
	end_attribute(w, v);
}

static void put_key(struct ttlv_writer *w, const unsigned char key[SECRET_LEN])
{
	ttlv_begin(w, TAG_SYMMETRIC_KEY);
	ttlv_begin(w, TAG_KEY_BLOCK);
	ttlv_put_enum(w, TAG_KEY_FORMAT, FORMAT_RAW);
	ttlv_begin(w, TAG_KEY_VALUE);
	ttlv_put_bytes(w, TAG_KEY_MATERIAL, key, SECRET_LEN);
	ttlv_end(w);
	ttlv_put_enum(w, TAG_ALGORITHM, ALGORITHM_AES);
	ttlv_put_int(w, TAG_LENGTH, SECRET_LEN * 8);
	ttlv_end(w);
	ttlv_end(w);
}

/* Without a list of ours the server answers with all that it knows. */
ssize_t kmip_write_discover(void *buf, size_t room, struct kmip_version v)
{
	struct ttlv_writer w;

	begin(&w, buf, room, v, KMIP_DISCOVER_VERSIONS);
	return finish(&w);
}

ssize_t kmip_write_query(void *buf, size_t room, struct kmip_version v)
{
	struct ttlv_writer w;

	begin(&w, buf, room, v, KMIP_QUERY);
	ttlv_put_enum(&w, TAG_QUERY_FUNCTION, QUERY_OPERATIONS);
	ttlv_put_enum(&w, TAG_QUERY_FUNCTION, QUERY_OBJECTS);
	ttlv_put_enum(&w, TAG_QUERY_FUNCTION, QUERY_SERVER_INFORMATION);
	return finish(&w);
}

ssize_t kmip_write_register(void *buf, size_t room, struct kmip_version v,
			    const char *name, const unsigned char key[SECRET_LEN])
{
	struct ttlv_writer w;

	begin(&w, buf, room, v, KMIP_REGISTER);
	ttlv_put_enum(&w, TAG_OBJECT_TYPE, OBJECT_SYMMETRIC_KEY);
	ttlv_begin(&w, v.major >= 2 ? TAG_ATTRIBUTES : TAG_TEMPLATE_ATTRIBUTE);
	put_usage(&w, v);
	put_name(&w, v, name);
	ttlv_end(&w);
	put_key(&w, key);
	return finish(&w);
}

ssize_t kmip_write_simple(void *buf, size_t room, struct kmip_version v, enum kmip_op op,
			  const char *id)
{
	struct ttlv_writer w;

	begin(&w, buf, room, v, op);
	ttlv_put_text(&w, TAG_UNIQUE_ID, id);
	return finish(&w);
}

ssize_t kmip_write_revoke(void *buf, size_t room, struct kmip_version v, const char *id)
{
	struct ttlv_writer w;

	begin(&w, buf, room, v, KMIP_REVOKE);
	ttlv_put_text(&w, TAG_UNIQUE_ID, id);
	ttlv_begin(&w, TAG_REVOCATION_REASON);
	ttlv_put_enum(&w, TAG_REVOCATION_CODE, REVOKE_CESSATION_OF_OPERATION);
	ttlv_end(&w);
	return finish(&w);
}

ssize_t kmip_write_get_attributes(void *buf, size_t room, struct kmip_version v,
				  const char *id)
{
	static const struct {
		const char *name;
		uint32_t tag;
	} wanted[] = {{"Name", TAG_NAME},
		      {"State", TAG_STATE},
		      {"Initial Date", TAG_INITIAL_DATE}};
	struct ttlv_writer w;

	begin(&w, buf, room, v, KMIP_GET_ATTRIBUTES);
	ttlv_put_text(&w, TAG_UNIQUE_ID, id);
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		if (v.major >= 2)
			ttlv_put_enum(&w, TAG_ATTRIBUTE_REFERENCE, wanted[i].tag);
		else
			ttlv_put_text(&w, TAG_ATTRIBUTE_NAME, wanted[i].name);
	}
	return finish(&w);
}

static void put_object_type(struct ttlv_writer *w, struct kmip_version v)
{
	uint32_t tag = TAG_OBJECT_TYPE;

	begin_attribute(w, v, "Object Type", &tag);
	ttlv_put_enum(w, tag, OBJECT_SYMMETRIC_KEY);
	end_attribute(w, v);
}

ssize_t kmip_write_locate(void *buf, size_t room, struct kmip_version v, const char *name,
			  int32_t offset, int32_t max)
{
	struct ttlv_writer w;

	begin(&w, buf, room, v, KMIP_LOCATE);
	if (max)
		ttlv_put_int(&w, TAG_MAXIMUM_ITEMS, max);
	if (offset)
		ttlv_put_int(&w, TAG_OFFSET_ITEMS, offset);
	if (v.major >= 2)
		ttlv_begin(&w, TAG_ATTRIBUTES);
	if (name)
		put_name(&w, v, name);
	else
		put_object_type(&w, v);
	if (v.major >= 2)
		ttlv_end(&w);
	return finish(&w);
}
