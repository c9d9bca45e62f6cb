/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's side of FUSE on a stream socket: sends requests, matches answers by unique, keeps
 * as many outstanding as the test likes. A reader thread takes every answer at once, so that the
 * server never waits for us. Structures are those of <linux/fuse.h>.
 *
 * A request is built in a struct fc_msg (not to be copied: its parts point into it), sent by
 * fc_send(), and ended by fc_end(), which waits for the answer and frees the call; fc_do() is both.
 * Errors are 0 or -errno as the server answered; FC_NO_ANSWER after FC_WAIT_MS without one.
 *
 * Answers that nobody asked for, a second one above all, count as strays: a test ends with
 * fc_strays() == 0. Thread-safe.
 */
#ifndef VCF_TESTS_FUSECLIENT_H
#define VCF_TESTS_FUSECLIENT_H

#include <linux/fuse.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { FC_NO_ANSWER = -10000, FC_WAIT_MS = 15000 };

/* linux/fuse.h of 6.6 */
#define FC_PARALLEL_DIRECT_WRITES (1u << 6)
#define FC_DIRECT_IO_ALLOW_MMAP (1ull << 36)

struct fc;
struct fc_call;

struct fc_msg {
	uint32_t opcode;
	uint64_t nodeid;
	struct iovec part[4];
	int cnt;
	union {
		struct fuse_init_in init;
		struct fuse_forget_in forget;
		struct fuse_getattr_in getattr;
		struct fuse_setattr_in setattr;
		struct fuse_open_in open;
		struct fuse_create_in create;
		struct fuse_read_in read;
		struct fuse_write_in write;
		struct fuse_flush_in flush;
		struct fuse_release_in release;
		struct fuse_fsync_in fsync;
		struct fuse_fallocate_in fallocate;
		struct fuse_lseek_in lseek;
		struct fuse_mkdir_in mkdir;
		struct fuse_mknod_in mknod;
		struct fuse_rename2_in rename;
		struct fuse_link_in link;
		struct {
			uint32_t size, flags;
		} setxattr; /* without FUSE_SETXATTR_EXT */
		struct fuse_getxattr_in getxattr;
		struct fuse_interrupt_in interrupt;
	} u;
};

/* Takes fd over. */
struct fc *fc_new(int fd);
/* Closes the connection; fc_free() also joins the reader. Calls still open end FC_NO_ANSWER. */
void fc_close(struct fc *c);
void fc_free(struct fc *c);

struct fc_call *fc_send(struct fc *c, const struct fc_msg *m);
/* A call whose request reaches the server in some other way. */
struct fc_call *fc_expect(struct fc *c);
/* Sends it once more, as after FUSE_NOTIFY_RESEND: bit 63 of its unique is set from now on. */
void fc_resend(struct fc_call *call, const struct fc_msg *m);
/* Waits up to ms; the answer's error or FC_NO_ANSWER. The call stays. */
int fc_wait(struct fc_call *call, int ms);
uint64_t fc_unique(const struct fc_call *call);
/* Waits, copies up to room bytes of the answer's body, *len (may be NULL) its length; frees. */
int fc_end(struct fc_call *call, void *out, size_t room, size_t *len);
/* Frees a call; a later answer would be a stray. */
void fc_drop(struct fc_call *call);
int fc_do(struct fc *c, const struct fc_msg *m, void *out, size_t room, size_t *len);
/* For requests without an answer (FORGET, INTERRUPT), and for raw bytes. Returns the unique. */
uint64_t fc_post(struct fc *c, const struct fc_msg *m);
void fc_send_raw(struct fc *c, const void *bytes, size_t len);
/* A fresh number, as the kernel gives them: even. */
uint64_t fc_next_unique(struct fc *c);

unsigned int fc_strays(struct fc *c);
/* Answers received so far, without notifications. */
unsigned int fc_answers(struct fc *c);
/* True once an INVAL_INODE notification for the node came; waits up to ms. */
bool fc_wait_inval(struct fc *c, uint64_t nodeid, int ms);

