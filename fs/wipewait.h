/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Containers that have lost their last name here while another node has them open (shared = yes).
 * Their content is that node's guest's as long as it runs: the header is wiped, and its secret
 * becomes due, when nobody holds the file's OPEN lock any more (nodelock.h). Until then the entry of
 * the journal stays `unlinked`. It is looked once a second.
 *
 * The descriptor that is kept for it goes with the server. Whoever comes next finds the entry, but
 * not always the file: then the header goes unwiped with the last handle, and the secret is due
 * after destroy-delay.
 */
#ifndef VCF_FS_WIPEWAIT_H
#define VCF_FS_WIPEWAIT_H

#include "fs/server.h"

struct wipewait;

NODISCARD vcf_err_t wipewait_new(struct wipewait **out, struct server *sv);
void wipewait_free(struct wipewait *w);

/* Has somebody the file open? If not, nobody can from now on, until fd is closed. */
bool wipewait_needed(int fd);

/* fd: writable, of the container; taken over. */
void wipewait_add(struct wipewait *w, uint64_t deletion, int fd, uint64_t data_off);

void wipewait_tick(struct wipewait *w);

/* No tick does anything from now on: the queues that they tell of it go. */
void wipewait_stop(struct wipewait *w);

#endif
