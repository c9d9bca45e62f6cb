/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nodes and the backing inodes behind them: finding one by name, its class and instance, its
 * attributes as the mount shows them. Everything goes through the node's O_PATH descriptor;
 * names are resolved one component at a time with O_NOFOLLOW, never as a path.
 */
#ifndef VCF_FS_NODE_H
#define VCF_FS_NODE_H

#include <sys/stat.h>

#include "fs/server.h"

struct fuse_entry_param;

/* True for a regular file under an encrypt or derived rule. */
bool node_is_image(const struct node *n);

/*
 * Finds or makes the node of `name` in `dir`, counts one lookup and fills *e for the answer.
 * -ENOENT, -errno.
 */
NODISCARD vcf_err_t node_lookup(struct server *sv, struct node *dir, const char *name,
				struct fuse_entry_param *e);

/* The same for a backing file that is open already (create). pathfd: O_PATH; taken over. */
NODISCARD vcf_err_t node_lookup_fd(struct server *sv, struct node *dir, const char *name,
				   int pathfd, struct fuse_entry_param *e);

/* What pathfd leads to has that name now: the node of it, if there is one, learns of it. */
void node_moved(struct server *sv, struct node *dir, const char *name, int pathfd);

/* Attributes as shown: an image's size is its plaintext size, its blocks are without header. */
NODISCARD vcf_err_t node_attr(struct server *sv, struct node *n, struct stat *st);

/* The same from a stat of the backing inode that the caller has. */
NODISCARD vcf_err_t node_attr_of(struct server *sv, struct node *n, struct stat *st);

/*
 * What the file of an image node is, from its header (cached once it is a container).
 * Unauthenticated: for sizes and decisions that open checks again.
 */
NODISCARD vcf_err_t node_peek(struct server *sv, struct node *n, const struct stat *st,
			      struct peek *out);

/* Opens the node's inode anew with other flags. The descriptor, or -errno. */
NODISCARD int node_reopen(struct server *sv, const struct node *n, int flags);

/* The same for any O_PATH descriptor. */
NODISCARD int node_reopen_fd(struct server *sv, int pathfd, int flags);

/* "N" for openat(sv->procfd, ...) and "/proc/self/fd/N" for calls that want a path. */
struct fd_path {
	char path[32];
};
struct fd_path node_fd_path(int fd);

#endif
