/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Strict access to members of a JSON object: what is missing or of another type is never
 * converted. Pure; `o` may be NULL or no object at all (then nothing is found).
 */
#ifndef VCF_CRYPTO_JSONGET_H
#define VCF_CRYPTO_JSONGET_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/cleanup.h"

/* A member that is an object, or NULL. */
struct json_object *jsonget_object(struct json_object *o, const char *name);

/* A member that is a string without NUL bytes, or NULL. */
const char *jsonget_string(struct json_object *o, const char *name);

/* True if the member is this string. */
bool jsonget_is(struct json_object *o, const char *name, const char *want);

/* An integer member in [min, max]. */
bool jsonget_int(struct json_object *o, const char *name, int64_t min, int64_t max,
		 int64_t *out);

/* A member that is the text of a decimal number (LUKS2 keeps 64-bit numbers so). */
bool jsonget_u64_text(struct json_object *o, const char *name, uint64_t *out);

/* True if o is an object with exactly the members of the NULL-terminated list. */
bool jsonget_only(struct json_object *o, const char *const names[]);

/* An array member of strings, at most max of them: their number, or -1. */
int jsonget_strings(struct json_object *o, const char *name, const char *out[], int max);

static inline void json_put(struct json_object *o)
{
	json_object_put(o);
}
DEFINE_AUTO(json, struct json_object *, json_put)
#define auto_json __attribute__((cleanup(cleanup_json)))

#endif
