/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Session state: what the kernel and we agreed on since the mount (nodes and handles).
 *
 * One structure that node and ops use and that can outlive the process: the tables lie in one
 * sparse mapping of a memfd, mapped once at its largest size; records hold indices and numbers,
 * no pointers, no locks; a record is published by the store of its id (0 = free), last when it
 * is made and first when it goes. What can be rebuilt from the records (free lists, the hash
 * over inodes) lies outside, in struct state.
 *
 * node    an inode that the kernel knows (LOOKUP count > 0) or that a node or handle refers to
 * handle  an open file or folder
 *
 * A nodeid is generation << 32 | slot + 1, the root's is 1 (FUSE_ROOT_ID); a handle id likewise.
 * Records never move: a pointer stays valid while the kernel holds the nodeid, which it does
 * during any request about it.
 *
 * Locking: state.lock guards the tables. Fields: (c) constant after publishing, (l) the lock,
 * (a) atomic. Calls take the lock themselves.
 */
#ifndef VCF_FS_STATE_H
#define VCF_FS_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "crypto/container.h"
#include "fs/rules.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/lock.h"

enum {
	STATE_NODES_MAX = 1 << 20,
	STATE_HANDLES_MAX = 1 << 18,
	STATE_NAME_MAX = 255,
	STATE_PATH_MAX = 4096,
};

struct node {
	_Atomic uint64_t id; /* 0: free */
	int32_t fd;	     /* (c) O_PATH */
	uint32_t parent;   /* (l) slot of the folder last seen to hold it; root: itself */
	uint32_t refs;	   /* (l) children whose `parent` this is, and handles */
	uint32_t mode;	   /* (c) S_IFMT part */
	uint64_t nlookup;  /* (l) */
	uint64_t dev, ino; /* (c) */
	uint64_t
		domain; /* (c) hash of group and context: names of other domains get other nodes */
	_Atomic uint32_t
		cls; /* enum file_class; changes only between encrypt and derived */
	_Atomic uint32_t
		peek_kind; /* PEEK_CONTAINER: the three below are valid; else unknown */
	/* Valid once peek_kind says so; several may store them, all the same. */
	_Atomic uint32_t sector_len;
	_Atomic uint32_t header_blocks; /* 512-byte blocks that the header takes */
	_Atomic uint64_t data_off;
	char name[STATE_NAME_MAX + 1]; /* (l) last seen name */
};

enum handle_kind { HANDLE_DIR, HANDLE_PLAIN, HANDLE_IMAGE };

struct handle {
	_Atomic uint64_t id; /* 0: free */
	uint32_t node;	     /* (c) slot */
	uint32_t kind;	     /* (c) */
	int32_t fd;	     /* (c) backing */
	int32_t direct_fd;   /* (c) O_DIRECT twin or -1 */
	uint32_t align;	     /* (c) what direct_fd wants */
	uint32_t flags;	     /* (c) HANDLE_ flags */
};
enum { HANDLE_DIRECT = 1 /* FOPEN_DIRECT_IO */, HANDLE_O_DIRECT = 2 };

struct state;

/* The identity of a backing inode as one name sees it. */
struct node_key {
	uint64_t dev, ino, domain;
};

NODISCARD vcf_err_t state_new(struct state **out, int rootfd);
/* Closes all descriptors of the tables. */
void state_free(struct state *st);

/* The record of a nodeid, or NULL if it names none (a stale or forged one). */
struct node *state_node(struct state *st, uint64_t id);
struct node *state_root(struct state *st);

/*
 * Finds the node of a key, or makes it of *proto (fd, mode, cls; ownership of fd passes). Counts one
 * lookup, sets parent and name. On success *fd_used tells whether proto->fd was taken.
 * -ENFILE when the table is full.
 */
NODISCARD vcf_err_t state_node_lookup(struct state *st, const struct node_key *key,
				      const struct node *proto, struct node *parent,
				      const char *name, struct node **out, bool *fd_used);
void state_node_forget(struct state *st, uint64_t id, uint64_t nlookup);

/* The name by which a node was seen last changes (rename). */
void state_node_moved(struct state *st, struct node *n, struct node *parent,
		      const char *name);

/*
 * The path relative to the root of a node, or of `name` in it; "" for the root.
 * -ENAMETOOLONG.
 */
NODISCARD vcf_err_t state_path(struct state *st, const struct node *n,
			       char dst[STATE_PATH_MAX]);
NODISCARD vcf_err_t state_child_path(struct state *st, const struct node *dir,
				     const char *name, char dst[STATE_PATH_MAX]);

/* Makes a handle of *proto (id is ignored); takes a reference on the node. -ENFILE. */
NODISCARD vcf_err_t state_handle_add(struct state *st, const struct handle *proto,
				     struct node *n, uint64_t *id);
struct handle *state_handle(struct state *st, uint64_t id);
/* The same, but NULL if it is not a handle of that node. */
struct handle *state_handle_of(struct state *st, uint64_t id, uint64_t nodeid);
/* Slot number of a handle: for arrays beside the table. */
uint32_t state_handle_slot(const struct state *st, const struct handle *h);
/* Frees the record and closes its descriptors. */
void state_handle_del(struct state *st, uint64_t id);

/* Live records. */
void state_counts(struct state *st, size_t *nodes, size_t *handles);

DEFINE_AUTO(state, struct state *, state_free)
#define auto_state __attribute__((cleanup(cleanup_state)))

#endif
