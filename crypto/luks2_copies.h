/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The two copies of LUKS2 metadata, 16 KiB each, at 0 and 16384. Pure.
 *
 * A copy is good if magic, version, its two sizes and its checksum are right. The good
 * copy with the higher sequence number counts, the first if they are equal: as in
 * libcryptsetup. Its own mending needs lock files (it is off without metadata locking),
 * hence ours.
 */
#ifndef VCF_CRYPTO_LUKS2_COPIES_H
#define VCF_CRYPTO_LUKS2_COPIES_H

#include <stdbool.h>
#include <stddef.h>

/* The copy that counts in the first len bytes of a file, 0 or 1; -1 if none is good. */
int luks2_newest(const unsigned char *buf, size_t len);

/*
 * Does the second copy say that it is the newer one? Its first 4 KiB are looked at: whether it is
 * good remains to be seen. buf: from the start of the file.
 */
bool luks2_second_is_newer(const unsigned char *buf);

/*
 * Which of the 2 * 16 KiB at buf does not say what the copy that counts says: 0 or 1; -1: none, or no
 * copy is good. *good: it is a good one all the same, from before the last change (or after another
 * one's).
 */
int luks2_stale(const unsigned char *buf, bool *good);

/*
 * Makes both of the 2 * 16 KiB at buf say what the copy that counts says.
 * Returns true if that changed the other one; false too if no copy is good.
 */
bool luks2_mend(unsigned char *buf);

#endif
