/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names: making, linking, renaming. The rules decide which moves are allowed; what a rename
 * replaces goes the journalled way out (removal_*).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/linked.h"
#include "fs/ops.h"
#include "fs/promote.h"
#include "util/crashpoint.h"
#include "util/log.h"

/* again: an earlier run may have made it. */
static void reply_new_entry(fuse_req_t req, struct node *dir, const char *name, int rc,
			    bool again)
{
	struct fuse_entry_param e;
	vcf_err_t err = rc < 0 ? -errno : 0;

	CRASHPOINT("name-made");
	ops_as_us(req);
	if (again && err == -EEXIST && ops_born_here(req, dir, name))
		err = 0;
	if (!err)
		err = node_lookup(ops_server(req), dir, name, &e);
	if (err)
		ops_reply_err(req, err);
	else
		ops_reply_entry(req, &e);
}

/* False after having replied EEXIST or ENAMETOOLONG. */
static bool may_make(fuse_req_t req, const struct node *dir, const char *name,
		     bool *again)
{
	vcf_err_t err = ops_name_fits(ops_server(req), dir, name);

	if (!err && ops_taken(req, dir, name))
		err = -EEXIST;
	if (err) {
		ops_reply_err(req, err);
		return false;
	}
	*again = ops_intend();
	return true;
}

/* What moves and is made under the rules for files: the others have no content, wherever they are. */
static bool has_class(mode_t mode)
{
	return S_ISREG(mode) || S_ISBLK(mode) || S_ISCHR(mode);
}

/*
 * Where images are, a device would be taken for one that the configuration names. Elsewhere they are
 * as on any file system: the kernel has asked for CAP_MKNOD, and opens them itself, or does not
 * (nodev); we never do.
 */
static vcf_err_t may_be_there(struct server *sv, const struct node *dir, const char *name,
			      mode_t mode)
{
	char path[STATE_PATH_MAX];
	vcf_err_t err;

	if (!S_ISBLK(mode) && !S_ISCHR(mode))
		return 0;
	err = state_child_path(sv->state, dir, name, path);
	if (err)
		return err;
	return rules_is_image(rules_class(sv->rules, path)) ? -EPERM : 0;
}

void ops_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       dev_t rdev)
{
	struct server *sv = ops_server(req);
	struct node *dir = ops_name_dir(req, parent, name);
	vcf_err_t err = dir ? may_be_there(sv, dir, name, mode) : 0;
	bool again;
	int rc;

	if (err)
		ops_reply_err(req, err);
	if (!dir || err || !may_make(req, dir, name, &again))
		return;
	ops_as_caller(req);
	rwlock_rdlock(&sv->names_lock);
	rc = mknodat(dir->fd, name, mode, rdev);
	rwlock_unlock(&sv->names_lock);
	reply_new_entry(req, dir, name, rc, again);
}

void ops_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct node *dir = ops_name_dir(req, parent, name);
	bool again;

	if (!dir || !may_make(req, dir, name, &again))
		return;
	ops_as_caller(req);
	reply_new_entry(req, dir, name, mkdirat(dir->fd, name, mode), again);
}

void ops_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
	struct node *dir = ops_name_dir(req, parent, name);
	bool again;

	if (!dir || !may_make(req, dir, name, &again))
		return;
	ops_as_caller(req);
	reply_new_entry(req, dir, name, symlinkat(link, dir->fd, name), again);
}

void ops_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct node *dir = ops_name_dir(req, parent, name);
	vcf_err_t err;
	bool again;

	if (!dir)
		return;
	again = ops_intend();
	err = unlinkat(dir->fd, name, AT_REMOVEDIR) < 0 ? -errno : 0;
	CRASHPOINT("folder-gone");
	ops_reply_err(req, again && err == -ENOENT ? 0 : err);
}

