/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files of JSON lines that are carried from one machine to another: inventories, reports,
 * receipts. One object a line; the first names the type and version of the file, the last one
 * has the number of lines before it and their checksum:
 *
 *   {"type":"vmcryptfs-...","version":1, ...}
 *   ...
 *   {"type":"end","lines":N,"sha256":"HEX"}
 *
 * so that a file which was cut, or that something was put into, is refused.
 */
#ifndef VCF_FS_JSONLINES_H
#define VCF_FS_JSONLINES_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "util/err.h"

enum { JSONLINES_VERSION = 1 };

struct jsonlines_writer;

NODISCARD vcf_err_t jsonlines_new(struct jsonlines_writer **out, FILE *to);
/* Writes the object and gives it up (NULL: no memory). */
void jsonlines_put(struct jsonlines_writer *w, struct json_object *o);
/* The last line; frees w. -errno of any line; the file's own buffer is flushed. */
NODISCARD vcf_err_t jsonlines_end(struct jsonlines_writer *w);
void jsonlines_free(struct jsonlines_writer *w);

/* The first line. The caller adds to it. NULL: no memory. */
struct json_object *jsonlines_head(const char *type);

/*
 * Calls fn for each line but the last; its error ends the reading. What fn did counts only if
 * the answer is 0. -EBADMSG: another type or version, no JSON, cut short, a wrong checksum; each
 * is logged with the file's name, as is -errno.
 */
typedef vcf_err_t jsonlines_fn(void *arg, struct json_object *o, bool first);
NODISCARD vcf_err_t jsonlines_read(const char *path, const char *type, jsonlines_fn *fn,
				   void *arg);

/* Members. A missing or wrong one reads as "", 0, false. The text is the object's. */
const char *json_text(struct json_object *o, const char *key);
uint64_t json_number(struct json_object *o, const char *key);
bool json_flag(struct json_object *o, const char *key);
time_t json_time(struct json_object *o, const char *key); /* UTC; -1 */
void json_put_text(struct json_object *o, const char *key, const char *text);
/* A path, for people and programs that want valid UTF-8: any other byte of it as \xNN. */
void json_put_shown(struct json_object *o, const char *key, const char *text);
void json_put_number(struct json_object *o, const char *key, uint64_t v);
void json_put_flag(struct json_object *o, const char *key, bool v);
void json_put_time(struct json_object *o, const char *key, time_t t);

/* 2026-01-31T12:00:00Z; -1 if it is no such time (a fraction is passed over). */
time_t utc_parse(const char *text);
void utc_format(char dst[32], time_t t);

#endif
