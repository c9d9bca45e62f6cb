/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The `bind` expression: which instance a path belongs to (its context). Pure;
 * thread-safe after bind_new().
 */
#ifndef VCF_FS_BIND_H
#define VCF_FS_BIND_H

#include <stddef.h>

#include "crypto/token.h"
#include "util/cleanup.h"
#include "util/err.h"

struct bind;

/* A PCRE2 expression with at least one group. -EINVAL with a reason in errbuf, -ENOMEM.
 */
NODISCARD vcf_err_t bind_new(struct bind **out, const char *text, char *errbuf,
			     size_t errbuf_len);
void bind_free(struct bind *b);

/*
 * What the first group captures of the path; "" if nothing matches or if it is not
 * printable ASCII of at most TOKEN_CONTEXT_MAX bytes. -EXDEV (and "") if the match gave
 * up at a limit: then the context is not known.
 */
NODISCARD vcf_err_t bind_context(const struct bind *b, const char *path,
				 char dst[TOKEN_CONTEXT_MAX + 1]);

/*
 * The context that every path below the folder has, or -EXDEV if the folder's name alone
 * does not decide it.
 */
NODISCARD vcf_err_t bind_context_below(const struct bind *b, const char *folder,
				       char dst[TOKEN_CONTEXT_MAX + 1]);

DEFINE_AUTO(bind, struct bind *, bind_free)
#define auto_bind __attribute__((cleanup(cleanup_bind)))

#endif
