/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/jsonlines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/textsum.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/visible.h"

struct jsonlines_writer {
	FILE *to;
	struct textsum *sum;
	uint64_t lines;
	vcf_err_t err; /* the first */
};

/* --- members --- */

const char *json_text(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) &&
			       json_object_is_type(v, json_type_string)
		       ? json_object_get_string(v)
		       : "";
}

uint64_t json_number(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) &&
			       json_object_is_type(v, json_type_int)
		       ? json_object_get_uint64(v)
		       : 0;
}

bool json_flag(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) &&
	       json_object_is_type(v, json_type_boolean) && json_object_get_boolean(v);
}

time_t json_time(struct json_object *o, const char *key)
{
	return utc_parse(json_text(o, key));
}

void json_put_text(struct json_object *o, const char *key, const char *text)
{
	json_object_object_add(o, key, json_object_new_string(text));
}

void json_put_shown(struct json_object *o, const char *key, const char *text)
{
	const unsigned char *p = (const unsigned char *)text;
	char shown[4 * 4096 + 1];
	size_t n = 0;

	while (*p && n + 4 < sizeof(shown)) {
		size_t len = visible_utf8_len(p);

		if (len)
			memcpy(shown + n, p, len);
		n += len ? len : (size_t)sprintf(shown + n, "\\x%02x", *p);
		p += len ? len : 1;
	}
	shown[n] = '\0';
	json_put_text(o, key, shown);
}

void json_put_number(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_uint64(v));
}

void json_put_flag(struct json_object *o, const char *key, bool v)
{
	json_object_object_add(o, key, json_object_new_boolean(v));
}

void json_put_time(struct json_object *o, const char *key, time_t t)
{
	char text[32];

	utc_format(text, t);
	json_put_text(o, key, text);
}

time_t utc_parse(const char *text)
{
	struct tm tm = {0};
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

	if (end && *end == '.')
		end += 1 + strspn(end + 1, "0123456789");
	return end && strcmp(end, "Z") == 0 ? timegm(&tm) : -1;
}

void utc_format(char dst[32], time_t t)
{
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(dst, 32, "%Y-%m-%dT%H:%M:%SZ", &tm))
		memcpy(dst, "-", 2);
}

/* --- writing --- */

vcf_err_t jsonlines_new(struct jsonlines_writer **out, FILE *to)
{
	struct jsonlines_writer *w = calloc(1, sizeof(*w));
	vcf_err_t err = w ? textsum_new(&w->sum) : -ENOMEM;

	if (err) {
		free(w);
		return err;
	}
	w->to = to;
	*out = w;
	return 0;
}

static void write_line(struct jsonlines_writer *w, struct json_object *o)
{
	const char *text =
		o ? json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN) : NULL;

	if (!text) {
		w->err = w->err ? w->err : -ENOMEM;
		return;
	}
	textsum_add(w->sum, text, strlen(text));
	textsum_add(w->sum, "\n", 1);
	w->lines++;
	if (!w->err && (fputs(text, w->to) < 0 || putc('\n', w->to) < 0))
		w->err = errno ? -errno : -EIO;
}

void jsonlines_put(struct jsonlines_writer *w, struct json_object *o)
{
	write_line(w, o);
	json_object_put(o);
}

vcf_err_t jsonlines_end(struct jsonlines_writer *w)
{
	struct json_object *o = json_object_new_object();
	char hex[TEXTSUM_HEX_LEN + 1] = "";
	vcf_err_t err = textsum_hex(w->sum, hex);

	w->err = w->err ? w->err : err;
	json_put_text(o, "type", "end");
	json_put_number(o, "lines", w->lines);
	json_put_text(o, "sha256", hex);
	jsonlines_put(w, o);
	if (!w->err && fflush(w->to) == EOF)
		w->err = -errno;
	err = w->err;
	jsonlines_free(w);
	return err;
}

void jsonlines_free(struct jsonlines_writer *w)
{
	if (w)
		textsum_free(w->sum);
	free(w);
}

struct json_object *jsonlines_head(const char *type)
{
	struct json_object *o = json_object_new_object();

	if (!o)
		return NULL;
	json_put_text(o, "type", type);
	json_put_number(o, "version", JSONLINES_VERSION);
	return o;
}

/* --- reading --- */

struct reader {
	const char *path, *type;
	struct textsum *sum;
	uint64_t lines;
	bool ended;
	jsonlines_fn *fn;
	void *arg;
};

static vcf_err_t refuse(const struct reader *r, const char *why)
{
	log_err("%s: line %llu: %s", r->path, (unsigned long long)r->lines + 1, why);
	return -EBADMSG;
}

static vcf_err_t check_head(const struct reader *r, struct json_object *o)
{
	if (strcmp(json_text(o, "type"), r->type) != 0)
		return refuse(r, "this is another kind of file");
	if (json_number(o, "version") != JSONLINES_VERSION)
		return refuse(r, "this file is of another version");
	return 0;
}

static vcf_err_t check_end(struct reader *r, struct json_object *o)
{
	char hex[TEXTSUM_HEX_LEN + 1];
	vcf_err_t err = textsum_hex(r->sum, hex);

	if (err)
		return err;
	if (json_number(o, "lines") != r->lines ||
	    strcmp(json_text(o, "sha256"), hex) != 0)
		return refuse(r, "the checksum is wrong: the file was changed or cut");
	r->ended = true;
	return 0;
}

static vcf_err_t take_object(struct reader *r, struct json_object *o, const char *line,
			     size_t len)
{
	vcf_err_t err = 0;

	if (r->ended)
		return refuse(r, "something follows the last line");
	if (!json_object_is_type(o, json_type_object))
		return refuse(r, "this is no JSON object");
	if (!r->lines)
		err = check_head(r, o);
	if (err)
		return err;
	if (r->lines && strcmp(json_text(o, "type"), "end") == 0)
		return check_end(r, o);
	err = r->fn(r->arg, o, !r->lines);
	textsum_add(r->sum, line, len);
	r->lines++;
	return err;
}

static vcf_err_t take_line(struct reader *r, const char *line, size_t len)
{
	struct json_object *o = json_tokener_parse(line);
	vcf_err_t err = take_object(r, o, line, len);

	json_object_put(o);
	return err;
}

static void close_file(FILE **f)
{
	if (*f)
		fclose(*f);
}

static vcf_err_t read_lines(struct reader *r)
{
	FILE *f __attribute__((cleanup(close_file))) = fopen(r->path, "re");
	auto_free char *line = NULL;
	size_t room = 0;
	vcf_err_t err = 0;
	ssize_t n = 0;

	if (!f) {
		err = -errno;
		log_err("%s: %s", r->path, strerror(-err));
		return err;
	}
	while (!err && (n = getline(&line, &room, f)) > 0)
		err = take_line(r, line, (size_t)n);
	if (!err && ferror(f))
		err = -EIO;
	if (!err && !r->ended)
		err = refuse(r, "the end is missing: the file was cut");
	return err;
}

vcf_err_t jsonlines_read(const char *path, const char *type, jsonlines_fn *fn, void *arg)
{
	struct reader r = {.path = path, .type = type, .fn = fn, .arg = arg};
	vcf_err_t err = textsum_new(&r.sum);

	if (err)
		return err;
	err = read_lines(&r);
	textsum_free(r.sum);
	return err;
}
