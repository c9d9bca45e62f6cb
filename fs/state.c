/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Slot 0 of the nodes is the root. A slot's generation stays in its record while it is free, so
 * that an id is not given out twice in the life of a mount.
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

#include "fs/state_impl.h"
#include "util/crashpoint.h"
#include "util/log.h"
#include "util/text.h"

/* Zeroed memory that costs nothing until it is used. */
static void *sparse_array(size_t cnt, size_t size)
{
	void *p = mmap(NULL, cnt * size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static vcf_err_t slots_init(struct slots *s, uint32_t max, _Atomic uint32_t *next)
{
	s->max = max;
	s->next = next;
	s->free_stack = sparse_array(max, sizeof(uint32_t));
	return s->free_stack ? 0 : -ENOMEM;
}

static void slots_fini(struct slots *s)
{
	if (s->free_stack)
		munmap(s->free_stack, s->max * sizeof(uint32_t));
}

static vcf_err_t slots_take(struct slots *s, uint32_t *slot)
{
	if (s->free_cnt)
		*slot = s->free_stack[--s->free_cnt];
	else if (*s->next < s->max)
		*slot = (*s->next)++;
	else
		return -ENFILE;
	s->live++;
	return 0;
}

static void slots_give(struct slots *s, uint32_t slot)
{
	s->free_stack[s->free_cnt++] = slot;
	s->live--;
}

/* The first generation of slot 0 gives 1: FUSE_ROOT_ID. */
uint64_t state_id(uint32_t slot, uint32_t gen)
{
	return (uint64_t)(gen - 1) << 32 | (slot + 1);
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

void state_hash_add_locked(struct state *st, struct node *n)
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

static void fill_root(struct node *root, int fd, const struct stat *sb)
{
	root->fd = fd;
	root->gen = 1;
	root->mode = S_IFDIR;
	root->dev = sb->st_dev;
	root->ino = sb->st_ino;
	root->nlookup = 1;
	root->refs = 1;
}

static vcf_err_t add_root(struct state *st, int rootfd)
{
	struct node *root = &st->nodes[0];
	struct stat sb;
	uint32_t slot;
	vcf_err_t err;
	int fd;

	if (*st->node_slots.next) /* there was one */
		return -EBADMSG;
	if (fstat(rootfd, &sb) < 0)
		return -errno;
	err = slots_take(&st->node_slots, &slot);
	if (err)
		return err;
	fd = fcntl(rootfd, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return -errno;
	fill_root(root, fd, &sb);
	state_hash_add_locked(st, root);
	atomic_store(&root->id, state_id(slot, root->gen));
	return 0;
}

static vcf_err_t state_fill(struct state *st, struct session *ses, int rootfd)
{
	vcf_err_t err;

	mutex_init(&st->lock, RANK_STATE);
	st->ses = ses;
	st->nodes = ses->nodes;
	st->handles = ses->handles;
	st->hash = sparse_array(HASH_CNT, sizeof(uint32_t));
	st->chain = sparse_array(STATE_NODES_MAX, sizeof(uint32_t));
	if (!st->hash || !st->chain)
		return -ENOMEM;
	err = slots_init(&st->node_slots, STATE_NODES_MAX, &ses->head->node_high);
	if (!err)
		err = slots_init(&st->handle_slots, STATE_HANDLES_MAX,
				 &ses->head->handle_high);
	if (err)
		return err;
	return st->nodes[0].id ? state_take_over(st) : add_root(st, rootfd);
}

vcf_err_t state_new(struct state **out, struct session *ses, int rootfd)
{
	struct state *st = calloc(1, sizeof(*st));
	vcf_err_t err;

	if (!st)
		return -ENOMEM;
	err = state_fill(st, ses, rootfd);
	if (err) {
		state_leave(st);
		return err;
	}
	*out = st;
	return 0;
}

static void close_all(struct state *st)
{
	for (uint32_t i = 0; i < *st->handle_slots.next; i++) {
		if (st->handles[i].id)
			state_handle_del(st, st->handles[i].id);
	}
	for (uint32_t i = 0; i < *st->node_slots.next; i++) {
		if (!st->nodes[i].id)
			continue;
		atomic_store(&st->nodes[i].id, 0);
		close(st->nodes[i].fd);
	}
}

void state_free(struct state *st)
{
	close_all(st);
	state_leave(st);
}

void state_leave(struct state *st)
{
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
int state_release_locked(struct state *st, struct node *n)
{
	int fd = -1;

	while (!n->nlookup && !n->refs) {
		struct node *parent = &st->nodes[n->parent];

		atomic_store(&n->id, 0);
		CRASHPOINT("node-freed");
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
	return state_release_locked(st, n);
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
			    const char *name, struct node **out)
{
	struct node *n;
	uint32_t slot;
	vcf_err_t err = slots_take(&st->node_slots, &slot);

	if (err)
		return err;
	n = &st->nodes[slot];
	*n = (struct node){
		.fd = proto->fd,
		.gen = n->gen + 1,
		.mode = proto->mode,
		.cls = proto->cls,
		.device = proto->device,
		.dev = key->dev,
		.ino = key->ino,
		.domain = key->domain,
		.parent = slot_of(st, parent),
	};
	TEXT_CUT(n->name, name);
	parent->refs++;
	state_hash_add_locked(st, n);
	CRASHPOINT("node-filled");
	atomic_store(&n->id, state_id(slot, n->gen));
	*out = n;
	return 0;
}

/* Counts a lookup, and marks it where the request's slot can tell a successor of it. */
static void count_locked(struct state *st, struct node *n, struct session_slot *slot)
{
	session_txn_begin(st->ses, n, slot);
	CRASHPOINT("lookup-begin");
	n->nlookup++;
	CRASHPOINT("lookup-counted");
	if (slot && SESSION_NOTES) {
		slot->marks[slot->mark_cnt] = n->id;
		slot->mark_cnt++;
	}
	CRASHPOINT("lookup-marked");
	session_txn_end(st->ses);
}

vcf_err_t state_node_lookup(struct state *st, const struct node_key *key,
			    const struct node *proto, struct node *parent,
			    const char *name, struct session_slot *slot,
			    struct node **out, bool *fd_used)
{
	SCOPED_LOCK(&st->lock);
	struct node *n = find_locked(st, key);
	vcf_err_t err;

	*fd_used = !n;
	if (slot && slot->mark_cnt >= SESSION_MARKS_MAX)
		return -ENOSPC;
	if (!n) {
		err = add_locked(st, key, proto, parent, name, &n);
		if (err)
			return err;
	}
	CRASHPOINT("lookup-added");
	count_locked(st, n, slot);
	if (n != &st->nodes[0])
		set_name_locked(st, n, parent, name);
	*out = n;
	return 0;
}

/* Takes the last mark of that node out; none: it was not marked. */
static void note_unmarked(struct session_slot *slot, uint64_t id)
{
	uint32_t last = slot->mark_cnt - 1;

	for (uint32_t i = slot->mark_cnt; i > 0; i--) {
		if (slot->marks[i - 1] != id)
			continue;
		slot->marks[i - 1] = slot->marks[last];
		slot->mark_cnt = last;
		return;
	}
}

static void note_forgotten(struct session_slot *slot, uint64_t id)
{
	(void)id;
	slot->forget_cnt++;
}

/* Takes lookups back, of a node that may not be known, and notes that in slot (or NULL). */
static int give_back(struct state *st, uint64_t id, uint64_t nlookup,
		     struct session_slot *slot,
		     void (*note)(struct session_slot *slot, uint64_t id))
{
	SCOPED_LOCK(&st->lock);
	struct node *n = state_node(st, id);
	bool known = n && n != &st->nodes[0];

	if (!known)
		n = &st->nodes[0];
	session_txn_begin(st->ses, n, slot);
	CRASHPOINT("forget-begin");
	if (known)
		n->nlookup -= nlookup < n->nlookup ? nlookup : n->nlookup;
	CRASHPOINT("forget-counted");
	if (slot && SESSION_NOTES)
		note(slot, id);
	session_txn_end(st->ses);
	CRASHPOINT("forget-end");
	return known ? state_release_locked(st, n) : -1;
}

void state_node_forget(struct state *st, uint64_t id, uint64_t nlookup,
		       struct session_slot *slot)
{
	auto_close int fd = give_back(st, id, nlookup, slot, note_forgotten);

	(void)fd;
}

void state_node_unlookup(struct state *st, uint64_t id, struct session_slot *slot)
{
	auto_close int fd = give_back(st, id, 1, slot, note_unmarked);

	(void)fd;
}

void state_unmark(struct state *st, struct session_slot *slot)
{
	if (slot->mark_cnt > SESSION_MARKS_MAX) {
		log_err("session state: a request's marks are damaged and dropped");
		slot->mark_cnt = 0;
	}
	while (slot->mark_cnt)
		state_node_unlookup(st, slot->marks[slot->mark_cnt - 1], slot);
}

struct node *state_node_of_inode(struct state *st, uint64_t dev, uint64_t ino)
{
	SCOPED_LOCK(&st->lock);

	for (uint32_t i = 0; i < *st->node_slots.next; i++) {
		struct node *n = &st->nodes[i];

		if (n->id && n->ino == ino && n->dev == dev)
			return n;
	}
	return NULL;
}

void state_node_moved(struct state *st, const struct node_key *key, struct node *parent,
		      const char *name, enum file_class cls)
{
	SCOPED_LOCK(&st->lock);
	struct node *n = find_locked(st, key);

	if (!n || n == &st->nodes[0])
		return;
	n->cls = cls;
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
			   struct session_slot *slot, uint64_t *id)
{
	SCOPED_LOCK(&st->lock);
	struct handle *h;
	uint32_t at;
	vcf_err_t err = slots_take(&st->handle_slots, &at);

	if (err)
		return err;
	h = &st->handles[at];
	h->gen++;
	h->node = slot_of(st, n);
	h->kind = proto->kind;
	h->fd = proto->fd;
	h->direct_fd = proto->direct_fd;
	h->align = proto->align;
	h->flags = proto->flags;
	n->refs++;
	*id = state_id(at, h->gen);
	/* A mark without the handle is nothing; a handle without a mark would be lost. */
	if (slot && SESSION_NOTES)
		atomic_store(&slot->handle, *id);
	CRASHPOINT("handle-marked");
	atomic_store(&h->id, *id);
	CRASHPOINT("handle-made");
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

void state_each_handle(struct state *st,
		       void (*fn)(void *arg, struct handle *h, struct node *n), void *arg)
{
	for (uint32_t i = 0; i < *st->handle_slots.next; i++) {
		if (st->handles[i].id)
			fn(arg, &st->handles[i], &st->nodes[st->handles[i].node]);
	}
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
	CRASHPOINT("handle-goes");
	atomic_store(&h->id, 0);
	CRASHPOINT("handle-gone");
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
