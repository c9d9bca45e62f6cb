/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/reqcheck.h"

#include <linux/fuse.h>
#include <stdint.h>
#include <string.h>

#include "fs/server.h"

/* The fixed part, then strings: names of files, or texts with any bytes in them. */
struct shape {
	uint8_t arg_len, names, texts;
};

enum { SETXATTR_SHORT_LEN = 8 /* without FUSE_SETXATTR_EXT */, INIT_SHORT_LEN = 16 };

static const struct shape shapes[] = {
	[FUSE_LOOKUP] = {0, 1, 0},
	[FUSE_FORGET] = {sizeof(struct fuse_forget_in), 0, 0},
	[FUSE_GETATTR] = {sizeof(struct fuse_getattr_in), 0, 0},
	[FUSE_SETATTR] = {sizeof(struct fuse_setattr_in), 0, 0},
	[FUSE_SYMLINK] = {0, 1, 1},
	[FUSE_MKNOD] = {sizeof(struct fuse_mknod_in), 1, 0},
	[FUSE_MKDIR] = {sizeof(struct fuse_mkdir_in), 1, 0},
	[FUSE_UNLINK] = {0, 1, 0},
	[FUSE_RMDIR] = {0, 1, 0},
	[FUSE_RENAME] = {sizeof(struct fuse_rename_in), 2, 0},
	[FUSE_LINK] = {sizeof(struct fuse_link_in), 1, 0},
	[FUSE_OPEN] = {sizeof(struct fuse_open_in), 0, 0},
	[FUSE_READ] = {sizeof(struct fuse_read_in), 0, 0},
	[FUSE_WRITE] = {sizeof(struct fuse_write_in), 0, 0},
	[FUSE_RELEASE] = {sizeof(struct fuse_release_in), 0, 0},
	[FUSE_FSYNC] = {sizeof(struct fuse_fsync_in), 0, 0},
	[FUSE_SETXATTR] = {SETXATTR_SHORT_LEN, 0, 1},
	[FUSE_GETXATTR] = {sizeof(struct fuse_getxattr_in), 0, 1},
	[FUSE_LISTXATTR] = {sizeof(struct fuse_getxattr_in), 0, 0},
	[FUSE_REMOVEXATTR] = {0, 0, 1},
	[FUSE_FLUSH] = {sizeof(struct fuse_flush_in), 0, 0},
	[FUSE_INIT] = {INIT_SHORT_LEN, 0, 0},
	[FUSE_OPENDIR] = {sizeof(struct fuse_open_in), 0, 0},
	[FUSE_READDIR] = {sizeof(struct fuse_read_in), 0, 0},
	[FUSE_RELEASEDIR] = {sizeof(struct fuse_release_in), 0, 0},
	[FUSE_FSYNCDIR] = {sizeof(struct fuse_fsync_in), 0, 0},
	[FUSE_GETLK] = {sizeof(struct fuse_lk_in), 0, 0},
	[FUSE_SETLK] = {sizeof(struct fuse_lk_in), 0, 0},
	[FUSE_SETLKW] = {sizeof(struct fuse_lk_in), 0, 0},
	[FUSE_ACCESS] = {sizeof(struct fuse_access_in), 0, 0},
	[FUSE_CREATE] = {sizeof(struct fuse_create_in), 1, 0},
	[FUSE_INTERRUPT] = {sizeof(struct fuse_interrupt_in), 0, 0},
	[FUSE_BMAP] = {sizeof(struct fuse_bmap_in), 0, 0},
	[FUSE_IOCTL] = {sizeof(struct fuse_ioctl_in), 0, 0},
	[FUSE_POLL] = {sizeof(struct fuse_poll_in), 0, 0},
	[FUSE_BATCH_FORGET] = {sizeof(struct fuse_batch_forget_in), 0, 0},
	[FUSE_FALLOCATE] = {sizeof(struct fuse_fallocate_in), 0, 0},
	[FUSE_READDIRPLUS] = {sizeof(struct fuse_read_in), 0, 0},
	[FUSE_RENAME2] = {sizeof(struct fuse_rename2_in), 2, 0},
	[FUSE_LSEEK] = {sizeof(struct fuse_lseek_in), 0, 0},
	[FUSE_COPY_FILE_RANGE] = {sizeof(struct fuse_copy_file_range_in), 0, 0},
};

/* Cuts one string off; NULL if it has no end. */
static const char *take_text(const char **at, size_t *left)
{
	const char *text = *at;
	const char *end = memchr(text, '\0', *left);

	if (!end)
		return NULL;
	*left -= (size_t)(end + 1 - text);
	*at = end + 1;
	return text;
}

static bool is_component(const char *name)
{
	return *name && !strchr(name, '/') && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0;
}

/* What has to follow the strings. */
static uint64_t payload_len(uint32_t opcode, const void *arg)
{
	switch (opcode) {
	case FUSE_WRITE:
		return ((const struct fuse_write_in *)arg)->size;
	case FUSE_SETXATTR:
		return ((const struct fuse_setxattr_in *)arg)->size;
	case FUSE_BATCH_FORGET:
		return (uint64_t)((const struct fuse_batch_forget_in *)arg)->count *
		       sizeof(struct fuse_forget_one);
	case FUSE_INIT:
		return ((const struct fuse_init_in *)arg)->flags & FUSE_INIT_EXT
			       ? sizeof(struct fuse_init_in) - INIT_SHORT_LEN
			       : 0;
	default:
		return 0;
	}
}

/* How much answer is asked for. */
static uint32_t answer_len(uint32_t opcode, const void *arg)
{
	switch (opcode) {
	case FUSE_READ:
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
		return ((const struct fuse_read_in *)arg)->size;
	case FUSE_GETXATTR:
	case FUSE_LISTXATTR:
		return ((const struct fuse_getxattr_in *)arg)->size;
	default:
		return 0;
	}
}

bool reqcheck_sound(const void *msg, size_t len)
{
	const struct fuse_in_header *in = msg;
	const char *at = (const char *)(in + 1);
	const void *arg = at;
	size_t left = len - sizeof(*in);
	const struct shape *s;

	if (len < sizeof(*in) || in->len != len)
		return false;
	if (in->opcode ==
	    FUSE_NOTIFY_REPLY) /* we ask for none, and libfuse would leak it */
		return false;
	if (in->opcode >= sizeof(shapes) / sizeof(shapes[0]))
		return true;
	s = &shapes[in->opcode];
	if (left < s->arg_len)
		return false;
	at += s->arg_len;
	left -= s->arg_len;
	for (int i = 0; i < s->names + s->texts; i++) {
		const char *text = take_text(&at, &left);

		if (!text || (i < s->names && !is_component(text)))
			return false;
	}
	return payload_len(in->opcode, arg) <= left &&
	       answer_len(in->opcode, arg) <= SERVER_MAX_IO;
}

bool reqcheck_answered(const void *msg)
{
	const struct fuse_in_header *in = msg;

	return in->opcode != FUSE_FORGET && in->opcode != FUSE_BATCH_FORGET &&
	       in->opcode != FUSE_INTERRUPT && in->opcode != FUSE_NOTIFY_REPLY;
}
