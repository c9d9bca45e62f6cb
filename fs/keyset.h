/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The key services of a mount: that of [key-service] ("default") and those of [service NAME].
 * Each has its own requests, reserve, deletions and site secret. The token of a container names
 * its service; the rules say which one a new container gets.
 *
 * The list only grows, until the server ends: a service that a reload takes away is `retired`
 * (nobody finds it, its helpers end), so that whoever has one may use it without a lock.
 */
#ifndef VCF_FS_KEYSET_H
#define VCF_FS_KEYSET_H

#include <stdbool.h>
#include <stdint.h>

#include "fs/linked.h"
#include "fs/server.h"

struct keyset {
	char name[TOKEN_SERVICE_MAX + 1];
	struct keyservice *keys;
	struct reserve *reserve;
	struct deletion_queue *deletions;
	struct sitekey *site;
	_Atomic bool retired;
};

/* The service of that name, or NULL. */
struct keyset *keyset_get(struct server *sv, const char *name);

/* The i-th that is not retired, the default one first; NULL after the last. */
struct keyset *keyset_at(struct server *sv, size_t i);

/* The queue that a deletion's entry belongs to; that of the default service where none does. */
struct deletion_queue *keyset_deletions(struct server *sv, uint64_t id);

/* True if one of the site secrets has this label, or (of that service) this key id. */
bool keyset_is_site(struct server *sv, const struct journal_entry *e);

/*
 * At the start: keysets_start() has the helpers (those of an earlier server where it takes over)
 * and asks each once; keysets_recover() settles what the journal says (l: what lies below the
 * mount, NULL on a take-over) and starts the deletions. -errno with the reason logged.
 */
NODISCARD vcf_err_t keysets_start(struct server *sv, const struct server_params *p);
NODISCARD vcf_err_t keysets_recover(struct server *sv, struct linked *l);

/* The end, in two parts: no more requests, waits are over; and, when no job is left, the rest. */
void keysets_stop(struct server *sv);
void keysets_free(struct server *sv);

/*
 * A reload, in three steps. check: can each helper of `fresh` start; is a service that is gone
 * from it unused (-EBUSY: an image or a deletion needs it, logged)? change: new services begin
 * (-errno: nothing has changed), the others get their settings. settle, when the rules are in
 * place: the reserves, and services that are gone retire.
 */
NODISCARD vcf_err_t keysets_check(struct server *sv, const struct config *fresh);
NODISCARD vcf_err_t keysets_change(struct server *sv, const struct config *fresh);
void keysets_settle(struct server *sv, const struct config *fresh);

#endif
