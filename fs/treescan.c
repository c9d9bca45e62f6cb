/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Folders wait in a stack of paths; one at a time is open, read to its end, and stays
 * open until the next one is: that is mostly its child and opens in one step. Any other
 * is opened from the root component by component, so that neither PATH_MAX nor a folder
 * exchanged for a symlink meanwhile matters. Descriptors in use: at most four.
 */
#include "fs/treescan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/io.h"
#include "util/log.h"

enum { FOLDER_FLAGS = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC };

struct walk {
	int rootfd;
	dev_t dev;
	bool all; /* nothing may be missed */
	const struct rules *rules;
	int (*fn)(void *arg, const struct treescan_file *f);
	void *arg;
	char **waiting; /* paths of folders, "" is the root */
	size_t waiting_cnt, waiting_room;
	DIR *dir; /* the open folder, or NULL */
	char *path;
};

static void walk_fini(struct walk *w)
{
	for (size_t i = 0; i < w->waiting_cnt; i++)
		free(w->waiting[i]);
	free(w->waiting);
	free(w->path);
	if (w->dir)
		closedir(w->dir);
}

/* Takes the path over. */
static vcf_err_t push(struct walk *w, char *path)
{
	char **more;

	if (w->waiting_cnt == w->waiting_room) {
		more = reallocarray(w->waiting, w->waiting_room * 2 + 16, sizeof(*more));
		if (!more) {
			free(path);
			return -ENOMEM;
		}
		w->waiting = more;
		w->waiting_room = w->waiting_room * 2 + 16;
	}
	w->waiting[w->waiting_cnt++] = path;
	return 0;
}

static char *join(const char *folder, const char *name)
{
	char *path;

	if (asprintf(&path, "%s%s%s", folder, *folder ? "/" : "", name) < 0)
		return NULL;
	return path;
}

/* Opens a folder from the root, one component at a time. */
static int open_from_root(const struct walk *w, const char *path)
{
	auto_close int fd = openat(w->rootfd, ".", FOLDER_FLAGS);

	while (fd >= 0 && *path) {
		size_t len = strcspn(path, "/");
		auto_free char *name = strndup(path, len);
		int next = name ? openat(fd, name, FOLDER_FLAGS) : -1;

		close(fd);
		fd = next;
		path += len + (path[len] == '/');
	}
	return STEAL_FD(&fd);
}

/* The last component if the path lies directly in the open folder, else NULL. */
static const char *child_name(const struct walk *w, const char *path)
{
	size_t len;

	if (!w->dir || !*path)
		return NULL;
	len = strlen(w->path);
	if (len && (strncmp(path, w->path, len) != 0 || path[len] != '/'))
		return NULL;
	path += len + (len > 0);
	return strchr(path, '/') ? NULL : path;
}

/* Makes the folder the open one; takes the path over. */
static vcf_err_t open_folder(struct walk *w, char *path)
{
	const char *name = child_name(w, path);
	int fd = name ? openat(dirfd(w->dir), name, FOLDER_FLAGS)
		      : open_from_root(w, path);
	vcf_err_t err = fd < 0 ? -errno : 0;

	if (w->dir)
		closedir(w->dir);
	free(w->path);
	w->path = path;
	w->dir = fd < 0 ? NULL : fdopendir(fd);
	if (fd >= 0 && !w->dir) {
		err = -errno;
		close(fd);
	}
	return err;
}

/*
 * Opens the file and looks at its header. -ENOENT if it is gone, or is no regular file
 * any more; other faults are the file's: f->err.
 */
static vcf_err_t peek_file(const struct walk *w, const char *name,
			   struct treescan_file *f)
{
	auto_close int fd =
		io_open_file(dirfd(w->dir), name, O_RDONLY | O_NONBLOCK, false);

	if (fd < 0) {
		f->err = fd;
		return fd == -ENOENT || fd == -ELOOP || fd == -EINVAL ? -ENOENT : 0;
	}
	if (fstat(fd, &f->st)) {
		f->err = -errno;
		return 0;
	}
	f->err = size_peek_fd(&f->peek, fd, (uint64_t)f->st.st_size);
	return 0;
}

static int visit_file(const struct walk *w, const char *name, const char *path,
		      const struct stat *st)
{
	struct treescan_file f = {.path = path, .st = *st};

	if (w->rules)
		f.cls = rules_class(w->rules, path);
	if (w->rules && (w->all || rules_is_image(f.cls)) && peek_file(w, name, &f))
		return 0;
	return w->fn(w->arg, &f);
}

static int visit(struct walk *w, const char *name)
{
	auto_free char *path = join(w->path, name);
	struct stat st;

	if (!path)
		return -ENOMEM;
	if (fstatat(dirfd(w->dir), name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT)) {
		if (errno == ENOENT)
			return 0;
		log_warn("%s: cannot be looked at: %s", path, strerror(errno));
		return w->all ? -errno : 0;
	}
	if (S_ISREG(st.st_mode))
		return visit_file(w, name, path, &st);
	if (!S_ISDIR(st.st_mode))
		return 0;
	if (st.st_dev != w->dev && !w->all) {
		log_dbg("%s: another file system, skipped", path);
		return 0;
	}
	return push(w, STEAL_PTR(&path));
}

static int read_folder(struct walk *w)
{
	for (;;) {
		struct dirent *e;
		int rc;

		errno = 0;
		e = readdir(w->dir);
		if (!e)
			return -errno;
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		rc = visit(w, e->d_name);
		if (rc)
			return rc;
	}
}

static int walk_all(struct walk *w)
{
	int rc = 0;

	while (w->waiting_cnt && !rc) {
		vcf_err_t err = open_folder(w, w->waiting[--w->waiting_cnt]);

		if (err && !*w->path)
			return err;
		/* It went, or something else has its name now: that moved, or is new. */
		if (err && err != -ENOENT && err != -ENOTDIR && err != -ELOOP) {
			log_warn("%s: cannot be read: %s", w->path, strerror(-err));
			rc = w->all ? err : 0;
		}
		if (!err)
			rc = read_folder(w);
	}
	return rc;
}

static int start(struct walk *w)
{
	char *root;
	struct stat st;
	int rc;

	if (fstat(w->rootfd, &st))
		return -errno;
	w->dev = st.st_dev;
	root = strdup("");
	rc = root ? push(w, root) : -ENOMEM;
	if (!rc)
		rc = walk_all(w);
	walk_fini(w);
	return rc;
}

vcf_err_t treescan(int rootfd, const struct rules *r,
		   int (*fn)(void *arg, const struct treescan_file *f), void *arg)
{
	struct walk w = {.rootfd = rootfd, .rules = r, .fn = fn, .arg = arg};

	return start(&w);
}

vcf_err_t treescan_all(int rootfd, const struct rules *r,
		       int (*fn)(void *arg, const struct treescan_file *f), void *arg)
{
	struct walk w = {.rootfd = rootfd, .rules = r, .fn = fn, .arg = arg, .all = true};

	return start(&w);
}
