/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A thread that answers on a Unix socket of the runtime folder (mode 0600), one client after
 * another, and the way there for commands.
 */
#ifndef VCF_FS_LISTENER_H
#define VCF_FS_LISTENER_H

#include "util/err.h"

struct listener;

/* Called on the listener's thread; the socket has time limits and is closed by the listener. */
typedef void listener_answer_fn(void *arg, int client);

/*
 * Makes the socket, in place of one that a dead process left: whoever calls knows that no other
 * daemon lives. -EPERM: somebody else may write to its folder; -ENAMETOOLONG, -errno.
 */
NODISCARD vcf_err_t listener_new(struct listener **out, const char *path,
				 listener_answer_fn *answer, void *arg);

/* Ends the thread, after the answer under way, and removes the socket. NULL is allowed. */
void listener_free(struct listener *l);

/* A connection, closed on exec; or -errno. patience_s: for each read and write; 0: without end. */
NODISCARD int listener_connect(const char *path, unsigned int patience_s);

#endif
