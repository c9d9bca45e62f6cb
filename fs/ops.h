/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The handlers of FUSE requests: they unpack, call, and reply exactly once (or park). No policy
 * and no crypto here. Files: ops.c (table, INIT, replies), ops_entry.c (lookup, attributes),
 * ops_name.c (making, linking, renaming), ops_remove.c (unlink and its journal), ops_file.c
 * (open files), ops_dir.c (folders), ops_xattr.c. READ and WRITE do not come here: transfer.h.
 */
#ifndef VCF_FS_OPS_H
#define VCF_FS_OPS_H

#include <fuse_lowlevel.h>

#include "fs/imagetable.h"
#include "fs/node.h"
#include "fs/server.h"

extern const struct fuse_lowlevel_ops ops_table;

/* Patches answers on their way out (flags that libfuse 3.14 has no field for) and writes them. */
ssize_t ops_writev(int fd, struct iovec *iov, int count, void *userdata);
/* Writes an answer as it is; as writev(2). */
ssize_t ops_send(struct server *sv, const struct iovec *iov, int count);

/* O_DIRECT at less than this is refused, as local file systems do. */
enum { OPS_DIRECT_ALIGN_MIN = 512 };

static inline struct server *ops_server(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* Replies with an error (0: success without data); no lock may be held. err: 0 or -errno. */
void ops_reply_err(fuse_req_t req, vcf_err_t err);

/* The node of a nodeid, or NULL after having replied ESTALE. */
struct node *ops_node(fuse_req_t req, fuse_ino_t ino);
/* The same for the folder of a name; EINVAL for a name that could lead elsewhere. */
struct node *ops_dir(fuse_req_t req, fuse_ino_t parent, const char *name);
/* As ops_dir(), for what makes, takes or moves a name; EPERM for that of a device. */
struct node *ops_name_dir(fuse_req_t req, fuse_ino_t parent, const char *name);
/* The handle of that nodeid, or NULL after having replied EBADF. */
struct handle *ops_handle(fuse_req_t req, fuse_ino_t ino,
			  const struct fuse_file_info *fi);

/* The slot of the request under way. */
static inline struct session_slot *ops_slot(void)
{
	return current_worker->slot;
}

/*
 * From here on the request's change may have been made: an earlier run may have come this far,
 * which is what it returns. Whoever repeats it then takes "it is there already" (or "it is gone")
 * for its own doing: the kernel has kept everybody else away.
 */
bool ops_intend(void);
/* Is there something of that name? */
bool ops_exists(const struct node *dir, const char *name);
/*
 * Making a name: the rules could not be asked of a longer path, so that nobody could look at what was
 * made there, or remove it. -ENAMETOOLONG.
 */
NODISCARD vcf_err_t ops_name_fits(struct server *sv, const struct node *dir,
				  const char *name);
/*
 * Making a name: before ops_intend(), is it taken (-EEXIST)? Asked only where births do not tell
 * it afterwards. And when ops_intend() was true and the name is there: did the earlier run make
 * it, or was it there before?
 */
bool ops_taken(fuse_req_t req, const struct node *dir, const char *name);
bool ops_born_here(fuse_req_t req, const struct node *dir, const char *name);

/* An answer with an entry: counts back if the caller went away. */
void ops_reply_entry(fuse_req_t req, struct fuse_entry_param *e);

/* The handle that an earlier run of this request made, or NULL. */
struct handle *ops_made_before(struct server *sv, uint64_t *id);

/* The request was parked: forget this run of it. */
void ops_parked(fuse_req_t req);

/* The entry of an open image's handle, or NULL. */
struct image_entry *ops_entry(struct server *sv, const struct handle *h);
struct image_file ops_image_file(const struct handle *h);

/*
 * The image behind a handle, if there is one: 0, -EINPROGRESS (parked), -errno. The second makes a
 * container of an empty file, but not for what the kernel writes back.
 */
NODISCARD vcf_err_t ops_need_key(struct server *sv, uint64_t ino, struct image_entry *e);
NODISCARD vcf_err_t ops_need_header(struct server *sv, uint64_t ino,
				    struct image_entry *e, bool writeback);

/* Runs as the caller for the creation of an inode (owner, group, quota); undone by ops_as_us(). */
void ops_as_caller(fuse_req_t req);
void ops_as_us(fuse_req_t req);

void ops_init(void *userdata, struct fuse_conn_info *conn);
void ops_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void ops_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
void ops_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void ops_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ops_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		 struct fuse_file_info *fi);
void ops_readlink(fuse_req_t req, fuse_ino_t ino);
void ops_statfs(fuse_req_t req, fuse_ino_t ino);
void ops_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       dev_t rdev);
void ops_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void ops_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name);
void ops_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname);
void ops_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		const char *newname, unsigned int flags);
void ops_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void ops_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void ops_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ops_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		struct fuse_file_info *fi);
void ops_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ops_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ops_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void ops_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		   struct fuse_file_info *fi);
void ops_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
	       struct fuse_file_info *fi);