static vcf_err_t link_node(struct server *sv, struct node *n, struct node *dir,
			   const char *newname)
{
	char from[STATE_PATH_MAX], to[STATE_PATH_MAX];
	vcf_err_t err = state_path(sv->state, n, from);
	bool again;

	if (n->device)
		return -EPERM;
	if (!err)
		err = state_child_path(sv->state, dir, newname, to);
	if (!err && has_class(n->mode))
		err = rules_move_file(sv->rules, from, to);
	if (err)
		return err;
	if (!ops_slot()->intent && ops_exists(dir, newname))
		return -EEXIST;
	again = ops_intend();
	if (linkat(AT_FDCWD, node_fd_path(n->fd).path, dir->fd, newname,
		   AT_SYMLINK_FOLLOW) < 0)
		err = -errno;
	CRASHPOINT("linked");
	err = again && err == -EEXIST ? 0 : err;
	if (!err)
		linked_moved(sv, to, false);
	return err;
}

void ops_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	struct server *sv = ops_server(req);
	struct node *n = ops_node(req, ino);
	struct node *dir = n ? ops_name_dir(req, newparent, newname) : NULL;
	struct fuse_entry_param e;
	vcf_err_t err;

	if (!dir)
		return;
	rwlock_rdlock(&sv->names_lock);
	mutex_lock(&sv->tree_lock);
	err = link_node(sv, n, dir, newname);
	mutex_unlock(&sv->tree_lock);
	rwlock_unlock(&sv->names_lock);
	if (!err)
		err = node_lookup(sv, dir, newname, &e);
	if (err)
		ops_reply_err(req, err);
	else
		ops_reply_entry(req, &e);
}

/* One name that takes part in a rename. */
struct side {
	struct node *dir;
	const char *name;
	int fd; /* O_PATH of what the name leads to, -1: nothing */
	struct stat st;
	char path[STATE_PATH_MAX];
};

