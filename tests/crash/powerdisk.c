/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/crash/powerdisk.h"

#include <stdio.h>

static void *need(void *p)
{
	if (!p) {
		fprintf(stderr, "powercheck: out of memory\n");
		exit(2);
	}
	return p;
}

static void *more(void *list, size_t cnt, size_t *room, size_t len)
{
	if (cnt < *room)
		return list;
	*room = *room ? *room * 2 : 64;
	return need(reallocarray(list, *room, len));
}

/* --- contents --- */

static uint64_t hash_of(const unsigned char *bytes)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < PAGE_LEN; i += 8) {
		uint64_t x;

		memcpy(&x, bytes + i, 8);
		h = (h ^ x) * 0x9e3779b97f4a7c15u;
		h ^= h >> 32;
	}
	return h;
}

static void page_put(struct page *p)
{
	if (p && --p->refs == 0)
		free(p);
}

struct content content_clone(const struct content *c)
{
	struct content n = *c;

	n.pages = need(malloc((c->cnt + 1) * sizeof(*n.pages)));
	if (c->cnt)
		memcpy(n.pages, c->pages, c->cnt * sizeof(*n.pages));
	for (size_t i = 0; i < c->cnt; i++)
		if (c->pages[i])
			c->pages[i]->refs++;
	return n;
}

static void cut_pages(struct content *c, size_t cnt)
{
	while (c->cnt > cnt)
		page_put(c->pages[--c->cnt]);
}

void content_free(struct content *c)
{
	cut_pages(c, 0);
	free(c->pages);
	*c = (struct content){0};
}

static void want_pages(struct content *c, size_t cnt)
{
	if (cnt <= c->cnt)
		return;
	c->pages = need(reallocarray(c->pages, cnt + 1, sizeof(*c->pages)));
	while (c->cnt < cnt)
		c->pages[c->cnt++] = NULL;
}

/* src NULL: zeros. Within one page. */
static void put_bytes(struct content *c, uint64_t off, const unsigned char *src,
		      size_t len)
{
	size_t at = off % PAGE_LEN;
	struct page **pp, *p;

	want_pages(c, off / PAGE_LEN + 1);
	pp = &c->pages[off / PAGE_LEN];
	if (!src && (!*pp || len == PAGE_LEN)) {
		page_put(*pp);
		*pp = NULL;
		return;
	}
	p = need(calloc(1, sizeof(*p)));
	if (*pp)
		memcpy(p->bytes, (*pp)->bytes, PAGE_LEN);
	if (src)
		memcpy(p->bytes + at, src, len);
	else
		memset(p->bytes + at, 0, len);
	p->refs = 1;
	p->hash = hash_of(p->bytes);
	page_put(*pp);
	*pp = p;
}

static size_t in_page(uint64_t off, uint64_t end)
{
	uint64_t next = off - off % PAGE_LEN + PAGE_LEN;

	return (size_t)((end < next ? end : next) - off);
}

static void put_range(struct content *c, uint64_t off, const unsigned char *src,
		      uint64_t len)
{
	uint64_t end = off + len;

	while (off < end) {
		size_t n = in_page(off, end);

		put_bytes(c, off, src, n);
		src = src ? src + n : NULL;
		off += n;
	}
}

static void zero_range(struct content *c, uint64_t off, uint64_t end)
{
	if (end > c->cnt * (uint64_t)PAGE_LEN)
		end = c->cnt * (uint64_t)PAGE_LEN;
	if (off < end)
		put_range(c, off, NULL, end - off);
}

/* What lies behind the end is gone. */
static void trim(struct content *c)
{
	zero_range(c, c->size, UINT64_MAX);
	cut_pages(c, (c->size + PAGE_LEN - 1) / PAGE_LEN);
}

void content_read(const struct content *c, void *dst, uint64_t off, uint64_t len)
{
	unsigned char *p = dst;

	while (len) {
		size_t n = in_page(off, off + len);
		const struct page *pg =
			off / PAGE_LEN < c->cnt ? c->pages[off / PAGE_LEN] : NULL;

		if (pg)
			memcpy(p, pg->bytes + off % PAGE_LEN, n);
		else
			memset(p, 0, n);
		p += n;
		off += n;
		len -= n;
	}
}

