/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/aio.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/tsan.h"

enum { BATCH_MAX = 32 };

struct aio {
	aio_context_t ctx;
	_Atomic bool stopped;
};

vcf_err_t aio_new(struct aio **out, unsigned int max)
{
	auto_free struct aio *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	if (syscall(SYS_io_setup, max, &a->ctx) < 0)
		return -errno;
	*out = STEAL_PTR(&a);
	return 0;
}

void aio_stop(struct aio *a)
{
	if (!atomic_exchange(&a->stopped, true))
		syscall(SYS_io_destroy, a->ctx);
}

void aio_free(struct aio *a)
{
	aio_stop(a);
	free(a);
}

vcf_err_t aio_start(struct aio *a, struct aio_op *op, int fd, void *buf, size_t len,
		    uint64_t off, bool write)
{
	struct iocb *list[] = {&op->cb};

	op->cb = (struct iocb){
		.aio_data = (uintptr_t)op,
		.aio_lio_opcode = write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
		.aio_fildes = (uint32_t)fd,
		.aio_buf = (uintptr_t)buf,
		.aio_nbytes = len,
		.aio_offset = (int64_t)off,
	};
	TSAN_RELEASE(op);
	return syscall(SYS_io_submit, a->ctx, 1, list) == 1 ? 0 : -errno;
}

int aio_wait(struct aio *a, struct aio_op **ops, unsigned int max)
{
	struct timespec second = {.tv_sec = 1};
	struct io_event events[BATCH_MAX];
	long n;

	if (a->stopped)
		return -EINVAL;
	if (max > BATCH_MAX)
		max = BATCH_MAX;
	n = syscall(SYS_io_getevents, a->ctx, 1L, (long)max, events, &second);
	if (n < 0)
		return -errno;
	for (long i = 0; i < n; i++) {
		ops[i] = (struct aio_op *)(uintptr_t)events[i].data;
		TSAN_ACQUIRE(ops[i]);
		ops[i]->res = (ssize_t)events[i].res;
	}
	return (int)n;
}
