/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/session.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SESSION_NO_SLOT = 0xffffffff, HEAD_ROOM = 64 * 1024 };
static const uint64_t session_magic = 0x6e6f697373666356ull;

_Static_assert(sizeof(struct session_head) <= HEAD_ROOM, "the head has its room");

/* Each table begins on a page. */
static size_t table_len(size_t cnt, size_t len)
{
	return (cnt * len + SESSION_PAGE_LEN - 1) & ~(size_t)(SESSION_PAGE_LEN - 1);
}

static const struct {
	uint32_t cnt, len;
} tables[] = {
	{1, HEAD_ROOM},
	{SESSION_SLOTS_MAX, sizeof(struct session_slot)},
	{SESSION_PARKED_MAX, sizeof(struct session_parked)},
	{SESSION_ASYNC_MAX, sizeof(struct session_async)},
	{SESSION_IMAGES_MAX, sizeof(struct session_image)},
	{SESSION_NODES_MAX, sizeof(struct node)},
	{SESSION_HANDLES_MAX, sizeof(struct handle)},
	{SESSION_DEVICES_MAX, sizeof(struct session_device)},
	{SESSION_LOCKS_MAX, sizeof(struct session_lock)},
	{SESSION_IMAGES_MAX, sizeof(struct session_iostat)},
};
enum { TABLE_CNT = sizeof(tables) / sizeof(tables[0]) };
_Static_assert(TABLE_CNT == sizeof(((struct session_head *)0)->lens) / sizeof(uint32_t),
	       "each table's record has its length in the head");

static size_t tables_len(void)
{
	size_t sum = 0;

	for (int i = 0; i < TABLE_CNT; i++)
		sum += table_len(tables[i].cnt, tables[i].len);
	return sum;
}

static size_t buffers_len(void)
{
	return (size_t)SESSION_SLOTS_MAX * SESSION_BUFFER_LEN +
	       (size_t)SESSION_ASYNC_MAX * SESSION_ASYNC_LEN +
	       (size_t)SESSION_PARK_PAGES * SESSION_PAGE_LEN;
}

static void set_places(struct session *s, void *map)
{
	unsigned char *at[TABLE_CNT];
	size_t sum = 0;

	for (int i = 0; i < TABLE_CNT; i++) {
		at[i] = (unsigned char *)map + sum;
		sum += table_len(tables[i].cnt, tables[i].len);
	}
	s->head = map;
	s->slots = (void *)at[1];
	s->parked = (void *)at[2];
	s->async = (void *)at[3];
	s->images = (void *)at[4];
	s->nodes = (void *)at[5];
	s->handles = (void *)at[6];
	s->devices = (void *)at[7];
	s->locks = (void *)at[8];
	s->iostats = (void *)at[9];
}

static vcf_err_t map_tables(struct session *s, int fd)
{
	void *map;

	s->map_len = tables_len();
	map = mmap(NULL, s->map_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
		   fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	set_places(s, map);
	return 0;
}

static vcf_err_t make_area(int *out, const char *name, size_t len)
{
	auto_close int fd = memfd_create(name, MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)len) < 0)
		return -errno;
	*out = STEAL_FD(&fd);
	return 0;
}

static void fill_head(struct session_head *h)
{
	h->version = SESSION_VERSION;
	for (int i = 0; i < TABLE_CNT; i++)
		h->lens[i] = tables[i].len;
	for (int i = 0; i < SESSION_FD_CNT; i++)
		h->fds[i] = -1;
	for (int i = 0; i < SESSION_KEEPER_FDS_MAX; i++)
		h->keeper_fds[i] = -1;
	h->magic = session_magic;
}

vcf_err_t session_new(struct session **out)
{
	auto_free struct session *s = calloc(1, sizeof(*s));
	auto_close int tables_fd = -1;
	auto_close int buffers_fd = -1;
	vcf_err_t err;

	if (!s)
		return -ENOMEM;
	err = make_area(&tables_fd, "vmcryptfs-state", tables_len());
	if (!err)
		err = make_area(&buffers_fd, "vmcryptfs-requests", buffers_len());
	if (!err)
		err = map_tables(s, tables_fd);
	if (err)
		return err;
	fill_head(s->head);
	s->head->fds[SESSION_FD_TABLES] = STEAL_FD(&tables_fd);
	s->head->fds[SESSION_FD_BUFFERS] = STEAL_FD(&buffers_fd);
	*out = STEAL_PTR(&s);
	return 0;
}

