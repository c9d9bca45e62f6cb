/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Path patterns, matched component by component. Pure; thread-safe after glob_new().
 *
 * Within a component: '*' any bytes (a leading dot too), '?' one byte, '[a-z]' and
 * '[!a-z]' sets, everything else itself. A metacharacter is quoted by a set: '[*]',
 * '[[]'; a backslash outside a set is refused. '**' as a whole component stands for any
 * number of components (also none; at the end of a pattern at least one).
 *
 * A pattern of n components is an automaton whose state i means "component i comes next"
 * and whose state n means "matched". A set of states is a bit mask: matching costs
 * (components of the path) x (components of the pattern), whatever the pattern is.
 */
#ifndef VCF_FS_GLOB_H
#define VCF_FS_GLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/cleanup.h"
#include "util/err.h"

enum { GLOB_COMPONENTS_MAX = 62 };

/* The residual of a prefix below which every path matches. */
#define GLOB_ALL (UINT64_C(1) << 63)

struct glob;

/* -EINVAL with a reason in errbuf, or -ENOMEM. */
NODISCARD vcf_err_t glob_new(struct glob **out, const char *text, char *errbuf,
			     size_t errbuf_len);
void glob_free(struct glob *g);

bool glob_match(const struct glob *g, const char *path);

/*
 * What the pattern may still match below a folder: 0 nothing, GLOB_ALL everything, else a
 * set of states. Equal residuals of two folders match the same paths below them.
 */
uint64_t glob_residual(const struct glob *g, const char *folder);

DEFINE_AUTO(glob, struct glob *, glob_free)
#define auto_glob __attribute__((cleanup(cleanup_glob)))

#endif
