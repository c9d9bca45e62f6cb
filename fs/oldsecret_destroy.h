/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The secret of a container that has none of it any more is destroyed by the command itself, which
 * waits for the service's answer: rekey --destroy-now without a daemon, shred. What the mount's
 * deletions make sure of (deletion_worker.h) holds here, too. Thread-safe.
 */
#ifndef VCF_FS_OLDSECRET_DESTROY_H
#define VCF_FS_OLDSECRET_DESTROY_H

#include <limits.h>

#include "crypto/journal.h"
#include "fs/offline.h"
#include "util/err.h"

struct oldsecret_answer {
	const char *
		word; /* "destroyed"; "gone": it was not there any more; "wrapped": it was in the
			     header alone, the service cannot forget it */
	char text[512]; /* what the service, or we, said of an error */
};

/*
 * Does another container below the backing folder use the secret? `but` (dev, ino): not this file.
 * used: the path of one, below the folder. -EBUSY: yes; -errno: not everything could be seen.
 */
struct oldsecret_but {
	uint64_t dev, ino;
};
NODISCARD vcf_err_t oldsecret_is_free(struct offline *o, const struct journal_entry *e,
				      const struct oldsecret_but *but,
				      char used[PATH_MAX]);

/*
 * The service has it, and the MAC of hdr (CONTAINER_PEEK_LEN bytes) is right under it. -ENOKEY: it has
 * not; -EBADMSG: it belongs to another header; else as the service says.
 */
NODISCARD vcf_err_t oldsecret_check(struct offline *o, const struct journal_entry *e,
				    const void *hdr, struct oldsecret_answer *a);

/* After both. -EINVAL: its label is another one; else as the service says. */
NODISCARD vcf_err_t oldsecret_destroy(struct offline *o, const struct journal_entry *e,
				      struct oldsecret_answer *a);

/* All three, of a note of the offline journal; then that is closed. */
NODISCARD vcf_err_t oldsecret_end_now(struct offline *o, uint64_t id,
				      struct oldsecret_answer *a);

#endif