uint64_t content_hash(const struct content *c, uint64_t len)
{
	uint64_t h = 0;

	for (size_t i = 0; i < c->cnt && i < len / PAGE_LEN; i++)
		if (c->pages[i])
			h = (h ^ (c->pages[i]->hash + i)) * 0xff51afd7ed558ccdu;
	return h;
}

/* --- operations on one file --- */

static bool writes(const struct record *r)
{
	return r->kind == RECORD_WRITE || r->kind == RECORD_SUBMIT;
}

static uint64_t grown_to(const struct record *r)
{
	if (writes(r))
		return r->off + r->data_len;
	if (r->kind == RECORD_ALLOC && !(r->value & FALLOC_FL_KEEP_SIZE))
		return r->off + r->cnt;
	return 0;
}

static bool zeroes(const struct record *r)
{
	return r->kind == RECORD_ALLOC &&
	       r->value & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE);
}

/* The whole of it. */
static void apply(struct content *c, const struct record *r)
{
	if (r->kind == RECORD_SIZE) {
		c->size = r->off;
		trim(c);
	} else if (writes(r)) {
		put_range(c, r->off, r->data, r->data_len);
	} else if (zeroes(r)) {
		zero_range(c, r->off, r->off + r->cnt);
	}
	if (grown_to(r) > c->size)
		c->size = grown_to(r);
}

/* --- names --- */

static struct name *find_name(const struct names *n, const struct object *folder,
			      const char *text)
{
	for (size_t i = 0; i < n->cnt; i++)
		if (n->list[i].folder == folder && strcmp(n->list[i].text, text) == 0)
			return &n->list[i];
	return NULL;
}

const struct object *names_find(const struct names *n, const struct object *folder,
				const char *text)
{
	const struct name *found = find_name(n, folder, text);

	return found ? found->object : NULL;
}

static void set_name(struct names *n, const struct object *folder, const char *text,
		     const struct object *object)
{
	struct name *found = find_name(n, folder, text);

	if (found && object) {
		found->object = object;
	} else if (found) {
		*found = n->list[--n->cnt];
	} else if (object) {
		n->list = more(n->list, n->cnt, &n->room, sizeof(*n->list));
		n->list[n->cnt++] = (struct name){folder, object, text};
	}
}

static const char *first_text(const struct record *r)
{
	return (const char *)r->data;
}

static const char *second_text(const struct record *r)
{
	return first_text(r) + strlen(first_text(r)) + 1;
}

static void apply_name(struct names *n, const struct name_op *op)
{
	const struct record *r = op->r;
	const struct object *other;

	if (r->kind == RECORD_UNLINK) {
		set_name(n, op->folder, first_text(r), NULL);
	} else if (r->kind == RECORD_RENAME) {
		/* the flag RENAME_EXCHANGE */
		other = r->cnt & 2 ? names_find(n, op->folder2, second_text(r)) : NULL;
		set_name(n, op->folder, first_text(r), other);
		set_name(n, op->folder2, second_text(r), op->object);
	} else {
		set_name(n, op->folder, first_text(r), op->object);
	}
}

static struct names clone_names(const struct names *n)
{
	struct names c = {.cnt = n->cnt, .room = n->cnt + 8};

	c.list = need(malloc(c.room * sizeof(*c.list)));
	if (c.cnt)
		memcpy(c.list, n->list, c.cnt * sizeof(*c.list));
	return c;
}

/* --- loading --- */

static struct object *by_ino(const struct disk *d, uint64_t ino)
{
	for (size_t i = d->object_cnt; i--;)
		if (d->objects[i]->ino == ino)
			return d->objects[i];
	fprintf(stderr,
		"powercheck: the record speaks of inode %llu, which nobody made\n",
		(unsigned long long)ino);
	exit(2);
}

size_t disk_index(const struct disk *d, const struct object *o)
{
	for (size_t i = 0; i < d->object_cnt; i++)
		if (d->objects[i] == o)
			return i;
	abort();
}

static struct object *new_object(struct disk *d, uint64_t ino, enum object_kind kind,
				 int tree)
{
	struct object *o = need(calloc(1, sizeof(*o)));

	o->ino = ino;
	o->kind = kind;
	o->tree = tree;
	d->objects =
		more(d->objects, d->object_cnt, &d->object_room, sizeof(struct object *));
	d->objects[d->object_cnt++] = o;
	return o;
}

