/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One option at a time: defaults, parsing by the table, faults with a place. */
#include "fs/config.h"

#include <errno.h>
#include <string.h>

#include "crypto/secret.h"
#include "fs/bind.h"
#include "fs/glob.h"
#include "util/log.h"
#include "util/parse.h"
#include "util/text.h"

static void free_helper_option(struct config_helper_option *o)
{
	if (o->value)
		secret_wipe(o->value, strlen(o->value));
	free(o->section);
	free(o->name);
	free(o->value);
}

static void free_services(struct config *c)
{
	for (size_t i = 0; i < c->service_cnt; i++)
		config_free(c->services[i]);
	for (size_t i = 0; i < c->service_rule_cnt; i++) {
		free(c->service_rules[i].service);
		free(c->service_rules[i].glob);
	}
	free(c->services);
	free(c->service_rules);
}

static bool holds_text(const struct config_option *o)
{
	return o->type == CONFIG_STRING || o->type == CONFIG_PATH ||
	       o->type == CONFIG_REGEX;
}

static void *field_of(struct config *c, const struct config_option *o)
{
	return (char *)c + o->field_off;
}

void config_free(struct config *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < config_option_cnt; i++) {
		if (holds_text(&config_options[i]))
			free(*(char **)field_of(c, &config_options[i]));
	}
	for (size_t i = 0; i < c->rule_cnt; i++)
		free(c->rules[i].glob);
	for (size_t i = 0; i < c->device_cnt; i++)
		config_free(c->devices[i]);
	free(c->devices);
	for (size_t i = 0; i < c->helper_option_cnt; i++)
		free_helper_option(&c->helper_options[i]);
	free_services(c);
	free(c->rules);
	free(c->helper_options);
	free(c);
}

/* --- values ------------------------------------------------------------------------ */

/* What is wrong with a value, for the log line. */
struct reason {
	char text[192];
};

static vcf_err_t bad(struct reason *why, const char *text)
{
	snprintf(why->text, sizeof(why->text), "%s", text);
	return -EINVAL;
}

/* The index of a word in "one|two|three", or -EINVAL. */
static int choice_index(const char *choices, const char *word, struct reason *why)
{
	size_t len = strlen(word);
	int index = 0;

	for (const char *p = choices; *p; index++) {
		size_t n = strcspn(p, "|");

		if (n == len && memcmp(p, word, n) == 0)
			return index;
		p += n + (p[n] == '|');
	}
	snprintf(why->text, sizeof(why->text), "must be one of %s", choices);
	return -EINVAL;
}

static vcf_err_t check_text(const struct config_option *o, const char *value,
			    struct reason *why)
{
	auto_bind struct bind *b = NULL;

	if (!*value)
		return o->default_value ? bad(why, "must not be empty") : 0;
	if (o->choices && choice_index(o->choices, value, why) < 0)
		return -EINVAL;
	if (o->type == CONFIG_REGEX)
		return bind_new(&b, value, why->text, sizeof(why->text));
	return 0;
}

static vcf_err_t set_text(char **field, const struct config_option *o, const char *value,
			  struct reason *why)
{
	char *copy = NULL;
	vcf_err_t err = check_text(o, value, why);

	if (err)
		return err;
	if (*value) {
		copy = strdup(value);
		if (!copy)
			return -ENOMEM;
	}
	free(*field);
	*field = copy;
	return 0;
}

static vcf_err_t set_choice(void *field, const struct config_option *o, const char *value,
			    struct reason *why)
{
	int index = choice_index(o->choices, value, why);

	if (index < 0)
		return index;
	if (o->field_len == sizeof(bool))
		*(bool *)field = index;
	else
		*(int *)field = index;
	return 0;
}

static vcf_err_t set_number(uint64_t *field, const struct config_option *o,
			    const char *value, struct reason *why)
{
	uint64_t v = 0;
	vcf_err_t err;

	if (o->choices && choice_index(o->choices, value, why) < 0)
		return -EINVAL;
	if (o->type == CONFIG_SIZE)
		err = parse_size(value, &v);
	else if (o->type == CONFIG_DURATION)
		err = parse_duration(value, &v);
	else
		err = parse_u64(value, 0, UINT64_MAX, &v);
	if (err == -EINVAL)
		return bad(why,
			   o->type == CONFIG_DURATION
				   ? "must be a number with an optional s, m, h, d, w"
				   : "must be a number");
	if (err || (o->max && (v < o->min || v > o->max))) {
		snprintf(why->text, sizeof(why->text), "must be %llu to %llu%s",
			 (unsigned long long)o->min, (unsigned long long)o->max,
			 o->type == CONFIG_DURATION ? " seconds" : "");
		return -EINVAL;
	}
	*field = v;
	return 0;
}

