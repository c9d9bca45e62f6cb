/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * READ and WRITE, unpacked from the worker's buffer and answered with one writev(2). libfuse would
 * allocate a structure for each and take its session's mutex twice, all threads the same one; it
 * never sees these two.
 */
#ifndef VCF_FS_TRANSFER_H
#define VCF_FS_TRANSFER_H

#include <linux/fuse.h>

#include "fs/server.h"

/* Until INIT is answered they are libfuse's to refuse, like everything else. */
static inline bool transfer_is(const struct server *sv, uint32_t opcode)
{
	return (opcode == FUSE_READ || opcode == FUSE_WRITE) && sv->inited;
}

/* Answers or parks the READ or WRITE in w's buffer, which reqcheck.h found sound. */
void transfer_execute(struct worker *w);

#endif
