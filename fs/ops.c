/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fs/device.h"
#include "fs/takeover.h"
#include "fs/turns.h"
#include "util/clock.h"
#include "util/crashpoint.h"
#include "util/log.h"
#include "util/rawio.h"
#include "util/tsan.h"

/* Protocol bits younger than the headers of Debian 12 (linux/fuse.h of 6.6). */
#define INIT_EXT (1u << 30)
#define DIRECT_IO_ALLOW_MMAP_HI (1u << (36 - 32))

const struct fuse_lowlevel_ops ops_table = {
	.init = ops_init,
	.lookup = ops_lookup,
	.forget = ops_forget,
	.forget_multi = ops_forget_multi,
	.getattr = ops_getattr,
	.setattr = ops_setattr,
	.readlink = ops_readlink,
	.statfs = ops_statfs,
	.mknod = ops_mknod,
	.mkdir = ops_mkdir,
	.symlink = ops_symlink,
	.link = ops_link,
	.rename = ops_rename,
	.unlink = ops_unlink,
	.rmdir = ops_rmdir,
	.open = ops_open,
	.create = ops_create,
	.flush = ops_flush,
	.release = ops_release,
	.fsync = ops_fsync,
	.fallocate = ops_fallocate,
	.lseek = ops_lseek,
	.getlk = ops_getlk,
	.setlk = ops_setlk,
	.flock = ops_flock,
	.opendir = ops_opendir,
	.readdir = ops_readdir,
	.readdirplus = ops_readdirplus,
	.releasedir = ops_releasedir,
	.fsyncdir = ops_fsync,
	.setxattr = ops_setxattr,
	.getxattr = ops_getxattr,
	.listxattr = ops_listxattr,
	.removexattr = ops_removexattr,
};

void ops_reply_err(fuse_req_t req, vcf_err_t err)
{
	lock_assert_none();
	fuse_reply_err(req, -err);
}

struct node *ops_node(fuse_req_t req, fuse_ino_t ino)
{
	struct node *n = state_node(ops_server(req)->state, ino);

	if (!n)
		ops_reply_err(req, -ESTALE);
	return n;
}

/* The kernel never sends such names; whoever else feeds the session must not leave the tree. */
struct node *ops_dir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (!*name || strchr(name, '/') || strcmp(name, ".") == 0 ||
	    strcmp(name, "..") == 0) {
		ops_reply_err(req, -EINVAL);
		return NULL;
	}
	return ops_node(req, parent);
}

struct node *ops_name_dir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct node *dir = ops_dir(req, parent, name);

	if (!dir || !device_has_name(ops_server(req), dir, name))
		return dir;
	log_info(
		"%s: is a device of the configuration: it cannot be removed, renamed, linked "
		"or replaced",
		name);
	ops_reply_err(req, -EPERM);
	return NULL;
}

struct handle *ops_handle(fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi)
{
	struct handle *h = state_handle_of(ops_server(req)->state, fi->fh, ino);

	if (!h)
		ops_reply_err(req, -EBADF);
	return h;
}

bool ops_intend(void)
{
	bool before = SESSION_NOTES && ops_slot()->intent;

	if (SESSION_NOTES && !before) {
		ops_slot()->intent_ns = clock_coarse_ns();
		ops_slot()->intent = true;
	}
	CRASHPOINT("op-intent");
	return before;
}

