/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Asynchronous READs and WRITEs: those of an image past the page cache, while other requests are
 * under way. The worker that has read one moves it to a record of the session, starts the transfer
 * and reads the next request; a completer (a thread of its own) decrypts, answers and frees the
 * record. A request that is alone stays with its worker: one thread to wake less.
 *
 *   worker     take a record - lock the sectors - encrypt - copy the request, publish the record -
 *              start the transfer - empty its own buffer
 *   completer  (decrypt) - release the sectors - answer - take the record back
 *
 * A death leaves the request in the worker's buffer, in the record, or in both; a successor that
 * starts after the last transfer has ended (lifesign.h) executes it again once if the kernel still
 * waits for it (takeover.c). Whatever does not fit (not whole units inside the image, sectors that
 * somebody has, no record free, too long) is done by the worker.
 *
 * Nobody waits for a worker here, so completers go on whatever the workers wait for.
 */
#ifndef VCF_FS_ASYNC_H
#define VCF_FS_ASYNC_H

#include "fs/imagetable.h"
#include "fs/server.h"

/*
 * Starts the completers, best effort: without the means (aio contexts, locked memory, a session with
 * a keeper's sign of life), the use (tmpfs transfers at once) or the wish (mount.asynchronous),
 * requests stay with their workers.
 * After everything that an earlier process left is done.
 */
void async_start(struct server *sv);

/*
 * Waits for what is under way, then ends the completers. Workers have ended; executors may go on, and
 * with them async_forget_key().
 */
void async_stop(struct server *sv);
/* After that, when no executor is left either. */
void async_free(struct server *sv);

/*
 * True: the request in w's buffer is under way and will be answered; w has nothing to do with it any
 * more. False: nothing has happened.
 *
 * began_ns  clock_now_ns() at its arrival, for iostat.h
 */
bool async_read(struct worker *w, struct image_entry *e, const struct image_file *f,
		size_t len, uint64_t poff, uint64_t began_ns);
bool async_write(struct worker *w, struct image_entry *e, const struct image_file *f,
		 const void *src, size_t len, uint64_t poff, uint64_t began_ns);

/* Is this request under way here? */
bool async_has(const struct server *sv, uint64_t unique);

/* As server_forget_key(), for completers. */
void async_forget_key(struct server *sv);

/* Where record i has its request, as the kernel sent it. */
unsigned char *async_request(const struct session *s, unsigned int i);

#endif
