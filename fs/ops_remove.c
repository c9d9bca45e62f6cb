/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unlink, and the journal around the loss of a container's last name:
 *
 *   begin    the target is an image with one link: its header is read and the intent journalled
 *   (unlinkat or renameat2 by the caller, who syncs the folder where there is an intent: were
 *   the name to come back with a power loss, it would lead to a header that is wiped)
 *   done     failed: cancelled. Succeeded: nlink 0 and no handle: the header is wiped in `end`;
 *            handles open: with the last of them; another link: cancelled.
 *   end      after tree_lock is given back
 *
 * A container that is made while its file loses its last name is seen by one of two: the unlink,
 * or, after the header is complete, removal_of_new(); tree_lock lets them not miss each other.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "crypto/container.h"
#include "fs/keyset.h"
#include "fs/nodelock.h"
#include "fs/ops.h"
#include "fs/wipewait.h"
#include "util/crashpoint.h"
#include "util/io.h"
#include "util/log.h"
#include "util/text.h"

static void fill_intent(struct journal_entry *intent, const struct container *c,
			const struct stat *st, const char *path)
{
	const struct token *t = container_token(c);

	memset(intent, 0, sizeof(*intent));
	memcpy(intent->uuid, container_subject(c)->uuid, UUID_LEN);
	memcpy(intent->service, t->service, sizeof(intent->service));
	memcpy(intent->key_id, t->key_id, sizeof(intent->key_id));
	intent->derived = t->derived;
	intent->dev = st->st_dev;
	intent->ino = st->st_ino;
	intent->created = time(NULL);
	TEXT_CUT(intent->path, path);
}

/* Journals the end of the container in fd; a file that is none of ours needs no note. */
static vcf_err_t note_container(struct removal *r, int fd, const struct stat *st,
				const char *path)
{
	auto_container struct container *c = NULL;
	auto_free unsigned char *hdr = calloc(1, CONTAINER_PEEK_LEN);
	struct journal_entry intent;
	ssize_t n;
	vcf_err_t err;

	if (!hdr)
		return -ENOMEM;
	n = io_pread_full(fd, hdr, CONTAINER_PEEK_LEN, 0);
	if (n < 0)
		return (vcf_err_t)n;
	/* Without its magic it is an empty file, whatever else was written: removal_of_new() looks
	 * when it is complete, and its secret is journalled as in use until then. */
	if (io_is_zero(hdr, SESSION_PAGE_LEN))
		return 0;
	err = container_load_saved(&c, hdr, CONTAINER_PEEK_LEN, path);
	if (err == -ENODATA || err == -EPERM)
		return 0;
	if (err == -EBADMSG && imagetable_is_busy(r->sv->images, r->dev, r->ino))
		return 0; /* just being written: removal_of_new() will see that the name went */
	if (err == -EBADMSG) {
		log_warn("%s: its header is damaged: it goes, its secret stays at the "
			 "service",
			 path);
		return 0;
	}
	if (err)
		return err;
	r->data_off = container_subject(c)->data_off;
	fill_intent(&intent, c, st, path);
	if (r->sv->taking_over &&
	    deletion_find(r->sv->deletions, intent.uuid, &r->deletion) == 0)
		return 0; /* the run that died had noted it */
	return deletion_begin(r->sv->deletions, &intent, hdr, &r->deletion);
}

static vcf_err_t watch(struct removal *r, const struct stat *st, const char *path)
{
	auto_close int fd = -1;

	r->dev = st->st_dev;
	r->ino = st->st_ino;
	if (!st->st_size || st->st_nlink != 1)
		return 0;
	fd = node_reopen_fd(r->sv, r->fd, O_RDONLY);
	if (fd < 0)
		return fd;
	return note_container(r, fd, st, path);
}

/*
 * Another node may be writing the header, or removing the other one of two names. *st is what holds
 * under the lock.
 */
static vcf_err_t lock_against_nodes(struct removal *r, struct stat *st)
{
	vcf_err_t err;

	if (!r->sv->cfg->shared)
		return 0;
	r->lock_fd = node_reopen_fd(r->sv, r->fd, O_RDWR);
	if (r->lock_fd < 0)
		return r->lock_fd;
	err = nodelock_byte(r->lock_fd, NODELOCK_HEADER, true, true);
	if (!err && fstat(r->lock_fd, st) < 0)
		err = -errno;
	return err;
}

static void unlock(struct removal *r)
{
	if (r->lock_fd >= 0)
		nodelock_byte_release(r->lock_fd, NODELOCK_HEADER);
}

static void give_up(struct removal *r)
{
	if (r->lock_fd >= 0)
		close(r->lock_fd);
	r->lock_fd = -1;
	close(r->fd);
	r->fd = -1;
}

