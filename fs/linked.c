/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/linked.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

#include "crypto/container.h"
#include "fs/device_config.h"
#include "fs/keyset.h"
#include "fs/treescan.h"
#include "util/io.h"
#include "util/log.h"

enum { PLAINTEXT_LISTED = 10 };

struct scan {
	struct linked *l;
	bool tolerate;
};

static vcf_err_t add_uuid(struct linked *l, const char *text)
{
	if (l->cnt == l->room) {
		size_t room = l->room ? 2 * l->room : 256;
		void *p = realloc(l->uuids, room * sizeof(*l->uuids));

		if (!p)
			return -ENOMEM;
		l->uuids = p;
		l->room = room;
	}
	if (uuid_parse(text, l->uuids[l->cnt]))
		return 0; /* no uuid that we ever made */
	l->cnt++;
	return 0;
}

static void note_plaintext(struct scan *s, const struct treescan_file *f)
{
	if (s->l->plaintext_cnt++ >= PLAINTEXT_LISTED)
		return;
	if (s->tolerate)
		log_info("%s: plaintext under an encrypt rule; it will not be opened",
			 f->path);
	else
		log_err("%s: plaintext under an encrypt rule", f->path);
}

static int scan_file(void *arg, const struct treescan_file *f)
{
	struct scan *s = arg;

	if (!rules_is_image(f->cls))
		return 0;
	if (f->err) {
		log_info("%s: cannot be examined: %s", f->path, strerror(-f->err));
		return 0;
	}
	if (f->peek.kind == PEEK_PLAINTEXT)
		note_plaintext(s, f);
	if (f->peek.kind == PEEK_CONTAINER)
		return add_uuid(s->l, f->peek.uuid_text);
	return 0;
}

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, UUID_LEN);
}

/* Plaintext there is no more than what was said already (device_settle()). */
static int scan_device(void *arg, const struct device_look *d)
{
	struct scan *s = arg;

	return !d->err && d->peek.kind == PEEK_CONTAINER
		       ? add_uuid(s->l, d->peek.uuid_text)
		       : 0;
}

vcf_err_t linked_scan(struct linked *l, const struct server *sv, bool tolerate)
{
	struct scan s = {.l = l, .tolerate = tolerate};
	vcf_err_t err = treescan(sv->rootfd, sv->rules, scan_file, &s);

	if (!err)
		err = device_each(sv->cfg, scan_device, &s);
	if (!err && l->cnt)
		qsort(l->uuids, l->cnt, UUID_LEN, compare);
	return err;
}

bool linked_has(const struct linked *l, const unsigned char uuid[UUID_LEN])
{
	return l->cnt && bsearch(uuid, l->uuids, l->cnt, UUID_LEN, compare);
}

void linked_fini(struct linked *l)
{
	free(l->uuids);
}

/* One walk; sv: of a live mount, whose renames are followed. */
struct walk {
	int rootfd;
	const struct rules *rules;
	struct server *sv;
	linked_look_fn *look;
	void *arg;
};

static vcf_err_t load_header(int fd, const char *path, struct container **c)
{
	auto_free unsigned char *hdr = NULL;
	ssize_t n;

	if (fd < 0)
		return fd;
	hdr = calloc(1, CONTAINER_PEEK_LEN);
	if (!hdr)
		return -ENOMEM;
	n = io_pread_full(fd, hdr, CONTAINER_PEEK_LEN, 0);
	return n < 0 ? (vcf_err_t)n
		     : container_load_saved(c, hdr, CONTAINER_PEEK_LEN, path);
}

static vcf_err_t look_at(const struct walk *w, const char *path,
			 const struct container *c)
{
	return w->look(w->arg, path, container_subject(c)->uuid, container_token(c));
}

/* What a peek took for a container; fd: open, or the error of that. */
static vcf_err_t look_at_peeked(const struct walk *w, const char *path,
				const struct peek *p, int fd)
{
	auto_container struct container *c = NULL;
	unsigned char uuid[UUID_LEN];

	if (load_header(fd, path, &c) == 0)
		return look_at(w, path, c);
	if (uuid_parse(p->uuid_text, uuid) == 0)
		return w->look(w->arg, path, uuid, NULL);
	return 0;
}

static int walk_file(void *arg, const struct treescan_file *f)
{
	const struct walk *w = arg;
	auto_close int fd = -1;

	if (w->sv && w->sv->stopping)
		return -ECANCELED;
	/* one that was copied to a passthrough place needs its secret, too */
	if (!rules_is_image(f->cls) && f->peek.kind != PEEK_CONTAINER)
		return 0;
	if (f->err)
		return f->err == -ENOENT ? 0 : f->err; /* unknown is not unused */
	if (f->peek.kind == PEEK_EMPTY)
		return 0;
	if (f->peek.kind != PEEK_CONTAINER)
		return w->look(w->arg, f->path, NULL, NULL);
	fd = io_open_file(w->rootfd, f->path, O_RDONLY | O_NONBLOCK, false);
	return look_at_peeked(w, f->path, &f->peek, fd);
}

