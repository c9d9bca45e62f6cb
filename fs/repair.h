/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What can be mended of a container that nobody has open:
 *
 *   one copy of a LUKS2 header      written anew from the one that counts
 *   the torn first page of LUKS1    likewise, from the kept ones (luks1_pages.h)
 *   remains of old key slots        overwritten
 *   a file that ends in its header  gets the header's length: an image of 0 bytes
 *   bytes behind the last sector    see below
 *   that are no marker
 *
 * A file of D + (n + 1) * S + r bytes, 0 < r < S, has P = n * S + r bytes, zeros in sector n behind
 * them, and a marker of r zeros. If the marker is data, either the size is right, and a write that
 * was never acknowledged left it (then sector n ends with zeros, and the marker is zeroed), or the
 * file was cut in the middle of sector n + 1 (then sector n is full, and the file is cut to its end). So
 * is one of D + r bytes. Whichever it was: nothing is lost, the r bytes are kept in a file of their own
 * in the state directory, since a file beside the image would be plaintext below a mount.
 *
 * All of it is done with a header only that its secret has opened: the good copy is the one that the
 * MAC is right of. Each step is whole or can be done again.
 */
#ifndef VCF_FS_REPAIR_H
#define VCF_FS_REPAIR_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "crypto/container.h"
#include "fs/toolkeys.h"
#include "util/err.h"

enum repair_tail { TAIL_RIGHT, TAIL_HEADER, TAIL_CUT, TAIL_MARKER };

struct repair {
	/* the caller's */
	struct toolkeys *keys;
	const char *path;
	int fd; /* O_RDWR, or O_RDONLY for the plan alone */
	/* the plan */
	struct container
		*c; /* unlocked, its header mended in memory; NULL: there is none */
	uint64_t len, data_off;
	bool header, remains;
	enum repair_tail tail;
	uint64_t tail_off, tail_len; /* bytes that go */
	uint64_t plen; /* of the image afterwards, where tail says something */
	/* done */
	char kept[PATH_MAX]; /* the file with these bytes; "": they are zeros */
};

enum { REPAIR_WHY_LEN = TOOLKEYS_WHY_LEN + 64 };

/* -errno, and why it cannot be mended; *why may be "". repair_fini() in every case. */
NODISCARD vcf_err_t repair_plan(struct repair *r, char why[REPAIR_WHY_LEN]);
void repair_fini(struct repair *r);

bool repair_is_needed(const struct repair *r);

/* What the plan is, in words: "A; B". */
void repair_describe(const struct repair *r, char *dst, size_t room);

/* On a file that nobody else changes (offline_claim()). */
NODISCARD vcf_err_t repair_do(struct repair *r);

#endif