static enum file_class class_of_option(const struct config_option *o)
{
	enum file_class cls = CLASS_ENCRYPT;

	while (strcmp(rules_class_name(cls), o->name) != 0)
		cls++;
	return cls;
}

static vcf_err_t add_rule(struct config *c, const struct config_option *o,
			  const char *value, struct reason *why)
{
	auto_glob struct glob *g = NULL;
	struct config_rule *rules;
	vcf_err_t err = glob_new(&g, value, why->text, sizeof(why->text));

	if (err)
		return err;
	rules = reallocarray(c->rules, c->rule_cnt + 1, sizeof(*rules));
	if (!rules)
		return -ENOMEM;
	c->rules = rules;
	rules[c->rule_cnt].cls = class_of_option(o);
	rules[c->rule_cnt].glob = strdup(value);
	if (!rules[c->rule_cnt].glob)
		return -ENOMEM;
	c->rule_cnt++;
	return 0;
}

/* NAME GLOB. Whether there is such a service, only the whole configuration can tell. */
static vcf_err_t add_service_rule(struct config *c, const char *value, struct reason *why)
{
	size_t len = strcspn(value, " \t");
	const char *glob = value + len + strspn(value + len, " \t");
	auto_free char *name = strndup(value, len);
	auto_glob struct glob *g = NULL;
	struct config_service_rule *rules;
	vcf_err_t err;

	if (!name)
		return -ENOMEM;
	if (!token_service_valid(name) || !*glob)
		return bad(why, "must be the name of a service and a pattern");
	err = glob_new(&g, glob, why->text, sizeof(why->text));
	if (err)
		return err;
	rules = reallocarray(c->service_rules, c->service_rule_cnt + 1, sizeof(*rules));
	if (!rules)
		return -ENOMEM;
	c->service_rules = rules;
	rules += c->service_rule_cnt;
	rules->glob = strdup(glob);
	if (!rules->glob)
		return -ENOMEM;
	rules->service = STEAL_PTR(&name);
	c->service_rule_cnt++;
	return 0;
}

static vcf_err_t set_option(struct config *c, const struct config_option *o,
			    const char *value, struct reason *why)
{
	void *field = field_of(c, o);

	switch (o->type) {
	case CONFIG_STRING:
	case CONFIG_PATH:
	case CONFIG_REGEX:
		return set_text(field, o, value, why);
	case CONFIG_BOOL:
		return parse_bool(value, field) ? bad(why, "must be yes or no") : 0;
	case CONFIG_UINT:
	case CONFIG_SIZE:
	case CONFIG_DURATION:
		return set_number(field, o, value, why);
	case CONFIG_CHOICE:
		return set_choice(field, o, value, why);
	case CONFIG_RULE:
		return add_rule(c, o, value, why);
	case CONFIG_SERVICE_RULE:
		return add_service_rule(c, value, why);
	}
	return -EINVAL;
}

vcf_err_t config_new(struct config **out)
{
	auto_config struct config *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	for (size_t i = 0; i < config_option_cnt; i++) {
		const struct config_option *o = &config_options[i];
		struct reason why;
		vcf_err_t err;

		if (!o->default_value)
			continue;
		err = set_option(c, o, o->default_value, &why);
		if (err)
			return err;
	}
	memcpy(c->service_name, CONFIG_SERVICE_DEFAULT, sizeof(CONFIG_SERVICE_DEFAULT));
	*out = STEAL_PTR(&c);
	return 0;
}

static vcf_err_t set_option_at(struct config *c, const struct config_option *o,
			       const char *name, const char *value, const char *where)
{
	struct reason why = {""};
	vcf_err_t err = set_option(c, o, value, &why);

	if (err == -EINVAL)
		log_err("%s: %s = %s: %s", where, name, value, why.text);
	return err;
}

/* A further configuration at the end of an array of them. */
static vcf_err_t add_config(struct config ***all, size_t *cnt, struct config **out)
{
	struct config **larger = reallocarray(*all, *cnt + 1, sizeof(*larger));
	vcf_err_t err;

	if (!larger)
		return -ENOMEM;
	*all = larger;
	err = config_new(&larger[*cnt]);
	if (err)
		return err;
	*out = larger[(*cnt)++];
	return 0;
}

/* --- names ------------------------------------------------------------------------- */

