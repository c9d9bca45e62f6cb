/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One image of the mount gets another secret, whether guests have it open or not; no handle notices.
 *
 *   REKEYJOB_OWN       from one that is derived to one of its own (promote.h)
 *   REKEYJOB_NEW       from whichever it has to a new one (rekeyer.h); the old one, if it is not the
 *                      site's, goes the way of those of removed images (deletion.h)
 *   REKEYJOB_COMPLETE  it is open, and a server died while its header changed: what is left of that
 *
 * Steps and what a crash leaves: rekeyjob.c.
 */
#ifndef VCF_FS_REKEYJOB_H
#define VCF_FS_REKEYJOB_H

#include <stdbool.h>
#include <stdint.h>

#include "crypto/token.h"
#include "fs/server.h"

struct rekeyjob_order {
	enum rekeyjob_kind { REKEYJOB_OWN, REKEYJOB_NEW, REKEYJOB_COMPLETE } kind;
	uint64_t dev, ino;
	const char *path; /* below the mount */
	/* NEW: of the header that is to be changed; COMPLETE: of the one that was */
	unsigned char uuid[UUID_LEN];
	/* NEW: */
	const char *service; /* "": that which it has, or a derived one's rule */
	bool now;	     /* the old secret is due at once */
};

struct rekeyjob_result {
	vcf_err_t err;	 /* -EAGAIN: somebody else is at its header just now */
	const char *why; /* words for err, or NULL */
	bool final;	 /* err says something about this image alone */
	/* Without an error: what it has, if it is an image. */
	bool is_image;
	bool changed; /* not by an earlier one */
	unsigned char uuid[UUID_LEN];
	struct token token;
	/* If it was changed: the one it had, whose end is queued. */
	struct token old;
	bool old_kept;	  /* on-delete = keep */
	time_t old_due;	  /* 0: nothing is queued */
	bool escrow_lost; /* it had an escrow token, and has none */
};

/*
 * done(arg, result) is called once, on an executor, without locks; it may be before this call returns.
 * -ENOMEM, and it is not called.
 */
typedef void rekeyjob_done_fn(void *arg, const struct rekeyjob_result *res);
NODISCARD vcf_err_t rekeyjob_start(struct server *sv, const struct rekeyjob_order *order,
				   rekeyjob_done_fn *done, void *arg);

#endif
