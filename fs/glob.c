/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/glob.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct component {
	const char *text; /* inside glob.text */
	size_t len;
	bool any_depth; /* "**" */
};

struct glob {
	char *text;
	unsigned int cnt;
	struct component components[];
};

static vcf_err_t refuse(char *errbuf, size_t errbuf_len, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static vcf_err_t refuse(char *errbuf, size_t errbuf_len, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(errbuf, errbuf_len, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/*
 * Reads a set; p is behind its '['. Returns the place behind the ']' and whether the set
 * has the byte c, or NULL if the set is malformed. A ']' that comes first is a member.
 */
static const char *set_read(const char *p, const char *end, unsigned char c, bool *has)
{
	bool negated = p < end && (*p == '!' || *p == '^');
	const char *first = negated ? p + 1 : p;
	bool found = false;

	for (p = first; p < end; p++) {
		unsigned char lo = (unsigned char)*p;
		unsigned char hi = lo;

		if (lo == ']' && p > first) {
			*has = found != negated;
			return p + 1;
		}
		if (lo == '[' && p + 1 < end && strchr(":.=", p[1]))
			return NULL; /* [:alpha:] and its like: refused, not misread */
		if (p + 2 < end && p[1] == '-' && p[2] != ']') {
			hi = (unsigned char)p[2];
			p += 2;
		}
		if (hi < lo)
			return NULL;
		found |= lo <= c && c <= hi;
	}
	return NULL;
}

/* Matches one byte; moves *p behind the element on success only. */
static bool element_match(const char **p, const char *end, unsigned char c)
{
	const char *next = *p + 1;
	bool has = false;

	if (**p == '[') {
		next = set_read(next, end, c, &has);
		if (!has)
			return false;
	} else if (**p != '?' && (unsigned char)**p != c) {
		return false;
	}
	*p = next;
	return true;
}

/*
 * Only the last '*' is ever tried again: what stands before it has matched as early as
 * possible, so no other choice could help. At most len * k->len steps.
 */
static bool component_match(const struct component *k, const char *name, size_t len)
{
	const char *p = k->text;
	const char *end = k->text + k->len;
	const char *star = NULL; /* behind the last '*' */
	size_t star_at = 0;	 /* what it has swallowed ends here */
	size_t i = 0;

	while (i < len) {
		if (p < end && *p == '*') {
			star = ++p;
			star_at = i;
		} else if (p < end && element_match(&p, end, (unsigned char)name[i])) {
			i++;
		} else if (star) {
			p = star;
			i = ++star_at;
		} else {
			return false;
		}
	}
	while (p < end && *p == '*')
		p++;
	return p == end;
}

static vcf_err_t component_check(const struct component *k, char *errbuf,
				 size_t errbuf_len)
{
	const char *end = k->text + k->len;
	bool has = false;

	if (!k->len)
		return refuse(errbuf, errbuf_len, "an empty component");
	if (*k->text == '.' && (k->len == 1 || (k->len == 2 && k->text[1] == '.')))
		return refuse(errbuf, errbuf_len, "a component \".\" or \"..\"");
	for (const char *p = k->text; p < end;) {
		if (*p == '\\')
			return refuse(errbuf, errbuf_len,
				      "a backslash (quote a character as in [*])");
		if (*p == '*' && p + 1 < end && p[1] == '*')
			return refuse(errbuf, errbuf_len,
				      "\"**\" that is not a whole component");
		p = *p == '[' ? set_read(p + 1, end, 0, &has) : p + 1;
		if (!p)
			return refuse(errbuf, errbuf_len, "a malformed [set]");
	}
	return 0;
}

static vcf_err_t split(struct glob *g, char *errbuf, size_t errbuf_len)
{
	const char *p = g->text;
	vcf_err_t err = 0;

	for (;;) {
		const char *slash = strchrnul(p, '/');
		struct component *k = &g->components[g->cnt++];

		k->text = p;
		k->len = (size_t)(slash - p);
		k->any_depth = k->len == 2 && p[0] == '*' && p[1] == '*';
		if (!k->any_depth)
			err = component_check(k, errbuf, errbuf_len);
		if (err || !*slash)
			return err;
		p = slash + 1;
	}
}

/* "X**" followed by "*" or "**" at the end says no more than "X**". */
static void simplify_end(struct glob *g)
{
	while (g->cnt > 1 && g->components[g->cnt - 2].any_depth &&
	       (g->components[g->cnt - 1].any_depth ||
		(g->components[g->cnt - 1].len == 1 &&
		 *g->components[g->cnt - 1].text == '*')))
		g->cnt--;
}

vcf_err_t glob_new(struct glob **out, const char *text, char *errbuf, size_t errbuf_len)
{
	auto_glob struct glob *g = NULL;
	size_t cnt = 1;
	vcf_err_t err;

	for (const char *p = text; *p; p++)
		cnt += *p == '/';
	if (*text == '/')
		return refuse(errbuf, errbuf_len,
			      "a leading '/' (patterns are relative to the root)");
	if (cnt > GLOB_COMPONENTS_MAX)
		return refuse(errbuf, errbuf_len, "more than %d components",
			      GLOB_COMPONENTS_MAX);
	g = calloc(1, sizeof(*g) + cnt * sizeof(g->components[0]));
	if (!g)
		return -ENOMEM;
	g->text = strdup(text);
	if (!g->text)
		return -ENOMEM;
	err = split(g, errbuf, errbuf_len);
	if (err)
		return err;
	simplify_end(g);
	*out = STEAL_PTR(&g);
	return 0;
}

void glob_free(struct glob *g)
{
	if (!g)
		return;
	free(g->text);
	free(g);
}

static uint64_t bit(unsigned int state)
{
	return UINT64_C(1) << state;
}

/* True for a "**" at the end, which wants at least one component. */
static bool swallows_rest(const struct glob *g, unsigned int i)
{
	return g->components[i].any_depth && i == g->cnt - 1;
}

/* Adds the states that a "**" reaches by standing for nothing. */
static uint64_t closure(const struct glob *g, uint64_t states)
{
	for (unsigned int i = 0; i < g->cnt; i++) {
		if ((states & bit(i)) && g->components[i].any_depth &&
		    !swallows_rest(g, i))
			states |= bit(i + 1);
	}
	return states;
}

static uint64_t step(const struct glob *g, uint64_t states, const char *name, size_t len)
{
	uint64_t next = 0;

	for (unsigned int i = 0; i < g->cnt; i++) {
		if (!(states & bit(i)))
			continue;
		if (g->components[i].any_depth)
			next |= bit(i);
		if (swallows_rest(g, i) ||
		    (!g->components[i].any_depth &&
		     component_match(&g->components[i], name, len)))
			next |= bit(i + 1);
	}
	return closure(g, next);
}

static uint64_t run(const struct glob *g, const char *path)
{
	uint64_t states = closure(g, bit(0));

	while (states) {
		const char *slash = strchrnul(path, '/');

		states = step(g, states, path, (size_t)(slash - path));
		if (!*slash)
			break;
		path = slash + 1;
	}
	return states;
}

bool glob_match(const struct glob *g, const char *path)
{
	return run(g, path) & bit(g->cnt);
}

uint64_t glob_residual(const struct glob *g, const char *folder)
{
	/* State cnt is where the folder itself matches: nothing follows from it. */
	uint64_t states = run(g, folder) & ~bit(g->cnt);

	if ((states & bit(g->cnt - 1)) && swallows_rest(g, g->cnt - 1))
		return GLOB_ALL;
	return states;
}