/* Levenshtein's distance, for names of at most 31 characters; 99 for longer ones. */
static unsigned int distance(const char *a, const char *b)
{
	unsigned int row[32];
	size_t n = strlen(b);

	if (n > 31 || strlen(a) > 31)
		return 99;
	for (unsigned int k = 0; k <= n; k++)
		row[k] = k;
	for (; *a; a++) {
		unsigned int diagonal = row[0]++;

		for (size_t k = 1; k <= n; k++) {
			unsigned int best = diagonal + (*a != b[k - 1]);

			diagonal = row[k];
			if (row[k] + 1 < best)
				best = row[k] + 1;
			if (row[k - 1] + 1 < best)
				best = row[k - 1] + 1;
			row[k] = best;
		}
	}
	return row[n];
}

/* How far a known option is from what was written; its own section counts as nearer. */
static unsigned int unlikeness(const struct config_option *o, const char *section,
			       const char *name)
{
	return 2 * distance(name, o->name) + (strcmp(o->section, section) != 0);
}

static void log_unknown(const char *where, const char *section, const char *name)
{
	const struct config_option *nearest = NULL;
	unsigned int best = 6; /* two typing errors, or one word in another section */

	for (size_t i = 0; i < config_option_cnt; i++) {
		unsigned int u = unlikeness(&config_options[i], section, name);

		if (u < best) {
			best = u;
			nearest = &config_options[i];
		}
	}
	if (nearest)
		log_err("%s: unknown option \"%s\" in [%s]; did you mean \"%s\" in [%s]?",
			where, name, section, nearest->name, nearest->section);
	else
		log_err("%s: unknown option \"%s\" in [%s]; see vmcryptfs help config",
			where, name, section);
}

static struct config_helper_option *
find_helper_option(struct config *c, const char *section, const char *name)
{
	for (size_t i = 0; i < c->helper_option_cnt; i++) {
		struct config_helper_option *o = &c->helper_options[i];

		if (strcmp(o->section, section) == 0 && strcmp(o->name, name) == 0)
			return o;
	}
	return NULL;
}

static vcf_err_t set_helper_option(struct config *c, const char *section,
				   const char *name, const char *value)
{
	struct config_helper_option *old = find_helper_option(c, section, name);
	struct config_helper_option fresh = {strdup(section), strdup(name),
					     strdup(value)};
	struct config_helper_option *all = c->helper_options;

	if (!old)
		all = reallocarray(all, c->helper_option_cnt + 1, sizeof(*all));
	if (all)
		c->helper_options = all;
	if (!all || !fresh.section || !fresh.name || !fresh.value) {
		free_helper_option(&fresh);
		return -ENOMEM;
	}
	if (old) {
		free_helper_option(old);
		*old = fresh;
	} else {
		all[c->helper_option_cnt++] = fresh;
	}
	return 0;
}

static bool is_name(const char *text)
{
	return *text && !text[strspn(text, "abcdefghijklmnopqrstuvwxyz"
					   "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")];
}

/* --- further key services ---------------------------------------------------------- */

const char *config_section_service(const char *section)
{
	static const char prefix[] = "service ";

	if (strncmp(section, prefix, sizeof(prefix) - 1) != 0)
		return NULL;
	return section + sizeof(prefix) - 1;
}

const struct config *config_service_at(const struct config *c, size_t i)
{
	if (i == 0)
		return c;
	return i <= c->service_cnt ? c->services[i - 1] : NULL;
}

const struct config *config_service(const struct config *c, const char *name)
{
	const struct config *s;

	for (size_t i = 0; (s = config_service_at(c, i)); i++) {
		if (strcmp(s->service_name, name) == 0)
			return s;
	}
	return NULL;
}

static vcf_err_t find_service(struct config *c, const char *name, const char *where,
			      struct config **out)
{
	vcf_err_t err;

	if (!token_service_valid(name) || strcmp(name, CONFIG_SERVICE_DEFAULT) == 0) {
		log_err("%s: [service %.64s]: %s", where, name,
			token_service_valid(name)
				? "the default service is that of [key-service]"
				: "no name (letters, digits, '.', '_', '-')");
		return -EINVAL;
	}
	for (size_t i = 0; i < c->service_cnt; i++) {
		if (strcmp(c->services[i]->service_name, name) != 0)
			continue;
		*out = c->services[i];
		return 0;
	}
	if (c->service_cnt == CONFIG_SERVICES_MAX - 1) {
		log_err("%s: [service %s]: these are too many services", where, name);
		return -EINVAL;
	}
	err = add_config(&c->services, &c->service_cnt, out);
	if (!err)
		TEXT_CUT((*out)->service_name, name);
	return err;
}

