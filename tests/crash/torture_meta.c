/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A storm of names in a thread's own folder, each answer known beforehand.
 *
 * Model: SLOTS names in two folders; a slot leads to an object (or none); an object is a file, a
 * folder or a symbolic link with its inode number, links, mode, time, attribute and contents,
 * and lives on without a name while a descriptor is open. After a wrong answer nobody knows
 * what is there: the names concerned are removed and forgotten (counted once, not for ever).
 */
#include "torture.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { SLOTS = 20, ORPHANS = 4, CONTENT_MAX = 6000 };

struct object {
	char type; /* f d l */
	unsigned int nlink, mode;
	bool nlink_unknown, child, timed;
	bool derived; /* had a *.part name: gets a secret later, which changes its time */
	ino_t ino;
	time_t mtime;
	uint64_t id, version; /* the contents' stamp */
	size_t size;
	char xattr[24]; /* "" none */
	int fd;		/* of a file, -1 none */
};

struct meta {
	struct object *slot[SLOTS];
	char name[SLOTS][NAME_LEN];
	struct object *orphan[ORPHANS];
	uint64_t ids;
	bool xattrs;
	char got[CONTENT_MAX + 1], want[CONTENT_MAX];
};

static void meta_init(struct worker *w)
{
	struct meta *m = xalloc(sizeof(*m));
	int fd = openat(w->dir, "probe", O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	if (fd < 0 || mkdirat(w->dir, "A", 0755) < 0 || mkdirat(w->dir, "B", 0755) < 0)
		die("the folders of names");
	m->xattrs = fsetxattr(fd, "user.torture", "x", 1, 0) == 0;
	close(fd);
	unlinkat(w->dir, "probe", 0);
	for (unsigned int i = 0; i < SLOTS; i++)
		snprintf(m->name[i], NAME_LEN, "%s/n%u%s", i < SLOTS / 2 ? "A" : "B", i,
			 i % 4 == 3 ? ".part" : "");
	w->model = m;
}

/* --- the model's changes --- */

static struct object *object_new(struct meta *m, char type, unsigned int mode)
{
	struct object *o = xalloc(sizeof(*o));

	o->type = type;
	o->nlink = 1;
	o->mode = mode;
	o->id = ++m->ids;
	o->fd = -1;
	return o;
}

static void place(struct meta *m, size_t i, struct object *o)
{
	m->slot[i] = o;
	if (o && i % 4 == 3)
		o->derived = true;
}

/* A name less; an open file goes on as an orphan, if there is room. */
static void object_unlinked(struct worker *w, struct object *o)
{
	struct meta *m = w->model;

	if (--o->nlink > 0)
		return;
	for (size_t i = 0; i < ORPHANS && o->fd >= 0; i++) {
		if (!m->orphan[i]) {
			m->orphan[i] = o;
			return;
		}
	}
	if (o->fd >= 0)
		expect(w, OP(w, close(o->fd)), 0, "close of an unlinked file");
	free(o);
}

static void forget(struct worker *w, size_t i)
{
	struct meta *m = w->model;
	char child[NAME_LEN + 2];

	snprintf(child, sizeof(child), "%s/c", m->name[i]);
	unlinkat(w->dir, child, 0);
	if (unlinkat(w->dir, m->name[i], 0) < 0)
		unlinkat(w->dir, m->name[i], AT_REMOVEDIR);
	if (!m->slot[i])
		return;
	m->slot[i]->nlink_unknown = true;
	object_unlinked(w, m->slot[i]);
	m->slot[i] = NULL;
}

/* --- looking --- */

static void check_content(struct worker *w, const struct object *o, int fd)
{
	struct meta *m = w->model;

	if (!expect_len(w, OP(w, pread(fd, m->got, sizeof(m->got), 0)), o->size, "read",
			0))
		return;
	stamp(m->want, o->size, o->id, w->index, o->version);
	same_bytes(w, m->got, m->want, o->size, 0);
}

/* False if it is another one. */
static bool check_stat(struct worker *w, const struct object *o, const struct stat *st,
		       const char *name)
{
	mode_t type = o->type == 'f' ? S_IFREG : o->type == 'd' ? S_IFDIR : S_IFLNK;

	if ((st->st_mode & S_IFMT) != type || st->st_ino != o->ino) {
		wrong_meta(w, "%s: inode %ju of type %o, wanted %ju of type %o", name,
			   (uintmax_t)st->st_ino, st->st_mode & S_IFMT, (uintmax_t)o->ino,
			   type);
		return false;
	}
	if (o->type != 'l' && (st->st_mode & 07777) != o->mode)
		wrong_meta(w, "%s: mode %o, wanted %o", name, st->st_mode & 07777,
			   o->mode);
	else if (o->type != 'd' && !o->nlink_unknown && st->st_nlink != o->nlink)
		wrong_meta(w, "%s: %ju links, wanted %u", name, (uintmax_t)st->st_nlink,
			   o->nlink);
	else if (o->type == 'f' && (size_t)st->st_size != o->size)
		wrong_meta(w, "%s: size %jd, wanted %zu", name, (intmax_t)st->st_size,
			   o->size);
	else if (o->timed && !o->derived && st->st_mtim.tv_sec != o->mtime)
		wrong_meta(w, "%s: time %jd, wanted %jd", name,
			   (intmax_t)st->st_mtim.tv_sec, (intmax_t)o->mtime);
	return true;
}

static void look(struct worker *w, size_t i)
{
	struct meta *m = w->model;
	const struct object *o = m->slot[i];
	struct stat st;
	long r = OP(w, fstatat(w->dir, m->name[i], &st, AT_SYMLINK_NOFOLLOW));

	if (!expect(w, r, o ? 0 : ENOENT, "stat %s", m->name[i]))
		forget(w, i);
	else if (o && !check_stat(w, o, &st, m->name[i]))
		forget(w, i);
}

/* Inode numbers are learned from the file system, once. */
static void learn(struct worker *w, size_t i)
{
	struct meta *m = w->model;
	struct stat st;

	if (expect(w, OP(w, fstatat(w->dir, m->name[i], &st, AT_SYMLINK_NOFOLLOW)), 0,
		   "stat of the new %s", m->name[i]))
		m->slot[i]->ino = st.st_ino;
}

static void read_back(struct worker *w, size_t i)
{
	struct meta *m = w->model;
	const struct object *o = m->slot[i];
	int fd;

	if (!o || o->type != 'f') {
		look(w, i);
		return;
	}
	fd = (int)OP(w, openat(w->dir, m->name[i], O_RDONLY | O_CLOEXEC));
	if (!expect(w, fd, 0, "open %s", m->name[i]))
		return;
	check_content(w, o, fd);
	expect(w, OP(w, close(fd)), 0, "close %s", m->name[i]);
}

static void read_link(struct worker *w, size_t i)
{
	struct meta *m = w->model;
	const struct object *o = m->slot[i];
	char want[NAME_LEN], got[NAME_LEN];
	int len;
	long r;

	if (!o || o->type != 'l')
		return;
	len = snprintf(want, sizeof(want), "target-%ju", (uintmax_t)o->id);
	r = OP(w, readlinkat(w->dir, m->name[i], got, sizeof(got)));
	if (expect_len(w, r, (size_t)len, "readlink", 0))
		same_bytes(w, got, want, (size_t)len, 0);
}

static int slot_of(const struct meta *m, const char *folder, const char *name)
{
	char path[NAME_LEN + 256];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	for (int i = 0; i < SLOTS; i++)
		if (strcmp(m->name[i], path) == 0)
			return i;
	return -1;
}

/* Both folders list what the model has, each name once. */
static void list(struct worker *w, const char *folder)
{
	struct meta *m = w->model;
	unsigned int seen[SLOTS] = {0};
	int fd = (int)OP(w, openat(w->dir, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)),
	    i;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		failed(w, "open of a folder");
		return;
	}
	for (errno = 0; (e = (void *)OP(w, readdir(d))); errno = 0) {
		i = slot_of(m, folder, e->d_name);
		if (i >= 0)
			seen[i]++;
		else if (e->d_name[0] != '.')
			wrong_meta(w, "%s lists %s", folder, e->d_name);
	}
	if (errno)
		failed(w, "readdir");
	closedir(d);
	for (i = 0; i < SLOTS; i++)
		if (m->name[i][0] == folder[0] && seen[i] != (m->slot[i] ? 1 : 0))
			wrong_meta(w, "%s is listed %u times", m->name[i], seen[i]);
}

