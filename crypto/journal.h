/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The journal of secrets: which secrets are being made, wait unused, are in use by a
 * container that is just being written, or belong to containers that are being deleted.
 * One file per mount in the state directory (0600), flock'ed by its daemon. It never
 * holds a secret.
 *
 * A record is fixed-size-aligned, checksummed and appended with fdatasync before the call
 * returns; the file is preallocated ahead, so that a full disk does not stop a delete. A
 * torn tail is dropped at open and said in the log. Compacted when most of it is dead.
 *
 * An entry lives from its first record to its last:
 *   creating -> unused -> using -> (closed)        a secret's way into a container
 *   creating, unused, using -> destroying          it never got there
 *   deleting -> unlinked -> wiped -> destroying    a container's way out
 *   deleting -> (closed)                           cancelled: unlink failed, or undeleted
 *   destroying -> (closed)                         acknowledged by the service
 *   destroying -> suspect                          MAC mismatch
 * A journal of another host is taken over with all its entries suspect; one that is
 * damaged in the middle, with those that were waiting for use.
 *
 * All calls are thread-safe.
 */
#ifndef VCF_CRYPTO_JOURNAL_H
#define VCF_CRYPTO_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "crypto/container.h"
#include "crypto/token.h"
#include "util/cleanup.h"
#include "util/err.h"

enum journal_state {
	JOURNAL_CREATING = 1, /* `new` may have reached the service */
	JOURNAL_UNUSED,	      /* a reserve secret with its key id */
	JOURNAL_USING,	      /* its container's magic is about to be written */
	JOURNAL_DELETING,     /* unlink or rename-over is about to happen */
	JOURNAL_UNLINKED,     /* it happened */
	JOURNAL_WIPED,	      /* the header is overwritten */
	JOURNAL_DESTROYING,   /* due for destroy at `due` */
	JOURNAL_SUSPECT,      /* parked: an operator decides */
	JOURNAL_CLOSED,	      /* done; never seen by journal_each() */
};

struct journal_entry {
	uint64_t id; /* unique in this journal, never reused */
	enum journal_state state;
	unsigned char uuid[UUID_LEN]; /* container */
	char service[TOKEN_SERVICE_MAX + 1];
	char key_id[TOKEN_KEY_ID_MAX + 1]; /* "" while creating */
	bool derived;			   /* no secret of its own at the service */
	uint64_t dev, ino;
	char path[1024]; /* relative, for the operator; cut if longer */
	time_t created, due;
};

struct journal;

/*
 * Opens or makes the file, takes its lock, replays it.
 * -EBUSY               another daemon serves this backing directory
 * -EROFS, -EACCES, ... with a log line
 */
NODISCARD vcf_err_t journal_open(struct journal **out, const char *path);
void journal_close(struct journal *j);

/* Appends a new entry (entry->id is set) and syncs. `hdr` (may be NULL): the container's
 * first CONTAINER_PEEK_LEN bytes, kept until the entry is closed. -ENOSPC etc. as the
 * disk says. */
NODISCARD vcf_err_t journal_add(struct journal *j, struct journal_entry *entry,
				const void *hdr);

/* Appends a state change (and key id and due time where given) and syncs. -ENOENT: no
 * entry. */
NODISCARD vcf_err_t journal_set(struct journal *j, uint64_t id, enum journal_state state,
				const char *key_id, time_t due);

/* USING, with the file that is about to carry the secret (path is cut to fit); syncs. */
NODISCARD vcf_err_t journal_set_using(struct journal *j, uint64_t id, uint64_t dev,
				      uint64_t ino, const char *path);

/* A snapshot of one live entry. -ENOENT. */
NODISCARD vcf_err_t journal_get(struct journal *j, uint64_t id,
				struct journal_entry *out);

/* Calls fn for a snapshot of each live entry in order of id, without the lock; stops at
 * non-zero and returns that. */
NODISCARD vcf_err_t journal_each(struct journal *j,
				 int (*fn)(void *arg, const struct journal_entry *e),
				 void *arg);

/* The saved header of an entry: CONTAINER_PEEK_LEN bytes. -ENOENT, -ENODATA none was
 * saved, -EBADMSG it cannot be read. */
NODISCARD vcf_err_t journal_header(struct journal *j, uint64_t id, void *hdr);

/* The machine that wrote the journal: /etc/machine-id, or "" if it has none. */
enum { JOURNAL_HOST_HEX_LEN = 32 };
void journal_host(struct journal *j, char hex[JOURNAL_HOST_HEX_LEN + 1]);

/* "creating", "unused", ... */
const char *journal_state_name(enum journal_state state);

/* Live entries in a state. */
size_t journal_count(struct journal *j, enum journal_state state);

DEFINE_AUTO(journal, struct journal *, journal_close)
#define auto_journal __attribute__((cleanup(cleanup_journal)))

#endif