static vcf_err_t assign_service(struct config *c, const char *section, const char *name,
				const char *value, const char *where)
{
	const struct config_option *o = config_find("key-service", name);
	struct config *s = NULL;
	vcf_err_t err = find_service(c, config_section_service(section), where, &s);

	if (err)
		return err;
	if (!o)
		return set_helper_option(s, section, name, value);
	return set_option_at(s, o, name, value, where);
}

/* --- devices ----------------------------------------------------------------------- */

const char *config_section_device(const char *section)
{
	static const char prefix[] = "device ";

	if (strncmp(section, prefix, sizeof(prefix) - 1) != 0)
		return NULL;
	return section + sizeof(prefix) - 1;
}

static struct config *find_device(const struct config *c, const char *name)
{
	for (size_t i = 0; i < c->device_cnt; i++) {
		if (strcmp(c->devices[i]->device_name, name) == 0)
			return c->devices[i];
	}
	return NULL;
}

const struct config *config_device(const struct config *c, const char *name)
{
	return find_device(c, name);
}

static vcf_err_t get_device(struct config *c, const char *name, const char *where,
			    struct config **out)
{
	vcf_err_t err;

	*out = find_device(c, name);
	if (*out)
		return 0;
	if (!is_name(name) || *name == '.' || strlen(name) > CONFIG_DEVICE_NAME_MAX) {
		log_err("%s: [device %.64s]: must be the name of a file in the mount's root "
			"(at most %d letters, digits, '.', '_', '-'; no '.' first)",
			where, name, CONFIG_DEVICE_NAME_MAX);
		return -EINVAL;
	}
	if (c->device_cnt == CONFIG_DEVICES_MAX) {
		log_err("%s: [device %s]: these are too many devices", where, name);
		return -EINVAL;
	}
	err = add_config(&c->devices, &c->device_cnt, out);
	if (!err)
		TEXT_CUT((*out)->device_name, name);
	return err;
}

static vcf_err_t assign_device(struct config *c, const char *section, const char *name,
			       const char *value, const char *where)
{
	const struct config_option *o = config_find("device", name);
	struct config *d = NULL;
	vcf_err_t err = get_device(c, config_section_device(section), where, &d);

	if (err)
		return err;
	if (!o) {
		log_unknown(where, "device", name);
		return -EINVAL;
	}
	return set_option_at(d, o, name, value, where);
}

/* --- any option -------------------------------------------------------------------- */

/* Sections that go on behind their first word. */
static bool has_name_in_it(const char *section)
{
	return config_section_service(section) || config_section_device(section);
}

vcf_err_t config_assign(struct config *c, const char *section, const char *name,
			const char *value, const char *where)
{
	const struct config_option *o = config_find(section, name);

	if ((!is_name(section) && !has_name_in_it(section)) || !is_name(name)) {
		/* Not printed: "secret BASE64==" without its '=' is a name to the parser.
		 */
		log_err("%s: no option's name (letters, digits, '.', '_', '-') in [%s]",
			where, section);
		return -EINVAL;
	}
	if (config_section_service(section))
		return assign_service(c, section, name, value, where);
	if (config_section_device(section))
		return assign_device(c, section, name, value, where);
	if (strcmp(section, "device") == 0) {
		log_err("%s: [device] needs the name of its file: [device NAME]", where);
		return -EINVAL;
	}
	if (!o && !config_section_known(section))
		return set_helper_option(c, section, name, value);
	if (!o) {
		log_unknown(where, section, name);
		return -EINVAL;
	}
	return set_option_at(c, o, name, value, where);
}

vcf_err_t config_set(struct config *c, const char *assignment)
{
	const char *equal = strchrnul(assignment, '=');
	size_t len = (size_t)(equal - assignment);
	/* A service's name may have dots, a device's as well. */
	const char *dot = has_name_in_it(assignment) ? memrchr(assignment, '.', len)
						     : memchr(assignment, '.', len);
	auto_free char *section = NULL;
	auto_free char *name = NULL;

	if (!*equal || !dot) {
		/* What stands behind the '=' may be a secret. */
		log_err("-o %.*s: must be section.key=value", (int)(equal - assignment),
			assignment);
		return -EINVAL;
	}
	section = strndup(assignment, (size_t)(dot - assignment));
	name = strndup(dot + 1, (size_t)(equal - dot - 1));
	if (!section || !name)
		return -ENOMEM;
	return config_assign(c, section, name, equal + 1, "-o");
}

const char *config_helper_value(const struct config *c, const char *section,
				const char *name)
{
	for (size_t i = 0; i < c->helper_option_cnt; i++) {
		const struct config_helper_option *o = &c->helper_options[i];

		if (strcmp(o->section, section) == 0 && strcmp(o->name, name) == 0)
			return o->value;
	}
	return NULL;
}