static void load_name_op(struct disk *d, const struct record *r)
{
	struct object *folder = by_ino(d, r->dir);
	struct tree *t = &d->trees[folder->tree];
	struct name_op op = {.r = r, .folder = folder, .folder2 = folder};

	if (r->kind == RECORD_CREATE || r->kind == RECORD_MKDIR ||
	    r->kind == RECORD_SYMLINK) {
		op.object = new_object(d, r->ino,
				       r->kind == RECORD_CREATE	 ? OBJECT_FILE
				       : r->kind == RECORD_MKDIR ? OBJECT_FOLDER
								 : OBJECT_SYMLINK,
				       folder->tree);
		if (r->kind == RECORD_SYMLINK)
			op.object->target = second_text(r);
	} else {
		op.object = by_ino(d, r->ino);
	}
	if (r->kind == RECORD_RENAME)
		op.folder2 = by_ino(d, r->dir2);
	t->ops = more(t->ops, t->cnt, &t->room, sizeof(*t->ops));
	t->ops[t->cnt++] = op;
}

static void load_event(struct disk *d, size_t i)
{
	const struct record *r = d->events[i];
	int tree;

	switch (r->kind) {
	case RECORD_ROOT:
		tree = strcmp(first_text(r), "back") == 0 ? TREE_BACK : TREE_STATE;
		d->trees[tree].root = new_object(d, r->ino, OBJECT_FOLDER, tree);
		break;
	case RECORD_CREATE:
	case RECORD_MKDIR:
	case RECORD_SYMLINK:
	case RECORD_LINK:
	case RECORD_RENAME:
	case RECORD_UNLINK:
		load_name_op(d, r);
		break;
	default:
		break;
	}
	if (r->ino)
		d->object_of[i] = disk_index(d, by_ino(d, r->ino));
}

void disk_load(struct disk *d, const struct record_file *f)
{
	uint64_t end = atomic_load(&f->end);
	size_t room = 0;

	*d = (struct disk){0};
	for (uint64_t at = RECORD_START; at < end;) {
		const struct record *r = (const void *)((const char *)f + at);

		d->events = more(d->events, d->event_cnt, &room, sizeof(*d->events));
		d->events[d->event_cnt++] = r;
		at += r->len;
	}
	d->object_of = need(calloc(d->event_cnt + 1, sizeof(*d->object_of)));
	for (size_t i = 0; i < d->event_cnt; i++)
		load_event(d, i);
	for (int i = 0; i < TREES; i++)
		d->trees[i].cnt = 0; /* disk_advance() comes by them again */
}

/* --- advancing --- */

static void add_pending(struct object *o, const struct record *r)
{
	size_t room = o->pending_room;

	o->pending =
		more(o->pending, o->pending_cnt, &o->pending_room, sizeof(*o->pending));
	if (room != o->pending_room)
		o->size_before = need(reallocarray(o->size_before, o->pending_room,
						   sizeof(*o->size_before)));
	o->size_before[o->pending_cnt] = o->now.size;
	o->pending[o->pending_cnt++] = r;
	apply(&o->now, r);
}

static void add_flying(struct object *o, const struct record *r)
{
	o->flying = more(o->flying, o->flying_cnt, &o->flying_room, sizeof(*o->flying));
	o->flying[o->flying_cnt++] = r;
}

static void land(struct object *o, const struct record *done)
{
	size_t i = 0;

	while (i < o->flying_cnt && o->flying[i]->cnt != done->cnt)
		i++;
	if (i == o->flying_cnt || done->value != (int32_t)o->flying[i]->data_len) {
		fprintf(stderr, "powercheck: an asynchronous write ended with %d\n",
			done->value);
		exit(2);
	}
	add_pending(o, o->flying[i]);
	o->flying[i] = o->flying[--o->flying_cnt];
}

static void names_durable(struct tree *t, size_t to)
{
	while (t->durable_cnt < to)
		apply_name(&t->durable, &t->ops[t->durable_cnt++]);
}

static void settle(struct disk *d, struct object *o, bool all)
{
	content_free(&o->durable);
	o->durable = content_clone(&o->now);
	o->pending_cnt = 0;
	names_durable(&d->trees[o->tree], all ? o->last_by : o->created_by);
}

