/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The frame of our key helpers: it speaks the protocol (contrib/doc/key-helper.md) on
 * stdin and stdout and calls the helper's own functions. A helper is
 *
 *	int main(void) { return helper_main(&ops, &ctx); }
 *
 * One thread; requests come one after the other. helper_main() makes the process not
 * dumpable, sets up libgcrypt and the arena for secrets, and wipes each line after use.
 * stderr is the log: helper_log().
 */
#ifndef VCF_CRYPTO_KEYS_HELPER_H
#define VCF_CRYPTO_KEYS_HELPER_H

#include <stdbool.h>
#include <time.h>

#include "crypto/keyproto.h"
#include "crypto/secret.h"
#include "util/err.h"
#include "util/fence.h"

/* Why a request failed; filled by helper_fail(). */
struct helper_failure {
	enum key_error kind;
	unsigned int retry_after_s; /* set it after helper_fail(); 0: not said */
	char text[KEYPROTO_TEXT_MAX + 1];
};

struct helper; /* for helper_item() */

/*
 * All but option and start return 0 or what helper_fail() returned. Functions that are
 * NULL are answered with `error invalid`; option, start and stop may be NULL too.
 */
struct helper_ops {
	const char *name;
	unsigned int caps; /* of enum key_cap */
	bool network;	   /* it talks to others than our own server */
	/* Before start: which paths it opens, beside what a network wants. NULL: none. */
	void (*paths)(void *ctx, struct fence *fence);
	/* Once per option, before start. -EINVAL: unknown or bad; it has been logged. */
	vcf_err_t (*option)(void *ctx, const char *name, const char *value);
	/* Once, after the options; on failure it has logged why and the helper ends. */
	vcf_err_t (*start)(void *ctx);
	/* After start; NULL: none. Of enum key_cap: those that the options have brought. */
	unsigned int (*ready_caps)(void *ctx);
	/* Writes the id of the new record. */
	vcf_err_t (*new_secret)(void *ctx, const char *label, const struct secret *secret,
				char id[TOKEN_KEY_ID_MAX + 1], struct helper_failure *f);
	/* Makes a secret; it is freed by the caller. */
	vcf_err_t (*get)(void *ctx, const char *id, struct secret **out,
			 struct helper_failure *f);
	/* Call helper_item() for each record with the label, with the prefix (may be "").
	 */
	vcf_err_t (*find)(void *ctx, const char *label, struct helper *h,
			  struct helper_failure *f);
	vcf_err_t (*list)(void *ctx, const char *prefix, struct helper *h,
			  struct helper_failure *f);
	/* The record's label must be label, else invalid. *gone: there was none. */
	vcf_err_t (*destroy)(void *ctx, const char *id, const char *label, bool *gone,
			     struct helper_failure *f);
	/* A full round trip to the service. */
	vcf_err_t (*ping)(void *ctx, struct helper_failure *f);
	/* Once, at the end of the input. */
	void (*stop)(void *ctx);
};

/* Runs until the end of the input; the program's exit code. */
int helper_main(const struct helper_ops *ops, void *ctx);

/* Sends an item line. created: "-" if unknown. */
void helper_item(struct helper *h, const char *id, const char *label,
		 const char *created);

/* Fills f and returns the error's errno, never 0. */
vcf_err_t helper_fail(struct helper_failure *f, enum key_error kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The same for a failed system call: ENOENT notfound, EACCES, EPERM, ELOOP denied,
 * ENOSPC, EDQUOT, EFBIG quota, all else unavailable. err is negative. */
vcf_err_t helper_fail_errno(struct helper_failure *f, vcf_err_t err, const char *what);

/*
 * By when the request under way should be answered (clock_now_ms()), UINT64_MAX if that is not
 * known. Each item that is sent gives more time. For helpers with KEY_CAP_DEADLINE.
 */
uint64_t helper_deadline_ms(void);

/* A line on stderr, after the helper's name. */
void helper_log(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A time as the protocol wants it. */
void helper_format_time(char dst[32], time_t t);

#endif