static bool same_layout(const struct session_head *h)
{
	if (h->magic != session_magic || h->version != SESSION_VERSION)
		return false;
	for (int i = 0; i < TABLE_CNT; i++) {
		if (h->lens[i] != tables[i].len)
			return false;
	}
	return true;
}

vcf_err_t session_attach(struct session **out, int tables_fd)
{
	auto_free struct session *s = calloc(1, sizeof(*s));
	struct stat st;
	vcf_err_t err;

	if (!s)
		return -ENOMEM;
	if (fstat(tables_fd, &st) < 0)
		return -errno;
	if ((size_t)st.st_size != tables_len())
		return -EPROTO;
	err = map_tables(s, tables_fd);
	if (err)
		return err;
	if (!same_layout(s->head)) {
		munmap(s->head, s->map_len);
		return -EPROTO;
	}
	s->head->fds[SESSION_FD_TABLES] = tables_fd;
	*out = STEAL_PTR(&s);
	return 0;
}

void session_free(struct session *s, bool close_fds)
{
	int fds[] = {s->head->fds[SESSION_FD_TABLES], s->head->fds[SESSION_FD_BUFFERS]};

	if (s->buffers)
		munmap(s->buffers, buffers_len());
	munmap(s->head, s->map_len);
	for (int i = 0; close_fds && i < 2; i++)
		close(fds[i]);
	free(s);
}

vcf_err_t session_map_buffers(struct session *s)
{
	void *map = mmap(NULL, buffers_len(), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_NORESERVE, s->head->fds[SESSION_FD_BUFFERS], 0);

	if (map == MAP_FAILED)
		return -errno;
	madvise(map, buffers_len(), MADV_DONTDUMP);
	madvise(map, buffers_len(), MADV_DONTFORK);
	s->buffers = map;
	return 0;
}

unsigned char *session_buffer(const struct session *s, unsigned int slot)
{
	return s->buffers + (size_t)slot * SESSION_BUFFER_LEN;
}

unsigned char *session_async_buffer(const struct session *s, unsigned int i)
{
	return session_buffer(s, SESSION_SLOTS_MAX) + (size_t)i * SESSION_ASYNC_LEN;
}

unsigned char *session_park_page(const struct session *s, uint32_t page)
{
	return session_async_buffer(s, SESSION_ASYNC_MAX) +
	       (size_t)page * SESSION_PAGE_LEN;
}

unsigned int session_async_cnt(const struct session *s)
{
	unsigned int cnt = 0;

	for (int i = 0; i < SESSION_ASYNC_MAX; i++)
		cnt += s->async[i].unique != 0;
	return cnt;
}

unsigned int session_in_flight(const struct session *s)
{
	unsigned int cnt = session_async_cnt(s);

	for (int i = 0; i < SESSION_SLOTS_MAX; i++)
		cnt += s->slots[i].busy != 0;
	return cnt;
}

/*
 * A thread that is stopped between read(2) and its first step: the kernel counts the request as
 * taken, the slot does not know it yet. Headers of requests that are done may lie there as well.
 */
static bool is_unbegun(const struct session *s, unsigned int slot)
{
	const uint64_t resent = 1ull << 63;
	off_t off = (off_t)slot * SESSION_BUFFER_LEN + SESSION_PAGE_LEN -
		    SESSION_REQ_HEAD_LEN;
	struct fuse_in_header in;

	if (pread(s->head->fds[SESSION_FD_BUFFERS], &in, sizeof(in), off) != sizeof(in))
		return false;
	return in.len && (in.unique & ~resent) != (s->slots[slot].unique & ~resent);
}

bool session_has_unbegun(const struct session *s)
{
	for (unsigned int i = 0; i < SESSION_SLOTS_MAX; i++) {
		if (s->slots[i].tid && is_unbegun(s, i))
			return true;
	}
	return false;
}

/*
 * Descriptors
 */

/* Nobody has checked what the server wrote there. */
static uint32_t at_most(uint32_t cnt, uint32_t max)
{
	return cnt < max ? cnt : max;
}

