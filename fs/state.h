/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tables of nodes and handles: what the kernel and we agreed on since the mount. The records
 * lie in the session's area (a) (session.h) and outlive the process; what can be rebuilt from them
 * (reference counts, free lists, the hash over inodes) lies in struct state or is made anew.
 *
 * node    an inode that the kernel knows (LOOKUP count > 0) or that a node or handle refers to
 * handle  an open file or folder
 *
 * A nodeid is (generation - 1) << 32 | slot + 1, the root's is 1 (FUSE_ROOT_ID); a handle id
 * likewise. Records never move: a pointer stays valid while the kernel holds the nodeid, which it
 * does during any request about it.
 *
 * A lookup that is counted for an answer is marked in the request's slot in the same transaction:
 * a successor takes back those of requests that the kernel still waits for, and executes them
 * again. So counts are right however often the process dies.
 *
 * Locking: state.lock guards the tables. Fields: (c) constant after publishing, (l) the lock,
 * (a) atomic. Calls take the lock themselves.
 */
#ifndef VCF_FS_STATE_H
#define VCF_FS_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "fs/rules.h"
#include "fs/session.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/lock.h"

enum {
	STATE_NODES_MAX = SESSION_NODES_MAX,
	STATE_HANDLES_MAX = SESSION_HANDLES_MAX,
	STATE_NAME_MAX = SESSION_NAME_MAX,
	STATE_PATH_MAX = SESSION_PATH_MAX,
};

struct state;

/* The identity of a backing inode as one name sees it. */
struct node_key {
	uint64_t dev, ino, domain;
};

/*
 * Begins with the root, or takes over what an earlier process left in the session: puts an
 * unfinished transaction back, checks each record (one that is not sound is dropped, logged and
 * counted in head->dropped), frees nodes that nobody refers to. The session stays the caller's.
 */
NODISCARD vcf_err_t state_new(struct state **out, struct session *ses, int rootfd);
/* Closes all descriptors of the tables and empties them. */
void state_free(struct state *st);
/* Frees what is this process's own; the tables are for the next one. */
void state_leave(struct state *st);

/* The record of a nodeid, or NULL if it names none (a stale or forged one). */
struct node *state_node(struct state *st, uint64_t id);
struct node *state_root(struct state *st);

/*
 * Finds the node of a key, or makes it of *proto (fd, mode, cls; ownership of fd passes). Counts one
 * lookup, marked in slot (NULL: the caller gives it back at once), sets parent and name. On success
 * *fd_used tells whether proto->fd was taken. -ENFILE when the table, -ENOSPC when slot is full.
 */
NODISCARD vcf_err_t state_node_lookup(struct state *st, const struct node_key *key,
				      const struct node *proto, struct node *parent,
				      const char *name, struct session_slot *slot,
				      struct node **out, bool *fd_used);
/* The kernel gives lookups back; slot (or NULL) counts the FORGET as done. */
void state_node_forget(struct state *st, uint64_t id, uint64_t nlookup,
		       struct session_slot *slot);
/* The answer that state_node_lookup() counted for does not go out. */
void state_node_unlookup(struct state *st, uint64_t id, struct session_slot *slot);
/* Takes all marked lookups of a slot back. */
void state_unmark(struct state *st, struct session_slot *slot);

/* A node of that inode, whatever its domain; NULL: there is none. Looks at all of them. */
struct node *state_node_of_inode(struct state *st, uint64_t dev, uint64_t ino);

/* If the kernel knows a node of that key: it was seen by that name (rename). */
void state_node_moved(struct state *st, const struct node_key *key, struct node *parent,
		      const char *name, enum file_class cls);

/*
 * The path relative to the root of a node, or of `name` in it; "" for the root.
 * -ENAMETOOLONG.
 */
NODISCARD vcf_err_t state_path(struct state *st, const struct node *n,
			       char dst[STATE_PATH_MAX]);
NODISCARD vcf_err_t state_child_path(struct state *st, const struct node *dir,
				     const char *name, char dst[STATE_PATH_MAX]);

/*
 * Makes a handle of *proto (id is ignored); takes a reference on the node. slot (or NULL) learns of
 * it first. -ENFILE.
 */
NODISCARD vcf_err_t state_handle_add(struct state *st, const struct handle *proto,
				     struct node *n, struct session_slot *slot,
				     uint64_t *id);
struct handle *state_handle(struct state *st, uint64_t id);
/* The same, but NULL if it is not a handle of that node. */
struct handle *state_handle_of(struct state *st, uint64_t id, uint64_t nodeid);
/* Calls fn for each live handle. Nobody else uses the tables. */
void state_each_handle(struct state *st,
		       void (*fn)(void *arg, struct handle *h, struct node *n),
		       void *arg);
/* Slot number of a handle: for arrays beside the table. */
uint32_t state_handle_slot(const struct state *st, const struct handle *h);
/* Frees the record and closes its descriptors. */
void state_handle_del(struct state *st, uint64_t id);

/* Live records. */
void state_counts(struct state *st, size_t *nodes, size_t *handles);

DEFINE_AUTO(state, struct state *, state_free)
#define auto_state __attribute__((cleanup(cleanup_state)))

#endif
