/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The keeper's side of key helpers: it starts them for the server, ends them, and between two
 * servers keeps those that are idle for the next one.
 */
#ifndef VCF_FS_HELPERS_H
#define VCF_FS_HELPERS_H

#include <sys/types.h>

#include "fs/session.h"

struct helpers {
	pid_t pids[SESSION_HELPERS_MAX]; /* 0: free */
};

/* A server's request lies in the socket. */
void helpers_serve(struct helpers *h, int sock);

/* A child has ended. */
void helpers_ended(struct helpers *h, pid_t pid);

/*
 * The server is dead. Helpers that had a request, or that it had not yet greeted, end: nobody can
 * tell how far they got. The others stay in the session's records.
 */
void helpers_settle(struct helpers *h, struct session *s);

/* The same, but all end, at once. */
void helpers_drop(struct helpers *h, struct session *s);

/* All end. */
void helpers_end(struct helpers *h);

#endif
