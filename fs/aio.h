/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Linux's asynchronous I/O (io_submit(2)), by raw system calls.
 *
 * Why this one and not io_uring: its context belongs to the address space. When the last user of
 * that goes, exit_aio() of the kernel waits for every transfer, each with all that follows it (the
 * conversion of unwritten extents, the sync of O_DSYNC), before anything of the address space is
 * taken down; a ring of io_uring is a file, and would live on in the table of descriptors that the
 * keeper shares. What a dead process's address space is kept by: lifesign.h.
 *
 * Thread-safe. A transfer that the file system does not do asynchronously is done within
 * aio_start().
 */
#ifndef VCF_FS_AIO_H
#define VCF_FS_AIO_H

#include <linux/aio_abi.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/cleanup.h"
#include "util/err.h"

struct aio;

/* One transfer, the caller's memory from start to end. */
struct aio_op {
	struct iocb cb; /* aio.c's */
	ssize_t res;	/* after it: bytes, or -errno */
};

/* At most max transfers at a time. -EAGAIN: more than fs.aio-max-nr; -ENOSYS, -ENOMEM. */
NODISCARD vcf_err_t aio_new(struct aio **out, unsigned int max);

/* Waits for what is under way; aio_wait() of other threads ends with -EINVAL. */
void aio_stop(struct aio *a);
/* After that, when no thread is left that might use it. */
void aio_free(struct aio *a);

/*
 * Begins to read or write [off, off + len) of fd, which may be closed at once. Its end may come, on
 * another thread, before this returns. -errno: it is not under way.
 */
NODISCARD vcf_err_t aio_start(struct aio *a, struct aio_op *op, int fd, void *buf,
			      size_t len, uint64_t off, bool write);

/*
 * Waits until some have ended, for a second at most: how many, at most max. -EINTR: a signal;
 * -EINVAL: aio_stop().
 */
NODISCARD int aio_wait(struct aio *a, struct aio_op **ops, unsigned int max);

#endif