/* --- making --- */

static int create(struct worker *w, size_t i, int want)
{
	struct meta *m = w->model;
	int fd = (int)OP(w, openat(w->dir, m->name[i],
				   O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640));

	if (!expect(w, fd, want, "create of %s", m->name[i]))
		forget(w, i);
	return fd;
}

static void op_create(struct worker *w, size_t i, size_t j)
{
	struct meta *m = w->model;
	int fd, again;

	if (m->slot[i]) {
		fd = create(w, i, EEXIST);
		if (fd >= 0)
			close(fd);
		return;
	}
	fd = create(w, i, 0);
	if (fd < 0)
		return;
	place(m, i, object_new(m, 'f', 0640));
	learn(w, i);
	again = create(w, i, EEXIST);
	if (again >= 0)
		close(again);
	if (m->slot[i] && below(w, 3) == 0)
		m->slot[i]->fd = fd;
	else
		expect(w, OP(w, close(fd)), 0, "close of the new %s", m->name[i]);
}

static void op_mkdir(struct worker *w, size_t i, size_t j)
{
	struct meta *m = w->model;

	if (!expect(w, OP(w, mkdirat(w->dir, m->name[i], 0750)), m->slot[i] ? EEXIST : 0,
		    "mkdir %s", m->name[i])) {
		forget(w, i);
	} else if (!m->slot[i]) {
		m->slot[i] = object_new(m, 'd', 0750);
		learn(w, i);
	}
}