bool ops_exists(const struct node *dir, const char *name)
{
	struct stat st;

	return SESSION_NOTES && fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

vcf_err_t ops_name_fits(struct server *sv, const struct node *dir, const char *name)
{
	char path[STATE_PATH_MAX];

	return state_child_path(sv->state, dir, name, path);
}

bool ops_taken(fuse_req_t req, const struct node *dir, const char *name)
{
	return !ops_server(req)->births_tell && !ops_slot()->intent &&
	       ops_exists(dir, name);
}

bool ops_born_here(fuse_req_t req, const struct node *dir, const char *name)
{
	uint64_t since = ops_slot()->intent_ns;
	struct statx sx;

	if (!since || !ops_server(req)->births_tell)
		return true;
	if (statx(dir->fd, name, AT_SYMLINK_NOFOLLOW, STATX_BTIME, &sx) < 0)
		return false;
	return (uint64_t)sx.stx_btime.tv_sec * 1000000000 + sx.stx_btime.tv_nsec >= since;
}

void ops_reply_entry(fuse_req_t req, struct fuse_entry_param *e)
{
	struct server *sv = ops_server(req);

	if (fuse_reply_entry(req, e) == -ENOENT)
		state_node_unlookup(sv->state, e->ino, ops_slot());
}

struct handle *ops_made_before(struct server *sv, uint64_t *id)
{
	*id = ops_slot()->handle;
	return *id ? state_handle(sv->state, *id) : NULL;
}

void ops_parked(fuse_req_t req)
{
	fuse_reply_none(req);
}

struct image_entry *ops_entry(struct server *sv, const struct handle *h)
{
	return sv->handle_entry[state_handle_slot(sv->state, h)];
}

struct image_file ops_image_file(const struct handle *h)
{
	return (struct image_file){
		.fd = h->fd, .direct_fd = h->direct_fd, .direct_align = h->align};
}

/*
 * The kernel checked the caller's rights (default_permissions; CAP_MKNOD for a device); here only the
 * new inode's owner matters. setfsuid drops capabilities from the thread's effective set, two of which
 * are taken back: CAP_DAC_OVERRIDE, since the folder may be writable for the caller by a group that we
 * do not know of, and CAP_MKNOD, which one who is not root may have.
 */
static void keep_capabilities(void)
{
	struct __user_cap_header_struct hdr = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &hdr, data) < 0)
		return;
	data[0].effective |=
		data[0].permitted & (1u << CAP_DAC_OVERRIDE | 1u << CAP_MKNOD);
	if (syscall(SYS_capset, &hdr, data) < 0)
		log_dbg("capset: %s", strerror(errno));
}

void ops_as_caller(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	if (geteuid() != 0)
		return;
	/* Raw calls: these are per thread, while libc's wrappers might not stay so. */
	syscall(SYS_setfsgid, ctx->gid);
	if (!ctx->uid)
		return;
	syscall(SYS_setfsuid, ctx->uid);
	keep_capabilities();
}

void ops_as_us(fuse_req_t req)
{
	(void)req;
	if (geteuid() != 0)
		return;
	syscall(SYS_setfsuid, 0); /* back to 0 raises the dropped capabilities again */
	syscall(SYS_setfsgid, getegid());
}

