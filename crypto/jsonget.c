/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crypto/jsonget.h"

#include <string.h>

#include "util/parse.h"

static struct json_object *member(struct json_object *o, const char *name,
				  enum json_type type)
{
	struct json_object *v;

	if (!json_object_is_type(o, json_type_object) ||
	    !json_object_object_get_ex(o, name, &v) || !json_object_is_type(v, type))
		return NULL;
	return v;
}

static const char *text_of(struct json_object *v)
{
	const char *text;

	if (!json_object_is_type(v, json_type_string))
		return NULL;
	text = json_object_get_string(v);
	return strlen(text) == (size_t)json_object_get_string_len(v) ? text : NULL;
}

struct json_object *jsonget_object(struct json_object *o, const char *name)
{
	return member(o, name, json_type_object);
}

const char *jsonget_string(struct json_object *o, const char *name)
{
	return text_of(member(o, name, json_type_string));
}

bool jsonget_is(struct json_object *o, const char *name, const char *want)
{
	const char *text = jsonget_string(o, name);

	return text && strcmp(text, want) == 0;
}

bool jsonget_int(struct json_object *o, const char *name, int64_t min, int64_t max,
		 int64_t *out)
{
	struct json_object *v = member(o, name, json_type_int);
	int64_t n;

	if (!v)
		return false;
	n = json_object_get_int64(v);
	if (n < min || n > max)
		return false;
	*out = n;
	return true;
}

bool jsonget_u64_text(struct json_object *o, const char *name, uint64_t *out)
{
	const char *text = jsonget_string(o, name);

	return text && parse_u64(text, 0, UINT64_MAX, out) == 0;
}

static bool in_list(const char *const names[], const char *name)
{
	for (; *names; names++) {
		if (strcmp(*names, name) == 0)
			return true;
	}
	return false;
}

bool jsonget_only(struct json_object *o, const char *const names[])
{
	int want = 0;

	if (!json_object_is_type(o, json_type_object))
		return false;
	while (names[want])
		want++;
	if (json_object_object_length(o) != want)
		return false;
	json_object_object_foreach(o, name, value)
	{
		(void)value;
		if (!in_list(names, name))
			return false;
	}
	return true;
}

int jsonget_strings(struct json_object *o, const char *name, const char *out[], int max)
{
	struct json_object *list = member(o, name, json_type_array);
	size_t n;

	if (!list)
		return -1;
	n = json_object_array_length(list);
	if (n > (size_t)max)
		return -1;
	for (size_t i = 0; i < n; i++) {
		out[i] = text_of(json_object_array_get_idx(list, i));
		if (!out[i])
			return -1;
	}
	return (int)n;
}