void ops_setlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi,
	       struct flock *lock, int wait);
void ops_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi,
	       struct flock *lock);
void ops_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op);
void ops_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ops_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		 struct fuse_file_info *fi);
void ops_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		     struct fuse_file_info *fi);
void ops_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ops_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
		  size_t size, int flags);
void ops_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void ops_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void ops_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

/* Clears set-id bits as write(2) by one who may not keep them does. fd: any of the file, O_PATH too. */
NODISCARD vcf_err_t ops_drop_set_ids(struct server *sv, uint64_t nodeid, int fd);

/*
 * Sets an image's size (setattr); f: the handle's descriptors or NULL. -EINPROGRESS: parked.
 */
NODISCARD vcf_err_t ops_image_truncate(struct server *sv, struct node *n,
				       struct image_entry *e, const struct image_file *f,
				       uint64_t plen);

/*
 * Removal with the journal around it, used by unlink and rename-over (ops_remove.c).
 *
 *   removal_begin()   the target may be the last link of a container: journal the intent
 *   removal_sync()    it succeeded, and there was an intent: the folder is synced
 *   removal_done()    err: what unlinkat/renameat2 said; cancels, or journals that it went
 *   removal_end()     wipes what nobody has open. No lock is held: a large file takes its time
 *
 * tree_lock is held from begin to done, so that two last links do not miss each other.
 */
struct removal {
	struct server *sv;
	int fd;	     /* O_PATH of the target, -1: nothing to watch */
	int lock_fd; /* shared: has the target's HEADER lock, from begin to done; else -1 */
	uint64_t dev, ino;
	uint64_t data_off;
	uint64_t deletion; /* 0: no intent was needed */
	bool wipe;	   /* removal_end() has to */
};
#define REMOVAL_NONE                                                                     \
	{                                                                                \
		.fd = -1, .lock_fd = -1                                                  \
	}
NODISCARD vcf_err_t removal_begin(struct removal *r, struct server *sv, struct node *dir,
				  const char *name);
void removal_sync(const struct node *dir);
void removal_done(struct removal *r, vcf_err_t err);
void removal_end(struct removal *r);
/*
 * A header was just written to the file. If its last name went before, nobody journalled its
 * end, for there was no container yet: this does. uuid: the container's. -ESTALE: nobody has it
 * open either, it is wiped.
 */
NODISCARD vcf_err_t removal_of_new(struct server *sv, int pathfd, const char *path,
				   const unsigned char uuid[UUID_LEN]);
/*
 * The last handle of an unlinked container was closed. fd: of it (ownership passes), or -errno; if
 * it has a name after all nothing is wiped.
 */
void removal_finish(struct server *sv, uint64_t deletion, int fd, uint64_t data_off);

#endif
