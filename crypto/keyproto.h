/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lines between the server and a key helper (DESIGN section 7,
 * contrib/doc/key-helper.md). Pure: text in, struct out, and back; used by both sides.
 * LF-terminated, printable ASCII, words separated by one blank. Thread-safe. Lines may
 * hold secrets: callers keep them in wiped buffers.
 *
 * Key ids: token_key_id_valid(). Labels: the same without '/', at most 128 characters.
 * Times: 2026-01-31T12:00:00Z, a fraction of the second allowed, or "-" if unknown.
 */
#ifndef VCF_CRYPTO_KEYPROTO_H
#define VCF_CRYPTO_KEYPROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "crypto/secret.h"
#include "crypto/token.h"
#include "util/err.h"

enum {
	KEYPROTO_VERSION = 1,
	KEYPROTO_REQUEST_MAX = 8 * 1024,
	KEYPROTO_REPLY_MAX = 16 * 1024,
	KEYPROTO_LABEL_MAX = 128,
	KEYPROTO_TEXT_MAX = 512,
	KEYPROTO_RETRY_AFTER_MAX = 86400, /* larger ones are cut to it */
};

/* The first word that a helper says. */
#define KEYPROTO_HELLO "vmcryptfs-keys"

/* Words that a helper adds to its hello or its ready; unknown ones are ignored. */
enum key_cap {
	/*
	 * The helper makes each secret from its label instead of storing one: the server
	 * asks `get LABEL` where it would ask `new`, and uses what it is given.
	 */
	KEY_CAP_DERIVES = 1, /* derives */
	/*
	 * The helper's service wraps each secret and stores nothing: the key id is the
	 * wrapped secret. `find` and `list` answer nothing, `destroy` gone: the service
	 * cannot forget one image, that is for whoever erases its header.
	 */
	KEY_CAP_WRAPPED = 2, /* wrapped */
	/* In the hello: the helper wants to be told how long it has for an answer. */
	KEY_CAP_DEADLINE = 4, /* deadline */
};

enum key_verb {
	KEY_NEW,
	KEY_GET,
	KEY_FIND,
	KEY_LIST,
	KEY_DESTROY,
	KEY_PING,
	KEY_OPTION,
	KEY_READY,
};

struct key_request {
	enum key_verb verb;
	uint64_t tag;			    /* from 1; 0 for option and ready */
	char id[TOKEN_KEY_ID_MAX + 1];	    /* get, destroy; option: the name */
	char label[KEYPROTO_LABEL_MAX + 1]; /* new, find, list (prefix), destroy */
	char value[KEYPROTO_REQUEST_MAX];   /* option */
	struct secret *secret;		    /* new; owned by the caller of parse */
};

enum key_reply_kind {
	KEY_REPLY_HELLO, /* vmcryptfs-keys 1 NAME CAPABILITY... */
	KEY_REPLY_READY, /* ready CAPABILITY... */
	KEY_REPLY_CREATED,
	KEY_REPLY_SECRET,
	KEY_REPLY_ITEM,
	KEY_REPLY_END,
	KEY_REPLY_DESTROYED,
	KEY_REPLY_GONE,
	KEY_REPLY_PONG,
	KEY_REPLY_ERROR,
};

enum key_error { KEY_DENIED, KEY_NOTFOUND, KEY_UNAVAILABLE, KEY_QUOTA, KEY_INVALID };

struct key_reply {
	enum key_reply_kind kind;
	uint64_t tag;
	char id[TOKEN_KEY_ID_MAX + 1];
	char label[KEYPROTO_LABEL_MAX + 1];
	char created[32];
	char text[KEYPROTO_TEXT_MAX +
		  1]; /* error text, cut to fit; hello: the helper's name */
	enum key_error error;
	unsigned int caps; /* hello, ready: of enum key_cap */
	unsigned int retry_after_s;
	struct secret *secret; /* owned by the caller */
};

/*
 * Parse one line without its LF.
 * 0; -EPROTO if it is not of the protocol (a request's tag is set if the line has one, so
 * that the helper can answer); -EPROTONOSUPPORT for the hello of another version;
 * -ENOMEM.
 */
NODISCARD vcf_err_t keyproto_parse_request(struct key_request *out, const char *line,
					   size_t len);
NODISCARD vcf_err_t keyproto_parse_reply(struct key_reply *out, const char *line,
					 size_t len);

/*
 * Write one line with its LF and a NUL; the length without the NUL, or -ENOSPC/-EINVAL.
 * An error's text is cut to fit and what is not printable ASCII in it becomes '?'.
 */
NODISCARD ssize_t keyproto_format_request(char *dst, size_t room,
					  const struct key_request *r);
NODISCARD ssize_t keyproto_format_reply(char *dst, size_t room,
					const struct key_reply *r);

/*
 * The errno that a program sees: notfound -ENOKEY, denied -EKEYREJECTED, unavailable
 * -ETIMEDOUT, quota -EDQUOT, invalid -EINVAL. The one table for key-service failures.
 */
vcf_err_t keyproto_errno(enum key_error error);

/* The word of one capability; NULL if it is none. */
const char *keyproto_cap_name(unsigned int cap);

/* The words of tagged lines. */
const char *keyproto_verb_name(enum key_verb verb);
const char *keyproto_reply_name(enum key_reply_kind kind);

/* True if all bytes are printable ASCII. */
bool keyproto_printable(const char *line, size_t len);

/* True for a label of the grammar above. */
bool keyproto_label_valid(const char *label);

/* True for a time of the grammar above. */
bool keyproto_created_valid(const char *text);

/* Orders two times as strcmp() does; "-" is the oldest. */
int keyproto_created_cmp(const char *a, const char *b);

/* denied, notfound, unavailable, quota, invalid */
const char *keyproto_error_name(enum key_error error);

#endif
