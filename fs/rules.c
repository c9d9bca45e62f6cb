/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A folder's move is decided on what each rule may still match below the two prefixes
 * (glob_residual). Rules that match nothing below either drop out; a rule that matches
 * all ends the list of its side. As long as the residuals are equal, both sides decide
 * alike. From the first rule on whose residuals differ, a path may meet different rules:
 * the move is safe only if all that can decide from there on, the default included, is of
 * one group.
 */
#include "fs/rules.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fs/bind.h"
#include "fs/glob.h"
#include "util/text.h"

struct rule {
	enum file_class cls;
	struct glob *glob;
};

struct service_rule {
	struct service_rule *next;
	struct glob *glob;
	char name[TOKEN_SERVICE_MAX + 1];
};

struct rules {
	struct service_rule *services; /* in order */
	struct bind *bind;	       /* NULL: no path has a context */
	size_t cnt;
	struct rule rules[];
};

static vcf_err_t add_rule(struct rules *r, const struct rule_spec *spec, char *errbuf,
			  size_t errbuf_len)
{
	struct rule *rule = &r->rules[r->cnt];
	char reason[160] = "";
	vcf_err_t err = glob_new(&rule->glob, spec->glob, reason, sizeof(reason));

	if (err) {
		snprintf(errbuf, errbuf_len, "%s = %s: %s", rules_class_name(spec->cls),
			 spec->glob, err == -EINVAL ? reason : strerror(-err));
		return err;
	}
	rule->cls = spec->cls;
	r->cnt++;
	return 0;
}

static vcf_err_t add_bind(struct rules *r, const char *bind, char *errbuf,
			  size_t errbuf_len)
{
	char reason[160] = "";
	vcf_err_t err = bind_new(&r->bind, bind, reason, sizeof(reason));

	if (err)
		snprintf(errbuf, errbuf_len, "bind = %s: %s", bind,
			 err == -EINVAL ? reason : strerror(-err));
	return err;
}

vcf_err_t rules_new(struct rules **out, const struct rule_spec *specs, size_t cnt,
		    const char *bind, char *errbuf, size_t errbuf_len)
{
	auto_rules struct rules *r = calloc(1, sizeof(*r) + cnt * sizeof(r->rules[0]));
	vcf_err_t err = 0;

	if (!r)
		return -ENOMEM;
	for (size_t i = 0; i < cnt && !err; i++)
		err = add_rule(r, &specs[i], errbuf, errbuf_len);
	if (!err && bind)
		err = add_bind(r, bind, errbuf, errbuf_len);
	if (err)
		return err;
	*out = STEAL_PTR(&r);
	return 0;
}

static void free_services(struct rules *r)
{
	while (r->services) {
		struct service_rule *next = r->services->next;

		glob_free(r->services->glob);
		free(r->services);
		r->services = next;
	}
}

vcf_err_t rules_add_service(struct rules *r, const char *service, const char *glob,
			    char *errbuf, size_t errbuf_len)
{
	struct service_rule *s = calloc(1, sizeof(*s)), **end = &r->services;
	char reason[160] = "";
	vcf_err_t err = s ? glob_new(&s->glob, glob, reason, sizeof(reason)) : -ENOMEM;

	if (err) {
		snprintf(errbuf, errbuf_len, "service = %s %s: %s", service, glob,
			 err == -EINVAL ? reason : strerror(-err));
		free(s);
		return err;
	}
	TEXT_CUT(s->name, service);
	while (*end)
		end = &(*end)->next;
	*end = s;
	return 0;
}

const char *rules_service(const struct rules *r, const char *path)
{
	for (const struct service_rule *s = r->services; s; s = s->next) {
		if (glob_match(s->glob, path))
			return s->name;
	}
	return "default";
}

void rules_free(struct rules *r)
{
	if (!r)
		return;
	free_services(r);
	for (size_t i = 0; i < r->cnt; i++)
		glob_free(r->rules[i].glob);
	bind_free(r->bind);
	free(r);
}

enum file_class rules_class(const struct rules *r, const char *path)
{
	for (size_t i = 0; i < r->cnt; i++) {
		if (glob_match(r->rules[i].glob, path))
			return r->rules[i].cls;
	}
	return CLASS_ENCRYPT;
}

void rules_context(const struct rules *r, const char *path,
		   char dst[TOKEN_CONTEXT_MAX + 1])
{
	/* After an error dst is "": the file is then bound to no instance. */
	if (!r->bind || bind_context(r->bind, path, dst))
		dst[0] = '\0';
}

typedef vcf_err_t context_fn(const struct bind *b, const char *path,
			     char dst[TOKEN_CONTEXT_MAX + 1]);

static vcf_err_t compare_contexts(const struct rules *r, context_fn *context,
				  const char *from, const char *to)
{
	char a[TOKEN_CONTEXT_MAX + 1];
	char b[TOKEN_CONTEXT_MAX + 1];

	if (!r->bind)
		return 0;
	if (context(r->bind, from, a) || context(r->bind, to, b) || strcmp(a, b) != 0)
		return -EXDEV;
	return 0;
}

vcf_err_t rules_move_file(const struct rules *r, const char *from, const char *to)
{
	bool image = rules_is_image(rules_class(r, from));

	if (image != rules_is_image(rules_class(r, to)))
		return -EXDEV;
	return image ? compare_contexts(r, bind_context, from, to) : 0;
}

/* What is known of the paths below the two folders while the rules are gone through. */
struct fold {
	bool differs;	 /* the residuals differed once */
	bool ended[2];	 /* a rule matched all that is below this side */
	bool image;	 /* an image may lie below one of them */
	bool late_image; /* ... decided behind the first difference */
	bool late_plain; /* the same for passthrough files */
};

static void fold_side(struct fold *f, int side, uint64_t residual, enum file_class cls)
{
	bool image = rules_is_image(cls);

	if (f->ended[side] || !residual)
		return;
	f->ended[side] = residual == GLOB_ALL;
	f->image |= image;
	f->late_image |= f->differs && image;
	f->late_plain |= f->differs && !image;
}

static void fold_rule(struct fold *f, const struct rule *rule, const char *from,
		      const char *to)
{
	uint64_t a = glob_residual(rule->glob, from);
	uint64_t b = glob_residual(rule->glob, to);

	f->differs |= a != b;
	fold_side(f, 0, a, rule->cls);
	fold_side(f, 1, b, rule->cls);
}

vcf_err_t rules_move_folder(const struct rules *r, const char *from, const char *to)
{
	struct fold f = {0};

	if (strcmp(from, to) == 0)
		return 0;
	if (!*from || !*to)
		return -EXDEV;
	for (size_t i = 0; i < r->cnt && !(f.ended[0] && f.ended[1]); i++)
		fold_rule(&f, &r->rules[i], from, to);
	fold_side(&f, 0, GLOB_ALL, CLASS_ENCRYPT); /* the default */
	fold_side(&f, 1, GLOB_ALL, CLASS_ENCRYPT);
	if (f.late_image && f.late_plain)
		return -EXDEV;
	return f.image ? compare_contexts(r, bind_context_below, from, to) : 0;
}

const char *rules_class_name(enum file_class c)
{
	static const char *const names[] = {"encrypt", "derived", "passthrough"};

	return names[c];
}
