/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/config_compare.h"
#include "util/hash.h"

#include <stdio.h>
#include <string.h>

static bool is_text(const struct config_option *o)
{
	return o->type == CONFIG_STRING || o->type == CONFIG_PATH ||
	       o->type == CONFIG_REGEX;
}

static const char *text_of(const struct config *c, const struct config_option *o)
{
	return *(char *const *)((const char *)c + o->field_off);
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Rules have no field: config_same_rules(). */
static bool same_value(const struct config *a, const struct config *b,
		       const struct config_option *o)
{
	if (is_text(o))
		return same_text(text_of(a, o), text_of(b, o));
	return memcmp((const char *)a + o->field_off, (const char *)b + o->field_off,
		      o->field_len) == 0;
}

/* All of [mount], except that a log may get another level or file, or a file at all. */
static bool is_fixed(const struct config_option *o, const struct config *fresh)
{
	if (strcmp(o->section, "mount") != 0 || strcmp(o->name, "log-level") == 0)
		return false;
	return strcmp(o->name, "log-file") != 0 || !fresh->log_file;
}

const struct config_option *config_fixed_difference(const struct config *old,
						    const struct config *fresh)
{
	for (size_t i = 0; i < config_option_cnt; i++) {
		const struct config_option *o = &config_options[i];

		if (is_fixed(o, fresh) && !same_value(old, fresh, o))
			return o;
	}
	return NULL;
}

static bool same_globs(const struct config *a, const struct config *b)
{
	if (a->rule_cnt != b->rule_cnt)
		return false;
	for (size_t i = 0; i < a->rule_cnt; i++) {
		if (a->rules[i].cls != b->rules[i].cls ||
		    strcmp(a->rules[i].glob, b->rules[i].glob) != 0)
			return false;
	}
	return true;
}

static bool same_service_rules(const struct config *a, const struct config *b)
{
	if (a->service_rule_cnt != b->service_rule_cnt)
		return false;
	for (size_t i = 0; i < a->service_rule_cnt; i++) {
		if (strcmp(a->service_rules[i].service, b->service_rules[i].service) !=
			    0 ||
		    strcmp(a->service_rules[i].glob, b->service_rules[i].glob) != 0)
			return false;
	}
	return true;
}

bool config_same_devices(const struct config *a, const struct config *b)
{
	if (a->device_cnt != b->device_cnt)
		return false;
	for (size_t i = 0; i < a->device_cnt; i++) {
		const struct config *d = config_device(b, a->devices[i]->device_name);

		if (!d || config_digest(d) != config_digest(a->devices[i]))
			return false;
	}
	return true;
}

bool config_same_rules(const struct config *a, const struct config *b)
{
	return same_globs(a, b) && same_service_rules(a, b) &&
	       same_text(a->bind, b->bind);
}

/* Cuts what does not fit. */
struct list {
	char *dst;
	size_t room, len, cnt;
};

static void add_name(struct list *l, const char *open, const char *name,
		     const char *close)
{
	int n = snprintf(l->dst + l->len, l->room - l->len, "%s%s%s%s",
			 l->cnt ? ", " : "", open, name, close);

	l->cnt++;
	l->len += (size_t)n;
	if (l->len >= l->room)
		l->len = l->room - 1;
}

/*
 * The sections of helpers where a has an option that b has not, or (other_values) not with that
 * value. One whose options do not stand together may be named twice.
 */
static void list_sections(struct list *l, const struct config *a, const struct config *b,
			  bool other_values)
{
	const char *last = "";

	for (size_t i = 0; i < a->helper_option_cnt; i++) {
		const struct config_helper_option *o = &a->helper_options[i];
		const char *value = config_helper_value(b, o->section, o->name);
		bool differs = !value || (other_values && strcmp(value, o->value) != 0);

		if (!differs || strcmp(o->section, last) == 0)
			continue;
		add_name(l, "[", o->section, "]");
		last = o->section;
	}
}

/* A section of its own that the other configuration has not, or (other) has otherwise. */
static bool differs(const struct config *s, const struct config *t, bool other)
{
	return !t || (other && config_digest(s) != config_digest(t));
}

/* The [service NAME] sections of a that differ in b. */
static void list_services(struct list *l, const struct config *a, const struct config *b,
			  bool other)
{
	for (size_t i = 0; i < a->service_cnt; i++) {
		const struct config *s = a->services[i];

		if (differs(s, config_service(b, s->service_name), other))
			add_name(l, "[service ", s->service_name, "]");
	}
}

/* Likewise the [device NAME] sections. */
static void list_devices(struct list *l, const struct config *a, const struct config *b,
			 bool other)
{
	for (size_t i = 0; i < a->device_cnt; i++) {
		const struct config *s = a->devices[i];

		if (differs(s, config_device(b, s->device_name), other))
			add_name(l, "[device ", s->device_name, "]");
	}
}

size_t config_list_differences(const struct config *a, const struct config *b, char *dst,
			       size_t room)
{
	struct list l = {.dst = dst, .room = room};

	*dst = '\0';
	if (!config_same_rules(a, b))
		add_name(&l, "[", "rules", "]");
	for (size_t i = 0; i < config_option_cnt; i++) {
		const struct config_option *o = &config_options[i];

		if (o->type != CONFIG_RULE && o->type != CONFIG_SERVICE_RULE &&
		    o->type != CONFIG_REGEX && !same_value(a, b, o))
			add_name(&l, "", o->name, "");
	}
	list_services(&l, b, a, true);
	list_services(&l, a, b, false);
	list_devices(&l, b, a, true);
	list_devices(&l, a, b, false);
	list_sections(&l, b, a, true);
	list_sections(&l, a, b, false);
	return l.cnt;
}

/* The length in front keeps "ab","c" and "a","bc" apart. */
static uint64_t mix(uint64_t h, const void *data, size_t len)
{
	return hash_fnv1a(hash_fnv1a(h, &len, sizeof(len)), data, len);
}

static uint64_t mix_text(uint64_t h, const char *text)
{
	return text ? mix(h, text, strlen(text)) : mix(h, "", 1);
}

uint64_t config_digest(const struct config *c)
{
	uint64_t h = HASH_FNV1A_START;

	for (size_t i = 0; i < config_option_cnt; i++) {
		const struct config_option *o = &config_options[i];

		h = is_text(o) ? mix_text(h, text_of(c, o))
			       : mix(h, (const char *)c + o->field_off, o->field_len);
	}
	if (config_escrow(c))
		h = mix(h, c->escrow.key, sizeof(c->escrow.key));
	for (size_t i = 0; i < c->rule_cnt; i++) {
		h = mix_text(h, rules_class_name(c->rules[i].cls));
		h = mix_text(h, c->rules[i].glob);
	}
	for (size_t i = 0; i < c->helper_option_cnt; i++) {
		h = mix_text(h, c->helper_options[i].section);
		h = mix_text(h, c->helper_options[i].name);
		h = mix_text(h, c->helper_options[i].value);
	}
	for (size_t i = 0; i < c->service_rule_cnt; i++) {
		h = mix_text(h, c->service_rules[i].service);
		h = mix_text(h, c->service_rules[i].glob);
	}
	h = mix_text(h, c->service_name);
	for (size_t i = 0; i < c->service_cnt; i++) {
		uint64_t digest = config_digest(c->services[i]);

		h = mix(h, &digest, sizeof(digest));
	}
	h = mix_text(h, c->device_name);
	for (size_t i = 0; i < c->device_cnt; i++) {
		uint64_t digest = config_digest(c->devices[i]);

		h = mix(h, &digest, sizeof(digest));
	}
	return h;
}
