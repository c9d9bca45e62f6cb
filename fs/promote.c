/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The list of images that may want a secret of their own; one at a time is looked at (rekeyjob.h). One
 * that is none leaves the list; after an error of the service or disk it goes to the list's end and
 * the whole list waits, for 1, 2, ... 60 seconds.
 *
 * An open image whose header a dead server has changed to the end, or nearly, is looked at once, too.
 */
#include "fs/promote.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/imagetable.h"
#include "fs/node.h"
#include "fs/rekeyjob.h"
#include "util/clock.h"
#include "util/log.h"

enum { BACKOFF_MIN_MS = 1000, BACKOFF_MAX_MS = 60 * 1000, AGAIN_SAID = 10 };

struct wish {
	struct wish *next;
	uint64_t dev, ino;
	char *path;
	bool completes;		      /* REKEYJOB_COMPLETE, */
	unsigned char uuid[UUID_LEN]; /* of this one */
};

struct promoter {
	struct server *sv;
	struct mutex lock;
	struct wish *first, **end; /* (l) */
	size_t cnt;		   /* (l) */
	struct wish *under_way;	   /* (l) */
	uint64_t not_before_ms;	   /* (l) monotonic */
	unsigned int backoff_ms;   /* (l) */
	unsigned int again;	   /* (l) times in a row that it was no time for one */
	bool looked_at_open;	   /* by ticks alone */
};

vcf_err_t promote_new(struct promoter **out, struct server *sv)
{
	struct promoter *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->sv = sv;
	p->end = &p->first;
	p->backoff_ms = BACKOFF_MIN_MS;
	mutex_init(&p->lock, RANK_PROMOTE);
	*out = p;
	return 0;
}

static void free_wish(struct wish *w)
{
	free(w->path);
	free(w);
}

/* --- the list --- */

static struct wish *take_first_locked(struct promoter *p)
{
	struct wish *w = p->first;

	p->first = w->next;
	if (!p->first)
		p->end = &p->first;
	p->cnt--;
	return w;
}

void promote_free(struct promoter *p)
{
	while (p->first)
		free_wish(take_first_locked(p));
	mutex_fini(&p->lock);
	free(p);
}

static struct wish *find_locked(struct promoter *p, uint64_t dev, uint64_t ino)
{
	struct wish *w = p->first;

	while (w && (w->dev != dev || w->ino != ino))
		w = w->next;
	return w;
}

static void set_path(struct wish *w, const char *path)
{
	char *copy = strdup(path);

	if (!copy)
		return; /* found again when it is opened */
	free(w->path);
	w->path = copy;
}

static void append_locked(struct promoter *p, struct wish *w)
{
	w->next = NULL;
	*p->end = w;
	p->end = &w->next;
	p->cnt++;
}

static struct wish *new_wish(uint64_t dev, uint64_t ino, const char *path)
{
	struct wish *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->dev = dev;
	w->ino = ino;
	w->path = strdup(path);
	if (w->path)
		return w;
	free(w);
	return NULL;
}

static void add_locked(struct promoter *p, uint64_t dev, uint64_t ino, const char *path)
{
	struct wish *w = find_locked(p, dev, ino);

	if (w) {
		set_path(w, path);
		return;
	}
	w = new_wish(dev, ino, path);
	if (w)
		append_locked(p, w);
}

static void finish(void *arg, const struct rekeyjob_result *res);

/* Starts the first one, if none is under way and it is time. */
static void start_locked(struct promoter *p)
{
	struct rekeyjob_order order = {.kind = REKEYJOB_OWN};
	struct wish *w = p->first;

	if (p->under_way || !w || p->sv->stopping || clock_now_ms() < p->not_before_ms)
		return;
	order.kind = w->completes ? REKEYJOB_COMPLETE : REKEYJOB_OWN;
	order.dev = w->dev;
	order.ino = w->ino;
	order.path = w->path;
	memcpy(order.uuid, w->uuid, UUID_LEN);
	if (rekeyjob_start(p->sv, &order, finish, p))
		return; /* the next tick tries again */
	p->under_way = take_first_locked(p);
}

void promote_want(struct promoter *p, uint64_t dev, uint64_t ino, const char *path)
{
	const struct config *cfg = p->sv->cfg;

	if (!cfg->promote)
		return;
	SCOPED_LOCK(&p->lock);

	add_locked(p, dev, ino, path);
	start_locked(p);
}

static bool waits(struct promoter *p, uint64_t dev, uint64_t ino)
{
	SCOPED_LOCK(&p->lock);
	const struct wish *m = p->under_way;

	return find_locked(p, dev, ino) || (m && m->dev == dev && m->ino == ino);
}

