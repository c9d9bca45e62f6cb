/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tables of nodes and handles. Layout of the mapping: nodes, then handles; slot 0 of the
 * nodes is the root. A slot's generation lives on in `gen` of the local part, so that an id is
 * not given out twice while the process runs.
 */
#include "fs/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/text.h"

enum { HASH_BITS = 18, HASH_CNT = 1 << HASH_BITS };

/* Which slots are free: a stack of freed ones, then those never used. */
struct slots {
	uint32_t *free_stack;
	uint32_t free_cnt, next, max, live;
	uint32_t *gen;
};

struct state {
	struct mutex lock;
	int memfd;
	size_t map_len;
	struct node *nodes;
	struct handle *handles;
	struct slots node_slots, handle_slots; /* (l) */
	uint32_t *hash;	 /* (l) slot + 1 of the first in each chain */
	uint32_t *chain; /* (l) slot + 1 of the next */
};

/* Zeroed memory that costs nothing until it is used. */
static void *sparse_array(size_t cnt, size_t size)
{
	void *p = mmap(NULL, cnt * size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static vcf_err_t slots_init(struct slots *s, uint32_t max)
{
	s->max = max;
	s->free_stack = sparse_array(max, sizeof(uint32_t));
	s->gen = sparse_array(max, sizeof(uint32_t));
	return s->free_stack && s->gen ? 0 : -ENOMEM;
}

static void slots_fini(struct slots *s)
{
	if (s->free_stack)
		munmap(s->free_stack, s->max * sizeof(uint32_t));
	if (s->gen)
		munmap(s->gen, s->max * sizeof(uint32_t));
}

static vcf_err_t slots_take(struct slots *s, uint32_t *slot)
{
	if (s->free_cnt)
		*slot = s->free_stack[--s->free_cnt];
	else if (s->next < s->max)
		*slot = s->next++;
	else
		return -ENFILE;
	s->gen[*slot]++;
	s->live++;
	return 0;
}

static void slots_give(struct slots *s, uint32_t slot)
{
	s->free_stack[s->free_cnt++] = slot;
	s->live--;
}

static uint64_t slots_id(const struct slots *s, uint32_t slot)
{
	/* The first generation of slot 0 gives 1: FUSE_ROOT_ID. */
	return (uint64_t)(s->gen[slot] - 1) << 32 | (slot + 1);
}

static uint32_t hash_of(const struct node_key *k)
{
	uint64_t h = k->ino * 0x9e3779b97f4a7c15ull ^ k->dev * 0xc2b2ae3d27d4eb4full ^
		     k->domain;

	h ^= h >> 29;
	h *= 0x9e3779b97f4a7c15ull;
	return (uint32_t)(h >> (64 - HASH_BITS));
}

static uint32_t slot_of(const struct state *st, const struct node *n)
{
	return (uint32_t)(n - st->nodes);
}

static struct node_key key_of(const struct node *n)
{
	return (struct node_key){.dev = n->dev, .ino = n->ino, .domain = n->domain};
}

static struct node *find_locked(struct state *st, const struct node_key *k)
{
	for (uint32_t s = st->hash[hash_of(k)]; s; s = st->chain[s - 1]) {
		struct node *n = &st->nodes[s - 1];

		if (n->ino == k->ino && n->dev == k->dev && n->domain == k->domain)
			return n;
	}
	return NULL;
}

static void hash_add_locked(struct state *st, struct node *n)
{
	struct node_key k = key_of(n);
	uint32_t *head = &st->hash[hash_of(&k)];

	st->chain[slot_of(st, n)] = *head;
	*head = slot_of(st, n) + 1;
}

static void hash_del_locked(struct state *st, struct node *n)
{
	struct node_key k = key_of(n);
	uint32_t *link = &st->hash[hash_of(&k)];

	while (*link != slot_of(st, n) + 1)
		link = &st->chain[*link - 1];
	*link = st->chain[slot_of(st, n)];
}

static vcf_err_t map_tables(struct state *st)
{
	size_t nodes_len = sizeof(struct node) * STATE_NODES_MAX;

	st->map_len = nodes_len + sizeof(struct handle) * STATE_HANDLES_MAX;
	st->memfd = memfd_create("vmcryptfs-state", MFD_CLOEXEC);
	if (st->memfd < 0 || ftruncate(st->memfd, (off_t)st->map_len) < 0)
		return -errno;
	st->nodes = mmap(NULL, st->map_len, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_NORESERVE, st->memfd, 0);
	if (st->nodes == MAP_FAILED) {
		st->nodes = NULL;
		return -errno;
	}
	st->handles = (void *)((char *)st->nodes + nodes_len);
	return 0;
}

static vcf_err_t add_root(struct state *st, int rootfd)
{
	struct node *root = &st->nodes[0];
	struct stat sb;
	uint32_t slot;
	vcf_err_t err;

	if (fstat(rootfd, &sb) < 0)
		return -errno;
	err = slots_take(&st->node_slots, &slot);
	if (err)
		return err;
	root->fd = fcntl(rootfd, F_DUPFD_CLOEXEC, 3);
	if (root->fd < 0)
		return -errno;
	root->mode = S_IFDIR;
	root->dev = sb.st_dev;
	root->ino = sb.st_ino;
	root->nlookup = 1;
	root->refs = 1;
	hash_add_locked(st, root);
	atomic_store(&root->id, slots_id(&st->node_slots, slot));
	return 0;
}

static vcf_err_t state_fill(struct state *st, int rootfd)
{
	vcf_err_t err;

	mutex_init(&st->lock, RANK_STATE);
	st->memfd = -1;
	st->hash = sparse_array(HASH_CNT, sizeof(uint32_t));
	st->chain = sparse_array(STATE_NODES_MAX, sizeof(uint32_t));
	if (!st->hash || !st->chain)
		return -ENOMEM;
	err = slots_init(&st->node_slots, STATE_NODES_MAX);
	if (!err)
		err = slots_init(&st->handle_slots, STATE_HANDLES_MAX);
	if (!err)
		err = map_tables(st);
	if (!err)
		err = add_root(st, rootfd);
	return err;
}

vcf_err_t state_new(struct state **out, int rootfd)
{
	auto_state struct state *st = calloc(1, sizeof(*st));
	vcf_err_t err;

	if (!st)
		return -ENOMEM;
	err = state_fill(st, rootfd);
	if (err)
		return err;
	*out = STEAL_PTR(&st);
	return 0;
}

static void close_all(struct state *st)
{
	for (uint32_t i = 0; i < st->handle_slots.next; i++) {
		if (st->handles[i].id)
			state_handle_del(st, st->handles[i].id);
	}
	for (uint32_t i = 0; i < st->node_slots.next; i++) {
		if (st->nodes[i].id)
			close(st->nodes[i].fd);
	}
}

void state_free(struct state *st)
{
	if (st->nodes) {
		close_all(st);
		munmap(st->nodes, st->map_len);
	}
	if (st->memfd >= 0)
		close(st->memfd);
	slots_fini(&st->node_slots);
	slots_fini(&st->handle_slots);
	if (st->hash)
		munmap(st->hash, HASH_CNT * sizeof(uint32_t));
	if (st->chain)
		munmap(st->chain, STATE_NODES_MAX * sizeof(uint32_t));
	mutex_fini(&st->lock);
	free(st);
}

struct node *state_node(struct state *st, uint64_t id)
{
	uint32_t slot = (uint32_t)id;

	if (!slot || slot > STATE_NODES_MAX || st->nodes[slot - 1].id != id)
		return NULL;
	return &st->nodes[slot - 1];
}

struct node *state_root(struct state *st)
{
	return &st->nodes[0];
}

/*
 * Frees a node that nobody refers to any more; its parent may be next. Returns the descriptor of
 * the first one, to be closed without the lock, or -1: it may be the last that keeps a large
 * file, which takes its time to go. The others are folders.
 */
static int release_locked(struct state *st, struct node *n)
{
	int fd = -1;

	while (!n->nlookup && !n->refs) {
		struct node *parent = &st->nodes[n->parent];

		atomic_store(&n->id, 0);
		hash_del_locked(st, n);
		if (fd < 0)
			fd = n->fd;
		else
			close(n->fd);
		slots_give(&st->node_slots, slot_of(st, n));
		parent->refs--;
		n = parent;
	}
	return fd;
}

static int unref_locked(struct state *st, struct node *n)
{
	n->refs--;
	return release_locked(st, n);
}

static void set_name_locked(struct state *st, struct node *n, struct node *parent,
			    const char *name)
{
	struct node *old = &st->nodes[n->parent];
	int folder;

	TEXT_CUT(n->name, name);
	if (old == parent)
		return;
	parent->refs++;
	n->parent = slot_of(st, parent);
	folder = unref_locked(st, old);
	if (folder >= 0)
		close(folder);
}

static vcf_err_t add_locked(struct state *st, const struct node_key *key,
			    const struct node *proto, struct node *parent,
			    struct node **out)
{
	struct node *n;
	uint32_t slot;
	vcf_err_t err = slots_take(&st->node_slots, &slot);

	if (err)
		return err;
	n = &st->nodes[slot];
	memset(n, 0, sizeof(*n));
	n->fd = proto->fd;
	n->mode = proto->mode;
	n->cls = proto->cls;
	n->dev = key->dev;
	n->ino = key->ino;
	n->domain = key->domain;
	n->parent = slot_of(st, parent);
	parent->refs++;
	hash_add_locked(st, n);
	atomic_store(&n->id, slots_id(&st->node_slots, slot));
	*out = n;
	return 0;
}

vcf_err_t state_node_lookup(struct state *st, const struct node_key *key,
			    const struct node *proto, struct node *parent,
			    const char *name, struct node **out, bool *fd_used)
{
	SCOPED_LOCK(&st->lock);
	struct node *n = find_locked(st, key);
	vcf_err_t err;

	*fd_used = !n;
	if (!n) {
		err = add_locked(st, key, proto, parent, &n);
		if (err)
			return err;
	}
	n->nlookup++;
	if (n != &st->nodes[0])
		set_name_locked(st, n, parent, name);
	*out = n;
	return 0;
}

static int forget(struct state *st, uint64_t id, uint64_t nlookup)
{
	SCOPED_LOCK(&st->lock);
	struct node *n = state_node(st, id);

	if (!n || n == &st->nodes[0])
		return -1;
	n->nlookup -= nlookup < n->nlookup ? nlookup : n->nlookup;
	return release_locked(st, n);
}

void state_node_forget(struct state *st, uint64_t id, uint64_t nlookup)
{
	auto_close int fd = forget(st, id, nlookup);

	(void)fd;
}

void state_node_moved(struct state *st, struct node *n, struct node *parent,
		      const char *name)
{
	SCOPED_LOCK(&st->lock);

	set_name_locked(st, n, parent, name);
}

/* Puts "/name" (or "name" at the start of the path) in front of what dst + *pos holds. */
static vcf_err_t prepend(char dst[STATE_PATH_MAX], size_t *pos, const char *name)
{
	size_t len = strlen(name);
	bool slash = *pos < STATE_PATH_MAX - 1;

	if (len + slash > *pos)
		return -ENAMETOOLONG;
	if (slash)
		dst[--*pos] = '/';
	*pos -= len;
	memcpy(dst + *pos, name, len);
	return 0;
}

static vcf_err_t path_locked(struct state *st, const struct node *n, const char *leaf,
			     char dst[STATE_PATH_MAX])
{
	size_t pos = STATE_PATH_MAX - 1;
	vcf_err_t err = 0;

	dst[pos] = '\0';
	if (leaf)
		err = prepend(dst, &pos, leaf);
	while (!err && n != &st->nodes[0]) {
		err = prepend(dst, &pos, n->name);
		n = &st->nodes[n->parent];
	}
	if (err)
		return err;
	memmove(dst, dst + pos, STATE_PATH_MAX - pos);
	return 0;
}

vcf_err_t state_path(struct state *st, const struct node *n, char dst[STATE_PATH_MAX])
{
	SCOPED_LOCK(&st->lock);

	return path_locked(st, n, NULL, dst);
}

vcf_err_t state_child_path(struct state *st, const struct node *dir, const char *name,
			   char dst[STATE_PATH_MAX])
{
	SCOPED_LOCK(&st->lock);

	return path_locked(st, dir, name, dst);
}

vcf_err_t state_handle_add(struct state *st, const struct handle *proto, struct node *n,
			   uint64_t *id)
{
	SCOPED_LOCK(&st->lock);
	struct handle *h;
	uint32_t slot;
	vcf_err_t err = slots_take(&st->handle_slots, &slot);

	if (err)
		return err;
	h = &st->handles[slot];
	h->node = slot_of(st, n);
	h->kind = proto->kind;
	h->fd = proto->fd;
	h->direct_fd = proto->direct_fd;
	h->align = proto->align;
	h->flags = proto->flags;
	n->refs++;
	*id = slots_id(&st->handle_slots, slot);
	atomic_store(&h->id, *id);
	return 0;
}

struct handle *state_handle(struct state *st, uint64_t id)
{
	uint32_t slot = (uint32_t)id;

	if (!slot || slot > STATE_HANDLES_MAX || st->handles[slot - 1].id != id)
		return NULL;
	return &st->handles[slot - 1];
}

struct handle *state_handle_of(struct state *st, uint64_t id, uint64_t nodeid)
{
	struct handle *h = state_handle(st, id);

	return h && st->nodes[h->node].id == nodeid ? h : NULL;
}

uint32_t state_handle_slot(const struct state *st, const struct handle *h)
{
	return (uint32_t)(h - st->handles);
}

/* Takes the record out of the table; fds: what is to be closed without the lock, or -1. */
static void take_out(struct state *st, uint64_t id, int fds[3])
{
	SCOPED_LOCK(&st->lock);
	struct handle *h = state_handle(st, id);

	if (!h)
		return;
	atomic_store(&h->id, 0);
	fds[0] = h->fd;
	fds[1] = h->direct_fd;
	slots_give(&st->handle_slots, state_handle_slot(st, h));
	fds[2] = unref_locked(st, &st->nodes[h->node]);
}

void state_handle_del(struct state *st, uint64_t id)
{
	int fds[3] = {-1, -1, -1};

	take_out(st, id, fds);
	for (int i = 0; i < 3; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
}

void state_counts(struct state *st, size_t *nodes, size_t *handles)
{
	SCOPED_LOCK(&st->lock);

	*nodes = st->node_slots.live;
	*handles = st->handle_slots.live;
}