static vcf_err_t side_init(struct server *sv, struct side *s, struct node *dir,
			   const char *name)
{
	vcf_err_t err;

	s->dir = dir;
	s->name = name;
	s->fd = openat(dir->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (s->fd < 0 && errno != ENOENT)
		return -errno;
	err = state_child_path(sv->state, dir, name, s->path);
	if (!err && s->fd >= 0 &&
	    fstatat(s->fd, "", &s->st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		err = -errno;
	return err;
}

/* May what is at `from` move to `to`? */
static vcf_err_t allowed(struct server *sv, const struct side *from,
			 const struct side *to)
{
	if (from->fd < 0)
		return -ENOENT;
	if (S_ISDIR(from->st.st_mode))
		return rules_move_folder(sv->rules, from->path, to->path);
	return has_class(from->st.st_mode)
		       ? rules_move_file(sv->rules, from->path, to->path)
		       : 0;
}

/* The new file is durable before it replaces another; the caller syncs the folder after. */
static vcf_err_t sync_source(struct server *sv, const struct side *from)
{
	auto_close int fd = -1;

	if (!S_ISREG(from->st.st_mode))
		return 0;
	fd = node_reopen_fd(sv, from->fd, O_RDONLY);
	if (fd < 0)
		return fd;
	return fsync(fd) < 0 ? -errno : 0;
}

static bool is_inode(const struct side *s, uint64_t dev, uint64_t ino)
{
	return s->fd >= 0 && s->st.st_dev == dev && s->st.st_ino == ino;
}

/* For whoever must tell whether the rename was done: what was where before. */
static void note_sides(const struct side *from, const struct side *to)
{
	struct session_slot *slot = ops_slot();

	slot->made_dev = from->st.st_dev;
	slot->made_ino = from->st.st_ino;
	slot->gone_dev = to->fd >= 0 ? to->st.st_dev : 0;
	slot->gone_ino = to->fd >= 0 ? to->st.st_ino : 0;
	ops_intend();
}

/* An earlier run of this request has renamed already. Two names of one inode never change. */
static bool done_before(const struct side *from, const struct side *to,
			unsigned int flags)
{
	const struct session_slot *slot = ops_slot();

	if (!slot->intent || !is_inode(to, slot->made_dev, slot->made_ino))
		return false;
	if (flags & RENAME_EXCHANGE)
		return is_inode(from, slot->gone_dev, slot->gone_ino);
	return from->fd < 0;
}

static vcf_err_t rename_now(const struct side *from, const struct side *to,
			    unsigned int flags)
{
	vcf_err_t err = 0;

	note_sides(from, to);
	if (renameat2(from->dir->fd, from->name, to->dir->fd, to->name, flags) < 0)
		err = -errno;
	CRASHPOINT("rename-done");
	return err;
}

static vcf_err_t rename_sides(struct server *sv, struct side *from, struct side *to,
			      unsigned int flags, struct removal *removal)
{
	bool over =
		to->fd >= 0 && !(flags & (RENAME_EXCHANGE | RENAME_NOREPLACE)) &&
		S_ISREG(to->st.st_mode) &&
		(to->st.st_ino != from->st.st_ino || to->st.st_dev != from->st.st_dev);
	vcf_err_t err;

	if (done_before(from, to, flags)) {
		struct stat moved = to->st; /* both sides as they were before */

		to->st = from->st;
		from->st = moved;
		if (ops_slot()->gone_ino)
			removal_sync(to->dir);
		return 0; /* takeover.c finishes what it replaced */
	}
	err = allowed(sv, from, to);
	if (!err && flags & RENAME_EXCHANGE)
		err = allowed(sv, to, from);
	if (!err && over)
		err = removal_begin(removal, sv, to->dir, to->name);
	if (err)
		return err;
	if (removal->deletion)
		err = sync_source(sv, from);
	CRASHPOINT("rename-synced");
	if (!err)
		err = rename_now(from, to, flags);
	if (!err && removal->deletion)
		removal_sync(to->dir);
	CRASHPOINT("rename-folder");
	removal_done(removal, err);
	return err;
}

/* The tables learn the new name of what is at a side now. */
static void moved(struct server *sv, const struct side *s)
{
	auto_close int fd = openat(s->dir->fd, s->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0)
		node_moved(sv, s->dir, s->name, fd);
}

static vcf_err_t rename_locked(struct server *sv, struct side *from, struct side *to,
			       unsigned int flags, struct removal *removal)
{
	vcf_err_t err = rename_sides(sv, from, to, flags, removal);

	if (err)
		return err;
	moved(sv, to);
	linked_moved(sv, to->path, S_ISDIR(from->st.st_mode));
	promote_renamed(sv->promote, &from->st, from->path, to->path);
	if (flags & RENAME_EXCHANGE) {
		moved(sv, from);
		linked_moved(sv, from->path, S_ISDIR(to->st.st_mode));
		promote_renamed(sv->promote, &to->st, to->path, from->path);
	}
	return 0;
}

static vcf_err_t rename_names(struct server *sv, struct node *dir, const char *name,
			      struct node *newdir, const char *newname,
			      unsigned int flags)
{
	struct side from = {.fd = -1}, to = {.fd = -1};
	struct removal removal = REMOVAL_NONE;
	vcf_err_t err;

	rwlock_rdlock(&sv->names_lock);
	mutex_lock(&sv->tree_lock);
	err = side_init(sv, &from, dir, name);
	if (!err)
		err = side_init(sv, &to, newdir, newname);
	if (!err)
		err = rename_locked(sv, &from, &to, flags, &removal);
	mutex_unlock(&sv->tree_lock);
	rwlock_unlock(&sv->names_lock);
	removal_end(&removal);
	if (from.fd >= 0)
		close(from.fd);
	if (to.fd >= 0)
		close(to.fd);
	return err;
}

void ops_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		const char *newname, unsigned int flags)
{
	struct node *dir = ops_name_dir(req, parent, name);
	struct node *newdir = dir ? ops_name_dir(req, newparent, newname) : NULL;

	if (!newdir)
		return;
	if (flags & ~(unsigned int)(RENAME_NOREPLACE | RENAME_EXCHANGE)) {
		ops_reply_err(req, -EINVAL);
		return;
	}
	ops_reply_err(req,
		      rename_names(ops_server(req), dir, name, newdir, newname, flags));
}
