/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bytes that a command takes out of a container's file, kept in the state directory. */
#ifndef VCF_FS_KEEPBYTES_H
#define VCF_FS_KEEPBYTES_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/config.h"
#include "util/err.h"

/*
 * Writes them to STATE/BACKING/kept/UUID-OFFSET[.N], mode 0600, durable; path is its name. A file with
 * the same bytes, of a run that was cut short, is used again; no other is overwritten. -errno.
 */
NODISCARD vcf_err_t keepbytes(char path[PATH_MAX], const struct config *cfg,
			      const char *uuid, uint64_t off, const void *bytes,
			      size_t len);

#endif
