/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Secrets for new containers: a small reserve made ahead, so that a first write waits for
 * nothing and survives a short outage of the service. Each is journalled before `new` is
 * sent; after a lost reply `find` settles it; so no secret at the service is without a
 * note here. Thread-safe; no call blocks on the network (journal calls block on disk).
 * A reserve belongs to one service; several may share a journal.
 */
#ifndef VCF_CRYPTO_RESERVE_H
#define VCF_CRYPTO_RESERVE_H

#include "crypto/journal.h"
#include "crypto/keyservice.h"
#include "crypto/secret.h"
#include "crypto/token.h"

struct reserve;

struct reserved {
	uint64_t journal_id;
	unsigned char uuid[UUID_LEN];
	char key_id[TOKEN_KEY_ID_MAX + 1];
	struct secret *secret; /* owned by the holder */
};

/*
 * Keeps `target` secrets ready. Unused ones of an earlier run are taken up again (get)
 * where the service still has them. `service` is the name for the journal.
 */
NODISCARD vcf_err_t reserve_new(struct reserve **out, struct keyservice *ks,
				struct journal *j, const char *service,
				unsigned int target);

/*
 * Requests under way are left alone: their answers, which may come later, change nothing
 * (the next start settles them). Waiting takers get -ECANCELED. Comes before
 * keyservice_free() and journal_close().
 */
void reserve_free(struct reserve *r);

/* The waits; the defaults are those of reserve_new(). For tests. */
struct reserve_timing {
	unsigned int refuse_ms; /* a failure answers new takers for this long; 1000 */
	unsigned int backoff_min_ms; /* between tries in the background; 1000 ... */
	unsigned int backoff_max_ms; /* ... doubling to 60000 */
	unsigned int settle_ms; /* how long a `new` without an answer may still arrive at
				 * the service: `find` is believed when it does not find
				 * it only after this; 300000 */
};
NODISCARD vcf_err_t reserve_new_timed(struct reserve **out, struct keyservice *ks,
				      struct journal *j, const char *service,
				      unsigned int target,
				      const struct reserve_timing *timing);

/* Another target; what is ready beyond it stays until it is taken. */
void reserve_set_target(struct reserve *r, unsigned int target);

/*
 * Its service is not configured any more: nothing is given (-ECANCELED) or made from now on. What is
 * unused stays noted; another reserve may take it up, as if this one had died.
 */
void reserve_retire(struct reserve *r);

/* Who wants a secret, for the audit trail. */
struct reserve_wanted {
	const char *path; /* copied */
	bool has_opener;
	uint32_t uid, pid;
};

/*
 * Takes a secret. wanted NULL: for no image. 0: *out is the caller's. -EINPROGRESS: none is
 * ready; one is being made and ready(arg, err) will be called once from another thread (it may
 * be before this call returns), without locks held, after which the caller tries again (err 0)
 * or gives up (err: keyproto_errno(), -ECANCELED, or as the journal's disk says). It must not
 * block.
 * Other -errno: at once (making one has just failed, or -ENOMEM).
 */
typedef void reserve_ready_fn(void *arg, vcf_err_t err);
NODISCARD vcf_err_t reserve_take(struct reserve *r, struct reserved *out,
				 const struct reserve_wanted *wanted,
				 reserve_ready_fn *ready, void *arg);

/* Journals that the container at `path` (dev, ino) is about to carry it; syncs. -ESTALE, -ENOENT:
 * another one does. */
NODISCARD vcf_err_t reserve_using(struct reserve *r, const struct reserved *res,
				  uint64_t dev, uint64_t ino, const char *path);

/* The header is durable: closes the journal entry; frees the secret. */
void reserve_used(struct reserve *r, struct reserved *res);

/* No container carries it: back into the reserve; syncs. */
void reserve_put_back(struct reserve *r, struct reserved *res);

/* Unused secrets at hand. */
unsigned int reserve_count(struct reserve *r);

#endif
