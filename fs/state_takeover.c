/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Taking over the tables. Nobody else uses them yet, and the process may die again at any moment:
 * each step leaves them as sound as it found them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/state_impl.h"
#include "util/log.h"

static uint32_t slot_at(const struct state *st, const struct node *n)
{
	return (uint32_t)(n - st->nodes);
}

/* A file system that does not answer now (NFS: EIO, ESTALE) proves nothing. */
static bool fd_leads_to(int fd, const struct node *n)
{
	struct stat sb;

	if (fstatat(fd, "", &sb, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		return errno != EBADF;
	return sb.st_dev == n->dev && sb.st_ino == n->ino &&
	       (sb.st_mode & S_IFMT) == n->mode;
}

static bool node_sound(const struct state *st, uint32_t i)
{
	const struct node *n = &st->nodes[i];

	if (n->id != state_id(i, n->gen) || n->cls > CLASS_PASSTHROUGH)
		return false;
	if (i && (!*n->name || !memchr(n->name, '\0', sizeof(n->name)) ||
		  strchr(n->name, '/')))
		return false;
	return fd_leads_to(n->fd, n);
}

static bool handle_sound(const struct state *st, uint32_t i)
{
	const struct handle *h = &st->handles[i];

	return h->id == state_id(i, h->gen) && h->kind <= HANDLE_IMAGE &&
	       h->node < *st->node_slots.next && st->nodes[h->node].id &&
	       fd_leads_to(h->fd, &st->nodes[h->node]) &&
	       (h->direct_fd < 0 || fd_leads_to(h->direct_fd, &st->nodes[h->node]));
}

/* Its descriptors may be another one's: they are left for the next sweep. */
static void drop_record(struct state *st, _Atomic uint64_t *id, const char *what,
			uint32_t i)
{
	log_err("session state: %s %u (id %llx) is damaged and dropped", what, i,
		(unsigned long long)*id);
	atomic_store(id, 0);
	st->ses->head->dropped++;
}

static void check_records(struct state *st)
{
	for (uint32_t i = 0; i < *st->node_slots.next; i++) {
		if (st->nodes[i].id && !node_sound(st, i))
			drop_record(st, &st->nodes[i].id, "node", i);
		st->nodes[i].refs = 0;
	}
	for (uint32_t i = 0; i < *st->handle_slots.next; i++) {
		if (st->handles[i].id && !handle_sound(st, i))
			drop_record(st, &st->handles[i].id, "handle", i);
	}
}

/* A folder that was dropped leaves its children with a path that no rule of theirs fits. */
static struct node *parent_of(struct state *st, struct node *n)
{
	if (n->parent >= *st->node_slots.next || !st->nodes[n->parent].id)
		n->parent = 0;
	return &st->nodes[n->parent];
}

/* The first node from n upwards, but the root, where this walk or an earlier one has been. */
static struct node *walk_up(struct state *st, struct node *n, uint32_t walk)
{
	while (n != &st->nodes[0] && !st->chain[slot_at(st, n)]) {
		st->chain[slot_at(st, n)] = walk;
		n = parent_of(st, n);
	}
	return n;
}

/* Folders that are in each other would keep each other for ever; the root has them then. */
static void cut_cycles(struct state *st)
{
	st->nodes[0].parent = 0;
	for (uint32_t i = 1; i < *st->node_slots.next; i++) {
		struct node *n;

		if (!st->nodes[i].id)
			continue;
		n = walk_up(st, &st->nodes[i], i);
		if (n == &st->nodes[0] || st->chain[slot_at(st, n)] != i)
			continue;
		log_err("session state: node %u is below itself: taken for one of the root",
			slot_at(st, n));
		n->parent = 0;
		st->ses->head->dropped++;
	}
	memset(st->chain, 0, *st->node_slots.next * sizeof(*st->chain));
}

static void count_refs(struct state *st)
{
	for (uint32_t i = 0; i < *st->node_slots.next; i++) {
		if (st->nodes[i].id)
			parent_of(st, &st->nodes[i])->refs++;
	}
	for (uint32_t i = 0; i < *st->handle_slots.next; i++) {
		if (st->handles[i].id)
			st->nodes[st->handles[i].node].refs++;
	}
}

static void build_lists(struct state *st)
{
	for (uint32_t i = *st->node_slots.next; i > 0; i--) {
		if (st->nodes[i - 1].id) {
			state_hash_add_locked(st, &st->nodes[i - 1]);
			st->node_slots.live++;
		} else {
			st->node_slots.free_stack[st->node_slots.free_cnt++] = i - 1;
		}
	}
	for (uint32_t i = *st->handle_slots.next; i > 0; i--) {
		if (st->handles[i - 1].id)
			st->handle_slots.live++;
		else
			st->handle_slots.free_stack[st->handle_slots.free_cnt++] = i - 1;
	}
}

/* Made, but the lookup was not counted any more. */
static void free_unused(struct state *st)
{
	for (uint32_t i = 1; i < *st->node_slots.next; i++) {
		int fd;

		if (!st->nodes[i].id || st->nodes[i].nlookup || st->nodes[i].refs)
			continue;
		fd = state_release_locked(st, &st->nodes[i]);
		if (fd >= 0)
			close(fd);
	}
}

vcf_err_t state_take_over(struct state *st)
{
	SCOPED_LOCK(&st->lock);

	if (!*st->node_slots.next || *st->node_slots.next > STATE_NODES_MAX ||
	    *st->handle_slots.next > STATE_HANDLES_MAX)
		return -EBADMSG;
	session_txn_undo(st->ses);
	check_records(st);
	if (!st->nodes[0].id)
		return -EBADMSG;
	cut_cycles(st);
	count_refs(st);
	build_lists(st);
	free_unused(st);
	return 0;
}