vcf_err_t removal_begin(struct removal *r, struct server *sv, struct node *dir,
			const char *name)
{
	auto_close int fd = openat(dir->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	char path[STATE_PATH_MAX];
	struct stat st;
	vcf_err_t err;

	*r = (struct removal)REMOVAL_NONE;
	r->sv = sv;
	if (fd < 0)
		return -errno;
	if (fstatat(fd, "", &st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	err = state_child_path(sv->state, dir, name, path);
	if (err)
		return err;
	if (!S_ISREG(st.st_mode) || !rules_is_image(rules_class(sv->rules, path)))
		return 0;
	r->fd = STEAL_FD(&fd);
	err = lock_against_nodes(r, &st);
	if (!err)
		err = watch(r, &st, path);
	if (err) {
		log_err("%s: not removed: the deletion cannot be journalled: %s", path,
			strerror(-err));
		give_up(r);
	}
	return err;
}

void removal_sync(const struct node *dir)
{
	auto_close int fd = openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		log_warn("a folder could not be synced after a file was removed: %s",
			 strerror(errno));
}

/*
 * An entry that the journal could not be told the end of names an inode that may be another file's
 * by now. What has a name is never wiped.
 */
static bool has_name(int fd)
{
	struct stat st;

	return fd >= 0 && (fstat(fd, &st) < 0 || st.st_nlink);
}

void removal_finish(struct server *sv, uint64_t deletion, int fd, uint64_t data_off)
{
	struct deletion_queue *queue = keyset_deletions(sv, deletion);
	auto_close int own = fd;

	if (has_name(own))
		deletion_gone(queue, deletion); /* it looks for its container */
	else if (own >= 0 && sv->cfg->shared && wipewait_needed(own))
		wipewait_add(sv->wipes, deletion, STEAL_FD(&own), data_off);
	else
		deletion_wipe(queue, deletion, own, data_off);
}

static void removed(struct removal *r)
{
	struct stat st;

	if (fstatat(r->fd, "", &st, AT_EMPTY_PATH) < 0 || st.st_nlink) {
		deletion_cancel(r->sv->deletions, r->deletion);
		return;
	}
	deletion_unlinked(r->sv->deletions, r->deletion);
	r->wipe = !imagetable_defer_deletion(r->sv->images, r->dev, r->ino, r->deletion);
}

void removal_done(struct removal *r, vcf_err_t err)
{
	if (r->deletion && err)
		deletion_cancel(r->sv->deletions, r->deletion);
	else if (r->deletion)
		removed(r);
	unlock(r);
}

void removal_end(struct removal *r)
{
	int fd;

	if (r->wipe) { /* what was opened before the name went: some file systems open it no more */
		fd = r->lock_fd >= 0 ? STEAL_FD(&r->lock_fd)
				     : node_reopen_fd(r->sv, r->fd, O_RDWR);
		removal_finish(r->sv, r->deletion, fd, r->data_off);
	}
	if (r->lock_fd >= 0)
		close(r->lock_fd);
	if (r->fd >= 0)
		close(r->fd);
}

static vcf_err_t note_new(struct removal *r, const char *path,
			  const unsigned char uuid[UUID_LEN])
{
	auto_close int fd = -1;
	struct stat st;
	uint64_t id;
	vcf_err_t err;

	if (fstatat(r->fd, "", &st, AT_EMPTY_PATH) < 0)
		return -errno;
	if (S_ISBLK(st.st_mode)) /* whose name is the configuration's; it is never wiped */
		return 0;
	/* Who took the name may have seen the whole header, and may be wiping it now. */
	if (st.st_nlink || deletion_find(r->sv->deletions, uuid, &id) == 0)
		return 0;
	fd = node_reopen_fd(r->sv, r->fd, O_RDONLY);
	if (fd < 0)
		return fd;
	r->dev = st.st_dev;
	r->ino = st.st_ino;
	err = note_container(r, fd, &st, path);
	if (!err && r->deletion && fsync(fd) < 0) /* its folder is not known any more */
		err = -errno;
	if (!err && r->deletion)
		removed(r);
	return err;
}

vcf_err_t removal_of_new(struct server *sv, int pathfd, const char *path,
			 const unsigned char uuid[UUID_LEN])
{
	struct removal r = {
		.sv = sv, .fd = fcntl(pathfd, F_DUPFD_CLOEXEC, 3), .lock_fd = -1};
	vcf_err_t err;

	if (r.fd < 0)
		return -errno;
	mutex_lock(&sv->tree_lock);
	err = note_new(&r, path, uuid);
	mutex_unlock(&sv->tree_lock);
	if (!err && r.wipe)
		err = -ESTALE;
	removal_end(&r);
	return err;
}

static vcf_err_t unlink_locked(struct removal *removal, struct server *sv,
			       struct node *dir, const char *name)
{
	vcf_err_t err = removal_begin(removal, sv, dir, name);

	if (err == -ENOENT && ops_slot()->intent) {
		removal_sync(dir);
		return 0; /* done by the run that died; takeover.c finishes it */
	}
	if (err)
		return err;
	ops_intend();
	err = unlinkat(dir->fd, name, 0) < 0 ? -errno : 0;
	CRASHPOINT("name-gone");
	if (!err && removal->deletion)
		removal_sync(dir);
	removal_done(removal, err);
	return err;
}

void ops_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct server *sv = ops_server(req);
	struct node *dir = ops_name_dir(req, parent, name);
	struct removal removal = REMOVAL_NONE;
	vcf_err_t err;

	if (!dir)
		return;
	mutex_lock(&sv->tree_lock);
	err = unlink_locked(&removal, sv, dir, name);
	mutex_unlock(&sv->tree_lock);
	removal_end(&removal);
	ops_reply_err(req, err);
}
