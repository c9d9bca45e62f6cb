/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The data of one unlocked container, by the sector, for commands that only look. */
#ifndef VCF_FS_TOOLDATA_H
#define VCF_FS_TOOLDATA_H

#include <stddef.h>
#include <stdint.h>

#include "crypto/container.h"
#include "util/cleanup.h"
#include "util/err.h"

struct tooldata;

/* Keeps nothing of the container but its key, in a table of its own. -ENOMEM, -EPERM (logged). */
NODISCARD vcf_err_t tooldata_new(struct tooldata **out, const struct container *c);
void tooldata_free(struct tooldata *d);

/*
 * Reads and decrypts whole sectors into buf; where `holes` is zero, a sector of zeros stays one.
 * -EIO: the file ends before; -errno. Not for several threads.
 */
NODISCARD vcf_err_t tooldata_read(struct tooldata *d, int fd, unsigned char *buf,
				  uint64_t sector, size_t cnt);

/* One sector in place, whatever it is. */
NODISCARD vcf_err_t tooldata_decrypt(struct tooldata *d, unsigned char *buf,
				     uint64_t sector);

/*
 * Is the container's volume key that of the data behind the header of that file of len bytes? It
 * decrypts to noise with any other: 16 equal bytes, in their place, are proof enough (2^-120 for each
 * block looked at). Where there are none in the first GiB of data, as in an image of encrypted or
 * compressed bytes alone, it cannot be told: false.
 */
NODISCARD vcf_err_t tooldata_proves_key(struct tooldata *d, int fd, uint64_t len,
					bool *proven);

DEFINE_AUTO(tooldata, struct tooldata *, tooldata_free)
#define auto_tooldata __attribute__((cleanup(cleanup_tooldata)))

#endif