static void each_record_fd(const struct session *s, void (*fn)(void *arg, int fd),
			   void *arg)
{
	uint32_t node_cnt = at_most(s->head->node_high, SESSION_NODES_MAX);
	uint32_t handle_cnt = at_most(s->head->handle_high, SESSION_HANDLES_MAX);

	for (uint32_t i = 0; i < node_cnt; i++) {
		if (s->nodes[i].id)
			fn(arg, s->nodes[i].fd);
	}
	for (uint32_t i = 0; i < handle_cnt; i++) {
		if (!s->handles[i].id)
			continue;
		fn(arg, s->handles[i].fd);
		fn(arg, s->handles[i].direct_fd);
	}
	for (int i = 0; i < SESSION_IMAGES_MAX; i++) {
		if (s->images[i].generation)
			fn(arg, s->images[i].sentinel_fd);
	}
	for (int i = 0; i < SESSION_LOCKS_MAX; i++) {
		if (s->locks[i].used)
			fn(arg, s->locks[i].fd);
	}
}

void session_each_fd(const struct session *s, void (*fn)(void *arg, int fd), void *arg)
{
	const struct session_head *h = s->head;

	for (int i = 0; i < SESSION_FD_CNT; i++)
		fn(arg, h->fds[i]);
	for (int i = 0; i < SESSION_KEEPER_FDS_MAX; i++)
		fn(arg, h->keeper_fds[i]);
	for (int i = 0; i < SESSION_HELPERS_MAX; i++) {
		if (!h->helpers[i].pid)
			continue;
		fn(arg, h->helpers[i].to);
		fn(arg, h->helpers[i].from);
		fn(arg, h->helpers[i].err);
	}
	each_record_fd(s, fn, arg);
}

struct fd_set_big {
	uint64_t *bits;
	unsigned int max;
};

static void note_fd(void *arg, int fd)
{
	struct fd_set_big *set = arg;

	if (fd >= 0 && (unsigned int)fd < set->max)
		set->bits[fd / 64] |= 1ull << (fd % 64);
}

vcf_err_t session_sweep(const struct session *s)
{
	struct fd_set_big set = {.max = 4u << 20};
	unsigned int from = 3;

	/* Untouched pages of it cost nothing. */
	set.bits = mmap(NULL, set.max / 8, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (set.bits == MAP_FAILED)
		return -ENOMEM;
	session_each_fd(s, note_fd, &set);
	for (unsigned int fd = 3; fd < set.max; fd++) {
		if (!set.bits[fd / 64] && fd % 64 == 0) {
			fd += 63;
			continue;
		}
		if (!(set.bits[fd / 64] & 1ull << (fd % 64)))
			continue;
		if (fd > from)
			close_range(from, fd - 1, 0);
		from = fd + 1;
	}
	close_range(from, ~0u, 0);
	munmap(set.bits, set.max / 8);
	return 0;
}

/*
 * Changes of several fields
 */

void session_txn_begin(struct session *s, const struct node *n,
		       const struct session_slot *slot)
{
	struct session_txn *t = &s->head->txn;

	if (!SESSION_NOTES)
		return;
	t->node = (uint32_t)(n - s->nodes);
	t->old_nlookup = n->nlookup;
	t->slot = slot ? (uint32_t)(slot - s->slots) : (uint32_t)SESSION_NO_SLOT;
	if (slot) {
		t->old_mark_cnt = slot->mark_cnt;
		t->old_forget_cnt = slot->forget_cnt;
	}
	atomic_store_explicit(&t->active, 1, memory_order_release);
	/* A death is like a signal: what the processor has done it has done in order. */
	atomic_signal_fence(memory_order_seq_cst);
}

void session_txn_end(struct session *s)
{
	if (!SESSION_NOTES)
		return;
	atomic_signal_fence(memory_order_seq_cst);
	atomic_store_explicit(&s->head->txn.active, 0, memory_order_release);
}

void session_txn_undo(struct session *s)
{
	struct session_txn *t = &s->head->txn;

	if (!t->active || t->node >= SESSION_NODES_MAX)
		return;
	s->nodes[t->node].nlookup = t->old_nlookup;
	if (t->slot < SESSION_SLOTS_MAX) {
		s->slots[t->slot].mark_cnt = t->old_mark_cnt;
		s->slots[t->slot].forget_cnt = t->old_forget_cnt;
	}
	session_txn_end(s);
}
