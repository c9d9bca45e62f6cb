/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Taking over from a server that died or made room: see session.h for what it left.
 *
 *   tables     checked record by record, reference counts made anew (state_new())
 *   keys       each one's check value computed again; those of no image are wiped
 *   images     unlocked as before; a growth of the file that was cut short is taken back
 *   kernel     its FUSE_INIT of the mount is given to libfuse again, the answer swallowed
 *   requests   each one that lies in a buffer and that the kernel still waits for is executed
 *              again, with what its slot remembers of the first run; the others were answered.
 *              One whose own thread crashed three times is answered EIO
 *   deletions  whose unlink is done but not noted are noted, and finished
 *   resend     a kernel that knows FUSE_NOTIFY_RESEND (6.9) is asked for what it still waits for:
 *              that should be what is parked, and nothing else
 *
 * An answered request is never executed again, not even a write: what another one wrote to the
 * same place since must stay. The kernel is asked for that reason (server_is_awaited()).
 */
#ifndef VCF_FS_TAKEOVER_H
#define VCF_FS_TAKEOVER_H

#include "fs/server.h"

/* Images and handles, from the session; before any request. -errno: nothing can be served. */
NODISCARD vcf_err_t takeover_images(struct server *sv);

/*
 * Tells libfuse what the kernel said at the mount; the answer goes out only if the kernel still
 * waits for it. -EPROTO: libfuse does not accept it.
 */
NODISCARD vcf_err_t takeover_init(struct server *sv);

/* The requests, the deletions, and the question for more. No other thread serves yet. */
NODISCARD vcf_err_t takeover_replay(struct server *sv);

/* Keeps FUSE_INIT for a successor; before its answer. */
void takeover_save_init(struct server *sv, const void *msg, size_t len);

/*
 * Where a fault of this thread (SIGSEGV, SIGABRT ...) is counted against its request. Installed once
 * by server_guard(); each thread that executes requests calls server_guard_thread().
 */
void server_guard(void);
void server_guard_thread(void);

/* Test builds: a request for the attribute "user.vmcryptfs.crash" ends the process by a fault. */
void server_test_fault(const char *name);

/* `unique` of the FUSE_INIT that takeover_init() plays; its answer is for nobody. */
#define TAKEOVER_INIT_UNIQUE 0x7ffffffffffffff0ull

#endif
