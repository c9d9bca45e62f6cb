/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way out of a container and its secret (DESIGN section 7, "Deleting").
 *
 *   deletion_begin()     before unlink or rename-over of the last link: journalled
 *   deletion_cancel()    that call failed: nothing was touched
 *   deletion_unlinked()  it succeeded
 *   deletion_wipe()      nlink is 0 and no handle is left: the header is overwritten
 *                        (best effort); the secret is due for destroy after the delay
 *   a thread of its own  when due: no linked container uses the uuid or key id (in_use
 *                        callback), get, MAC of the saved header, destroy with the
 *                        label; a mismatch is parked as suspect; a dead service only
 *                        delays it
 *
 * A derived image has no secret of its own: its entry only remembers that the header is
 * to be wiped. With on-delete = keep an entry ends with the wipe, and what an earlier
 * configuration left waiting stays.
 *
 * With destroyer = controller the thread leaves what is due alone: `vmcryptfs keys reap`
 * does the last stage elsewhere, and its receipts end the entries.
 *
 * Only the last stage talks to the service. Thread-safe; calls block on disk only.
 */
#ifndef VCF_CRYPTO_DELETION_H
#define VCF_CRYPTO_DELETION_H

#include "crypto/journal.h"
#include "crypto/keyservice.h"

struct deletion_queue;

struct deletion_config {
	const char *service; /* entries of other services are left alone */
	bool keep;	     /* on-delete = keep: never destroy */
	bool controller;     /* destroyer = controller: another machine destroys */
	uint64_t delay_s;    /* destroy-delay */
	uint64_t per_minute; /* destroy-rate; 0: 120 */
	/*
	 * Required. Is a container with one of these uuids or key ids linked below our
	 * mounts? Sets in_use[i]. Called from the queue's thread, may take long (walks
	 * the tree). Its error puts off the destroy.
	 */
	vcf_err_t (*in_use)(void *arg, const struct journal_entry *entries, size_t cnt,
			    bool *in_use);
	void *in_use_arg;
	/*
	 * For deletion_recover(): is an entry of this service one to settle by this
	 * configuration? NULL: all are.
	 */
	bool (*is_mine)(void *arg, const char *service);
	void *is_mine_arg;
};

/*
 * Starts the thread; call deletion_recover() before. Freeing does not wait for the
 * service: a request under way is settled by the next start. It comes before
 * keyservice_free() and journal_close().
 */
NODISCARD vcf_err_t deletion_queue_new(struct deletion_queue **out, struct journal *j,
				       struct keyservice *ks,
				       const struct deletion_config *cfg);
void deletion_queue_free(struct deletion_queue *q);

/* The waits; the defaults are those of deletion_queue_new(). For tests. */
struct deletion_timing {
	unsigned int backoff_min_ms; /* after the service failed: 60000 ... */
	/* ... doubling to 3600000, for each entry; and for the whole queue, if the service
	 * did not answer, or several entries in a row failed */
	unsigned int backoff_max_ms;
	unsigned int poll_ms;	 /* looks at least this often; 60000 */
	unsigned int spacing_ms; /* a share of time for each entry; 0: destroy-rate's */
};
NODISCARD vcf_err_t deletion_queue_new_timed(struct deletion_queue **out,
					     struct journal *j, struct keyservice *ks,
					     const struct deletion_config *cfg,
					     const struct deletion_timing *timing);

/*
 * At mount, before requests are served, from one walk of the tree: is_linked(arg, uuid)
 * tells whether a container with that uuid has a name. Deletions of linked ones are
 * cancelled; `using` entries whose container exists are closed, others become due for
 * destroy; unlinked ones that were not wiped become due (their header is gone with the
 * last handle).
 */
NODISCARD vcf_err_t deletion_recover(
	struct journal *j, const struct deletion_config *cfg,
	bool (*is_linked)(void *arg, const unsigned char uuid[UUID_LEN]), void *arg);

/*
 * intent: uuid, service, key_id, derived, dev, ino, path.
 * hdr: the container's first CONTAINER_PEEK_LEN bytes (derived: may be NULL). *id names
 * the deletion. -EINVAL no hdr; else as journal_add().
 */
NODISCARD vcf_err_t deletion_begin(struct deletion_queue *q,
				   const struct journal_entry *intent, const void *hdr,
				   uint64_t *id);
/* The one of that container that began and did not come to the wipe yet. -ENOENT. */
NODISCARD vcf_err_t deletion_find(struct deletion_queue *q,
				  const unsigned char uuid[UUID_LEN], uint64_t *id);
void deletion_cancel(struct deletion_queue *q, uint64_t id);
void deletion_unlinked(struct deletion_queue *q, uint64_t id);
/*
 * fd: writable, on the unlinked container; its first data_off bytes are overwritten and
 * synced, then it is truncated. If it has a link after all, nothing is overwritten and
 * the in_use callback decides when the secret is due. Errors are logged.
 */
void deletion_wipe(struct deletion_queue *q, uint64_t id, int fd, uint64_t data_off);
/*
 * The file is not there any more: nothing is left to wipe. Also of one that never came to be, or that
 * has another secret by now.
 */
void deletion_gone(struct deletion_queue *q, uint64_t id);

/*
 * An operator takes back an entry that waits for destroy: its secret stays. -ENOENT there
 * is none; -EBUSY it is being destroyed just now.
 */
NODISCARD vcf_err_t deletion_restore(struct deletion_queue *q, uint64_t id);

/* An entry that waits for destroy is due now. */
void deletion_hasten(struct deletion_queue *q, uint64_t id);

/*
 * Another on-delete and destroy-delay: for what is deleted from now on. Entries keep the time at
 * which they are due; with `keep` they wait.
 */
void deletion_set_policy(struct deletion_queue *q, bool keep, bool controller,
			 uint64_t delay_s, uint64_t per_minute);

/* Something in the journal is due that was not before. */
void deletion_look(struct deletion_queue *q);

/* Entries that wait for destroy, and suspects. */
void deletion_counts(struct deletion_queue *q, size_t *waiting, size_t *suspect);

struct deletion_status {
	uint64_t pause_s;     /* until the service is asked again; 0: not paused */
	char last_error[256]; /* "" if the last one went well */
};
void deletion_get_status(struct deletion_queue *q, struct deletion_status *out);

#endif
