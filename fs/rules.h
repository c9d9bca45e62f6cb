/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which class a path has, which instance it belongs to, and which renames are allowed.
 * DESIGN section 4 and "Bound to its instance" in section 3. Pure; thread-safe after
 * rules_new().
 *
 * A path is relative to the root, components separated by one '/', no leading or trailing
 * one. Globs: '*' and '?' within a component, '[...]' sets, '**' as a whole component
 * matches any number of components (also none, except at the end, where it wants at least
 * one). First match wins; default encrypt.
 */
#ifndef VCF_FS_RULES_H
#define VCF_FS_RULES_H

#include <stdbool.h>
#include <stddef.h>

#include "crypto/token.h"
#include "util/cleanup.h"
#include "util/err.h"

enum file_class { CLASS_ENCRYPT, CLASS_DERIVED, CLASS_PASSTHROUGH };

struct rules;

struct rule_spec {
	enum file_class cls;
	const char *glob;
};

/*
 * bind: a PCRE2 regular expression whose first group is the context, or NULL.
 * -EINVAL with a text in errbuf if a glob or the expression is malformed.
 */
NODISCARD vcf_err_t rules_new(struct rules **out, const struct rule_spec *specs,
			      size_t cnt, const char *bind, char *errbuf,
			      size_t errbuf_len);
void rules_free(struct rules *r);

/*
 * A new container whose path matches has its secret at that service; the first one that matches
 * decides. Before the rules are shared. As rules_new().
 */
NODISCARD vcf_err_t rules_add_service(struct rules *r, const char *service,
				      const char *glob, char *errbuf, size_t errbuf_len);

/* The service of a new container, "default" if no rule says otherwise; the rules'. */
const char *rules_service(const struct rules *r, const char *path);

enum file_class rules_class(const struct rules *r, const char *path);

/* True if the class keeps containers (encrypt, derived). */
static inline bool rules_is_image(enum file_class c)
{
	return c != CLASS_PASSTHROUGH;
}

/* What `bind` captures of the path, "" if it does not match or captures nothing
 * printable. */
void rules_context(const struct rules *r, const char *path,
		   char dst[TOKEN_CONTEXT_MAX + 1]);

/*
 * May a file (not a folder) go from one path to the other by rename or link?
 * 0; -EXDEV across passthrough and the others, or where the context of an image would
 * change.
 */
NODISCARD vcf_err_t rules_move_file(const struct rules *r, const char *from,
				    const char *to);

/*
 * The same for a folder with everything below it, decided on the two prefixes alone: 0
 * only if every possible descendant keeps its group (passthrough or not) and its context.
 * -EXDEV when in doubt.
 */
NODISCARD vcf_err_t rules_move_folder(const struct rules *r, const char *from,
				      const char *to);

const char *rules_class_name(enum file_class c);

DEFINE_AUTO(rules, struct rules *, rules_free)
#define auto_rules __attribute__((cleanup(cleanup_rules)))

#endif
