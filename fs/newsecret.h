/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The secret of a container that a command makes in place of a file, and the note in the commands'
 * journal (offline.h) that lasts until the file is replaced:
 *
 *   newsecret_get()     creating, new at the service, unused   (no secret of its own: nothing yet)
 *   newsecret_using()   using, with the new file, which is empty still
 *   newsecret_done()    closed: the file is replaced
 *   newsecret_undo()    destroyed at the service, closed: it is not
 *
 * What a run leaves that ends in between is settled by the next one (replace.h). Thread-safe for
 * different ones.
 */
#ifndef VCF_FS_NEWSECRET_H
#define VCF_FS_NEWSECRET_H

#include <stdbool.h>

#include "fs/offline.h"

enum newsecret_kind {
	NEWSECRET_OWN,	   /* made at the service */
	NEWSECRET_DERIVED, /* from the site's */
	NEWSECRET_NONE,	   /* a file without any: only noted */
};

enum { NEWSECRET_WHY_LEN = 256 };

struct newsecret {
	struct offline *o;
	enum newsecret_kind kind;
	uint64_t note; /* in the journal; 0: none */
	bool refused;  /* by the service: nothing is on its way to it */
	unsigned char uuid[UUID_LEN];
	char service[TOKEN_SERVICE_MAX + 1], key_id[TOKEN_KEY_ID_MAX + 1];
	struct secret *secret; /* that of the container of this uuid */
	char why[NEWSECRET_WHY_LEN];
};

/*
 * path: of the file that is to have it, for the journal. -ENOKEY: derived, and there is no secret of
 * the site yet; other errors as the service says; n->why has words.
 */
NODISCARD vcf_err_t newsecret_get(struct newsecret *n, struct offline *o,
				  enum newsecret_kind kind, const char *service,
				  const char *path);
/* -ENAMETOOLONG: the journal has no room for the path. */
NODISCARD vcf_err_t newsecret_using(struct newsecret *n, int fd, const char *path);
void newsecret_done(struct newsecret *n);
void newsecret_undo(struct newsecret *n);
/*
 * The site's secret at that service is made, where there is none yet and nobody serves the mount, who
 * would make it. Before threads. -EBUSY; errors are said by newsecret_get().
 */
NODISCARD vcf_err_t newsecret_make_site(struct offline *o, const char *service);

/* offline_init(): is this the note of a site's secret that was being made, and what to do with it. */
bool newsecret_is_site(const struct journal_entry *e);
void newsecret_settle_site(struct offline *o, const struct journal_entry *e);

/* Wipes; the note stays. */
void newsecret_fini(struct newsecret *n);

#endif