static void op_symlink(struct worker *w, size_t i, size_t j)
{
	struct meta *m = w->model;
	char target[NAME_LEN];

	snprintf(target, sizeof(target), "target-%ju", (uintmax_t)m->ids + 1);
	if (!expect(w, OP(w, symlinkat(target, w->dir, m->name[i])),
		    m->slot[i] ? EEXIST : 0, "symlink %s", m->name[i])) {
		forget(w, i);
	} else if (!m->slot[i]) {
		m->slot[i] = object_new(m, 'l', 0777);
		learn(w, i);
	}
}

static void op_link(struct worker *w, size_t i, size_t j)
{
	struct meta *m = w->model;
	struct object *o = m->slot[i];
	int want = !o ? ENOENT : m->slot[j] ? EEXIST : o->type == 'd' ? EPERM : 0;

	if (!expect(w, OP(w, linkat(w->dir, m->name[i], w->dir, m->name[j], 0)), want,
		    "link %s %s", m->name[i], m->name[j])) {
		forget(w, i);
		if (i != j)
			forget(w, j);
	} else if (want == 0) {
		place(m, j, o);
		o->nlink++;
	}
}

/* The file in a folder, which makes it not empty. */
static void op_child(struct worker *w, size_t i, size_t j)
{
	struct meta *m = w->model;
	struct object *o = m->slot[i];
	char child[NAME_LEN + 2];
	int fd;

	if (!o || o->type != 'd')
		return;
	snprintf(child, sizeof(child), "%s/c", m->name[i]);
	if (o->child) {
		if (expect(w, OP(w, unlinkat(w->dir, child, 0)), 0, "unlink %s", child))
			o->child = false;
	} else {
		fd = (int)OP(w, openat(w->dir, child,
				       O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
		if (expect(w, fd, 0, "create of %s", child)) {
			o->child = true;
			expect(w, OP(w, close(fd)), 0, "close of %s", child);
		}
	}
	o->timed = false;
}

/* --- removing --- */

static void op_unlink(struct worker *w, size_t i, size_t j)
{
	struct meta *m = w->model;
	struct object *o = m->slot[i];
	int want = !o ? ENOENT : o->type == 'd' ? EISDIR : 0;

	if (!expect(w, OP(w, unlinkat(w->dir, m->name[i], 0)), want, "unlink %s",
		    m->name[i])) {
		forget(w, i);
	} else if (want == 0) {
		m->slot[i] = NULL;
		object_unlinked(w, o);
		if (below(w, 2))
			look(w, i);
	}
}

static void op_rmdir(struct worker *w, size_t i, size_t j)
{
	struct meta *m = w->model;
	struct object *o = m->slot[i];
	int want = !o ? ENOENT : o->type != 'd' ? ENOTDIR : o->child ? ENOTEMPTY : 0;

	if (!expect(w, OP(w, unlinkat(w->dir, m->name[i], AT_REMOVEDIR)), want,
		    "rmdir %s", m->name[i])) {
		forget(w, i);
	} else if (want == 0) {
		m->slot[i] = NULL;
		object_unlinked(w, o);
	}
}

/* --- renaming --- */

static int rename_want(const struct object *from, const struct object *to,
		       unsigned int flags)
{
	if (!from)
		return ENOENT;
	if (flags == RENAME_EXCHANGE)
		return to ? 0 : ENOENT;
	if (!to)
		return 0;
	if (flags == RENAME_NOREPLACE)
		return EEXIST;
	if (from == to)
		return 0;
	if (from->type == 'd' && to->type != 'd')
		return ENOTDIR;
	if (from->type != 'd' && to->type == 'd')
		return EISDIR;
	return to->type == 'd' && to->child ? ENOTEMPTY : 0;
}

static void renamed(struct worker *w, size_t i, size_t j, unsigned int flags)
{
	struct meta *m = w->model;
	struct object *from = m->slot[i], *to = m->slot[j];

	if (from == to)
		return; /* also: two names of one file stay as they are */
	place(m, j, from);
	place(m, i, flags == RENAME_EXCHANGE ? to : NULL);
	if (flags != RENAME_EXCHANGE && to)
		object_unlinked(w, to);
}

static void rename_with(struct worker *w, size_t i, size_t j, unsigned int flags)
{
	struct meta *m = w->model;
	int want = rename_want(m->slot[i], m->slot[j], flags);

	if (!expect(w, OP(w, renameat2(w->dir, m->name[i], w->dir, m->name[j], flags)),
		    want, "rename %u %s %s", flags, m->name[i], m->name[j])) {
		forget(w, i);
		if (i != j)
			forget(w, j);
		return;
	}
	if (want == 0)
		renamed(w, i, j, flags);
	look(w, i);
	look(w, j);
}

static void op_rename(struct worker *w, size_t i, size_t j)
{
	rename_with(w, i, j, 0);
}

static void op_exchange(struct worker *w, size_t i, size_t j)
{
	rename_with(w, i, j, RENAME_EXCHANGE);
}

static void op_noreplace(struct worker *w, size_t i, size_t j)
{
	rename_with(w, i, j, RENAME_NOREPLACE);
}

/* --- attributes --- */

static void op_setxattr(struct worker *w, size_t i, size_t j)
{
	struct meta *m = w->model;
	struct object *o = m->slot[i];
	int flags = below(w, 2) ? XATTR_CREATE : XATTR_REPLACE, fd, want = 0;
	char value[sizeof(o->xattr)];
	long r;

	if (!o || o->type == 'l' || !m->xattrs)
		return;
	fd = openat(w->dir, m->name[i], O_RDONLY | O_CLOEXEC);
	if (flags == XATTR_CREATE && o->xattr[0])
		want = EEXIST;
	if (flags == XATTR_REPLACE && !o->xattr[0])
		want = ENODATA;
	snprintf(value, sizeof(value), "v%ju", (uintmax_t)rnd(w) & 0xffffff);
	r = OP(w, fsetxattr(fd, "user.torture", value, strlen(value), flags));
	if (expect(w, r, want, "setxattr %d %s", flags, m->name[i]) && want == 0)
		memcpy(o->xattr, value, sizeof(value));
	close(fd);
}

static void op_removexattr(struct worker *w, size_t i, size_t j)
{
	struct meta *m = w->model;
	struct object *o = m->slot[i];
	int fd;

	if (!o || o->type == 'l' || !m->xattrs)
		return;
	fd = openat(w->dir, m->name[i], O_RDONLY | O_CLOEXEC);
	if (expect(w, OP(w, fremovexattr(fd, "user.torture")), o->xattr[0] ? 0 : ENODATA,
		   "removexattr %s", m->name[i]))
		o->xattr[0] = '\0';
	close(fd);
}

static void op_getxattr(struct worker *w, size_t i, size_t j)
{
	struct meta *m = w->model;
	struct object *o = m->slot[i];
	char got[64] = "";
	int fd;
	long r;

	if (!o || o->type == 'l' || !m->xattrs)
		return;
	fd = openat(w->dir, m->name[i], O_RDONLY | O_CLOEXEC);
	r = OP(w, fgetxattr(fd, "user.torture", got, sizeof(got) - 1));
	if (expect(w, r, o->xattr[0] ? 0 : ENODATA, "getxattr %s", m->name[i]) &&
	    strcmp(got, o->xattr) != 0)
		wrong_meta(w, "getxattr %s: %s, wanted %s", m->name[i], got, o->xattr);
	close(fd);
}

static void op_chmod(struct worker *w, size_t i, size_t j)
{
	struct meta *m = w->model;
	struct object *o = m->slot[i];
	unsigned int mode = 0600 | (unsigned int)below(w, 0100);

	if (o && o->type == 'l')
		return; /* its target is nowhere */
	mode |= o && o->type == 'd' ? 0100 : 0;
	if (!expect(w, OP(w, fchmodat(w->dir, m->name[i], mode, 0)), o ? 0 : ENOENT,
		    "chmod %s", m->name[i]))
		forget(w, i);
	else if (o)
		o->mode = mode;
}

static void op_times(struct worker *w, size_t i, size_t j)
{
	struct meta *m = w->model;
	struct object *o = m->slot[i];
	struct timespec t[2] = {{.tv_sec = 1000000000},
				{.tv_sec = 1000000000 + (time_t)below(w, 1 << 28)}};

	if (!expect(w, OP(w, utimensat(w->dir, m->name[i], t, AT_SYMLINK_NOFOLLOW)),
		    o ? 0 : ENOENT, "utimens %s", m->name[i])) {
		forget(w, i);
	} else if (o) {
		o->mtime = t[1].tv_sec;
		o->timed = true;
	}
	look(w, i);
}

/* --- contents, also of files without a name --- */

static void write_object(struct worker *w, struct object *o, int fd)
{
	struct meta *m = w->model;
	size_t len = below(w, CONTENT_MAX);

	if (len < o->size && !expect(w, OP(w, ftruncate(fd, (off_t)len)), 0, "ftruncate"))
		return;
	stamp(m->want, len, o->id, w->index, ++o->version);
	if (!expect_len(w, OP(w, pwrite(fd, m->want, len, 0)), len, "write", 0))
		return;
	o->size = len;
	o->timed = false;
}

static void op_write(struct worker *w, size_t i, size_t j)
{
	struct meta *m = w->model;
	struct object *o = m->slot[i];
	int fd, flags = O_RDWR | O_CLOEXEC | (below(w, 3) ? 0 : O_TRUNC);

	if (!o || o->type != 'f')
		return;
	fd = (int)OP(w, openat(w->dir, m->name[i], flags));
	if (!expect(w, fd, 0, "open %s", m->name[i]))
		return;
	if (flags & O_TRUNC)
		o->size = 0;
	o->timed = false;
	write_object(w, o, fd);
	expect(w, OP(w, close(fd)), 0, "close %s", m->name[i]);
}

static void op_orphan(struct worker *w, size_t i, size_t j)
{
	struct meta *m = w->model;
	struct object **at = &m->orphan[i % ORPHANS], *o = *at;
	struct stat st;

	if (!o)
		return;
	if (expect(w, OP(w, fstat(o->fd, &st)), 0, "fstat of an unlinked file"))
		check_stat(w, o, &st, "an unlinked file");
	check_content(w, o, o->fd);
	if (below(w, 3)) {
		write_object(w, o, o->fd);
		return;
	}
	expect(w, OP(w, close(o->fd)), 0, "close of an unlinked file");
	free(o);
	*at = NULL;
}

static void op_held(struct worker *w, size_t i, size_t j)
{
	struct meta *m = w->model;
	struct object *o = m->slot[i];

	if (!o || o->fd < 0)
		return;
	check_content(w, o, o->fd);
	if (below(w, 4))
		return;
	expect(w, OP(w, close(o->fd)), 0, "close of a held file");
	o->fd = -1;
}

static void op_read(struct worker *w, size_t i, size_t j)
{
	read_back(w, i);
	read_link(w, i);
}

static void op_list(struct worker *w, size_t i, size_t j)
{
	list(w, i % 2 ? "A" : "B");
}

/* --- the storm --- */

static const struct {
	unsigned int share;
	void (*op)(struct worker *w, size_t i, size_t j);
} storm[] = {
	{10, op_create},  {6, op_mkdir},     {4, op_symlink},  {7, op_link},
	{5, op_child},	  {9, op_unlink},    {6, op_rmdir},    {10, op_rename},
	{8, op_exchange}, {6, op_noreplace}, {4, op_setxattr}, {3, op_removexattr},
	{2, op_getxattr}, {3, op_chmod},     {3, op_times},    {3, op_write},
	{5, op_orphan},	  {3, op_held},	     {5, op_read},     {2, op_list},
};

static void meta_step(struct worker *w)
{
	uint64_t total = 0, n;
	size_t k = 0;

	for (size_t i = 0; i < sizeof(storm) / sizeof(storm[0]); i++)
		total += storm[i].share;
	n = below(w, total);
	while (n >= storm[k].share)
		n -= storm[k++].share;
	storm[k].op(w, below(w, SLOTS), below(w, SLOTS));
}

static void finish_slot(struct worker *w, size_t i, FILE *manifest)
{
	struct meta *m = w->model;
	struct object *o = m->slot[i];
	struct manifest_entry e = {.type = o->type, .mode = o->mode, .nlink = o->nlink};
	char target[NAME_LEN];

	e.size = (off_t)o->size;
	stamp(m->want, o->size, o->id, w->index, o->version);
	e.hash = hash_bytes(0, m->want, o->size);
	e.xattr = o->xattr[0] ? o->xattr : NULL;
	if (o->type == 'l') {
		snprintf(target, sizeof(target), "target-%ju", (uintmax_t)o->id);
		e.target = target;
	}
	if (o->nlink_unknown)
		e.nlink = 0;
	manifest_add(manifest, &e, "%s/%s", w->name, m->name[i]);
	if (o->child) {
		e = (struct manifest_entry){.type = 'f', .mode = 0600, .nlink = 1};
		manifest_add(manifest, &e, "%s/%s/c", w->name, m->name[i]);
	}
}

static void meta_finish(struct worker *w, FILE *manifest)
{
	struct meta *m = w->model;
	struct manifest_entry folder = {.type = 'd', .mode = 0755};

	list(w, "A");
	list(w, "B");
	manifest_add(manifest, &folder, "%s/A", w->name);
	manifest_add(manifest, &folder, "%s/B", w->name);
	for (size_t i = 0; i < SLOTS; i++) {
		look(w, i);
		op_read(w, i, i);
		op_getxattr(w, i, i);
		if (m->slot[i])
			finish_slot(w, i, manifest);
	}
	for (size_t i = 0; i < SLOTS; i++) {
		if (m->slot[i] && m->slot[i]->fd >= 0) {
			close(m->slot[i]->fd);
			m->slot[i]->fd = -1;
		}
	}
	for (size_t i = 0; i < ORPHANS; i++)
		if (m->orphan[i])
			expect(w, OP(w, close(m->orphan[i]->fd)), 0, "last close");
}

const struct kind kind_meta = {"meta", 4, meta_init, meta_step, meta_finish};
