/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is the address space of a process that ended gone as well?
 *
 * waitpid(2) does not tell: whoever looks into a process (a read of /proc/PID/cmdline, maps or mem,
 * DAMON, swapoff) holds its address space for that long, and if the process dies meanwhile it is the
 * other one's call that takes it down, after waitpid(2) has returned. Seen: 16 writes that were
 * under way were all done 3.9 s after it.
 *
 * So the server has a page of a memfd mapped, shared and writable, that nobody else maps. While it
 * is, the file cannot be sealed against writing (EBUSY). The kernel takes mappings down (exit_mmap())
 * after it has waited for asynchronous transfers (exit_aio()): once the seal holds, there is none.
 */
#ifndef VCF_FS_LIFESIGN_H
#define VCF_FS_LIFESIGN_H

#include <stdbool.h>

#include "util/err.h"

/* A new one, for one process; the keeper's. The descriptor or -errno. */
NODISCARD int lifesign_new(void);

/* The calling process has it from here to its end; children have not. -errno. */
NODISCARD vcf_err_t lifesign_hold(int fd);

/* False while some process's address space holds it. Nobody can hold it after true. */
NODISCARD bool lifesign_is_over(int fd);

#endif
