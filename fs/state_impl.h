/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of state share: nothing outside fs/state*.c includes this.
 *
 *   state.c           lookups, names, handles
 *   state_takeover.c  what an earlier process left
 */
#ifndef VCF_FS_STATE_IMPL_H
#define VCF_FS_STATE_IMPL_H

#include "fs/state.h"

enum { HASH_BITS = 18, HASH_CNT = 1 << HASH_BITS };

/* Which slots are free: a stack of freed ones, then those never used. */
struct slots {
	uint32_t *free_stack;
	uint32_t free_cnt, max, live;
	_Atomic uint32_t *next; /* in the session's head */
};

struct state {
	struct mutex lock;
	struct session *ses;
	struct node *nodes;		       /* the session's */
	struct handle *handles;		       /* the session's */
	struct slots node_slots, handle_slots; /* (l) */
	uint32_t *hash;	 /* (l) slot + 1 of the first in each chain */
	uint32_t *chain; /* (l) slot + 1 of the next */
};

/* The id of a slot in its gen-th use. */
uint64_t state_id(uint32_t slot, uint32_t gen);

void state_hash_add_locked(struct state *st, struct node *n);

/*
 * Frees a node that nobody refers to any more; its parent may be next. Returns a descriptor to be
 * closed without the lock, or -1.
 */
int state_release_locked(struct state *st, struct node *n);

/* Makes all that is not in the session. -EBADMSG: the tables cannot be used. */
NODISCARD vcf_err_t state_take_over(struct state *st);

#endif