static void do_name_op(struct disk *d, struct object *o, const struct record *r)
{
	struct tree *t = &d->trees[o->tree];
	struct name_op *op = &t->ops[t->cnt++];

	if (op->r != r)
		abort();
	apply_name(&t->now, op);
	op->folder->last_by = op->folder2->last_by = o->last_by = t->cnt;
	if (r->kind == RECORD_RENAME && r->off)
		for (size_t i = 0; i < d->object_cnt; i++)
			if (d->objects[i]->ino == r->off &&
			    d->objects[i]->tree == o->tree)
				d->objects[i]->last_by = t->cnt;
	if (!o->created_by)
		o->created_by = t->cnt;
}

void disk_advance(struct disk *d, size_t to)
{
	for (; d->done < to; d->done++) {
		const struct record *r = d->events[d->done];
		struct object *o = d->objects[d->object_of[d->done]];

		switch (r->kind) {
		case RECORD_WRITE:
		case RECORD_SIZE:
		case RECORD_ALLOC:
			add_pending(o, r);
			break;
		case RECORD_SUBMIT:
			add_flying(o, r);
			break;
		case RECORD_DONE:
			land(o, r);
			break;
		case RECORD_FSYNC:
		case RECORD_FDATASYNC:
			settle(d, o, r->kind == RECORD_FSYNC);
			break;
		case RECORD_CREATE:
		case RECORD_MKDIR:
		case RECORD_SYMLINK:
		case RECORD_LINK:
		case RECORD_RENAME:
		case RECORD_UNLINK:
			do_name_op(d, o, r);
			break;
		default:
			break;
		}
	}
}

/* --- outcomes --- */

void outcome_prefix(struct outcome *o, const struct disk *d)
{
	*o = (struct outcome){.cnt = d->object_cnt};
	o->contents = need(calloc(o->cnt, sizeof(*o->contents)));
	o->own = need(calloc(o->cnt, sizeof(*o->own)));
	for (size_t i = 0; i < o->cnt; i++)
		o->contents[i] = &d->objects[i]->now;
	for (size_t i = 0; i < o->cnt; i++)
		o->flying += d->objects[i]->flying_cnt;
	for (int i = 0; i < TREES; i++)
		o->names[i] = clone_names(&d->trees[i].now);
}

/* How much of a file's, or the whole disk's, operations is lost. */
enum luck { LUCK_ALL, LUCK_NONE, LUCK_MIXED };

static enum luck draw_luck(uint64_t *random)
{
	uint64_t x = work_random(random) % 10;

	return x < 2 ? LUCK_ALL : x < 4 ? LUCK_NONE : LUCK_MIXED;
}

static size_t draw_cnt(uint64_t *random, enum luck luck, size_t cnt)
{
	if (luck == LUCK_MIXED)
		return work_random(random) % (cnt + 1);
	return luck == LUCK_ALL ? cnt : 0;
}

/* Part of the journal: size, holes. */
static bool is_meta(const struct object *o, size_t i)
{
	const struct record *r = o->pending[i];

	return !writes(r) || grown_to(r) > o->size_before[i];
}

/* A change that gives the range other blocks. */
static bool unmaps(const struct object *o, size_t i, uint64_t off, uint64_t end)
{
	const struct record *r = o->pending[i];

	if (r->kind == RECORD_SIZE)
		return r->off < o->size_before[i] && r->off < end;
	return zeroes(r) && r->off < end && off < r->off + r->cnt;
}

/* Some sectors of a write to one page. */
static void apply_torn_page(struct content *c, uint64_t off, const unsigned char *src,
			    uint64_t end, uint64_t bits)
{
	while (off < end) {
		size_t n = 512 - off % 512;

		if (n > end - off)
			n = (size_t)(end - off);
		if (bits >> (off / 512 % 8) & 1)
			put_bytes(c, off, src, n);
		src += n;
		off += n;
	}
}

/* Some pages of a write; a page without blocks gets them as a whole. */
static void apply_torn(struct content *c, const struct record *r, uint64_t *random)
{
	uint64_t off = r->off, end = r->off + r->data_len;
	const unsigned char *src = r->data;

	while (off < end) {
		size_t n = in_page(off, end);
		bool hole = off / PAGE_LEN >= c->cnt || !c->pages[off / PAGE_LEN];
		uint64_t bits = work_random(random);

		if (hole || bits & 256)
			bits = bits & 512 ? 255 : 0;
		if ((bits & 255) == 255)
			put_bytes(c, off, src, n);
		else
			apply_torn_page(c, off, src, off + n, bits);
		src += n;
		off += n;
	}
}

