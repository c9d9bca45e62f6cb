/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The folder question is answered by partial matching (pcre2partial(3)). With
 * PCRE2_PARTIAL_HARD, matching "folder/" answers PARTIAL as soon as an attempt looks
 * beyond the end, so that
 *   a match     was found without looking at what follows: it is the match of every path
 *               below, and what it captured is fixed;
 *   NOMATCH     every attempt that starts inside "folder/" fails whatever follows. One
 *               could still start behind it, unless the expression is anchored;
 *   PARTIAL     what follows matters: undecided.
 * Start optimisations are off: they reason about the whole subject.
 */
#include "fs/bind.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* Far more than a sane expression takes on a path, far less than a stall. */
enum { MATCH_LIMIT = 100000, DEPTH_LIMIT = 10000, HEAP_LIMIT_KIB = 4096 };

struct bind {
	pcre2_code *code;
	pcre2_match_context *limits;
	bool anchored;
};

static vcf_err_t compile(struct bind *b, const char *text, char *errbuf,
			 size_t errbuf_len)
{
	PCRE2_UCHAR reason[128];
	PCRE2_SIZE at;
	int rc;

	b->code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
				PCRE2_NEVER_UTF | PCRE2_DOLLAR_ENDONLY |
					PCRE2_NO_START_OPTIMIZE,
				&rc, &at, NULL);
	if (b->code)
		return 0;
	pcre2_get_error_message(rc, reason, sizeof(reason));
	snprintf(errbuf, errbuf_len, "at character %zu: %s", at + 1,
		 (const char *)reason);
	return -EINVAL;
}

static vcf_err_t inspect(struct bind *b, char *errbuf, size_t errbuf_len)
{
	uint32_t groups = 0;
	uint32_t options = 0;

	pcre2_pattern_info(b->code, PCRE2_INFO_CAPTURECOUNT, &groups);
	pcre2_pattern_info(b->code, PCRE2_INFO_ALLOPTIONS, &options);
	b->anchored = options & PCRE2_ANCHORED;
	if (groups)
		return 0;
	snprintf(errbuf, errbuf_len, "no (group) that captures the instance");
	return -EINVAL;
}

vcf_err_t bind_new(struct bind **out, const char *text, char *errbuf, size_t errbuf_len)
{
	auto_bind struct bind *b = calloc(1, sizeof(*b));
	vcf_err_t err;

	if (!b)
		return -ENOMEM;
	err = compile(b, text, errbuf, errbuf_len);
	if (!err)
		err = inspect(b, errbuf, errbuf_len);
	if (err)
		return err;
	b->limits = pcre2_match_context_create(NULL);
	if (!b->limits)
		return -ENOMEM;
	pcre2_set_match_limit(b->limits, MATCH_LIMIT);
	pcre2_set_depth_limit(b->limits, DEPTH_LIMIT);
	pcre2_set_heap_limit(b->limits, HEAP_LIMIT_KIB);
	*out = STEAL_PTR(&b);
	return 0;
}

void bind_free(struct bind *b)
{
	if (!b)
		return;
	pcre2_match_context_free(b->limits);
	pcre2_code_free(b->code);
	free(b);
}

static void free_match(pcre2_match_data **md)
{
	pcre2_match_data_free(*md);
}

/* The first group, if it is set and fit to stand in a token. */
static void take_group(pcre2_match_data *md, const char *subject,
		       char dst[TOKEN_CONTEXT_MAX + 1])
{
	const PCRE2_SIZE *at = pcre2_get_ovector_pointer(md);
	size_t len;

	if (at[2] == PCRE2_UNSET || at[3] < at[2])
		return;
	len = at[3] - at[2];
	if (len > TOKEN_CONTEXT_MAX)
		return;
	for (size_t i = 0; i < len; i++) {
		if (subject[at[2] + i] < 0x20 || subject[at[2] + i] > 0x7e)
			return;
	}
	memcpy(dst, subject + at[2], len);
	dst[len] = '\0';
}

/* Returns what pcre2_match() does; dst is "" unless it matched. */
static int match(const struct bind *b, const char *subject, uint32_t options,
		 char dst[TOKEN_CONTEXT_MAX + 1])
{
	pcre2_match_data *md __attribute__((cleanup(free_match))) =
		pcre2_match_data_create_from_pattern(b->code, NULL);
	int rc;

	dst[0] = '\0';
	if (!md)
		return PCRE2_ERROR_NOMEMORY;
	rc = pcre2_match(b->code, (PCRE2_SPTR)subject, strlen(subject), 0, options, md,
			 b->limits);
	/* rc is the highest group set, plus 1: group 1 may be unset in every case. */
	if (rc >= 2)
		take_group(md, subject, dst);
	return rc;
}

vcf_err_t bind_context(const struct bind *b, const char *path,
		       char dst[TOKEN_CONTEXT_MAX + 1])
{
	int rc = match(b, path, 0, dst);

	return rc > 0 || rc == PCRE2_ERROR_NOMATCH ? 0 : -EXDEV;
}

vcf_err_t bind_context_below(const struct bind *b, const char *folder,
			     char dst[TOKEN_CONTEXT_MAX + 1])
{
	auto_free char *subject = NULL;
	int rc;

	if (asprintf(&subject, "%s/", folder) < 0) {
		subject = NULL; /* asprintf leaves it undefined */
		return -EXDEV;
	}
	rc = match(b, subject, PCRE2_PARTIAL_HARD, dst);
	if (rc > 0 || (rc == PCRE2_ERROR_NOMATCH && b->anchored))
		return 0;
	dst[0] = '\0';
	return -EXDEV;
}
