/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The journal's file: locked, replayed, appended to with a sync for each record, room
 * allocated ahead, replaced by a compacted one. It knows records, not entries.
 *
 * Not thread-safe: the journal's lock is held around every call.
 */
#ifndef VCF_CRYPTO_JOURNAL_FILE_H
#define VCF_CRYPTO_JOURNAL_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "crypto/journal_record.h"
#include "util/err.h"

struct journal_file {
	int fd; /* holds the flock */
	char *path;
	unsigned char *buf; /* one record */
	struct journal_header header;
	uint64_t write_off;    /* of the next record */
	uint64_t room_off;     /* allocated up to here */
	uint64_t seq;	       /* of the last record */
	unsigned char *window; /* of the file, while replaying */
	uint64_t window_off;
	size_t window_len;
	bool replaying;
	bool failed;	 /* a sync failed: what is on the disk is unknown */
	bool short_said; /* the warning that no more room can be had */
	bool damaged;	 /* replay met bad records before good ones */
	bool foreign;	 /* written on another host */
};

/*
 * Opens or makes the file (and its folders, 0700) and takes its lock. -EBUSY another
 * process holds it; -EBADMSG no journal; -ENOTSUP of a later version; else as open(2).
 * Logs why.
 */
NODISCARD vcf_err_t journal_file_open(struct journal_file *f, const char *path);

/* Gives up lock and memory; for an opened or zeroed (fd -1) struct. */
void journal_file_close(struct journal_file *f);

/*
 * Calls fn for each valid record in order; its error ends the replay. A torn tail is
 * logged and zeroed; if valid records follow bad ones, they are replayed, `damaged` is
 * set and the file is left alone.
 */
typedef vcf_err_t journal_replay_fn(void *arg, const struct journal_record *r,
				    uint64_t off, size_t len);
NODISCARD vcf_err_t journal_file_replay(struct journal_file *f, journal_replay_fn *fn,
					void *arg);

/*
 * Appends r (its sequence number is set here). `sync`: durable on return. *off, *len:
 * where it lies. On error nothing has happened; the next append takes the same place.
 * After a failed sync every append is -EIO.
 */
NODISCARD vcf_err_t journal_file_append(struct journal_file *f, struct journal_record *r,
					const void *hdr, bool sync, uint64_t *off,
					size_t *len);

/* Reads back the record at off. */
NODISCARD vcf_err_t journal_file_read(struct journal_file *f, struct journal_record *r,
				      void *hdr, uint64_t off);

/*
 * Makes an empty, locked file beside old; its records go on with old's sequence numbers.
 * journal_file_replace() then syncs it and renames it over old (which is closed; kept as
 * PATH.damaged if it is damaged), *old becomes it. On error old stays as it is; the
 * caller drops a file that replaces nothing by journal_file_discard().
 */
NODISCARD vcf_err_t journal_file_beside(struct journal_file *f,
					const struct journal_file *old, uint64_t next_id);
NODISCARD vcf_err_t journal_file_replace(struct journal_file *old,
					 struct journal_file *f);
void journal_file_discard(struct journal_file *f);

#endif
