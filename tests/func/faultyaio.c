/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The program, with a disk that does some asynchronous transfers in part or not at all: for the
 * linker's --wrap. VCF_FAULTY=lasting: nor do some of these succeed when they are done again.
 */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "fs/aio.h"
#include "fs/image.h"

int __real_aio_wait(struct aio *a, struct aio_op **ops, unsigned int max);
int __wrap_aio_wait(struct aio *a, struct aio_op **ops, unsigned int max);
vcf_err_t __real_image_transfer_now(const struct image_transfer *t, void *buf);
vcf_err_t __wrap_image_transfer_now(const struct image_transfer *t, void *buf);

static const ssize_t results[] = {0, 512, -EINVAL, -EAGAIN, -EIO, -ENOSPC};

int __wrap_aio_wait(struct aio *a, struct aio_op **ops, unsigned int max)
{
	static unsigned int seen;
	int n = __real_aio_wait(a, ops, max);

	for (int i = 0; i < n; i++) {
		if (++seen % 7)
			continue;
		if (ops[i]->cb.aio_lio_opcode == IOCB_CMD_PREAD)
			memset((void *)(uintptr_t)ops[i]->cb.aio_buf, 0xee,
			       ops[i]->cb.aio_nbytes);
		ops[i]->res = results[seen / 7 % (sizeof(results) / sizeof(results[0]))];
	}
	return n;
}

vcf_err_t __wrap_image_transfer_now(const struct image_transfer *t, void *buf)
{
	static _Atomic unsigned int seen;
	const char *how = getenv("VCF_FAULTY");

	if (how && ++seen % 5 == 0)
		return seen % 10 ? -EIO : -ENOSPC;
	return __real_image_transfer_now(t, buf);
}