/* Builders. Names and data must live until the message is sent. */
void fc_msg_init(struct fc_msg *m, uint64_t flags);
void fc_msg_node(struct fc_msg *m, uint32_t opcode, uint64_t nodeid);
void fc_msg_name(struct fc_msg *m, uint32_t opcode, uint64_t parent, const char *name);
void fc_msg_forget(struct fc_msg *m, uint64_t nodeid, uint64_t nlookup);
void fc_msg_getattr(struct fc_msg *m, uint64_t nodeid);
void fc_msg_setsize(struct fc_msg *m, uint64_t nodeid, uint64_t fh, uint64_t size);
void fc_msg_open(struct fc_msg *m, uint32_t opcode, uint64_t nodeid, uint32_t flags);
void fc_msg_create(struct fc_msg *m, uint64_t parent, const char *name, uint32_t flags);
void fc_msg_read(struct fc_msg *m, uint32_t opcode, uint64_t nodeid, uint64_t fh,
		 uint64_t off, uint32_t size);
void fc_msg_write(struct fc_msg *m, uint64_t nodeid, uint64_t fh, uint64_t off,
		  const void *data, uint32_t size);
void fc_msg_flush(struct fc_msg *m, uint64_t nodeid, uint64_t fh);
void fc_msg_release(struct fc_msg *m, uint32_t opcode, uint64_t nodeid, uint64_t fh);
void fc_msg_fsync(struct fc_msg *m, uint64_t nodeid, uint64_t fh, bool datasync);
void fc_msg_fallocate(struct fc_msg *m, uint64_t nodeid, uint64_t fh, uint32_t mode,
		      uint64_t off, uint64_t len);
void fc_msg_lseek(struct fc_msg *m, uint64_t nodeid, uint64_t fh, uint64_t off,
		  uint32_t whence);
void fc_msg_mkdir(struct fc_msg *m, uint64_t parent, const char *name);
void fc_msg_mknod(struct fc_msg *m, uint64_t parent, const char *name, uint32_t mode,
		  uint32_t rdev);
void fc_msg_symlink(struct fc_msg *m, uint64_t parent, const char *name,
		    const char *target);
void fc_msg_link(struct fc_msg *m, uint64_t nodeid, uint64_t parent, const char *name);
void fc_msg_rename(struct fc_msg *m, uint64_t parent, const char *name,
		   uint64_t newparent, const char *newname, uint32_t flags);
void fc_msg_setxattr(struct fc_msg *m, uint64_t nodeid, const char *name,
		     const void *value, uint32_t size);
void fc_msg_getxattr(struct fc_msg *m, uint32_t opcode, uint64_t nodeid, const char *name,
		     uint32_t size);
void fc_msg_interrupt(struct fc_msg *m, uint64_t unique);

/* The caller that requests name from now on; 0 (the default): one that the server cannot see. */
void fc_set_pid(struct fc *c, uint32_t pid);

/* One call each, waited for. */
int fc_init(struct fc *c, uint64_t flags, struct fuse_init_out *out);
int fc_lookup(struct fc *c, uint64_t parent, const char *name,
	      struct fuse_entry_out *out);
void fc_forget(struct fc *c, uint64_t nodeid, uint64_t nlookup);
int fc_getattr(struct fc *c, uint64_t nodeid, struct fuse_attr *out);
int fc_setsize(struct fc *c, uint64_t nodeid, uint64_t fh, uint64_t size);
int fc_open(struct fc *c, uint64_t nodeid, uint32_t flags, struct fuse_open_out *out);
int fc_create(struct fc *c, uint64_t parent, const char *name, uint32_t flags,
	      uint64_t *nodeid, struct fuse_open_out *out);
/* Bytes read, or an error. */
long fc_read(struct fc *c, uint64_t nodeid, uint64_t fh, uint64_t off, void *buf,
	     uint32_t size);
/* 0 if all was written. */
int fc_write(struct fc *c, uint64_t nodeid, uint64_t fh, uint64_t off, const void *data,
	     uint32_t size);
int fc_release(struct fc *c, uint64_t nodeid, uint64_t fh);
int fc_fallocate(struct fc *c, uint64_t nodeid, uint64_t fh, uint32_t mode, uint64_t off,
		 uint64_t len);
/* The position, or an error. */
int64_t fc_lseek(struct fc *c, uint64_t nodeid, uint64_t fh, uint64_t off,
		 uint32_t whence);
int fc_mkdir(struct fc *c, uint64_t parent, const char *name, uint64_t *nodeid);
int fc_unlink(struct fc *c, uint64_t parent, const char *name);
int fc_rename(struct fc *c, uint64_t parent, const char *name, uint64_t newparent,
	      const char *newname, uint32_t flags);
/* Not waited for; under the request's unique with bit 0 set, as the kernel does. */
void fc_interrupt(struct fc *c, uint64_t unique);

#endif
