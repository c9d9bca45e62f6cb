/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The KMIP messages that a key helper needs: one operation a message. Pure: bytes in, bytes
 * out, no sockets. Thread-safe. Register requests and Get replies hold a secret: callers
 * keep them in locked buffers.
 *
 * A secret is a Symmetric Key object (AES, 256 bits, raw). Its label is in its Name: the
 * site's prefix and the label. Some servers want names to be unique; but an image that gets
 * a new secret has two for a while, so that the second is called "NAME#2", and so on
 * ('#' is in no label and in no prefix).
 *
 * Source: Key Management Interoperability Protocol Specification 1.2, 1.3, 1.4 and 2.0
 * (OASIS). 2.0 differs for us in the form of attributes only.
 */
#ifndef VCF_CRYPTO_KEYS_KMIP_MESSAGE_H
#define VCF_CRYPTO_KEYS_KMIP_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "crypto/keyproto.h"
#include "crypto/keys/ttlv.h"
#include "util/err.h"

enum {
	KMIP_REPLY_TAG = 0x42007b,
	KMIP_PREFIX_MAX = 64,
	KMIP_NAME_MAX = KMIP_PREFIX_MAX + KEYPROTO_LABEL_MAX + 2,
	KMIP_NAMES = 4, /* records of one label: NAME, NAME#2 ... NAME#4 */
	KMIP_TEXT_MAX = 200,
	KMIP_REQUEST_ROOM = 2048, /* enough for any of the requests below */
};

enum kmip_op {
	KMIP_REGISTER = 0x03,
	KMIP_LOCATE = 0x08,
	KMIP_GET = 0x0a,
	KMIP_GET_ATTRIBUTES = 0x0b,
	KMIP_ACTIVATE = 0x12,
	KMIP_REVOKE = 0x13,
	KMIP_DESTROY = 0x14,
	KMIP_QUERY = 0x18,
	KMIP_DISCOVER_VERSIONS = 0x1e,
};

enum kmip_state {
	KMIP_STATE_UNKNOWN = 0, /* the server did not say */
	KMIP_PRE_ACTIVE = 1,
	KMIP_ACTIVE = 2,
	KMIP_DEACTIVATED = 3,
	KMIP_COMPROMISED = 4,
	KMIP_DESTROYED = 5,
	KMIP_DESTROYED_COMPROMISED = 6,
};

/* Why a server refused; those that the helper looks at. */
enum kmip_reason {
	KMIP_ITEM_NOT_FOUND = 0x01,
	KMIP_INVALID_MESSAGE = 0x04,
	KMIP_OPERATION_NOT_SUPPORTED = 0x05,
	KMIP_PERMISSION_DENIED = 0x0c,
	KMIP_NON_UNIQUE_NAME = 0x35,
	KMIP_GENERAL_FAILURE = 0x100,
};

struct kmip_version {
	int32_t major, minor;
};

/* --- requests --- each returns the length, or -ENOSPC */

NODISCARD ssize_t kmip_write_discover(void *buf, size_t room, struct kmip_version v);

/* What the server can do: operations, and who made it. */
NODISCARD ssize_t kmip_write_query(void *buf, size_t room, struct kmip_version v);

NODISCARD ssize_t kmip_write_register(void *buf, size_t room, struct kmip_version v,
				      const char *name,
				      const unsigned char key[SECRET_LEN]);

/* op: get, activate, destroy. */
NODISCARD ssize_t kmip_write_simple(void *buf, size_t room, struct kmip_version v,
				    enum kmip_op op, const char *id);

NODISCARD ssize_t kmip_write_revoke(void *buf, size_t room, struct kmip_version v,
				    const char *id);

/* Name, State and Initial Date. */
NODISCARD ssize_t kmip_write_get_attributes(void *buf, size_t room, struct kmip_version v,
					    const char *id);

/*
 * The ids of the objects with this name, or of all symmetric keys if it is NULL. max: 0, or
 * how many at most; offset: of how many to go past (KMIP 1.3; 0 before).
 */
NODISCARD ssize_t kmip_write_locate(void *buf, size_t room, struct kmip_version v,
				    const char *name, int32_t offset, int32_t max);

/* --- replies --- */

struct kmip_reply {
	struct ttlv_reader payload;	 /* empty if there is none */
	uint32_t reason;		 /* of a refusal */
	char message[KMIP_TEXT_MAX + 1]; /* the server's own words (util/untrusted.h) */
};

/*
 * Takes a whole reply apart. 0; -EREMOTEIO: the server refused (reason and message say why);
 * -EBADMSG: that is no answer to one request of this kind and version.
 */
NODISCARD vcf_err_t kmip_read_reply(const void *buf, size_t len, struct kmip_version v,
				    enum kmip_op op, struct kmip_reply *out);

/* The highest of 1.4, 1.3, 1.2 that is offered, else 2.0, else -EPROTONOSUPPORT. */
NODISCARD vcf_err_t kmip_read_versions(const struct kmip_reply *r,
				       struct kmip_version *out);

/* True if a reply to Query names the operation. vendor: the server's maker, "" if not said. */
bool kmip_query_has(const struct kmip_reply *r, enum kmip_op op);
void kmip_query_vendor(const struct kmip_reply *r, char vendor[KMIP_TEXT_MAX + 1]);

/* The unique identifier. -EBADMSG; -EINVAL: it is none that a header can hold. */
NODISCARD vcf_err_t kmip_read_id(const struct kmip_reply *r,
				 char id[TOKEN_KEY_ID_MAX + 1]);

/*
 * The next identifier of a Locate reply, from r->payload on: 0, -ENODATA at the end, -EBADMSG;
 * -EINVAL: this one no header can hold, so it is not ours; go on.
 */
NODISCARD vcf_err_t kmip_next_id(struct kmip_reply *r, char id[TOKEN_KEY_ID_MAX + 1]);

/*
 * The secret in a Get reply. *key: SECRET_LEN bytes inside the reply. 0, or -EBADMSG, -EMSGSIZE:
 * a key of another length, -EPROTOTYPE: not a raw, unwrapped AES key, -ESTALE: another object.
 */
NODISCARD vcf_err_t kmip_read_key(const struct kmip_reply *r, const char *id,
				  const unsigned char **key);

struct kmip_attributes {
	char label[KEYPROTO_LABEL_MAX + 1]; /* "" if no Name, or more than one, is ours */
	enum kmip_state state;
	int64_t initial_date; /* -1: not said */
};

/* prefix: what our names begin with. 0 or -EBADMSG. */
NODISCARD vcf_err_t kmip_read_attributes(const struct kmip_reply *r,
					 struct kmip_version v, const char *prefix,
					 struct kmip_attributes *out);

/* The name of the n-th record of a label, n from 1. */
void kmip_name(char dst[KMIP_NAME_MAX + 1], const char *prefix, const char *label, int n);

/* What a refusal means for the server of vmcryptfs, and its name in the specification. */
enum key_error kmip_reason_kind(uint32_t reason);
const char *kmip_reason_name(uint32_t reason);
const char *kmip_op_name(enum kmip_op op);

#endif
