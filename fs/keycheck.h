/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What can be said of the key service when a mount begins. */
#ifndef VCF_FS_KEYCHECK_H
#define VCF_FS_KEYCHECK_H

#include "crypto/keyservice.h"
#include "fs/config.h"
#include "util/err.h"

/*
 * Do the helpers of these services start? All are asked at once. A helper that ends before it
 * is ready twice (a wrong option, a missing library) stops the mount: -ENOTCONN, its last error
 * logged. A service that does not answer within a few seconds does not: hosts boot before their
 * services.
 */
NODISCARD vcf_err_t keycheck_start(struct keyservice *const *all,
				   const char *const *names, size_t cnt);

/* The same of one service, for a command: -ENOTCONN, logged, if its helper does not start. */
NODISCARD vcf_err_t keycheck_helper(struct keyservice *ks, const char *name);

/* Warns of helpers that are for trying only, and of keys that lie beside what they protect. */
void keycheck_warn(const struct config *cfg, const struct config *service, int rootfd);

#endif
