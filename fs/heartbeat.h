/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The server's sign of life, in a thread of its own: session.h's beat_ms is set about once a second
 * as long as no thread has had its request for longer than the limit. The keeper replaces a server
 * whose requests wait and that was silent for the limit.
 *
 * A slow disk is no hang: the server also beats while one of the threads that are late is held by
 * the disk (others may wait for it, for a lock). That is what the kernel says of the thread, state
 * D in /proc/self/task/TID/stat, not a mark that it sets around its system calls: a mark would also
 * excuse a thread that hangs between mark and call, each path into the backing file system would
 * need one, and only a thread in state D cannot be killed anyway. An asynchronous transfer
 * (async.h) has no thread that waits: one that is late counts like a thread in state D, unless a
 * completer is late as well. A thread that waits for a lock of another node (nodelock.h) can be
 * killed, but it would only wait again: there is a mark around that one system call.
 *
 * The same thread tells of the keeper's own death.
 */
#ifndef VCF_FS_HEARTBEAT_H
#define VCF_FS_HEARTBEAT_H

#include <stdbool.h>
#include <stdint.h>

#include "util/err.h"

struct heartbeat;
struct session;

/*
 * session    outlives it
 * keeper_fd  the keeper's pidfd or -1; the caller's, outlives it
 * limit_s    0: no beats
 */
NODISCARD vcf_err_t heartbeat_start(struct heartbeat **out, struct session *session,
				    int keeper_fd, unsigned int limit_s);
void heartbeat_stop(struct heartbeat *hb);

/* The keeper's side. Time in which the keeper did not run itself is not counted. */
struct heartbeat_watch {
	uint64_t beat_ms, checked_ms;
	uint64_t silent_ms;
};

/* To be called every tick_ms: for how long there was no beat. */
uint64_t heartbeat_silent_ms(struct heartbeat_watch *w, const struct session *s,
			     uint64_t tick_ms);

/* --- parts, for tests --- */

/* Would the server beat now? `held` says whether a thread is held by the disk. */
bool heartbeat_alive(const struct session *s, uint64_t now_ms, uint64_t limit_ms,
		     bool (*held)(int tid));

#endif
