/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Overwrites a deleted container's header: the local half of shredding it. Best effort:
 * SSDs, copy-on-write file systems and snapshots keep what was there.
 */
#ifndef VCF_CRYPTO_HEADER_WIPE_H
#define VCF_CRYPTO_HEADER_WIPE_H

#include <stdint.h>

#include "util/err.h"

/*
 * Overwrites what is allocated of [0, data_off) with random bytes (keyslots first, then
 * the metadata), syncs, truncates the file. Leaves a file that has a link alone. Errors
 * are logged with `name`. Thread-safe; blocks on disk; moves the file position of fd.
 */
void header_wipe(int fd, uint64_t data_off, const char *name);

/* The same of a file that has a name, and is not truncated. -errno, nothing is logged. */
NODISCARD vcf_err_t header_overwrite(int fd, uint64_t data_off);

#endif
