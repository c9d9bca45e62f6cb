/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What offline.c and offline_secret.c share. */
#ifndef VCF_FS_OFFLINE_IMPL_H
#define VCF_FS_OFFLINE_IMPL_H

#include <sys/stat.h>

#include "fs/offline.h"

/* An image that a daemon has open, or whose key it does not give up. -EBUSY. */
NODISCARD vcf_err_t offline_check_daemons(const char *runtime, int fd,
					  const struct stat *st);

/* A secret by service and id. Says what is wrong. */
NODISCARD vcf_err_t offline_fetch_from(struct offline *o, const struct offline_file *f,
				       const char *service, const char *id,
				       struct secret **secret);

#endif