/* Where a write stands between the changes before it, which are the first i. */
static bool lost_blocks(const struct object *o, const struct record *r, size_t i,
			size_t first_lost)
{
	uint64_t from = r->off - r->off % PAGE_LEN;
	uint64_t end = (r->off + r->data_len + PAGE_LEN - 1) / PAGE_LEN * PAGE_LEN;

	for (size_t k = first_lost; k < i; k++)
		if (is_meta(o, k) && unmaps(o, k, from, end))
			return true;
	return false;
}

static size_t apply_some(struct content *c, const struct object *o, size_t first_lost,
			 enum luck luck, uint64_t *random)
{
	size_t lost = 0;

	for (size_t i = 0; i < o->pending_cnt; i++) {
		const struct record *r = o->pending[i];
		uint64_t x = work_random(random) % 4;

		if (is_meta(o, i) && i < first_lost) {
			apply(c, r);
			continue;
		}
		if (!writes(r) || lost_blocks(o, r, i, first_lost)) {
			lost++;
			continue;
		}
		if (luck == LUCK_ALL || (luck == LUCK_MIXED && x == 0)) {
			put_range(c, r->off, r->data, r->data_len);
			continue;
		}
		lost++;
		if (luck == LUCK_MIXED && x > 1)
			apply_torn(c, r, random);
	}
	return lost;
}

/* All, a part, or nothing of each; on top of the pending ones, none of which it can meet. */
static size_t apply_flying(struct content *c, const struct object *o, size_t first_lost,
			   uint64_t *random)
{
	size_t lost = 0;

	for (size_t i = 0; i < o->flying_cnt; i++) {
		const struct record *r = o->flying[i];
		uint64_t x = work_random(random) % 3;

		bool gone = lost_blocks(o, r, o->pending_cnt, first_lost);

		if (x == 0 && !gone) {
			put_range(c, r->off, r->data, r->data_len);
			continue;
		}
		lost++;
		if (x == 1 && !gone)
			apply_torn(c, r, random);
	}
	return lost;
}

/* The index of the first change that the journal has lost. */
static size_t draw_first_lost(const struct object *o, uint64_t *random)
{
	size_t metas = 0, kept;

	for (size_t i = 0; i < o->pending_cnt; i++)
		metas += is_meta(o, i);
	kept = draw_cnt(random, draw_luck(random), metas);
	for (size_t i = 0; i < o->pending_cnt; i++)
		if (is_meta(o, i) && kept-- == 0)
			return i;
	return o->pending_cnt;
}

void outcome_random(struct outcome *o, const struct disk *d, uint64_t *random)
{
	enum luck all = draw_luck(random);

	outcome_prefix(o, d);
	for (size_t i = 0; i < o->cnt; i++) {
		const struct object *ob = d->objects[i];
		enum luck luck = all == LUCK_MIXED ? draw_luck(random) : LUCK_MIXED;
		size_t first_lost;

		if (!ob->pending_cnt && !ob->flying_cnt)
			continue;
		first_lost = draw_first_lost(ob, random);
		o->own[i] = content_clone(&ob->durable);
		o->lost += apply_some(&o->own[i], ob, first_lost, luck, random);
		o->lost += apply_flying(&o->own[i], ob, first_lost, random);
		trim(&o->own[i]);
		o->contents[i] = &o->own[i];
	}
	for (int i = 0; i < TREES; i++) {
		const struct tree *t = &d->trees[i];
		size_t kept =
			draw_cnt(random, draw_luck(random), t->cnt - t->durable_cnt);

		o->lost += t->cnt - t->durable_cnt - kept;
		free(o->names[i].list);
		o->names[i] = clone_names(&t->durable);
		for (size_t k = 0; k < kept; k++)
			apply_name(&o->names[i], &t->ops[t->durable_cnt + k]);
	}
}

void outcome_free(struct outcome *o)
{
	for (size_t i = 0; i < o->cnt; i++)
		content_free(&o->own[i]);
	for (int i = 0; i < TREES; i++)
		free(o->names[i].list);
	free(o->contents);
	free(o->own);
}
