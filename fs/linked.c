/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/linked.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

#include "crypto/container.h"
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

vcf_err_t linked_scan(struct linked *l, int rootfd, const struct rules *r, bool tolerate)
{
	struct scan s = {.l = l, .tolerate = tolerate};
	vcf_err_t err = treescan(rootfd, r, scan_file, &s);

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

struct question {
	struct server *sv;
	const struct journal_entry *entries;
	size_t cnt;
	bool *in_use;
};

static vcf_err_t load_header(int rootfd, const char *path, struct container **c)
{
	auto_close int fd =
		openat(rootfd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	auto_free unsigned char *hdr = calloc(1, CONTAINER_PEEK_LEN);
	ssize_t n;

	if (fd < 0)
		return -errno;
	if (!hdr)
		return -ENOMEM;
	n = io_pread_full(fd, hdr, CONTAINER_PEEK_LEN, 0);
	return n < 0 ? (vcf_err_t)n
		     : container_load_saved(c, hdr, CONTAINER_PEEK_LEN, path);
}

/* t: NULL where the header cannot be read. An id is one of its service. */
static void mark(struct question *q, const unsigned char *uuid, const struct token *t)
{
	for (size_t i = 0; i < q->cnt; i++) {
		const struct journal_entry *e = &q->entries[i];

		if (memcmp(e->uuid, uuid, UUID_LEN) == 0 ||
		    (t && *e->key_id && strcmp(e->key_id, t->key_id) == 0 &&
		     strcmp(e->service, t->service) == 0))
			q->in_use[i] = true;
	}
}

static int ask_file(void *arg, const struct treescan_file *f)
{
	auto_container struct container *c = NULL;
	struct question *q = arg;
	unsigned char uuid[UUID_LEN];

	if (q->sv->stopping)
		return -ECANCELED;
	if (!rules_is_image(f->cls))
		return 0;
	if (f->err)
		return f->err == -ENOENT ? 0 : f->err; /* unknown is not unused */
	if (f->peek.kind != PEEK_CONTAINER)
		return 0;
	if (load_header(q->sv->rootfd, f->path, &c) == 0)
		mark(q, container_subject(c)->uuid, container_token(c));
	else if (uuid_parse(f->peek.uuid_text, uuid) == 0)
		mark(q, uuid, NULL);
	return 0;
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

static vcf_err_t ask_moved(struct question *q, const char *path)
{
	auto_container struct container *c = NULL;
	vcf_err_t err = load_header(q->sv->rootfd, path, &c);

	if (!err)
		mark(q, container_subject(c)->uuid, container_token(c));
	/* Gone, moved on (which was noted), no container. */
	return err == -ENOENT || err == -ENODATA || err == -EPERM || err == -ELOOP ||
			       err == -EISDIR || err == -ENOTDIR
		       ? 0
		       : err;
}

static vcf_err_t walk_once(struct question *q, bool *again)
{
	vcf_err_t err = treescan_all(q->sv->rootfd, q->sv->rules, ask_file, q);
	char *path;

	while ((path = next_move(q->sv, again))) {
		if (!err)
			err = ask_moved(q, path);
		free(path);
	}
	return err;
}

static void set_moves(struct server *sv, struct linked_moves *m)
{
	SCOPED_LOCK(&sv->tree_lock);

	sv->moves = m;
}

/* A rename may carry a container past the walk. */
static vcf_err_t walk_all(struct question *q)
{
	auto_free struct linked_moves *m = calloc(1, sizeof(*m));
	bool again = true;
	vcf_err_t err = 0;

	if (!m)
		return -ENOMEM;
	set_moves(q->sv, m);
	for (int i = 0; again && !err; i++)
		err = i < WALKS_MAX ? walk_once(q, &again) : -EAGAIN;
	set_moves(q->sv, NULL);
	while (m->cnt)
		free(m->paths[--m->cnt]);
	return err;
}

vcf_err_t linked_in_use(void *arg, const struct journal_entry *entries, size_t cnt,
			bool *in_use)
{
	struct server *sv = arg;
	struct question q = {.sv = sv, .entries = entries, .cnt = cnt, .in_use = in_use};

	for (size_t i = 0; i < cnt; i++)
		in_use[i] = keyset_is_site(sv, &entries[i]);
	SCOPED_LOCK(&sv->walk_lock);
	/* What cannot be looked at may be a container that uses it: then not now. */
	return walk_all(&q);
}