void ops_init(void *userdata, struct fuse_conn_info *conn)
{
	struct server *sv = userdata;

	/*
	 * Off: O_TRUNC comes as SETATTR under the kernel's inode lock; the kernel clears suid bits
	 * itself; writeback caching reports ENOSPC only at close.
	 */
	conn->want &= ~(unsigned int)(FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_HANDLE_KILLPRIV |
				      FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_SPLICE_READ |
				      FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	conn->want |= conn->capable & (FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO |
				       FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS |
				       FUSE_CAP_READDIRPLUS_AUTO);
	if (sv->cfg->writeback && !sv->cfg->shared)
		conn->want |= conn->capable & FUSE_CAP_WRITEBACK_CACHE;
	/*
	 * The kernel's own locks are enough, and survive us. Nobody else writes to the files: without
	 * AUTO_INVAL_DATA the kernel does not drop pages for a new time of change. It would also drop one
	 * whose WRITE waits for the next server, and read it again before that has been executed.
	 */
	if (!sv->cfg->shared)
		conn->want &=
			~(unsigned int)(FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS |
					FUSE_CAP_AUTO_INVAL_DATA);
	conn->max_write = SERVER_MAX_IO;
	conn->max_background =
		4096; /* parked background writes must not stall everyone */
	conn->congestion_threshold = 3072;
	conn->time_gran = 1;
}

vcf_err_t ops_drop_set_ids(struct server *sv, uint64_t nodeid, int fd)
{
	const struct node *n = state_node(sv->state, nodeid);
	struct stat st;
	mode_t mode;

	if (n && n->device) /* it has no such bits, and fd's are the device node's */
		return 0;
	if (fstatat(fd, "", &st, AT_EMPTY_PATH) < 0)
		return -errno;
	mode = st.st_mode & ~(mode_t)S_ISUID;
	if (mode & S_IXGRP)
		mode &= ~(mode_t)S_ISGID;
	if (mode == st.st_mode)
		return 0;
	if (chmod(node_fd_path(fd).path, mode & 07777) < 0)
		return -errno;
	/* The kernel still has the old ones. Attributes alone (-1) wait for no page. */
	if (fuse_lowlevel_notify_inval_inode(sv->se, nodeid, -1, 0))
		log_dbg("cached attributes stay for their time");
	return 0;
}

/* True if it is the first answer of this mount. */
static bool patch_init(struct server *sv, struct iovec *payload)
{
	const struct fuse_in_header *in = (const void *)current_worker->req;
	const struct fuse_init_in *asked = (const void *)(in + 1);
	struct fuse_init_out *out = payload->iov_base;

	if (payload->iov_len < sizeof(*out))
		return false;
	/* libfuse 3.14 knows PARALLEL_DIROPS as a wish but never tells the kernel. */
	out->flags |= INIT_EXT | FUSE_PARALLEL_DIROPS;
	/* A mapping is in the page cache, where no other node's writes come. */
	if (!sv->cfg->shared)
		out->flags2 |= DIRECT_IO_ALLOW_MMAP_HI;
	/*
	 * Nor this one, by which set-id bits are ours to clear: else the kernel asks for
	 * security.capability before each buffered write(2), a second request for each.
	 */
	out->flags |= asked->flags & FUSE_HANDLE_KILLPRIV_V2;
	if (sv->inited)
		return false;
	takeover_save_init(
		sv, current_worker->req,
		((const struct fuse_in_header *)(const void *)current_worker->req)->len);
	CRASHPOINT("init-saved");
	sv->inited = true;
	return true;
}

/* Where a positive answer to the request under way carries struct fuse_open_out, or NULL. */
static struct fuse_open_out *open_out(uint32_t opcode, struct iovec *payload)
{
	size_t at = opcode == FUSE_CREATE ? sizeof(struct fuse_entry_out) : 0;

	if (opcode != FUSE_OPEN && opcode != FUSE_CREATE)
		return NULL;
	if (payload->iov_len < at + sizeof(struct fuse_open_out))
		return NULL;
	return (void *)((char *)payload->iov_base + at);
}

/* One writer at a time: a stream may take less than the whole answer at once. */
static ssize_t write_stream(struct server *sv, const struct iovec *iov, int count)
{
	ssize_t sum = 0;

	pthread_mutex_lock(&sv->stream_out_lock);
	for (int i = 0; i < count && sum >= 0; i++) {
		size_t done = 0;

		while (done < iov[i].iov_len) {
			ssize_t n = send(sv->devfd, (char *)iov[i].iov_base + done,
					 iov[i].iov_len - done, MSG_NOSIGNAL);

			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0)
				break;
			done += (size_t)n;
		}
		sum = done < iov[i].iov_len ? -1 : sum + (ssize_t)done;
	}
	pthread_mutex_unlock(&sv->stream_out_lock);
	return sum;
}

ssize_t ops_send(struct server *sv, const struct iovec *iov, int count)
{
	struct turn *turn = current_worker ? current_worker->turn : NULL;
	ssize_t sent;

	CRASHPOINT("answer-begins");
	TSAN_RELEASE(&sv->devfd);
	turns_answer_begins(turn);
	sent = sv->stream ? write_stream(sv, iov, count)
			  : rawio_writev(sv->devfd, iov, count);
	turns_answer_ends(turn);
	CRASHPOINT("answer-sent");
	return sent;
}

ssize_t ops_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct server *sv = userdata;
	struct worker *w = current_worker;
	const struct fuse_out_header *out = iov[0].iov_base;
	const struct fuse_in_header *in = w ? (const void *)w->req : NULL;
	struct fuse_open_out *open;
	bool first = false;
	ssize_t sent;

	(void)fd;
	if (out->unique == TAKEOVER_INIT_UNIQUE)
		return (ssize_t)out->len; /* the kernel had it at the mount */
	if (in && count >= 2 && !out->error && out->unique == in->unique) {
		open = open_out(in->opcode, &iov[1]);
		if (open)
			open->open_flags |= w->open_flags;
		if (in->opcode == FUSE_INIT)
			first = patch_init(sv, &iov[1]);
	}
	sent = ops_send(sv, iov, count);
	/* Once the kernel has it: whoever is told may count on what was negotiated. */
	if (first && sent >= 0 && sv->on_init)
		sv->on_init(sv->on_init_arg);
	return sent;
}
