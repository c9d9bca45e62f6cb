/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket of a mount, beside its status socket: mode 0600, for root and the daemon's
 * own user. One request, a struct control, perhaps with one descriptor, and one answer: value is an exit
 * code, path a text.
 */
#ifndef VCF_FS_CTLSOCK_H
#define VCF_FS_CTLSOCK_H

#include <stddef.h>

#include "fs/control.h"
#include "util/err.h"

/* RUNTIME/HASH.ctl from RUNTIME/HASH.sock. -ENAMETOOLONG, -EINVAL. */
NODISCARD vcf_err_t ctlsock_path(char *dst, size_t room, const char *status_path);

/* Replaces a socket that a dead daemon has left. Returns a descriptor or -errno. */
NODISCARD int ctlsock_listen(const char *path);

/*
 * Takes the next request, without waiting for a client that is slow. Returns the connection's
 * descriptor, with *c and *fd (the caller's); -EACCES: of another user; -errno.
 */
NODISCARD int ctlsock_accept(int listen_fd, struct control *c, int *fd);

/* Answers and closes. */
void ctlsock_answer(int client, int code, const char *text);

/*
 * The client's side: sends, with fd unless that is -1, and waits, at most wait_ms. -ETIMEDOUT,
 * -EPIPE, -errno.
 */
NODISCARD vcf_err_t ctlsock_call(const char *path, struct control *c, int fd,
				 int wait_ms);

#endif