/* One that is not there now may be a container: nothing is said of its secret as long as it is so. */
static int walk_device(void *arg, const struct device_look *d)
{
	const struct walk *w = arg;

	if (d->err) {
		log_warn("[device %s]: %s: %s", d->name, d->path, strerror(-d->err));
		return d->err;
	}
	if (d->peek.kind == PEEK_EMPTY || d->peek.kind == PEEK_PLAINTEXT)
		return 0;
	if (d->peek.kind != PEEK_CONTAINER)
		return w->look(w->arg, d->name, NULL, NULL);
	return look_at_peeked(w, d->name, &d->peek, d->fd);
}

static vcf_err_t walk_all(struct walk *w, const struct config *cfg)
{
	vcf_err_t err = treescan_all(w->rootfd, w->rules, walk_file, w);

	return err ? err : device_each(cfg, walk_device, w);
}

enum { MOVES_MAX = 4096, WALKS_MAX = 8 };

struct linked_moves {
	char *paths[MOVES_MAX];
	size_t cnt;
	bool walk_again; /* a folder moved, or too many files */
};

void linked_moved(struct server *sv, const char *path, bool folder)
{
	struct linked_moves *m = sv->moves;
	char *copy = !m || folder || m->cnt == MOVES_MAX ? NULL : strdup(path);

	if (copy)
		m->paths[m->cnt++] = copy;
	else if (m)
		m->walk_again = true;
}

/* The next of the files that moved; *again: the tree is to be walked again. NULL: none. */
static char *next_move(struct server *sv, bool *again)
{
	SCOPED_LOCK(&sv->tree_lock);
	struct linked_moves *m = sv->moves;

	if (m->cnt)
		return m->paths[--m->cnt];
	*again = m->walk_again;
	m->walk_again = false;
	return NULL;
}

static vcf_err_t walk_moved(const struct walk *w, const char *path)
{
	auto_container struct container *c = NULL;
	auto_close int fd = io_open_file(w->rootfd, path, O_RDONLY | O_NONBLOCK, false);
	vcf_err_t err = load_header(fd, path, &c);

	if (fd == -EINVAL) /* a folder or the like */
		return 0;
	if (!err)
		return look_at(w, path, c);
	/* Gone, moved on (which was noted), no container. */
	return err == -ENOENT || err == -ENODATA || err == -EPERM || err == -ELOOP ||
			       err == -EISDIR || err == -ENOTDIR
		       ? 0
		       : err;
}

static vcf_err_t walk_once(struct walk *w, bool *again)
{
	vcf_err_t err = walk_all(w, w->sv->cfg);
	char *path;

	while ((path = next_move(w->sv, again))) {
		if (!err)
			err = walk_moved(w, path);
		free(path);
	}
	return err;
}

static void set_moves(struct server *sv, struct linked_moves *m)
{
	SCOPED_LOCK(&sv->tree_lock);

	sv->moves = m;
}

vcf_err_t linked_walk_tree(int rootfd, const struct rules *r, const struct config *cfg,
			   linked_look_fn *look, void *arg)
{
	struct walk w = {.rootfd = rootfd, .rules = r, .look = look, .arg = arg};

	return walk_all(&w, cfg);
}

/* A rename may carry a container past the walk. */
vcf_err_t linked_walk(struct server *sv, linked_look_fn *look, void *arg)
{
	struct walk w = {.rootfd = sv->rootfd,
			 .rules = sv->rules,
			 .sv = sv,
			 .look = look,
			 .arg = arg};
	auto_free struct linked_moves *m = calloc(1, sizeof(*m));
	bool again = true;
	vcf_err_t err = 0;

	if (!m)
		return -ENOMEM;
	SCOPED_LOCK(&sv->walk_lock);
	set_moves(sv, m);
	for (int i = 0; again && !err; i++)
		err = i < WALKS_MAX ? walk_once(&w, &again) : -EAGAIN;
	set_moves(sv, NULL);
	while (m->cnt)
		free(m->paths[--m->cnt]);
	return err;
}

struct question {
	const struct journal_entry *entries;
	size_t cnt;
	bool *in_use;
};

/* t: NULL where the header cannot be read. An id is one of its service. */
static vcf_err_t mark(void *arg, const char *path, const unsigned char *uuid,
		      const struct token *t)
{
	struct question *q = arg;

	(void)path;
	for (size_t i = 0; uuid && i < q->cnt; i++) {
		const struct journal_entry *e = &q->entries[i];

		if (memcmp(e->uuid, uuid, UUID_LEN) == 0 ||
		    (t && *e->key_id && strcmp(e->key_id, t->key_id) == 0 &&
		     strcmp(e->service, t->service) == 0))
			q->in_use[i] = true;
	}
	return 0;
}

vcf_err_t linked_in_use(void *arg, const struct journal_entry *entries, size_t cnt,
			bool *in_use)
{
	struct server *sv = arg;
	struct question q = {.entries = entries, .cnt = cnt, .in_use = in_use};
	vcf_err_t err;

	for (size_t i = 0; i < cnt; i++)
		in_use[i] = keyset_is_site(sv, &entries[i]);
	/*
	 * What cannot be looked at may be a container that uses it: then not now. Renames by
	 * other nodes are not followed: it would take two, one past each walk, to hide one.
	 */
	err = linked_walk(sv, mark, &q);
	if (!err && sv->cfg->shared)
		err = linked_walk(sv, mark, &q);
	return err;
}
