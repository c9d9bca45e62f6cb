/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The first page of a LUKS1 container, which is all the metadata there is, while it is replaced. Pure.
 *
 * A disk whose unit is 512 bytes may keep any part of that one write when the power fails. So both
 * pages, the old and the new one, are kept in the last three pages before the data, durable before
 * the first page is touched:
 *
 *   D - 12288  the old first page
 *   D - 8192   the new one
 *   D - 4096   LUKS1_KEPT_MAGIC, SHA-256 of the two; zeros
 *
 * A first page that is neither of the two, and each of whose sectors is that of one of the two, is
 * torn. It is mended into the one whose first sector it has: that sector holds the uuid, by which the
 * journal of secrets judges whose secret the file needs, also of a file that nobody has opened yet.
 * Kept pages that fit no longer say nothing: they may stay behind when a replacement was cut short.
 */
#ifndef VCF_CRYPTO_LUKS1_PAGES_H
#define VCF_CRYPTO_LUKS1_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crypto/luks_disk.h"

enum { LUKS1_KEPT_LEN = 3 * LUKS1_TOKEN_END };

#define LUKS1_KEPT_MAGIC "VMCRYPT1KEPTHEAD"

/* Fills `kept`, of LUKS1_KEPT_LEN bytes, from two pages of LUKS1_TOKEN_END. False: out of memory. */
bool luks1_keep(unsigned char *kept, const unsigned char *old_page,
		const unsigned char *new_page);

/* Are pages kept there? */
bool luks1_has_kept(const unsigned char *hdr, uint64_t data_off);

/* Mends the first page of the data_off bytes at hdr. True if that changed it. */
bool luks1_mend(unsigned char *hdr, uint64_t data_off);

#endif
