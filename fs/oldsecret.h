/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The secret that a container had, when a command (rekey, convert, decrypt) takes it from a file that
 * no daemon has open:
 *
 *   oldsecret_note()    before the change: journalled beside what is under way (offline.h), with the
 *                       container's first bytes
 *   oldsecret_cancel()  nothing was changed
 *   oldsecret_gone()    the file has it no more: it is handed over to the mount's deletions
 *                       (deletion.h), in the daemon that serves it, else in its journal
 *
 *   crash                      the next command's start finds          and
 *   before the change          a container of that uuid at the path    closes the note
 *                              or beside it
 *   after it, or handed over   none                                    hands it over: once, since
 *   and not closed                                                     the mount knows the uuid
 *
 * What can not be looked at stays noted, and so does one whose file is gone where the mount does not
 * look, for the file may have been moved. Handed over, it is destroyed when it is due, the saved
 * header's MAC is right under it, and no container below the mount uses it.
 *
 * A derived secret is the site's: it has no note, and id 0. Thread-safe.
 */
#ifndef VCF_FS_OLDSECRET_H
#define VCF_FS_OLDSECRET_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "crypto/container.h"
#include "crypto/journal.h"
#include "fs/offline.h"
#include "util/err.h"

/*
 * path: the file's, absolute. hdr: its first CONTAINER_PEEK_LEN bytes as they are. Synced.
 * -ENAMETOOLONG: the journal has no room for the path. -errno of the journal: nothing may be changed.
 */
NODISCARD vcf_err_t oldsecret_note(struct offline *o, const struct container *c,
				   const char *path, const void *hdr, uint64_t *id);
void oldsecret_cancel(struct offline *o, uint64_t id);

/* What becomes of it. */
struct oldsecret_end {
	enum {
		OLDSECRET_SITE,	    /* it was derived: the site's stays */
		OLDSECRET_KEPT,	    /* on-delete = keep */
		OLDSECRET_QUEUED,   /* destroyed when it is due */
		OLDSECRET_DESTROYED /* oldsecret_destroy.h */
	} how;
	time_t due;
	char service[TOKEN_SERVICE_MAX + 1], key_id[TOKEN_KEY_ID_MAX + 1];
};

/*
 * now: due at once, not after destroy-delay. -errno: it could not be handed over; the note stays, and
 * the next command tries again.
 */
NODISCARD vcf_err_t oldsecret_gone(struct offline *o, uint64_t id, bool now,
				   struct oldsecret_end *end);

/* "its old secret ID at SERVICE ..." */
void oldsecret_describe(char *dst, size_t room, const struct oldsecret_end *end);

/* offline_init(): is this note one of these (or of shred.h, which completes its own), and what to do
   with it. Logs what stays. */
bool oldsecret_is(const struct journal_entry *e);
void oldsecret_settle(struct offline *o, const struct journal_entry *e);

/* Where a command builds what will take the file's place: DIR/.NAME.vmcryptfs. -ENAMETOOLONG. */
NODISCARD vcf_err_t oldsecret_beside(char dst[PATH_MAX], const char *path);

#endif