void promote_renamed(struct promoter *p, const struct stat *st, const char *from,
		     const char *to)
{
	const struct rules *r = p->sv->rules;

	if (!S_ISREG(st->st_mode) || rules_class(r, to) != CLASS_ENCRYPT)
		return;
	if (rules_class(r, from) == CLASS_DERIVED || waits(p, st->st_dev, st->st_ino))
		promote_want(p, st->st_dev, st->st_ino, to);
}

size_t promote_count(struct promoter *p)
{
	SCOPED_LOCK(&p->lock);

	return p->cnt + (p->under_way != NULL);
}

/* The image leaves, with err -EAGAIN for a moment; other errors make all of them wait. */
static void finish_locked(struct promoter *p, vcf_err_t err)
{
	struct wish *w = STEAL_PTR(&p->under_way);

	/* one that is there has a later path */
	if (err && !find_locked(p, w->dev, w->ino))
		append_locked(p, STEAL_PTR(&w));
	if (w)
		free_wish(w);
	if (!err)
		p->backoff_ms = BACKOFF_MIN_MS;
	if (err)
		p->not_before_ms = clock_now_ms() +
				   (err == -EAGAIN ? BACKOFF_MIN_MS / 2 : p->backoff_ms);
	if (err && err != -EAGAIN && p->backoff_ms < BACKOFF_MAX_MS)
		p->backoff_ms *= 2;
	start_locked(p);
}

static void finish(void *arg, const struct rekeyjob_result *res)
{
	struct promoter *p = arg;
	vcf_err_t err = res->final ? 0 : res->err;
	SCOPED_LOCK(&p->lock);

	if (res->final && res->err)
		log_info("%s: is left without a secret of its own: %s",
			 p->under_way->path, strerror(-res->err));
	p->again = err == -EAGAIN ? p->again + 1 : 0;
	if (p->again == AGAIN_SAID)
		log_info("%s: has no secret of its own yet: somebody else works on it",
			 p->under_way->path);
	if (err && err != -EAGAIN && err != -ECANCELED)
		log_info("%s: has no secret of its own yet: %s; it is tried again",
			 p->under_way->path, strerror(-err));
	finish_locked(p, err);
}

/* --- images that are open when a server takes over --- */

struct open_image {
	uint64_t dev, ino, nodeid;
	unsigned char uuid[UUID_LEN];
	bool derived;
};

struct open_images {
	struct open_image *list;
	size_t cnt, room;
};

static void note_open(void *arg, const struct image_entry *e)
{
	struct open_images *o = arg;
	struct open_image *i = &o->list[o->cnt];

	if (o->cnt == o->room)
		return;
	o->cnt++;
	*i = (struct open_image){.dev = e->dev,
				 .ino = e->ino,
				 .nodeid = e->nodeid,
				 .derived = e->token.derived};
	memcpy(i->uuid, e->uuid, UUID_LEN);
}

static void want_complete(struct promoter *p, const struct open_image *i,
			  const char *path)
{
	SCOPED_LOCK(&p->lock);
	struct wish *w = new_wish(i->dev, i->ino, path);

	if (!w)
		return; /* the next open completes it */
	w->completes = true;
	memcpy(w->uuid, i->uuid, UUID_LEN);
	append_locked(p, w);
	start_locked(p);
}

/* One that was derived, or whose header is not the one that its entry tells. */
static void look_at_image(struct promoter *p, const struct open_image *i)
{
	struct server *sv = p->sv;
	struct node *n = state_node(sv->state, i->nodeid);
	char path[STATE_PATH_MAX];
	bool same = true;

	if (!n || state_path(sv->state, n, path))
		return;
	if (i->derived && rules_class(sv->rules, path) == CLASS_ENCRYPT)
		promote_want(p, i->dev, i->ino, path);
	else if (!i->derived && !n->device &&
		 imagetable_compare_file(sv->images, i->uuid, n, &same) == 0 && !same)
		want_complete(p, i, path);
}

static void look_at_open(struct promoter *p)
{
	struct server *sv = p->sv;
	struct open_images o = {.room = keytable_count(sv->keys)};

	o.list = calloc(o.room + 1, sizeof(*o.list));
	if (!o.list)
		return;
	imagetable_each(sv->images, note_open, &o);
	for (size_t i = 0; i < o.cnt; i++)
		look_at_image(p, &o.list[i]);
	free(o.list);
}

void promote_tick(struct promoter *p)
{
	if (!p->looked_at_open && !p->sv->taking_over) {
		p->looked_at_open = true;
		look_at_open(p);
	}
	SCOPED_LOCK(&p->lock);

	start_locked(p);
}
