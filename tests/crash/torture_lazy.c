/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lazy: images that come and go. A new file is empty; its first byte (a write, a growing
 * truncate, an allocation) makes a header with a new secret, its removal destroys both. Some are
 * removed while open and go on. Half of the names are of another class (*.part).
 */
#include "torture.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { IMAGES = 6, IMAGE_MAX = 20000 };

struct lazy_image {
	bool named;
	int fd; /* -1: closed */
	size_t size;
	uint64_t version;
	unsigned char want[IMAGE_MAX];
};

struct lazy {
	struct lazy_image image[IMAGES];
	char name[IMAGES][NAME_LEN];
	unsigned char got[IMAGE_MAX + 1];
};

static void lazy_init(struct worker *w)
{
	struct lazy *l = xalloc(sizeof(*l));

	for (unsigned int i = 0; i < IMAGES; i++) {
		l->image[i].fd = -1;
		snprintf(l->name[i], NAME_LEN, "image%u%s", i, i % 2 ? ".part" : "");
	}
	w->model = l;
}

static void lazy_create(struct worker *w, size_t i)
{
	struct lazy *l = w->model;
	struct lazy_image *m = &l->image[i];
	const int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;
	int fd = (int)OP(w, openat(w->dir, l->name[i], flags, 0644));

	if (!expect(w, fd, 0, "create of %s", l->name[i])) {
		unlinkat(w->dir, l->name[i], 0);
		return;
	}
	memset(m, 0, sizeof(*m));
	m->named = true;
	m->fd = fd;
	fd = (int)OP(w, openat(w->dir, l->name[i], flags, 0644));
	if (!expect(w, fd, EEXIST, "second create of %s", l->name[i]) && fd >= 0)
		close(fd);
}

static void lazy_open(struct worker *w, size_t i)
{
	struct lazy *l = w->model;
	int fd;

	if (l->image[i].fd >= 0)
		return;
	fd = (int)OP(w, openat(w->dir, l->name[i], O_RDWR | O_CLOEXEC));
	if (expect(w, fd, 0, "open of %s", l->name[i]))
		l->image[i].fd = fd;
}

static void lazy_close(struct worker *w, size_t i)
{
	struct lazy_image *m = &((struct lazy *)w->model)->image[i];

	if (m->fd < 0)
		return;
	expect(w, OP(w, close(m->fd)), 0, "close of an image");
	m->fd = -1;
}

static void lazy_write(struct worker *w, struct lazy_image *m)
{
	size_t off = below(w, IMAGE_MAX / 2), len = 1 + below(w, IMAGE_MAX / 2);

	stamp(m->want + off, len, w->index, off, ++m->version);
	expect_len(w, OP(w, pwrite(m->fd, m->want + off, len, (off_t)off)), len, "write",
		   (off_t)off);
	if (off + len > m->size)
		m->size = off + len;
}

static void lazy_resize(struct worker *w, struct lazy_image *m)
{
	size_t size = below(w, IMAGE_MAX);

	if (!expect(w, OP(w, ftruncate(m->fd, (off_t)size)), 0, "ftruncate of an image"))
		return;
	if (size < m->size)
		memset(m->want + size, 0, m->size - size);
	m->size = size;
}

static void lazy_allocate(struct worker *w, struct lazy_image *m)
{
	size_t len = 1 + below(w, IMAGE_MAX - 1);

	if (expect(w, OP(w, fallocate(m->fd, 0, 0, (off_t)len)), 0,
		   "fallocate of an image") &&
	    len > m->size)
		m->size = len;
}

static void lazy_read(struct worker *w, struct lazy_image *m)
{
	struct lazy *l = w->model;

	if (expect_len(w, OP(w, pread(m->fd, l->got, sizeof(l->got), 0)), m->size, "read",
		       0))
		same_bytes(w, l->got, m->want, m->size, 0);
}

static void lazy_change(struct worker *w, size_t i)
{
	struct lazy_image *m = &((struct lazy *)w->model)->image[i];

	lazy_open(w, i);
	if (m->fd < 0)
		return;
	switch (below(w, 8)) {
	case 0:
		lazy_resize(w, m);
		break;
	case 1:
		lazy_allocate(w, m);
		break;
	case 2:
	case 3:
		lazy_write(w, m);
		break;
	case 4:
		expect(w, OP(w, fsync(m->fd)), 0, "fsync of an image");
		break;
	default:
		break;
	}
	lazy_read(w, m);
}

static void lazy_remove(struct worker *w, size_t i)
{
	struct lazy *l = w->model;
	struct lazy_image *m = &l->image[i];

	if (!expect(w, OP(w, unlinkat(w->dir, l->name[i], 0)), 0, "unlink of %s",
		    l->name[i]))
		return;
	if (m->fd >= 0 && below(w, 2)) {
		lazy_write(w, m);
		lazy_read(w, m);
	}
	lazy_close(w, i);
	m->named = false;
}

/* Another image takes its place. */
static void lazy_replace(struct worker *w, size_t i, size_t j)
{
	struct lazy *l = w->model;
	int fd;

	if (i == j || !expect(w, OP(w, renameat(w->dir, l->name[i], w->dir, l->name[j])),
			      0, "rename of %s to %s", l->name[i], l->name[j]))
		return;
	fd = l->image[j].fd;
	if (l->image[j].named && fd >= 0) {
		lazy_write(w, &l->image[j]); /* without a name now */
		lazy_read(w, &l->image[j]);
		expect(w, OP(w, close(fd)), 0, "close of a replaced image");
	}
	l->image[j] = l->image[i];
	l->image[i].named = false;
	l->image[i].fd = -1;
	lazy_change(w, j);
}

static void lazy_step(struct worker *w)
{
	struct lazy *l = w->model;
	size_t i = below(w, IMAGES);

	if (!l->image[i].named) {
		lazy_create(w, i);
		if (below(w, 4) == 0)
			lazy_close(w, i); /* stays empty for now */
		return;
	}
	switch (below(w, 10)) {
	case 0:
	case 1:
		lazy_remove(w, i);
		break;
	case 2:
		lazy_replace(w, i, below(w, IMAGES));
		break;
	case 3:
		lazy_close(w, i);
		break;
	default:
		lazy_change(w, i);
		break;
	}
	nap_ms((unsigned int)below(w, 8));
}

static void lazy_finish(struct worker *w, FILE *manifest)
{
	struct lazy *l = w->model;

	for (size_t i = 0; i < IMAGES; i++) {
		struct lazy_image *m = &l->image[i];
		struct manifest_entry e = {.type = 'f', .mode = 0644, .nlink = 1};

		if (!m->named)
			continue;
		lazy_open(w, i);
		lazy_read(w, m);
		lazy_close(w, i);
		e.size = (off_t)m->size;
		e.hash = hash_bytes(0, m->want, m->size);
		manifest_add(manifest, &e, "%s/%s", w->name, l->name[i]);
	}
}

const struct kind kind_lazy = {"lazy", 2, lazy_init, lazy_step, lazy_finish};
